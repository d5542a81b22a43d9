//! One pinhole as elements of the table's sets.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::family::Family;
use super::set::Set;
use crate::net::netlink::{Head, Writer, number};

const NEW_ELEMENTS: u16 = number::NFTABLES | 12;
const GET_ELEMENTS: u16 = number::NFTABLES | 13;
const DELETE_ELEMENTS: u16 = number::NFTABLES | 14;
/// The same, and no error where there is nothing (Linux 6.3).
const DESTROY_ELEMENTS: u16 = number::NFTABLES | 30;

/// Who may come, and where to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Entrance {
    /// The peer.
    pub(super) from: IpAddr,
    /// Where it connects to.
    pub(super) at: SocketAddr,
}

/// A pinhole: who may come, and what becomes of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Passage {
    pub(super) entrance: Entrance,
    /// The peer that waits.
    pub(super) to: SocketAddr,
    /// Where that peer sees the connection come from; `None`: from the one that came. Port 0: any.
    pub(super) seen_as: Option<SocketAddr>,
    /// Who else is kept from that peer's port while the pinhole stands.
    pub(super) guard: Guarded,
}

/// Who must not get past a pinhole to the port that it leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Guarded {
    /// Anybody: a server has opened the port for this transfer.
    FromAll,
    /// The peer that the pinhole is for: the client has chosen the port, and what else it serves there is its business.
    FromPeer,
}

impl Passage {
    pub(super) const fn family(&self) -> Family {
        Family::of(self.to.ip())
    }

    fn key(&self) -> Vec<u8> {
        let Entrance { from, at } = self.entrance;
        let mut key = ip_bytes(from);
        key.extend(address_bytes(at));
        key
    }

    /// The key of its element in a set.
    fn key_in(&self, set: Set) -> Vec<u8> {
        let to = address_bytes(self.to);
        match set {
            Set::Unused | Set::Leads => [self.key(), to].concat(),
            Set::Syns | Set::Pinholes | Set::SeenAs | Set::SeenAsPort => self.key(),
            Set::Guarded => to,
            Set::GuardedFrom => [ip_bytes(self.entrance.from), to].concat(),
        }
    }

    /// The data of the element that it has in a set, empty where that has none; `None` where it has no element.
    fn data_in(&self, set: Set) -> Option<Vec<u8>> {
        match (set, self.seen_as) {
            (Set::Unused | Set::Syns | Set::Leads, _) => Some(Vec::new()),
            (Set::Pinholes, _) => Some(address_bytes(self.to)),
            (Set::Guarded, _) => (self.guard == Guarded::FromAll).then(Vec::new),
            (Set::GuardedFrom, _) => (self.guard == Guarded::FromPeer).then(Vec::new),
            (Set::SeenAs, Some(seen)) if seen.port() == 0 => Some(ip_bytes(seen.ip())),
            (Set::SeenAsPort, Some(seen)) if seen.port() != 0 => Some(address_bytes(seen)),
            (Set::SeenAs | Set::SeenAsPort, _) => None,
        }
    }
}

/// What is to change in the sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// The pinhole stands for this long.
    Open(Passage, Duration),
    /// It stands for this long from now on, if nobody has used it.
    Prolong(Passage, Duration),
    /// It does not any more.
    Close(Passage),
}

/// How elements are taken away of which nobody knows whether they are still there.
///
/// To give one a lifetime of a millisecond instead would leave it in the kernel's table until that is cleaned, once a
/// second; with some dozens of the same name there the kernel refuses another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Removal {
    /// By a message that does not mind (Linux 6.3).
    Destroy,
    /// One by one, for one that is not there makes a whole batch fail.
    Delete,
}

/// Writes messages about elements of one table.
pub(super) struct Elements<'w> {
    pub(super) table: &'w str,
    pub(super) writer: &'w mut Writer,
    pub(super) sequence: &'w mut u32,
    pub(super) removal: Removal,
}

/// How often something may be looked up in a set: a limit that the kernel keeps for each element.
#[derive(Clone, Copy, Debug)]
struct Rate {
    packets: u64,
    in_seconds: u64,
    at_once: u32,
}

/// One packet, for as long as a pinhole can stand.
const ONCE: Rate = Rate { packets: 1, in_seconds: 7 * 24 * 60 * 60, at_once: 1 };
/// A client sends one or two. An attacker who sends more with its address makes it send its own again; to keep it away takes a
/// flood.
const SYNS: Rate = Rate { packets: 100, in_seconds: 1, at_once: 100 };

