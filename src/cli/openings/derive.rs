//! From the policy that decides to what must be open around the gate.
//!
//! Each leg of a session is a connection of its own, so each firewall has lines of its own. The client's leg of data
//! connections is as the client asks for it, the server's as the rule's `server_mode` says.

use std::net::IpAddr;

use super::addresses::{AddressSet, Family};
use super::notes;
use super::opening::{Addresses, Direction, End, Opening, Openings, Protocol, Purpose, Role, join};
use super::reach::{Pair, Reach, families, reach};
use crate::addr::{PortRange, PortRanges, Side};
use crate::ftp::command::Verb;
use crate::policy::{Advertised, Listener, Policy, Rule, ServerMode, Source, Stand};

/// The port of name servers.
const NAMES: u16 = 53;

/// Addresses that no rules file tells.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// The gate's, on the clients' side.
    pub client_side: Vec<IpAddr>,
    /// The gate's, on the servers' side.
    pub server_side: Vec<IpAddr>,
    /// The gate's name servers.
    pub name_servers: Vec<IpAddr>,
}

/// What has to be open for a policy to work.
#[must_use]
pub fn derive(policy: &Policy, told: &Told) -> Openings {
    let (mut client_side, mut server_side) = (Vec::new(), Vec::new());
    let (mut opened, mut whole): (Vec<&str>, Vec<&str>) = Default::default();
    for listener in &policy.listeners {
        let reached = reach(policy, listener, &families(listener, &told.server_side));
        for Reach { rule, pairs, is_whole } in reached.iter().filter(|reach| !reach.pairs.is_empty()) {
            let leg = Legs { listener, rule, told };
            client_side.extend(join(leg.client_side(pairs), true));
            server_side.extend(join(leg.server_side(pairs), true));
            opened.push(&rule.name);
            if *is_whole && !whole.contains(&rule.name.as_str()) {
                whole.push(&rule.name);
            }
        }
        let asks = listener.advertise.iter().any(|advertise| matches!(advertise.advertised, Advertised::Name(_)));
        if reached.iter().any(|reach| !reach.pairs.is_empty()) && (asks || listener.stand == Stand::Explicit) {
            server_side.extend(names(listener, told));
        }
        client_side.extend(health_checks(listener, told));
    }
    let mut lines = [join(client_side, false), join(server_side, false)].concat();
    for (index, line) in lines.iter_mut().enumerate() {
        line.number = index + 1;
    }
    let notes = notes::notes(policy, &lines, &opened, &whole);
    Openings { lines, notes }
}

/// The connections of one rule's sessions, at one listener.
struct Legs<'a> {
    listener: &'a Listener,
    rule: &'a Rule,
    told: &'a Told,
}

