//! As nftables: a chain for each firewall, to jump to from its own.

use super::opening::Openings;
use super::opening::{End, Opening};
use super::words;
use crate::addr::{PortRanges, Side};

/// The table and the family in which most firewalls keep their chains.
const TABLE: &str = "inet filter";

pub(super) fn text(openings: &Openings) -> String {
    let mut out = String::from("#!/usr/sbin/nft -f\n");
    let usage = "Load it with `nft -f`, again after each change, and jump to the chain from the firewall's own forward \
                 chain, behind its `ct state established,related accept`: `jump ftpgate_client_side`. Another table: \
                 put its name in place of `inet filter`.";
    for line in words::head(openings, &[usage]) {
        out += &format!("# {line}\n");
    }
    for name in words::placeholders(&openings.lines) {
        out += &format!(
            "# define {} = ADDRESS    # write it here, or give {} IP\n",
            variable(&name),
            words::option(&name)
        );
    }
    for side in [Side::Client, Side::Server] {
        let lines: Vec<&Opening> = openings.lines.iter().filter(|line| line.side == side).collect();
        if lines.is_empty() {
            continue;
        }
        let chain = format!("ftpgate_{side}_side");
        out += &format!("\ntable {TABLE} {{\n\tchain {chain} {{\n\t}}\n}}\nflush chain {TABLE} {chain}\n");
        out += &format!("# The firewall {}.\ntable {TABLE} {{\n\tchain {chain} {{\n", words::between(side));
        for line in lines {
            out += &format!("\t\t# {}\n", words::remark(line));
            for rule in rules(line) {
                out += &format!("\t\t{rule}\n");
            }
        }
        out += "\t}\n}\n";
    }
    out
}

/// The rules of one line: more than one where a network has exceptions.
fn rules(line: &Opening) -> Vec<String> {
    let family = match line.family() {
        super::addresses::Family::V4 => "ip",
        super::addresses::Family::V6 => "ip6",
    };
    let protocol = words::protocol(line.protocol);
    let (from, to) = (matches(&line.from, family, "saddr"), matches(&line.to, family, "daddr"));
    let ports = [("sport", &line.from.ports), ("dport", &line.to.ports)].map(|(field, ports)| match ports {
        None => String::new(),
        Some(ports) => format!("{protocol} {field} {} ", set(&ports_list(ports))),
    });
    let mut rules = Vec::new();
    for from in &from {
        for to in &to {
            let whom = match (from.as_str(), to.as_str(), family) {
                ("", "", "ip") => "meta nfproto ipv4 ".to_owned(),
                ("", "", _) => "meta nfproto ipv6 ".to_owned(),
                _ => format!("{from}{to}"),
            };
            rules.push(format!("{whom}{}ct state new accept", ports.concat()));
        }
    }
    rules
}

/// Each of these matches some of the addresses; an empty one matches all.
fn matches(end: &End, family: &str, field: &str) -> Vec<String> {
    let parts = end.addresses.known().parts();
    let (whole, rest): (Vec<_>, Vec<_>) = parts.iter().partition(|part| part.except.is_empty());
    let mut plain: Vec<String> = whole.iter().map(|part| words::net(&part.net)).collect();
    plain.extend(words::placeholder(end).map(|name| format!("${}", variable(&name))));
    let mut all = Vec::new();
    if whole.iter().any(|part| part.net.prefix_len() == 0) {
        all.push(String::new());
    } else if !plain.is_empty() {
        all.push(format!("{family} {field} {} ", set(&plain)));
    }
    for part in rest {
        let except: Vec<String> = part.except.iter().map(words::net).collect();
        let inside = match part.net.prefix_len() {
            0 => String::new(),
            _ => format!("{family} {field} {} ", words::net(&part.net)),
        };
        all.push(format!("{inside}{family} {field} != {} ", set(&except)));
    }
    all
}

fn ports_list(ports: &PortRanges) -> Vec<String> {
    ports.as_slice().iter().map(ToString::to_string).collect()
}

fn set(items: &[String]) -> String {
    match items {
        [one] => one.clone(),
        items => format!("{{ {} }}", items.join(", ")),
    }
}

fn variable(placeholder: &str) -> String {
    placeholder.replace('-', "_")
}
