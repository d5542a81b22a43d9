//! What the session does with its data connections: from the transfer command to the line in the log.

use std::time::Instant;

use super::data::{Connection, Running};
use super::event::{Event, Transfer};
use super::mode::Mode;
use super::pinhole::{DataEnd, HowEnded, PinholeId};
use super::story::{Absence, Story};
use super::{Action, Control, Session};
use crate::addr::Side;
use crate::ftp::command::Way;
use crate::ftp::redact::loggable;
use crate::ftp::reply::Code;

impl Session {
    /// A transfer command came; false where nothing was negotiated for it.
    pub(super) fn begin_transfer(&mut self, now: Instant, way: Way, command: &[u8]) -> bool {
        let Some(id) = self.data.begin_transfer(now, way, command, &self.rule.name) else { return false };
        if let Some(left) = self.data.prolong(now, id) {
            self.act(Action::Prolong(id, left));
        }
        if self.data.both_dialled(id) {
            // Most servers begin only when they are connected to. The client is dialled when there is something for it.
            self.act(Action::Dial(id, Side::Server));
        }
        true
    }

    /// The server has begun, or is done already.
    pub(super) fn dial_client(&mut self) {
        if let Some(id) = self.data.dialling() {
            self.act(Action::Dial(id, Side::Client));
        }
    }

    /// The server sent the final reply to the oldest transfer that has none.
    pub(super) fn transfer_answered(&mut self, now: Instant, code: Code) {
        let Some(index) = self.data.running.iter().position(|running| running.ending.reply.is_none()) else { return };
        let Some(running) = self.data.running.get_mut(index) else { return };
        running.ending.reply = Some((code.number(), code.is_success()));
        let refused = !code.is_success() && !running.ending.begun;
        let id = running.id;
        if code.number() == 425 && self.data.deny(id) {
            // It stands here, and not at the server: that has closed its port at the moment in which we came, and its
            // kernel may have forgotten us without a word.
            self.data.forget(id);
            self.close_pinhole(id);
        } else if refused && self.data.is_known(id) && self.data.armed.is_none() {
            // It moved nothing, so what was negotiated still stands for another try.
            self.data.armed = Some(id);
        }
        if refused || !self.data.is_known(id) {
            self.record(now, index);
        } else if code.is_success() && self.data.both_come(id) {
            self.act(Action::Finish(id));
        }
    }

    /// The server has forgotten the transfer that it worked at: the client aborted it, and no final reply will come.
    pub(super) fn transfer_forgotten(&mut self, now: Instant) {
        let Some(index) = self.data.running.iter().position(|running| running.ending.reply.is_none()) else { return };
        let Some(running) = self.data.running.get_mut(index) else { return };
        running.ending.left = Some(Side::Client);
        let id = running.id;
        if self.data.forget(id).is_some() {
            self.close_pinhole(id);
        }
        self.record(now, index);
    }

    pub(super) fn data_ended(&mut self, now: Instant, id: PinholeId, end: DataEnd) {
        let connection = self.data.forget(id);
        if let HowEnded::NotReached { side, error } = end.how
            && let Some(connection) = connection
        {
            let story = self.data.story(now, &connection, side, Absence::of(error), &self.rule);
            self.excuse(id, &story);
            self.report(Event::NotReached(Box::new(story)));
        }
        if let HowEnded::Limited(limit) = end.how {
            self.tell_reached(limit);
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

    fn excuse(&mut self, id: PinholeId, story: &Story) {
        if let Some(running) = self.data.running.iter_mut().find(|running| running.id == id) {
            running.excuse = Some(story.excuse());
        }
    }

    /// A new negotiation replaces what was negotiated before and is used by no transfer, but for `new` itself.
    pub(super) fn close_stale(&mut self, now: Instant, new: Option<PinholeId>) {
        let data = &self.data;
        let stale = data.connections.iter().filter(|each| Some(each.id) != new && data.is_stale(each));
        let stale: Vec<PinholeId> = stale.map(|connection| connection.id).collect();
        self.close_all(now, stale);
    }

    pub(super) fn close_all(&mut self, now: Instant, ids: Vec<PinholeId>) {
        for id in ids {
            let waits = |connection: Connection| connection.until.is_some();
            let waited = self.data.forget(id).is_some_and(waits);
            self.close_pinhole(id);
            let answered = |running: &Running| running.id == id && running.ending.reply.is_some();
            if let Some(index) = self.data.running.iter().position(answered).filter(|_| waited) {
                self.record(now, index);
            }
        }
    }

    pub(super) fn expire_pinholes(&mut self, now: Instant) {
        let due = |connection: &&Connection| connection.until.is_some_and(|until| until <= now);
        while let Some(connection) = self.data.connections.iter().find(due).copied() {
            self.data.forget(connection.id);
            self.close_pinhole(connection.id);
            let missing = match connection.modes.client {
                Mode::Passive => Side::Client,
                Mode::Active => Side::Server,
            };
            let story = self.data.story(now, &connection, missing, Absence::NeverCame, &self.rule);
            self.excuse(connection.id, &story);
            self.report(Event::PinholeExpired(Box::new(story)));
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

    pub(super) fn record(&mut self, now: Instant, index: usize) {
        let Running { way, modes, carrier, command, rule, since, ending, .. } = self.data.running.remove(index);
        let bytes = ending.data.map_or(0, |end| match way {
            Way::Upload => end.to_server,
            Way::Download | Way::Listing => end.to_client,
        });
        let is_estimate = ending.data.is_some_and(|end| end.is_estimate);
        let took = now.saturating_duration_since(since);
        let outcome = ending.outcome(way);
        self.act(Action::Report(Event::Transferred(Transfer {
            way,
            modes,
            carrier,
            command: loggable(&command),
            rule,
            bytes,
            is_estimate,
            took,
            outcome,
        })));
    }
}