const fn rate(set: Set) -> Option<Rate> {
    match set {
        Set::Unused => Some(ONCE),
        Set::Syns => Some(SYNS),
        Set::Pinholes | Set::Leads | Set::SeenAs | Set::SeenAsPort | Set::Guarded | Set::GuardedFrom => None,
    }
}

/// How much longer than the permission to come it is known where to: more than any clock's tick.
const LINGERS: Duration = Duration::from_secs(1);

impl Elements<'_> {
    pub(super) fn change(&mut self, change: &Change) {
        match (change, self.removal) {
            (Change::Open(passage, lifetime), _) => self.open(passage, *lifetime),
            (Change::Prolong(passage, lifetime), _) => {
                // Few kernels can change the lifetime of an element. A used one is gone, and with it this whole transaction.
                let sets = Set::ALL.into_iter().filter(|set| passage.data_in(*set).is_some());
                sets.for_each(|set| self.delete(set, passage));
                self.open(passage, *lifetime);
            }
            (Change::Close(passage), Removal::Destroy) => {
                let sets = Set::ALL.into_iter().filter(|set| passage.data_in(*set).is_some());
                sets.for_each(|set| self.name(DESTROY_ELEMENTS, set, passage));
            }
            (Change::Close(_), Removal::Delete) => {}
        }
    }

    fn open(&mut self, passage: &Passage, lifetime: Duration) {
        // The permission ends first: nobody is let in who is then led nowhere.
        for set in Set::ALL {
            let is_permission = matches!(set, Set::Unused | Set::Syns);
            self.add(set, passage, if is_permission { lifetime } else { lifetime + LINGERS });
        }
    }

    /// Takes a pinhole out of one set.
    pub(super) fn delete(&mut self, set: Set, passage: &Passage) {
        self.name(DELETE_ELEMENTS, set, passage);
    }

    /// Asks for a pinhole in one set; the answer is an error where it is not there.
    pub(super) fn look(&mut self, set: Set, passage: &Passage) {
        self.name(GET_ELEMENTS, set, passage);
    }

    fn name(&mut self, kind: u16, set: Set, passage: &Passage) {
        let (table, name) = (self.table, set.name(passage.family()));
        let key = passage.key_in(set);
        self.message(kind, 0, |w| {
            w.text(1, table);
            w.text(2, name);
            w.nest(3, |w| w.nest(1, |w| w.nest(1, |w| w.bytes(1, &key))));
        });
    }

    fn add(&mut self, set: Set, passage: &Passage, lifetime: Duration) {
        let Some(data) = passage.data_in(set) else { return };
        let key = passage.key_in(set);
        let (table, name) = (self.table, set.name(passage.family()));
        let milliseconds = u64::try_from(lifetime.as_millis()).unwrap_or(u64::MAX).max(1);
        self.message(NEW_ELEMENTS, number::CREATE, |w| {
            w.text(1, table);
            w.text(2, name);
            w.nest(3, |w| {
                w.nest(1, |w| {
                    w.nest(1, |w| w.bytes(1, &key));
                    if !data.is_empty() {
                        w.nest(2, |w| w.bytes(1, &data));
                    }
                    w.u64(4, milliseconds);
                    if let Some(rate) = rate(set) {
                        w.nest(7, |w| limit(w, rate));
                    }
                });
            });
        });
    }

    fn message(&mut self, kind: u16, flags: u16, fill: impl FnOnce(&mut Writer)) {
        let sequence = *self.sequence;
        *self.sequence = sequence.wrapping_add(1);
        let head = Head { kind, flags, sequence, family: number::INET, resource: 0 };
        self.writer.message(head, fill);
    }
}

/// The expression that an element has: it does not hold once the limit is reached.
fn limit(w: &mut Writer, rate: Rate) {
    w.text(1, "limit");
    w.nest(2, |w| {
        w.u64(1, rate.packets);
        w.u64(2, rate.in_seconds);
        w.u32(3, rate.at_once);
    });
}

/// An address as registers hold it.
fn ip_bytes(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

/// Address and port, each filling whole registers.
fn address_bytes(address: SocketAddr) -> Vec<u8> {
    let mut bytes = ip_bytes(address.ip());
    bytes.extend(address.port().to_be_bytes());
    bytes.extend([0; 2]);
    bytes
}
