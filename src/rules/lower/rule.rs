//! What a rule means.

use std::sync::Arc;

use super::super::place::At;
use super::super::schema::{self, Many, Ports, PortsOr, ShortOr, Word, Written};
use super::{limits, network, ports, required, wait, what, who};
use crate::addr::PortRanges;
use crate::policy::{
    AtSessionEnd, DataPeers, Datapath, ForeignAddress, ForeignAddresses, GateLimits, Inbound, Networks, Outbound,
    Permission, ProxyVersion, Rule, RuleLimits, ServerMode,
};

/// What one rule means; `listeners` are the names of those in the file, where they could be read.
pub(super) fn rule(written: schema::Rule, listeners: Option<&[String]>, at: &At<'_>) -> Option<Rule> {
    let name = required(written.name, "name", at, "begin the rule with `- name:` and a name of its own");
    let from = required(written.from, "from", at, "say which clients: `from: any`, or networks");
    let from = from.and_then(|from| network::clients(&from, &at.key("from")));
    let to = required(written.to, "to", at, "say which servers: `to: any`, or addresses");
    let to = to.and_then(|to| network::destinations(&to, &at.key("to")));
    let of = written.listener.0.map(|names| who::listeners(&names, listeners, &at.key("listener")));
    let users = written.users.0.map(|users| who::users(&users, &at.key("users")));
    let hours = written.hours.0.map(|hours| who::hours(&hours, &at.key("hours")));
    let commands = what::commands(written.commands, written.read_only, at);
    let paths = what::paths(written.paths, &at.key("paths"));
    let action = required(written.action, "action", at, "write `action: allow` or `action: deny`");
    let permission = action.map(|Word(action)| match action {
        schema::Action::Allow => Permission::Allow,
        schema::Action::Deny => Permission::Deny,
    });
    ports_fit(permission, at);
    let inbound = written.inbound.0.map(|inbound| self::inbound(inbound, &at.key("inbound")));
    let server_mode = server_mode(&written.server_mode);
    let outbound = written.outbound.0.map(|outbound| self::outbound(outbound, server_mode, &at.key("outbound")));
    if server_mode == ServerMode::Active && at.lacks("outbound") {
        at.key("server_mode").mistake(
            "a server in active mode connects to ports of the gate, and this rule has none for it",
            "add `outbound: \"20000-20099\"`",
        );
    }
    let datapath = datapath(&written.datapath);
    let send_proxy = send_proxy(&written.send_proxy);
    if datapath == Datapath::Kernel && send_proxy.is_some() && at.has("inbound") {
        let help = "take `datapath: kernel` away, or `send_proxy`";
        at.key("send_proxy").mistake("the kernel cannot send a header ahead of passive data connections", help);
    }
    let data_peers = data_peers(written.data_peers.0, datapath, &at.key("data_peers"));
    let limits = limits::rule(written.limits, &at.key("limits"));
    kernel_keeps_limits(datapath, limits.as_ref(), at)?;
    let timeout = wait::wait(written.pinhole_timeout.0, Rule::PINHOLE_TIMEOUT, &at.key("pinhole_timeout"));
    Some(Rule {
        listeners: all(of)?.unwrap_or_default(),
        users: all(users)?,
        hours: all(hours)?,
        commands: commands?,
        paths: paths?,
        from: from?,
        to: to?,
        inbound: all(inbound)?,
        outbound: all(outbound)?,
        server_mode,
        datapath,
        pinhole_timeout: timeout?,
        at_session_end: at_session_end(&written.at_session_end),
        send_proxy,
        data_peers: data_peers?,
        foreign_address: foreign_addresses(written.foreign_address),
        limits: limits?,
        ..Rule::new(name?.0, permission?)
    })
}

/// Nothing where nothing was written; `None` only for what was written and could not be read.
#[allow(clippy::option_option, reason = "not written and not readable are two things")]
fn all<T>(written: Option<Option<T>>) -> Option<Option<T>> {
    written.map_or(Some(None), |read| read.map(Some))
}

fn ports_fit(permission: Option<Permission>, at: &At<'_>) {
    let written: Vec<&str> =
        ["inbound", "outbound", "commands", "read_only", "paths", "data_peers", "send_proxy", "limits"]
            .into_iter()
            .filter(|key| at.has(key))
            .collect();
    match permission {
        Some(Permission::Deny) => {
            for key in written {
                let message = format!("`{key}` means nothing in a rule that denies");
                at.key_itself(key).mistake(message, "take it away, or write `action: allow`");
            }
        }
        Some(Permission::Allow) if at.lacks("inbound") && at.lacks("outbound") => at.mistake(
            "this rule allows no data connection, so not even a listing would come through",
            "add `inbound: \"10001-10005\"` for passive mode, `outbound:` for active mode, or both",
        ),
        Some(Permission::Allow) | None => {}
    }
}

/// What the rule itself limits, it must not ask the kernel to move.
fn kernel_keeps_limits(datapath: Datapath, limits: Option<&RuleLimits>, at: &At<'_>) -> Option<()> {
    let relays = limits.and_then(RuleLimits::of_the_relay).filter(|_| datapath == Datapath::Kernel);
    let Some(limit) = relays else { return Some(()) };
    let help = "take it away, or write `datapath: auto`, and the relay moves the data";
    let message = format!("the kernel cannot keep to `{}`", limit.name());
    at.key("limits").key_itself(limit.name()).mistake(message, help);
    None
}

