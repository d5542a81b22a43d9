//! Commands that wait for their replies, so that each reply finds its command.
//!
//! Replies come in the order of their commands, one final to each. Servers make exceptions: many answer other commands
//! in the middle of a transfer, an ABOR may share the transfer's reply or have none, and a transfer may end by two
//! finals. What can only be one too many is nobody's: it must not become the answer to the next command.
//!
//! In the middle of a transfer a reply goes to the command that can have it; see `answers.rs`. Where that leaves a
//! choice, whatever is chosen, each final is taken by one command, so that the count is right again once all have theirs.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::answers::{Answers, is_transfers, is_transfers_only};
use super::login::Step;
use super::pinhole::PinholeId;
use crate::ftp::reply::Code;

/// How many commands may wait before the client is no longer read.
const MAX_PENDING: usize = 32;
/// The longest reply of our own that waits for its turn, but for the port ranges of a rule that it may name.
const MAX_OURS: usize = 160;
/// How long after the end of its transfer an ABOR can still have an answer of its own, where more was asked since.
const ABORT: Duration = Duration::from_secs(2);
/// The same where the server has told of the transfer's end by a 1yz reply, as Pure-FTPd does.
const ABORT_TOLD: Duration = Duration::from_millis(500);

/// What is expected of the next final reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Expected {
    /// The greeting.
    Greeting,
    /// An answer that passes as it is; `begun` once a 1yz reply was seen.
    Plain { begun: bool, answers: Answers },
    /// The answer to USER, PASS or ACCT.
    Login(Step),
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
    pub(super) const fn plain(answers: Answers) -> Self {
        Self::Plain { begun: false, answers }
    }

    /// What this command is answered by where a reply may overtake that of a transfer; `None` for what nothing is.
    const fn answers(&self) -> Option<Answers> {
        match self {
            Self::Plain { answers, .. } => Some(*answers),
            Self::Login(_) => Some(Answers::Only(&[230, 231, 232, 331, 332, 202, 220, 200])),
            Self::Moved => Some(Answers::File(&[250])),
            Self::LoggedOut => Some(Answers::Only(&[220])),
            Self::Active(_) | Self::EpsvAll => Some(Answers::Only(&[200])),
            // Whatever ends a transfer goes to the transfer first.
            Self::Abort => Some(Answers::Only(&[])),
            Self::Status => Some(Answers::File(&[211, 212, 213])),
            Self::Features => Some(Answers::Only(&[211])),
            Self::Quit => Some(Answers::Only(&[221])),
            Self::Greeting | Self::Directory | Self::Passive | Self::Transfer { .. } | Self::Ours(_) => None,
        }
    }

    /// Whether some servers have no answer of its own to this.
    fn may_have_none(&self) -> bool {
        matches!(self, Self::Abort | Self::Plain { begun: false, answers: Answers::KeepAlive })
    }

    /// Whether a reply to this may end by this code where it began by another.
    pub(super) fn may_end_by(&self, number: u16) -> bool {
        match self {
            Self::Transfer { .. } => number < 200 || is_transfers(number) || number >= 500,
            Self::Greeting => matches!(number, 120 | 220) || number >= 400,
            // No port is taken from what could be read in two ways.
            Self::Passive => number >= 400,
            Self::Directory => number == 257 || number >= 400,
            Self::Plain { .. }
            | Self::Login(_)
            | Self::Moved
            | Self::LoggedOut
            | Self::Active(_)
            | Self::Abort
            | Self::Status
            | Self::Features
            | Self::EpsvAll
            | Self::Quit
            | Self::Ours(_) => self.fits(number),
        }
    }

    fn fits(&self, number: u16) -> bool {
        self.answers().is_some_and(|answers| answers.fits(number))
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

/// What the data connection of a transfer says of whether the server has ended it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sign {
    /// It has not.
    None,
    /// Hardly: the data connection has yet to reach the client.
    Early,
    /// It may have: nobody came.
    Weak,
    /// It has: the data connection has come and gone.
    Strong,
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
    doubted: Option<u16>,
    /// The server has told of an aborted transfer by a second 1yz reply.
    told_twice: bool,
    /// The code by which the server ends transfers, where that is known: 226 or 250.
    ends_by: Option<u16>,
    /// The server answers other commands than STAT in the middle of a transfer.
    at_once: bool,
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

    /// The command that the reply with this code, now beginning, belongs to; `None` where it can only be one too many.
    /// `end`: what the data connection of the first transfer says of its end.
    pub(super) fn position(&self, code: Code, end: Sign) -> Option<usize> {
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
        if !self.unordered || first.answers().is_none() || first.fits(number) {
            return Some(0);
        }
        // Once replies came out of order, those that wait are looked through for the one that this fits; the end of a
        // transfer that has taken another's answer is that one's.
        let number = self.doubted.filter(|_| is_transfers_only(number)).unwrap_or(number);
        Some(self.queue.iter().position(|expected| expected.fits(number)).unwrap_or(0))
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
        let fitting = self.queue.iter().position(|expected| expected.fits(number) && !is_told(expected));
        match fitting {
            _ if number < 200 || is_transfers_only(number) => 0,
            // It is refused, or had nothing to move.
            _ if !begun && (number == 250 || number >= 400) => 0,
            Some(index) if !is_transfers(number) => index,
            Some(index) if number == 250 && self.ends_by == Some(226) => index,
            Some(index) if end == Sign::Early && self.ends_by != Some(250) => index,
            Some(index) if number >= 400 && self.at_once => index,
            Some(index) if end == Sign::Weak && self.at_once && self.ends_by != Some(250) => index,
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
        number == 250 && !self.at_once && (self.ends_by == Some(250) || !is_named)
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

    /// Whether this code, with no blank behind it, is an answer to the first command and not the beginning of some text.
    pub(super) fn is_answer(&self, code: Code) -> bool {
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
    pub(super) fn is_past_abort(&self, now: Instant, code: Code) -> bool {
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
            Some(_) | None => false,
        };
        is_past && self.queue.iter().any(|expected| !matches!(expected, Expected::Abort | Expected::Ours(_)))
    }

    /// Whether this command cannot have this answer, or not after what came before.
    fn is_too_many(&self, expected: &Expected, number: u16) -> bool {
        let ends_transfer = matches!(number, 225 | 226 | 426);
        let of_transfer = ends_transfer || matches!(number, 125 | 150);
        match expected {
            Expected::Passive => of_transfer || number == 250 || (number == 200 && self.passed_over > 0),
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
            | Expected::Quit => (of_transfer && self.last == Last::Transfer) || (ends_transfer && self.passed_over > 0),
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
        let is_transfer = matches!(taken, Expected::Transfer { .. });
        let could_have = |each: &Expected| each.fits(number) || (each.answers().is_some() && !is_transfers(number));
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
        self.at_once |= overtakes && !matches!(taken, Expected::Status | Expected::Abort | Expected::Quit);
        if is_transfer {
            (self.passed_over, self.told_twice) = (0, false);
            self.doubted = could_be_others.then_some(number);
            let is_aborted = self.queue.front() == Some(&Expected::Abort);
            if matches!(number, 226 | 250) && !is_aborted && !could_be_others {
                self.ends_by = Some(number);
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

    /// A final reply came that no command waits for: true where it may be that of an ABOR that was passed over, or of a
    /// command behind it.
    pub(super) fn may_be_late(&mut self, code: Code) -> bool {
        let may_be = !code.is_preliminary() && !matches!(code.number(), 227 | 229);
        let was_passed_over = may_be && self.passed_over > 0;
        self.passed_over -= u8::from(was_passed_over);
        was_passed_over
    }

    /// Whether the transfer at the front is to be aborted, and nothing that waits was asked in between.
    fn is_aborted(&self) -> bool {
        matches!(self.queue.front(), Some(Expected::Transfer { .. })) && self.queue.get(1) == Some(&Expected::Abort)
    }

    /// Whether the transfer at the front and its ABOR have no answer to come: the server has answered what was asked after
    /// them.
    pub(super) fn is_past_transfer(&self, index: usize, over: bool) -> bool {
        over && index > 1 && self.is_aborted()
    }

    /// Drops what is at the front and has no answer to come: ABORs that shared the reply before, a transfer with its ABORs
    /// that the server has forgotten, and the command whose answer was taken for that of an ABOR. Tells of the one that was
    /// no ABOR.
    pub(super) fn pass_over(&mut self, now: Instant) -> Option<Expected> {
        let mut passed = None;
        let may_have_none = self.queue.front().is_some_and(Expected::may_have_none);
        let is_leftover = !may_have_none && std::mem::take(&mut self.unsure);
        if is_leftover || self.is_aborted() {
            passed = self.queue.pop_front();
            self.passed_over = self.passed_over.saturating_add(1);
        }
        self.drop_front(|expected| *expected == Expected::Abort);
        self.told_twice = false;
        self.changed(now);
        passed
    }

    /// The same where time tells so: a NOOP that was thrown away in the middle of a transfer has no answer to come either.
    pub(super) fn give_up(&mut self, now: Instant) -> Option<Expected> {
        let passed = self.pass_over(now);
        self.drop_front(Expected::may_have_none);
        self.changed(now);
        passed
    }

    fn drop_front(&mut self, has_none: impl Fn(&Expected) -> bool) {
        while self.queue.front().is_some_and(&has_none) {
            self.queue.pop_front();
            self.passed_over = self.passed_over.saturating_add(1);
        }
    }

    /// Whether the command at the front may have had its answer.
    fn is_leftover(&self) -> bool {
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

    fn changed(&mut self, now: Instant) {
        if self.queue.is_empty() {
            self.clear();
        } else {
            self.since = Some(now);
        }
    }

    /// Until when the ABOR at the front can have an answer of its own, or that of the transfer at the front.
    fn abort_until(&self, over: bool) -> Option<Instant> {
        let may_have_none = self.queue.front().is_some_and(Expected::may_have_none);
        let is_aborted = over && self.is_aborted();
        let wait = if is_aborted && self.told_twice { ABORT_TOLD } else { ABORT };
        self.since.filter(|_| may_have_none || is_aborted || self.is_leftover()).map(|since| since + wait)
    }

    /// The time up to which an ABOR's answer holds up an answer of the gate, or a question that waits for the queue to be empty.
    pub(super) fn held_until(&self, has_question: bool, over: bool) -> Option<Instant> {
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
    pub(super) fn data_over(&mut self, now: Instant) {
        if self.is_aborted() {
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
