//! The data connections of a session: how one is negotiated, waited for, moved, and what is recorded of it.

use std::time::{Duration, Instant};

use super::event::{Ending, Event, Mode, Transfer};
use super::pending::Expected;
use super::pinhole::{Carrier, DataEnd, HowEnded, Leg, Pinhole, PinholeId};
use super::refusal::Refusal;
use super::{Action, Control, Session};
use crate::addr::Side;
use crate::ftp::command::Way;
use crate::ftp::reply::Code;

/// How long a server has to answer PASV or PORT: the client is not read meanwhile.
const ANSWER: Duration = Duration::from_secs(60);

/// What the client asked for, and so what it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Offer {
    Pasv,
    Epsv,
}

/// The line that waits for its pinhole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Held {
    /// The server's 227 or 229.
    Reply { offer: Offer, said: Vec<u8> },
    /// The client's PORT, or EPRT where `extended`.
    Request { extended: bool, said: Vec<u8> },
}

/// Where the talk about the next data connection stands.
///
///   Settled --PASV--> Asked --227--> Opening --opened--> Settled   (the 227 goes out)
///   Settled --PORT--> Opening --opened--> Offered --200--> Settled (the PORT goes out)
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Negotiation {
    #[default]
    Settled,
    Asked {
        offer: Offer,
        until: Instant,
    },
    Opening {
        id: PinholeId,
        mode: Mode,
        held: Held,
    },
    Offered {
        until: Instant,
    },
}

/// A pinhole that stands, or the connection that came through it.
#[derive(Clone, Copy, Debug)]
struct Connection {
    id: PinholeId,
    mode: Mode,
    carrier: Carrier,
    /// Until when it is waited for; `None` once it came.
    until: Option<Instant>,
    timeout: Duration,
}

/// A transfer that was asked for and has not been recorded.
#[derive(Debug)]
struct Running {
    id: PinholeId,
    way: Way,
    mode: Mode,
    carrier: Carrier,
    command: String,
    rule: String,
    since: Instant,
    ending: Ending,
}

/// What becomes of the transfers that run when the control connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moving {
    /// They end.
    Ends,
    /// They end, but for what the server has called done: its last bytes may still be on their way.
    EndsUnlessAnswered,
    /// They go on to their end.
    GoesOn,
}

/// Everything that a session knows of its data connections.
#[derive(Debug, Default)]
pub(super) struct Data {
    last_id: u64,
    negotiation: Negotiation,
    connections: Vec<Connection>,
    /// What the next transfer command will use.
    armed: Option<PinholeId>,
    running: Vec<Running>,
}

impl Data {
    pub(super) fn is_negotiating(&self) -> bool {
        self.negotiation != Negotiation::Settled
    }

    pub(super) fn holds_reply(&self) -> bool {
        matches!(self.negotiation, Negotiation::Opening { held: Held::Reply { .. }, .. })
    }

    pub(super) fn is_busy(&self) -> bool {
        !self.running.is_empty() || self.connections.iter().any(|connection| connection.until.is_none())
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        let asked = match self.negotiation {
            Negotiation::Asked { until, .. } | Negotiation::Offered { until } => Some(until),
            Negotiation::Settled | Negotiation::Opening { .. } => None,
        };
        asked.into_iter().chain(self.connections.iter().filter_map(|connection| connection.until)).min()
    }

    pub(super) fn asked(&mut self, now: Instant, offer: Offer) {
        self.negotiation = Negotiation::Asked { offer, until: now + ANSWER };
    }

    pub(super) fn settled(&mut self) {
        self.negotiation = Negotiation::Settled;
    }

    pub(super) fn offer(&self) -> Option<Offer> {
        match self.negotiation {
            Negotiation::Asked { offer, .. } => Some(offer),
            Negotiation::Settled | Negotiation::Opening { .. } | Negotiation::Offered { .. } => None,
        }
    }

    /// The peer came.
    pub(super) fn started(&mut self, id: PinholeId) {
        if let Some(connection) = self.connections.iter_mut().find(|connection| connection.id == id) {
            connection.until = None;
        }
    }

    /// A transfer command came; false where nothing was negotiated for it.
    pub(super) fn begin_transfer(&mut self, now: Instant, way: Way, command: String, rule: &str) -> bool {
        let armed = self.armed.take();
        let Some(connection) = self.connections.iter().find(|connection| Some(connection.id) == armed) else {
            return false;
        };
        let Connection { id, mode, carrier, .. } = *connection;
        let rule = rule.to_owned();
        self.running.push(Running { id, way, mode, carrier, command, rule, since: now, ending: Ending::default() });
        true
    }

