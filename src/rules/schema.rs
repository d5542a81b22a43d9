//! What is written in a rules file. Every key may be missing here; [`super::lower`] says which must not be.
//!
//! The doc comments are what editors show: they become the descriptions of the JSON Schema.

use std::net::{IpAddr, SocketAddr};

use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_yaml::Value;

use super::written::{Many, Name, One, Ports, ServerAt, SourcePort, Wait, Written as _};
use crate::addr::Network;
use crate::policy::Destination;

/// A rules file of ftpgate.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    /// The version of the form: 1.
    #[schemars(with = "u8")]
    pub(super) version: Option<Value>,
    /// Where clients are waited for.
    #[schemars(with = "Vec<Listener>")]
    pub(super) listeners: Option<Value>,
    /// The rules. The first that matches decides; what none matches is denied.
    #[schemars(with = "Vec<Rule>")]
    pub(super) rules: Option<Value>,
    /// How long the gate waits for things that no rule speaks of.
    #[schemars(with = "Option<Timeouts>")]
    pub(super) timeouts: Option<Value>,
}

/// One address at which clients are waited for: reverse (`server`) or transparent (`transparent`).
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Listener {
    /// The name in logs.
    #[schemars(with = "String")]
    pub(super) name: Option<One<Name>>,
    /// The address and port to listen on, like "0.0.0.0:21" or "[::]:21".
    #[schemars(with = "String")]
    pub(super) bind: Option<One<SocketAddr>>,
    /// Reverse: the one server behind it, like "10.0.2.2:21".
    #[schemars(with = "Option<String>")]
    pub(super) server: Option<One<ServerAt>>,
    /// Transparent: how nftables hands it connections that were meant for the servers themselves.
    pub(super) transparent: Option<Transparent>,
    /// Transparent: whose address the server sees (default: gate).
    pub(super) source: Option<Source>,
    /// Reverse: the address that clients are told, where another NAT stands in front of the gate.
    #[schemars(with = "Option<String>")]
    pub(super) advertise: Option<One<IpAddr>>,
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Transparent {
    Tproxy,
    Redirect,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Source {
    Gate,
    Client,
}

/// One rule.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Rule {
    /// The name in logs.
    #[schemars(with = "String")]
    pub(super) name: Option<One<Name>>,
    /// Clients: networks or addresses, one or a list, or `any`.
    #[schemars(with = "OneOrMany")]
    pub(super) from: Option<Many<Network>>,
    /// Servers: networks or addresses, with a port or without, one or a list, or `any`.
    #[schemars(with = "OneOrMany")]
    pub(super) to: Option<Many<Destination>>,
    /// Whether the session may be.
    pub(super) action: Option<Action>,
    /// Passive mode; left out: refused. Short for its `gate_ports`: "10001-10005".
    #[schemars(with = "Option<ShortOr<Inbound>>")]
    pub(super) inbound: Option<Direction<Inbound>>,
    /// Active mode; left out: refused. Short for its `gate_ports`: "40000-40099".
    #[schemars(with = "Option<ShortOr<Outbound>>")]
    pub(super) outbound: Option<Direction<Outbound>>,
    /// The mode of the server's leg (default: same).
    pub(super) server_mode: Option<ServerMode>,
    /// Who moves the bytes (default: auto).
    pub(super) datapath: Option<Datapath>,
    /// How long a pinhole waits for its connection, like "30s" (the default).
    #[schemars(with = "Option<String>")]
    pub(super) pinhole_timeout: Option<One<Wait>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Action {
    Allow,
    Deny,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum ServerMode {
    Same,
    Passive,
    Active,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Datapath {
    Auto,
    Relay,
    Kernel,
}

/// Passive mode: data connections that run towards the server.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Inbound {
    /// Ports of the gate, that the client is told to connect to.
    #[schemars(with = "OneOrMany")]
    pub(super) gate_ports: Option<Many<Ports>>,
    /// Ports of the server, that the gate connects to (default: 1024-65535).
    #[schemars(with = "Option<OneOrMany>")]
    pub(super) server_ports: Option<Many<Ports>>,
}

/// Active mode: data connections that run towards the client.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Outbound {
    /// Ports of the client, that the gate connects to (default: 1024-65535).
    #[schemars(with = "Option<OneOrMany>")]
    pub(super) client_ports: Option<Many<Ports>>,
    /// Ports of the gate, that the server is told to connect to.
    #[schemars(with = "OneOrMany")]
    pub(super) gate_ports: Option<Many<Ports>>,
    /// Where the gate's connection to the client comes from (default: any port).
    #[schemars(with = "Option<u16>")]
    pub(super) source_port: Option<One<SourcePort>>,
}

/// How long the gate waits.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Timeouts {
    /// For the connection to a server (default: 10s).
    #[schemars(with = "Option<String>")]
    pub(super) connect: Option<One<Wait>>,
    /// For the server's greeting (default: 60s).
    #[schemars(with = "Option<String>")]
    pub(super) greeting: Option<One<Wait>>,
    /// For transfers to end after SIGTERM (default: 30s).
    #[schemars(with = "Option<String>")]
    pub(super) drain: Option<One<Wait>>,
}

/// One value or a list of them.
#[derive(JsonSchema)]
#[serde(untagged)]
#[allow(dead_code, reason = "it only describes")]
enum OneOrMany {
    Word(String),
    Number(u32),
    List(Vec<String>),
}

/// The ports alone, or all that can be said.
#[derive(JsonSchema)]
#[serde(untagged)]
#[allow(dead_code, reason = "it only describes")]
enum ShortOr<T> {
    Short(OneOrMany),
    Full(T),
}

/// A direction as it may be written: its gate ports alone, or a map.
#[derive(Debug)]
pub(super) enum Direction<T> {
    /// The gate's ports.
    Short(Many<Ports>),
    /// Everything.
    Full(T),
}

struct DirectionVisitor<T>(std::marker::PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for DirectionVisitor<T> {
    type Value = Direction<T>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ports like \"10001-10005\", or a map with `gate_ports`")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
        Ports::read(text).map(|ports| Direction::Short(Many(vec![ports]))).map_err(E::custom)
    }

    fn visit_u64<E: de::Error>(self, port: u64) -> Result<Self::Value, E> {
        self.visit_str(&port.to_string())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Self::Value, A::Error> {
        Many::deserialize(de::value::SeqAccessDeserializer::new(list)).map(Direction::Short)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(Direction::Full)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Direction<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(DirectionVisitor(std::marker::PhantomData))
    }
}

/// What to write for a key.
pub(super) fn help(key: &str) -> &'static str {
    match key {
        "version" => "write `version: 1`",
        "listeners" => "write a list: `listeners:`, then `- name: public` with `bind:` and `server:` below it",
        "rules" => "write a list: `rules:`, then `- name: partners` with `from:`, `to:` and `action:` below it",
        "name" => "give it a name for the logs, like `name: partners`",
        "bind" => "write the address and port to listen on, like `bind: \"0.0.0.0:21\"`",
        "server" => "write the server's address, like `server: \"10.0.2.2:21\"`",
        "transparent" => "write `transparent: tproxy` or `transparent: redirect`",
        "source" => "write `source: client` or `source: gate`",
        "advertise" => "write the address that clients are to be told, like `advertise: \"203.0.113.5\"`",
        "from" => "write the clients' networks, like `from: [\"198.51.100.0/24\"]`, or `from: any`",
        "to" => "write the servers, like `to: [\"10.0.2.2:21\"]`, or `to: any`",
        "action" => "write `action: allow` or `action: deny`",
        "inbound" | "outbound" => "write the gate's ports, like \"10001-10005\", or a map with `gate_ports:`",
        "gate_ports" | "server_ports" | "client_ports" => "write a range like \"10001-10005\", or a list of them",
        "source_port" => "write a port, like `source_port: 20`",
        "server_mode" => "write `server_mode: same`",
        "datapath" => "write `datapath: auto` or `datapath: relay`",
        "pinhole_timeout" | "connect" | "greeting" | "drain" => "write a time, like \"30s\"",
        "timeouts" => "write `timeouts:` and below it `connect: \"10s\"`, `greeting: \"60s\"` or `drain: \"30s\"`",
        _ => "see rules/reference.yaml",
    }
}
