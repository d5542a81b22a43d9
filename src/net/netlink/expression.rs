//! What rules of nftables are made of, as far as ours need it (linux/netfilter/nf_tables.h).

use super::Writer;

const EXPRESSION: u16 = 1;
const NAME: u16 = 1;
const DATA: u16 = 2;
const VALUE: u16 = 1;
const VERDICT: u16 = 2;

/// The name of a set of one rule alone: the kernel puts a number in it.
pub(crate) const OWN_SET: &str = "__set%d";

/// A register of four bytes; longer values go on in the next ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Register(pub(crate) u32);

impl Register {
    /// The `n`-th of sixteen.
    pub(crate) const fn nth(n: u32) -> Self {
        Self(8 + n)
    }
}

/// What conntrack knows of a packet's connection.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ct {
    State,
    Direction,
    Status,
    Mark,
    Labels,
    OriginalPort,
    OriginalSource4,
    OriginalDestination4,
    OriginalSource6,
    OriginalDestination6,
    OriginalBytes,
    ReplySource4,
    ReplySource6,
    ReplySourcePort,
}

impl Ct {
    /// The kernel's number for it, and for the direction that it is of.
    const fn numbers(self) -> (u32, Option<u8>) {
        const ORIGINAL: Option<u8> = Some(0);
        const REPLY: Option<u8> = Some(1);
        match self {
            Self::State => (0, None),
            Self::Direction => (1, None),
            Self::Status => (2, None),
            Self::Mark => (3, None),
            Self::Labels => (13, None),
            Self::OriginalPort => (12, ORIGINAL),
            Self::OriginalBytes => (15, ORIGINAL),
            Self::OriginalSource4 => (19, ORIGINAL),
            Self::OriginalDestination4 => (20, ORIGINAL),
            Self::OriginalSource6 => (21, ORIGINAL),
            Self::OriginalDestination6 => (22, ORIGINAL),
            Self::ReplySourcePort => (11, REPLY),
            Self::ReplySource4 => (19, REPLY),
            Self::ReplySource6 => (21, REPLY),
        }
    }
}

/// What a packet is beside its bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Meta {
    Length = 0,
    Mark = 3,
    Family = 15,
    Protocol = 16,
}

/// Where in a packet.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Header {
    Network = 1,
    Transport = 2,
}

/// How two values are compared.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Is {
    Equal = 0,
    Not = 1,
    Greater = 4,
}

/// Which address is translated.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Nat {
    Source = 0,
    Destination = 1,
}

/// The expressions of one rule, evaluated in their order: where one does not hold the rule ends.
pub(crate) struct Expressions<'w>(&'w mut Writer);

impl<'w> Expressions<'w> {
    pub(crate) const fn new(writer: &'w mut Writer) -> Self {
        Self(writer)
    }

    fn add(&mut self, name: &str, fill: impl FnOnce(&mut Writer)) -> &mut Self {
        self.0.nest(EXPRESSION, |w| {
            w.text(NAME, name);
            w.nest(DATA, fill);
        });
        self
    }

    /// Loads what conntrack knows. Original addresses and ports are those of the first packet before any translation,
    /// the others those of the answer to it.
    pub(crate) fn ct(&mut self, key: Ct, into: Register) -> &mut Self {
        let (number, direction) = key.numbers();
        self.add("ct", |w| {
            w.u32(1, into.0);
            w.u32(2, number);
            if let Some(direction) = direction {
                w.bytes(3, &[direction]);
            }
        })
    }

    /// Sets the connection's mark.
    pub(crate) fn set_ct_mark(&mut self, from: Register) -> &mut Self {
        self.set_ct(Ct::Mark, from)
    }

    /// Adds the bits of four registers to the connection's labels.
    pub(crate) fn add_ct_labels(&mut self, from: Register) -> &mut Self {
        self.set_ct(Ct::Labels, from)
    }

    fn set_ct(&mut self, key: Ct, from: Register) -> &mut Self {
        self.add("ct", |w| {
            w.u32(2, key.numbers().0);
            w.u32(4, from.0);
        })
    }

    pub(crate) fn meta(&mut self, key: Meta, into: Register) -> &mut Self {
        self.add("meta", |w| {
            w.u32(1, into.0);
            w.u32(2, key as u32);
        })
    }

    /// Sets the packet's mark.
    pub(crate) fn set_mark(&mut self, from: Register) -> &mut Self {
        self.add("meta", |w| {
            w.u32(2, Meta::Mark as u32);
            w.u32(3, from.0);
        })
    }

