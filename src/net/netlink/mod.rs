//! Netlink as far as netfilter needs it: messages, a socket to send them through, and what rules are made of.

mod batch;
mod dump;
mod expression;
mod message;
mod ruleset;
mod socket;
pub(crate) mod tuple;

pub(crate) use batch::Batches;
pub(crate) use dump::{ask, dump, text};
pub(crate) use expression::{Ct, Expressions, Header, Is, Meta, Nat, OWN_SET, Register};
pub(crate) use message::{Head, Message, Writer, attributes, find, messages};
pub(crate) use ruleset::{Chain, Expression, Hook, Rule, Ruleset, Table, Verdict};
pub(crate) use socket::{Groups, Socket};

/// Attributes and message types of netfilter's subsystems, as the kernel's `linux/netfilter/*.h` number them.
pub(crate) mod number {
    pub(crate) const NFTABLES: u16 = 10 << 8;
    pub(crate) const CONNTRACK: u16 = 1 << 8;
    pub(crate) const BATCH_BEGIN: u16 = 0x10;
    pub(crate) const BATCH_END: u16 = 0x11;
    pub(crate) const ERROR: u16 = 2;
    pub(crate) const DONE: u16 = 3;

    pub(crate) const REQUEST: u16 = 0x1;
    pub(crate) const ACK: u16 = 0x4;
    pub(crate) const DUMP: u16 = 0x300;
    pub(crate) const REPLACE: u16 = 0x100;
    pub(crate) const EXCL: u16 = 0x200;
    pub(crate) const CREATE: u16 = 0x400;
    pub(crate) const APPEND: u16 = 0x800;

    pub(crate) const UNSPECIFIED: u8 = 0;
    pub(crate) const INET: u8 = 1;
    pub(crate) const IPV4: u8 = 2;
    pub(crate) const IPV6: u8 = 10;
}
