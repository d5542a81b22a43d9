//! What one line says, and how lines that say the same become one.

use super::addresses::{AddressSet, Family};
use crate::addr::{PortRanges, Side};
use crate::policy::Advertised;

/// One thing that has to be open: the first packet of connections, from where to where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opening {
    /// Its number, the same whatever is left out when it is shown.
    pub number: usize,
    /// The firewall: between clients and gate, or between gate and servers.
    pub side: Side,
    /// Which way the first packet goes.
    pub direction: Direction,
    /// What carries it.
    pub protocol: Protocol,
    /// Who opens the connection.
    pub from: End,
    /// Who is connected to.
    pub to: End,
    /// What it is for.
    pub purpose: Purpose,
    /// The rules that want it; none for names.
    pub rules: Vec<String>,
    /// The listeners through which clients come that need it.
    pub listeners: Vec<String>,
}

/// Everything that has to be open.
#[derive(Clone, Debug)]
pub struct Openings {
    /// The client side's lines, then the server side's, each in the order of listeners and rules.
    pub lines: Vec<Opening>,
    /// What one has to know beside them.
    pub notes: Vec<String>,
}

/// Which way the first packet goes, as the gate sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Towards the servers.
    Inbound,
    /// Towards the clients.
    Outbound,
}

/// What carries a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Control connections.
    Control,
    /// Data connections in passive mode; `always` where this leg is passive whatever the client asked for.
    Passive {
        /// The rule's `server_mode` says so.
        always: bool,
    },
    /// Data connections in active mode.
    Active {
        /// The rule's `server_mode` says so.
        always: bool,
    },
    /// Questions to name servers.
    Names,
}

impl Purpose {
    /// What holds for both; `None` where they have little in common.
    const fn of_both(self, other: Self) -> Option<Self> {
        match (self, other) {
            (Self::Control, Self::Control) => Some(Self::Control),
            (Self::Passive { always: one }, Self::Passive { always }) => Some(Self::Passive { always: one && always }),
            (Self::Active { always: one }, Self::Active { always }) => Some(Self::Active { always: one && always }),
            (Self::Names, Self::Names) => Some(Self::Names),
            (Self::Control | Self::Passive { .. } | Self::Active { .. } | Self::Names, _) => None,
        }
    }
}

/// One end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// Who it is.
    pub role: Role,
    /// Its addresses.
    pub addresses: Addresses,
    /// Its ports; `None`: any.
    pub ports: Option<PortRanges>,
}

/// Who is at one end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Clients, or the gate in their name.
    Client,
    /// Balancers in front of the gate, which bring clients.
    Balancer,
    /// Hosts that send health checks.
    Checker,
    /// The gate itself, at an address of this side.
    Gate(Side),
    /// Servers, or the gate in their name.
    Server,
    /// The gate's name servers.
    NameServer,
}

/// The addresses of one end, all of one family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// Its own; empty where nobody said them.
    pub own: AddressSet,
    /// What clients are told in their place, where a NAT stands in front of the gate.
    pub told: Vec<Advertised>,
}

impl Addresses {
    /// These, as they are.
    #[must_use]
    pub const fn plain(own: AddressSet) -> Self {
        Self { own, told: Vec::new() }
    }

    /// The family.
    #[must_use]
    pub const fn family(&self) -> Family {
        self.own.family()
    }

    /// Whether some have to be written by whoever uses the lines.
    #[must_use]
    pub const fn is_unknown(&self) -> bool {
        self.own.is_empty()
    }

    /// Every address that is known, in front of the NAT and behind it: a firewall may stand on either side of it.
    #[must_use]
    pub fn known(&self) -> AddressSet {
        let told = self.told.iter().filter_map(|told| match told {
            Advertised::Address(ip) => Some(*ip),
            Advertised::Name(_) => None,
        });
        self.own.with(&AddressSet::of_hosts(told, self.family()))
    }
}

impl Opening {
    /// The family of both ends.
    #[must_use]
    pub const fn family(&self) -> Family {
        self.from.addresses.family()
    }
}

/// Joins lines that are the same, or differ only in the addresses of one end; with `ports` also those that differ only
/// in the ports of the second end. The order is that of the first line of each.
pub(super) fn join(lines: Vec<Opening>, ports: bool) -> Vec<Opening> {
    let mut joined: Vec<Opening> = Vec::with_capacity(lines.len());
    for mut line in lines {
        let mut place = joined.len();
        // What was joined may fit another line now.
        while let Some((index, both)) =
            joined.iter().enumerate().find_map(|(index, other)| Some((index, pair(other, &line, ports)?)))
        {
            joined.remove(index);
            (place, line) = (place.min(index), both);
        }
        joined.insert(place, line);
    }
    joined
}

/// One line in place of two.
fn pair(one: &Opening, other: &Opening, ports: bool) -> Option<Opening> {
    let bare = |line: &Opening| (line.side, line.direction, line.protocol);
    let purpose = one.purpose.of_both(other.purpose).filter(|_| bare(one) == bare(other))?;
    let (from, to) = match (one.from == other.from, one.to == other.to) {
        (true, true) => (one.from.clone(), one.to.clone()),
        (true, false) => {
            let to = either(&one.to, &other.to);
            (one.from.clone(), to.or_else(|| all_ports(&one.to, &other.to).filter(|_| ports))?)
        }
        (false, true) => (either(&one.from, &other.from)?, one.to.clone()),
        (false, false) => return None,
    };
    let names = |ours: &[String], theirs: &[String]| {
        let more = theirs.iter().filter(|name| !ours.contains(name));
        ours.iter().chain(more).cloned().collect()
    };
    let (rules, listeners) = (names(&one.rules, &other.rules), names(&one.listeners, &other.listeners));
    Some(Opening { from, to, purpose, rules, listeners, ..one.clone() })
}

/// The addresses of both, where nothing else differs. One that is not known says nothing about one that is.
fn either(one: &End, other: &End) -> Option<End> {
    let (ours, theirs) = (&one.addresses, &other.addresses);
    let alike = one.role == other.role
        && one.ports == other.ports
        && ours.told == theirs.told
        && ours.family() == theirs.family()
        && !ours.is_unknown()
        && !theirs.is_unknown();
    let addresses = || Addresses { own: ours.own.with(&theirs.own), told: ours.told.clone() };
    alike.then(|| End { addresses: addresses(), ..one.clone() })
}

/// The ports of both, where nothing else differs.
fn all_ports(one: &End, other: &End) -> Option<End> {
    let (Some(ours), Some(theirs)) = (&one.ports, &other.ports) else { return None };
    let ports = PortRanges::new([ours.as_slice(), theirs.as_slice()].concat());
    (one.role == other.role && one.addresses == other.addresses).then(|| End { ports, ..one.clone() })
}
