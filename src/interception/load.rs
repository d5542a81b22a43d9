//! The interception as netlink messages.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::table::{Chain, Counter, Family, Hook, Match, Rule, Table, Verdict};
use super::{MARK, TABLE};
use crate::addr::PortRanges;
use crate::net::netlink::{Batches, Ct, Expressions, Head, Header, Is, Meta, Nat, OWN_SET, Register, Writer, number};
use crate::pinhole::{CONNECTION_MARK, CONNECTION_MASK};

const NEW_TABLE: u16 = number::NFTABLES;
const DELETE_TABLE: u16 = number::NFTABLES | 2;
const NEW_CHAIN: u16 = number::NFTABLES | 3;
const NEW_RULE: u16 = number::NFTABLES | 6;
const NEW_SET: u16 = number::NFTABLES | 9;
const NEW_ELEMENTS: u16 = number::NFTABLES | 12;
const NEW_OBJECT: u16 = number::NFTABLES | 18;

/// Where rules keep what they load.
const FIRST: Register = Register::nth(0);
/// Behind an IPv6 address.
const BEHIND_ADDRESS: Register = Register::nth(4);
const TCP: u8 = 6;
/// As many elements as certainly fit into one attribute.
const ELEMENTS: usize = 1000;

/// Who a table belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// The machine's operator.
    Nobody,
    /// The socket that makes it: nobody else can change it, and it goes with the process.
    Socket,
}

/// Replaces the table of interception, or leaves it as it was.
pub(super) fn replace(table: &Table) -> io::Result<()> {
    replace_as(&mut Batches::open()?, TABLE, Owner::Nobody, table)
}

/// Removes it, if it is there.
pub(super) fn remove() -> io::Result<()> {
    let mut batch = Batch::begin(Batches::open()?, TABLE);
    batch.delete_table(Owner::Nobody);
    batch.commit()
}

/// Replaces a table of this name.
pub(super) fn replace_as(batches: &mut Batches, name: &str, owner: Owner, table: &Table) -> io::Result<()> {
    let mut batch = Batch::begin(batches, name);
    batch.delete_table(owner);
    batch.table(owner, &table.comment());
    table.counters().for_each(|counter| batch.counter(counter));
    for chain in &table.0 {
        batch.chain(chain.hook);
        for rule in &chain.rules {
            batch.rule(chain, rule);
        }
    }
    batch.commit()
}

/// One batch for one table.
struct Batch<'n, B> {
    name: &'n str,
    batches: B,
    first: u32,
    sets: u32,
}

impl<'n, B: std::borrow::BorrowMut<Batches>> Batch<'n, B> {
    fn begin(mut batches: B, name: &'n str) -> Self {
        let first = batches.borrow_mut().begin();
        batches.borrow_mut().sequence = first + 1;
        Self { name, batches, first, sets: 0 }
    }

    fn commit(mut self) -> io::Result<()> {
        self.batches.borrow_mut().commit(self.first).map_err(|failed| failed.error)
    }

    fn message(&mut self, kind: u16, flags: u16, fill: impl FnOnce(&mut Writer)) {
        let batches = self.batches.borrow_mut();
        let head = Head { kind, flags, sequence: batches.sequence, family: number::INET, resource: 0 };
        batches.sequence += 1;
        batches.writer.message(head, fill);
    }

    /// Makes sure that there is none: one that is not there cannot be deleted.
    fn delete_table(&mut self, owner: Owner) {
        let name = self.name;
        self.message(NEW_TABLE, number::CREATE, |w| {
            w.text(1, name);
            w.u32(2, owner.flags());
        });
        self.message(DELETE_TABLE, 0, |w| w.text(1, name));
    }

    fn table(&mut self, owner: Owner, comment: &str) {
        let name = self.name;
        self.message(NEW_TABLE, number::CREATE, |w| {
            w.text(1, name);
            w.u32(2, owner.flags());
            w.bytes(6, &as_comment(comment));
        });
    }

    fn counter(&mut self, counter: Counter) {
        const COUNTER: u32 = 1;
        let name = self.name;
        self.message(NEW_OBJECT, number::CREATE, |w| {
            w.text(1, name);
            w.text(2, counter.name());
            w.u32(3, COUNTER);
            w.nest(4, |w| {
                w.u64(1, 0);
                w.u64(2, 0);
            });
        });
    }

    fn chain(&mut self, hook: Hook) {
        const ACCEPT: u32 = 1;
        let (name, at) = (self.name, number_of(hook));
        self.message(NEW_CHAIN, number::CREATE, |w| {
            w.text(1, name);
            w.text(3, hook.name());
            w.nest(4, |w| {
                w.u32(1, at.hook);
                w.bytes(2, &at.priority.to_be_bytes());
            });
            w.u32(5, ACCEPT);
            w.text(7, at.kind);
        });
    }

