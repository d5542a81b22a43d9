//! What was written in a rules file, before anybody asks what it means.
//!
//! These types decide which keys there are and whether a value is text, a list or a map; what the text says is for the
//! next step. Every key may be missing here, so that one that is missing does not hide the mistakes in the others.

mod form;
mod limits;
mod text;

use schemars::JsonSchema;
use serde::Deserialize;

pub use form::{List, Many, PortsOr, ShortOr, Word, Written};
pub use limits::{ClientLimits, Limits, RuleClientLimits, RuleLimits};
pub use text::{
    Advertise, Bind, Client, CommandName, Count, CountLimit, Destination, Duration, FtpLine, Host, Hours, LineExpected,
    ListenerName, Moment, Name, Pace, PathPattern, Phrase, Ports, Server, Size, SourcePort, TimeLimit, Use, User,
    Version,
};

/// A rules file: who may reach which FTP server, and which ports their data connections may use.
///
/// The first rule that matches decides; what no rule matches is denied.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, bound = "L: Deserialize<'de>, R: Deserialize<'de>, T: Deserialize<'de>")]
#[serde(expecting = "the keys `version: 1`, `listeners:` and `rules:`")]
#[schemars(rename = "ftpgate rules", extend("required" = ["version", "listeners", "rules"]))]
pub struct File<L = Listener, R = Rule, T = Test> {
    /// The version of this format: 1.
    #[serde(default)]
    pub version: Written<Version>,
    /// Where clients are waited for.
    #[serde(default)]
    pub listeners: Written<List<L>>,
    /// Who may reach what. The first rule that matches decides; what no rule matches is denied.
    #[serde(default)]
    pub rules: Written<List<R>>,
    /// How long the gate waits for things that no rule speaks of.
    #[serde(default)]
    pub timeouts: Written<Timeouts>,
    /// How much of the gate clients may have, all together and each (default: shares of what the limit of open files allows).
    #[serde(default)]
    pub limits: Written<Limits>,
    /// Tests of these rules: a file whose own tests fail is not loaded.
    #[serde(default)]
    pub tests: Written<List<T>>,
}

/// An address at which clients are waited for: with `server`, for one server behind it; with `transparent`, for the
/// servers whose connections nftables hands over; with `explicit`, for the servers that clients name themselves.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a listener: a map with `name:`, `bind:` and `server:`")]
#[schemars(extend("required" = ["name", "bind"]), extend("oneOf" = [{"required": ["server"]}, {"required": ["transparent"]}, {"required": ["explicit"]}]))]
pub struct Listener {
    /// The name that logs use.
    #[serde(default)]
    pub name: Written<Name>,
    /// The address and port to listen on.
    #[serde(default)]
    pub bind: Written<Bind>,
    /// The server behind this address. Its port is 21 where none is written.
    #[serde(default)]
    pub server: Written<Server>,
    /// By which nftables statement connections to the servers are handed over.
    #[serde(default)]
    pub transparent: Written<Word<Interception>>,
    /// How clients name their server.
    #[serde(default)]
    pub explicit: Written<Word<Explicit>>,
    /// Whose address the server sees; only with `transparent`.
    #[serde(default)]
    pub source: Written<Word<Source>>,
    /// The address that clients are told, or a name that is looked up for it, where another NAT stands in front of this
    /// machine; or a list of them by the clients' networks. Not with `transparent`.
    #[serde(default)]
    pub advertise: Written<ShortOr<Advertise, List<AdvertiseTo>, true>>,
    /// Balancers: a network, an address, or a list of them. A connection from there must begin with a PROXY header
    /// (version 1 or 2), which says who the client is; not with `transparent`.
    #[serde(default)]
    pub proxy_from: Written<Many<Host>>,
    /// Where health checks come from: a network, an address, or a list of them. The gate greets them itself, answers QUIT
    /// and NOOP, and asks no server; not with `transparent`.
    #[serde(default)]
    pub health_checks_from: Written<Many<Host>>,
}

