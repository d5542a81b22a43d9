//! Connections as conntrack tells of them (linux/netfilter/nfnetlink_conntrack.h), and what we ask of it.

use std::io;
use std::net::SocketAddr;

use super::count::{Counter, Counters, Notes};
use super::element::Entrance;
use super::family::Family;
use super::mark::{self, Mark, Own};
use crate::net::netlink::{Groups, Head, Message, Socket, Writer, find, messages, number, tuple};

const NEW: u16 = number::CONNTRACK;
const GET: u16 = number::CONNTRACK | 1;
const DELETE: u16 = number::CONNTRACK | 2;

const TUPLE: u16 = 1;
const REPLY: u16 = 2;
const PROTOCOL_STATE: u16 = 4;
const TIMEOUT: u16 = 7;
const MARK: u16 = 8;
const COUNTERS: [u16; 2] = [9, 10];
const ID: u16 = 12;
const MARK_MASK: u16 = 21;
const LABELS: u16 = 22;

/// Room for one datagram of the kernel's.
pub(super) const DATAGRAM: usize = 32 * 1024;

/// A connection's first packet, before any translation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Flow {
    /// Who came.
    pub(super) from: SocketAddr,
    /// And where to.
    pub(super) at: SocketAddr,
}

impl Flow {
    pub(super) const fn entrance(&self) -> Entrance {
        Entrance { from: self.from.ip(), at: self.at }
    }
}

/// How far a TCP connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum TcpState {
    /// The first packet was seen.
    SynSent,
    /// It was answered.
    SynReceived,
    /// The handshake is complete.
    Open,
    /// One side has said all.
    Closing,
    /// Both sides have, and have heard so.
    TimeWait,
    /// It was reset.
    Reset,
}

/// What conntrack tells of one of our connections.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sighting {
    pub(super) flow: Flow,
    /// Tells it from another one at the same place; unknown where it was not seen.
    pub(super) id: Option<u32>,
    /// Where it is led.
    pub(super) to: Option<SocketAddr>,
    pub(super) mark: Mark,
    /// `None` where this did not change.
    pub(super) state: Option<TcpState>,
    /// It is forgotten now.
    pub(super) is_gone: bool,
    /// `None` where they did not change.
    pub(super) notes: Option<Notes>,
    /// Both have closed, and who closed first has not been heard to do so.
    pub(super) closed_at_once: bool,
    pub(super) counters: Option<Counters>,
}

impl Sighting {
    /// Nothing can come of the connection any more.
    pub(super) fn is_over(&self) -> bool {
        self.mark.has(Mark::CUT) || matches!(self.state, Some(TcpState::TimeWait | TcpState::Reset))
    }

    /// A connection that is not there any more, and was not seen to go; it may have used its pinhole unseen, too.
    pub(super) const fn of_the_gone(flow: Flow, has_used: bool) -> Self {
        Self {
            flow,
            id: None,
            to: None,
            mark: Mark(if has_used { mark::OURS } else { mark::OURS | Mark::HALF_OPEN }),
            state: None,
            is_gone: true,
            notes: None,
            closed_at_once: false,
            counters: None,
        }
    }
}

