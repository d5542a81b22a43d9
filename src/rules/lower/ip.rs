//! What a single address is.

use std::net::{IpAddr, Ipv4Addr};

/// Whether an address belongs to no single machine: multicast or broadcast.
pub(super) fn nobodys(ip: IpAddr) -> bool {
    ip.is_multicast() || ip == IpAddr::V4(Ipv4Addr::BROADCAST)
}

/// The IPv4 address that an IPv6 address stands for.
pub(super) fn unmapped(ip: IpAddr) -> Option<IpAddr> {
    if ip.is_ipv6() { Some(ip.to_canonical()).filter(IpAddr::is_ipv4) } else { None }
}
