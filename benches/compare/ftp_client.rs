//! One client's session.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::Ordering;

use tokio::net::{TcpListener, TcpStream};

use super::contender::Notation;
use super::ftp_server::{ANNOUNCED, since};
use super::wire::{self, Wire, dial};

/// How many addresses the clients come from: their connections are told apart as those of as many machines.
const ADDRESSES: usize = 200;
/// The first of them.
const FIRST: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 20);

/// The commands for `ip` that give the clients' host these addresses.
pub fn addresses() -> String {
    let all = (FIRST.to_bits()..).take(ADDRESSES).map(Ipv4Addr::from_bits);
    all.map(|ip| format!("addr add {ip}/24 dev eth0\n")).collect()
}

/// Who calls whom for data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Passive,
    Active,
}

/// Where a session leads, and how.
#[derive(Clone, Copy)]
pub struct Target {
    pub at: SocketAddr,
    pub notation: Notation,
    /// Whether a session whose data connection is refused is only not counted.
    pub patient: bool,
}

/// A session of one client.
pub struct Client {
    control: Wire,
    from: SocketAddr,
    notation: Notation,
    /// Where it waits for the server in active mode, from its first use on.
    listener: Option<TcpListener>,
}

impl Client {
    /// Connects as client number `number` and waits for the greeting.
    pub async fn connect(target: Target, number: usize) -> io::Result<Self> {
        let offset = u32::try_from(number % ADDRESSES).expect("there are few addresses");
        let from = SocketAddr::new(IpAddr::V4(Ipv4Addr::from_bits(FIRST.to_bits() + offset)), 0);
        let Target { at, notation, .. } = target;
        let mut control = Wire::new(dial(from, at).await?)?;
        expect(&mut control, "220").await?;
        Ok(Self { control, from, notation, listener: None })
    }

    /// The control connection, for lines that no client sends.
    pub fn into_stream(self) -> TcpStream {
        self.control.stream
    }

    pub async fn log_in(&mut self) -> io::Result<()> {
        self.command("USER bench", "331").await?;
        self.command("PASS bench", "230").await
    }

    pub async fn noop(&mut self) -> io::Result<()> {
        self.command("NOOP", "200").await
    }

    pub async fn quit(&mut self) -> io::Result<()> {
        self.command("QUIT", "221").await
    }

    /// Asks for a passive port: where it is, and for how long the answer was under way, in nanoseconds.
    pub async fn passive(&mut self) -> io::Result<(SocketAddr, u64)> {
        let (command, code) = match self.notation {
            Notation::Extended => ("EPSV\r\n", "229"),
            Notation::Plain => ("PASV\r\n", "227"),
        };
        self.control.say(command).await?;
        let peer = self.control.stream.peer_addr()?.ip();
        let line = self.control.line().await?;
        let heard = since();
        let to = line.starts_with(code).then(|| told(line, peer)).flatten();
        let to = to.ok_or_else(|| unexpected(line, code))?;
        Ok((to, heard.saturating_sub(ANNOUNCED.load(Ordering::Relaxed))))
    }

    /// Downloads so many bytes.
    pub async fn download(&mut self, count: usize, mode: Mode) -> io::Result<()> {
        let data = self.transfer(&format!("RETR {count}\r\n"), mode).await?;
        let taken = wire::take(&data).await?;
        if taken != count {
            return Err(io::Error::other(format!("{taken} bytes came instead of {count}")));
        }
        drop(data);
        expect(&mut self.control, "226").await
    }

    /// Uploads so many bytes.
    pub async fn upload(&mut self, count: usize, mode: Mode) -> io::Result<()> {
        let mut data = self.transfer(&format!("STOR {count}\r\n"), mode).await?;
        wire::send(&mut data, count).await?;
        drop(data);
        let line = self.control.line().await?;
        // A proxy may have words of its own here; ours go through.
        let whole = line.starts_with("226") && (!line.contains("Took") || line.ends_with(&format!(" {count}")));
        if whole { Ok(()) } else { Err(unexpected(line, "226")) }
    }

    async fn transfer(&mut self, command: &str, mode: Mode) -> io::Result<TcpStream> {
        let data = match mode {
            Mode::Passive => {
                let (to, _) = self.passive().await?;
                let data = dial(self.from, to).await?;
                self.control.say(command).await?;
                data
            }
            Mode::Active => {
                if self.listener.is_none() {
                    self.listener = Some(TcpListener::bind(self.from).await?);
                }
                let listener = self.listener.as_ref().expect("it was made above");
                let at = listener.local_addr()?;
                let port = match self.notation {
                    Notation::Extended => format!("EPRT |1|{}|{}|", at.ip(), at.port()),
                    Notation::Plain => {
                        format!("PORT {},{},{}", at.ip().to_string().replace('.', ","), at.port() >> 8, at.port() & 255)
                    }
                };
                self.command(&port, "200").await?;
                self.control.say(command).await?;
                let listener = self.listener.as_ref().expect("it was made above");
                listener.accept().await?.0
            }
        };
        expect(&mut self.control, "150").await?;
        Ok(data)
    }

    async fn command(&mut self, command: &str, code: &str) -> io::Result<()> {
        self.control.say(&format!("{command}\r\n")).await?;
        expect(&mut self.control, code).await
    }
}

/// Reads a reply with this code, of one line or of several.
async fn expect(control: &mut Wire, code: &str) -> io::Result<()> {
    loop {
        let line = control.line().await?;
        if !line.starts_with(code) {
            return Err(unexpected(line, code));
        }
        if line.as_bytes().get(3) == Some(&b' ') {
            return Ok(());
        }
    }
}

fn unexpected(line: &str, code: &str) -> io::Error {
    io::Error::other(format!("`{line}` instead of {code}"))
}

/// The address in a 227 or a 229; `peer` is whom we talk to.
fn told(line: &str, peer: IpAddr) -> Option<SocketAddr> {
    let inside = line.split_once('(')?.1.split_once(')')?.0;
    if let Some(port) = inside.strip_prefix("|||") {
        return Some(SocketAddr::new(peer, port.strip_suffix('|')?.parse().ok()?));
    }
    let numbers: Vec<u8> = inside.split(',').map(str::parse).collect::<Result<_, _>>().ok()?;
    let &[a, b, c, d, high, low] = numbers.as_slice() else { return None };
    Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::new(a, b, c, d)), u16::from_be_bytes([high, low])))
}
