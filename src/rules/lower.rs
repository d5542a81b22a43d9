//! From what was written to what it means, with the checks that take more than one value.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_yaml::Value;

use super::read::Reader;
use super::schema::{self, Action, Direction, File};
use super::tree::Step;
use super::written::{Many, One, Ports, Wait};
use crate::addr::{PortRanges, ServerAddr};
use crate::policy::{
    Datapath, Inbound, Interception, Listener, Outbound, Permission, Policy, Rule, ServerMode, Source, Stand, Timeouts,
};

/// How long a pinhole waits if the rule does not say.
const PINHOLE_TIMEOUT: Duration = Duration::from_secs(30);

/// Reads the whole file; what is wrong is recorded with the reader.
pub(super) fn policy(reader: &mut Reader<'_>, value: Value) -> Option<Policy> {
    let file: File = reader.read(&[], value)?;
    if let Some(version) = reader.need(&[], "version", file.version)
        && version.as_u64() != Some(1)
    {
        reader.wrong(&[key("version")], "this version of ftpgate reads version 1 only", "write `version: 1`");
    }
    let timeouts = file.timeouts.map_or_else(|| Some(Timeouts::default()), |value| timeouts(reader, value));
    let listeners = items(reader, "listeners", file.listeners, listener);
    let rules = items(reader, "rules", file.rules, rule);
    check_listeners(reader, &listeners);
    check_names(reader, "rules", rules.iter().map(|rule| rule.as_ref().map(|rule| rule.name.as_str())));
    Some(Policy {
        listeners: listeners.into_iter().collect::<Option<_>>()?,
        rules: rules.into_iter().map(|rule| rule.map(Arc::new)).collect::<Option<_>>()?,
        timeouts: timeouts?,
    })
}

fn key(name: &str) -> Step {
    Step::Key(name.to_owned())
}

/// Reads each item of a list that must not be empty.
fn items<T>(
    reader: &mut Reader<'_>,
    name: &str,
    value: Option<Value>,
    read: impl Fn(&mut Reader<'_>, &[Step], Value) -> Option<T>,
) -> Vec<Option<T>> {
    match reader.need(&[], name, value) {
        Some(Value::Sequence(list)) if !list.is_empty() => list
            .into_iter()
            .enumerate()
            .map(|(index, value)| {
                let path = [key(name), Step::Item(index)];
                if value.is_mapping() {
                    return read(reader, &path, value);
                }
                reader.wrong(&path, "this is no map of keys and values", schema::help(name));
                None
            })
            .collect(),
        Some(_) => {
            reader.wrong(&[key(name)], format!("`{name}` is not a list with something in it"), schema::help(name));
            Vec::new()
        }
        None => Vec::new(),
    }
}

fn timeouts(reader: &mut Reader<'_>, value: Value) -> Option<Timeouts> {
    let written: schema::Timeouts = reader.read(&[key("timeouts")], value)?;
    let default = Timeouts::default();
    let or = |wait: Option<One<Wait>>, default| wait.map_or(default, |One(Wait(wait))| wait);
    Some(Timeouts {
        connect: or(written.connect, default.connect),
        greeting: or(written.greeting, default.greeting),
        drain: or(written.drain, default.drain),
    })
}

fn listener(reader: &mut Reader<'_>, path: &[Step], value: Value) -> Option<Listener> {
    if let Some(explicit) = value.get("explicit") {
        let _unread = explicit;
        let at = [path, &[key("explicit")]].concat();
        reader.wrong_key(&at, "this version has no explicit listeners", "write `server:` or `transparent:`");
        return None;
    }
    let written: schema::Listener = reader.read(path, value)?;
    let name = reader.need(path, "name", written.name);
    let bind = reader.need(path, "bind", written.bind).map(|One(bind)| bind);
    let advertise = written.advertise.map(|One(ip)| ip);
    let at = |name: &str| [path, &[key(name)]].concat();
    let stand = match (written.server, written.transparent) {
        (Some(_), Some(_)) => {
            let help = "keep `server:` for one server behind the gate, or `transparent:` for all servers";
            reader.wrong_key(&at("transparent"), "a listener is reverse or transparent, not both", help);
            None
        }
        (Some(One(server)), None) => Some(Stand::Reverse { server: ServerAddr::new(server.0) }),
        (None, Some(transparent)) => Some(Stand::Transparent {
            interception: match transparent {
                schema::Transparent::Tproxy => Interception::Tproxy,
                schema::Transparent::Redirect => Interception::Redirect,
            },
            source: if written.source == Some(schema::Source::Client) { Source::Client } else { Source::Gate },
        }),
        (None, None) => reader.need_one_of(path, "server", "transparent"),
    };
    if written.source.is_some() && matches!(stand, Some(Stand::Reverse { .. })) {
        let help = "leave it away: a reverse listener's server sees the gate";
        reader.wrong_key(&at("source"), "`source` is for transparent listeners", help);
    }
    if let Some(ip) = advertise {
        if matches!(stand, Some(Stand::Transparent { .. })) {
            let help = "leave it away: clients of a transparent listener are told the server's own address";
            reader.wrong_key(&at("advertise"), "`advertise` is for reverse listeners", help);
        } else if bind.is_some_and(|bind| bind.is_ipv6() != ip.is_ipv6()) {
            let help = "write an address of the same family as `bind`";
            reader.wrong(&at("advertise"), "the listener's clients cannot reach an address of another family", help);
        }
    }
    Some(Listener { name: name?.0.0, bind: bind?, stand: stand?, advertise })
}

fn check_listeners(reader: &mut Reader<'_>, listeners: &[Option<Listener>]) {
    check_names(reader, "listeners", listeners.iter().map(|item| item.as_ref().map(|item| item.name.as_str())));
    for (index, listener) in listeners.iter().enumerate() {
        let Some(listener) = listener else { continue };
        let earlier = listeners.iter().take(index).flatten().find(|earlier| meet(earlier.bind, listener.bind));
        if let Some(earlier) = earlier {
            let path = [key("listeners"), Step::Item(index), key("bind")];
            let message = format!("listener `{}` listens there already", earlier.name);
            reader.wrong(&path, message, "give each listener an address or port of its own");
        }
    }
}

/// Whether two sockets cannot listen at the same time.
fn meet(a: SocketAddr, b: SocketAddr) -> bool {
    let same_address = a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified();
    a.port() != 0 && a.port() == b.port() && a.is_ipv6() == b.is_ipv6() && same_address
}

fn check_names<'a>(reader: &mut Reader<'_>, list: &str, names: impl Iterator<Item = Option<&'a str>>) {
    let mut seen: Vec<&str> = Vec::new();
    for (index, name) in names.enumerate() {
        let Some(name) = name else { continue };
        if seen.contains(&name) {
            let path = [key(list), Step::Item(index), key("name")];
            reader.wrong(&path, format!("the name `{name}` is taken"), "give each one a name of its own");
        }
        seen.push(name);
    }
}

