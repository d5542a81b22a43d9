//! From a policy to the table that it needs.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::table::{Chain, Family, Hook, Match, Rule, SourceRoute, Table, Verdict};
use super::{Interception, Otherwise};
use crate::addr::{PortRange, PortRanges};
use crate::policy::{Datapath, Destination, Interception as By, Permission, Policy, Rule as PolicyRule, Stand};

/// The control port where a rule names none.
const CONTROL_PORT: u16 = 21;

/// A transparent listener.
struct Target<'a> {
    name: &'a str,
    bind: SocketAddr,
    by: By,
}

impl Target<'_> {
    fn family(&self) -> Family {
        Family::of(self.bind.ip())
    }

    /// The names come from the rules file.
    fn comment(&self) -> String {
        format!("listener {} at {}", self.name.escape_debug(), self.bind)
    }

    /// How a control connection is handed to it.
    fn control(&self) -> Verdict {
        let (family, ip, port) = (self.family(), self.bind.ip(), self.bind.port());
        match (self.by, ip.is_unspecified()) {
            (By::Tproxy, any) => Verdict::Tproxy { family, to: (!any).then_some(ip), port },
            (By::Redirect, true) => Verdict::Redirect(Some(port)),
            (By::Redirect, false) => Verdict::Dnat { family, to: ip, port: Some(port) },
        }
    }

    /// How a data connection gets to the same port of this machine.
    fn data(&self) -> Verdict {
        match self.bind.ip() {
            ip if ip.is_unspecified() => Verdict::Redirect(None),
            to => Verdict::Dnat { family: self.family(), to, port: None },
        }
    }
}

struct Plan<'a> {
    policy: &'a Policy,
    targets: Vec<Target<'a>>,
}

pub(super) fn of(policy: &Policy, otherwise: Otherwise) -> Option<Interception> {
    let targets: Vec<_> = policy
        .listeners
        .iter()
        .filter_map(|listener| match listener.stand {
            Stand::Transparent { interception: by, .. } => {
                Some(Target { name: &listener.name, bind: listener.bind, by })
            }
            Stand::Reverse { .. } | Stand::Explicit => None,
        })
        .collect();
    if targets.is_empty() {
        return None;
    }
    let plan = Plan { policy, targets };
    let families = Family::BOTH.into_iter().filter(|family| plan.of_family(*family).next().is_some()).collect();
    let mut chains = vec![plan.prerouting()];
    if plan.targets.iter().any(|target| target.by == By::Redirect) {
        chains.push(plan.nat());
    }
    if otherwise == Otherwise::Closed {
        chains.push(plan.forward());
    }
    Some(Interception { table: Table(chains), families })
}

impl<'a> Plan<'a> {
    /// Packets of the gate's own sockets go to them; what is meant for a server goes to the listener.
    fn prerouting(&self) -> Chain {
        let tproxied = || self.targets.iter().filter(|target| target.by == By::Tproxy);
        // `socket wildcard 0` would say it better, but the kernel asks it of full sockets only: it fails for the last packet
        // of a handshake, and for a port whose last connection has just ended. The listeners are bound to every address, and
        // what is sent to another machine's port of that number is not for us.
        let listening = PortRanges::new(tproxied().filter_map(|target| one(target.bind.port())).collect());
        let mut rules = vec![Rule {
            comment: "connections that stand, data ports that wait, and answers to connections made in another's name"
                .to_owned(),
            matches: vec![listening.map_or(Match::Tcp, Match::OtherPorts), Match::TransparentSocket],
            verdict: Verdict::Deliver,
        }];
        if tproxied().next().is_some() {
            rules.push(to_this_machine());
        }
        rules.extend(self.handed_over(By::Tproxy));
        Chain { hook: Hook::Prerouting, rules }
    }

