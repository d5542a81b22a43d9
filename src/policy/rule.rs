//! One rule: whom it is for, and which ports data connections may use under it.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use jiff::Timestamp;

use super::paths::PathRule;
use super::{Asker, Commands, DataPeers, Globs, Hours, ProxyVersion, RuleLimits};
use crate::addr::{ClientAddr, Network, PortRanges, ServerAddr, is_dialable};

/// One rule of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The name that logs use.
    pub name: String,
    /// Listeners that it is for, by their names: any of these; none: every one.
    pub listeners: Vec<String>,
    /// Clients that it is for: any of these.
    pub from: Vec<Network>,
    /// Servers that it is for: any of these.
    pub to: Vec<Destination>,
    /// Users that it is for; `None`: anybody, before login too.
    pub users: Option<Globs>,
    /// When it holds; `None`: always.
    pub hours: Option<Hours>,
    /// What it says.
    pub permission: Permission,
    /// Which commands clients may give.
    pub commands: Commands,
    /// Which paths clients may name, and for what; none: every path.
    pub paths: Vec<PathRule>,
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
    /// What becomes of peers that name other hosts' addresses.
    pub foreign_address: ForeignAddresses,
    /// Where data may come from or go to beside the address of the control connection.
    pub data_peers: DataPeers,
    /// The PROXY header that the server is sent first on every connection that we make to it; `None`: none.
    pub send_proxy: Option<ProxyVersion>,
    /// How much its clients may have.
    pub limits: RuleLimits,
}

impl Rule {
    /// How long a pinhole waits where no rule says.
    pub const PINHOLE_TIMEOUT: Duration = Duration::from_secs(60);

    /// The gate's ports that servers are told to connect to; `None` where none ever is, also where some are written.
    #[must_use]
    pub fn ports_for_servers(&self) -> Option<&PortRanges> {
        let outbound = self.outbound.as_ref().filter(|_| self.server_mode != ServerMode::Passive);
        outbound.and_then(|outbound| outbound.gate_ports.as_ref())
    }

    /// A rule for everybody and every server that allows no data connection, with everything else as where nothing is
    /// written.
    #[must_use]
    pub fn new(name: impl Into<String>, permission: Permission) -> Self {
        Self {
            name: name.into(),
            listeners: Vec::new(),
            from: vec![Network::Any],
            to: vec![Destination { network: Network::Any, port: None }],
            users: None,
            hours: None,
            permission,
            commands: Commands::default(),
            paths: Vec::new(),
            inbound: None,
            outbound: None,
            server_mode: ServerMode::Same,
            datapath: Datapath::Auto,
            pinhole_timeout: Self::PINHOLE_TIMEOUT,
            at_session_end: AtSessionEnd::Abort,
            foreign_address: ForeignAddresses::default(),
            data_peers: DataPeers::default(),
            send_proxy: None,
            limits: RuleLimits::default(),
        }
    }

    /// Whether the rule is for this client at this listener, towards some server or other.
    #[must_use]
    pub fn is_from(&self, listener: &str, client: ClientAddr) -> bool {
        (self.listeners.is_empty() || self.listeners.iter().any(|name| name == listener))
            && self.from.iter().any(|network| network.contains(client.ip()))
    }

    /// Whether it holds at this moment.
    #[must_use]
    pub fn holds(&self, at: Timestamp) -> bool {
        self.hours.as_ref().is_none_or(|hours| hours.contain(at))
    }

    /// Whether the rule is for this session, but for its user.
    #[must_use]
    pub fn matches(&self, asker: &Asker<'_>) -> bool {
        self.is_from(asker.listener, asker.client) && self.destination(asker).is_some() && self.holds(asker.at)
    }

    /// The first of its destinations that the server is. Where the client chooses its server, a destination without a
    /// port allows port 21 alone; it denies every port.
    #[must_use]
    pub fn destination(&self, asker: &Asker<'_>) -> Option<&Destination> {
        let takes_port = |to: &Destination| !to.is_for_control_port(self.permission) || !asker.chose_port();
        self.to.iter().find(|to| to.contains(asker.server) && takes_port(to))
    }

    /// Whether active mode may dial a client of the rule at this address; `is_gate`: it is, or leads to, this machine.
    ///
    /// A client's word leads the gate to itself, to loopback and to link-local addresses only where `from` has an entry that
    /// can mean nothing else: within 127.0.0.0/8 or ::1 for loopback and for the gate's other addresses, or such an
    /// address alone; within 169.254.0.0/16 or fe80::/10 for link-local ones.
    ///
    /// # Errors
    /// Where it may not.
    pub fn may_dial(&self, client: IpAddr, is_gate: bool) -> Result<(), NotDialled> {
        let nets = || {
            self.from.iter().filter_map(|network| match network {
                Network::Any => None,
                Network::Net(net) => Some(net),
            })
        };
        if client.is_loopback() {
            let is_meant = nets().any(|net| is_within(net, is_loopback) && net.contains(&client));
            return if is_meant { Ok(()) } else { Err(NotDialled::Gate) };
        }
        if is_link_local(client) {
            let is_meant = nets().any(|net| is_within(net, is_link_local) && net.contains(&client));
            return if is_meant { Ok(()) } else { Err(NotDialled::NoHost) };
        }
        if !is_dialable(client) {
            return Err(NotDialled::NoHost);
        }
        let is_alone = |net: &IpNet| net.prefix_len() == net.max_prefix_len() && net.addr() == client;
        let is_meant = !is_gate || nets().any(|net| is_within(net, is_loopback) || is_alone(net));
        if is_meant { Ok(()) } else { Err(NotDialled::Gate) }
    }

