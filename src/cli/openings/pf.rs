//! As pf: rules for an anchor.

use super::addresses::Family;
use super::opening::Openings;
use super::opening::{End, Opening, Protocol};
use super::words;
use crate::addr::{PortRange, PortRanges, Side};

pub(super) fn text(openings: &Openings) -> String {
    let usage = "Load it into an anchor of its own, again after each change: `anchor ftpgate` in pf.conf, and \
                 `pfctl -a ftpgate -f FILE`. For the firewall on one side alone: `--side`.";
    let mut out = String::new();
    for line in words::head(openings, &[usage]) {
        out += &format!("# {line}\n");
    }
    for name in words::placeholders(&openings.lines) {
        let option = words::option(&name);
        out += &format!("# {} = \"ADDRESS\"    # write it here, or give {option} IP\n", variable(&name));
    }
    for side in [Side::Client, Side::Server] {
        let mut lines = openings.lines.iter().filter(|line| line.side == side).peekable();
        if lines.peek().is_some() {
            out += &format!("\n# The firewall {}.\n", words::between(side));
        }
        for line in lines {
            out += &format!("# {}\n{}", words::remark(line), rule(line));
        }
    }
    out
}

/// The rule, behind the tables that it needs.
fn rule(line: &Opening) -> String {
    let family = match line.family() {
        Family::V4 => "inet",
        Family::V6 => "inet6",
    };
    let mut tables = String::new();
    let from = host(&line.from, &format!("ftpgate_{}_from", line.number), &mut tables);
    let to = host(&line.to, &format!("ftpgate_{}_to", line.number), &mut tables);
    let (from_ports, to_ports) = (ports(line.from.ports.as_ref()), ports(line.to.ports.as_ref()));
    let flags = match line.protocol {
        Protocol::Tcp => " flags S/SA",
        Protocol::Udp => "",
    };
    let protocol = words::protocol(line.protocol);
    format!(
        "{tables}pass quick {family} proto {protocol} from {from}{from_ports} to {to}{to_ports}{flags} keep state\n"
    )
}

/// One end; a list with exceptions has to be a table, for `{ !a, !b }` in a rule matches everything.
fn host(end: &End, table: &str, tables: &mut String) -> String {
    let known = end.addresses.known();
    if known.is_everything() {
        return "any".to_owned();
    }
    let parts = known.parts();
    let mut items: Vec<String> = Vec::new();
    for part in &parts {
        items.push(words::net(&part.net));
        items.extend(part.except.iter().map(|net| format!("!{}", words::net(net))));
    }
    if parts.iter().any(|part| !part.except.is_empty()) {
        *tables += &format!("table <{table}> const {{ {} }}\n", items.join(", "));
        return format!("<{table}>");
    }
    items.extend(words::placeholder(end).map(|name| format!("${}", variable(&name))));
    braced(&items)
}

fn ports(ports: Option<&PortRanges>) -> String {
    let written = |range: &PortRange| range.to_string().replace('-', ":");
    ports.map_or_else(String::new, |ports| {
        format!(" port {}", braced(&ports.as_slice().iter().map(written).collect::<Vec<_>>()))
    })
}

fn braced(items: &[String]) -> String {
    match items {
        [one] => one.clone(),
        items => format!("{{ {} }}", items.join(", ")),
    }
}

fn variable(placeholder: &str) -> String {
    placeholder.replace('-', "_")
}
