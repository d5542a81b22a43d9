//! As JSON, for programs.

use serde_json::{Value, json};

use super::opening::Openings;
use super::opening::{End, Opening, Role};
use super::words;

pub(super) fn text(openings: &Openings) -> String {
    let lines: Vec<Value> = openings.lines.iter().map(line).collect();
    format!("{:#}\n", json!({ "openings": lines, "notes": words::remarks(openings) }))
}

fn line(line: &Opening) -> Value {
    json!({
        "number": line.number,
        "side": line.side.to_string(),
        "direction": words::direction(line.direction),
        "protocol": words::protocol(line.protocol),
        "family": line.family().to_string().to_lowercase(),
        "purpose": words::purpose(line.purpose),
        "from": end(&line.from),
        "to": end(&line.to),
        "rules": line.rules,
        "listeners": line.listeners,
        "sentence": words::sentence(line),
    })
}

/// `addresses` are all that are meant, without exceptions; `advertised` are those of a NAT in front of the gate. Where the
/// end's own addresses are not known there is `missing`, and where it has any port no `ports`.
fn end(end: &End) -> Value {
    let role = match end.role {
        Role::Client => "client",
        Role::Balancer => "balancer",
        Role::Checker => "health checker",
        Role::Gate(_) => "gate",
        Role::Server => "server",
        Role::NameServer => "name server",
    };
    let addresses: Vec<String> = end.addresses.own.prefixes().iter().map(ToString::to_string).collect();
    let mut value = json!({ "role": role, "addresses": addresses });
    if let Some(ports) = &end.ports {
        let range = |range: &crate::addr::PortRange| json!({ "first": range.first(), "last": range.last() });
        value["ports"] = ports.as_slice().iter().map(range).collect();
    }
    if !end.addresses.told.is_empty() {
        value["advertised"] = end.addresses.told.iter().map(|told| json!(told.to_string())).collect();
    }
    if let Some(missing) = words::placeholder(end) {
        value["missing"] = json!(missing);
    }
    value
}
