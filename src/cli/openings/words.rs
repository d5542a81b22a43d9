//! The words that every form uses.

use std::fmt::Display;

use ipnet::IpNet;

use super::addresses::{Family, Part};
use super::opening::Openings;
use super::opening::{Direction, End, Opening, Protocol, Purpose, Role};
use crate::addr::{Network, PortRanges, Side};

/// How long a comment at the head may be.
const WIDTH: usize = 110;

/// What stands at the head of every form, without the form's own comment signs: lines that are not too long.
pub(super) fn head(openings: &Openings, usage: &[&str]) -> Vec<String> {
    let first = "What must be open on the firewalls around ftpgate. Each line is the first packet of connections: the \
                 firewall is stateful, and lets through what belongs to connections that stand.";
    let all = [first].into_iter().chain(usage.iter().copied()).map(str::to_owned);
    all.chain(remarks(openings).iter().map(|note| format!("Note: {note}"))).flat_map(|text| wrapped(&text)).collect()
}

/// A paragraph in lines; those behind the first are indented.
pub(super) fn wrapped(text: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if line.chars().count() + 1 + word.chars().count() <= WIDTH => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(format!("  {word}")),
        }
    }
    lines
}

/// What one has to know beside the lines, and what is missing in them.
pub(super) fn remarks(openings: &Openings) -> Vec<String> {
    let missing = placeholders(&openings.lines).into_iter().map(|name| missing(&name));
    missing.chain(openings.notes.iter().cloned()).collect()
}

/// What is missing, and how to give it.
pub(super) fn missing(placeholder: &str) -> String {
    let option = option(placeholder);
    let what = match option {
        "--gate-client-side" => "the gate's address on the clients' side",
        "--gate-server-side" => "the gate's address on the servers' side",
        _ => "the gate's name servers",
    };
    format!("{placeholder} stands for {what}, which the rules file does not tell: give {option} IP.")
}

/// Number, reason and sentence, in one line that no name from the rules file can end.
pub(super) fn remark(line: &Opening) -> String {
    format!("{}: {}. {}", line.number, why(line), sentence(line))
}

/// Who wants it: `rule partners: control`.
pub(super) fn why(line: &Opening) -> String {
    let (word, names) = if line.rules.is_empty() { ("listener", &line.listeners) } else { ("rule", &line.rules) };
    let plural = if names.len() == 1 { "" } else { "s" };
    // A rule's name may have any characters.
    let names: Vec<String> = names.iter().map(|name| name.escape_debug().to_string()).collect();
    format!("{word}{plural} {}: {}", names.join(", "), purpose(line.purpose))
}

pub(super) const fn purpose(purpose: Purpose) -> &'static str {
    match purpose {
        Purpose::Control => "control",
        Purpose::Passive { .. } => "passive data",
        Purpose::Active { .. } => "active data",
        Purpose::Names => "names",
    }
}

pub(super) const fn protocol(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
    }
}

pub(super) const fn direction(direction: Direction) -> &'static str {
    match direction {
        Direction::Inbound => "inbound",
        Direction::Outbound => "outbound",
    }
}

/// What a firewall is between.
pub(super) const fn between(side: Side) -> &'static str {
    match side {
        Side::Client => "between clients and gate",
        Side::Server => "between gate and servers",
    }
}

