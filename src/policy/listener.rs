//! Where clients are waited for, and how they get there.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::addr::{Network, ServerAddr};

/// One address at which clients are waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// The name that logs and rules use.
    pub name: String,
    /// The address and port to listen on.
    pub bind: SocketAddr,
    /// How it stands in front of its servers.
    pub stand: Stand,
    /// The address that clients are told in 227, where another NAT stands in front of us.
    pub advertise: Option<IpAddr>,
    /// Balancers, whose connections must begin with a PROXY header that names the client.
    pub proxies: Proxies,
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
