//! How the rules are walked.

use jiff::Timestamp;
use serde::Serialize;

use crate::addr::PortRanges;
use crate::ftp::command::Verb;
use crate::ftp::redact::escaped;
use crate::policy::{Asker, GateLimits, Limit, Permission, Policy, ProxyVersion, Rule, RuleLimits, ServerMode, Span};

/// One rule that was looked at.
#[derive(Debug, Serialize)]
pub struct Looked {
    /// Its name.
    pub rule: String,
    /// Whether it decides.
    pub matches: bool,
    /// Why, or why not.
    pub why: String,
}

/// Looks at the rules in their order, up to the one that decides.
pub(super) fn rules(policy: &Policy, asker: &Asker<'_>, user: Option<&[u8]>) -> Vec<Looked> {
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
fn look(rule: &Rule, asker: &Asker<'_>, user: Option<&[u8]>) -> (bool, String) {
    let from = rule.from.iter().find(|network| network.contains(asker.client.ip()));
    let to = rule.destination(asker);
    let (Some(from), Some(to)) = (from, to) else {
        return (
            false,
            match from {
                None => format!("{} is in none of `from`: {}", asker.client.ip(), list(&rule.from)),
                Some(_) if rule.to.iter().any(|to| to.contains(asker.server)) => format!(
                    "the client names port {}, and `to` only port 21, for it has none: {}",
                    asker.server.port(),
                    list(&rule.to)
                ),
                Some(_) => format!("{} is in none of `to`: {}", asker.server, list(&rule.to)),
            },
        );
    };
    if !rule.is_from(asker.listener, asker.client) {
        return (false, format!("listener {} is none of `listener`: {}", asker.listener, list(&rule.listeners)));
    }
    if let Some(hours) = rule.hours.as_ref().filter(|hours| !hours.contain(asker.at)) {
        let at = hours.0.first().map_or_else(|| asker.at.to_string(), |span| clock(asker.at, span));
        return (false, format!("{at} is outside of `hours`: {hours}"));
    }
    let action = match rule.permission {
        Permission::Allow => "allow",
        Permission::Deny => "deny",
    };
    match (&rule.users, user) {
        (Some(users), None) => (false, format!("from {from}, to {to}: {action} for users {users}, at login")),
        (Some(users), Some(user)) if !rule.is_for_user(user) => {
            (false, format!("{} is none of `users`: {users}", escaped(user)))
        }
        (Some(_), Some(user)) => (true, format!("from {from}, to {to}, user {}: {action}", escaped(user))),
        (None, _) => (true, format!("from {from}, to {to}: {action}")),
    }
}

/// A moment as the clocks of a rule show it.
fn clock(at: Timestamp, span: &Span) -> String {
    span.zone.to_datetime(at).strftime("%a %Y-%m-%d %H:%M").to_string()
}

fn list<T: std::fmt::Display>(items: &[T]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// What a rule allows, a sentence for each mode.
#[must_use]
pub fn ports(rule: &Rule) -> Vec<String> {
    let passive = passive(rule);
    let active = active(rule);
    let introduced = rule.send_proxy.map(|version| {
        let version = match version {
            ProxyVersion::V1 => 1,
            ProxyVersion::V2 => 2,
        };
        format!("the server is sent a PROXY header (version {version}) first, wherever the gate connects to it")
    });
    [passive, active].into_iter().chain(introduced).chain(limits(&rule.limits)).collect()
}

fn passive(rule: &Rule) -> String {
    let Some(inbound) = &rule.inbound else { return "passive mode: refused, the rule has no `inbound`".to_owned() };
    if refuses(rule, [(Verb::Pasv, "PASV"), (Verb::Epsv, "EPSV")]) {
        return "passive mode: refused by `commands`".to_owned();
    }
    let server = match (rule.server_mode, rule.ports_for_servers()) {
        (ServerMode::Active, Some(ports)) => format!("the server to the gate on {ports}"),
        _ => format!("the gate to the server on {}", inbound.server_ports),
    };
    format!("passive mode: the client connects to the gate on {}, {server}", inbound.gate_ports)
}

fn active(rule: &Rule) -> String {
    let Some(outbound) = &rule.outbound else { return "active mode: refused, the rule has no `outbound`".to_owned() };
    if refuses(rule, [(Verb::Port, "PORT"), (Verb::Eprt, "EPRT")]) {
        return "active mode: refused by `commands`".to_owned();
    }
    let source = outbound.source_port.map(|port| format!(", coming from port {port}")).unwrap_or_default();
    let client = format!("the gate to the client on {}{source}", outbound.client_ports);
    if let Some(ports) = rule.ports_for_servers() {
        return format!("active mode: the server connects to the gate on {ports}, {client}");
    }
    let ports = rule.inbound.as_ref().map_or_else(PortRanges::unreserved, |inbound| inbound.server_ports.clone());
    format!("active mode: the gate connects to the server on {ports}, {client}")
}

/// Whether clients may give none of these commands.
fn refuses(rule: &Rule, commands: [(Verb, &str); 2]) -> bool {
    commands.into_iter().all(|(verb, name)| rule.commands.check(verb, name.as_bytes(), b"").is_err())
}

/// The limits of a rule, in words.
fn limits(limits: &RuleLimits) -> Vec<String> {
    let relayed = limits.of_the_relay().map(|limit| format!("the relay moves the data, because of `{}`", limit.name()));
    let written = [
        told("of all sessions", &limits.all.written()),
        told("of each client address", &limits.client.written()),
        told("of each session", &limits.session.written()),
    ];
    written.into_iter().chain([relayed]).flatten().collect()
}

/// The limits of the gate, in words.
pub(super) fn of_gate(limits: &GateLimits) -> impl Iterator<Item = String> {
    let mut client = limits.client.written();
    if let Some(most) = limits.failed_logins {
        let pause = humantime::format_duration(limits.pause);
        client.push(format!("{} {most}, {} {pause}", Limit::FailedLogins.name(), Limit::Pause.name()));
    }
    let written = [told("of the gate", &limits.all.written()), told("of each client address at the gate", &client)];
    written.into_iter().flatten()
}

fn told(whose: &str, written: &[String]) -> Option<String> {
    (!written.is_empty()).then(|| format!("limits {whose}: {}", written.join(", ")))
}

#[cfg(test)]
mod tests {
    use std::num::{NonZeroU32, NonZeroU64};
    use std::time::Duration;

    use super::*;

    #[test]
    fn limits_are_told_as_they_are_written() {
        let mut rule = Rule::new("partners", Permission::Allow);
        assert_eq!(ports(&rule).len(), 2);
        rule.limits.all.sessions = NonZeroU32::new(100);
        rule.limits.client.upload = NonZeroU64::new(5 << 20);
        rule.limits.session.idle_timeout = Some(Duration::from_secs(900));
        assert_eq!(
            ports(&rule)[2..],
            [
                "limits of all sessions: sessions 100",
                "limits of each client address: upload 5MiB/s",
                "limits of each session: idle_timeout 15m",
                "the relay moves the data, because of `upload`",
            ]
        );
        let gate = GateLimits { failed_logins: NonZeroU32::new(5), ..GateLimits::default() };
        let told: Vec<String> = of_gate(&gate).collect();
        assert_eq!(told, ["limits of each client address at the gate: failed_logins 5, pause 5m"]);
    }
}
