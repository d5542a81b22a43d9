//! Options of a connection that stands, and the limits of the process.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::Duration;

use nix::errno::Errno;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::Interest;
use tokio::net::TcpStream;

use crate::addr::OriginalDst;
use crate::policy::Interception;

/// Where an intercepted connection was meant to go.
///
/// # Errors
///
/// `NotFound` where `redirect` did not hand over this connection; else what the kernel says.
pub fn original_dst(stream: &TcpStream, interception: Interception) -> io::Result<OriginalDst> {
    let local = stream.local_addr()?;
    let addr = match interception {
        Interception::Tproxy => local,
        Interception::Redirect => redirected_from(stream, local)?,
    };
    Ok(OriginalDst::new(addr))
}

fn redirected_from(stream: &TcpStream, local: SocketAddr) -> io::Result<SocketAddr> {
    let socket = SockRef::from(stream);
    let addr = if local.ip().to_canonical().is_ipv4() { socket.original_dst_v4() } else { socket.original_dst_v6() }?;
    addr.as_socket().ok_or_else(|| io::Error::from(io::ErrorKind::AddrNotAvailable))
}

/// Makes a control connection ready: no delay for short lines, urgent bytes inline (the Telnet Synch of ABOR keeps its
/// place among the others), and a dead peer noticed after two minutes. What is accepted at a listener has its options.
///
/// # Errors
///
/// What the kernel says, in practice only where the connection is gone.
pub fn prepare_control(stream: &impl AsFd) -> io::Result<()> {
    let socket = SockRef::from(stream);
    socket.set_tcp_nodelay(true)?;
    socket.set_out_of_band_inline(true)?;
    keep_alive(stream)
}

/// Makes one leg of a data connection ready: no delay. One that lasts is to [`keep_alive`] too.
///
/// # Errors
///
/// What the kernel says, in practice only where the connection is gone.
pub fn prepare_data(stream: &impl AsFd) -> io::Result<()> {
    SockRef::from(stream).set_tcp_nodelay(true)
}

/// Has a dead peer noticed: 60 s of silence, then a probe every 15 s, four of them.
///
/// # Errors
///
/// What the kernel says, in practice only where the connection is gone.
pub fn keep_alive(stream: &impl AsFd) -> io::Result<()> {
    let probes =
        TcpKeepalive::new().with_time(Duration::from_secs(60)).with_interval(Duration::from_secs(15)).with_retries(4);
    SockRef::from(stream).set_tcp_keepalive(&probes)
}

/// Whether closing `stream` resets it, and drops what was not sent yet, or ends it in order. What is accepted at a
/// listener does as the listener was told.
///
/// # Errors
///
/// What the kernel says, in practice only where the connection is gone.
pub fn reset_on_close(stream: &impl AsFd, reset: bool) -> io::Result<()> {
    SockRef::from(stream).set_linger(reset.then_some(Duration::ZERO))
}

/// Sends `bytes` with the urgent mark on the last of them, as the Telnet Synch wants it, and tells how many were taken.
///
/// # Errors
///
/// `WouldBlock` where nothing can be sent now, else what the kernel says about the connection.
pub fn try_send_urgent(stream: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    stream.try_io(Interest::WRITABLE, || SockRef::from(stream).send_out_of_band(bytes))
}

/// Whether urgent bytes wait to be read. A read stops ahead of them, so that after a Telnet IP this tells whether its
/// Synch follows.
#[must_use]
pub fn has_urgent(stream: &TcpStream) -> bool {
    let mut asked = [PollFd::new(stream, PollFlags::PRI)];
    poll(&mut asked, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
}

/// Raises the number of files that this process may have open to the most it is allowed, and tells that number;
/// `None`: without limit.
///
/// # Errors
///
/// What the kernel says.
pub fn raise_file_limit() -> io::Result<Option<u64>> {
    let most = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: most, maximum: most })?;
    Ok(most)
}

/// How many files this process may have open now, and how many once [`raise_file_limit`] has raised that; `None`: without
/// limit.
#[must_use]
pub fn file_limits() -> (Option<u64>, Option<u64>) {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    (current, maximum)
}

/// What this machine has run out of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Shortage {
    /// File descriptors, of the process or of the system.
    Descriptors,
    /// Local ports for connections to one server.
    Ports,
    /// Memory of the kernel.
    Memory,
}

