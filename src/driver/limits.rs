//! Limits that a session shares with others: where it is counted, and what its transfers keep to.

use std::time::Instant;

use super::Driver;
use crate::limits::{Pacer, Terms};
use crate::policy::Limit;
use crate::session::Event;

impl Driver {
    /// The server did not let the user in: the limit that this reaches for the client's address.
    pub(super) fn login_failed(&mut self) -> Option<Limit> {
        let limits = self.context.orders.borrow().policy.limits;
        let reached = self.presence.place.login_failed(&limits, Instant::now())?;
        let limit = reached.limit;
        self.log.event(&Event::Limit(reached));
        Some(limit)
    }

    /// The session is counted under the rule that holds now, where that is another one: the limit that this reaches.
    pub(super) fn enter(&mut self) -> Option<Limit> {
        let rule = self.session.rule();
        if self.presence.place.is_under(rule) || self.closed.is_some() {
            return None;
        }
        let refused = self.presence.place.enter(rule, Instant::now()).err()?;
        self.log.turned_away(&self.listener.name, &refused);
        Some(refused.reached.limit)
    }

    /// What a new data connection has to keep to, by the limits that hold now.
    pub(super) fn terms(&mut self) -> Terms {
        let gate = self.context.orders.borrow().policy.limits;
        self.presence
            .place
            .terms(&gate, self.session.rule(), Instant::now(), || self.pace.get_or_insert_default().as_ref().clone())
    }

    /// A transfer would go faster. That is told once: it is what the limit is for.
    pub(super) fn held_back(&mut self, limit: Limit, pacer: Pacer, in_a_second: u64) {
        let [up, down] = &mut self.held_back;
        let told = if limit == Limit::Upload { up } else { down };
        if !std::mem::replace(told, true) {
            let reached = pacer.reached(limit, in_a_second, &self.session.rule().name);
            self.log.event(&Event::Limit(reached));
        }
    }
}