    /// Whether the rule is for this user.
    #[must_use]
    pub fn is_for_user(&self, user: &[u8]) -> bool {
        self.users.as_ref().is_none_or(|users| users.matches(user))
    }
}

/// Why active mode does not dial a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotDialled {
    /// It is on the gate's own machine, and `from` does not say that this is meant.
    Gate,
    /// Its address is link-local and `from` does not say that this is meant, or it is no address of a host at all.
    NoHost,
}

/// Servers that a rule is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Destination {
    /// Their addresses.
    pub network: Network,
    /// Their control port; `None`: every port, but see [`Rule::destination`].
    pub port: Option<u16>,
}

impl Destination {
    /// Whether it has no port, and allows only the control port of FTP where clients choose their servers.
    pub(super) fn is_for_control_port(&self, permission: Permission) -> bool {
        self.port.is_none() && permission == Permission::Allow
    }

    /// Whether all that `other` names is named here too.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        self.network.covers(&other.network) && (self.port.is_none() || self.port == other.port)
    }

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
    /// Ours, that the server is told to connect to; `None` only where it never is, in [`ServerMode::Passive`].
    pub gate_ports: Option<PortRanges>,
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
    /// It ends too: both sides are reset. An upload of a client that has left, and what the server has called done or
    /// said goodbye in, goes on all the same.
    Abort,
    /// It goes on to its end.
    Finish,
}

/// What becomes of a peer that names another host's address as its own, on each side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForeignAddresses {
    /// In a client's PORT or EPRT.
    pub client: ForeignAddress,
    /// In a server's 227 or 229.
    pub server: ForeignAddress,
}

/// Servers behind NAT often do not know their address; a client that names another one's is an attack until the
/// operator knows better.
impl Default for ForeignAddresses {
    fn default() -> Self {
        Self { client: ForeignAddress::Refuse, server: ForeignAddress::UsePeer }
    }
}

/// What becomes of a peer that names another host's address as its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForeignAddress {
    /// The request is refused.
    Refuse,
    /// Its own address is used, with the port that it named.
    UsePeer,
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

/// Whether a network lies within a block, which is known by its first and its last address.
fn is_within(net: &IpNet, is_in_block: impl Fn(IpAddr) -> bool) -> bool {
    is_in_block(net.network()) && is_in_block(net.broadcast())
}

const fn is_loopback(ip: IpAddr) -> bool {
    ip.is_loopback()
}

const fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gate_is_dialled_only_where_from_says_so() {
        use NotDialled::{Gate, NoHost};
        for (from, client, is_gate, expected) in [
            ("any", "127.0.0.1", true, Err(Gate)),
            ("0.0.0.0/0", "127.0.0.1", true, Err(Gate)),
            ("127.0.0.0/7", "127.0.0.1", true, Err(Gate)),
            ("127.0.0.0/8", "127.0.0.1", true, Ok(())),
            ("127.0.0.2 any", "127.0.0.1", true, Err(Gate)),
            ("127.0.0.2 any", "127.0.0.2", true, Ok(())),
            ("::/0", "::1", true, Err(Gate)),
            ("::1", "::1", true, Ok(())),
            ("127.0.0.1 any", "::1", true, Err(Gate)),
            ("any", "10.0.1.1", true, Err(Gate)),
            ("10.0.1.0/24", "10.0.1.1", true, Err(Gate)),
            ("10.0.1.0/31", "10.0.1.1", true, Err(Gate)),
            ("10.0.1.2 any", "10.0.1.1", true, Err(Gate)),
            ("10.0.1.1", "10.0.1.1", true, Ok(())),
            ("127.0.0.1 10.0.1.0/24", "10.0.1.1", true, Ok(())),
            ("any", "10.0.1.1", false, Ok(())),
            ("2001:db8::/32", "2001:db8::1", true, Err(Gate)),
            ("2001:db8::1", "2001:db8::1", true, Ok(())),
            ("any", "169.254.7.7", false, Err(NoHost)),
            ("169.254.0.0/16", "169.254.7.7", false, Ok(())),
            ("any", "fe80::7", false, Err(NoHost)),
            ("fe80::/10", "fe80::7", false, Ok(())),
            ("any", "0.0.0.0", false, Err(NoHost)),
            ("0.0.0.0", "0.0.0.0", true, Err(NoHost)),
            ("224.0.0.1", "224.0.0.1", false, Err(NoHost)),
            ("ff02::1", "ff02::1", false, Err(NoHost)),
            ("255.255.255.255", "255.255.255.255", false, Err(NoHost)),
            ("127.0.0.0/8 any", "64:ff9b::7f00:1", true, Err(NoHost)),
        ] {
            let networks = from.split(' ').map(|network| match network {
                "any" => Network::Any,
                host if !host.contains('/') => Network::Net(IpNet::from(host.parse::<IpAddr>().unwrap())),
                net => Network::Net(net.parse().unwrap()),
            });
            let rule = Rule { from: networks.collect(), ..Rule::new("a", Permission::Allow) };
            assert_eq!(rule.may_dial(client.parse().unwrap(), is_gate), expected, "{client} of {from}");
        }
    }
}
