//! How the rules were walked, and all of it as text.

use std::fmt::Write as _;

use serde::Serialize;

use super::Explanation;
use crate::addr::{ClientAddr, ServerAddr};
use crate::policy::{Permission, Policy, ProxyVersion, Rule};

/// One rule that was looked at.
#[derive(Debug, Serialize)]
pub(super) struct Looked {
    rule: String,
    matches: bool,
    why: String,
}

/// Looks at the rules in their order, up to the one that decides.
pub(super) fn rules(policy: &Policy, client: ClientAddr, server: ServerAddr) -> Vec<Looked> {
    let mut looked = Vec::new();
    for rule in &policy.rules {
        let matches = rule.matches(client, server);
        looked.push(Looked { rule: rule.name.clone(), matches, why: why(rule, client, server) });
        if matches {
            break;
        }
    }
    looked
}

fn why(rule: &Rule, client: ClientAddr, server: ServerAddr) -> String {
    let from = rule.from.iter().find(|network| network.contains(client.ip()));
    let to = rule.to.iter().find(|destination| destination.contains(server));
    match (from, to) {
        (None, _) => format!("{} is in none of `from`: {}", client.ip(), list(&rule.from)),
        (Some(_), None) => format!("{server} is in none of `to`: {}", list(&rule.to)),
        (Some(from), Some(to)) => {
            let action = match rule.permission {
                Permission::Allow => "allow",
                Permission::Deny => "deny",
            };
            format!("from {from}, to {to}: {action}")
        }
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
    let introduced = rule.send_proxy.map(|version| {
        let version = match version {
            ProxyVersion::V1 => 1,
            ProxyVersion::V2 => 2,
        };
        format!("the server is sent a PROXY header (version {version}) first, wherever the gate connects to it")
    });
    [passive, active].into_iter().chain(introduced).collect()
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
