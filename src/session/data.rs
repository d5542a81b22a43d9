//! The data connections of a session: how one is negotiated, waited for, moved, and what is recorded of it.

use std::time::{Duration, Instant};

use super::event::Ending;
use super::mode::{Mode, Modes};
use super::negotiation::{Negotiation, Notations};
use super::pending::Sign;
use super::pinhole::{Carrier, HowEnded, PinholeId};
use super::story::{Absence, Place, Story, Stranger};
use crate::addr::Side;
use crate::ftp::command::Way;
use crate::ftp::redact::{MAX_EXCERPT, excerpt};
use crate::ftp::reply::Code;
use crate::policy::{Limit, Rule};

/// How many data connections a session may have: those that move on after the end of their transfer, and a new one.
pub(super) const MAX_CONNECTIONS: usize = 8;

/// A pinhole that stands, or the connection that came through it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Connection {
    pub(super) id: PinholeId,
    pub(super) modes: Modes,
    pub(super) carrier: Carrier,
    /// When waiting for it ends; `None` once it came.
    pub(super) until: Option<Instant>,
    since: Instant,
    /// How long it waits: for its transfer to be asked for, and then for the connection.
    timeout: Duration,
    /// What the server has sent was written to the client.
    pub(super) delivered: bool,
    /// The server has said that there is none.
    denied: bool,
    places: Places,
}

/// Where the legs of a data connection are to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Places {
    pub(super) client: Place,
    pub(super) server: Place,
    /// The port that we come from when we dial the client, where the rule says which.
    pub(super) source_port: Option<u16>,
}

/// A pinhole that stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stands {
    pub(super) id: PinholeId,
    pub(super) modes: Modes,
    pub(super) carrier: Carrier,
    pub(super) timeout: Duration,
    pub(super) places: Places,
}

/// A transfer that was asked for and has not been recorded.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) id: PinholeId,
    pub(super) way: Way,
    pub(super) modes: Modes,
    pub(super) carrier: Carrier,
    /// The command, as far as a log shows it.
    pub(super) command: Box<[u8]>,
    pub(super) rule: String,
    pub(super) since: Instant,
    pub(super) ending: Ending,
    /// What the client is told where the server says that there was no data connection.
    pub(super) excuse: Option<String>,
}

/// Bytes that all data connections of a session hold at most, but for the names of rules.
pub(super) const MAX_HELD: usize = 2 * MAX_EXCERPT
    + size_of::<(PinholeId, Stranger)>()
    + MAX_CONNECTIONS * (size_of::<Connection>() + size_of::<Running>() + MAX_EXCERPT + Story::MAX_EXCUSE);

/// Everything that a session knows of its data connections.
#[derive(Debug, Default)]
pub(super) struct Data {
    pub(super) last_id: u64,
    pub(super) negotiation: Negotiation,
    pub(super) notations: Notations,
    pub(super) connections: Vec<Connection>,
    /// What the next transfer command will use.
    pub(super) armed: Option<PinholeId>,
    pub(super) running: Vec<Running>,
    /// Who was turned away last, and from which pinhole.
    stranger: Option<Box<(PinholeId, Stranger)>>,
}

impl Data {
    /// Nothing yet, with a server of which this is known.
    pub(super) fn new(notations: Notations) -> Self {
        Self { notations, ..Self::default() }
    }

    /// Bytes on the heap.
    pub(super) fn held(&self) -> usize {
        let text = |running: &Running| running.command.len() + running.excuse.as_ref().map_or(0, String::len);
        let running: usize = self.running.iter().map(|running| size_of::<Running>() + text(running)).sum();
        self.negotiation.held() + self.connections.len() * size_of::<Connection>() + running
    }

    pub(super) fn is_negotiating(&self) -> bool {
        self.negotiation != Negotiation::Settled
    }

    pub(super) fn holds_reply(&self) -> bool {
        self.negotiation.holds_reply()
    }

    pub(super) fn is_busy(&self) -> bool {
        !self.running.is_empty() || self.connections.iter().any(|connection| connection.until.is_none())
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        let waited_for = self.connections.iter().filter_map(|connection| connection.until);
        self.negotiation.deadline().into_iter().chain(waited_for).min()
    }

