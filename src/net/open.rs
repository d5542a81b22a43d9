//! Listening and dialling, at any address that a session may have to stand for.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::time::Duration;

use nix::sys::socket::sockopt::IpBindAddressNoPort;
use rustix::net::{SocketFlags, acceptfrom_with};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpStream};

use crate::addr::{link_of, on_link};

/// How many connections may wait to be accepted at a control port: more than the machine allows
/// (`net.core.somaxconn`), for clients that come all at once after a failure find no other queue.
pub const CONTROL_BACKLOG: u32 = 65_535;

/// Listens at `addr` and nowhere else: `[::]` takes no IPv4.
///
/// `transparent` lets `addr` be an address that is not ours (`IP_TRANSPARENT`); it needs `CAP_NET_ADMIN`. Must be
/// called inside a tokio runtime.
///
/// # Errors
///
/// What the kernel says: `AddrInUse` where another socket listens there, `AddrNotAvailable` where the address is not
/// ours, `PermissionDenied` for a port under 1024 or `transparent` without the privilege.
pub fn listen(addr: SocketAddr, transparent: bool, backlog: u32) -> io::Result<TcpListener> {
    listen_prepared(addr, transparent, backlog, |_| Ok(()))
}

/// The same with options, set before anybody can connect: a connection has those that its listener had when it came.
///
/// # Errors
///
/// As [`listen`], and what `prepare` says.
pub fn listen_prepared(
    addr: SocketAddr,
    transparent: bool,
    backlog: u32,
    prepare: impl FnOnce(&Socket) -> io::Result<()>,
) -> io::Result<TcpListener> {
    let socket = socket_for(addr, transparent)?;
    if addr.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    prepare(&socket)?;
    socket.bind(&addr.into())?;
    socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
    TcpListener::from_std(socket.into())
}

/// Listens where our sockets listen that are about to be closed. Clients find one or the other.
///
/// # Errors
///
/// As [`listen`]; `AddrInUse` where other sockets than these are in the way.
pub fn listen_in_place_of(
    ours: &[&impl AsFd],
    addr: SocketAddr,
    transparent: bool,
    backlog: u32,
    prepare: impl FnOnce(&Socket) -> io::Result<()>,
) -> io::Result<TcpListener> {
    // Only for this moment: what shares a port may take a part of its clients.
    let share = |shared| ours.iter().try_for_each(|socket| SockRef::from(*socket).set_reuse_port(shared));
    let shares = |socket: &Socket| prepare(socket).and_then(|()| socket.set_reuse_port(true));
    let listening = share(true).and_then(|()| listen_prepared(addr, transparent, backlog, shares));
    share(false)?;
    let listening = listening?;
    SockRef::from(&listening).set_reuse_port(false)?;
    Ok(listening)
}

/// Takes a connection that waits at `listener`; neither it nor a runtime knows of the other yet.
///
/// # Errors
///
/// `WouldBlock` where none waits, `ConnectionAborted` where it is gone already, else what the kernel says.
pub fn accept(listener: &impl AsFd) -> io::Result<(std::net::TcpStream, SocketAddr)> {
    let (stream, from) = acceptfrom_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
    // One that is gone already may have no peer.
    let from = from.and_then(|from| from.try_into().ok()).ok_or(io::ErrorKind::ConnectionAborted)?;
    Ok((stream.into(), from))
}

/// Connects to `to`, from the address (and port, where one is given) of `from`.
///
/// `transparent` lets `from` be an address that is not ours. Must be called inside a tokio runtime.
///
/// # Errors
///
/// `TimedOut` after `timeout`, else what the kernel says about the address, the port or the peer.
pub async fn dial(
    to: SocketAddr,
    from: Option<(IpAddr, Option<u16>)>,
    transparent: bool,
    timeout: Duration,
) -> io::Result<TcpStream> {
    dial_prepared(to, from, transparent, timeout, |_| Ok(())).await
}

/// The same with options, set before the peer can answer: they hold also where nobody waits for it any more then.
///
/// # Errors
///
/// As [`dial`], and what `prepare` says.
pub async fn dial_prepared(
    to: SocketAddr,
    from: Option<(IpAddr, Option<u16>)>,
    transparent: bool,
    timeout: Duration,
    prepare: impl FnOnce(&Socket) -> io::Result<()>,
) -> io::Result<TcpStream> {
    let socket = socket_for(to, transparent)?;
    prepare(&socket)?;
    if let Some((ip, port)) = from {
        if port.is_none() {
            // The kernel chooses the port at connect(2): it need only differ from those used towards the same peer.
            nix::sys::socket::setsockopt(&socket, IpBindAddressNoPort, &true)?;
        }
        let from = SocketAddr::new(ip, port.unwrap_or(0));
        socket.bind(&on_link(from, link_of(to)).into())?;
    }
    match socket.connect(&to.into()) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let stream = TcpStream::from_std(socket.into())?;
    match tokio::time::timeout(timeout, stream.writable()).await {
        Ok(ready) => ready?,
        Err(_) => return Err(io::Error::new(io::ErrorKind::TimedOut, NoAnswer { from: stream.local_addr()?, to })),
    }
    match stream.take_error()? {
        Some(error) => Err(error),
        None => Ok(stream),
    }
}