/// What the clients of a network are told. The first entry that a client is in holds; without one, it is told the
/// address that it connected to.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map with `from:` and `address:`")]
#[schemars(extend("required" = ["from", "address"]))]
pub struct AdvertiseTo {
    /// Clients: a network, an address, a list of them, or `any`.
    #[serde(default)]
    pub from: Written<Many<Client>>,
    /// The address that they are told, or a name that is looked up for it.
    #[serde(default)]
    pub address: Written<Advertise>,
}

/// By which nftables statement a connection is handed over.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Interception {
    /// `tproxy`
    Tproxy,
    /// `redirect`
    Redirect,
}

impl Phrase for Interception {
    const PHRASE: &'static str = "`tproxy` or `redirect`";
}

/// How clients name their server.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
pub enum Explicit {
    /// `USER name@host[:port]`, or OPEN or SITE with the host.
    #[serde(rename = "user-at-host")]
    UserAtHost,
}

impl Phrase for Explicit {
    const PHRASE: &'static str = "`user-at-host`";
}

/// Whose address the server sees.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// This machine's own (the default).
    Gate,
    /// The client's.
    Client,
}

impl Phrase for Source {
    const PHRASE: &'static str = "`gate` or `client`";
}

/// A rule: who may reach which servers, and which ports data connections may use.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a rule: a map with `name:`, `from:`, `to:` and `action:`")]
#[schemars(extend("required" = ["name", "from", "to", "action"]))]
pub struct Rule {
    /// The name that logs use.
    #[serde(default)]
    pub name: Written<Name>,
    /// Listeners that it is for, by their names (default: every one).
    #[serde(default)]
    pub listener: Written<Many<ListenerName>>,
    /// Clients: a network, an address, a list of them, or `any`. Active mode from the gate's own machine needs an entry for
    /// just that, such as `127.0.0.1`.
    #[serde(default)]
    pub from: Written<Many<Client>>,
    /// Servers: a network or an address, with or without a port, a list of them, or `any`. Where clients name their server
    /// themselves (`explicit`), one without a port allows port 21 alone; it denies every port.
    #[serde(default)]
    pub to: Written<Many<Destination>>,
    /// Users that it is for: patterns, in which `*` stands for anything. Such a rule decides when the client logs in.
    #[serde(default)]
    pub users: Written<Many<User>>,
    /// When it holds: days, times and a time zone, such as "Mon-Fri 08:00-18:00 Europe/Berlin" (default: always).
    #[serde(default)]
    pub hours: Written<Many<Hours>>,
    /// What becomes of these clients.
    #[serde(default)]
    pub action: Written<Word<Action>>,
    /// Which commands they may give.
    #[serde(default)]
    pub commands: Written<Commands>,
    /// Nothing that changes files: no uploads, no deletes, no SITE.
    #[serde(default)]
    pub read_only: Written<bool>,
    /// Which paths they may name, and for what. The first entry that matches a path decides; what none matches is
    /// refused.
    #[serde(default)]
    pub paths: Written<List<PathRule>>,
    /// Passive mode; where it is left out, passive mode is refused. A range alone is its `gate_ports`.
    #[serde(default)]
    pub inbound: Written<PortsOr<Inbound>>,
    /// Active mode; where it is left out, active mode is refused. A range alone is its `gate_ports`.
    #[serde(default)]
    pub outbound: Written<PortsOr<Outbound>>,
    /// The mode of the server's leg of a data connection.
    #[serde(default)]
    pub server_mode: Written<Word<ServerMode>>,
    /// Who moves the bytes of data connections.
    #[serde(default)]
    pub datapath: Written<Word<Datapath>>,
    /// How long a data connection is waited for: from the answer to PASV, PORT and their like until its transfer is asked
    /// for, and then as long for the connection (default 60s, as servers do).
    #[serde(default)]
    pub pinhole_timeout: Written<Duration>,
    /// What becomes of a transfer that runs when its session ends.
    #[serde(default)]
    pub at_session_end: Written<Word<AtSessionEnd>>,
    /// What becomes of a peer that names another host's address as its own. One word stands for both sides.
    #[serde(default)]
    pub foreign_address: Written<ShortOr<ForeignAddress, ForeignAddresses>>,
    /// Networks in which peers have further addresses, from which data may come and to which it may go: none but that of the
    /// control connection where nothing is written. Data goes through the relay then.
    #[serde(default)]
    pub data_peers: Written<DataPeers>,
    /// The version of the PROXY header that the server is sent first, on the control connection and on data connections
    /// that the gate makes to it (default: none).
    #[serde(default)]
    pub send_proxy: Written<Word<SendProxy>>,
    /// How much its clients may have, all together and each (default: none but `login_timeout`).
    #[serde(default)]
    pub limits: Written<RuleLimits>,
}