impl Legs<'_> {
    fn client_side(&self, pairs: &[Pair]) -> Vec<Opening> {
        let mut lines = Vec::new();
        for (who, clients, role, fronts, port) in self.fronts(pairs) {
            let client = End { role: who, addresses: Addresses::plain(clients.clone()), ports: None };
            let with_others = if who == Role::Client { self.with_others(Side::Client, &clients) } else { clients };
            let data = |ports| End { role: who, addresses: Addresses::plain(with_others.clone()), ports };
            let front = |ports| End { role, addresses: fronts.clone(), ports };
            lines.push(self.line(Side::Client, Purpose::Control, client, front(one(port))));
            if let Some(inbound) = self.rule.inbound.as_ref().filter(|_| self.client_is_passive()) {
                let to = front(Some(inbound.gate_ports.clone()));
                lines.push(self.line(Side::Client, Purpose::Passive { always: false }, data(None), to));
            }
            if let Some(outbound) =
                self.rule.outbound.as_ref().filter(|_| self.client_is_active() && who == Role::Client)
            {
                let (from, to) = (front(outbound.source_port.and_then(one)), data(Some(outbound.client_ports.clone())));
                lines.push(self.line(Side::Client, Purpose::Active { always: false }, from, to));
            }
        }
        lines
    }

    fn server_side(&self, pairs: &[Pair]) -> Vec<Opening> {
        let mut lines = Vec::new();
        let always = self.rule.server_mode != ServerMode::Same;
        for pair in pairs {
            let server = |ports| End { role: Role::Server, addresses: Addresses::plain(pair.to.clone()), ports };
            let with_others = self.with_others(Side::Server, &pair.to);
            let data = |ports| End { role: Role::Server, addresses: Addresses::plain(with_others.clone()), ports };
            let (role, backs) = if self.is_source_client() {
                (Role::Client, pair.from.clone())
            } else {
                (Role::Gate(Side::Server), AddressSet::of_hosts(self.told.server_side.clone(), pair.to.family()))
            };
            let back = |ports| End { role, addresses: Addresses::plain(backs.clone()), ports };
            lines.push(self.line(Side::Server, Purpose::Control, back(None), server(one(pair.port))));
            if self.server_is(ServerMode::Passive, self.client_is_passive()) {
                // A rule with no `inbound` may still have the server asked in this mode, for a client that waits.
                let ports = self.rule.inbound.as_ref();
                let ports = ports.map_or_else(PortRanges::unreserved, |inbound| inbound.server_ports.clone());
                lines.push(self.line(Side::Server, Purpose::Passive { always }, back(None), data(Some(ports))));
            }
            if let Some(ports) = self.rule.ports_for_servers()
                && self.server_is(ServerMode::Active, self.client_is_active())
            {
                let to = back(Some(ports.clone()));
                lines.push(self.line(Side::Server, Purpose::Active { always }, data(None), to));
            }
        }
        lines
    }

    /// These peers, and where else their data may come from or go to.
    fn with_others(&self, side: Side, peers: &AddressSet) -> AddressSet {
        peers.with(&AddressSet::of(self.rule.data_peers.of(side).as_slice(), peers.family()))
    }

    /// Clients, or the balancers that bring them, where they connect to, and the control port there.
    fn fronts(&self, pairs: &[Pair]) -> Vec<(Role, AddressSet, Role, Addresses, u16)> {
        if let Stand::Transparent { .. } = self.listener.stand {
            let to = |pair: &Pair| Addresses::plain(pair.to.clone());
            return pairs
                .iter()
                .map(|pair| (Role::Client, pair.from.clone(), Role::Server, to(pair), pair.port))
                .collect();
        }
        let bind = self.listener.bind;
        let family = Family::of(bind.ip());
        let hosts = if bind.ip().is_unspecified() { self.told.client_side.clone() } else { vec![bind.ip()] };
        let gate = AddressSet::of_hosts(hosts, family);
        let mut left = pairs.iter().fold(AddressSet::none(family), |all, pair| all.with(&pair.from));
        let mut fronts = Vec::new();
        // They are no clients, and see no NAT that clients see.
        let balancers = AddressSet::of(self.listener.proxies.networks(), family);
        if !balancers.is_empty() {
            let to = Addresses::plain(gate.clone());
            fronts.push((Role::Balancer, balancers, Role::Gate(Side::Client), to, bind.port()));
        }
        let mut front = |clients: AddressSet, addresses: Addresses| {
            if !clients.is_empty() {
                fronts.push((Role::Client, clients, Role::Gate(Side::Client), addresses, bind.port()));
            }
        };
        for advertise in &self.listener.advertise {
            let theirs = AddressSet::of(&advertise.from, family);
            let own = match &advertise.advertised {
                Advertised::Address(ip) => gate.within(&AddressSet::of_hosts([*ip], family)),
                Advertised::Name(_) => AddressSet::none(family),
            };
            // Whoever is told an address of the gate's own has no NAT in between.
            let addresses = if own.is_empty() {
                Addresses { own: gate.clone(), told: vec![advertise.advertised.clone()] }
            } else {
                Addresses::plain(own)
            };
            front(left.within(&theirs), addresses);
            left = left.without(&theirs);
        }
        front(left, Addresses::plain(gate));
        fronts
    }

    fn line(&self, side: Side, purpose: Purpose, from: End, to: End) -> Opening {
        let direction = match purpose {
            Purpose::Control | Purpose::Passive { .. } | Purpose::Names => Direction::Inbound,
            Purpose::Active { .. } => Direction::Outbound,
        };
        let (rules, listeners) = (vec![self.rule.name.clone()], vec![self.listener.name.clone()]);
        Opening { number: 0, side, direction, protocol: Protocol::Tcp, from, to, purpose, rules, listeners }
    }

    const fn is_source_client(&self) -> bool {
        matches!(self.listener.stand, Stand::Transparent { source: Source::Client, .. })
    }

    fn client_is_passive(&self) -> bool {
        self.rule.inbound.is_some() && self.may(&[(Verb::Pasv, b"PASV"), (Verb::Epsv, b"EPSV")])
    }

    fn client_is_active(&self) -> bool {
        self.rule.outbound.is_some() && self.may(&[(Verb::Port, b"PORT"), (Verb::Eprt, b"EPRT")])
    }

    /// Whether the server's leg is ever in this mode; `asked`: clients ask for it.
    fn server_is(&self, mode: ServerMode, asked: bool) -> bool {
        match self.rule.server_mode {
            ServerMode::Same => asked,
            ServerMode::Passive | ServerMode::Active => {
                self.rule.server_mode == mode && (self.client_is_passive() || self.client_is_active())
            }
        }
    }

    /// Whether a client may give any of these commands.
    fn may(&self, commands: &[(Verb, &[u8])]) -> bool {
        commands.iter().any(|(verb, name)| self.rule.commands.check(*verb, name, b"").is_ok())
    }
}

