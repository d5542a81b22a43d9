//! The one nftables table of a gate, made in one transaction when it starts.
//!
//! It belongs to our netlink socket (`flags owner`, Linux 5.12): nobody else can change it, `nft flush ruleset` leaves
//! it alone, and it is gone the moment our process is, however that ended. In the words of `nft`:
//!
//! ```text
//! set unused4       { who . where . port . to . port; dynamic, timeout; each: limit rate 1/week burst 1 }
//! set syns4         { who . where . port; timeout; each: limit rate 100/second burst 100 }
//! map pinholes4     { who . where . port : to . port; timeout }
//! set leads4        { who . where . port . to . port; timeout }
//! map seen_as4      { who . where . port : address; timeout }
//! map seen_as_port4 { who . where . port : address . port; timeout }
//! set guarded4      { to . port; timeout }
//! set guarded_from4 { who . to . port; timeout }
//!
//! chain arriving { type filter hook prerouting priority mangle + 10
//!   ct mark & (OWN_MASK | CUT | HALF_OPEN) == OWN | HALF_OPEN jump handshake
//!   tcp flags & (fin | syn | rst | ack) == syn jump syn }
//! chain syn {
//!   ct status confirmed ct mark & OWN_MASK == OWN jump again
//!   ct status confirmed ip saddr . ip daddr . tcp dport @pinholes4 drop
//!   ct status & (srcnat-done | dstnat-done) != 0 ip saddr . ip daddr . tcp dport @pinholes4 reject with tcp reset
//!   ct mark & MASK != OURS tcp option fastopen missing ip saddr . ip daddr . tcp dport @syns4
//!     ct mark set OWN | HALF_OPEN accept
//!   ct mark & MASK != OURS ip saddr . ip daddr . tcp dport @pinholes4 drop
//!   ct state invalid,untracked ip saddr . ip daddr . tcp dport @pinholes4 reject with tcp reset }
//! chain again {
//!   ct mark & (CUT | HALF_OPEN) != HALF_OPEN drop
//!   ct direction reply drop
//!   ip saddr . ip daddr . tcp dport . ct reply ip saddr . ct reply proto-src @leads4 accept
//!   ip saddr . ip daddr . tcp dport @pinholes4 drop
//!   accept }
//! chain handshake {
//!   ct direction original ct status assured tcp flags & (syn | rst) == 0
//!     ip saddr . ip daddr . tcp dport . ct reply ip saddr . ct reply proto-src @unused4
//!     delete @unused4 { the same } ct mark set ct mark & ~(HALF_OPEN | REPEATED)
//!   ct state new,related tcp flags & (fin | syn | rst | ack) == syn ct mark set ct mark | REPEATED }
//! chain claiming { type filter hook prerouting priority mangle + 15
//!   ct mark & OWN_MASK == OWN meta mark INTERCEPTED meta mark set 0 }
//! chain leading  { type nat hook prerouting priority dstnat - 10
//!   ct mark & OWN_MASK == OWN dnat ip to ip saddr . ip daddr . tcp dport map @pinholes4 }
//! chain passing  { type filter hook forward priority filter - 10
//!   ct mark & OWN_MASK == OWN jump ours
//!   ct state invalid,new,related,untracked jump guard }
//! chain guard {
//!   ct state invalid,untracked tcp flags & (fin | syn | rst | ack) != syn accept
//!   ip daddr . tcp dport @guarded4 reject with tcp reset
//!   ip saddr . ip daddr . tcp dport @guarded_from4 reject with tcp reset }
//! chain leaving  { type nat hook postrouting priority srcnat - 10
//!   ct mark & OWN_MASK == OWN
//!     snat ip to ct original ip saddr . ct original ip daddr . ct original proto-dst map @seen_as_port4
//!   ct mark & OWN_MASK == OWN
//!     snat ip to ct original ip saddr . ct original ip daddr . ct original proto-dst map @seen_as4 }
//! ```
//!
//! Anybody can send a SYN with the peer's address, so a SYN does not use a pinhole: it is sent to where the pinhole
//! leads, and the connection is half open. The packet that completes the handshake uses it: conntrack has compared it
//! with the SYN-ACK, so who has not received that one has to guess, one time in 65,000 rightly (always rightly where
//! `nf_conntrack_tcp_be_liberal` is set). All of this happens in the packet path, with nobody in user space woken.
//!
//! An element of `unused` is good for one packet. The kernel takes the element's only token under a lock, so that of
//! two connections on two processors one gets it. (To delete the element does not suffice: a packet that looks it up before
//! it is gone passes.) Of a half-open connection whose pinhole another one has used, nothing but SYN and RST is
//! forwarded.
//!
//! A SYN with the addresses and ports of a connection that conntrack remembers is, for conntrack, a packet of that one: it
//! would be led where that one was, and no pinhole asked. So such a SYN is dropped, unless it is the first packet of a
//! half-open connection sent again, and that is led where the pinhole leads that stands there now. What has ended is
//! forgotten (see `flows`), and where conntrack makes another connection of the SYN by itself that is a new one here.
//! Each gate has a mark of its own ([`mark::Own`]): what another one leads is none of this table's business.
//!
//! A helper of conntrack's on the control connection reads the same lines as we do, and announces the data connection: its
//! SYN is related where it would be new. Where the control connection is translated the helper also settles how the
//! data connection is, before any chain is asked; then the pinhole cannot lead it. What is not tracked cannot be led
//! either. Both are reset, and none of them gets past the pinhole.
//!
//! See [`mark::Mark`] for how it is told from others, and for what else the mark carries.

