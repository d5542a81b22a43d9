//! IPv4 and IPv6, as nftables and conntrack tell them apart.

use std::net::IpAddr;

use crate::net::netlink::Register;
use crate::net::netlink::number;

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    pub(super) const fn of(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    pub(super) const fn number(self) -> u8 {
        match self {
            Self::V4 => number::IPV4,
            Self::V6 => number::IPV6,
        }
    }

    /// Bytes of an address.
    pub(super) const fn address_length(self) -> u32 {
        match self {
            Self::V4 => 4,
            Self::V6 => 16,
        }
    }

    /// Where the source address stands in the header.
    pub(super) const fn source_at(self) -> u32 {
        match self {
            Self::V4 => 12,
            Self::V6 => 8,
        }
    }

    /// Where the destination address does.
    pub(super) const fn destination_at(self) -> u32 {
        self.source_at() + self.address_length()
    }

    /// The register behind an address in the first one.
    pub(super) const fn after_address(self) -> Register {
        Register::nth(self.address_length() / 4)
    }

    /// The register behind two.
    pub(super) const fn after_addresses(self) -> Register {
        Register::nth(self.address_length() / 2)
    }

    /// The register behind two addresses and a port.
    pub(super) const fn after_entrance(self) -> Register {
        Register::nth(self.address_length() / 2 + 1)
    }

    /// The register behind an address there.
    pub(super) const fn after_entrance_and_address(self) -> Register {
        Register::nth(self.address_length() / 2 + 1 + self.address_length() / 4)
    }

    /// The number by which `nft` knows the type of an address.
    pub(super) const fn data_type(self) -> u32 {
        match self {
            Self::V4 => 7,
            Self::V6 => 8,
        }
    }
}