/// What happens, in a sentence.
pub(super) fn sentence(line: &Opening) -> String {
    let (from, to) = (line.from.role, line.to.role);
    match (line.side, line.purpose) {
        (Side::Client, Purpose::Control) => match to {
            Role::Server => "Clients connect to the servers' own addresses; the gate on the way takes the connections.",
            _ if from == Role::Balancer => "Balancers bring clients' control connections, each with a PROXY header.",
            _ if from == Role::Checker => "Health checks ask whether the gate is up.",
            Role::Client | Role::Balancer | Role::Checker | Role::Gate(_) | Role::NameServer => {
                "Clients open control connections to the gate."
            }
        }
        .to_owned(),
        (Side::Client, Purpose::Passive { .. }) if from == Role::Balancer => {
            "In passive mode balancers bring clients' data connections, on the port that 227 or 229 told those.".to_owned()
        }
        (Side::Client, Purpose::Passive { .. }) => {
            let whom =
                if to == Role::Server { "the server's own address, where the gate takes them" } else { "the gate" };
            format!("In passive mode clients open data connections to {whom}, on the port that 227 or 229 told them.")
        }
        (Side::Client, Purpose::Active { .. }) => {
            let name = if from == Role::Server { " in the server's name" } else { "" };
            let source = line.from.ports.as_ref().map(|port| format!(" from port {port}")).unwrap_or_default();
            format!("In active mode the gate opens data connections{source}{name} to the port that PORT or EPRT named.")
        }
        (Side::Server, Purpose::Control) => {
            let name = if from == Role::Client { ", in the client's name" } else { "" };
            format!("The gate opens a control connection to the server for each session{name}.")
        }
        (Side::Server, Purpose::Passive { always }) => {
            let mode =
                if always { "Whatever clients use, the server is asked in passive mode:" } else { "In passive mode" };
            let name = if from == Role::Client { " in the client's name" } else { "" };
            format!("{mode} the gate opens data connections{name} to the port that 227 or 229 named.")
        }
        (Side::Server, Purpose::Active { always }) => {
            let mode =
                if always { "Whatever clients use, the server is asked in active mode:" } else { "In active mode" };
            let whom = if to == Role::Client { "the client's address, where the gate takes them" } else { "the gate" };
            format!("{mode} the server opens data connections to {whom}, on the port that PORT or EPRT told it.")
        }
        (_, Purpose::Names) => "The gate looks up the names of servers and of `advertise`; its name servers may be behind another firewall.".to_owned(),
    }
}

/// Whose address is to be written in its place, where an end's is not known: `gate-client-side-ipv4`.
pub(super) fn placeholder(end: &End) -> Option<String> {
    end.addresses.is_unknown().then(|| format!("{}-{}", whose(end.role), end.addresses.family()).to_lowercase())
}

const fn whose(role: Role) -> &'static str {
    match role {
        Role::Client => "clients",
        Role::Balancer => "balancers",
        Role::Checker => "health-checkers",
        Role::Gate(Side::Client) => "gate-client-side",
        Role::Gate(Side::Server) => "gate-server-side",
        Role::Server => "servers",
        Role::NameServer => "name-servers",
    }
}

/// The placeholders of these lines, each once.
pub(super) fn placeholders(lines: &[Opening]) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for name in lines.iter().flat_map(|line| [&line.from, &line.to]).filter_map(placeholder) {
        if !all.contains(&name) {
            all.push(name);
        }
    }
    all
}

/// The option that takes a placeholder's place.
pub(super) fn option(placeholder: &str) -> &'static str {
    if placeholder.starts_with("gate-client") {
        "--gate-client-side"
    } else if placeholder.starts_with("gate-server") {
        "--gate-server-side"
    } else {
        "--name-server"
    }
}

/// The addresses of one end for people, a word or a few for each.
pub(super) fn addresses(end: &End) -> Vec<String> {
    let mut all: Vec<String> = end.addresses.told.iter().map(|told| format!("{told} (NAT)")).collect();
    if let Some(placeholder) = placeholder(end) {
        all.push(placeholder);
    } else if end.addresses.own.is_everything() {
        all.push(format!("any {}", end.addresses.family()));
    } else {
        all.extend(end.addresses.own.parts().iter().map(part));
    }
    all
}

fn part(part: &Part) -> String {
    let base = if part.net.prefix_len() == 0 { format!("any {}", Family::of(part.net.addr())) } else { net(&part.net) };
    if part.except.is_empty() { base } else { format!("{base} except {}", list(part.except.iter().map(net))) }
}

/// A network; one of a single address without its length.
pub(super) fn net(net: &IpNet) -> String {
    Network::Net(*net).to_string()
}

/// The ports of one end.
pub(super) fn ports(ports: Option<&PortRanges>) -> String {
    ports.map_or_else(|| "any".to_owned(), ToString::to_string)
}

pub(super) fn list(items: impl IntoIterator<Item = impl Display>) -> String {
    items.into_iter().map(|item| item.to_string()).collect::<Vec<_>>().join(", ")
}
