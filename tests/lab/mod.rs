//! The lab: real FTP clients and servers around the gate, each in its own network namespace.
//!
//! A [`host::Host`] is a namespace, [`net::Net`] joins three of them (client, gate, server),
//! [`server::Server`] and [`client::Client`] drive the real programs that `tests/lab/packages`
//! brings, and [`gate::Gate`] runs ours between them. Nothing outside the namespaces is
//! touched, and all of it ends with the process that started it, so any number of labs can
//! stand side by side.

pub mod client;
pub mod gate;
pub mod goods;
pub mod host;
pub mod job;
pub mod net;
pub mod scratch;
pub mod server;

use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// What stands between a wish and a result; meant for a person who reads a test's output.
pub type Fault = Box<dyn std::error::Error + Send + Sync>;

/// Who calls whom for data, as the server sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    Active,
    Passive,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    V4,
    V6,
}

/// The words in which a data connection is agreed on. IPv6 leaves no choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Notation {
    /// Whatever the program prefers, or a server that knows all.
    Either,
    /// PORT and PASV.
    Plain,
    /// EPRT and EPSV.
    Extended,
}

/// How data connections come about between one program and its peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Leg {
    pub mode: Mode,
    pub family: Family,
    pub notation: Notation,
}

impl Leg {
    pub const fn new(mode: Mode, family: Family) -> Self {
        Self { mode, family, notation: Notation::Either }
    }

    /// The commands that do not belong to it.
    pub fn foreign_verbs(self) -> Vec<&'static str> {
        let verbs = [
            ("PASV", Mode::Passive, Notation::Plain),
            ("EPSV", Mode::Passive, Notation::Extended),
            ("PORT", Mode::Active, Notation::Plain),
            ("EPRT", Mode::Active, Notation::Extended),
        ];
        let fits = |notation| self.notation == Notation::Either || self.notation == notation;
        let foreign = verbs.into_iter().filter(|&(_, mode, notation)| mode != self.mode || !fits(notation));
        foreign.map(|(verb, ..)| verb).collect()
    }
}

/// `passive/v4`, and `passive/v4-plain` where the notation is fixed.
impl fmt::Display for Leg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.mode, self.family)?;
        match self.notation {
            Notation::Either => Ok(()),
            Notation::Plain => f.write_str("-plain"),
            Notation::Extended => f.write_str("-extended"),
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Active => "active",
            Self::Passive => "passive",
        })
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::V4 => "v4",
            Self::V6 => "v6",
        })
    }
}

/// Where `tests/lab/packages` put the servers.
pub fn unpacked() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(target).join("lab/root")
}

/// Asks until there is an answer, for at most `limit`.
pub fn poll<T>(limit: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + limit;
    loop {
        if let Some(answer) = ask() {
            return Some(answer);
        }
        if Instant::now() >= end {
            return None;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}
