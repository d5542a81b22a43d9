//! The server's side of one session.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::client::connect;
use super::*;
use crate::lab::Family;
use crate::lab::net::Net;
use crate::talk::{IO, Talk};
use file::Plan;

const CHUNK: usize = 16 * 1024;

/// How the next data connection comes about.
enum Way {
    None,
    Listen(TcpListener),
    Dial(SocketAddr),
}

struct Server<'a> {
    stage: &'a Stage,
    seen: &'a Seen,
    control: Option<Talk>,
    next: Way,
    session: Option<u32>,
    rng: Rng,
}

pub(super) fn serve(stage: &Stage, seen: &Seen, control: TcpStream) {
    let mut control = Talk::new(control);
    if control.try_send(b"220 Ready\r\n").is_err() {
        return;
    }
    let mut server =
        Server { stage, seen, control: Some(control), next: Way::None, session: None, rng: Rng::with_seed(0) };
    while server.control.is_some() {
        if let Err(fault) = server.turn() {
            return seen.fault(format!("server: {fault}"));
        }
    }
}

impl Server<'_> {
    fn say(&mut self, line: &str) {
        if let Some(control) = &mut self.control
            && control.try_send(format!("{line}\r\n").as_bytes()).is_err()
        {
            self.control = None;
        }
    }

    /// The next line, where it comes in this time.
    fn line(&mut self, patience: Duration) -> Option<String> {
        let control = self.control.as_mut()?;
        control.stream.set_read_timeout(Some(patience)).unwrap();
        match control.try_line() {
            Ok(line) if line.ends_with(b"\r\n") => Some(String::from_utf8_lossy(&line).trim_end().to_owned()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => None,
            Ok(_) | Err(_) => {
                self.control = None;
                None
            }
        }
    }

    fn turn(&mut self) -> Result<(), String> {
        let Some(line) = self.line(Duration::from_secs(1)) else { return Ok(()) };
        let (verb, rest) = line.split_once(' ').unwrap_or((&line, ""));
        match verb {
            "USER" => {
                self.session = rest.parse().ok();
                self.rng = Rng::with_seed(self.session.unwrap_or(0).into());
                self.say("230 In");
            }
            "NOOP" => self.say(&format!("200 {rest}")),
            "ABOR" => self.say("225 Nothing to abort"),
            "PASV" | "EPSV" => {
                let data = listen(&self.stage.net.server, SocketAddr::new(self.stage.server_ip(), 0));
                let port = data.local_addr().unwrap().port();
                self.next = Way::Listen(data);
                if verb == "EPSV" {
                    self.say(&format!("229 Here (|||{port}|)"));
                } else {
                    self.say(&format!("227 Here (10,2,0,2,{},{})", port >> 8, port & 255));
                }
            }
            "PORT" | "EPRT" => {
                let to = client::address_in(rest).ok_or_else(|| format!("no address: {line}"))?;
                if to.ip() != self.stage.back_ip() {
                    return Err(format!("not the gate: {line}"));
                }
                self.next = Way::Dial(to);
                self.say("200 Fine");
            }
            "RETR" | "STOR" => {
                let file = File::parse(rest).ok_or_else(|| format!("no file: {line}"))?;
                if self.session != Some(file.session) {
                    return Err(format!("session {:?} hears: {line}", self.session));
                }
                self.transfer(file, verb == "STOR")?;
            }
            "QUIT" => {
                self.say("221 Bye");
                self.control = None;
            }
            _ => return Err(format!("unknown: {line}")),
        }
        Ok(())
    }

    fn open(&mut self) -> Result<TcpStream, String> {
        match std::mem::replace(&mut self.next, Way::None) {
            Way::None => Err("nothing negotiated".to_owned()),
            Way::Listen(data) => {
                let stream = poll(IO, || data.accept().ok()).ok_or("nobody came")?.0;
                stream.set_nonblocking(false).unwrap();
                crate::talk::bounded(&stream);
                Ok(stream)
            }
            Way::Dial(to) => {
                let from = Net::server_address(Family::V4);
                let port = if self.rng.bool() { 20 } else { 0 };
                connect(&self.stage.net.server, from, port, to).or_else(|error| match error {
                    ErrorKind::AddrNotAvailable | ErrorKind::AddrInUse => {
                        connect(&self.stage.net.server, from, 0, to).map_err(|error| error.to_string())
                    }
                    other => Err(other.to_string()),
                })
            }
        }
    }

    fn transfer(&mut self, file: File, upload: bool) -> Result<(), String> {
        if file.plan == Plan::ServerRefuses {
            self.next = Way::None;
            self.say(&format!("550 {file}"));
            return Ok(());
        }
        let data = match self.open() {
            Ok(data) => data,
            Err(why) => {
                self.say(&format!("425 {file} {why}"));
                return Ok(());
            }
        };
        self.say(&format!("150 {file}"));
        if upload { self.take(file, data) } else { self.give(file, data) }
    }

    /// What happens in the middle; gives the connection back where the transfer goes on.
    fn in_the_middle(&mut self, file: File, data: TcpStream) -> Option<TcpStream> {
        match file.plan {
            Plan::ServerResetsData => {
                reset(data);
                self.say(&format!("426 {file}"));
                return None;
            }
            Plan::ServerResetsControl => {
                if let Some(control) = self.control.take() {
                    reset(control.stream);
                }
            }
            Plan::SuccessTooEarly => self.say(&format!("226 {file}")),
            _ => {}
        }
        Some(data)
    }

    /// What the client says in the middle; whether the transfer goes on.
    fn listens(&mut self, file: File, data: &mut Option<TcpStream>, patience: u64) -> bool {
        let Some(line) = self.line(Duration::from_millis(patience)) else { return true };
        if let Some(rest) = line.strip_prefix("NOOP ") {
            self.say(&format!("200 {rest}"));
        } else if line == "ABOR" {
            let data = data.take();
            if self.rng.bool() {
                data.into_iter().for_each(reset);
            } else {
                drop(data);
            }
            self.say(&format!("426 {file}"));
            self.say(&format!("226 {file}"));
            return false;
        } else {
            self.seen.fault(format!("server: {line:?} in {file}"));
        }
        true
    }

    fn give(&mut self, file: File, data: TcpStream) -> Result<(), String> {
        let (all, mut data, mut halfway) = (file.bytes(), Some(data), false);
        let talks = matches!(file.plan, Plan::NoopInTheMiddle | Plan::Abort | Plan::ClientEndsControl);
        let mut sent = 0;
        for chunk in all.chunks(CHUNK) {
            if !halfway && sent >= file.size / 2 {
                halfway = true;
                data = data.and_then(|data| self.in_the_middle(file, data));
                if data.is_none() {
                    return Ok(());
                }
            }
            if talks && !self.listens(file, &mut data, if sent == 0 { 1 } else { 5 }) {
                return Ok(());
            }
            if let Some(stream) = &mut data
                && let Err(error) = stream.write_all(chunk)
            {
                if file.plan.is_clean() {
                    self.seen.fault(format!("server: {file} broke at {sent}: {error}"));
                }
                drop(data);
                self.say(&format!("426 {file}"));
                return Ok(());
            }
            sent += chunk.len();
        }
        drop(data);
        if !(file.plan == Plan::SuccessTooEarly && halfway) {
            self.say(&format!("226 {file}"));
        }
        Ok(())
    }

    fn take(&mut self, file: File, data: TcpStream) -> Result<(), String> {
        let (all, mut data, mut halfway, mut got) = (file.bytes(), Some(data), false, 0);
        if file.plan == Plan::HalfClosed {
            let _ = data.as_ref().map(|data| data.shutdown(std::net::Shutdown::Write));
        }
        let talks = matches!(file.plan, Plan::NoopInTheMiddle | Plan::Abort);
        let mut buffer = vec![0; CHUNK];
        loop {
            if !halfway && got >= file.size / 2 && file.size > 0 {
                halfway = true;
                // No more comes than was asked for: success is only said of what has arrived.
                if file.plan != Plan::SuccessTooEarly {
                    data = data.and_then(|data| self.in_the_middle(file, data));
                }
            }
            if talks && !self.listens(file, &mut data, 1) {
                return Ok(());
            }
            let Some(stream) = &mut data else { return Ok(()) };
            match stream.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => {
                    file.check(&all, got, &buffer[..count])?;
                    got += count;
                }
                // The gate has cut it: where the kernel moves the bytes, who only reads does not hear of it.
                Err(error) if error.kind() == ErrorKind::WouldBlock && self.control.is_none() => return Ok(()),
                Err(error) => {
                    if file.plan.is_clean() || error.kind() == ErrorKind::WouldBlock {
                        return Err(format!("{file} broke at {got}: {error}"));
                    }
                    self.say(&format!("426 {file}"));
                    return Ok(());
                }
            }
        }
        if got < file.size && !file.plan.ends_early() {
            return Err(format!("{file} ended in order after {got}"));
        }
        if got == file.size {
            self.seen.stored.lock().unwrap().insert(file.key());
            self.seen.whole.fetch_add(1, Ordering::Relaxed);
        }
        self.say(&format!("226 {file}"));
        Ok(())
    }
}
