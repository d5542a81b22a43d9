//! Commands that wait for their replies, so that each reply finds its command.
//!
//! Replies come in the order of their commands, one final to each. Servers make exceptions: many answer other commands
//! in the middle of a transfer, an ABOR may share the transfer's reply or have none, and a transfer may end by two
//! finals. What can only be one too many is nobody's: it must not become the answer to the next command.
//!
//! In the middle of a transfer a reply goes to the command that can have it; see `answers.rs`. Where that leaves a
//! choice, whatever is chosen, each final is taken by one command, so that the count is right again once all have theirs.

mod answers;
mod expected;
mod passed;
mod position;

use std::collections::VecDeque;
use std::num::NonZeroU16;
use std::time::Instant;

pub(super) use answers::Answers;
use answers::{is_transfers, is_transfers_only};
pub(super) use expected::Expected;
pub(super) use position::Sign;

use crate::ftp::reply::Code;

/// How many commands may wait before the client is no longer read.
pub(super) const MAX_PENDING: usize = 32;
/// The longest reply of our own that waits for its turn, but for the port ranges of a rule that it may name.
const MAX_OURS: usize = 160;

/// What the last final reply was for, which says what can still come after it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Last {
    #[default]
    Other,
    /// A transfer that had begun, or its ABOR.
    Transfer,
    /// PASV or EPSV, and it named a port.
    Passive,
}

/// What is known of the server and of late answers, in one byte: the code by which it ends transfers, whether it answers
/// other commands than STAT in their midst, and what may be still to come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Habits(u8);

impl Habits {
    const AT_ONCE: u8 = 1;
    const ENDS_BY_226: u8 = 2;
    const ENDS_BY_250: u8 = 4;
    /// A command was passed over that may be answered by 200, as a NOOP is and an ABOR is not.
    const PASSED_NOOP: u8 = 8;
    /// Where [`Self::late_abort`] lies.
    const LATE_ABORT: u8 = 4;

    const fn set_end(&mut self, number: u16) {
        let end = if number == 226 { Self::ENDS_BY_226 } else { Self::ENDS_BY_250 };
        self.0 = (self.0 & !(Self::ENDS_BY_226 | Self::ENDS_BY_250)) | end;
    }

    const fn set(&mut self, habit: u8, has: bool) {
        self.0 = if has { self.0 | habit } else { self.0 & !habit };
    }

    /// An ABOR was answered by what may have been a second end of its transfer: its own answer, where one comes, is one too
    /// many. How many commands that were asked before it still wait; what was asked after it is answered later.
    const fn late_abort(self) -> Option<u8> {
        (self.0 >> Self::LATE_ABORT).checked_sub(1)
    }

    fn set_late_abort(&mut self, ahead: Option<u8>) {
        let value = ahead.map_or(0, |ahead| ahead.min(14) + 1);
        self.0 = (self.0 & ((1 << Self::LATE_ABORT) - 1)) | (value << Self::LATE_ABORT);
    }

    const fn has(self, habit: u8) -> bool {
        self.0 & habit != 0
    }
}

/// Bytes that the queue holds at most; no reply of our own is longer than [`MAX_OURS`].
pub(super) const MAX_HELD: usize = MAX_PENDING * (size_of::<Expected>() + MAX_OURS);

/// The queue of commands whose final reply has not come.
#[derive(Debug, Default)]
pub(super) struct Pending {
    queue: VecDeque<Expected>,
    /// Since when the first one is the first.
    since: Option<Instant>,
    last: Last,
    /// Commands that were taken to have no answer to come, such as an ABOR that shares its transfer's, and might have one
    /// all the same.
    passed_over: u8,
    /// An ABOR was answered by what may have been the answer to the command behind it, which then has none to come.
    unsure: bool,
    /// A reply went to a command in the midst of the queue, or could have been another's: those that wait may have each
    /// other's.
    unordered: bool,
    /// The code that a transfer has taken for its end, and that another command could have had.
    doubted: Option<NonZeroU16>,
    /// The server has told of an aborted transfer by a second 1yz reply.
    told_twice: bool,
    habits: Habits,
}

