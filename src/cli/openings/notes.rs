//! What one has to know beside the lines.

use super::addresses::Family;
use super::opening::{Opening, Purpose, Role};
use super::words::list;
use crate::addr::{Network, Side};
use crate::policy::{Advertised, Interception, Listener, Permission, Policy, Rule, Stand};

/// What is not in the lines, or in them for a reason that they do not show. `opened` are the rules that have lines, and
/// `whole` those of them from which nothing was taken away.
pub(super) fn notes(policy: &Policy, lines: &[Opening], opened: &[&str], whole: &[&str]) -> Vec<String> {
    let mut notes = Vec::new();
    for name in whole {
        notes.push(format!(
            "Rule {} is opened whole: what rules before it decide is in too many pieces. The gate denies it all the same.",
            name.escape_debug()
        ));
    }
    if lines.is_empty() {
        notes.push("No rule lets any client of any listener through, so nothing has to be open.".to_owned());
    }
    notes.extend(advertised(policy, lines));
    let timed = policy.rules.iter().filter(|rule| rule.hours.is_some() && opened.contains(&rule.name.as_str()));
    let timed: Vec<String> = timed.map(|rule| rule.name.escape_debug().to_string()).collect();
    if !timed.is_empty() {
        notes.push(format!("Shown as if it were always their hour: {}. The gate keeps the hours.", list(timed)));
    }
    let in_a_servers_name =
        |line: &&Opening| line.purpose == Purpose::Active { always: false } && line.from.role == Role::Server;
    let redirected = policy.listeners.iter().filter(|listener| is_redirect(listener));
    for listener in redirected.filter(|listener| {
        lines
            .iter()
            .filter(in_a_servers_name)
            .any(|line| line.side == Side::Client && line.listeners.contains(&listener.name))
    }) {
        notes.push(format!(
            "Listener {}: only with CAP_NET_ADMIN, as the unit gives it, does active data come from the server's address; \
             without, from the gate's.",
            listener.name
        ));
    }
    notes.extend(policy.rules.iter().flat_map(|rule| families_left_out(policy, rule)));
    let shut = policy.rules.iter().filter(|rule| rule.permission == Permission::Allow);
    let shut = shut.filter(|rule| !opened.contains(&rule.name.as_str()));
    for rule in shut.filter(|_| !lines.is_empty()) {
        notes.push(format!(
            "Rule {} opens nothing: rules before it decide for all its clients, or no listener leads to its servers.",
            rule.name.escape_debug()
        ));
    }
    notes
}

/// What a NAT in front of the gate has to do.
fn advertised(policy: &Policy, lines: &[Opening]) -> Vec<String> {
    let mut notes = Vec::new();
    let mut seen: Vec<&Advertised> = Vec::new();
    for told in lines.iter().flat_map(|line| &line.to.addresses.told) {
        if seen.contains(&told) {
            continue;
        }
        seen.push(told);
        let listens = policy
            .listeners
            .iter()
            .filter(|listener| listener.advertise.iter().any(|advertise| advertise.advertised == *told));
        let binds = list(listens.map(|listener| listener.bind));
        let written = match told {
            Advertised::Address(_) => "",
            Advertised::Name(_) => "; a firewall in front of it needs that address too, which no form can name",
        };
        notes.push(format!(
            "{told} is the NAT in front of the gate ({binds}): it hands the same ports on to it, unchanged. Open both \
             addresses, or only the one on the firewall's side of the NAT{written}."
        ));
    }
    notes
}

/// Clients whom a rule speaks of, and who have no listener to come to.
fn families_left_out(policy: &Policy, rule: &Rule) -> Vec<String> {
    let named = |family: Family| {
        rule.from.iter().any(|net| matches!(net, Network::Net(net) if Family::of(net.addr()) == family))
    };
    let comes = |family: Family| {
        let theirs = |listener: &&Listener| rule.listeners.is_empty() || rule.listeners.contains(&listener.name);
        policy.listeners.iter().filter(theirs).any(|listener| Family::of(listener.bind.ip()) == family)
    };
    let left_out = Family::ALL.into_iter().filter(|family| rule.permission == Permission::Allow && named(*family));
    let left_out = left_out.filter(|family| !comes(*family));
    left_out
        .map(|family| {
            format!("Rule {} names {family} clients, and no listener takes {family}.", rule.name.escape_debug())
        })
        .collect()
}

fn is_redirect(listener: &Listener) -> bool {
    matches!(listener.stand, Stand::Transparent { interception: Interception::Redirect, .. })
}
