//! Who can reach whom under which rule: what is left of a rule behind those before it.

use std::net::IpAddr;

use super::addresses::{AddressSet, Family};
use crate::addr::Network;
use crate::policy::{Listener, Permission, Policy, Rule, Stand};

/// The control port where a rule names none.
const CONTROL_PORT: u16 = 21;
/// How many pieces of a rule are told apart.
const MOST_PIECES: usize = 512;

/// Clients, the servers that they can reach, and the control port.
#[derive(Clone, Debug)]
pub(super) struct Pair {
    pub(super) from: AddressSet,
    pub(super) to: AddressSet,
    pub(super) port: u16,
}

/// What a rule lets through at one listener.
#[derive(Debug)]
pub(super) struct Reach<'a> {
    pub(super) rule: &'a Rule,
    /// Whom it lets to whom; none where rules before it decide all.
    pub(super) pairs: Vec<Pair>,
    /// Rules before it leave so many pieces that it is taken whole.
    pub(super) is_whole: bool,
}

/// The rules that let clients of a listener through, in their order.
pub(super) fn reach<'a>(policy: &'a Policy, listener: &Listener, families: &[Family]) -> Vec<Reach<'a>> {
    let mut before: Vec<&Rule> = Vec::new();
    let mut reached = Vec::new();
    let here = |rule: &Rule| rule.listeners.is_empty() || rule.listeners.contains(&listener.name);
    for rule in policy.rules.iter().map(|rule| &**rule).filter(|rule| here(rule)) {
        if rule.permission == Permission::Allow {
            let mut pairs = all_pairs(rule, listener, families);
            let mut is_whole = false;
            for earlier in &before {
                pairs = pairs.into_iter().flat_map(|pair| left_by(earlier, listener, pair)).collect();
                if pairs.len() > MOST_PIECES {
                    (pairs, is_whole) = (all_pairs(rule, listener, families), true);
                    break;
                }
            }
            reached.push(Reach { rule, pairs, is_whole });
        }
        // One that waits for a user or an hour leaves everybody to the rules behind it, now and then.
        if rule.users.is_none() && rule.hours.is_none() {
            before.push(rule);
        }
    }
    reached
}

/// Everybody that a rule is for.
fn all_pairs(rule: &Rule, listener: &Listener, families: &[Family]) -> Vec<Pair> {
    let from = AddressSet::of(&rule.from, Family::of(listener.bind.ip()));
    let mut ports: Vec<u16> = match listener.stand {
        Stand::Reverse { server } => vec![server.port()],
        Stand::Transparent { .. } | Stand::Explicit => {
            rule.to.iter().map(|destination| destination.port.unwrap_or(CONTROL_PORT)).collect()
        }
    };
    ports.sort_unstable();
    ports.dedup();
    let mut pairs = Vec::new();
    for &family in families {
        for &port in &ports {
            let to = servers(rule, listener, family, port, |own| own.unwrap_or(CONTROL_PORT) == port);
            if !from.is_empty() && !to.is_empty() {
                pairs.push(Pair { from: from.clone(), to, port });
            }
        }
    }
    pairs
}

/// What an earlier rule leaves of a pair: other clients to all its servers, and its clients to other servers.
fn left_by(earlier: &Rule, listener: &Listener, pair: Pair) -> Vec<Pair> {
    let Pair { from, to, port } = pair;
    let theirs = AddressSet::of(&earlier.from, from.family());
    let every_port = listener.stand != Stand::Explicit || earlier.permission == Permission::Deny;
    let takes = |own: Option<u16>| own.map_or(every_port || port == CONTROL_PORT, |own| own == port);
    let decided = servers(earlier, listener, to.family(), port, takes);
    let (others, same) = (from.without(&theirs), from.within(&theirs));
    let rest = to.without(&decided);
    if same.is_empty() || rest == to {
        return vec![Pair { from, to, port }];
    }
    let left = [Pair { from: others, to, port }, Pair { from: same, to: rest, port }];
    left.into_iter().filter(|pair| !pair.from.is_empty() && !pair.to.is_empty()).collect()
}

/// The servers that a rule is for at one control port; `fits` says which of its destinations are.
fn servers(
    rule: &Rule,
    listener: &Listener,
    family: Family,
    port: u16,
    fits: impl Fn(Option<u16>) -> bool,
) -> AddressSet {
    match listener.stand {
        Stand::Reverse { server } if server.port() == port && rule.to.iter().any(|to| to.contains(server)) => {
            AddressSet::of_hosts([server.ip()], family)
        }
        Stand::Reverse { .. } => AddressSet::none(family),
        Stand::Transparent { .. } | Stand::Explicit => {
            let networks: Vec<&Network> = rule.to.iter().filter(|to| fits(to.port)).map(|to| &to.network).collect();
            AddressSet::of(networks, family)
        }
    }
}

/// The families of the servers behind a listener; a client of an explicit one may name a server of either, if the gate
/// has an address of that family.
pub(super) fn families(listener: &Listener, gate: &[IpAddr]) -> Vec<Family> {
    match listener.stand {
        Stand::Reverse { server } => vec![Family::of(server.ip())],
        Stand::Transparent { .. } => vec![Family::of(listener.bind.ip())],
        Stand::Explicit => {
            let has = |family: &Family| gate.is_empty() || gate.iter().any(|ip| Family::of(*ip) == *family);
            Family::ALL.into_iter().filter(has).collect()
        }
    }
}
