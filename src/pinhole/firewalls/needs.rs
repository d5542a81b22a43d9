//! What firewalls of this machine have to let through, from the rules file: packets, each with what would accept it.

use std::net::IpAddr;
use std::sync::Arc;

use super::accept::Accept;
use super::packet::{DNAT, Packet};
use crate::addr::{PortRange, PortRanges};
use crate::net::Locals;
use crate::net::netlink::{Hook, number};
use crate::pinhole::kernel::{CONNECTION_MARK, INTERCEPTED};
use crate::policy::{Datapath, Interception, Listener, Permission, Policy, Rule, Source, Stand};

/// The control port where a rule names none.
const CONTROL_PORT: u16 = 21;

/// One thing that must come through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Need {
    pub(super) hook: Hook,
    pub(super) packet: Packet,
    pub(super) accept: Accept,
    /// What it is for, in words for the operator.
    pub(super) what: String,
}

/// All that must come through.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Needs {
    pub(super) needs: Vec<Need>,
    /// The same where something keeps the kernel from leading data connections, so that the relay moves them.
    pub(super) without_kernel: Vec<Need>,
    /// First packets of control connections, where helpers of conntrack may be set for them.
    pub(super) control: Vec<(Hook, Packet)>,
    /// First packets of data connections, as they arrive.
    pub(super) data: Vec<Packet>,
    /// Data connections may go through the kernel.
    pub(super) uses_kernel: bool,
    /// All of them are translated to another address than they were made to.
    pub(super) all_translated: bool,
}

impl Needs {
    /// What these rules need. `has_kernel` is whether there is a kernel's datapath.
    pub(super) fn of(policy: &Policy, has_kernel: bool) -> Self {
        let without_kernel = if has_kernel { Self::where_kernel_is(policy, false).needs } else { Vec::new() };
        Self { without_kernel, ..Self::where_kernel_is(policy, has_kernel) }
    }

    fn where_kernel_is(policy: &Policy, has_kernel: bool) -> Self {
        let allowed = || policy.rules.iter().filter(|rule| rule.permission == Permission::Allow);
        let is_transparent = |listener: &Listener| matches!(listener.stand, Stand::Transparent { .. });
        let mut needs = Self {
            uses_kernel: has_kernel && allowed().any(|rule| rule.datapath != Datapath::Relay),
            all_translated: !policy.listeners.iter().any(is_transparent),
            ..Self::default()
        };
        let locals = Locals::default();
        for listener in policy.listeners.iter().filter(|listener| !listener.bind.ip().is_loopback()) {
            let here = |rule: &&Arc<Rule>| rule.listeners.is_empty() || rule.listeners.contains(&listener.name);
            let rules: Vec<&Arc<Rule>> = allowed().filter(here).collect();
            Gathering { needs: &mut needs, listener, locals: &locals, has_kernel }.gather(&rules);
        }
        needs
    }
}

/// What one listener needs.
struct Gathering<'a> {
    needs: &'a mut Needs,
    listener: &'a Listener,
    locals: &'a Locals,
    has_kernel: bool,
}

