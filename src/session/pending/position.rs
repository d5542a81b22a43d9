//! Which command a reply is for.

use std::num::NonZeroU16;
use std::time::Instant;

use super::answers::{Answers, is_transfers, is_transfers_only};
use super::{Expected, Habits, Last, Pending, is_refusal};
use crate::ftp::reply::Code;

/// What the data connection of a transfer says of whether the server has ended it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::session) enum Sign {
    /// It has not.
    None,
    /// Hardly: the data connection has yet to reach the client.
    Early,
    /// It may have: nobody came.
    Weak,
    /// It has: the data connection has come and gone.
    Strong,
}

impl Pending {
    /// The command that the reply with this code, now beginning, belongs to; `None` where it can only be one too many.
    /// `end`: what the data connection of the first transfer says of its end.
    pub(in crate::session) fn position(&self, code: Code, end: Sign) -> Option<usize> {
        let first = self.queue.front()?;
        let number = code.number();
        if number == 421 {
            return Some(0);
        }
        if let Expected::Transfer { begun } = first {
            // No transfer is answered by a port.
            let is_odd = matches!(number, 227 | 229) && (*begun || self.last == Last::Passive);
            return (!is_odd).then(|| self.beside_transfer(*begun, number, end));
        }
        if matches!(number, 225 | 226 | 426) && self.aborts_late() {
            return self.abort();
        }
        if self.is_too_many(first, number) {
            return None;
        }
        if !self.unordered || first.answers().is_none() {
            return Some(0);
        }
        if is_telling(number)
            && let Some(named) = self.named(number)
        {
            return Some(named);
        }
        if first.fits(number) {
            return Some(0);
        }
        // Once replies came out of order, those that wait are looked through for the one that this fits; the end of a
        // transfer that has taken another's answer is that one's.
        let number = self.doubted.filter(|_| is_transfers_only(number)).map_or(number, NonZeroU16::get);
        Some(self.fitting(|expected| expected.fits(number)).unwrap_or(0))
    }

    /// The first command that this can be the answer to. A port is not agreed on before what was asked ahead of it has its
    /// answer: servers take commands that negotiate in their turn.
    fn fitting(&self, fits: impl Fn(&Expected) -> bool) -> Option<usize> {
        let index = self.queue.iter().position(fits)?;
        let is_ahead = |expected: &Expected| expected.answers().is_some() && *expected != Expected::Abort;
        let overtakes =
            matches!(self.queue.get(index), Some(Expected::Active(_))) && self.queue.iter().take(index).any(is_ahead);
        (!overtakes).then_some(index)
    }

    /// The command that is known to succeed by this code.
    fn named(&self, number: u16) -> Option<usize> {
        self.fitting(|expected| expected.answers().is_some_and(|each| each.is_success(number)))
    }

    fn abort(&self) -> Option<usize> {
        self.queue.iter().position(|expected| *expected == Expected::Abort)
    }

    /// Whether an ABOR waits behind others that were asked during its transfer, which has ended.
    fn aborts_late(&self) -> bool {
        let plain = |expected: &Expected| expected.answers().is_some();
        self.last == Last::Transfer && self.abort().is_some_and(|index| self.queue.iter().take(index).all(plain))
    }

    /// The command that a reply belongs to which comes while a transfer waits for its own, and others behind it.
    fn beside_transfer(&self, begun: bool, number: u16, end: Sign) -> usize {
        // Of an aborted transfer that it has told of already the server says no more.
        let is_told = |expected: &Expected| self.told_twice && *expected == Expected::Abort;
        let fits = |expected: &Expected| expected.fits(number) && !is_told(expected);
        let named = if is_telling(number) { self.named(number) } else { None };
        let fitting = named.or_else(|| self.fitting(fits));
        match fitting {
            _ if number < 200 || is_transfers_only(number) => 0,
            // It is refused, or had nothing to move.
            _ if !begun && (number == 250 || number >= 400) => 0,
            Some(index) if !is_transfers(number) => index,
            Some(index) if number == 250 && self.habits.has(Habits::ENDS_BY_226) => index,
            Some(index) if end == Sign::Early && !self.habits.has(Habits::ENDS_BY_250) => index,
            Some(index) if number >= 400 && self.habits.has(Habits::AT_ONCE) => index,
            Some(index)
                if end == Sign::Weak && self.habits.has(Habits::AT_ONCE) && !self.habits.has(Habits::ENDS_BY_250) =>
            {
                index
            }
            // A server says that a transfer is done when it has closed its data connection.
            Some(index) if end == Sign::None && !self.is_late(index, number) => index,
            Some(_) => 0,
            None if is_transfers(number) || end == Sign::Strong => 0,
            None => self.queue.iter().position(|expected| expected.answers().is_some()).unwrap_or(0),
        }
    }