    /// A pinhole stands.
    pub(super) fn stands(&mut self, now: Instant, stands: Stands) {
        let Stands { id, modes, carrier, timeout, places } = stands;
        self.connections.push(Connection {
            id,
            modes,
            carrier,
            until: Some(now + timeout),
            since: now,
            timeout,
            delivered: false,
            denied: false,
            places,
        });
        let is_known = |id| self.connections.iter().any(|connection| connection.id == id);
        self.stranger = self.stranger.take().filter(|stranger| is_known(stranger.0));
    }

    /// Somebody came to this pinhole who may not.
    pub(super) fn turned_away(&mut self, id: PinholeId, stranger: Stranger) {
        if self.is_known(id) {
            self.stranger = Some(Box::new((id, stranger)));
        }
    }

    /// The story of a connection that did not come about.
    pub(super) fn story(
        &self,
        now: Instant,
        connection: &Connection,
        missing: Side,
        absence: Absence,
        rule: &Rule,
    ) -> Story {
        let running = self.running.iter().find(|running| running.id == connection.id);
        let place = match missing {
            Side::Client => connection.places.client,
            Side::Server => connection.places.server,
        };
        let stranger = self.stranger.as_deref().filter(|(id, _)| *id == connection.id).map(|(_, stranger)| *stranger);
        Story {
            rule: running.map_or(&rule.name, |running| &running.rule).clone(),
            modes: connection.modes,
            missing,
            place,
            absence,
            waited: now.saturating_duration_since(connection.since),
            source_port: connection.places.source_port.filter(|_| missing == Side::Client),
            asked: running.is_some(),
            may_be_passive: connection.modes.client == Mode::Active && rule.inbound.is_some(),
            stranger: stranger.filter(|stranger| place == Place::Ours(stranger.port)),
        }
    }

    /// What the client is told in place of the server's 425 or 426, where it is known why.
    pub(super) fn excuse(&self) -> Option<&str> {
        self.working()?.excuse.as_deref()
    }

    /// The peer came; false where the server has said since that there is no connection.
    pub(super) fn started(&mut self, id: PinholeId) -> bool {
        let Some(connection) = self.connections.iter_mut().find(|connection| connection.id == id) else { return true };
        if !connection.denied {
            connection.until = None;
        }
        !connection.denied
    }

    /// The server says that there is no such connection (425). Whether there is one.
    pub(super) fn deny(&mut self, id: PinholeId) -> bool {
        let Some(connection) = self.connections.iter_mut().find(|connection| connection.id == id) else { return false };
        connection.denied = true;
        connection.until.is_none()
    }

    /// A transfer command came: what was negotiated for it.
    pub(super) fn begin_transfer(&mut self, now: Instant, way: Way, command: &[u8], rule: &str) -> Option<PinholeId> {
        let armed = self.armed.take();
        let connection = self.connections.iter_mut().find(|connection| Some(connection.id) == armed)?;
        connection.denied = false;
        let Connection { id, modes, carrier, .. } = *connection;
        let rule = rule.to_owned();
        self.running.push(Running {
            id,
            way,
            modes,
            carrier,
            command: excerpt(command),
            rule,
            since: now,
            ending: Ending::default(),
            excuse: None,
        });
        Some(id)
    }

    /// The time that a transfer takes to begin counts from its command: a server may have to fetch the file from a tape.
    /// How long its connection is waited for from now on, where that is notably longer than before.
    pub(super) fn prolong(&mut self, now: Instant, id: PinholeId) -> Option<Duration> {
        let connection = self.connections.iter_mut().find(|connection| connection.id == id)?;
        let (until, timeout) = (connection.until.as_mut()?, connection.timeout);
        // Refused transfers, one after the other, do not keep it for ever.
        let new = (now + timeout).min(connection.since + 2 * timeout);
        if new < *until + timeout / 8 {
            return None;
        }
        *until = new;
        Some(new.saturating_duration_since(now))
    }

    /// The server began the transfer that it works at: 1yz.
    pub(super) fn begun(&mut self) {
        if let Some(running) = self.running.iter_mut().find(|running| running.ending.reply.is_none()) {
            running.ending.begun = true;
        }
    }

    /// The transfer that the server works at: the oldest that has no final reply.
    pub(super) fn working(&self) -> Option<&Running> {
        self.running.iter().find(|running| running.ending.reply.is_none())
    }