fn rule(reader: &mut Reader<'_>, path: &[Step], value: Value) -> Option<Rule> {
    let written: schema::Rule = reader.read(path, value)?;
    let name = reader.need(path, "name", written.name);
    let from = reader.need(path, "from", written.from);
    let to = reader.need(path, "to", written.to);
    let action = reader.need(path, "action", written.action);
    let at = |name: &str| [path, &[key(name)]].concat();
    for (name, there) in [("inbound", written.inbound.is_some()), ("outbound", written.outbound.is_some())] {
        if action == Some(Action::Deny) && there {
            reader.wrong_key(&at(name), "a rule that denies has no use for ports", format!("leave `{name}` away"));
        }
    }
    let open = written.inbound.is_some() || written.outbound.is_some();
    if action == Some(Action::Allow) && !open && !reader.is_spoiled(path, &["inbound", "outbound"]) {
        let help =
            "add `inbound: \"10001-10005\"` for passive mode, `outbound: \"40000-40099\"` for active mode, or both";
        reader.wrong(path, "this rule allows sessions without any data connection", help);
    }
    if matches!(written.server_mode, Some(schema::ServerMode::Passive | schema::ServerMode::Active)) {
        let help = "write `server_mode: same`, or leave it away";
        reader.wrong(&at("server_mode"), "this version keeps the client's mode towards the server", help);
    }
    if matches!(written.datapath, Some(schema::Datapath::Kernel)) {
        reader.wrong(&at("datapath"), "this version has no kernel datapath", "write `datapath: auto` or `relay`");
    }
    let inbound = written.inbound.map(|inbound| self::inbound(reader, &at("inbound"), inbound));
    let outbound = written.outbound.map(|outbound| self::outbound(reader, &at("outbound"), outbound));
    Some(Rule {
        name: name?.0.0,
        from: from?.0,
        to: to?.0,
        permission: if action? == Action::Allow { Permission::Allow } else { Permission::Deny },
        inbound: inbound.map_or(Some(None), |inbound| inbound.map(Some))?,
        outbound: outbound.map_or(Some(None), |outbound| outbound.map(Some))?,
        server_mode: ServerMode::Same,
        datapath: if matches!(written.datapath, Some(schema::Datapath::Relay)) {
            Datapath::Relay
        } else {
            Datapath::Auto
        },
        pinhole_timeout: written.pinhole_timeout.map_or(PINHOLE_TIMEOUT, |One(Wait(wait))| wait),
    })
}

fn inbound(reader: &mut Reader<'_>, path: &[Step], written: Direction<schema::Inbound>) -> Option<Inbound> {
    let written = match written {
        Direction::Short(gate_ports) => schema::Inbound { gate_ports: Some(gate_ports), server_ports: None },
        Direction::Full(written) => written,
    };
    Some(Inbound {
        gate_ports: ranges(reader.need(path, "gate_ports", written.gate_ports)?)?,
        server_ports: written.server_ports.map_or_else(|| Some(PortRanges::unreserved()), ranges)?,
    })
}

fn outbound(reader: &mut Reader<'_>, path: &[Step], written: Direction<schema::Outbound>) -> Option<Outbound> {
    let written = match written {
        Direction::Short(gate_ports) => {
            schema::Outbound { gate_ports: Some(gate_ports), ..schema::Outbound::default() }
        }
        Direction::Full(written) => written,
    };
    Some(Outbound {
        gate_ports: ranges(reader.need(path, "gate_ports", written.gate_ports)?)?,
        client_ports: written.client_ports.map_or_else(|| Some(PortRanges::unreserved()), ranges)?,
        source_port: written.source_port.map(|One(port)| port.0),
    })
}

fn ranges(Many(ports): Many<Ports>) -> Option<PortRanges> {
    PortRanges::new(ports.into_iter().map(|Ports(range)| range).collect())
}
