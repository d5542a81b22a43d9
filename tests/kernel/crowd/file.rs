//! The files: every 16 bytes say whose they are, and each name says what becomes of its transfer.

use std::fmt;

/// What happens in a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Plan {
    Nothing,
    NoopInTheMiddle,
    Abort,
    ClientResetsData,
    ServerResetsData,
    ClientResetsControl,
    ServerResetsControl,
    ClientEndsControl,
    /// An upload's client ends it and goes.
    ClientLeaves,
    NegotiatedTwice,
    /// The same with a connection to the first port.
    CameAndNegotiatedTwice,
    ClosedBefore,
    ResetBefore,
    /// The side that takes the file ends its own direction at once.
    HalfClosed,
    ServerRefuses,
    SuccessTooEarly,
}

impl Plan {
    pub(super) const ALL: [Self; 16] = [
        Self::Nothing,
        Self::NoopInTheMiddle,
        Self::Abort,
        Self::ClientResetsData,
        Self::ServerResetsData,
        Self::ClientResetsControl,
        Self::ServerResetsControl,
        Self::ClientEndsControl,
        Self::ClientLeaves,
        Self::NegotiatedTwice,
        Self::CameAndNegotiatedTwice,
        Self::ClosedBefore,
        Self::ResetBefore,
        Self::HalfClosed,
        Self::ServerRefuses,
        Self::SuccessTooEarly,
    ];

    /// Whether the file must arrive, and both sides hear so.
    pub(super) const fn is_clean(self) -> bool {
        matches!(
            self,
            Self::Nothing
                | Self::NoopInTheMiddle
                | Self::NegotiatedTwice
                | Self::CameAndNegotiatedTwice
                | Self::HalfClosed
                | Self::SuccessTooEarly
        )
    }

    /// Whether the session ends with it.
    pub(super) const fn ends_session(self) -> bool {
        matches!(
            self,
            Self::ClientResetsControl | Self::ServerResetsControl | Self::ClientEndsControl | Self::ClientLeaves
        )
    }

    /// Whether the side that sends the file may end it early and in order.
    pub(super) const fn ends_early(self) -> bool {
        matches!(self, Self::Abort | Self::ClosedBefore)
    }
}

/// A file of one transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct File {
    pub(super) session: u32,
    pub(super) number: u32,
    pub(super) size: usize,
    pub(super) plan: Plan,
}

impl fmt::Display for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}-{}-{}-{:?}#", self.session, self.number, self.size, self.plan)
    }
}

impl File {
    pub(super) fn parse(name: &str) -> Option<Self> {
        let mut words = name.strip_prefix('#')?.strip_suffix('#')?.split('-');
        let (session, number) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        let (size, plan) = (words.next()?.parse().ok()?, words.next()?);
        let plan = Plan::ALL.into_iter().find(|each| format!("{each:?}") == plan)?;
        Some(Self { session, number, size, plan })
    }

    pub(super) const fn key(&self) -> (u32, u32) {
        (self.session, self.number)
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.size + 16);
        while bytes.len() < self.size {
            let at = u64::try_from(bytes.len()).unwrap();
            bytes.extend_from_slice(&self.session.to_be_bytes());
            bytes.extend_from_slice(&self.number.to_be_bytes());
            bytes.extend_from_slice(&at.to_be_bytes());
        }
        bytes.truncate(self.size);
        bytes
    }

    /// What came at this place is this file's.
    pub(super) fn check(&self, all: &[u8], at: usize, came: &[u8]) -> Result<(), String> {
        if all.get(at..at + came.len()) == Some(came) {
            return Ok(());
        }
        let start = (16 - at % 16) % 16;
        let block = came.get(start..came.len().min(start + 16)).unwrap_or_default();
        Err(format!("{self}: other bytes at {at}, of {}: {}", came.len(), block.escape_ascii()))
    }
}