/// What the gate limits for all, a rule must not ask the kernel to move.
pub(super) fn kernel_keeps_pace(rules: &[Arc<Rule>], limits: &GateLimits, at: &At<'_>) -> Option<()> {
    let paced = limits.all.has_pace() || limits.client.has_pace();
    let kernels = rules.iter().position(|rule| rule.datapath == Datapath::Kernel).filter(|_| paced);
    let Some(index) = kernels else { return Some(()) };
    at.key("rules").index(index).key("datapath").mistake(
        "the kernel cannot keep to the gate's `upload` and `download`",
        "write `datapath: auto`, or take those away from `limits`",
    );
    None
}

fn inbound(written: PortsOr<schema::Inbound>, at: &At<'_>) -> Option<Inbound> {
    match written {
        PortsOr::Ports(gate_ports) => {
            Some(Inbound { gate_ports: ports::ranges(&gate_ports, at)?, server_ports: PortRanges::unreserved() })
        }
        PortsOr::Full(written) => {
            let gate_ports = gate_ports(written.gate_ports, at);
            let server_ports = ranges_or_all(&written.server_ports, &at.key("server_ports"));
            Some(Inbound { gate_ports: gate_ports?, server_ports: server_ports? })
        }
    }
}

fn outbound(written: PortsOr<schema::Outbound>, mode: ServerMode, at: &At<'_>) -> Option<Outbound> {
    match written {
        PortsOr::Ports(gate_ports) => Some(Outbound {
            client_ports: PortRanges::unreserved(),
            gate_ports: Some(ports::ranges(&gate_ports, at)?),
            source_port: None,
        }),
        PortsOr::Full(written) => {
            let client_ports = ranges_or_all(&written.client_ports, &at.key("client_ports"));
            // No server connects to the gate in passive mode.
            let is_unused = mode == ServerMode::Passive && at.lacks("gate_ports");
            let gate_ports = if is_unused { Some(None) } else { gate_ports(written.gate_ports, at).map(Some) };
            let source_port = written.source_port.0.as_ref();
            let source_port = source_port.map(|port| at.key("source_port").take(ports::source_port(port)));
            Some(Outbound { client_ports: client_ports?, gate_ports: gate_ports?, source_port: all(source_port)? })
        }
    }
}

fn gate_ports(written: Written<Many<Ports>>, at: &At<'_>) -> Option<PortRanges> {
    let help = "say which ports of the gate may be used: `gate_ports: \"10001-10005\"`";
    ports::ranges(&required(written, "gate_ports", at, help)?, &at.key("gate_ports"))
}

fn ranges_or_all(written: &Written<Many<Ports>>, at: &At<'_>) -> Option<PortRanges> {
    written.0.as_ref().map_or_else(|| Some(PortRanges::unreserved()), |list| ports::ranges(list, at))
}

fn server_mode(written: &Written<Word<schema::ServerMode>>) -> ServerMode {
    match written.0 {
        Some(Word(schema::ServerMode::Passive)) => ServerMode::Passive,
        Some(Word(schema::ServerMode::Active)) => ServerMode::Active,
        Some(Word(schema::ServerMode::Same)) | None => ServerMode::Same,
    }
}

fn at_session_end(written: &Written<Word<schema::AtSessionEnd>>) -> AtSessionEnd {
    match written.0 {
        Some(Word(schema::AtSessionEnd::Finish)) => AtSessionEnd::Finish,
        Some(Word(schema::AtSessionEnd::Abort)) | None => AtSessionEnd::Abort,
    }
}

fn foreign_addresses(written: Written<ShortOr<schema::ForeignAddress, schema::ForeignAddresses>>) -> ForeignAddresses {
    let default = ForeignAddresses::default();
    let one = |written: Written<Word<_>>, default| written.0.map_or(default, |Word(word)| foreign_address(word));
    match written.0 {
        None => default,
        Some(ShortOr::Short(word)) => {
            let both = foreign_address(word);
            ForeignAddresses { client: both, server: both }
        }
        Some(ShortOr::Full(written)) => ForeignAddresses {
            client: one(written.client, default.client),
            server: one(written.server, default.server),
        },
    }
}

const fn foreign_address(written: schema::ForeignAddress) -> ForeignAddress {
    match written {
        schema::ForeignAddress::Refuse => ForeignAddress::Refuse,
        schema::ForeignAddress::UsePeer => ForeignAddress::UsePeer,
    }
}

fn data_peers(written: Option<schema::DataPeers>, datapath: Datapath, at: &At<'_>) -> Option<DataPeers> {
    let Some(written) = written else { return Some(DataPeers::default()) };
    if at.lacks("client") && at.lacks("server") {
        at.mistake("this names no networks", "write `client: NETWORKS`, `server: NETWORKS`, or both");
        return None;
    }
    if datapath == Datapath::Kernel {
        let help = "take it away, or write `datapath: auto`, and the relay moves the data";
        at.mistake("the kernel takes data from one address alone", help);
        return None;
    }
    let of = |list: Written<Many<_>>, key| {
        list.0.map_or_else(|| Some(Networks::default()), |list| network::data_peers(&list, &at.key(key)))
    };
    let (client, server) = (of(written.client, "client"), of(written.server, "server"));
    Some(DataPeers { client: client?, server: server? })
}

fn send_proxy(written: &Written<Word<schema::SendProxy>>) -> Option<ProxyVersion> {
    written.0.map(|Word(version)| match version {
        schema::SendProxy::V1 => ProxyVersion::V1,
        schema::SendProxy::V2 => ProxyVersion::V2,
    })
}

fn datapath(written: &Written<Word<schema::Datapath>>) -> Datapath {
    match written.0 {
        Some(Word(schema::Datapath::Kernel)) => Datapath::Kernel,
        Some(Word(schema::Datapath::Relay)) => Datapath::Relay,
        Some(Word(schema::Datapath::Auto)) | None => Datapath::Auto,
    }
}