impl Shortage {
    /// What this error says that the machine lacks; `None` for an error that says something about the peer.
    #[must_use]
    #[allow(
        clippy::wildcard_enum_match_arm,
        reason = "the kernel's errors are many, and these are all that are the machine's own"
    )]
    pub fn of(error: &io::Error) -> Option<Self> {
        match error.raw_os_error().map(Errno::from_raw)? {
            Errno::EMFILE | Errno::ENFILE => Some(Self::Descriptors),
            Errno::EADDRNOTAVAIL => Some(Self::Ports),
            Errno::ENOBUFS | Errno::ENOMEM => Some(Self::Memory),
            _ => None,
        }
    }

    /// The name of the reason, for the log and the client.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Descriptors => "no_descriptors",
            Self::Ports => "no_local_ports",
            Self::Memory => "no_memory",
        }
    }

    /// What the operator can do about it.
    #[must_use]
    pub const fn advice(self) -> &'static str {
        match self {
            Self::Descriptors => {
                "raise the limit of open files (LimitNOFILE=, fs.file-max), or lower `sessions` in `limits`"
            }
            Self::Ports => "widen net.ipv4.ip_local_port_range: every port towards this server is in use",
            Self::Memory => "the kernel has no memory for another connection: see net.ipv4.tcp_mem",
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::net::{dial, listen};

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = listen("127.0.0.1:0".parse().unwrap(), false, 8).unwrap();
        let at = listener.local_addr().unwrap();
        let dialled = dial(at, None, false, Duration::from_secs(1)).await.unwrap();
        (dialled, listener.accept().await.unwrap().0)
    }

    #[tokio::test]
    async fn urgent_bytes_stay_inline_and_in_order() {
        let (mut a, mut b) = pair().await;
        prepare_control(&a).unwrap();
        prepare_control(&b).unwrap();
        a.writable().await.unwrap();
        assert_eq!(try_send_urgent(&a, &[255, 244, 255]).unwrap(), 3);
        a.write_all(b"\xf2ABOR\r\n").await.unwrap();
        let mut seen = [0; 10];
        b.read_exact(&mut seen).await.unwrap();
        assert_eq!(&seen, b"\xff\xf4\xff\xf2ABOR\r\n");
    }

    #[tokio::test]
    async fn what_is_accepted_has_the_options_of_its_listener() {
        let listener = listen("127.0.0.1:0".parse().unwrap(), false, 8).unwrap();
        prepare_control(&listener).unwrap();
        reset_on_close(&listener, true).unwrap();
        let _dialled = dial(listener.local_addr().unwrap(), None, false, Duration::from_secs(1)).await.unwrap();
        let accepted = listener.accept().await.unwrap().0;
        let socket = SockRef::from(&accepted);
        assert!(socket.tcp_nodelay().unwrap() && socket.keepalive().unwrap() && socket.out_of_band_inline().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(60));
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), 4);
        assert_eq!(socket.linger().unwrap(), Some(Duration::ZERO));
    }

    #[tokio::test]
    async fn a_close_resets_only_while_asked_to() {
        let (a, mut b) = pair().await;
        reset_on_close(&a, true).unwrap();
        drop(a);
        assert_eq!(b.read(&mut [0]).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);

        let (a, mut b) = pair().await;
        reset_on_close(&a, true).unwrap();
        reset_on_close(&a, false).unwrap();
        drop(a);
        assert_eq!(b.read(&mut [0]).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn the_original_destination_of_tproxy_is_the_local_address() {
        let (a, _b) = pair().await;
        let at = original_dst(&a, Interception::Tproxy).unwrap();
        assert_eq!(at.socket(), a.local_addr().unwrap());
        // Without a redirect there is none, unless conntrack follows the connection: then it is one of its ends.
        let ends = [a.local_addr().unwrap(), a.peer_addr().unwrap()];
        let redirected = original_dst(&a, Interception::Redirect);
        assert!(redirected.is_err() || redirected.is_ok_and(|at| ends.contains(&at.socket())));
    }

    #[test]
    fn what_the_machine_lacks_is_no_fault_of_the_peer() {
        let of = |errno: Errno| Shortage::of(&io::Error::from_raw_os_error(errno as i32)).map(Shortage::name);
        assert_eq!([Errno::EMFILE, Errno::ENFILE].map(of), [Some("no_descriptors"); 2]);
        assert_eq!(of(Errno::EADDRNOTAVAIL), Some("no_local_ports"));
        assert_eq!([Errno::ENOBUFS, Errno::ENOMEM].map(of), [Some("no_memory"); 2]);
        assert_eq!([Errno::ECONNREFUSED, Errno::EHOSTUNREACH, Errno::ETIMEDOUT].map(of), [None; 3]);
        assert_eq!(Shortage::of(&io::ErrorKind::TimedOut.into()), None);
    }

    #[test]
    fn the_file_limit_is_raised_to_the_most() {
        let most = raise_file_limit().unwrap();
        assert_eq!(getrlimit(Resource::Nofile).current, most);
    }
}