/// Reads what the kernel tells; `None` for what is not about TCP connections with such a mark.
pub(super) fn sighting(message: &Message<'_>, is_ours: impl Fn(u32) -> bool) -> Option<Sighting> {
    if message.kind != NEW && message.kind != DELETE {
        return None;
    }
    let attributes = message.body.get(4..)?;
    let mark = u32::from_be_bytes(*find(attributes, &[MARK])?.first_chunk()?);
    if !is_ours(mark) {
        return None;
    }
    let flow = read_flow(find(attributes, &[TUPLE])?, message.family())?;
    let tcp = find(attributes, &[PROTOCOL_STATE, 1]);
    let state = tcp.and_then(|tcp| find(tcp, &[1])).and_then(<[u8]>::first).and_then(|state| read_state(*state));
    let flags = read_flags(tcp.unwrap_or_default());
    let notes = find(attributes, &[LABELS]).map(read_notes);
    let closed_at_once = notes.is_some_and(|notes| notes.both_have_ended())
        && flags.iter().any(|flags| flags & (CLOSED_FIRST | UNHEARD) == CLOSED_FIRST | UNHEARD);
    let reply = find(attributes, &[REPLY]).and_then(|reply| read_flow(reply, message.family()));
    Some(Sighting {
        flow,
        id: find(attributes, &[ID]).and_then(|id| id.first_chunk()).map(|id| u32::from_be_bytes(*id)),
        to: reply.map(|reply| reply.from),
        mark: Mark(mark),
        state,
        is_gone: message.kind == DELETE,
        notes,
        closed_at_once,
        counters: read_counters(attributes).map(|seen| Counters {
            family: Family::of(flow.at.ip()),
            seen,
            notes: notes.unwrap_or_default(),
            closed_first: flags.map(|flags| flags & CLOSED_FIRST != 0),
            closed_at_once,
        }),
    })
}

const fn read_state(state: u8) -> Option<TcpState> {
    match state {
        1 | 9 => Some(TcpState::SynSent),
        2 => Some(TcpState::SynReceived),
        3 => Some(TcpState::Open),
        4..=6 => Some(TcpState::Closing),
        7 => Some(TcpState::TimeWait),
        8 => Some(TcpState::Reset),
        _ => None,
    }
}

fn read_flow(tuple: &[u8], family: u8) -> Option<Flow> {
    tuple::read(tuple, family).map(|(from, at)| Flow { from, at })
}

/// Of the flags of a side: it has closed first.
const CLOSED_FIRST: u8 = 0x04;
/// The other has not acknowledged the last that it said.
const UNHEARD: u8 = 0x10;

fn read_flags(tcp: &[u8]) -> [u8; 2] {
    [4, 5].map(|kind| find(tcp, &[kind]).and_then(|flags| flags.first().copied()).unwrap_or(0))
}

fn read_notes(labels: &[u8]) -> Notes {
    let mut words = labels.chunks_exact(4).map(|word| word.try_into().map_or(0, u32::from_be_bytes));
    Notes(std::array::from_fn(|_| words.next().unwrap_or(0)))
}

fn read_counters(attributes: &[u8]) -> Option<[Counter; 2]> {
    let counter = |kind| {
        let number = |part| Some(u64::from_be_bytes(find(attributes, &[kind, part])?.try_into().ok()?));
        Some(Counter { packets: number(1)?, bytes: number(2)? })
    };
    Some([counter(COUNTERS[0])?, counter(COUNTERS[1])?])
}

/// Whose connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    Own,
    Every,
}

/// Asks conntrack, and tells it.
#[derive(Debug)]
pub(super) struct Conntrack {
    own: Own,
    socket: Socket,
    writer: Writer,
    sequence: u32,
    buffer: Box<[u8]>,
}

impl Conntrack {
    pub(super) fn open(own: Own) -> io::Result<Self> {
        let socket = Socket::open(Groups::None)?;
        let buffer = vec![0; DATAGRAM].into_boxed_slice();
        Ok(Self { own, socket, writer: Writer::default(), sequence: 0, buffer })
    }

    /// What is known of one connection.
    pub(super) fn look(&mut self, flow: &Flow) -> io::Result<Option<Sighting>> {
        self.look_for(flow, Whose::Own)
    }

    fn look_for(&mut self, flow: &Flow, whose: Whose) -> io::Result<Option<Sighting>> {
        let (mark, mask) = self.marks(whose);
        let mut seen = None;
        let mut hear = |message: &Message<'_>| seen = seen.or_else(|| sighting(message, |found| found & mask == mark));
        self.ask(GET, number::ACK, flow, |_| (), &mut hear)?;
        Ok(seen)
    }