impl Pending {
    /// Tells what was passed over for it, as [`Self::pass_over`] does.
    pub(super) fn push(&mut self, now: Instant, mut expected: Expected) -> Option<Expected> {
        if let Expected::Plain { answers, .. } = &mut expected
            && self.awaits_transfer()
        {
            *answers = answers.in_transfer();
        }
        let overdue = self.queue.len() == 1 && self.abort_until(false).is_some_and(|until| until <= now);
        // Its answer came with the transfer's, or the next one is for this ABOR as well as for that.
        let passed = if expected == Expected::Abort && overdue { self.pass_over(now) } else { None };
        self.queue.push_back(expected);
        self.since.get_or_insert(now);
        passed
    }

    pub(super) fn is_full(&self) -> bool {
        self.queue.len() >= MAX_PENDING
    }

    /// Bytes on the heap.
    pub(super) fn held(&self) -> usize {
        let ours = |expected: &Expected| if let Expected::Ours(reply) = expected { reply.len() } else { 0 };
        self.queue.iter().map(|expected| size_of::<Expected>() + ours(expected)).sum()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub(super) fn clear(&mut self) {
        // An idle session holds no buffer.
        self.queue = VecDeque::new();
        self.since = None;
        (self.unsure, self.unordered, self.told_twice) = (false, false, false);
        self.doubted = None;
    }

    /// Whether replies may have gone to the wrong one of the commands that waited.
    pub(super) const fn is_unordered(&self) -> bool {
        self.unordered
    }

    /// What the gate itself has to say to commands ahead of this one.
    pub(super) fn take_ours_before(&mut self, index: usize) -> Vec<String> {
        let mut ours = Vec::new();
        let mut place = 0;
        self.queue.retain_mut(|expected| {
            place += 1;
            let is_ahead = place <= index;
            if let Expected::Ours(reply) = expected
                && is_ahead
            {
                ours.push(std::mem::take(reply));
                return false;
            }
            true
        });
        ours
    }

    /// Whether a transfer has not had its final reply.
    pub(super) fn awaits_transfer(&self) -> bool {
        self.queue.iter().any(|expected| matches!(expected, Expected::Transfer { .. }))
    }

    /// Whether the client has asked for its transfer to end.
    pub(super) fn awaits_abort(&self) -> bool {
        self.queue.contains(&Expected::Abort)
    }

    /// Whether an answer is to come that tells the directory, or after which it is asked for.
    pub(super) fn awaits_directory(&self) -> bool {
        let asks = |expected: &Expected| matches!(expected, Expected::Directory | Expected::Moved | Expected::Login(_));
        self.queue.iter().any(asks)
    }

    pub(super) fn get(&self, index: usize) -> Option<&Expected> {
        self.queue.get(index)
    }

    /// A 1yz reply came for this command.
    pub(super) fn begun(&mut self, index: usize) {
        let aborted = self.is_aborted();
        match self.queue.get_mut(index) {
            Some(Expected::Transfer { begun }) => self.told_twice |= std::mem::replace(begun, true) && aborted,
            Some(Expected::Plain { begun, .. }) => *begun = true,
            _ => {}
        }
    }

    /// The final reply came for this command.
    pub(super) fn take(&mut self, now: Instant, index: usize, code: Code) -> Option<Expected> {
        let taken = self.queue.remove(index)?;
        let number = code.number();
        self.watch_for_abort(&taken, index, number);
        let is_transfer = matches!(taken, Expected::Transfer { .. });
        let unordered = self.unordered;
        let could_have =
            |each: &Expected| each.fits(number) || (each.answers().is_some() && (unordered || !is_transfers(number)));
        let could_be_others = is_transfer && !is_transfers_only(number) && self.queue.iter().any(could_have);
        if self.unordered && !is_transfer && taken != Expected::Abort && is_transfers_only(number) {
            // It may be the transfer's after all.
            self.doubted = None;
            self.changed(now);
            self.last = Last::Transfer;
            return Some(taken);
        }
        self.unordered |= index > 0 || could_be_others;
        let overtakes =
            index > 0 && matches!(self.queue.front(), Some(Expected::Transfer { .. })) && !is_transfers(number);
        if overtakes && !matches!(taken, Expected::Status | Expected::Abort | Expected::Quit) {
            self.habits.0 |= Habits::AT_ONCE;
        }
        if is_transfer {
            (self.passed_over, self.told_twice) = (0, false);
            self.habits.set(Habits::PASSED_NOOP, false);
            self.doubted = NonZeroU16::new(number).filter(|_| could_be_others);
            let is_aborted = self.queue.front() == Some(&Expected::Abort);
            if matches!(number, 226 | 250) && !is_aborted && !could_be_others {
                self.habits.set_end(number);
            }
        }
        self.unsure |= taken == Expected::Abort && index == 0 && is_refusal(number);
        let ended = code.is_success() || matches!(number, 425 | 426 | 451);
        self.last = match &taken {
            // Its end may be still to come.
            Expected::Transfer { .. } if could_be_others => Last::Other,
            Expected::Transfer { begun } if *begun || ended => Last::Transfer,
            Expected::Plain { begun: true, .. } | Expected::Abort => Last::Transfer,
            Expected::Passive if matches!(number, 227 | 229) => Last::Passive,
            Expected::Transfer { .. }
            | Expected::Plain { .. }
            | Expected::Login(_)
            | Expected::Moved
            | Expected::Directory
            | Expected::LoggedOut
            | Expected::Passive
            | Expected::Greeting
            | Expected::Active(_)
            | Expected::Status
            | Expected::Features
            | Expected::EpsvAll
            | Expected::Quit
            | Expected::Ours(_) => Last::Other,
        };
        self.changed(now);
        Some(taken)
    }

    /// Whether the answer to an ABOR is still to come after this reply, though it may have been that.
    fn watch_for_abort(&mut self, taken: &Expected, index: usize, number: u16) {
        let may_be_transfers = self.last == Last::Transfer && matches!(number, 225 | 226 | 426);
        let late = if *taken == Expected::Abort && may_be_transfers {
            let is_servers = |expected: &&Expected| !matches!(expected, Expected::Ours(_));
            u8::try_from(self.queue.iter().take(index).filter(is_servers).count()).ok()
        } else if matches!(taken, Expected::Transfer { .. }) {
            None
        } else {
            self.habits.late_abort().and_then(|ahead| ahead.checked_sub(1))
        };
        self.habits.set_late_abort(late);
    }

    /// A final reply came that no command waits for: true where it may be that of an ABOR that was passed over, or of a
    /// command behind it.
    pub(super) fn may_be_late(&mut self, code: Code) -> bool {
        if matches!(code.number(), 225 | 226 | 426) && self.habits.late_abort().is_some() {
            self.habits.set_late_abort(None);
            return false;
        }
        let may_be = !code.is_preliminary() && !matches!(code.number(), 227 | 229);
        let was_passed_over = may_be && self.passed_over > 0;
        self.passed_over -= u8::from(was_passed_over);
        if self.passed_over == 0 {
            self.habits.set(Habits::PASSED_NOOP, false);
        }
        was_passed_over
    }

    fn changed(&mut self, now: Instant) {
        if self.queue.is_empty() {
            self.clear();
        } else {
            self.since = Some(now);
        }
    }

    /// The next answer of our own, where it is its turn.
    pub(super) fn take_ours(&mut self, now: Instant) -> Option<String> {
        let Some(Expected::Ours(reply)) = self.queue.front_mut() else { return None };
        let reply = std::mem::take(reply);
        self.queue.pop_front();
        self.changed(now);
        Some(reply)
    }
}

/// What the server says to an ABOR, or to any other command, that it does not take.
const fn is_refusal(number: u16) -> bool {
    matches!(number, 451 | 500..=504 | 530)
}