    /// Loads whether the packet has a socket that may have addresses of other hosts: a byte, 0 or 1.
    pub(crate) fn socket_is_transparent(&mut self, into: Register) -> &mut Self {
        const TRANSPARENT: u32 = 0;
        self.add("socket", |w| {
            w.u32(1, TRANSPARENT);
            w.u32(2, into.0);
        })
    }

    /// Loads what the destination address is to this machine (RTN_LOCAL, ...): a number in host order.
    pub(crate) fn destination_type(&mut self, into: Register) -> &mut Self {
        const ADDRESS_TYPE: u32 = 3;
        const OF_DESTINATION: u32 = 2;
        self.add("fib", |w| {
            w.u32(1, into.0);
            w.u32(2, ADDRESS_TYPE);
            w.u32(3, OF_DESTINATION);
        })
    }

    /// Hands the packet to a listener: at its own destination where no address is given.
    pub(crate) fn tproxy(&mut self, family: u8, ip: Option<Register>, port: Register) -> &mut Self {
        self.add("tproxy", |w| {
            w.u32(1, u32::from(family));
            if let Some(ip) = ip {
                w.u32(2, ip.0);
            }
            w.u32(3, port.0);
        })
    }

    /// Changes the destination to this machine's address, and to a port where one is given.
    pub(crate) fn redirect(&mut self, port: Option<Register>) -> &mut Self {
        const PORT_GIVEN: u32 = 2;
        self.add("redir", |w| {
            if let Some(port) = port {
                w.u32(1, port.0);
                w.u32(2, port.0);
                w.u32(3, PORT_GIVEN);
            }
        })
    }

    pub(crate) fn payload(&mut self, header: Header, offset: u32, length: u32, into: Register) -> &mut Self {
        self.add("payload", |w| {
            w.u32(1, into.0);
            w.u32(2, header as u32);
            w.u32(3, offset);
            w.u32(4, length);
        })
    }

    /// Loads whether an IPv6 packet is a fragment: a byte, 0 or 1.
    pub(crate) fn is_fragment(&mut self, into: Register) -> &mut Self {
        const EXTENSION: u32 = 0;
        const FRAGMENT: u8 = 44;
        self.has_option(EXTENSION, FRAGMENT, into)
    }

    /// Loads whether the IPv4 header has an option: a byte, 0 or 1.
    pub(crate) fn has_ip_option(&mut self, option: u8, into: Register) -> &mut Self {
        const IP_OPTION: u32 = 2;
        self.has_option(IP_OPTION, option, into)
    }

    /// Loads whether the TCP header has an option: a byte, 0 or 1.
    pub(crate) fn has_tcp_option(&mut self, option: u8, into: Register) -> &mut Self {
        const TCP_OPTION: u32 = 1;
        self.has_option(TCP_OPTION, option, into)
    }

    fn has_option(&mut self, header: u32, option: u8, into: Register) -> &mut Self {
        const ONLY_WHETHER_PRESENT: u32 = 1;
        self.add("exthdr", |w| {
            w.u32(1, into.0);
            w.bytes(2, &[option]);
            w.u32(3, 0);
            w.u32(4, 1);
            w.u32(5, ONLY_WHETHER_PRESENT);
            w.u32(6, header);
        })
    }

    /// Writes two bytes of a TCP header and mends its checksum.
    pub(crate) fn set_tcp(&mut self, offset: u32, from: Register) -> &mut Self {
        const INTERNET_CHECKSUM: u32 = 1;
        const CHECKSUM_AT: u32 = 16;
        self.add("payload", |w| {
            w.u32(5, from.0);
            w.u32(2, Header::Transport as u32);
            w.u32(3, offset);
            w.u32(4, 2);
            w.u32(6, INTERNET_CHECKSUM);
            w.u32(7, CHECKSUM_AT);
        })
    }

    pub(crate) fn compare(&mut self, register: Register, is: Is, value: &[u8]) -> &mut Self {
        self.add("cmp", |w| {
            w.u32(1, register.0);
            w.u32(2, is as u32);
            w.nest(3, |w| w.bytes(VALUE, value));
        })
    }

    /// `register & mask ^ flip`; all three of the same length.
    pub(crate) fn bits(&mut self, register: Register, mask: &[u8], flip: &[u8]) -> &mut Self {
        self.add("bitwise", |w| {
            w.u32(1, register.0);
            w.u32(2, register.0);
            w.u32(3, u32::try_from(mask.len()).unwrap_or(0));
            w.nest(4, |w| w.bytes(VALUE, mask));
            w.nest(5, |w| w.bytes(VALUE, flip));
        })
    }

