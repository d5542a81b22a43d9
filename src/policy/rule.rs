//! One rule: whom it is for, and which ports data connections may use under it.

use std::fmt;
use std::time::Duration;

use super::listener::ProxyVersion;
use crate::addr::{ClientAddr, Network, PortRanges, ServerAddr};

/// One rule of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The name that logs use.
    pub name: String,
    /// Clients that it is for: any of these.
    pub from: Vec<Network>,
    /// Servers that it is for: any of these.
    pub to: Vec<Destination>,
    /// What it says.
    pub permission: Permission,
    /// Passive mode; `None`: refused.
    pub inbound: Option<Inbound>,
    /// Active mode; `None`: refused.
    pub outbound: Option<Outbound>,
    /// The mode of the server's leg.
    pub server_mode: ServerMode,
    /// Who moves the bytes.
    pub datapath: Datapath,
    /// How long a pinhole waits for its connection.
    pub pinhole_timeout: Duration,
    /// What becomes of a transfer that runs when its session ends.
    pub at_session_end: AtSessionEnd,
    /// The PROXY header that the server is sent first on every connection that we make to it; `None`: none.
    pub send_proxy: Option<ProxyVersion>,
}

impl Rule {
    /// Whether the rule is for this client and this server.
    #[must_use]
    pub fn matches(&self, client: ClientAddr, server: ServerAddr) -> bool {
        self.from.iter().any(|network| network.contains(client.ip()))
            && self.to.iter().any(|destination| destination.contains(server))
    }
}

/// Servers that a rule is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Destination {
    /// Their addresses.
    pub network: Network,
    /// Their control port; `None`: every port.
    pub port: Option<u16>,
}

impl Destination {
    /// Whether `server` is one of them.
    #[must_use]
    pub fn contains(&self, server: ServerAddr) -> bool {
        self.network.contains(server.ip()) && self.port.is_none_or(|port| port == server.port())
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.network, self.port) {
            (network, None) => network.fmt(f),
            (Network::Net(net), Some(port)) if net.addr().is_ipv6() => write!(f, "[{}]:{port}", Network::Net(net)),
            (network, Some(port)) => write!(f, "{network}:{port}"),
        }
    }
}

/// What a rule says about the sessions that it matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permission {
    /// They may be.
    Allow,
    /// They may not be.
    Deny,
}

/// Passive mode: data connections that run towards the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inbound {
    /// Ours, that the client is told to connect to.
    pub gate_ports: PortRanges,
    /// The server's, that we connect to.
    pub server_ports: PortRanges,
}

/// Active mode: data connections that run towards the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outbound {
    /// The client's, that we connect to.
    pub client_ports: PortRanges,
    /// Ours, that the server is told to connect to.
    pub gate_ports: PortRanges,
    /// Where our connection to the client comes from; `None`: any port.
    pub source_port: Option<u16>,
}

/// The mode of the server's leg of a data connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerMode {
    /// The mode that the client asked for.
    Same,
    /// Always passive: we connect to the server.
    Passive,
    /// Always active: the server connects to us.
    Active,
}

/// What becomes of a transfer that runs when its session ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtSessionEnd {
    /// It ends too: both sides are reset.
    Abort,
    /// It goes on to its end.
    Finish,
}

/// Who moves the bytes of a data connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Datapath {
    /// The kernel where it can, else our process.
    Auto,
    /// Our process.
    Relay,
    /// The kernel, through nftables.
    Kernel,
}