/// A test of the rules: who wants what, and what is expected of it.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a test: a map with `client:` and `expect:`")]
#[schemars(extend("required" = ["client", "expect"]))]
pub struct Test {
    /// The listener that the client comes to (default: the first that leads to the server).
    #[serde(default)]
    pub listener: Written<Name>,
    /// The client's address.
    #[serde(default)]
    pub client: Written<Server>,
    /// The server's address and port (default: the one behind the listener).
    #[serde(default)]
    pub server: Written<Server>,
    /// The user that it logs in as.
    #[serde(default)]
    pub user: Written<User>,
    /// When, such as "2026-01-12 09:00 Europe/Berlin": must be written where hours matter.
    #[serde(default)]
    pub at: Written<Moment>,
    /// The directory that the server puts the user in (default /).
    #[serde(default)]
    pub home: Written<PathPattern>,
    /// What is expected of the session.
    #[serde(default)]
    pub expect: Written<Word<Action>>,
    /// The rule that is expected to decide.
    #[serde(default)]
    pub rule: Written<Name>,
    /// What is expected of FTP lines, one after the other.
    #[serde(default)]
    pub lines: Written<List<TestLine>>,
}

/// An FTP line of a test.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map with `line:` and `expect:`")]
#[schemars(extend("required" = ["line", "expect"]))]
pub struct TestLine {
    /// What the client says, or the server where it begins with a code. Answers that are not written are made up.
    #[serde(default)]
    pub line: Written<FtpLine>,
    /// What is expected: allow, refuse, or the name of the reason for which it is refused.
    #[serde(default)]
    pub expect: Written<LineExpected>,
}

/// What becomes of the clients of a rule.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// They may reach the servers.
    Allow,
    /// They may not.
    Deny,
}

impl Phrase for Action {
    const PHRASE: &'static str = "`allow` or `deny`";
}

/// A list of commands: verbs such as DELE, or two words such as SITE CHMOD.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map with `allow:` or `deny:`, each a list of commands")]
#[schemars(extend("oneOf" = [{"required": ["allow"]}, {"required": ["deny"]}]))]
pub struct Commands {
    /// These and no others, but for what every session needs: login, negotiation, types, changing the directory.
    #[serde(default)]
    pub allow: Written<Many<CommandName>>,
    /// Every known command but these. It is weaker than `allow`: a server may do the same under another name.
    #[serde(default)]
    pub deny: Written<Many<CommandName>>,
    /// With `deny`: verbs that the gate does not know and lets pass. Others are refused, because an unknown verb may be
    /// another name for a denied one.
    #[serde(default)]
    pub allow_unknown: Written<Many<CommandName>>,
}

/// What may be done with some paths.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map with `path:` and `allow:`")]
#[schemars(extend("required" = ["path", "allow"]))]
pub struct PathRule {
    /// Patterns over whole paths: `*` stands for anything within a directory, `**` for anything.
    #[serde(default)]
    pub path: Written<Many<PathPattern>>,
    /// What may be done: download, upload, delete, list; `any` or `none`.
    #[serde(default)]
    pub allow: Written<Many<Use>>,
}

