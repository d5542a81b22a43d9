//! How the rules were walked, and all of it as text.

use std::fmt::Write as _;

use serde::Serialize;

use super::Explanation;
use crate::policy::{Asker, Permission, Policy, Rule};

/// One rule that was looked at.
#[derive(Debug, Serialize)]
pub(super) struct Looked {
    rule: String,
    matches: bool,
    why: String,
}

/// Looks at the rules in their order, up to the one that decides.
pub(super) fn rules(policy: &Policy, asker: &Asker<'_>, user: Option<&str>) -> Vec<Looked> {
    let mut looked = Vec::new();
    for rule in &policy.rules {
        let (matches, why) = look(rule, asker, user);
        looked.push(Looked { rule: rule.name.clone(), matches, why });
        if matches {
            break;
        }
    }
    looked
}

/// Whether a rule decides, and why or why not.
fn look(rule: &Rule, asker: &Asker<'_>, user: Option<&str>) -> (bool, String) {
    let from = rule.from.iter().find(|network| network.contains(asker.client.ip()));
    let to = rule.to.iter().find(|destination| destination.contains(asker.server));
    let (Some(from), Some(to)) = (from, to) else {
        return (
            false,
            match from {
                None => format!("{} is in none of `from`: {}", asker.client.ip(), list(&rule.from)),
                Some(_) => format!("{} is in none of `to`: {}", asker.server, list(&rule.to)),
            },
        );
    };
    if !rule.is_from(asker.listener, asker.client) {
        return (false, format!("listener {} is none of `listener`: {}", asker.listener, list(&rule.listeners)));
    }
    if let Some(hours) = rule.hours.as_ref().filter(|hours| !hours.contain(asker.at)) {
        return (false, format!("now is outside of `hours`: {hours}"));
    }
    let action = match rule.permission {
        Permission::Allow => "allow",
        Permission::Deny => "deny",
    };
    match (&rule.users, user) {
        (Some(users), None) => (false, format!("from {from}, to {to}: {action} for users {users}, at login")),
        (Some(users), Some(user)) if !rule.is_for_user(user.as_bytes()) => {
            (false, format!("{user} is none of `users`: {users}"))
        }
        (Some(_), Some(user)) => (true, format!("from {from}, to {to}, user {user}: {action}")),
        (None, _) => (true, format!("from {from}, to {to}: {action}")),
    }
}

fn list<T: std::fmt::Display>(items: &[T]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// What a rule allows, a sentence for each mode.
pub(super) fn ports(rule: &Rule) -> Vec<String> {
    let passive = rule.inbound.as_ref().map_or_else(
        || "passive mode: refused, the rule has no `inbound`".to_owned(),
        |inbound| {
            format!(
                "passive mode: the client connects to the gate on {}, the gate to the server on {}",
                inbound.gate_ports, inbound.server_ports
            )
        },
    );
    let active = rule.outbound.as_ref().map_or_else(
        || "active mode: refused, the rule has no `outbound`".to_owned(),
        |outbound| {
            let source = outbound.source_port.map(|port| format!(", coming from port {port}")).unwrap_or_default();
            format!(
                "active mode: the server connects to the gate on {}, the gate to the client on {}{source}",
                outbound.gate_ports, outbound.client_ports
            )
        },
    );
    vec![passive, active]
}

/// The explanation for people.
pub(super) fn text(explanation: &Explanation) -> String {
    let mut text = String::new();
    let mut line = |what: std::fmt::Arguments<'_>| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{what}");
    };
    let Explanation { client, server, listener, rules, decision, rule, ports, lines, note } = explanation;
    line(format_args!("client {client} at listener {listener}, to server {server}"));
    for looked in rules {
        let sign = if looked.matches { "=>" } else { "  " };
        line(format_args!("{sign} rule {}: {}", looked.rule, looked.why));
    }
    match rule {
        Some(rule) => line(format_args!("{decision} by rule {rule}")),
        None => line(format_args!("deny: no rule matches, and what no rule matches is denied")),
    }
    ports.iter().for_each(|sentence| line(format_args!("   {sentence}")));
    for said in lines {
        line(format_args!("{}: {}", said.by, said.line));
        said.then.iter().for_each(|then| line(format_args!("   {then}")));
    }
    if let Some(note) = note {
        line(format_args!("({note})"));
    }
    text
}