    /// Whether both legs of this connection are dialled.
    pub(super) fn both_dialled(&self, id: PinholeId) -> bool {
        let both = Modes { client: Mode::Active, server: Mode::Passive };
        self.connections.iter().any(|connection| connection.id == id && connection.modes == both)
    }

    /// The connection of the transfer that the server works at, where both its legs are dialled.
    pub(super) fn dialling(&self) -> Option<PinholeId> {
        self.working().map(|working| working.id).filter(|id| self.both_dialled(*id))
    }

    /// Whether nothing of the transfer that the server works at can have reached the client: a side could not be
    /// connected to, or nobody came in time for what the server may have sent.
    pub(super) fn is_lost(&self) -> bool {
        self.working().is_some_and(|working| {
            let both_passive = working.modes == Modes { client: Mode::Passive, server: Mode::Passive };
            let not_reached = match working.ending.data.map(|data| data.how) {
                Some(HowEnded::NotReached { side: Side::Client, .. }) => true,
                // A server with nothing to list may wait for nobody.
                Some(HowEnded::NotReached { side: Side::Server, .. }) => working.way != Way::Listing,
                Some(HowEnded::Complete | HowEnded::CutBy(_) | HowEnded::Limited(_) | HowEnded::Aborted) | None => {
                    false
                }
            };
            not_reached || working.ending.lost || (working.ending.expired && !both_passive)
        })
    }

    /// The limit by which the transfer was cut that the server works at.
    pub(super) fn limited(&self) -> Option<Limit> {
        match self.working()?.ending.data?.how {
            HowEnded::Limited(limit) => Some(limit),
            HowEnded::Complete | HowEnded::CutBy(_) | HowEnded::NotReached { .. } | HowEnded::Aborted => None,
        }
    }

    /// Whether a transfer was asked for that has not been recorded.
    pub(super) const fn is_running(&self) -> bool {
        !self.running.is_empty()
    }

    /// The client is told that the transfer that the server works at failed, whatever the server says.
    pub(super) fn lose(&mut self) {
        if let Some(working) = self.running.iter_mut().find(|running| running.ending.reply.is_none()) {
            working.ending.lost = true;
        }
    }

    /// Whether the server works at a transfer whose bytes move.
    pub(super) fn is_moving(&self) -> bool {
        let came = |id: PinholeId| self.connections.iter().any(|each| each.id == id && each.until.is_none());
        self.running.iter().any(|running| running.ending.reply.is_none() && came(running.id))
    }

    /// What the data connection of the transfer that the server works at says of whether it may have this final reply.
    pub(super) fn sign_of_end(&self, code: Code) -> Sign {
        let Some(running) = self.working() else { return Sign::None };
        match running.ending.data.map(|data| data.how) {
            _ if code.is_success() => self.sign_of_success(running),
            // No file arrives whole that fails, and a connection that is missing has codes of its own.
            Some(HowEnded::Complete) if running.way != Way::Upload => Sign::None,
            Some(HowEnded::NotReached { .. }) | None => Sign::None,
            Some(HowEnded::Complete | HowEnded::CutBy(_) | HowEnded::Limited(_) | HowEnded::Aborted) => Sign::Strong,
        }
    }

    fn sign_of_success(&self, running: &Running) -> Sign {
        match running.ending.data {
            Some(_) => Sign::Strong,
            None if !self.is_known(running.id) => Sign::Weak,
            None if self.awaits_client() => Sign::Early,
            None => Sign::None,
        }
    }

    /// Whether a new negotiation replaces this connection: nothing will use it, or its transfer ended without it.
    pub(super) fn is_stale(&self, connection: &Connection) -> bool {
        match self.running.iter().find(|running| running.id == connection.id) {
            Some(running) => running.ending.reply.is_some() && connection.until.is_some(),
            None => true,
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.connections.len().max(self.running.len()) >= MAX_CONNECTIONS
    }

    /// Whether this one is waited for on both sides.
    pub(super) fn both_come(&self, id: PinholeId) -> bool {
        let both = Modes { client: Mode::Passive, server: Mode::Active };
        let waits = |connection: &Connection| connection.modes == both && connection.until.is_some();
        self.connections.iter().any(|connection| connection.id == id && waits(connection))
    }

    pub(super) fn forget(&mut self, id: PinholeId) -> Option<Connection> {
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

    pub(super) fn is_known(&self, id: PinholeId) -> bool {
        self.connections.iter().any(|connection| connection.id == id)
    }
}
