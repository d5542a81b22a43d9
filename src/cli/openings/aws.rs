//! As rules of the AWS security group that the gate is in: its own addresses need no mention there.

use serde_json::{Value, json};

use super::addresses::Family;
use super::opening::Openings;
use super::opening::{Direction, Opening};
use super::words;
use crate::addr::{PortRange, Side};

/// How many rules a security group has, where nobody asked AWS for more.
const QUOTA: usize = 60;
/// As much as a description may have.
const LONGEST: usize = 255;

/// `ingress` and `egress`, each what `--ip-permissions` takes.
pub(super) fn text(openings: &Openings) -> String {
    let (ingress, egress) = (permissions(openings, true), permissions(openings, false));
    format!("{:#}\n", json!({ "ingress": ingress, "egress": egress }))
}

/// What the form itself cannot say.
pub(super) fn remarks(openings: &Openings) -> Vec<String> {
    let missing = words::placeholders(&openings.lines).into_iter().filter(|name| name.starts_with("name-server"));
    let mut remarks: Vec<String> = missing.map(|name| words::missing(&name)).collect();
    remarks.extend(openings.notes.iter().cloned());
    for (way, ingress) in [("ingress", true), ("egress", false)] {
        let rules = permissions(openings, ingress).iter().map(count).sum::<usize>();
        if rules > QUOTA {
            remarks.push(format!(
                "{rules} rules for {way}: a security group has room for {QUOTA} unless AWS allows more."
            ));
        }
    }
    remarks
}

fn count(permission: &Value) -> usize {
    let length = |key: &str| permission[key].as_array().map_or(0, Vec::len);
    length("IpRanges") + length("Ipv6Ranges")
}

fn permissions(openings: &Openings, ingress: bool) -> Vec<Value> {
    // AWS refuses a request that says the same twice, and two lines may differ only in what it does not ask.
    let mut said: Vec<(&'static str, PortRange, String)> = Vec::new();
    let mut permissions = Vec::new();
    for line in openings.lines.iter().filter(|line| is_ingress(line) == ingress) {
        let peer = if ingress { &line.from } else { &line.to };
        let Some(ports) = &line.to.ports else { continue };
        let (list, key) = match line.family() {
            Family::V4 => ("IpRanges", "CidrIp"),
            Family::V6 => ("Ipv6Ranges", "CidrIpv6"),
        };
        let protocol = words::protocol(line.protocol);
        for range in ports.as_slice() {
            let mut ranges = Vec::new();
            for net in peer.addresses.own.prefixes() {
                let rule = (protocol, *range, net.to_string());
                if !said.contains(&rule) {
                    said.push(rule);
                    ranges.push(json!({ key: net.to_string(), "Description": description(line) }));
                }
            }
            if !ranges.is_empty() {
                permissions.push(json!({
                    "IpProtocol": protocol, "FromPort": range.first(), "ToPort": range.last(), list: ranges,
                }));
            }
        }
    }
    permissions
}

/// Whether the gate is connected to.
fn is_ingress(line: &Opening) -> bool {
    matches!((line.side, line.direction), (Side::Client, Direction::Inbound) | (Side::Server, Direction::Outbound))
}

/// In the characters that AWS takes.
fn description(line: &Opening) -> String {
    let taken = |c: &char| c.is_ascii_alphanumeric() || " ._-:/()#,@[]+=&;{}!$*".contains(*c);
    format!("ftpgate {}", words::why(line)).chars().filter(taken).take(LONGEST).collect()
}
