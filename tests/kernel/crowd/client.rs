//! The client's side of the sessions.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, Type};

use super::*;
use crate::lab::host::Host;
use crate::talk::{IO, Talk, bounded};
use file::Plan;

/// Connects, and keeps nobody else waiting.
pub(super) fn connect(host: &Host, from: IpAddr, port: u16, to: SocketAddr) -> Result<TcpStream, ErrorKind> {
    let socket = host.run(move || {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.bind(&SocketAddr::new(from, port).into())?;
        Ok::<_, std::io::Error>(socket)
    });
    let socket = socket.map_err(|error| error.kind())?;
    socket.connect_timeout(&to.into(), IO).map_err(|error| error.kind())?;
    let stream = TcpStream::from(socket);
    bounded(&stream);
    Ok(stream)
}

/// The address in a PORT, an EPRT or a 227.
pub(super) fn address_in(text: &str) -> Option<SocketAddr> {
    if let Some(rest) = text.strip_prefix("|1|") {
        let (ip, port) = rest.trim_end_matches('|').split_once('|')?;
        return Some(SocketAddr::new(ip.parse().ok()?, port.parse().ok()?));
    }
    let numbers: Vec<u8> = text.split(|c: char| !c.is_ascii_digit()).filter_map(|each| each.parse().ok()).collect();
    let [.., a, b, c, d, high, low] = numbers[..] else { return None };
    Some(SocketAddr::new(Ipv4Addr::new(a, b, c, d).into(), u16::from_be_bytes([high, low])))
}

/// A negotiated data connection: where to connect, or the listener.
enum Way {
    Dial(SocketAddr),
    Listen(Arc<TcpListener>),
}

struct Client<'a> {
    stage: &'a Stage,
    seen: &'a Seen,
    control: Talk,
    session: u32,
    transfers: u32,
    /// Its own port for data, which it uses again and again.
    usual: Arc<TcpListener>,
    rng: Rng,
}

/// Session after session.
pub(super) fn visit_again(stage: &Stage, seen: &Seen, mut rng: Rng) {
    while !seen.is_over() {
        let session = seen.sessions.fetch_add(1, Ordering::Relaxed) + 1;
        let control = match connect(&stage.net.client, stage.client_ip(), 0, stage.front(21)) {
            Ok(control) => Talk::new(control),
            Err(error) => return seen.fault(format!("client: no session: {error}")),
        };
        let usual = any_port(stage);
        let mut client = Client { stage, seen, control, session, transfers: 0, usual, rng: rng.fork() };
        if let Err(fault) = client.stay() {
            return seen.fault(format!("client of session {session}: {fault}"));
        }
    }
}

