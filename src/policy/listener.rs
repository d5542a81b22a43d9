//! Where clients are waited for, and how they get there.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::addr::{ClientAddr, Network, ServerAddr};

/// One address at which clients are waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// The name that logs and rules use.
    pub name: String,
    /// The address and port to listen on.
    pub bind: SocketAddr,
    /// How it stands in front of its servers.
    pub stand: Stand,
    /// What clients are told in 227, where another NAT stands in front of us: the first that a client is in.
    pub advertise: Vec<Advertise>,
    /// Balancers, whose connections must begin with a PROXY header that names the client.
    pub proxies: Proxies,
    /// Networks that only look whether the gate answers: what comes from there costs no session at a server.
    pub health_checks: Vec<Network>,
}

impl Listener {
    /// Whether what comes from this client is a health check.
    #[must_use]
    pub fn is_checked_by(&self, client: ClientAddr) -> bool {
        self.health_checks.iter().any(|network| network.contains(client.ip()))
    }

    /// What this client is told in 227; `None`: the address that it connected to.
    #[must_use]
    pub fn advertised_to(&self, client: ClientAddr) -> Option<&Advertised> {
        let told = |advertise: &&Advertise| advertise.from.iter().any(|network| network.contains(client.ip()));
        self.advertise.iter().find(told).map(|advertise| &advertise.advertised)
    }
}

/// What the clients of some networks are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advertise {
    /// Clients that are told it: any of these.
    pub from: Vec<Network>,
    /// What they are told.
    pub advertised: Advertised,
}

/// What clients are told in 227.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Advertised {
    /// This address.
    Address(IpAddr),
    /// The address that this name has.
    Name(String),
}

impl fmt::Display for Advertised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(ip) => ip.fmt(f),
            Self::Name(name) => f.write_str(name),
        }
    }
}

/// Balancers that bring clients' connections, each with a PROXY header: any host of these networks, often none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proxies(Arc<[Network]>);

impl Proxies {
    /// The hosts of these networks.
    #[must_use]
    pub fn new(networks: Vec<Network>) -> Self {
        Self(networks.into())
    }

    /// Their networks.
    #[must_use]
    pub fn networks(&self) -> &[Network] {
        &self.0
    }

    /// Whether `ip` is one of them.
    #[must_use]
    pub fn contains(&self, ip: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(ip))
    }
}

/// The version of a PROXY header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProxyVersion {
    /// A line of text.
    V1,
    /// Binary.
    V2,
}

/// How a listener stands in front of its servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stand {
    /// It answers at an address of its own for one server.
    Reverse {
        /// The server behind it.
        server: ServerAddr,
    },
    /// nftables hands it connections that were meant for the servers themselves.
    Transparent {
        /// By which nftables statement.
        interception: Interception,
        /// Whose address the server sees.
        source: Source,
    },
    /// The client names its server when it logs in, as `USER name@host[:port]`.
    Explicit,
}

/// How the kernel hands over a connection that was meant for somebody else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Interception {
    /// `tproxy`: the accepted socket's own address is the original destination.
    Tproxy,
    /// `redirect`: the destination was rewritten to ours; conntrack knows the original one.
    Redirect,
}

/// Whose address the server sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// The gate's own, as routing chooses it.
    Gate,
    /// The client's (IP_TRANSPARENT).
    Client,
}