    /// Makes room for a connection between these two, where conntrack remembers an earlier one that is over or about to
    /// be: it drops the first packet of another one with the same addresses and ports.
    pub(super) fn make_room(&mut self, between: &Flow) -> io::Result<()> {
        match self.look_for(between, Whose::Every)? {
            Some(earlier) if earlier.is_over() || earlier.state == Some(TcpState::Closing) => {
                self.delete(&earlier.flow, earlier.id)
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Forgets a connection if it is as expected: meanwhile another one may have its place.
    pub(super) fn forget_if(&mut self, flow: &Flow, is_expected: impl FnOnce(&Sighting) -> bool) -> io::Result<()> {
        match self.look(flow)? {
            Some(known) if is_expected(&known) => self.delete(flow, known.id),
            Some(_) | None => Ok(()),
        }
    }

    /// All connections of this gate, or of every gate.
    pub(super) fn look_at_all(&mut self, whose: Whose) -> io::Result<Vec<Sighting>> {
        let mut seen = Vec::new();
        let (mark, mask) = self.marks(whose);
        let marked = |w: &mut Writer| {
            w.u32(MARK, mark);
            w.u32(MARK_MASK, mask);
        };
        let sequence = self.send(GET, number::DUMP, number::UNSPECIFIED, marked)?;
        self.answers(sequence, |message| seen.extend(sighting(message, |found| found & mask == mark)))?;
        Ok(seen)
    }

    /// Has our table end a connection, even one that another gate has left behind.
    pub(super) fn cut(&mut self, flow: &Flow) -> io::Result<()> {
        let cut = self.own.mark() | Mark::CUT;
        let mark = |w: &mut Writer| {
            w.u32(MARK, cut);
            w.u32(MARK_MASK, mark::OWN_MASK | Mark::CUT);
        };
        self.ask(NEW, number::ACK, flow, mark, |_| ())
    }

    /// Has a connection remembered for so long from now on; its next packet changes that.
    pub(super) fn keep(&mut self, flow: &Flow, seconds: u32) -> io::Result<()> {
        self.ask(NEW, number::ACK, flow, |w| w.u32(TIMEOUT, seconds), |_| ())
    }

    /// Forgets a connection: this one where its id is known, and not another one that has taken its place.
    pub(super) fn delete(&mut self, flow: &Flow, id: Option<u32>) -> io::Result<()> {
        self.ask(DELETE, number::ACK, flow, |w| id.into_iter().for_each(|id| w.u32(ID, id)), |_| ())
    }

    /// Their mark, with the mask for it.
    const fn marks(&self, whose: Whose) -> (u32, u32) {
        match whose {
            Whose::Own => (self.own.mark(), mark::OWN_MASK),
            Whose::Every => (mark::OURS, mark::MASK),
        }
    }

    fn ask(
        &mut self,
        kind: u16,
        flags: u16,
        flow: &Flow,
        more: impl FnOnce(&mut Writer),
        heard: impl FnMut(&Message<'_>),
    ) -> io::Result<()> {
        let family = Family::of(flow.at.ip()).number();
        let sequence = self.send(kind, flags, family, |w| {
            w.nest(TUPLE, |w| tuple::write(w, flow.from, flow.at));
            more(w);
        })?;
        self.answers(sequence, heard)
    }

    fn send(&mut self, kind: u16, flags: u16, family: u8, fill: impl FnOnce(&mut Writer)) -> io::Result<u32> {
        self.sequence = self.sequence.wrapping_add(1);
        self.writer.clear();
        self.writer.message(Head { kind, flags, sequence: self.sequence, family, resource: 0 }, fill);
        self.socket.send(self.writer.as_bytes())?;
        Ok(self.sequence)
    }

    fn answers(&mut self, sequence: u32, mut heard: impl FnMut(&Message<'_>)) -> io::Result<()> {
        loop {
            let answers = self.socket.receive(&mut self.buffer)?;
            for answer in messages(answers).filter(|answer| answer.sequence == sequence) {
                match answer.kind {
                    number::ERROR if answer.error() != 0 => return Err(io::Error::from_raw_os_error(answer.error())),
                    number::ERROR | number::DONE => return Ok(()),
                    _ => heard(&answer),
                }
            }
        }
    }
}
