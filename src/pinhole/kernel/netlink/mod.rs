//! Netlink as far as netfilter needs it: messages, and a socket to send them through.

mod message;
mod socket;

pub(super) use message::{Head, Message, Writer, attributes, find, messages};
pub(super) use socket::{Groups, Socket};

/// Attributes and message types of netfilter's subsystems, as the kernel's `linux/netfilter/*.h` number them.
pub(super) mod number {
    pub(in super::super) const NFTABLES: u16 = 10 << 8;
    pub(in super::super) const CONNTRACK: u16 = 1 << 8;
    pub(in super::super) const BATCH_BEGIN: u16 = 0x10;
    pub(in super::super) const BATCH_END: u16 = 0x11;
    pub(in super::super) const ERROR: u16 = 2;
    pub(in super::super) const DONE: u16 = 3;

    pub(in super::super) const REQUEST: u16 = 0x1;
    pub(in super::super) const ACK: u16 = 0x4;
    pub(in super::super) const DUMP: u16 = 0x300;
    pub(in super::super) const EXCL: u16 = 0x200;
    pub(in super::super) const CREATE: u16 = 0x400;
    pub(in super::super) const APPEND: u16 = 0x800;

    pub(in super::super) const UNSPECIFIED: u8 = 0;
    pub(in super::super) const INET: u8 = 1;
    pub(in super::super) const IPV4: u8 = 2;
    pub(in super::super) const IPV6: u8 = 10;
}
