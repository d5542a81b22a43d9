//! A fast FTP server: what the benchmark asks for, at as little cost as can be, so that what stands in front of it shows.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Instant;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::oneshot;

use super::lab::net::Net;
use super::lab::{Family, Fault};
use super::wire::{self, Wire};

/// Ports of passive mode: one for each session, so that a proxy which tells nobody apart gets each connection right.
pub const DATA_PORTS: std::ops::RangeInclusive<u16> = 30_000..=31_099;
/// As many, for the passive mode of proxies that choose their ports themselves.
pub const PROXY_PORTS: std::ops::RangeInclusive<u16> = 10_001..=11_100;

/// When the last answer to EPSV or PASV was sent, in nanoseconds since [`since`].
pub static ANNOUNCED: AtomicU64 = AtomicU64::new(0);

/// Nanoseconds since the benchmark began.
pub fn since() -> u64 {
    static BEGUN: LazyLock<Instant> = LazyLock::new(Instant::now);
    u64::try_from(BEGUN.elapsed().as_nanos()).expect("it has not run for centuries")
}

/// Ends, with all its sessions, when dropped.
pub struct FtpServer {
    _stop: oneshot::Sender<()>,
}

impl FtpServer {
    /// Serves at port 21 of the server's host, on a thread of its own.
    pub fn start(net: &Net) -> Result<Self, Fault> {
        let (stop, stopped) = oneshot::channel();
        let (ready, listens) = std::sync::mpsc::channel();
        // A thread begins in the namespace of the one that starts it.
        net.server.run(move || {
            std::thread::Builder::new().name("ftp server".into()).spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                runtime.block_on(async {
                    let at = SocketAddr::new(Net::server_address(Family::V4), 21);
                    let listener = listen(at);
                    let listening = listener.as_ref().map(drop).map_err(ToString::to_string);
                    let _ = ready.send(listening);
                    tokio::select! {
                        ended = serve(listener?) => ended,
                        _ = stopped => Ok(()),
                    }
                })
            })
        })?;
        listens.recv()??;
        Ok(Self { _stop: stop })
    }
}

/// Passive ports that no session has now, with their listeners where they had one before.
type Spare = Arc<Mutex<Vec<(u16, Option<TcpListener>)>>>;

fn listen(at: SocketAddr) -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(at)?;
    socket.listen(8192)
}

async fn serve(listener: TcpListener) -> io::Result<()> {
    let spare: Spare = Arc::new(Mutex::new(DATA_PORTS.rev().map(|port| (port, None)).collect()));
    loop {
        let (control, _) = listener.accept().await?;
        let spare = Arc::clone(&spare);
        tokio::spawn(async move {
            // A client that is gone has its own complaint.
            let _ = session(control, &spare).await;
        });
    }
}

/// Where the next transfer goes.
enum Data {
    None,
    Passive,
    Active(SocketAddr),
}

/// A port of the session's own; others may have it afterwards.
struct Passive<'a> {
    spare: &'a Spare,
    port: Option<(u16, TcpListener)>,
}

impl Passive<'_> {
    /// Listens, if the session does not yet.
    fn port(&mut self) -> io::Result<u16> {
        if let Some((port, _)) = &self.port {
            return Ok(*port);
        }
        let taken = self.spare.lock().expect("nobody panics with it").pop();
        let (port, listener) = taken.ok_or_else(|| io::Error::other("no passive port is left"))?;
        let at = SocketAddr::new(Net::server_address(Family::V4), port);
        let listener = listener.map_or_else(|| listen(at), Ok)?;
        self.port = Some((port, listener));
        Ok(port)
    }

    async fn accept(&self) -> io::Result<TcpStream> {
        let (_, listener) = self.port.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        Ok(listener.accept().await?.0)
    }
}

impl Drop for Passive<'_> {
    fn drop(&mut self) {
        if let Some((port, listener)) = self.port.take() {
            self.spare.lock().expect("nobody panics with it").push((port, Some(listener)));
        }
    }
}

async fn session(control: TcpStream, spare: &Spare) -> io::Result<()> {
    let mut control = Wire::new(control)?;
    let mut passive = Passive { spare, port: None };
    let mut data = Data::None;
    control.say("220 Ready\r\n").await?;
    loop {
        let line = control.line().await?;
        let (verb, argument) = line.split_once(' ').unwrap_or((line, ""));
        match verb {
            "USER" => control.say("331 Password?\r\n").await?,
            "PASS" => control.say("230 Welcome\r\n").await?,
            "NOOP" | "TYPE" | "OPTS" | "CWD" | "MODE" | "STRU" => control.say("200 Fine\r\n").await?,
            "PWD" => control.say("257 \"/\"\r\n").await?,
            "SYST" => control.say("215 UNIX Type: L8\r\n").await?,
            "FEAT" => control.say("211-Features:\r\n EPSV\r\n EPRT\r\n211 End\r\n").await?,
            "EPSV" => {
                let said = format!("229 Here (|||{}|)\r\n", passive.port()?);
                data = Data::Passive;
                announce(&mut control, &said).await?;
            }
            "PASV" => {
                let port = passive.port()?;
                let said = format!("227 Here (10,2,0,2,{},{})\r\n", port >> 8, port & 0xff);
                data = Data::Passive;
                announce(&mut control, &said).await?;
            }
            "PORT" | "EPRT" => match active(argument) {
                Some(to) => {
                    data = Data::Active(to);
                    control.say("200 Fine\r\n").await?;
                }
                None => control.say("501 What is that?\r\n").await?,
            },
            "RETR" | "STOR" => {
                let (up, count) = (verb == "STOR", argument.trim_start_matches('/').parse().unwrap_or(0));
                control.say("150 Here it is\r\n").await?;
                let mut stream = match std::mem::replace(&mut data, Data::None) {
                    Data::Passive => passive.accept().await?,
                    Data::Active(to) => TcpStream::connect(to).await?,
                    Data::None => return Err(io::ErrorKind::NotConnected.into()),
                };
                if up {
                    let taken = wire::take(&stream).await?;
                    control.say(&format!("226 Took {taken}\r\n")).await?;
                } else {
                    wire::send(&mut stream, count).await?;
                    drop(stream);
                    control.say("226 Sent\r\n").await?;
                }
            }
            "QUIT" => return control.say("221 Bye\r\n").await,
            _ => control.say("502 Not here\r\n").await?,
        }
    }
}

async fn announce(control: &mut Wire, said: &str) -> io::Result<()> {
    ANNOUNCED.store(since(), Ordering::Relaxed);
    control.say(said).await
}

/// The address in `10,1,0,2,4,1` or `|1|10.1.0.2|1025|`.
fn active(argument: &str) -> Option<SocketAddr> {
    if let Some(extended) = argument.strip_prefix("|1|") {
        let (ip, port) = extended.strip_suffix('|')?.split_once('|')?;
        return Some(SocketAddr::new(ip.parse().ok()?, port.parse().ok()?));
    }
    let numbers: Vec<u8> = argument.split(',').map(str::parse).collect::<Result<_, _>>().ok()?;
    let &[a, b, c, d, high, low] = numbers.as_slice() else { return None };
    Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::new(a, b, c, d)), u16::from_be_bytes([high, low])))
}
