//! Commands that have no answer to come: an ABOR that shares its transfer's reply, a transfer that the server has forgotten
//! with its ABOR, a NOOP that it has thrown away.

use std::time::{Duration, Instant};

use super::{Expected, Habits, Pending};

/// How long after the end of its transfer an ABOR can still have an answer of its own, where more was asked since.
const ABORT: Duration = Duration::from_secs(2);
/// The same for a NOOP that was sent in the middle of a transfer. An answer that comes later is still known for what it is.
const KEEP_ALIVE: Duration = Duration::from_secs(2);
/// The same where the server has told of the transfer's end by a 1yz reply, as Pure-FTPd does.
const ABORT_TOLD: Duration = Duration::from_millis(500);

impl Pending {
    /// Whether the transfer at the front is to be aborted, and nothing that waits was asked in between.
    pub(super) fn is_aborted(&self) -> bool {
        matches!(self.queue.front(), Some(Expected::Transfer { .. })) && self.queue.get(1) == Some(&Expected::Abort)
    }

    /// Whether the transfer at the front and its ABOR have no answer to come: the server has answered what was asked after
    /// them.
    pub(in crate::session) fn is_past_transfer(&self, index: usize, over: bool) -> bool {
        over && index > 1 && self.is_aborted()
    }

    /// Drops what is at the front and has no answer to come: ABORs that shared the reply before, a transfer with its ABORs
    /// that the server has forgotten, and the command whose answer was taken for that of an ABOR. Tells of the one that was
    /// no ABOR.
    pub(in crate::session) fn pass_over(&mut self, now: Instant) -> Option<Expected> {
        let mut passed = None;
        let may_have_none = self.queue.front().is_some_and(Expected::may_have_none);
        let is_leftover = !may_have_none && std::mem::take(&mut self.unsure);
        if is_leftover || self.is_aborted() {
            passed = self.queue.pop_front();
            self.count_passed(passed.as_ref());
        }
        self.drop_front(|expected| *expected == Expected::Abort);
        self.told_twice = false;
        self.changed(now);
        passed
    }

    /// Drops the NOOPs at the front: they were thrown away.
    pub(in crate::session) fn pass_noops(&mut self, now: Instant) {
        self.drop_front(Expected::is_noop);
        self.changed(now);
    }

    /// The same as [`Self::pass_over`] where time tells so: a NOOP that was thrown away in the middle of a transfer has no answer to come either.
    pub(in crate::session) fn give_up(&mut self, now: Instant) -> Option<Expected> {
        let passed = self.pass_over(now);
        self.drop_front(Expected::may_have_none);
        self.changed(now);
        passed
    }

    fn drop_front(&mut self, has_none: impl Fn(&Expected) -> bool) {
        while self.queue.front().is_some_and(&has_none) {
            let passed = self.queue.pop_front();
            self.count_passed(passed.as_ref());
        }
    }

    fn count_passed(&mut self, passed: Option<&Expected>) {
        self.passed_over = self.passed_over.saturating_add(1);
        if passed.is_some_and(|expected| expected.fits(200)) {
            self.habits.set(Habits::PASSED_NOOP, true);
        }
    }

    /// Whether the command at the front may have had its answer.
    pub(super) fn is_leftover(&self) -> bool {
        let plain = |first: &Expected| match first {
            Expected::Plain { .. }
            | Expected::Login(_)
            | Expected::Moved
            | Expected::LoggedOut
            | Expected::Status
            | Expected::Features => true,
            Expected::Greeting
            | Expected::Directory
            | Expected::Passive
            | Expected::Active(_)
            | Expected::Transfer { .. }
            | Expected::Abort
            | Expected::EpsvAll
            | Expected::Quit
            | Expected::Ours(_) => false,
        };
        self.unsure && self.queue.front().is_some_and(plain)
    }

    /// When the ABOR at the front can no longer have an answer of its own, or that of the transfer at the front.
    pub(super) fn abort_until(&self, over: bool) -> Option<Instant> {
        let may_have_none = self.queue.front().is_some_and(Expected::may_have_none);
        let is_aborted = over && self.is_aborted();
        let is_noop = may_have_none && self.queue.front() != Some(&Expected::Abort);
        let wait = match (is_noop, is_aborted && self.told_twice) {
            (true, _) => KEEP_ALIVE,
            (false, true) => ABORT_TOLD,
            (false, false) => ABORT,
        };
        self.since.filter(|_| may_have_none || is_aborted || self.is_leftover()).map(|since| since + wait)
    }

    /// The time up to which an ABOR's answer holds up an answer of the gate, or a question that waits for the queue to be empty.
    pub(in crate::session) fn held_until(&self, has_question: bool, over: bool) -> Option<Instant> {
        let skipped = usize::from(self.is_leftover() || self.is_aborted());
        let next = self.queue.iter().skip(skipped).find(|expected| !expected.may_have_none());
        let is_held = match next {
            Some(Expected::Ours(_)) => true,
            Some(_) => false,
            None => has_question,
        };
        self.abort_until(over).filter(|_| is_held)
    }

    /// The data connection of the transfer at the front is over: what has no answer to come is waited for from now on.
    pub(in crate::session) fn data_over(&mut self, now: Instant) {
        if self.is_aborted() {
            self.since = Some(now);
        }
    }
}
