//! A socket to netfilter, or to the routes.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::netlink::{NETFILTER, SocketAddrNetlink};
use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv, sendto, socket_with,
};

/// For an answer: the kernel gives it while it takes the question; where none comes it was lost.
const PATIENCE: Duration = Duration::from_secs(5);

/// What fits into a buffer of any size.
const SMALL: usize = 64 << 10;

/// What the kernel tells unasked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Groups {
    /// Nothing.
    None,
    /// Connections that conntrack sees begin, change and end.
    Connections,
}

/// One socket.
#[derive(Debug)]
pub(crate) struct Socket(OwnedFd);

impl Socket {
    /// Opens a socket to netfilter.
    pub(crate) fn open(groups: Groups) -> io::Result<Self> {
        let groups = match groups {
            Groups::None => 0,
            Groups::Connections => 0b111,
        };
        Self::open_to(Some(NETFILTER), groups)
    }

    /// Opens a socket to the kernel's routes, which tells of a dump no more than was asked for.
    pub(crate) fn open_routes() -> io::Result<Self> {
        // NETLINK_ROUTE is the protocol 0.
        let socket = Self::open_to(None, 0)?;
        ask_strictly(&socket)?;
        Ok(socket)
    }

    fn open_to(protocol: Option<Protocol>, groups: u32) -> io::Result<Self> {
        let fd = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, protocol)?;
        bind(&fd, &SocketAddrNetlink::new(0, groups))?;
        rustix::net::sockopt::set_socket_timeout(&fd, rustix::net::sockopt::Timeout::Recv, Some(PATIENCE))?;
        Ok(Self(fd))
    }

    /// Sends messages to the kernel, which has done what they ask for when this returns.
    pub(crate) fn send(&self, messages: &[u8]) -> io::Result<()> {
        if messages.len() > SMALL {
            self.make_room_for(messages.len())?;
        }
        sendto(&self.0, messages, SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
        Ok(())
    }

    /// A batch is one datagram, which has to fit into the socket's buffer whole: rules may name thousands of networks.
    fn make_room_for(&self, length: usize) -> io::Result<()> {
        use rustix::net::sockopt::{set_socket_send_buffer_size, set_socket_send_buffer_size_force};
        // With what the kernel keeps beside the bytes. Not in a container whose root is nobody outside: there it is as large
        // as `net.core.wmem_max` lets it be.
        let wanted = length.saturating_mul(2);
        set_socket_send_buffer_size_force(&self.0, wanted).or_else(|_| set_socket_send_buffer_size(&self.0, wanted))?;
        Ok(())
    }

    /// One datagram, if there is one already.
    pub(crate) fn try_receive<'a>(&self, buffer: &'a mut [u8]) -> io::Result<Option<&'a [u8]>> {
        match recv(&self.0, &mut *buffer, RecvFlags::DONTWAIT) {
            Ok((length, _)) => Ok(Some(buffer.get(..length).unwrap_or_default())),
            Err(Errno::AGAIN | Errno::INTR) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits until there is a datagram, but no longer than this; whether there may be one.
    pub(crate) fn wait(&self, patience: Duration) -> bool {
        let patience = patience.try_into().ok();
        // Whatever this says, the next attempt to receive tells what is there.
        poll(&mut [PollFd::new(&self.0, PollFlags::IN)], patience.as_ref()).is_ok_and(|ready| ready > 0)
    }

    /// One datagram of answers.
    pub(crate) fn receive<'a>(&self, buffer: &'a mut [u8]) -> io::Result<&'a [u8]> {
        loop {
            match recv(&self.0, &mut *buffer, RecvFlags::empty()) {
                Ok((length, _)) => return Ok(buffer.get(..length).unwrap_or_default()),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Without this the kernel tells all routes of all tables, which may be a million.
#[allow(unsafe_code, reason = "no library sets this option")]
fn ask_strictly(socket: &Socket) -> io::Result<()> {
    let on: libc::c_int = 1;
    let length = libc::socklen_t::try_from(size_of_val(&on)).map_err(io::Error::other)?;
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: the descriptor is open as long as `socket` is borrowed, and the option's value is a c_int of this length.
    let done = unsafe {
        libc::setsockopt(fd, libc::SOL_NETLINK, libc::NETLINK_GET_STRICT_CHK, std::ptr::from_ref(&on).cast(), length)
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