    fn rule(&mut self, chain: &Chain, rule: &Rule) {
        let sets: Vec<Option<u32>> = rule.matches.iter().map(|condition| self.set_of(condition)).collect();
        let name = self.name;
        self.message(NEW_RULE, number::CREATE | number::APPEND, |w| {
            w.text(1, name);
            w.text(2, chain.hook.name());
            w.nest(4, |w| {
                let mut e = Expressions::new(w);
                rule.matches.iter().zip(sets).for_each(|(condition, set)| condition.write(&mut e, set));
                if let Some(counter) = rule.counter() {
                    e.count(counter.name());
                }
                rule.verdict.write(&mut e);
            });
        });
    }

    /// Makes the set of what is looked for; its id.
    fn set_of(&mut self, condition: &Match) -> Option<u32> {
        match condition {
            Match::From(family, nets) | Match::To(family, nets) => {
                Some(self.set(family.data_type(), family.length(), &edges_of_nets(nets)))
            }
            Match::Ports(ports) | Match::OtherPorts(ports) => Some(self.set(PORT_TYPE, 2, &edges_of_ports(ports))),
            Match::Family(_)
            | Match::Tcp
            | Match::ToThisMachine
            | Match::TransparentSocket
            | Match::ThroughPinhole
            | Match::Delivered
            | Match::Fragment
            | Match::SourceRoute(_) => None,
        }
    }

    /// Makes a set of intervals for one rule; its id.
    fn set(&mut self, key: u32, length: u32, edges: &[Edge]) -> u32 {
        const ANONYMOUS: u32 = 1;
        const CONSTANT: u32 = 2;
        const INTERVAL: u32 = 4;
        const INTERVAL_END: u32 = 1;
        self.sets += 1;
        let (name, id) = (self.name, self.sets);
        self.message(NEW_SET, number::CREATE, |w| {
            w.text(1, name);
            w.text(2, OWN_SET);
            w.u32(3, ANONYMOUS | CONSTANT | INTERVAL);
            w.u32(4, key);
            w.u32(5, length);
            w.u32(10, id);
        });
        for some in edges.chunks(ELEMENTS) {
            self.message(NEW_ELEMENTS, number::CREATE, |w| {
                w.text(1, name);
                w.text(2, OWN_SET);
                w.u32(4, id);
                w.nest(3, |w| {
                    for edge in some {
                        w.nest(1, |w| {
                            w.nest(1, |w| w.bytes(1, &edge.key));
                            if edge.is_end {
                                w.u32(3, INTERVAL_END);
                            }
                        });
                    }
                });
            });
        }
        id
    }
}

/// Where an interval begins, or where it has ended.
struct Edge {
    key: Vec<u8>,
    is_end: bool,
}

/// The intervals' edges; one that ends with the last of all keys has no end.
fn edges_of_nets(nets: &[IpNet]) -> Vec<Edge> {
    let edge = |ip: IpAddr, is_end| Edge { key: bytes(ip), is_end };
    let next = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => u32::from(ip).checked_add(1).map(|ip| Ipv4Addr::from(ip).into()),
        IpAddr::V6(ip) => u128::from(ip).checked_add(1).map(|ip| Ipv6Addr::from(ip).into()),
    };
    let mut edges: Vec<Edge> = Vec::with_capacity(2 * nets.len());
    for net in nets {
        edges.push(edge(net.network(), false));
        edges.extend(next(net.broadcast()).map(|ip: IpAddr| edge(ip, true)));
    }
    edges
}

fn edges_of_ports(ports: &PortRanges) -> Vec<Edge> {
    let edge = |port: u16, is_end| Edge { key: port.to_be_bytes().to_vec(), is_end };
    let edges = ports.as_slice().iter().flat_map(|range| {
        let end = range.last().checked_add(1).map(|port| edge(port, true));
        [Some(edge(range.first(), false)), end].into_iter().flatten()
    });
    edges.collect()
}

