//! Commands that wait for their replies, so that each reply finds its command.
//!
//! Replies come in the order of their commands, one final to each. Servers make exceptions: STAT is answered in the
//! middle of a transfer, an ABOR that found nothing to abort may share the transfer's reply, and a transfer may end
//! by two finals. What can only be one too many is nobody's: it must not become the answer to the next command.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::pinhole::PinholeId;
use crate::ftp::reply::Code;

/// How many commands may wait before the client is no longer read.
const MAX_PENDING: usize = 32;
/// The longest reply of our own that waits for its turn, but for the port ranges of a rule that it may name.
const MAX_OURS: usize = 160;
/// How long after the end of its transfer an ABOR can still have an answer of its own, where more was asked since.
const ABORT: Duration = Duration::from_secs(2);

/// What is expected of the next final reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Expected {
    /// The greeting.
    Greeting,
    /// An answer that passes as it is; `begun` once a 1yz reply was seen.
    Plain { begun: bool },
    /// The answer to USER, PASS or ACCT.
    Login,
    /// The answer to CWD or CDUP.
    Moved,
    /// The answer to a PWD of our own, of which the client hears nothing.
    Directory,
    /// The answer to REIN.
    LoggedOut,
    /// 227 or 229.
    Passive,
    /// The answer to PORT or EPRT.
    Active(PinholeId),
    /// The end of a transfer; `begun` once a 1yz reply was seen.
    Transfer { begun: bool },
    /// The answer to ABOR.
    Abort,
    /// The answer to STAT, which may overtake a transfer's.
    Status,
    /// The list of features, some of which are hidden.
    Features,
    /// The answer to EPSV ALL.
    EpsvAll,
    /// The answer to QUIT.
    Quit,
    /// An answer of our own, held until the earlier ones have passed.
    Ours(String),
}

impl Expected {
    pub(super) const fn plain() -> Self {
        Self::Plain { begun: false }
    }
}

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

/// Bytes that the queue holds at most; no reply of our own is longer than [`MAX_OURS`].
pub(super) const MAX_HELD: usize = MAX_PENDING * (size_of::<Expected>() + MAX_OURS);

/// The queue of commands whose final reply has not come.
#[derive(Debug, Default)]
pub(super) struct Pending {
    queue: VecDeque<Expected>,
    /// Since when the first one is the first.
    since: Option<Instant>,
    last: Last,
    /// An ABOR was taken to share its transfer's reply, and might have an answer all the same.
    passed_over: bool,
    /// An ABOR was answered by what may have been the answer to the command behind it, which then has none to come.
    unsure: bool,
}

impl Pending {
    /// Tells what was passed over for it, as [`Self::pass_over`] does.
    pub(super) fn push(&mut self, now: Instant, expected: Expected) -> Option<Expected> {
        let overdue = self.queue.len() == 1 && self.abort_until().is_some_and(|until| until <= now);
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
        self.unsure = false;
    }

    /// The command that the reply with this code, now beginning, belongs to; `None` where it can only be one too many.
    pub(super) fn position(&self, code: Code) -> Option<usize> {
        let first = self.queue.front()?;
        let number = code.number();
        if number == 421 {
            return Some(0);
        }
        if *first == (Expected::Transfer { begun: true }) {
            let overtakes = match number {
                211..=213 | 500..=504 => Some(Expected::Status),
                221 => Some(Expected::Quit),
                _ => None,
            };
            let position = overtakes.and_then(|what| self.queue.iter().position(|expected| *expected == what));
            if position.is_some() {
                return position;
            }
        }
        (!self.is_too_many(first, number)).then_some(0)
    }

    /// Whether a reply with this code is for a command behind an ABOR: one that can have no such answer, or should have
    /// had it long ago.
    pub(super) fn is_past_abort(&self, now: Instant, code: Code) -> bool {
        let number = code.number();
        let fits = match number {
            225 | 226 | 421 | 426 => true,
            // One too many, of the transfer.
            125 | 150 => self.last == Last::Transfer,
            _ if is_refusal(number) => self.abort_until().is_some_and(|until| now < until),
            _ => false,
        };
        let is_past = match self.queue.front() {
            Some(Expected::Abort) => !fits,
            Some(_) | None => false,
        };
        is_past && self.queue.iter().any(|expected| !matches!(expected, Expected::Abort | Expected::Ours(_)))
    }

