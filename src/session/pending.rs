//! Commands that wait for their replies, so that each reply finds its command.

use std::collections::VecDeque;

use super::pinhole::PinholeId;
use crate::ftp::reply::Code;

/// How many commands may wait before the client is no longer read.
const MAX_PENDING: usize = 32;

/// What is expected of the next final reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Expected {
    /// The greeting.
    Greeting,
    /// An answer that passes as it is.
    Plain,
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

/// The queue of commands whose final reply has not come.
#[derive(Debug, Default)]
pub(super) struct Pending {
    queue: VecDeque<Expected>,
}

impl Pending {
    pub(super) fn push(&mut self, expected: Expected) {
        self.queue.push_back(expected);
    }

    pub(super) fn is_full(&self) -> bool {
        self.queue.len() >= MAX_PENDING
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub(super) fn clear(&mut self) {
        // An idle session holds no buffer.
        self.queue = VecDeque::new();
    }

    /// The command that the reply with this code, now beginning, belongs to.
    ///
    /// Replies come in the order of their commands, with two exceptions that servers make: STAT is answered in the
    /// middle of a transfer, and an ABOR that found nothing to abort may share the transfer's reply.
    pub(super) fn position(&self, code: Code) -> Option<usize> {
        let first = self.queue.front()?;
        if *first == (Expected::Transfer { begun: true }) && matches!(code.number(), 211..=213) {
            return self.queue.iter().position(|expected| *expected == Expected::Status).or(Some(0));
        }
        let unanswered_abort = *first == Expected::Abort && self.queue.get(1) == Some(&Expected::Passive);
        Some(usize::from(unanswered_abort && matches!(code.number(), 227 | 229)))
    }

    pub(super) fn get(&self, index: usize) -> Option<&Expected> {
        self.queue.get(index)
    }

    /// A 1yz reply came for this command.
    pub(super) fn begun(&mut self, index: usize) {
        if let Some(Expected::Transfer { begun }) = self.queue.get_mut(index) {
            *begun = true;
        }
    }

    /// The final reply came for this command. An ABOR that was passed over goes too.
    pub(super) fn take(&mut self, index: usize) -> Option<Expected> {
        if index == 1 && self.queue.front() == Some(&Expected::Abort) {
            self.queue.pop_front();
            return self.queue.pop_front();
        }
        let taken = self.queue.remove(index);
        if self.queue.is_empty() {
            self.clear();
        }
        taken
    }

    /// The next answer of our own, where it is its turn.
    pub(super) fn take_ours(&mut self) -> Option<String> {
        let Some(Expected::Ours(reply)) = self.queue.front_mut() else { return None };
        let reply = std::mem::take(reply);
        self.take(0);
        Some(reply)
    }
}