fn bytes(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

impl Owner {
    const fn flags(self) -> u32 {
        match self {
            Self::Nobody => 0,
            Self::Socket => 2,
        }
    }
}

/// A chain's place, as netfilter numbers it.
struct Place {
    kind: &'static str,
    hook: u32,
    priority: i32,
}

const fn number_of(hook: Hook) -> Place {
    match hook {
        Hook::Prerouting => Place { kind: "filter", hook: 0, priority: -150 },
        Hook::Nat => Place { kind: "nat", hook: 0, priority: -100 },
        Hook::Forward => Place { kind: "filter", hook: 2, priority: -20 },
    }
}

impl Family {
    const fn number(self) -> u8 {
        match self {
            Self::V4 => number::IPV4,
            Self::V6 => number::IPV6,
        }
    }

    const fn length(self) -> u32 {
        match self {
            Self::V4 => 4,
            Self::V6 => 16,
        }
    }

    /// Where the source address is in the header; the destination follows it.
    const fn source_at(self) -> u32 {
        match self {
            Self::V4 => 12,
            Self::V6 => 8,
        }
    }

    /// The number by which `nft` knows the type of an address.
    const fn data_type(self) -> u32 {
        match self {
            Self::V4 => 7,
            Self::V6 => 8,
        }
    }
}

/// `nft` shows ports by this number.
const PORT_TYPE: u32 = 13;

impl Match {
    fn write(&self, e: &mut Expressions<'_>, set: Option<u32>) {
        const LOCAL: u32 = 2;
        // Every condition that looks something up has its set: see `set_of`.
        let set = set.unwrap_or_default();
        match self {
            Self::Family(family) => is_of(e, *family),
            Self::From(family, _) => {
                is_of(e, *family);
                e.payload(Header::Network, family.source_at(), family.length(), FIRST).is_in_own(set, FIRST, false);
            }
            Self::To(family, _) => {
                is_of(e, *family);
                let at = family.source_at() + family.length();
                e.payload(Header::Network, at, family.length(), FIRST).is_in_own(set, FIRST, false);
            }
            Self::Ports(_) => {
                port(e).is_in_own(set, FIRST, false);
            }
            Self::OtherPorts(_) => {
                port(e).is_in_own(set, FIRST, true);
            }
            Self::Tcp => is_tcp(e),
            Self::ToThisMachine => {
                e.destination_type(FIRST).compare(FIRST, Is::Equal, &LOCAL.to_ne_bytes());
            }
            Self::TransparentSocket => {
                e.socket_is_transparent(FIRST).compare(FIRST, Is::Equal, &[1]);
            }
            Self::Fragment => {
                is_of(e, Family::V6);
                e.is_fragment(FIRST).compare(FIRST, Is::Equal, &[1]);
            }
            Self::SourceRoute(option) => {
                is_of(e, Family::V4);
                e.has_ip_option(*option as u8, FIRST).compare(FIRST, Is::Equal, &[1]);
            }
            Self::Delivered => {
                e.meta(Meta::Mark, FIRST).compare(FIRST, Is::Equal, &MARK.to_ne_bytes());
            }
            Self::ThroughPinhole => {
                let (mask, mark) = (CONNECTION_MASK.to_ne_bytes(), CONNECTION_MARK.to_ne_bytes());
                e.ct(Ct::Mark, FIRST).bits(FIRST, &mask, &[0; 4]).compare(FIRST, Is::Equal, &mark);
            }
        }
    }
}

fn is_of(e: &mut Expressions<'_>, family: Family) {
    e.meta(Meta::Family, FIRST).compare(FIRST, Is::Equal, &[family.number()]);
}

fn is_tcp(e: &mut Expressions<'_>) {
    e.meta(Meta::Protocol, FIRST).compare(FIRST, Is::Equal, &[TCP]);
}

/// Loads the port that a TCP segment goes to.
fn port<'e, 'w>(e: &'e mut Expressions<'w>) -> &'e mut Expressions<'w> {
    is_tcp(e);
    e.payload(Header::Transport, 2, 2, FIRST)
}

impl Verdict {
    fn write(self, e: &mut Expressions<'_>) {
        match self {
            Self::Deliver => deliver(e),
            Self::Tproxy { family, to, port } => {
                if let Some(to) = to {
                    e.constant(FIRST, &bytes(to));
                }
                e.constant(BEHIND_ADDRESS, &port.to_be_bytes());
                e.tproxy(family.number(), to.map(|_| FIRST), BEHIND_ADDRESS);
                deliver(e);
            }
            Self::Redirect(port) => {
                if let Some(port) = port {
                    e.constant(FIRST, &port.to_be_bytes());
                }
                e.redirect(port.map(|_| FIRST));
            }
            Self::Dnat { family, to, port } => {
                e.constant(FIRST, &bytes(to));
                if let Some(port) = port {
                    e.constant(BEHIND_ADDRESS, &port.to_be_bytes());
                }
                e.nat(Nat::Destination, family.number(), FIRST, port.map(|_| BEHIND_ADDRESS));
            }
            Self::Return => e.leave_chain(),
            Self::Accept => e.accept(),
            Self::Drop => e.drop(),
        }
    }
}

fn deliver(e: &mut Expressions<'_>) {
    e.constant(FIRST, &MARK.to_ne_bytes()).set_mark(FIRST).accept();
}

/// As `nft` keeps a comment of a table.
fn as_comment(text: &str) -> Vec<u8> {
    const COMMENT: u8 = 0;
    let length = u8::try_from(text.len() + 1).unwrap_or(u8::MAX);
    [&[COMMENT, length], text.as_bytes(), &[0]].concat()
}
