//! What rules ask of a packet, in the expressions that say it.

use super::family::Family;
use super::set::Set;
use crate::net::netlink::{Ct, Expressions, Header, Is, Meta, Register};

pub(super) const FIN: u8 = 0x01;
pub(super) const SYN: u8 = 0x02;
pub(super) const RST: u8 = 0x04;
const PSH: u8 = 0x08;
const TCP: u8 = 6;
pub(super) const ACK: u8 = 0x10;
/// The longest packet without data: 60 bytes of IPv4 header or 40 of IPv6, and 60 of TCP's.
const LONGEST_EMPTY: u32 = 120;

/// Bytes of a connection's labels, and of each note in them.
pub(super) const LABELS: usize = 16;
const WORD: usize = 4;

/// Where rules keep what they load, and for as many registers after it as that takes.
pub(super) const SCRATCH: Register = Register::nth(0);

/// What a packet with data is known by: its length, or a flag that the last of what was written has, however short it
/// is, and a mere acknowledgement never.
pub(super) const DATA: [fn(&mut Expressions<'_>); 2] = [
    |e| {
        e.meta(Meta::Length, SCRATCH).swap_bytes(SCRATCH);
        e.compare(SCRATCH, Is::Greater, &LONGEST_EMPTY.to_be_bytes());
    },
    |e| tcp_flags(e, PSH, Is::Not, 0),
];

/// The word of the labels that has how far this direction's side had heard the other.
pub(super) const fn heard_by(direction: u8) -> usize {
    2 + direction as usize
}

/// These words of the labels, with all bits set and no others.
pub(super) fn words_of_labels(words: &[usize]) -> [u8; LABELS] {
    let mut bytes = [0; LABELS];
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = if words.contains(&(index / WORD)) { u8::MAX } else { 0 };
    }
    bytes
}

/// Nothing is noted in any of these words of the labels (`Is::Equal`), or something is (`Is::Not`). `nft` cannot show a
/// comparison of a register in the midst of what was loaded, so all of it is compared, and a mask takes away the rest.
pub(super) fn notes(e: &mut Expressions<'_>, words: &[usize], is: Is) {
    e.ct(Ct::Labels, SCRATCH).bits(SCRATCH, &words_of_labels(words), &[0; LABELS]).compare(SCRATCH, is, &[0; LABELS]);
}

/// Loads source, destination and destination port.
pub(super) fn who_where(e: &mut Expressions<'_>, family: Family) {
    let length = family.address_length();
    e.payload(Header::Network, family.source_at(), length, SCRATCH);
    e.payload(Header::Network, family.destination_at(), length, family.after_address());
    e.payload(Header::Transport, 2, 2, family.after_addresses());
}

/// The same of the connection's first packet.
pub(super) fn original_who_where(e: &mut Expressions<'_>, family: Family) {
    let (source, destination) = match family {
        Family::V4 => (Ct::OriginalSource4, Ct::OriginalDestination4),
        Family::V6 => (Ct::OriginalSource6, Ct::OriginalDestination6),
    };
    e.ct(source, SCRATCH).ct(destination, family.after_address()).ct(Ct::OriginalPort, family.after_addresses());
}

/// Loads source, destination, destination port, and where the connection is led: that side's address and port.
pub(super) fn who_where_to(e: &mut Expressions<'_>, family: Family) {
    who_where(e, family);
    let source = match family {
        Family::V4 => Ct::ReplySource4,
        Family::V6 => Ct::ReplySource6,
    };
    e.ct(source, family.after_entrance()).ct(Ct::ReplySourcePort, family.after_entrance_and_address());
}

/// A pinhole is there for what is loaded. It always leads somewhere; `nft` shows what is looked up in a map where it is
/// compared with something.
pub(super) fn stands(e: &mut Expressions<'_>, family: Family) {
    let nowhere: &[u8] = match family {
        Family::V4 => &[0; 4],
        Family::V6 => &[0; 16],
    };
    e.look_up(Set::Pinholes.name(family), SCRATCH, SCRATCH).compare(SCRATCH, Is::Not, nowhere);
}

/// What conntrack says of a packet, one bit each.
mod state {
    pub(super) const INVALID: u32 = 1;
    pub(super) const RELATED: u32 = 4;
    pub(super) const NEW: u32 = 8;
    pub(super) const UNTRACKED: u32 = 64;
}

/// The connection that it belongs to has had no answer. One that a helper of conntrack's has announced is not new, but
/// related.
pub(super) fn begins(e: &mut Expressions<'_>) {
    state_is_among(e, state::NEW | state::RELATED);
}