impl Gathering<'_> {
    fn gather(&mut self, rules: &[&Arc<Rule>]) {
        let name = self.listener.name.escape_debug().to_string();
        let family = family(self.listener.bind.ip());
        let bind = self.listener.bind.port();
        let mut control: Vec<u16> = rules.iter().flat_map(|rule| control_ports(rule)).collect();
        control.sort_unstable();
        control.dedup();
        // A server on this machine is reached through the loopback interface.
        let server = match self.listener.stand {
            Stand::Reverse { server } if server.ip().is_loopback() || self.locals.has(server.ip()) => None,
            Stand::Reverse { server } => Some((self::family(server.ip()), server.port())),
            Stand::Transparent { .. } | Stand::Explicit => None,
        };
        let arriving = match self.listener.stand {
            Stand::Reverse { .. } | Stand::Explicit => vec![bind],
            Stand::Transparent { .. } => control.clone(),
        };
        for port in arriving {
            let what = format!("clients of listener {name}");
            self.arrives(family, port, bind, one(port), &what);
            self.needs.control.push((Hook::Prerouting, loose(Packet::to(family, port))));
        }
        let servers: Vec<(u8, u16)> = match self.listener.stand {
            Stand::Reverse { .. } => server.into_iter().collect(),
            Stand::Transparent { .. } | Stand::Explicit => control.iter().map(|port| (family, *port)).collect(),
        };
        for (family, port) in &servers {
            let what = format!("connections to servers of listener {name}");
            self.leaves(Packet::to(*family, *port), Accept::To(one(*port)), &what);
            self.needs.control.push((Hook::Output, loose(Packet::to(*family, *port))));
            self.stands(Hook::Input, Packet { from_port: Some(*port), ..Packet::established(*family) }, &what);
        }
        let what = format!("answers to clients of listener {name}");
        self.stands(Hook::Output, Packet { from_port: Some(bind), ..Packet::established(family) }, &what);
        for rule in rules {
            self.data(rule, family, servers.first().map_or(family, |(family, _)| *family));
        }
    }

    /// Data connections: those that the relay makes and takes, or the kernel.
    fn data(&mut self, rule: &Rule, client: u8, server: u8) {
        let name = rule.name.escape_debug();
        let relays = match rule.datapath {
            Datapath::Relay => true,
            Datapath::Auto => !self.has_kernel,
            Datapath::Kernel => false,
        };
        if let Some(inbound) = &rule.inbound {
            let what = format!("passive data of rule {name}");
            self.data_arrives(client, &inbound.gate_ports, relays, &what);
            if !relays {
                self.is_led(server, &inbound.server_ports, &what);
            } else {
                for (range, port) in samples(&inbound.server_ports) {
                    self.leaves(Packet::to(server, port), Accept::To(range), &what);
                }
            }
        }
        if let Some(outbound) = &rule.outbound {
            let what = format!("active data of rule {name}");
            if let Some(ports) = rule.ports_for_servers() {
                self.data_arrives_at_back(server, ports, relays, &what);
            }
            if !relays {
                self.is_led(client, &outbound.client_ports, &what);
            }
            let accept = |range| outbound.source_port.map_or(Accept::To(range), Accept::From);
            for (range, port) in samples(&outbound.client_ports).into_iter().filter(|_| relays) {
                let packet = Packet { from_port: outbound.source_port, ..Packet::to(client, port) };
                self.leaves(packet, accept(range), &what);
            }
        }
    }

    /// What the kernel leads on to ports of the peer's.
    fn is_led(&mut self, family: u8, ports: &PortRanges, what: &str) {
        for (_, port) in samples(ports) {
            let packet = Packet { ct_mark: Some(CONNECTION_MARK), ..Packet::to(family, port) };
            self.need(Hook::Postrouting, loose(packet), Accept::Marked, what);
        }
    }

    fn data_arrives(&mut self, family: u8, ports: &PortRanges, relays: bool, what: &str) {
        for (range, port) in samples(ports) {
            self.needs.data.push(loose(Packet::to(family, port)));
            if relays {
                self.arrives(family, port, port, range, what);
            } else {
                self.need(Hook::Prerouting, loose(Packet::to(family, port)), Accept::To(range), what);
            }
        }
    }

    /// The same towards the address that the server knows, which is this machine's, or the client's.
    fn data_arrives_at_back(&mut self, family: u8, ports: &PortRanges, relays: bool, what: &str) {
        let is_clients = matches!(self.listener.stand, Stand::Transparent { source: Source::Client, .. });
        for (range, port) in samples(ports) {
            let packet = Packet::to(family, port);
            self.needs.data.push(loose(packet));
            self.need(Hook::Prerouting, loose(packet), Accept::To(range), what);
            if relays && is_clients {
                self.need(Hook::Input, Packet { mark: Some(INTERCEPTED), ..packet }, Accept::Intercepted(range), what);
            } else if relays {
                self.need(Hook::Input, packet, Accept::To(range), what);
            }
        }
    }

    /// A connection to `port` comes in, for our socket at port `at`.
    fn arrives(&mut self, family: u8, port: u16, at: u16, range: PortRange, what: &str) {
        let packet = Packet::to(family, port);
        self.need(Hook::Prerouting, loose(packet), Accept::To(range), what);
        let (packet, accept) = match self.listener.stand {
            Stand::Reverse { .. } | Stand::Explicit => (packet, Accept::To(range)),
            Stand::Transparent { interception: Interception::Tproxy, .. } => {
                (Packet { mark: Some(INTERCEPTED), ..packet }, Accept::Intercepted(range))
            }
            Stand::Transparent { interception: Interception::Redirect, .. } => {
                (Packet { ct_status: Some(DNAT), ..Packet::to(family, at) }, Accept::Redirected)
            }
        };
        self.need(Hook::Input, packet, accept, what);
    }

    /// A connection is made by this machine.
    fn leaves(&mut self, packet: Packet, accept: Accept, what: &str) {
        self.need(Hook::Output, packet, accept, what);
        self.need(Hook::Postrouting, loose(packet), accept, what);
    }

    fn stands(&mut self, hook: Hook, packet: Packet, what: &str) {
        self.need(hook, packet, Accept::Established, what);
    }

    fn need(&mut self, hook: Hook, packet: Packet, accept: Accept, what: &str) {
        let need = Need { hook, packet, accept, what: what.to_owned() };
        if !self.needs.needs.contains(&need) {
            self.needs.needs.push(need);
        }
    }
}

/// The same packet, where others may have marked or translated it before.
const fn loose(packet: Packet) -> Packet {
    Packet { mark: None, ct_status: None, ..packet }
}

fn family(ip: IpAddr) -> u8 {
    if ip.to_canonical().is_ipv4() { number::IPV4 } else { number::IPV6 }
}

fn control_ports(rule: &Rule) -> impl Iterator<Item = u16> + '_ {
    rule.to.iter().map(|destination| destination.port.unwrap_or(CONTROL_PORT))
}

fn one(port: u16) -> PortRange {
    PortRange::new(port, port).expect("a range of one port is not backwards")
}

/// Some ports of each range: its ends and its middle.
fn samples(ports: &PortRanges) -> Vec<(PortRange, u16)> {
    let of = |range: &PortRange| {
        let middle = range.first() + (range.last() - range.first()) / 2;
        let mut ports = vec![range.first(), middle, range.last()];
        ports.dedup();
        let range = *range;
        ports.into_iter().map(move |port| (range, port))
    };
    ports.as_slice().iter().flat_map(of).collect()
}
