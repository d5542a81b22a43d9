//! What conntrack knows of a connection that this process has made: whether the machine translates its address, and
//! whether an answer has come.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use super::netlink::{Groups, Head, Message, Socket, Writer, find, messages, number, tuple};

const GET: u16 = number::CONNTRACK | 1;
const TUPLE: u16 = 1;
const REPLY: u16 = 2;
const STATUS: u16 = 3;
/// Of the status: a packet has come the other way.
const SEEN_REPLY: u32 = 1 << 1;
const DATAGRAM: usize = 4096;
/// There while the kernel tracks connections; to ask would start it.
const TRACKING: &str = "/proc/sys/net/netfilter";

/// Asks conntrack. Takes `CAP_NET_ADMIN`: without it nothing is known.
#[derive(Debug, Default)]
pub struct Translations(Mutex<Option<Asker>>);

/// What conntrack knows of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tracked {
    /// Where the other end sees it come from.
    pub seen_from: SocketAddr,
    /// Whether anything has come back.
    pub is_answered: bool,
}

#[derive(Debug)]
struct Asker {
    socket: Socket,
    writer: Writer,
    sequence: u32,
    buffer: Box<[u8]>,
}

impl Translations {
    /// Whether conntrack answers this process.
    #[must_use]
    pub fn may_ask(&self) -> bool {
        let nowhere = SocketAddr::from(([192, 0, 2, 0], 0));
        !is_tracking()
            || !matches!(self.ask(nowhere, nowhere), Err(error) if error.kind() == io::ErrorKind::PermissionDenied)
    }

    /// What is known of the connection that this process has made from one address to the other; `None` where that is
    /// nothing.
    #[must_use]
    pub fn look(&self, from: SocketAddr, to: SocketAddr) -> Option<Tracked> {
        if !is_tracking() {
            return None;
        }
        self.ask(from, to).ok().flatten()
    }

    fn ask(&self, from: SocketAddr, to: SocketAddr) -> io::Result<Option<Tracked>> {
        let mut asker = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let result = match &mut *asker {
            Some(asker) => asker.ask(from, to),
            none => none.insert(Asker::open()?).ask(from, to),
        };
        // An answer that is late would be taken for that to the next question's, if it had the same number.
        if result.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock) {
            *asker = None;
        }
        result
    }
}

fn is_tracking() -> bool {
    Path::new(TRACKING).exists()
}

impl Asker {
    fn open() -> io::Result<Self> {
        let buffer = vec![0; DATAGRAM].into_boxed_slice();
        Ok(Self { socket: Socket::open(Groups::None)?, writer: Writer::default(), sequence: 0, buffer })
    }

    fn ask(&mut self, from: SocketAddr, to: SocketAddr) -> io::Result<Option<Tracked>> {
        self.sequence = self.sequence.wrapping_add(1);
        let family = if from.is_ipv4() { number::IPV4 } else { number::IPV6 };
        self.writer.clear();
        let head = Head { kind: GET, flags: number::ACK, sequence: self.sequence, family, resource: 0 };
        self.writer.message(head, |w| w.nest(TUPLE, |w| tuple::write(w, from, to)));
        self.socket.send(self.writer.as_bytes())?;
        let mut tracked = None;
        loop {
            let answers = self.socket.receive(&mut self.buffer)?;
            for answer in messages(answers).filter(|answer| answer.sequence == self.sequence) {
                match answer.kind {
                    number::ERROR if answer.error() == libc::ENOENT => return Ok(None),
                    number::ERROR if answer.error() != 0 => return Err(io::Error::from_raw_os_error(answer.error())),
                    number::ERROR => return Ok(tracked),
                    _ => tracked = tracked.or_else(|| read(&answer)),
                }
            }
        }
    }
}

fn read(message: &Message<'_>) -> Option<Tracked> {
    let attributes = message.body.get(4..)?;
    let (_, seen_from) = tuple::read(find(attributes, &[REPLY])?, message.family())?;
    let status = u32::from_be_bytes(*find(attributes, &[STATUS])?.first_chunk()?);
    Some(Tracked { seen_from, is_answered: status & SEEN_REPLY != 0 })
}
