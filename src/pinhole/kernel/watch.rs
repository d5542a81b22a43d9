//! Hears what conntrack tells, for as long as the datapath is there.

use std::io;
use std::sync::{Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::sockopt::{set_socket_recv_buffer_size, set_socket_recv_buffer_size_force};
use socket2::{SockFilter, SockRef};

use super::Shared;
use super::conntrack::{DATAGRAM, Sighting, sighting};
use super::mark::{self, Own};
use crate::net::netlink::{Groups, Socket, messages};

/// Room for thousands of connections that change at the same moment.
const BUFFER: usize = 8 << 20;
/// How exactly deadlines of some seconds are kept.
const TICK: Duration = Duration::from_secs(1);
/// How long more is waited for once something was told: sessions hear for themselves what they must not miss, and to
/// wake a thread for each packet costs more than the packet.
const GATHER: Duration = Duration::from_millis(2);

/// A program for the kernel's packet filter: finds the attribute with the mark, and compares it.
fn only_of(own: Own) -> [SockFilter; 10] {
    const ATTRIBUTES_AT: u32 = 20;
    const MARK_ATTRIBUTE: u32 = 8;
    const VALUE_IN_ATTRIBUTE: u32 = 4;
    /// Loading from here asks for the place of an attribute.
    const FIND_ATTRIBUTE: u32 = (-0x1000_i32 + 12).cast_unsigned();
    [
        SockFilter::new(0x00, 0, 0, ATTRIBUTES_AT),      // A := where attributes begin
        SockFilter::new(0x01, 0, 0, MARK_ATTRIBUTE),     // X := the attribute's type
        SockFilter::new(0x20, 0, 0, FIND_ATTRIBUTE),     // A := where it stands, or 0
        SockFilter::new(0x15, 4, 0, 0),                  // none: drop
        SockFilter::new(0x07, 0, 0, 0),                  // X := A
        SockFilter::new(0x40, 0, 0, VALUE_IN_ATTRIBUTE), // A := the mark
        SockFilter::new(0x54, 0, 0, mark::OWN_MASK),     // A := A & mask
        SockFilter::new(0x15, 1, 0, own.mark()),         // ours: keep
        SockFilter::new(0x06, 0, 0, 0),                  // drop
        SockFilter::new(0x06, 0, 0, u32::MAX),           // keep
    ]
}

/// Hears what conntrack tells, in the order in which it happened, whoever asks.
#[derive(Debug)]
pub(super) struct Watch {
    own: Own,
    socket: Socket,
    /// Whoever has this takes what was told to where it belongs before the next one hears anything.
    ear: Mutex<Box<[u8]>>,
}

impl Watch {
    /// Hears of connections with this gate's mark and of no other, however many the machine has.
    pub(super) fn open(own: Own) -> io::Result<Self> {
        let socket = Socket::open(Groups::Connections)?;
        // Not in a container whose root is nobody outside: there it is as large as `net.core.rmem_max` lets it be.
        set_socket_recv_buffer_size_force(&socket, BUFFER).or_else(|_| set_socket_recv_buffer_size(&socket, BUFFER))?;
        SockRef::from(&socket).attach_filter(&only_of(own))?;
        Ok(Self { own, socket, ear: Mutex::new(vec![0; DATAGRAM].into_boxed_slice()) })
    }

    /// Takes all that was told; `None` where some of it was lost.
    pub(super) fn hear(&self, mut take: impl FnMut(Option<&Sighting>)) {
        let mut buffer = self.ear.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match self.socket.try_receive(&mut buffer) {
                Ok(Some(told)) => messages(told)
                    .filter_map(|message| sighting(&message, |mark| self.own.has(mark)))
                    .for_each(|seen| take(Some(&seen))),
                Err(error) if Errno::from_io_error(&error) == Some(Errno::NOBUFS) => take(None),
                Ok(None) | Err(_) => return,
            }
        }
    }
}

/// Runs until the datapath is gone. A thread of its own: what it hears leads to questions that wait for their answers.
pub(super) fn run(watch: &Watch, shared: &Weak<Shared>) {
    let mut ticked = Instant::now();
    loop {
        if watch.socket.wait(TICK) {
            std::thread::sleep(GATHER);
        }
        let Some(shared) = shared.upgrade() else { return };
        shared.hear();
        let now = Instant::now();
        if now.saturating_duration_since(ticked) >= TICK {
            ticked = now;
            shared.tick(now);
        }
    }
}
