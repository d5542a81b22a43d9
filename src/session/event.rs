//! What an operator may want to know. `report` gives each its words.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::mode::Modes;
use super::pinhole::{Carrier, DataEnd, HowEnded, WhyHalfOpen};
use super::refusal::Refusal;
use super::story::{Story, Stranger};
use crate::addr::Side;
use crate::ftp::command::Way;
use crate::ftp::line::LineFault;
use crate::policy::{Limit, Reached};

/// Something that happened in a session and is worth a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A request was refused.
    Refused {
        /// Why.
        refusal: Refusal,
        /// What was said, fit for a log.
        line: String,
    },
    /// A line was rewritten.
    Rewritten {
        /// Who said it.
        by: Side,
        /// What was said. It may have secrets: `ftp::redact` makes it fit for a log.
        said: Vec<u8>,
        /// What the other side was told.
        told: Vec<u8>,
    },
    /// A peer named another host's address as its own; that of its control connection was used.
    ForeignAddress {
        /// Which peer: the server in 227 or 229, the client in PORT or EPRT.
        by: Side,
        /// What it named.
        named: IpAddr,
        /// What was used.
        used: IpAddr,
    },
    /// Somebody else than the peer came to a pinhole, and was reset.
    Stranger(Stranger),
    /// A connection to a pinhole was begun with its peer's address and not completed. The pinhole is not used by it.
    HalfOpen {
        /// Where its first packet said that it came from.
        from: SocketAddr,
        /// The port of the gate that it was for.
        port: u16,
        /// How it is known.
        why: WhyHalfOpen,
    },
    /// A port of the range is taken by another program; the next one was tried.
    PortTaken(u16),
    /// A side could not be connected to for data.
    NotReached(Box<Story>),
    /// A pinhole closed because nobody came.
    PinholeExpired(Box<Story>),
    /// A line that cannot be one.
    BadLine {
        /// Who sent it.
        side: Side,
        /// What is wrong with it.
        fault: LineFault,
    },
    /// A user was let in.
    LoggedIn {
        /// The rule that holds from now on.
        rule: String,
        /// Whether the user has decided which.
        by_user: bool,
    },
    /// The server did not let a user in.
    LoginFailed,
    /// A limit was reached.
    Limit(Reached),
    /// A transfer is over.
    Transferred(Transfer),
}

/// The record of one transfer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// Which way the bytes went.
    pub way: Way,
    /// Passive or active, on each side.
    pub modes: Modes,
    /// Who moved them, and why our process where it did.
    pub carrier: Carrier,
    /// The command, fit for a log.
    pub command: String,
    /// The rule that allowed it.
    pub rule: String,
    /// Bytes that arrived in the direction of the transfer.
    pub bytes: u64,
    /// Whether that is not known exactly.
    pub is_estimate: bool,
    /// From the command to the end.
    pub took: Duration,
    /// How it ended.
    pub outcome: Outcome,
}

/// How a transfer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The data connection ended in order and the server said that all is well.
    Ended,
    /// The client reset the data connection, or went away.
    CutByClient,
    /// The server reset the data connection, or went away.
    CutByServer,
    /// The data connection ended in order, but the server says that the transfer failed.
    Failed(u16),
    /// Nobody came to the pinhole.
    TimedOut,
    /// The server refused the command.
    Refused(u16),
    /// This side could not be reached for the data connection.
    NotReached(Side),
    /// It reached a limit, and was cut on both sides.
    Limited(Limit),
    /// The gate ended it: shutdown, or a rule that now denies the session.
    Aborted,
    /// The server said that all is well and no data connection was made: an empty listing.
    NoData,
}

/// What is known of how a transfer went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Ending {
    /// The server announced it with 1yz.
    pub(super) begun: bool,
    /// What became of the data connection.
    pub(super) data: Option<DataEnd>,
    /// The code of the final reply, and whether it means success.
    pub(super) reply: Option<(u16, bool)>,
    /// Nobody came to the pinhole in time.
    pub(super) expired: bool,
    /// The server says that all is well, and the client was told that it is not.
    pub(super) lost: bool,
    /// The side that left the control connection in the middle.
    pub(super) left: Option<Side>,
}

impl Ending {
    pub(super) fn outcome(self, way: Way) -> Outcome {
        match (self.data.map(|data| data.how), self.reply) {
            (Some(HowEnded::Limited(limit)), _) => Outcome::Limited(limit),
            (_, Some((code, false))) if !self.begun && !self.expired => Outcome::Refused(code),
            (Some(HowEnded::CutBy(Side::Client)), _) => Outcome::CutByClient,
            (Some(HowEnded::CutBy(Side::Server)), _) => Outcome::CutByServer,
            (Some(HowEnded::NotReached { side, .. }), _) => Outcome::NotReached(side),
            (Some(HowEnded::Aborted), _) => match self.left {
                Some(Side::Client) => Outcome::CutByClient,
                Some(Side::Server) => Outcome::CutByServer,
                None => Outcome::Aborted,
            },
            (Some(HowEnded::Complete), Some((_, true))) => Outcome::Ended,
            (Some(HowEnded::Complete), Some((code, false))) => Outcome::Failed(code),
            // All that it had to send was taken.
            (Some(HowEnded::Complete), None) if way == Way::Upload && self.left == Some(Side::Client) => Outcome::Ended,
            (None, Some((_, true))) if !self.lost => Outcome::NoData,
            (None, _) if self.expired => Outcome::TimedOut,
            (None, Some((code, false))) => Outcome::Failed(code),
            (data, _) => match (self.left, data) {
                (Some(Side::Client), _) => Outcome::CutByClient,
                (Some(Side::Server), _) => Outcome::CutByServer,
                (None, Some(_)) => Outcome::Ended,
                (None, None) => Outcome::Aborted,
            },
        }
    }
}
