//! Tests that a rules file brings along: who wants what, and what is expected of it.

use jiff::Timestamp;

use super::Permission;
use crate::addr::{ClientAddr, ServerAddr};

/// One test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// The listener that the client comes to; `None`: the first that leads to the server.
    pub listener: Option<String>,
    /// The client.
    pub client: ClientAddr,
    /// The server; `None`: the one behind the listener.
    pub server: Option<ServerAddr>,
    /// The user that it logs in as.
    pub user: Option<String>,
    /// When; `None`: now.
    pub at: Option<Timestamp>,
    /// The directory that the server puts the user in.
    pub home: String,
    /// What is expected of the session.
    pub expect: Permission,
    /// The rule that is expected to decide.
    pub rule: Option<String>,
    /// What is expected of lines that the client says, one after the other.
    pub lines: Vec<CaseLine>,
}

/// A line of a test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaseLine {
    /// What the client says, or the server where it begins with a code.
    pub line: String,
    /// What is expected of it.
    pub expect: Expected,
}

/// What is expected of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expected {
    /// It is not refused.
    Allow,
    /// It is refused.
    Refuse,
    /// It is refused for the reason with this name.
    RefuseFor(String),
}