impl Client<'_> {
    fn say(&mut self, line: &str) -> Result<(), String> {
        let sent = self.control.try_send(format!("{line}\r\n").as_bytes());
        sent.map_err(|error| format!("{line} was not taken: {error}"))
    }

    fn reply(&mut self) -> Result<String, String> {
        match self.control.try_line() {
            Ok(line) if line.ends_with(b"\r\n") => Ok(String::from_utf8_lossy(&line).trim_end().to_owned()),
            Ok(line) => Err(format!("the control connection ended: {}", line.escape_ascii())),
            Err(error) => Err(format!("no reply: {error}")),
        }
    }

    fn expect(&mut self, wanted: &str) -> Result<String, String> {
        let reply = self.reply()?;
        if reply.starts_with(wanted) { Ok(reply) } else { Err(format!("not {wanted}, but {reply}")) }
    }

    fn stay(&mut self) -> Result<(), String> {
        self.expect("220 ")?;
        self.say(&format!("USER {}", self.session))?;
        self.expect("230 ")?;
        while !self.seen.is_over() {
            let plan = self.rng.choice(Plan::ALL).unwrap();
            self.transfer(plan)?;
            if plan.ends_session() {
                return Ok(());
            }
            self.transfer(Plan::Nothing)?;
            if self.rng.u8(..) < 20 {
                break;
            }
        }
        self.say("QUIT")?;
        self.expect("221 ").map(drop)
    }

    /// A range that is full is waited for.
    fn negotiate(&mut self) -> Result<Way, String> {
        let mut last = String::new();
        for _ in 0..20 {
            let extended = self.rng.bool();
            if self.rng.bool() {
                self.say(if extended { "EPSV" } else { "PASV" })?;
                last = self.reply()?;
                if last.starts_with("229 ") {
                    let port = last.split('|').nth(3).and_then(|port| port.parse().ok());
                    return Ok(Way::Dial(self.stage.front(port.ok_or_else(|| last.clone())?)));
                }
                if last.starts_with("227 ") {
                    let (_, inside) = last.split_once('(').ok_or_else(|| last.clone())?;
                    return Ok(Way::Dial(address_in(inside.trim_end_matches(['.', ')'])).ok_or_else(|| last.clone())?));
                }
            } else {
                let data = if self.rng.bool() { Arc::clone(&self.usual) } else { any_port(self.stage) };
                let port = data.local_addr().unwrap().port();
                let command = if extended {
                    format!("EPRT |1|10.1.0.2|{port}|")
                } else {
                    format!("PORT 10,1,0,2,{},{}", port >> 8, port & 255)
                };
                self.say(&command)?;
                last = self.reply()?;
                if last.starts_with("200 ") {
                    return Ok(Way::Listen(data));
                }
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Err(format!("no data connection can be negotiated: {last}"))
    }

    fn come(&self, to: SocketAddr) -> Result<TcpStream, String> {
        connect(&self.stage.net.client, self.stage.client_ip(), 0, to).map_err(|error| format!("{to}: {error}"))
    }

    fn transfer(&mut self, plan: Plan) -> Result<(), String> {
        let upload = plan == Plan::ClientLeaves || self.rng.bool();
        let sizes = [0, 1, 16, 4_000, 40_001, 300_000, 1_000_000];
        self.transfers += 1;
        let size = self.rng.choice(sizes).unwrap();
        let file = File { session: self.session, number: self.transfers, size, plan };
        let shown = format!("{} {file}", if upload { "STOR" } else { "RETR" });
        self.play(file, upload).map_err(|fault| format!("{shown}: {fault}"))
    }

    fn play(&mut self, file: File, upload: bool) -> Result<(), String> {
        let mut way = self.negotiate()?;
        if matches!(file.plan, Plan::NegotiatedTwice | Plan::CameAndNegotiatedTwice) {
            let first = match way {
                Way::Dial(to) if file.plan == Plan::CameAndNegotiatedTwice => Some(self.come(to)?),
                Way::Dial(_) | Way::Listen(_) => None,
            };
            way = self.negotiate()?;
            if let Some(mut first) = first
                && let Ok(count @ 1..) = first.read(&mut [0])
            {
                return Err(format!("{count} bytes came by the first connection"));
            }
        }
        let command = format!("{} {file}", if upload { "STOR" } else { "RETR" });
        let data = match way {
            Way::Dial(to) => {
                let early = self.rng.bool() || matches!(file.plan, Plan::ClosedBefore | Plan::ResetBefore);
                let first = if early { Some(self.come(to)?) } else { None };
                match (file.plan, first) {
                    (Plan::ClosedBefore, first) => {
                        drop(first);
                        self.say(&command)?;
                        return self.finals(file, 1).map(drop);
                    }
                    (Plan::ResetBefore, first) => {
                        first.into_iter().for_each(reset);
                        self.say(&command)?;
                        return self.finals(file, 1).map(drop);
                    }
                    (Plan::ServerRefuses, first) => {
                        self.say(&command)?;
                        self.finals(file, 1)?;
                        return first.map_or(Ok(()), |first| nothing_comes(file, first));
                    }
                    (_, Some(first)) => {
                        self.say(&command)?;
                        first
                    }
                    (_, None) => {
                        self.say(&command)?;
                        self.come(to)?
                    }
                }
            }
            Way::Listen(listener) => {
                self.say(&command)?;
                if file.plan == Plan::ServerRefuses {
                    return self.finals(file, 1).map(drop);
                }
                // A session that has ended while the client was dialled may end that too; the client hears no success.
                let may_fail = file.plan == Plan::ServerResetsControl;
                let patience = if may_fail { Duration::from_secs(1) } else { IO };
                let Some((data, _)) = poll(patience, || listener.accept().ok()) else {
                    if may_fail {
                        return self.without_success();
                    }
                    return Err(format!("the server did not come: {:?}", self.reply()));
                };
                data.set_nonblocking(false).unwrap();
                bounded(&data);
                match file.plan {
                    Plan::ClosedBefore => {
                        drop(data);
                        return self.finals(file, 1).map(drop);
                    }
                    Plan::ResetBefore => {
                        reset(data);
                        return self.finals(file, 1).map(drop);
                    }
                    _ => data,
                }
            }
        };
        if upload { self.give(file, data) } else { self.take(file, data) }
    }

    /// The final replies of a transfer; those that say whose they are must be its own.
    fn finals(&mut self, file: File, count: usize) -> Result<Vec<String>, String> {
        let mut finals = Vec::new();
        while finals.len() < count {
            let reply = self.reply()?;
            if let Some((_, tag)) = reply.split_once('#')
                && !format!("{file}").starts_with(&format!("#{}", tag.split('#').next().unwrap_or_default()))
            {
                return Err(format!("{reply} after {finals:?}"));
            }
            if reply.starts_with("421") {
                return Err(format!("{reply} after {finals:?}"));
            }
            if !reply.starts_with('1') {
                finals.push(reply);
            }
        }
        Ok(finals)
    }

    /// What the client does in the middle; gives the connection back where the transfer goes on.
    fn in_the_middle(&mut self, file: File, data: TcpStream) -> Result<Option<TcpStream>, String> {
        match file.plan {
            Plan::NoopInTheMiddle => self.say(&format!("NOOP {file}"))?,
            Plan::Abort => self.say("ABOR")?,
            Plan::ClientResetsData => {
                reset(data);
                return Ok(None);
            }
            Plan::ClientResetsControl => {
                let control = self.control.stream.try_clone().unwrap();
                SockRef::from(&control).set_linger(Some(Duration::ZERO)).unwrap();
                // It is reset when both are closed.
                let other = Talk::new(TcpStream::from(unconnected()));
                drop(std::mem::replace(&mut self.control, other));
                drop(control);
            }
            Plan::ClientEndsControl => self.control.stream.shutdown(Shutdown::Write).unwrap(),
            _ => {}
        }
        Ok(Some(data))
    }

    fn take(&mut self, file: File, data: TcpStream) -> Result<(), String> {
        let (all, mut got, mut halfway) = (file.bytes(), 0, false);
        if file.plan == Plan::HalfClosed {
            let _ = data.shutdown(Shutdown::Write);
        }
        let mut data = Some(data);
        let mut buffer = vec![0; 8 * 1024];
        loop {
            if !halfway && got >= file.size / 2 {
                halfway = true;
                if got == 0 {
                    // Before the transfer stands, its session's end is nobody's fault.
                    self.expect("150 ")?;
                }
                data = data.map_or(Ok(None), |data| self.in_the_middle(file, data))?;
            }
            let Some(stream) = &mut data else { break };
            match stream.read(&mut buffer) {
                Ok(0) => {
                    if got < file.size && !file.plan.ends_early() {
                        return Err(format!("it ended in order after {got}"));
                    }
                    break;
                }
                Ok(count) => {
                    file.check(&all, got, &buffer[..count])?;
                    got += count;
                }
                // The gate has cut it with its session: where the kernel moves the bytes, who only reads does not hear of it.
                Err(error)
                    if error.kind() == ErrorKind::WouldBlock
                        && matches!(file.plan, Plan::ServerResetsControl | Plan::ClientResetsControl) =>
                {
                    break;
                }
                Err(error) if file.plan.is_clean() || error.kind() == ErrorKind::WouldBlock => {
                    return Err(format!("it broke at {got}: {error}"));
                }
                Err(_) => break,
            }
        }
        drop(data);
        self.ended(file, got == file.size)
    }

    fn give(&mut self, file: File, data: TcpStream) -> Result<(), String> {
        let (all, mut data) = (file.bytes(), Some(data));
        let half = file.size / 2;
        let mut taken = data.as_mut().is_some_and(|data| data.write_all(&all[..half]).is_ok());
        if half == 0 && file.plan != Plan::ClientLeaves {
            self.expect("150 ")?;
        }
        data = data.map_or(Ok(None), |data| self.in_the_middle(file, data))?;
        if file.plan != Plan::Abort {
            taken &= data.as_mut().is_some_and(|data| data.write_all(&all[half..]).is_ok());
        }
        if file.plan.is_clean() && !taken {
            return Err(format!("it was not taken: {:?}", self.reply()));
        }
        if file.plan == Plan::ClientLeaves {
            if !taken {
                return Err("it was not taken".to_owned());
            }
            self.seen.left.lock().unwrap().insert(file.key());
            if self.rng.bool() {
                self.expect("150 ")?;
            }
        }
        drop(data);
        self.ended(file, true)
    }

    /// The session ends, and no file is said to be complete.
    fn without_success(&mut self) -> Result<(), String> {
        let rest = self.control.rest();
        if rest.iter().any(|line| line.starts_with('2')) { Err(format!("nobody came, and {rest:?}")) } else { Ok(()) }
    }

    /// What is said of the end of a transfer.
    fn ended(&mut self, file: File, whole: bool) -> Result<(), String> {
        if file.plan.ends_session() {
            return Ok(());
        }
        let count = if matches!(file.plan, Plan::NoopInTheMiddle | Plan::Abort) { 2 } else { 1 };
        let finals = self.finals(file, count)?;
        if file.plan.is_clean() && !(whole && finals.iter().any(|reply| *reply == format!("226 {file}"))) {
            return Err(format!("whole: {whole}; {finals:?}"));
        }
        if whole {
            self.seen.whole.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }
}

fn any_port(stage: &Stage) -> Arc<TcpListener> {
    Arc::new(listen(&stage.net.client, SocketAddr::new(stage.client_ip(), 0)))
}

fn unconnected() -> Socket {
    Socket::new(Domain::IPV4, Type::STREAM, None).unwrap()
}

/// What was refused carries nothing.
fn nothing_comes(file: File, mut data: TcpStream) -> Result<(), String> {
    data.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    match data.read(&mut [0]) {
        Ok(0) => Ok(()),
        Ok(_) => Err(format!("{file} was refused, and something came")),
        // A server that closes its port may forget those who wait there without a word.
        Err(_) => Ok(()),
    }
}