    /// Whether this command cannot have this answer, or not after what came before.
    fn is_too_many(&self, expected: &Expected, number: u16) -> bool {
        let ends_transfer = matches!(number, 225 | 226 | 426);
        let of_transfer = ends_transfer || matches!(number, 125 | 150);
        match expected {
            Expected::Passive => of_transfer || number == 250,
            Expected::Active(_) if of_transfer => true,
            Expected::Greeting | Expected::Ours(_) | Expected::Plain { begun: true } => false,
            _ if matches!(number, 227 | 229) => self.last == Last::Passive,
            Expected::Transfer { .. } => false,
            Expected::Abort => of_transfer && !ends_transfer && self.last == Last::Transfer,
            Expected::Plain { begun: false }
            | Expected::Login
            | Expected::Moved
            | Expected::Directory
            | Expected::LoggedOut
            | Expected::Active(_)
            | Expected::Status
            | Expected::Features
            | Expected::EpsvAll
            | Expected::Quit => (of_transfer && self.last == Last::Transfer) || (ends_transfer && self.passed_over),
        }
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
        let asks = |expected: &Expected| matches!(expected, Expected::Directory | Expected::Moved | Expected::Login);
        self.queue.iter().any(asks)
    }

    pub(super) fn get(&self, index: usize) -> Option<&Expected> {
        self.queue.get(index)
    }

    /// A 1yz reply came for this command.
    pub(super) fn begun(&mut self, index: usize) {
        if let Some(Expected::Transfer { begun } | Expected::Plain { begun }) = self.queue.get_mut(index) {
            *begun = true;
        }
    }

    /// The final reply came for this command.
    pub(super) fn take(&mut self, now: Instant, index: usize, code: Code) -> Option<Expected> {
        let taken = self.queue.remove(index)?;
        let number = code.number();
        self.passed_over &= !matches!(taken, Expected::Transfer { .. });
        self.unsure |= taken == Expected::Abort && is_refusal(number);
        let ended = code.is_success() || matches!(number, 425 | 426 | 451);
        self.last = match &taken {
            Expected::Transfer { begun } if *begun || ended => Last::Transfer,
            Expected::Plain { begun: true } | Expected::Abort => Last::Transfer,
            Expected::Passive if matches!(number, 227 | 229) => Last::Passive,
            Expected::Transfer { .. }
            | Expected::Plain { .. }
            | Expected::Login
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

    /// A final reply came that no command waits for: true where it may be that of an ABOR that was passed over, or of a
    /// command behind it.
    pub(super) fn may_be_late(&mut self, code: Code) -> bool {
        let may_be = !code.is_preliminary() && !matches!(code.number(), 227 | 229);
        may_be && std::mem::take(&mut self.passed_over)
    }

    /// Drops what is at the front and has no answer to come: ABORs that shared the reply before, and the command whose
    /// answer was taken for that of one, which it tells.
    pub(super) fn pass_over(&mut self, now: Instant) -> Option<Expected> {
        let mut passed = None;
        if self.queue.front() != Some(&Expected::Abort) && std::mem::take(&mut self.unsure) {
            passed = self.queue.pop_front();
            self.passed_over = true;
        }
        while self.queue.front() == Some(&Expected::Abort) {
            self.queue.pop_front();
            self.passed_over = true;
        }
        self.changed(now);
        passed
    }

    /// Whether the command at the front may have had its answer.
    fn is_leftover(&self) -> bool {
        let plain = |first: &Expected| match first {
            Expected::Plain { .. }
            | Expected::Login
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

    fn changed(&mut self, now: Instant) {
        if self.queue.is_empty() {
            self.clear();
        } else {
            self.since = Some(now);
        }
    }

    /// Until when the ABOR at the front can have an answer of its own.
    fn abort_until(&self) -> Option<Instant> {
        let first = self.queue.front();
        self.since.filter(|_| first == Some(&Expected::Abort) || self.is_leftover()).map(|since| since + ABORT)
    }

    /// The time up to which an ABOR's answer holds up an answer of the gate, or a question that waits for the queue to be empty.
    pub(super) fn held_until(&self, has_question: bool) -> Option<Instant> {
        let skipped = usize::from(self.is_leftover());
        let next = self.queue.iter().skip(skipped).find(|expected| **expected != Expected::Abort);
        let is_held = match next {
            Some(Expected::Ours(_)) => true,
            Some(_) => false,
            None => has_question,
        };
        self.abort_until().filter(|_| is_held)
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