    /// The destination is rewritten: of control connections to the listener, of data connections to the same port here.
    fn nat(&self) -> Chain {
        let mut rules = vec![to_this_machine()];
        if self.targets.iter().any(|target| target.by == By::Tproxy) {
            rules.push(Rule {
                comment: "what goes to a listener with tproxy".to_owned(),
                matches: vec![Match::Delivered],
                verdict: Verdict::Return,
            });
        }
        rules.extend(self.handed_over(By::Redirect));
        // After every control port: a wide range of data ports may include some.
        for target in self.targets.iter().filter(|target| target.by == By::Redirect) {
            rules.extend(self.allowed(target).filter_map(|rule| {
                let (inbound, family) = (rule.inbound.as_ref()?, target.family());
                let from = family.networks(rule.from.iter())?;
                let to = family.networks(rule.to.iter().map(|destination| &destination.network))?;
                let mut matches = family.matched(from, to);
                matches.push(Match::Ports(inbound.gate_ports.clone()));
                let comment = format!("rule {}: inbound data connections", rule.name.escape_debug());
                Some(Rule { comment, matches, verdict: target.data() })
            }));
        }
        Chain { hook: Hook::Nat, rules }
    }

    /// Control connections to listeners that get them this way: first where several listeners share a family, those that
    /// each one's rules allow; then all others, so that clients who are denied are told so.
    fn handed_over(&self, by: By) -> Vec<Rule> {
        let mut rules = Vec::new();
        for family in Family::BOTH {
            let several = self.of_family(family).nth(1).is_some();
            for target in self.of_family(family).filter(|target| several && target.by == by) {
                for rule in self.allowed(target) {
                    let Some(from) = family.networks(rule.from.iter()) else { continue };
                    let comment = format!("{}, rule {}", target.comment(), rule.name.escape_debug());
                    rules.extend(to_control_ports(&rule.to, family, &from, &comment, target.control()));
                }
            }
            // Who is redirected comes later than who is tproxied: the last of both ways is for the rest.
            let last =
                if self.of_family(family).any(|target| target.by == By::Redirect) { By::Redirect } else { By::Tproxy };
            if let Some(target) = self.of_family(family).find(|target| last == by && target.by == by) {
                let servers: Vec<Destination> = self.servers().cloned().collect();
                rules.extend(to_control_ports(&servers, family, &[], &target.comment(), target.control()));
            }
        }
        rules
    }

    /// Whatever goes on to a server's control port did not come through the gate.
    fn forward(&self) -> Chain {
        let by_kernel =
            |rule: &Arc<PolicyRule>| rule.permission == Permission::Allow && rule.datapath != Datapath::Relay;
        let mut rules = Vec::new();
        // Not without need: this has the kernel track connections.
        if self.policy.rules.iter().any(by_kernel) {
            rules.push(Rule {
                comment: "data connections that ftpgate leads".to_owned(),
                matches: vec![Match::ThroughPinhole],
                verdict: Verdict::Accept,
            });
        }
        // Where that address is another machine's by now, what was redirected would go there.
        for target in self.targets.iter().filter(|target| target.by == By::Redirect) {
            if let (Verdict::Dnat { to, .. }, Some(port)) = (target.control(), one(target.bind.port())) {
                let to = Match::To(target.family(), vec![IpNet::from(to)]);
                let ports = PortRanges::new(vec![port]).map(Match::Ports);
                let comment = format!("{}, whose address is not this machine's any more", target.comment());
                rules.push(Rule {
                    comment,
                    matches: std::iter::once(to).chain(ports).collect(),
                    verdict: Verdict::Drop,
                });
            }
        }
        let servers: Vec<Destination> = self.servers().cloned().collect();
        rules.extend(source_routed(&servers));
        rules.extend(fragments(&servers));
        for family in Family::BOTH {
            let comment = if self.of_family(family).next().is_some() {
                "nothing gets to these servers past ftpgate"
            } else {
                "nor by a family that no listener takes"
            };
            rules.extend(to_control_ports(&servers, family, &[], comment, Verdict::Drop));
        }
        Chain { hook: Hook::Forward, rules }
    }