/// Hosts that only look whether the gate is up, whatever the rules say.
fn health_checks(listener: &Listener, told: &Told) -> Option<Opening> {
    let bind = listener.bind;
    let family = Family::of(bind.ip());
    let checkers = AddressSet::of(&listener.health_checks, family);
    let hosts = if bind.ip().is_unspecified() { told.client_side.clone() } else { vec![bind.ip()] };
    let gate = Addresses::plain(AddressSet::of_hosts(hosts, family));
    (!checkers.is_empty()).then(|| Opening {
        number: 0,
        side: Side::Client,
        direction: Direction::Inbound,
        protocol: Protocol::Tcp,
        from: End { role: Role::Checker, addresses: Addresses::plain(checkers), ports: None },
        to: End { role: Role::Gate(Side::Client), addresses: gate, ports: one(bind.port()) },
        purpose: Purpose::Control,
        rules: Vec::new(),
        listeners: vec![listener.name.clone()],
    })
}

/// What the gate asks of its name servers, by UDP, and by TCP where an answer is long.
fn names(listener: &Listener, told: &Told) -> Vec<Opening> {
    let mut lines = Vec::new();
    // Where nobody said which they are, one line that says so is enough.
    let unknown = told.server_side.first().map_or(Family::V4, |gate| Family::of(*gate));
    for family in Family::ALL {
        let servers = AddressSet::of_hosts(told.name_servers.clone(), family);
        if servers.is_empty() && !(told.name_servers.is_empty() && family == unknown) {
            continue;
        }
        let gate = AddressSet::of_hosts(told.server_side.clone(), family);
        for protocol in [Protocol::Udp, Protocol::Tcp] {
            lines.push(Opening {
                number: 0,
                side: Side::Server,
                direction: Direction::Inbound,
                protocol,
                from: End { role: Role::Gate(Side::Server), addresses: Addresses::plain(gate.clone()), ports: None },
                to: End { role: Role::NameServer, addresses: Addresses::plain(servers.clone()), ports: one(NAMES) },
                purpose: Purpose::Names,
                rules: Vec::new(),
                listeners: vec![listener.name.clone()],
            });
        }
    }
    lines
}

fn one(port: u16) -> Option<PortRanges> {
    PortRanges::new(PortRange::new(port, port).into_iter().collect())
}