    /// Numbers are compared as bytes, so they have to be in network order.
    pub(crate) fn swap_bytes(&mut self, register: Register) -> &mut Self {
        const HOST_TO_NETWORK: u32 = 1;
        const LENGTH: u32 = 4;
        self.add("byteorder", |w| {
            w.u32(1, register.0);
            w.u32(2, register.0);
            w.u32(3, HOST_TO_NETWORK);
            w.u32(4, LENGTH);
            w.u32(5, LENGTH);
        })
    }

    pub(crate) fn constant(&mut self, into: Register, value: &[u8]) -> &mut Self {
        self.add("immediate", |w| {
            w.u32(1, into.0);
            w.nest(2, |w| w.bytes(VALUE, value));
        })
    }

    /// Holds where the key is in the set.
    pub(crate) fn is_in(&mut self, set: &str, key: Register) -> &mut Self {
        self.add("lookup", |w| {
            w.text(1, set);
            w.u32(2, key.0);
        })
    }

    /// Holds where the key is in a set of this rule alone, which was made in the same batch with this id; or is not in it.
    pub(crate) fn is_in_own(&mut self, set: u32, key: Register, negated: bool) -> &mut Self {
        const NOT: u32 = 1;
        self.add("lookup", |w| {
            w.text(1, OWN_SET);
            w.u32(2, key.0);
            w.u32(4, set);
            if negated {
                w.u32(5, NOT);
            }
        })
    }

    /// Holds where the key is in the map, and loads what it leads to.
    pub(crate) fn look_up(&mut self, map: &str, key: Register, into: Register) -> &mut Self {
        self.add("lookup", |w| {
            w.text(1, map);
            w.u32(2, key.0);
            w.u32(3, into.0);
        })
    }

    /// Takes the key out of the set.
    pub(crate) fn take_out(&mut self, set: &str, key: Register) -> &mut Self {
        const DELETE: u32 = 2;
        self.add("dynset", |w| {
            w.text(1, set);
            w.u32(3, DELETE);
            w.u32(4, key.0);
        })
    }

    /// Translates the connection, to an address and to a port where one is given.
    pub(crate) fn nat(&mut self, nat: Nat, family: u8, ip: Register, port: Option<Register>) -> &mut Self {
        /// The port is the one given and no other.
        const PORT_GIVEN: u32 = 2;
        /// The address is.
        const ADDRESS_GIVEN: u32 = 1;
        self.add("nat", |w| {
            w.u32(1, nat as u32);
            w.u32(2, u32::from(family));
            w.u32(3, ip.0);
            if let Some(port) = port {
                w.u32(5, port.0);
            }
            w.u32(7, ADDRESS_GIVEN | if port.is_some() { PORT_GIVEN } else { 0 });
        })
    }

    /// Drops the packet and answers it by a reset.
    pub(crate) fn reset(&mut self) -> &mut Self {
        const TCP_RESET: u32 = 1;
        self.add("reject", |w| w.u32(1, TCP_RESET))
    }

    pub(crate) fn drop(&mut self) {
        const DROP: u32 = 0;
        self.verdict(|w| w.u32(1, DROP));
    }

    pub(crate) fn accept(&mut self) {
        const ACCEPT: u32 = 1;
        self.verdict(|w| w.u32(1, ACCEPT));
    }

    /// Counts the packet by a counter of the table.
    pub(crate) fn count(&mut self, counter: &str) {
        const COUNTER: u32 = 1;
        self.add("objref", |w| {
            w.u32(1, COUNTER);
            w.text(2, counter);
        });
    }

    pub(crate) fn leave_chain(&mut self) {
        const RETURN: i32 = -5;
        self.verdict(|w| w.bytes(1, &RETURN.to_be_bytes()));
    }

    pub(crate) fn jump(&mut self, chain: &str) {
        const JUMP: i32 = -3;
        self.verdict(|w| {
            w.bytes(1, &JUMP.to_be_bytes());
            w.text(2, chain);
        });
    }

    fn verdict(&mut self, fill: impl FnOnce(&mut Writer)) {
        const VERDICT_REGISTER: u32 = 0;
        self.add("immediate", |w| {
            w.u32(1, VERDICT_REGISTER);
            w.nest(2, |w| w.nest(VERDICT, fill));
        });
    }
}