use super::condition::{SCRATCH, is_tcp, mark_is, original_who_where, who_where};
use super::family::Family;
use super::mark::{self, Own};
use super::set::Set;
use crate::net::netlink::{Ct, Expressions, Is, Nat};
use crate::net::netlink::{Head, Writer, number};

const NEW_TABLE: u16 = number::NFTABLES;
const NEW_CHAIN: u16 = number::NFTABLES | 3;
const NEW_RULE: u16 = number::NFTABLES | 6;
const NEW_SET: u16 = number::NFTABLES | 9;

/// Elements of a set: more than there are ports to announce.
const MOST_ELEMENTS: u32 = 1 << 20;

/// Writes the table, message by message, each with what it is for.
pub(super) struct Table<'w> {
    pub(super) own: Own,
    name: &'w str,
    writer: &'w mut Writer,
    sequence: u32,
    parts: Vec<(u32, String)>,
}

/// Writes everything; says which sequence number is for what.
pub(super) fn write(own: Own, name: &str, writer: &mut Writer, first_sequence: u32) -> Vec<(u32, String)> {
    let mut table = Table { own, name, writer, sequence: first_sequence, parts: Vec::new() };
    table.table();
    for family in [Family::V4, Family::V6] {
        table.sets(family);
    }
    // Behind the interception, and behind those who mark connections for several uplinks.
    table.chain("arriving", "filter", Hook::Prerouting, -140);
    table.chain("claiming", "filter", Hook::Prerouting, -135);
    table.chain("leading", "nat", Hook::Prerouting, -110);
    table.chain("passing", "filter", Hook::Forward, -10);
    table.chain("leaving", "nat", Hook::Postrouting, 90);
    for chain in ["syn", "again", "handshake", "guard", "ours", "half_open", "cut", "counting"] {
        table.inner_chain(chain);
    }
    table.arriving();
    table.claiming();
    table.again();
    table.passing();
    for family in [Family::V4, Family::V6] {
        table.syn(family);
        table.handshake(family);
        table.lead(family);
        table.guard(family);
        table.leave(family);
        table.is_being_used(family);
    }
    table.repeated_syn();
    table.half_open();
    table.ours();
    table.cut();
    table.count();
    table.parts
}

/// Where a chain stands in a packet's way.
#[derive(Clone, Copy, Debug)]
enum Hook {
    Prerouting = 0,
    Forward = 2,
    Postrouting = 4,
}

