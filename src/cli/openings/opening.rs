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
    /// Its place among the lines of a rule.
    const fn rank(self) -> u8 {
        match self {
            Self::Control => 0,
            Self::Passive { .. } => 1,
            Self::Active { .. } => 2,
            Self::Names => 3,
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

/// Joins the lines of one rule that differ only in the addresses of one end, or only in the control port.
pub(super) fn join(lines: Vec<Opening>) -> Vec<Opening> {
    let mut joined: Vec<Opening> = Vec::with_capacity(lines.len());
    for mut line in lines {
        let mut place = joined.len();
        // What was joined may fit another line now.
        while let Some((index, both)) =
            joined.iter().enumerate().find_map(|(index, other)| Some((index, joined_pair(other, &line)?)))
        {
            joined.remove(index);
            (place, line) = (index, both);
        }
        joined.insert(place, line);
    }
    joined.sort_by_key(|line| line.purpose.rank());
    joined
}

fn joined_pair(one: &Opening, other: &Opening) -> Option<Opening> {
    for vary in [from_own, to_own, to_ports] {
        let mut same = other.clone();
        vary(&mut same, one, false);
        if same == *one {
            let mut both = one.clone();
            vary(&mut both, other, true);
            return Some(both);
        }
    }
    None
}

/// Takes the addresses of another line, or adds them.
fn from_own(line: &mut Opening, other: &Opening, add: bool) {
    own(&mut line.from.addresses, &other.from.addresses, add);
}

fn to_own(line: &mut Opening, other: &Opening, add: bool) {
    own(&mut line.to.addresses, &other.to.addresses, add);
}

fn own(ours: &mut Addresses, other: &Addresses, add: bool) {
    // An address that is not known says nothing about one that is; and families stay apart.
    if ours.family() == other.family() && !ours.is_unknown() && !other.is_unknown() {
        ours.own = if add { ours.own.with(&other.own) } else { other.own.clone() };
    }
}

fn to_ports(line: &mut Opening, other: &Opening, add: bool) {
    if let (Some(ours), Some(theirs)) = (&line.to.ports, &other.to.ports) {
        let ranges = if add { [ours.as_slice(), theirs.as_slice()].concat() } else { theirs.as_slice().to_vec() };
        line.to.ports = PortRanges::new(ranges);
    }
}

/// Makes one line of those that several rules or listeners want alike.
pub(super) fn share(lines: Vec<Opening>) -> Vec<Opening> {
    let mut shared: Vec<Opening> = Vec::with_capacity(lines.len());
    for line in lines {
        let same = |other: &&mut Opening| {
            let bare = |line: &Opening| (line.side, line.direction, line.protocol, line.purpose);
            bare(other) == bare(&line) && other.from == line.from && other.to == line.to
        };
        match shared.iter_mut().find(same) {
            Some(other) => {
                add(&mut other.rules, line.rules);
                add(&mut other.listeners, line.listeners);
            }
            None => shared.push(line),
        }
    }
    shared
}

fn add(names: &mut Vec<String>, more: Vec<String>) {
    for name in more {
        if !names.contains(&name) {
            names.push(name);
        }
    }
}