    /// Whether this may be the end of a transfer whose bytes are still on their way through the gate: the server ends
    /// transfers by it, or may do so and the other command is not known to have such an answer.
    fn is_late(&self, index: usize, number: u16) -> bool {
        let answers = self.queue.get(index).and_then(Expected::answers);
        let is_named = answers.is_some_and(|answers| answers.is_success(number));
        number == 250 && !self.habits.has(Habits::AT_ONCE) && (self.habits.has(Habits::ENDS_BY_250) || !is_named)
    }

    /// Whether this code, with no blank behind it, is an answer to the first command and not the beginning of some text.
    pub(in crate::session) fn is_answer(&self, code: Code) -> bool {
        let number = code.number();
        match self.queue.front() {
            Some(Expected::Greeting) => number == 220,
            Some(Expected::Transfer { begun: false }) => matches!(number, 125 | 150) || is_transfers(number),
            Some(Expected::Transfer { begun: true }) => {
                let is_other = |expected: &Expected| expected.answers().is_some_and(|each| each.is_success(number));
                is_transfers(number) || self.queue.iter().any(is_other)
            }
            Some(Expected::Directory) => number == 257,
            // A port is taken from nothing that could be read in two ways.
            Some(Expected::Passive | Expected::Ours(_)) | None => false,
            Some(expected) => expected.answers().is_some_and(|answers| match answers {
                Answers::File(_) => answers.is_success(number) || is_transfers(number),
                Answers::Only(_) | Answers::KeepAlive | Answers::Any => answers.is_success(number),
            }),
        }
    }

    /// Whether a reply with this code is for a command behind an ABOR: one that can have no such answer, or should have
    /// had it long ago.
    pub(in crate::session) fn is_past_abort(&self, now: Instant, code: Code) -> bool {
        let number = code.number();
        let fits = match number {
            225 | 226 | 421 | 426 => true,
            // One too many, of the transfer.
            125 | 150 => self.last == Last::Transfer,
            _ if is_refusal(number) => self.abort_until(false).is_some_and(|until| now < until),
            _ => false,
        };
        let is_past = match self.queue.front() {
            Some(Expected::Abort) => !fits,
            // Its answer was taken for that of an ABOR, and this is the next one's.
            Some(first) => {
                let is_leftover = self.is_leftover() && !first.may_have_none();
                is_leftover && !first.fits(number) && self.queue.get(1).is_some_and(|next| next.fits(number))
            }
            None => false,
        };
        is_past && self.queue.iter().any(|expected| !matches!(expected, Expected::Abort | Expected::Ours(_)))
    }

    /// Whether a NOOP waits for an answer, and this reply is that of a command behind it: the server has thrown the NOOP away,
    /// as some do with what comes while they end a transfer.
    pub(in crate::session) fn is_past_noop(&self, code: Code) -> bool {
        let number = code.number();
        let is_past = |first: &Expected| first.is_noop() && !first.fits(number);
        self.queue.front().is_some_and(is_past) && self.named(number).is_some()
    }

    /// Whether this command cannot have this answer, or not after what came before.
    fn is_too_many(&self, expected: &Expected, number: u16) -> bool {
        let ends_transfer = matches!(number, 225 | 226 | 426);
        let of_transfer = ends_transfer || matches!(number, 125 | 150);
        match expected {
            Expected::Passive => {
                of_transfer || number == 250 || (number == 200 && self.habits.has(Habits::PASSED_NOOP))
            }
            Expected::Active(_) | Expected::Quit if of_transfer => true,
            Expected::Greeting | Expected::Ours(_) | Expected::Plain { begun: true, .. } => false,
            _ if matches!(number, 227 | 229) => self.last == Last::Passive,
            Expected::Transfer { .. } => false,
            Expected::Abort => of_transfer && !ends_transfer && self.last == Last::Transfer,
            Expected::Plain { begun: false, .. }
            | Expected::Login(_)
            | Expected::Moved
            | Expected::Directory
            | Expected::LoggedOut
            | Expected::Active(_)
            | Expected::Status
            | Expected::Features
            | Expected::EpsvAll
            | Expected::Quit => {
                (of_transfer && self.last == Last::Transfer)
                    || (ends_transfer && (self.passed_over > 0 || self.habits.late_abort() == Some(0)))
            }
        }
    }
}

/// Codes that say what was asked.
const fn is_telling(number: u16) -> bool {
    matches!(number, 211..=215 | 221 | 257 | 350)
}
