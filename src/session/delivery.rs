//! How the end of a transfer is held back while its bytes are still on their way to the client.

use std::time::{Duration, Instant};

use super::data::{Connection, Data};
use super::mode::Mode;
use super::pinhole::{Carrier, PinholeId};
use super::{Action, Session};
use crate::ftp::command::Way;
use crate::ftp::reply::Code;

/// How long the end of a transfer is held for a data connection that has yet to reach the client.
const HOLD: Duration = Duration::from_secs(2);
/// How long it is held for bytes that are on their way to the client. The datapath gives up sooner where they are not.
const DELIVERY: Duration = Duration::from_secs(60);

impl Data {
    /// What the server has sent was written to the client, or will not be for now.
    pub(super) fn delivered(&mut self, id: PinholeId) {
        if let Some(connection) = self.connections.iter_mut().find(|connection| connection.id == id) {
            connection.delivered = true;
        }
    }

    /// The connection by which the relay may still have bytes for the client, of the transfer that the server works at.
    pub(super) fn delivering(&self) -> Option<PinholeId> {
        let running = self.working().filter(|running| running.way != Way::Upload)?;
        let is_on_its_way = |each: &&Connection| each.id == running.id && each.until.is_none() && !each.delivered;
        let connection = self.connections.iter().find(is_on_its_way)?;
        matches!(connection.carrier, Carrier::Relay(_)).then_some(connection.id)
    }

    /// How long the end of a transfer is held for a connection that has yet to reach the client: a server that has
    /// nothing to send may have made none, but where we dial it will come or fail, or its pinhole expires.
    pub(super) fn hold_until(&self, now: Instant) -> Instant {
        if self.delivering().is_some() {
            return now + DELIVERY;
        }
        let id = self.dialling();
        let dialled = self.connections.iter().find(|connection| Some(connection.id) == id);
        dialled.and_then(|connection| connection.until).map_or(now, |until| until.max(now)) + HOLD
    }

    /// Whether the server may have come to the pinhole of the transfer that it works at, and the client not heard of it.
    pub(super) fn awaits_client(&self) -> bool {
        self.working().is_some_and(|running| {
            let waits = |connection: &Connection| connection.id == running.id && connection.until.is_some();
            (running.modes.server == Mode::Active || running.modes.client == Mode::Active)
                && self.connections.iter().any(waits)
        })
    }
}

impl Session {
    /// Whether the client is to hear of the end of the transfer that the server works at later than now.
    pub(super) fn awaits_end(&self) -> bool {
        // A client that has ended its transfer itself may read no more of it.
        self.data.awaits_client() || (self.data.delivering().is_some() && !self.pending.awaits_abort())
    }

    /// The connection of a transfer has come whose end is held: what it brings is waited for.
    pub(super) fn hold_on(&mut self, now: Instant) {
        if let Some((code, _)) = self.held
            && self.data.delivering().is_some()
        {
            self.hold(now, code);
        }
    }

    /// Holds the reply that has been collected.
    pub(super) fn hold(&mut self, now: Instant, code: Code) {
        self.held = Some((code, self.data.hold_until(now)));
        if let Some(id) = self.data.delivering() {
            self.act(Action::Deliver(id));
        }
    }
}
