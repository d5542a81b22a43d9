//! Limits of one session: how fast it may ask, how often fail to log in, how long do nothing.
//!
//! Before a user has decided which rule holds, the strictest limits of those that may come to hold do.

use std::time::{Duration, Instant};

use super::event::Event;
use super::{CloseReason, Control, Input, Session};
use crate::addr::Side;
use crate::limits::{Bucket, Rate};
use crate::policy::{Limit, Reached, SessionLimits, Whose};

/// What is watched of the client.
#[derive(Debug)]
pub(super) struct Watch {
    /// Since when nobody is logged in.
    login: Instant,
    /// What the client had used of its time to log in before the session began.
    waited: Duration,
    /// When something was last said or moved.
    active: Instant,
    /// Logins that failed since one succeeded.
    failed: u32,
    commands: Bucket,
    /// When it is read again, because it has sent too many.
    held_until: Option<Instant>,
    /// That was told, or would be with the next command that it has sent too early.
    haste: Haste,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Haste {
    None,
    Suspected,
    Told,
}

impl Watch {
    fn new(now: Instant) -> Self {
        Self {
            login: now,
            waited: Duration::ZERO,
            active: now,
            failed: 0,
            commands: Bucket::default(),
            held_until: None,
            haste: Haste::None,
        }
    }
}

impl Session {
    /// Those that hold now.
    fn limits(&self) -> &SessionLimits {
        self.login.limits().unwrap_or(&self.rule.limits.session)
    }

    /// Other limits may hold now.
    pub(super) fn watch_limits(&mut self, now: Instant) {
        if !self.limits().are_watched(self.login.is_in()) {
            self.watch = None;
        } else if self.watch.is_none() {
            self.watch = Some(Box::new(Watch::new(now)));
        }
    }

    /// Whether no more commands are read for now, because there were too many.
    #[must_use]
    pub fn is_held_back(&self) -> bool {
        self.watch.as_ref().is_some_and(|watch| watch.held_until.is_some())
    }

    /// The server has greeted: from now on there is the time to log in, less what the client took to name its server.
    pub(super) fn login_begins(&mut self, now: Instant) {
        let waited = self.watch.as_ref().map_or(Duration::ZERO, |watch| watch.waited);
        self.login_due(now.checked_sub(waited).unwrap_or(now));
    }

    /// The client has used so much of its time to log in before the session began.
    pub(super) fn has_waited(&mut self, waited: Duration) {
        if let Some(watch) = &mut self.watch {
            watch.waited = waited;
        }
    }

    /// The time to log in is counted from this moment.
    pub(super) fn login_due(&mut self, since: Instant) {
        if let Some(watch) = &mut self.watch {
            watch.login = since;
        }
    }

    /// A user was let in, whose limits hold from now on.
    pub(super) fn logged_in(&mut self, now: Instant) {
        self.watch_limits(now);
        if let Some(watch) = &mut self.watch {
            watch.failed = 0;
        }
    }

    /// When a limit of the session has to be looked at.
    pub(super) fn limits_deadline(&self) -> Option<Instant> {
        let held_until = self.watch.as_ref()?.held_until;
        [held_until, self.login_deadline(), self.idle_deadline()].into_iter().flatten().min()
    }

    fn login_deadline(&self) -> Option<Instant> {
        let watch = self.watch.as_ref().filter(|_| self.control == Control::Relaying && !self.login.is_in())?;
        watch.login.checked_add(self.limits().time_to_log_in()?)
    }

    /// No reply is owed and nothing moves: it is the client that does nothing.
    fn idle_deadline(&self) -> Option<Instant> {
        let idle = self.control == Control::Relaying
            && self.pending.is_empty()
            && self.held.is_none()
            && !self.data.is_negotiating()
            && !self.data.is_running();
        let watch = self.watch.as_ref().filter(|_| idle)?;
        watch.active.checked_add(self.limits().idle_timeout?)
    }

    /// The time of a limit has come; whether it ended the session.
    pub(super) fn limits_due(&mut self, now: Instant) -> bool {
        if let Some(watch) = &mut self.watch {
            watch.held_until = watch.held_until.filter(|until| now < *until);
        }
        let is_due = |deadline: Option<Instant>| deadline.is_some_and(|until| until <= now);
        let limit = match (is_due(self.login_deadline()), is_due(self.idle_deadline())) {
            (true, _) => Limit::LoginTimeout,
            (false, true) => Limit::IdleTimeout,
            (false, false) => return false,
        };
        self.end_by(now, limit);
        true
    }

    /// Takes note of what happened, before anything comes of it.
    pub(super) fn count(&mut self, now: Instant, input: &Input) {
        let Some(watch) = &mut self.watch else { return };
        match input {
            Input::ClientLine(_) | Input::BadLine(Side::Client, _) => {
                watch.active = now;
                self.count_line(now);
            }
            Input::ServerLine(_)
            | Input::BadLine(Side::Server, _)
            | Input::PinholeOpened { .. }
            | Input::PinholeFailed { .. }
            | Input::DataStarted(_)
            | Input::DataDelivered(_)
            | Input::DataEnded(..) => watch.active = now,
            Input::PeerClosed(_)
            | Input::PeerLost(_)
            | Input::Decided(_)
            | Input::Limited(_)
            | Input::Drain
            | Input::Stop
            // Somebody else keeps no session alive.
            | Input::Stranger(..)
            | Input::Timeout => {}
        }
    }

    /// The client sent a line. One that sends too many is not read for a while: what it has sent waits on its side, but
    /// for the few lines that were read at once.
    fn count_line(&mut self, now: Instant) {
        let most = self.limits().commands_per_second;
        let Some(watch) = &mut self.watch else { return };
        let Some(most) = most else {
            watch.held_until = None;
            return;
        };
        let rate = Rate::of(most, Duration::from_secs(1));
        // It comes as soon as it may: it has waited for that.
        let is_hasty = watch.haste == Haste::Suspected && watch.commands.may_take(now, rate, 2).is_err();
        let _not_read_earlier = watch.commands.reserve(now, rate, 1);
        let wait = watch.commands.may_take(now, rate, 1).err();
        watch.held_until = wait.and_then(|wait| now.checked_add(wait));
        if watch.haste != Haste::Told {
            watch.haste = match (is_hasty, wait) {
                (true, _) => Haste::Told,
                (false, Some(_)) => Haste::Suspected,
                (false, None) => Haste::None,
            };
        }
        if is_hasty {
            self.tell_reached(Limit::CommandsPerSecond);
        }
    }

    /// The server did not let a user in.
    pub(super) fn count_failed_login(&mut self, now: Instant) {
        let most = self.limits().failed_logins;
        let Some(watch) = &mut self.watch else { return };
        watch.failed = watch.failed.saturating_add(1);
        if most.is_some_and(|most| watch.failed >= most.get()) {
            self.end_by(now, Limit::FailedLogins);
        }
    }

    fn end_by(&mut self, now: Instant, limit: Limit) {
        self.tell_reached(limit);
        self.close_with_421(now, CloseReason::Limit(limit));
    }

    /// Tells the operator of a limit of the rule's.
    pub(super) fn tell_reached(&mut self, limit: Limit) {
        let whose = Whose::Rule(self.rule.name.clone());
        let (value, is_default) = (self.limits().value(limit), self.limits().is_default(limit));
        self.report(Event::Limit(Reached { limit, value, whose, is_default }));
    }
}
