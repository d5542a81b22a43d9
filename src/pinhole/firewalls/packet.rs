//! A packet that rules are held against, as far as anything is known of it.

use crate::net::netlink::number;

/// The states and the status of a connection, as conntrack has them.
pub(super) const ESTABLISHED: u32 = 2;
pub(super) const NEW: u32 = 8;
pub(super) const DNAT: u32 = 0x20;

/// A TCP packet between another machine and this one, or through it. What is `None` may be anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Packet {
    /// The address family, by netfilter's number.
    pub(super) family: u8,
    pub(super) from_port: Option<u16>,
    pub(super) to_port: Option<u16>,
    /// Its own mark.
    pub(super) mark: Option<u32>,
    /// Its connection's.
    pub(super) ct_mark: Option<u32>,
    pub(super) ct_status: Option<u32>,
    pub(super) ct_state: u32,
}

impl Packet {
    /// The first of a connection to a port, not translated. Other firewalls may have marked it for themselves.
    pub(super) const fn to(family: u8, port: u16) -> Self {
        Self {
            family,
            from_port: None,
            to_port: Some(port),
            mark: None,
            ct_mark: None,
            ct_status: Some(0),
            ct_state: NEW,
        }
    }

    /// One of a connection that stands.
    pub(super) const fn established(family: u8) -> Self {
        Self {
            family,
            from_port: None,
            to_port: None,
            mark: None,
            ct_mark: None,
            ct_status: None,
            ct_state: ESTABLISHED,
        }
    }

    /// Whether chains of tables of this family see it.
    pub(super) const fn is_seen_in(&self, family: u8) -> bool {
        family == number::INET || family == self.family
    }
}

/// What is known of whether something holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holds {
    Yes,
    No,
    Maybe,
}

impl Holds {
    pub(super) const fn when(holds: bool) -> Self {
        if holds { Self::Yes } else { Self::No }
    }

    pub(super) const fn not(self) -> Self {
        match self {
            Self::Yes => Self::No,
            Self::No => Self::Yes,
            Self::Maybe => Self::Maybe,
        }
    }

    pub(super) const fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::No, _) | (_, Self::No) => Self::No,
            (Self::Yes, Self::Yes) => Self::Yes,
            _ => Self::Maybe,
        }
    }

    pub(super) const fn or(self, other: Self) -> Self {
        self.not().and(other.not()).not()
    }

    /// Whether a value, of which perhaps nothing is known, is as it is asked to be.
    pub(super) fn known<T>(value: Option<T>, is: impl FnOnce(T) -> bool) -> Self {
        value.map_or(Self::Maybe, |value| Self::when(is(value)))
    }
}