/// What [`dial`] says where nobody has answered in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no answer from {to}")]
pub struct NoAnswer {
    /// The address and port that the first packet came from.
    pub from: SocketAddr,
    /// Where it went to.
    pub to: SocketAddr,
}

impl NoAnswer {
    /// Whether this is what an error says.
    #[must_use]
    pub fn of(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }
}

/// `SO_REUSEADDR` is on everywhere: without it a connection that has the port already, or has had it a minute ago,
/// forbids listening there.
fn socket_for(addr: SocketAddr, transparent: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if transparent {
        match addr {
            SocketAddr::V4(_) => socket.set_ip_transparent_v4(true)?,
            SocketAddr::V6(_) => socket.set_ip_transparent_v6(true)?,
        }
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::ops::Deref as _;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test]
    async fn a_dial_comes_from_the_address_and_port_asked_for() {
        for ip in ["127.0.0.1", "::1"] {
            let listener = listen(SocketAddr::new(ip.parse().unwrap(), 0), false, 8).unwrap();
            let at = listener.local_addr().unwrap();
            let free = listen(SocketAddr::new(at.ip(), 0), false, 1).unwrap().local_addr().unwrap().port();
            let from = Some((at.ip(), Some(free)));
            let dialled = dial(at, from, false, SECOND).await.unwrap();
            assert_eq!(listener.accept().await.unwrap().1, dialled.local_addr().unwrap());
            assert_eq!(dialled.local_addr().unwrap().port(), free);
        }
        let listener = listen("127.0.0.1:0".parse().unwrap(), false, 8).unwrap();
        let from = "127.0.0.7".parse().unwrap();
        let dialled = dial(listener.local_addr().unwrap(), Some((from, None)), false, SECOND).await.unwrap();
        assert_eq!(dialled.local_addr().unwrap().ip(), from);
    }

    #[tokio::test]
    async fn options_are_set_before_anybody_can_connect() {
        let listening = |socket: &Socket| rustix::net::sockopt::socket_acceptconn(socket).unwrap();
        let mut was_listening = None;
        let prepare = |socket: &Socket| {
            was_listening = Some(listening(socket));
            Ok(())
        };
        let listener = listen_prepared("127.0.0.1:0".parse().unwrap(), false, 8, prepare).unwrap();
        assert_eq!((was_listening, listening(SockRef::from(&listener).deref())), (Some(false), true));
        let fails = listen_prepared("127.0.0.1:0".parse().unwrap(), false, 8, |_| Err(io::ErrorKind::Other.into()));
        assert_eq!(fails.unwrap_err().kind(), io::ErrorKind::Other);
    }

    #[tokio::test]
    async fn the_ipv6_wildcard_takes_no_ipv4() {
        let listener = listen("[::]:0".parse().unwrap(), false, 8).unwrap();
        let port = listener.local_addr().unwrap().port();
        let refused = dial(SocketAddr::new("127.0.0.1".parse().unwrap(), port), None, false, SECOND).await;
        assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    }

    #[tokio::test]
    async fn no_answer_is_timed_out() {
        // A full accept queue drops every further SYN, so the dial hangs like one to a silent host.
        let listener = listen("127.0.0.1:0".parse().unwrap(), false, 0).unwrap();
        let at = listener.local_addr().unwrap();
        let mut held = Vec::new();
        let error = loop {
            match dial(at, None, false, Duration::from_millis(200)).await {
                Ok(stream) if held.len() < 16 => held.push(stream),
                other => break other.unwrap_err(),
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn a_connection_does_not_keep_its_port_from_being_listened_on() {
        let listener = listen("127.0.0.1:0".parse().unwrap(), false, 8).unwrap();
        let at = listener.local_addr().unwrap();
        let _dialled = dial(at, None, false, SECOND).await.unwrap();
        let _accepted = listener.accept().await.unwrap();
        assert_eq!(listen(at, false, 8).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(listener);
        listen(at, false, 8).unwrap();
    }
}
