//! What a command in the queue is, and which replies it can have.

use super::answers::{Answers, is_transfers};
use crate::session::login::Step;
use crate::session::pinhole::PinholeId;

/// What is expected of the next final reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::session) enum Expected {
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
    pub(in crate::session) const fn plain(answers: Answers) -> Self {
        Self::Plain { begun: false, answers }
    }

    /// What this command is answered by where a reply may overtake that of a transfer; `None` for what nothing is.
    pub(super) const fn answers(&self) -> Option<Answers> {
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

    /// Whether it is a NOOP.
    pub(super) fn is_noop(&self) -> bool {
        matches!(self, Self::Plain { begun: false, answers: Answers::KeepAlive | Answers::NOOP })
    }

    /// Whether some servers have no answer of its own to this.
    pub(super) fn may_have_none(&self) -> bool {
        matches!(self, Self::Abort | Self::Plain { begun: false, answers: Answers::KeepAlive })
    }

    /// Whether a reply to this may end by this code where it began by another.
    pub(in crate::session) fn may_end_by(&self, number: u16) -> bool {
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

    pub(super) fn fits(&self, number: u16) -> bool {
        self.answers().is_some_and(|answers| answers.fits(number))
    }
}