impl Table<'_> {
    fn message(&mut self, kind: u16, flags: u16, part: &str, fill: impl FnOnce(&mut Writer)) {
        let sequence = self.sequence;
        self.sequence += 1;
        self.parts.push((sequence, part.to_owned()));
        let head = Head { kind, flags, sequence, family: number::INET, resource: 0 };
        self.writer.message(head, fill);
    }

    fn table(&mut self) {
        const OWNER: u32 = 2;
        let name = self.name;
        self.message(NEW_TABLE, number::CREATE | number::EXCL, "table with `flags owner` (Linux 5.12)", |w| {
            w.text(1, name);
            w.u32(2, OWNER);
            w.bytes(6, &comment("pinholes of ftpgate; gone when it ends"));
        });
    }

    fn sets(&mut self, family: Family) {
        const MAP: u32 = 0x08;
        const TIMEOUT: u32 = 0x10;
        const DYNAMIC: u32 = 0x20;
        let (ip, port) = (family.data_type(), PORT_TYPE);
        let length = family.address_length();
        let who_where = (concatenated(&[ip, ip, port]), 2 * length + 4);
        let who_where_to = (concatenated(&[ip, ip, port, ip, port]), 3 * length + 8);
        let place = (concatenated(&[ip, port]), length + 4);
        for set in Set::ALL {
            let (flags, key, data) = match set {
                Set::Unused => (DYNAMIC, who_where_to, None),
                // Of the kinds of sets that can be looked up in while they change, as elements with a limit need.
                Set::Syns => (DYNAMIC, who_where, None),
                Set::Pinholes | Set::SeenAsPort => (MAP, who_where, Some(place)),
                Set::SeenAs => (MAP, who_where, Some((ip, length))),
                Set::Leads => (0, who_where_to, None),
                Set::Guarded => (0, place, None),
                Set::GuardedFrom => (0, who_where, None),
            };
            self.set(set.name(family), flags | TIMEOUT, key, data);
        }
    }

    fn set(&mut self, set: &str, flags: u32, key: (u32, u32), data: Option<(u32, u32)>) {
        let name = self.name;
        let id = self.sequence;
        self.message(NEW_SET, number::CREATE, &format!("set {set}"), |w| {
            w.text(1, name);
            w.text(2, set);
            w.u32(3, flags);
            w.u32(4, key.0);
            w.u32(5, key.1);
            if let Some((kind, length)) = data {
                w.u32(6, kind);
                w.u32(7, length);
            }
            w.nest(9, |w| w.u32(1, MOST_ELEMENTS));
            w.u32(10, id);
        });
    }

    fn chain(&mut self, chain: &str, kind: &str, hook: Hook, priority: i32) {
        const ACCEPT: u32 = 1;
        let name = self.name;
        self.message(NEW_CHAIN, number::CREATE, &format!("{kind} chain {chain}"), |w| {
            w.text(1, name);
            w.text(3, chain);
            w.nest(4, |w| {
                w.u32(1, hook as u32);
                w.bytes(2, &priority.to_be_bytes());
            });
            w.u32(5, ACCEPT);
            w.text(7, kind);
        });
    }

    fn inner_chain(&mut self, chain: &str) {
        let name = self.name;
        self.message(NEW_CHAIN, number::CREATE, &format!("chain {chain}"), |w| {
            w.text(1, name);
            w.text(3, chain);
        });
    }

    pub(super) fn rule(&mut self, chain: &str, what: &str, fill: impl FnOnce(&mut Expressions<'_>)) {
        let name = self.name;
        self.message(NEW_RULE, number::CREATE | number::APPEND, &format!("rule in {chain}: {what}"), |w| {
            w.text(1, name);
            w.text(2, chain);
            w.nest(4, |w| fill(&mut Expressions::new(w)));
            w.bytes(7, &comment(what));
        });
    }

    fn lead(&mut self, family: Family) {
        let own = self.own.mark();
        self.rule("leading", "on to the peer that waits", |e| {
            mark_is(e, mark::OWN_MASK, own);
            is_tcp(e, family);
            who_where(e, family);
            e.look_up(Set::Pinholes.name(family), SCRATCH, SCRATCH);
            e.nat(Nat::Destination, family.number(), SCRATCH, Some(family.after_address()));
        });
    }

    fn leave(&mut self, family: Family) {
        let own = self.own.mark();
        let seen = [
            (Set::SeenAsPort, Some(family.after_address()), "from the port that the rule names"),
            (Set::SeenAs, None, "from the address that the peer knows"),
        ];
        for (set, port, what) in seen {
            self.rule("leaving", what, |e| {
                mark_is(e, mark::OWN_MASK, own);
                is_tcp(e, family);
                original_who_where(e, family);
                e.look_up(set.name(family), SCRATCH, SCRATCH);
                e.nat(Nat::Source, family.number(), SCRATCH, port);
            });
        }
    }

    /// Nothing leads here: that there is a rule which asks for bytes makes the kernel count them.
    fn count(&mut self) {
        self.rule("counting", "conntrack shall count", |e| {
            e.ct(Ct::OriginalBytes, SCRATCH).compare(SCRATCH, Is::Not, &0_u64.to_ne_bytes()).accept();
        });
    }
}

/// `nft` shows types by these numbers.
const PORT_TYPE: u32 = 13;

fn concatenated(types: &[u32]) -> u32 {
    types.iter().fold(0, |all, one| all << 6 | one)
}

/// As `nft` keeps a comment.
fn comment(text: &str) -> Vec<u8> {
    const COMMENT: u8 = 0;
    let length = u8::try_from(text.len() + 1).unwrap_or(u8::MAX);
    [&[COMMENT, length], text.as_bytes(), &[0]].concat()
}
