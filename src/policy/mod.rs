//! What the operator allows: listeners, rules, and the decision for each client and server.
//!
//! The first rule that matches decides; what no rule matches is denied. Nothing here knows how the rules were written
//! down: [`crate::rules`] reads the YAML and builds these types, which hold what was meant, checked and complete.

mod case;
mod commands;
mod data_peers;
mod decide;
mod doubts;
mod glob;
mod hours;
pub mod limits;
mod listener;
pub mod paths;
mod rule;
mod table;

pub use case::{Case, CaseLine, Expected};
pub use commands::{CommandList, Commands, NotAllowed};
pub use data_peers::{DataPeers, Networks};
pub use decide::{Asker, Candidates, Decision, Denied};
pub use doubts::{About, Doubt};
pub use glob::Globs;
pub use hours::{Hours, Span};
pub use limits::{
    Capacity, GateLimits, Limit, Reached, RuleLimits, SessionLimits, TimeLimit, Together, Unwritten, Whose,
};
pub use listener::{Advertise, Advertised, Interception, Listener, Proxies, ProxyVersion, Source, Stand};
pub use rule::{
    AtSessionEnd, Datapath, Destination, ForeignAddress, ForeignAddresses, Inbound, NotDialled, Outbound, Permission,
    Rule, ServerMode,
};
pub use table::Rules;

/// Every listener and every rule of one rules file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Where clients are waited for, in the order of the file.
    pub listeners: Vec<Listener>,
    /// The rules, in the order of the file: the first that matches decides.
    pub rules: Rules,
    /// How long the gate waits for things that no rule speaks of.
    pub timeouts: Timeouts,
    /// How much of the gate clients may have.
    pub limits: GateLimits,
}

/// How long the gate waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// For the connection to a server, control or data, to be made.
    pub connect: std::time::Duration,
    /// For the server's greeting, once connected.
    pub greeting: std::time::Duration,
    /// For transfers to end by themselves after SIGTERM.
    pub drain: std::time::Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: std::time::Duration::from_secs(10),
            greeting: std::time::Duration::from_secs(60),
            drain: std::time::Duration::from_secs(30),
        }
    }
}

impl Policy {
    /// Every name that clients are told the address of, as often as it is written, and whether it is to be IPv6.
    pub fn advertised_names(&self) -> impl Iterator<Item = (&str, bool)> {
        self.listeners.iter().flat_map(|listener| {
            listener.advertise.iter().filter_map(|advertise| match &advertise.advertised {
                Advertised::Name(name) => Some((name.as_str(), listener.bind.is_ipv6())),
                Advertised::Address(_) => None,
            })
        })
    }
}