    fn of_family(&self, family: Family) -> impl Iterator<Item = &Target<'a>> {
        self.targets.iter().filter(move |target| target.family() == family)
    }

    /// The rules that allow anything at this listener.
    fn allowed(&self, target: &Target<'_>) -> impl Iterator<Item = &Arc<PolicyRule>> {
        self.policy.rules.iter().filter(|rule| rule.permission == Permission::Allow && holds_at(rule, target))
    }

    /// The servers of every rule that holds at a transparent listener, whomever it allows or denies.
    fn servers(&self) -> impl Iterator<Item = &Destination> {
        let here = |rule: &&Arc<PolicyRule>| self.targets.iter().any(|target| holds_at(rule, target));
        self.policy.rules.iter().filter(here).flat_map(|rule| &rule.to)
    }
}

fn holds_at(rule: &PolicyRule, target: &Target<'_>) -> bool {
    rule.listeners.is_empty() || rule.listeners.iter().any(|name| name == target.name)
}

/// Routers that take source routes send a packet on though it is meant for them: where to, only its option tells.
fn source_routed(servers: &[Destination]) -> Vec<Rule> {
    let is_v4 = |server: &&Destination| Family::V4.networks(std::iter::once(&server.network)).is_some();
    let ports = servers.iter().filter(is_v4).filter_map(|server| one(server.port.unwrap_or(CONTROL_PORT))).collect();
    let Some(ports) = PortRanges::new(ports) else { return Vec::new() };
    let rule = |option| Rule {
        comment: "nor by a route of the sender's choice".to_owned(),
        matches: vec![Match::SourceRoute(option), Match::Ports(ports.clone())],
        verdict: Verdict::Drop,
    };
    [SourceRoute::Loose, SourceRoute::Strict].map(rule).into()
}

/// Fragments of IPv6, of which nobody knows the port. Where the interception is in place they are put together before they come
/// here, and go on as other packets do. The first fragment of IPv4 always has the port.
fn fragments(servers: &[Destination]) -> Option<Rule> {
    let to = Family::V6.networks(servers.iter().map(|server| &server.network))?;
    let mut matches = Family::V6.matched(Vec::new(), to);
    matches.push(Match::Fragment);
    Some(Rule { comment: "nor in fragments".to_owned(), matches, verdict: Verdict::Drop })
}

fn to_this_machine() -> Rule {
    Rule {
        comment: "what is meant for this machine itself".to_owned(),
        matches: vec![Match::ToThisMachine],
        verdict: Verdict::Return,
    }
}

fn one(port: u16) -> Option<PortRange> {
    PortRange::new(port, port)
}

/// Rules for the control ports of some servers; ports of the same networks stand together.
fn to_control_ports(
    servers: &[Destination],
    family: Family,
    from: &[IpNet],
    comment: &str,
    verdict: Verdict,
) -> Vec<Rule> {
    let mut by_port: BTreeMap<u16, Vec<&Destination>> = BTreeMap::new();
    for server in servers {
        by_port.entry(server.port.unwrap_or(CONTROL_PORT)).or_default().push(server);
    }
    let mut by_networks: BTreeMap<Vec<IpNet>, Vec<PortRange>> = BTreeMap::new();
    for (port, servers) in by_port {
        if let Some(networks) = family.networks(servers.iter().map(|server| &server.network)) {
            by_networks.entry(networks).or_default().extend(one(port));
        }
    }
    let rule = |(to, ports): (Vec<IpNet>, Vec<PortRange>)| {
        let mut matches = family.matched(from.to_vec(), to);
        matches.push(Match::Ports(PortRanges::new(ports)?));
        Some(Rule { comment: comment.to_owned(), matches, verdict })
    };
    by_networks.into_iter().filter_map(rule).collect()
}
