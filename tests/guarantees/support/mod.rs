//! The program under test with a server and clients that say just what a test wants them to say.

#[path = "../../lab/talk.rs"]
mod control;
mod gate;
mod rules;
mod talk;

use std::io::{self, Read as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, SockRef, Socket, Type};

pub use control::{IO, Reply, Talk, bounded};
pub use gate::Gate;
pub use rules::Rules;
#[allow(unused_imports, reason = "not every test negotiates")]
pub use talk::{host_port, the_port_in, told_227};

/// How long anything may take before the test fails.
pub const PATIENCE: Duration = Duration::from_secs(10);

pub const CLIENT: Ipv4Addr = Ipv4Addr::LOCALHOST;
pub const STRANGER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
pub const OTHER_CLIENT: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);
pub const SERVER: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// Asks again and again until there is an answer; `None` when patience is at its end.
pub fn poll<T>(mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + PATIENCE;
    loop {
        let answer = ask();
        if answer.is_some() || Instant::now() >= end {
            return answer;
        }
        thread::sleep(Duration::from_millis(5));
    }
}

#[track_caller]
pub fn wait_until(what: &str, mut ask: impl FnMut() -> bool) {
    assert!(poll(|| ask().then_some(())).is_some(), "waited in vain: {what}");
}

/// Connects from an address of the test's choice.
pub fn dial(from: Ipv4Addr, port: u16) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((from, 0)).into())?;
    socket.connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into(), IO)?;
    let stream = TcpStream::from(socket);
    bounded(&stream);
    Ok(stream)
}

/// A listener of a peer's, at a port that the kernel chooses.
pub fn listen(at: impl Into<IpAddr>) -> TcpListener {
    let listener = TcpListener::bind((at.into(), 0)).unwrap();
    listener.set_nonblocking(true).unwrap();
    listener
}

pub fn port_of(listener: &TcpListener) -> u16 {
    listener.local_addr().unwrap().port()
}

/// The next connection to a listener of [`listen`].
#[track_caller]
pub fn accept(listener: &TcpListener) -> TcpStream {
    let stream = poll(|| listener.accept().ok()).expect("nobody connected").0;
    stream.set_nonblocking(false).unwrap();
    bounded(&stream);
    stream
}

/// Nobody has connected. Meaningful only after something that would have come later.
#[track_caller]
pub fn nobody_came_to(listener: &TcpListener) {
    match listener.accept() {
        Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
        Ok((_, from)) => panic!("{from} connected"),
    }
}

/// Whether anybody listens there.
pub fn is_open(port: u16) -> bool {
    match dial(Ipv4Addr::new(127, 0, 0, 200), port) {
        Ok(_) => true,
        Err(error) => error.kind() != io::ErrorKind::ConnectionRefused,
    }
}

/// A connection to `port` is refused, or reset before it carries anything.
#[track_caller]
pub fn assert_shut_out(from: Ipv4Addr, port: u16) {
    match dial(from, port) {
        Ok(stream) => assert_reset(stream),
        Err(error) => {
            assert!(matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset));
        }
    }
}

/// The other end resets the connection; what came before does not matter.
#[track_caller]
pub fn assert_reset(mut stream: TcpStream) {
    let mut rest = Vec::new();
    match stream.read_to_end(&mut rest) {
        Ok(count) => panic!("a clean end after {count} bytes where a reset was due"),
        Err(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "{error}"),
    }
}

/// Closes a connection with a reset.
pub fn reset(stream: TcpStream) {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    drop(stream);
}

/// Everything up to a clean end.
#[track_caller]
pub fn all_of(mut stream: TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    bytes
}

/// Bytes that differ from place to place.
pub fn goods(count: usize) -> Vec<u8> {
    (0..count).map(|at| (at ^ (at >> 8) ^ (at >> 16)).to_le_bytes()[0]).collect()
}