/// The ports of passive mode.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("required" = ["gate_ports"]))]
pub struct Inbound {
    /// The gate's, that the client is told to connect to.
    #[serde(default)]
    pub gate_ports: Written<Many<Ports>>,
    /// The server's, that the gate connects to (default 1024-65535).
    #[serde(default)]
    pub server_ports: Written<Many<Ports>>,
}

/// The ports of active mode.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Outbound {
    /// The client's, that the gate connects to (default 1024-65535).
    #[serde(default)]
    pub client_ports: Written<Many<Ports>>,
    /// The gate's, that the server is told to connect to; may be left out with `server_mode: passive`.
    #[serde(default)]
    pub gate_ports: Written<Many<Ports>>,
    /// Where the gate's connection to the client comes from, such as 20 (default: any port).
    #[serde(default)]
    pub source_port: Written<SourcePort>,
}

/// The mode of the server's leg of a data connection.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ServerMode {
    /// The mode that the client asked for (the default).
    Same,
    /// Passive: the gate connects to the server.
    Passive,
    /// Active: the server connects to the gate, to the `gate_ports` of `outbound`.
    Active,
}

impl Phrase for ServerMode {
    const PHRASE: &'static str = "`same`, `passive` or `active`";
}

/// Who moves the bytes of data connections.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Datapath {
    /// The kernel where it can, else the gate's own process (the default).
    Auto,
    /// The gate's own process.
    Relay,
    /// The kernel; what it cannot move is refused.
    Kernel,
}

impl Phrase for Datapath {
    const PHRASE: &'static str = "`auto`, `relay` or `kernel`";
}

/// What becomes of a transfer that runs when its session ends.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AtSessionEnd {
    /// It ends too, both sides are reset (the default): not an upload whose client has left, which may have sent all of
    /// it, nor what the server has called done or said goodbye in.
    Abort,
    /// It goes on to its end.
    Finish,
}

impl Phrase for AtSessionEnd {
    const PHRASE: &'static str = "`abort` or `finish`";
}

/// What becomes of a peer that names another host's address as its own.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ForeignAddress {
    /// The request is refused.
    Refuse,
    /// The peer's own address is used, with the port that it named.
    UsePeer,
}

impl Phrase for ForeignAddress {
    const PHRASE: &'static str = "`refuse` or `use_peer`";
}

/// Networks in which peers have further addresses for data.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map with `client:`, `server:`, or both")]
#[schemars(extend("minProperties" = 1))]
pub struct DataPeers {
    /// Of clients: a network, an address, or a list of them.
    #[serde(default)]
    pub client: Written<Many<Host>>,
    /// Of servers: a network, an address, or a list of them.
    #[serde(default)]
    pub server: Written<Many<Host>>,
}

/// What becomes of a peer that names another host's address, for each side.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ForeignAddresses {
    /// In a client's PORT or EPRT (default refuse).
    #[serde(default)]
    pub client: Written<Word<ForeignAddress>>,
    /// In a server's 227 or 229 (default use_peer).
    #[serde(default)]
    pub server: Written<Word<ForeignAddress>>,
}

/// The version of a PROXY header.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SendProxy {
    /// A line of text.
    V1,
    /// Binary.
    V2,
}

impl Phrase for SendProxy {
    const PHRASE: &'static str = "`v1` or `v2`";
}

/// How long the gate waits for things that no rule speaks of.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map of durations, such as `connect: 10s`")]
pub struct Timeouts {
    /// For the connection to a server, control or data, to be made (default 10s).
    #[serde(default)]
    pub connect: Written<Duration>,
    /// For the server's greeting, once connected (default 60s).
    #[serde(default)]
    pub greeting: Written<Duration>,
    /// For transfers to end by themselves when the gate is stopped (default 30s).
    #[serde(default)]
    pub drain: Written<Duration>,
}

/// The JSON Schema of a rules file, for editors that complete and check YAML as it is written.
#[must_use]
pub fn json() -> String {
    let schema = schemars::schema_for!(File);
    format!("{:#}\n", schema.as_value())
}
