//! What the operator allows: listeners, rules, and the decision for each client and server.
//!
//! The first rule that matches decides; what no rule matches is denied. Nothing here knows how the rules were written
//! down: [`crate::rules`] reads the YAML and builds these types, which hold what was meant, checked and complete.

mod listener;
mod rule;

use std::sync::Arc;

pub use listener::{Interception, Listener, Proxies, ProxyVersion, Source, Stand};
pub use rule::{AtSessionEnd, Datapath, Destination, Inbound, Outbound, Permission, Rule, ServerMode};

use crate::addr::{ClientAddr, ServerAddr};

/// Every listener and every rule of one rules file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Where clients are waited for, in the order of the file.
    pub listeners: Vec<Listener>,
    /// The rules, in the order of the file: the first that matches decides.
    pub rules: Vec<Arc<Rule>>,
    /// How long the gate waits for things that no rule speaks of.
    pub timeouts: Timeouts,
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

/// What becomes of a client that wants to reach a server.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Decision {
    /// The session may be; this rule's ranges hold for its data connections.
    Allow(Arc<Rule>),
    /// The session may not be.
    Deny(Denied),
}

/// Why a client was denied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denied {
    /// A rule says so.
    ByRule(Arc<Rule>),
    /// No rule matches, and what no rule matches is denied.
    NoRule,
}

impl Policy {
    /// Decides whether `client` may reach `server`.
    pub fn decide(&self, client: ClientAddr, server: ServerAddr) -> Decision {
        match self.rules.iter().find(|rule| rule.matches(client, server)) {
            Some(rule) if rule.permission == Permission::Allow => Decision::Allow(Arc::clone(rule)),
            Some(rule) => Decision::Deny(Denied::ByRule(Arc::clone(rule))),
            None => Decision::Deny(Denied::NoRule),
        }
    }
}
