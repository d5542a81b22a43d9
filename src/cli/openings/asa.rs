//! As Cisco ASA: object groups, and an access list for each side and direction.

use ipnet::IpNet;

use super::addresses::Family;
use super::opening::Openings;
use super::opening::{Direction, End, Opening};
use super::words;
use crate::addr::{PortRange, PortRanges, Side};

/// The object groups that were written: what is in each, and its name.
type Groups = Vec<(String, String)>;

/// As much as a remark may have.
const LONGEST_REMARK: usize = 100;

pub(super) fn text(openings: &Openings) -> String {
    let usage = [
        "Each list belongs to the interface where its packets come in: INBOUND to the one that faces the clients, OUTBOUND \
         to the one that faces the servers: `access-group FTPGATE-CLIENT-SIDE-INBOUND in interface outside`. Where an \
         interface has a list already, give these lines its name.",
        "Before it is pasted again: `clear configure access-list NAME` and `no object-group network NAME` for those below.",
    ];
    let mut out = String::new();
    let mut groups = Groups::new();
    for line in words::head(openings, &usage) {
        out += &format!("! {line}\n");
    }
    for name in words::placeholders(&openings.lines) {
        let option = words::option(&name);
        out += &format!("! The address has to be written here, or give {option} IP:\n");
        out += &format!("! object-group network {}\n!  network-object host ADDRESS\n", group(&name));
    }
    for side in [Side::Client, Side::Server] {
        for direction in [Direction::Inbound, Direction::Outbound] {
            let mut lines =
                openings.lines.iter().filter(|line| (line.side, line.direction) == (side, direction)).peekable();
            if lines.peek().is_some() {
                let way = match direction {
                    Direction::Inbound => "towards the servers",
                    Direction::Outbound => "towards the clients",
                };
                out += &format!("!\n! The firewall {}, {way}.\n", words::between(side));
            }
            lines.for_each(|line| out += &entries(line, &mut groups));
        }
    }
    out
}

/// The entries of one line, behind the groups that they need and that are not there yet.
fn entries(line: &Opening, groups: &mut Groups) -> String {
    let list = format!("FTPGATE-{}-SIDE-{}", line.side, words::direction(line.direction)).to_uppercase();
    let mut out = String::new();
    let from = host(&line.from, format!("FTPGATE-{}-FROM", line.number), groups, &mut out);
    let to = host(&line.to, format!("FTPGATE-{}-TO", line.number), groups, &mut out);
    let mut remark = words::remark(line);
    if remark.len() > LONGEST_REMARK {
        remark = format!("{}: {}", line.number, words::why(line));
    }
    // The command line takes printable ASCII, and "?" asks it for help.
    remark.retain(|c| matches!(c, ' '..='~') && c != '?');
    remark.truncate(LONGEST_REMARK);
    out += &format!("access-list {list} remark {}\n", remark.trim_end());
    let protocol = words::protocol(line.protocol);
    for from_ports in ports(line.from.ports.as_ref()) {
        for to_ports in ports(line.to.ports.as_ref()) {
            out += &format!("access-list {list} extended permit {protocol} {from}{from_ports} {to}{to_ports}\n");
        }
    }
    out
}

/// One end: itself, or a group, which is written to `out` where there is none like it.
fn host(end: &End, name: String, groups: &mut Groups, out: &mut String) -> String {
    let known = end.addresses.known();
    if known.is_everything() {
        return match known.family() {
            Family::V4 => "any4".to_owned(),
            Family::V6 => "any6".to_owned(),
        };
    }
    let nets = known.prefixes();
    let missing = words::placeholder(end);
    match (&nets[..], &missing) {
        ([net], None) => return network(net),
        ([], Some(missing)) => return format!("object-group {}", group(missing)),
        _ => {}
    }
    let objects = nets.iter().map(|net| format!(" network-object {}\n", network(net)));
    let objects: String =
        objects.chain(missing.iter().map(|name| format!(" group-object {}\n", group(name)))).collect();
    if let Some((_, name)) = groups.iter().find(|(written, _)| *written == objects) {
        return format!("object-group {name}");
    }
    *out += &format!("object-group network {name}\n{objects}");
    let written = format!("object-group {name}");
    groups.push((objects, name));
    written
}

fn network(net: &IpNet) -> String {
    match net {
        net if net.prefix_len() == net.max_prefix_len() => format!("host {}", net.addr()),
        IpNet::V4(net) => format!("{} {}", net.addr(), net.netmask()),
        IpNet::V6(net) => net.to_string(),
    }
}

/// With the blank before it.
fn ports(ports: Option<&PortRanges>) -> Vec<String> {
    let written = |range: &PortRange| match (range.first(), range.last()) {
        (first, last) if first == last => format!(" eq {first}"),
        (first, last) => format!(" range {first} {last}"),
    };
    ports.map_or_else(|| vec![String::new()], |ports| ports.as_slice().iter().map(written).collect())
}

fn group(placeholder: &str) -> String {
    format!("FTPGATE-{placeholder}").to_uppercase()
}