/// conntrack has no connection for it.
pub(super) fn has_no_connection(e: &mut Expressions<'_>) {
    state_is_among(e, state::INVALID | state::UNTRACKED);
}

/// It belongs to no connection that has had an answer.
pub(super) fn belongs_to_none(e: &mut Expressions<'_>) {
    state_is_among(e, state::INVALID | state::NEW | state::RELATED | state::UNTRACKED);
}

fn state_is_among(e: &mut Expressions<'_>, states: u32) {
    e.ct(Ct::State, SCRATCH).bits(SCRATCH, &states.to_ne_bytes(), &[0; 4]).compare(SCRATCH, Is::Not, &[0; 4]);
}

/// Before any chain was asked, it is settled how the connection is translated: a helper of conntrack's has done so.
pub(super) fn is_translated_already(e: &mut Expressions<'_>) {
    const SOURCE_OR_DESTINATION_DONE: u32 = 0x180;
    has_status(e, SOURCE_OR_DESTINATION_DONE);
}

fn has_status(e: &mut Expressions<'_>, bits: u32) {
    e.ct(Ct::Status, SCRATCH).bits(SCRATCH, &bits.to_ne_bytes(), &[0; 4]).compare(SCRATCH, Is::Not, &[0; 4]);
}

/// The connection has been in conntrack's table since an earlier packet.
pub(super) fn is_known(e: &mut Expressions<'_>) {
    const CONFIRMED: u32 = 8;
    has_status(e, CONFIRMED);
}

/// conntrack has seen a whole handshake. It passes packets that acknowledge what was never sent, without a sign in
/// their state that it takes no account of them.
pub(super) fn is_assured(e: &mut Expressions<'_>) {
    const ASSURED: u32 = 4;
    has_status(e, ASSURED);
}

pub(super) fn is_tcp(e: &mut Expressions<'_>, family: Family) {
    e.meta(Meta::Family, SCRATCH).compare(SCRATCH, Is::Equal, &[family.number()]);
    is_any_tcp(e);
}

pub(super) fn is_any_tcp(e: &mut Expressions<'_>) {
    e.meta(Meta::Protocol, SCRATCH).compare(SCRATCH, Is::Equal, &[TCP]);
}

pub(super) fn is_no_tcp(e: &mut Expressions<'_>) {
    e.meta(Meta::Protocol, SCRATCH).compare(SCRATCH, Is::Not, &[TCP]);
}

/// The TCP header has no such option.
pub(super) fn has_no_option(e: &mut Expressions<'_>, option: u8) {
    e.has_tcp_option(option, SCRATCH).compare(SCRATCH, Is::Equal, &[0]);
}

pub(super) fn tcp_flags(e: &mut Expressions<'_>, mask: u8, is: Is, flags: u8) {
    e.payload(Header::Transport, 13, 1, SCRATCH).bits(SCRATCH, &[mask], &[0]).compare(SCRATCH, is, &[flags]);
}

pub(super) fn direction_is(e: &mut Expressions<'_>, direction: u8) {
    e.ct(Ct::Direction, SCRATCH).compare(SCRATCH, Is::Equal, &[direction]);
}

pub(super) fn mark_is(e: &mut Expressions<'_>, mask: u32, mark: u32) {
    compare_mark(e, mask, Is::Equal, mark);
}

pub(super) fn mark_is_not(e: &mut Expressions<'_>, mask: u32, mark: u32) {
    compare_mark(e, mask, Is::Not, mark);
}

fn compare_mark(e: &mut Expressions<'_>, mask: u32, is: Is, mark: u32) {
    e.ct(Ct::Mark, SCRATCH);
    if mask != u32::MAX {
        e.bits(SCRATCH, &mask.to_ne_bytes(), &[0; 4]);
    }
    e.compare(SCRATCH, is, &mark.to_ne_bytes());
}

pub(super) fn add_to_mark(e: &mut Expressions<'_>, bit: u32) {
    e.ct(Ct::Mark, SCRATCH).bits(SCRATCH, &(!bit).to_ne_bytes(), &bit.to_ne_bytes()).set_ct_mark(SCRATCH);
}

pub(super) fn remove_from_mark(e: &mut Expressions<'_>, bit: u32) {
    e.ct(Ct::Mark, SCRATCH).bits(SCRATCH, &(!bit).to_ne_bytes(), &[0; 4]).set_ct_mark(SCRATCH);
}