    /// The server began the transfer that it works at: 1yz.
    pub(super) fn begun(&mut self) {
        if let Some(running) = self.running.iter_mut().find(|running| running.ending.reply.is_none()) {
            running.ending.begun = true;
        }
    }

    /// Whether the server may have come to the pinhole of the transfer that it works at, and the client not heard of it.
    pub(super) fn awaits_server(&self) -> bool {
        let working = self.running.iter().find(|running| running.ending.reply.is_none());
        working.is_some_and(|running| {
            let waits = |connection: &Connection| connection.id == running.id && connection.until.is_some();
            running.mode == Mode::Active && self.connections.iter().any(waits)
        })
    }

    pub(super) fn left_by(&mut self, side: Side) {
        self.running.iter_mut().for_each(|running| running.ending.left = Some(side));
    }

    fn forget(&mut self, id: PinholeId) -> Option<Connection> {
        if self.armed == Some(id) {
            self.armed = None;
        }
        let index = self.connections.iter().position(|connection| connection.id == id)?;
        let connection = self.connections.swap_remove(index);
        if self.connections.is_empty() {
            // An idle session holds no buffer.
            self.connections = Vec::new();
        }
        Some(connection)
    }

    fn is_known(&self, id: PinholeId) -> bool {
        self.connections.iter().any(|connection| connection.id == id)
    }
}

impl Session {
    pub(super) fn open_pinhole(&mut self, mode: Mode, client: Leg, server: Leg, held: Held) {
        self.data.last_id += 1;
        let id = PinholeId(self.data.last_id);
        self.data.negotiation = Negotiation::Opening { id, mode, held };
        let (datapath, timeout) = (self.rule.datapath, self.rule.pinhole_timeout);
        self.act(Action::OpenPinhole(Pinhole { id, client, server, datapath, timeout }));
    }

    pub(super) fn pinhole_opened(
        &mut self,
        now: Instant,
        id: PinholeId,
        [client_port, server_port]: [Option<u16>; 2],
        carrier: Carrier,
    ) {
        let Some((mode, held)) = self.take_held(id) else { return self.close_pinhole(id) };
        let timeout = self.rule.pinhole_timeout;
        let connection = Connection { id, mode, carrier, until: Some(now + timeout), timeout };
        match (held, client_port, server_port) {
            (Held::Reply { offer, said }, Some(port), _) => {
                self.data.connections.push(connection);
                self.data.armed = Some(id);
                self.announce_to_client(port, offer, &said);
            }
            (Held::Request { extended, said }, _, Some(port)) => {
                self.data.connections.push(connection);
                self.data.negotiation = Negotiation::Offered { until: now + ANSWER };
                self.pending.push(Expected::Active(id));
                self.announce_to_server(port, extended, &said);
            }
            (held, None, _) | (held @ Held::Request { .. }, _, None) => {
                self.close_pinhole(id);
                self.refuse_held(Refusal::System(std::io::ErrorKind::Other), &held);
            }
        }
    }

    pub(super) fn pinhole_failed(&mut self, id: PinholeId, refusal: Refusal) {
        if let Some((_, held)) = self.take_held(id) {
            self.refuse_held(refusal, &held);
        }
    }

    fn take_held(&mut self, id: PinholeId) -> Option<(Mode, Held)> {
        if !matches!(self.data.negotiation, Negotiation::Opening { id: opening, .. } if opening == id) {
            return None;
        }
        match std::mem::take(&mut self.data.negotiation) {
            Negotiation::Opening { mode, held, .. } => Some((mode, held)),
            Negotiation::Settled | Negotiation::Asked { .. } | Negotiation::Offered { .. } => None,
        }
    }

    fn refuse_held(&mut self, refusal: Refusal, held: &Held) {
        match held {
            Held::Reply { said, .. } => self.refuse_passive(refusal, said),
            Held::Request { said, .. } => self.refuse(refusal, said),
        }
    }

    /// The server answered PORT or EPRT.
    pub(super) fn offer_answered(&mut self, id: PinholeId, accepted: bool) {
        self.data.settled();
        if accepted && self.data.is_known(id) {
            self.data.armed = Some(id);
        } else if self.data.forget(id).is_some() {
            self.close_pinhole(id);
        }
    }

