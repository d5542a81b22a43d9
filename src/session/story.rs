//! Why a data connection did not come about, as far as the session can tell.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::mode::Modes;
use crate::addr::Side;

/// Where one leg of a data connection was to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The peer was to connect to a port of the gate.
    Ours(u16),
    /// We were to connect to the peer, here.
    Theirs(SocketAddr),
}

impl Place {
    /// The port.
    #[must_use]
    pub const fn port(self) -> u16 {
        match self {
            Self::Ours(port) => port,
            Self::Theirs(at) => at.port(),
        }
    }
}

/// What was negotiated, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Story {
    /// The rule under which it was.
    pub rule: String,
    /// The mode of each leg.
    pub modes: Modes,
    /// The side that was waited for.
    pub missing: Side,
    /// Where its leg was to be made.
    pub place: Place,
    /// What was heard of it.
    pub absence: Absence,
    /// How long it was waited for, from when the pinhole stood.
    pub waited: Duration,
    /// The port that we come from, where the rule says which.
    pub source_port: Option<u16>,
    /// The client has asked for a transfer: else it may only have changed its mind.
    pub asked: bool,
    /// The rule allows passive mode, which the client did not use.
    pub may_be_passive: bool,
    /// Who came to the port in its place and was turned away, the last of them.
    pub stranger: Option<Stranger>,
}

/// What was wrong with a PROXY header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeaderTrouble {
    /// Its name, for the log.
    pub reason: &'static str,
    /// What the operator can do about it.
    pub advice: &'static str,
}

/// Somebody who came to a pinhole that waits for somebody else, and was turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stranger {
    /// Where it came from.
    pub from: SocketAddr,
    /// Who is to come.
    pub awaited: IpAddr,
    /// The gate's port that it came to.
    pub port: u16,
    /// What was wrong with its PROXY header, where it had to have one.
    pub fault: Option<HeaderTrouble>,
}

/// What was heard of a side that was waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absence {
    /// It did not connect.
    NeverCame,
    /// Nothing answered where we tried to connect.
    NoAnswer,
    /// Its host answered that nobody listens there.
    Closed,
    /// There is no way there, or the kernel says something else.
    Unreachable(ErrorKind),
}

impl Absence {
    /// From what the kernel said of a dial.
    #[must_use]
    #[allow(clippy::wildcard_enum_match_arm, reason = "the kinds of errors are not ours, and many")]
    pub const fn of(error: ErrorKind) -> Self {
        match error {
            ErrorKind::TimedOut | ErrorKind::WouldBlock => Self::NoAnswer,
            ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset => Self::Closed,
            other => Self::Unreachable(other),
        }
    }

    /// The name that logs use.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NeverCame => "never_came",
            Self::NoAnswer => "no_answer",
            Self::Closed => "closed",
            Self::Unreachable(_) => "unreachable",
        }
    }
}

impl Story {
    /// Bytes of the longest [`Self::excuse`].
    pub(super) const MAX_EXCUSE: usize = 128;

    /// What the client is told in place of the server's own text behind 425 or 426.
    #[must_use]
    pub fn excuse(&self) -> String {
        let port = self.place.port();
        let instead = if self.may_be_passive { "; try passive mode" } else { "" };
        let what = match (self.missing, self.absence) {
            (Side::Client, Absence::NeverCame) => format!("you did not connect to port {port}"),
            (Side::Client, Absence::NoAnswer) => format!("no answer from your port {port}{instead}"),
            (Side::Client, Absence::Closed) => format!("your port {port} is closed{instead}"),
            (Side::Client, Absence::Unreachable(_)) => format!("your port {port} cannot be reached{instead}"),
            (Side::Server, Absence::NeverCame) => format!("the server did not connect{instead}"),
            (Side::Server, Absence::NoAnswer) => format!("no answer from the server's port {port}"),
            (Side::Server, Absence::Closed) => format!("the server's port {port} is closed"),
            (Side::Server, Absence::Unreachable(_)) => format!("the server's port {port} cannot be reached"),
        };
        format!("Can't open data connection: {what}.")
    }
}
