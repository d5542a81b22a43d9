//! As iptables: one file for `iptables-restore` and `ip6tables-restore`, a chain for each firewall.

use ipnet::IpNet;

use super::addresses::Family;
use super::opening::Openings;
use super::opening::{End, Opening};
use super::words;
use crate::addr::{PortRange, PortRanges, Side};

pub(super) fn text(openings: &Openings) -> String {
    let usage = "Load it with `iptables-restore --noflush` and with `ip6tables-restore --noflush`, each of which takes its \
                 own lines, again after each change; and jump to the chain from the firewall's own, behind its rule for \
                 connections that stand: `iptables -A FORWARD -j FTPGATE-CLIENT-SIDE`.";
    let mut out = String::new();
    for line in words::head(openings, &[usage]) {
        out += &format!("# {line}\n");
    }
    for name in words::placeholders(&openings.lines) {
        let option = words::option(&name);
        out += &format!("# Replace {} by the address, or give {option} IP: it cannot be loaded before.\n", host(&name));
    }
    let sides =
        [Side::Client, Side::Server].into_iter().filter(|side| openings.lines.iter().any(|line| line.side == *side));
    let sides: Vec<Side> = sides.collect();
    if sides.is_empty() {
        return out;
    }
    out += "*filter\n";
    for side in &sides {
        out += &format!(":{} - [0:0]\n", chain(*side));
    }
    for line in openings.lines.iter().filter(|line| has_exceptions(line)) {
        out += &format!(":{} - [0:0]\n", exceptions(line));
    }
    for side in sides {
        out += &format!("# The firewall {}.\n", words::between(side));
        for line in openings.lines.iter().filter(|line| line.side == side) {
            out += &format!("# {}\n", words::remark(line));
            rules(line).iter().for_each(|rule| out += &format!("{rule}\n"));
        }
    }
    out + "COMMIT\n"
}

fn chain(side: Side) -> String {
    format!("FTPGATE-{side}-SIDE").to_uppercase()
}

/// The rules of one line. Where networks have exceptions, a chain of its own lets those return.
fn rules(line: &Opening) -> Vec<String> {
    let family = match line.family() {
        Family::V4 => "-4",
        Family::V6 => "-6",
    };
    let protocol = words::protocol(line.protocol);
    let ends = [(&line.from, "-s"), (&line.to, "-d")];
    let [from, to] = ends.map(|(end, option)| addresses(end, option));
    // The gate has one source port at most.
    let from_ports = line.from.ports.as_ref().map(|ports| format!(" --sport {ports}")).unwrap_or_default();
    let target = if has_exceptions(line) { exceptions(line) } else { "ACCEPT".to_owned() };
    let rule = |to_ports: String| {
        let chain = chain(line.side);
        format!(
            "{family} -A {chain} -p {protocol}{from}{to}{from_ports}{to_ports} -m conntrack --ctstate NEW -j {target}"
        )
    };
    let mut rules: Vec<String> = ports(line.to.ports.as_ref()).into_iter().map(rule).collect();
    if has_exceptions(line) {
        for (end, option) in ends {
            let except: Vec<String> = excepted(end).iter().map(words::net).collect();
            if !except.is_empty() {
                rules.push(format!("{family} -A {target} {option} {} -j RETURN", except.join(",")));
            }
        }
        rules.push(format!("{family} -A {target} -j ACCEPT"));
    }
    rules
}

/// The chain for a line with exceptions.
fn exceptions(line: &Opening) -> String {
    format!("FTPGATE-LINE-{}", line.number)
}

fn has_exceptions(line: &Opening) -> bool {
    [&line.from, &line.to].into_iter().any(|end| !excepted(end).is_empty())
}

fn excepted(end: &End) -> Vec<IpNet> {
    end.addresses.known().parts().into_iter().flat_map(|part| part.except).collect()
}

/// The networks of one end, whatever they do not mean of them.
fn addresses(end: &End, option: &str) -> String {
    let parts = end.addresses.known().parts();
    if parts.iter().any(|part| part.net.prefix_len() == 0) {
        return String::new();
    }
    let mut all: Vec<String> = parts.iter().map(|part| words::net(&part.net)).collect();
    all.extend(words::placeholder(end).map(|name| host(&name)));
    format!(" {option} {}", all.join(","))
}

/// One match for a range alone, else as many as `multiport` has room for in one.
fn ports(ports: Option<&PortRanges>) -> Vec<String> {
    /// A range takes two places of fifteen.
    const MOST: usize = 7;
    let Some(ports) = ports else { return vec![String::new()] };
    let written = |range: &PortRange| range.to_string().replace('-', ":");
    match ports.as_slice() {
        [one] => vec![format!(" --dport {}", written(one))],
        many => {
            let several = |some: &[PortRange]| some.iter().map(written).collect::<Vec<_>>().join(",");
            many.chunks(MOST).map(|some| format!(" -m multiport --dports {}", several(some))).collect()
        }
    }
}

/// A name that no resolver has (RFC 2606 section 2), so that what is not filled in is refused.
fn host(placeholder: &str) -> String {
    format!("{placeholder}.invalid")
}