    /// The server sent the final reply to the oldest transfer that has none.
    pub(super) fn transfer_answered(&mut self, now: Instant, code: Code) {
        let Some(index) = self.data.running.iter().position(|running| running.ending.reply.is_none()) else { return };
        let Some(running) = self.data.running.get_mut(index) else { return };
        running.ending.reply = Some((code.number(), code.is_success()));
        let refused = !code.is_success() && !running.ending.begun;
        let id = running.id;
        if refused && self.data.is_known(id) && self.data.armed.is_none() {
            // It moved nothing, so what was negotiated still stands for another try.
            self.data.armed = Some(id);
        }
        if refused || !self.data.is_known(id) {
            self.record(now, index);
        }
    }

    pub(super) fn data_ended(&mut self, now: Instant, id: PinholeId, end: DataEnd) {
        self.data.forget(id);
        if let HowEnded::NotReached { side, error } = end.how {
            self.report(Event::NotReached { side, error });
        }
        let closed = self.control == Control::Closed;
        if let Some(index) = self.data.running.iter().position(|running| running.id == id)
            && let Some(running) = self.data.running.get_mut(index)
        {
            running.ending.data = Some(end);
            if running.ending.reply.is_some() || closed {
                self.record(now, index);
            }
        }
        self.end_if_drained(now);
    }

    /// A new negotiation replaces what was negotiated before and not used.
    pub(super) fn close_waiting(&mut self, now: Instant) {
        let waiting: Vec<PinholeId> = self
            .data
            .connections
            .iter()
            .filter(|connection| connection.until.is_some())
            .map(|connection| connection.id)
            .collect();
        for id in waiting {
            self.data.forget(id);
            self.close_pinhole(id);
            let answered = |running: &Running| running.id == id && running.ending.reply.is_some();
            if let Some(index) = self.data.running.iter().position(answered) {
                self.record(now, index);
            }
        }
    }

    pub(super) fn expire_pinholes(&mut self, now: Instant) {
        if let Negotiation::Asked { until, .. } | Negotiation::Offered { until } = self.data.negotiation
            && until <= now
        {
            return self.close_with_421(now, super::CloseReason::ServerSilent);
        }
        let due = |connection: &&Connection| connection.until.is_some_and(|until| until <= now);
        while let Some(connection) = self.data.connections.iter().find(due).copied() {
            self.data.forget(connection.id);
            self.close_pinhole(connection.id);
            let missing = match connection.mode {
                Mode::Passive => Side::Client,
                Mode::Active => Side::Server,
            };
            self.report(Event::PinholeExpired { missing, after: connection.timeout });
            if let Some(index) = self.data.running.iter().position(|running| running.id == connection.id)
                && let Some(running) = self.data.running.get_mut(index)
            {
                running.ending.expired = true;
                if running.ending.reply.is_some() {
                    self.record(now, index);
                }
            }
        }
        self.end_if_drained(now);
    }

    /// The control connection is over. What is waited for is closed.
    pub(super) fn end_data(&mut self, now: Instant, moving: Moving) {
        self.close_waiting(now);
        let ends = |id: PinholeId| match moving {
            Moving::Ends => true,
            Moving::EndsUnlessAnswered => {
                !self.data.running.iter().any(|running| running.id == id && running.ending.reply.is_some())
            }
            Moving::GoesOn => false,
        };
        let moving = self.data.connections.iter().map(|connection| connection.id);
        let ending: Vec<PinholeId> = moving.filter(|id| ends(*id)).collect();
        ending.into_iter().for_each(|id| self.close_pinhole(id));
        let gone = |data: &Data| data.running.iter().position(|running| !data.is_known(running.id));
        while let Some(index) = gone(&self.data) {
            self.record(now, index);
        }
    }

    fn record(&mut self, now: Instant, index: usize) {
        let Running { way, mode, carrier, command, rule, since, ending, .. } = self.data.running.remove(index);
        let bytes = ending.data.map_or(0, |end| match way {
            Way::Upload => end.to_server,
            Way::Download | Way::Listing => end.to_client,
        });
        let took = now.saturating_duration_since(since);
        let outcome = ending.outcome();
        self.act(Action::Report(Event::Transferred(Transfer {
            way,
            mode,
            carrier,
            command,
            rule,
            bytes,
            took,
            outcome,
        })));
    }
}
