//! What this machine is, and what it may do.

use std::net::{IpAddr, SocketAddr};

use socket2::{Domain, Socket, Type};

use crate::addr::{PortRange, PortRanges, embedded_v4};

/// Whether `ip` is an address of this machine: one that a plain socket can have.
///
/// Where sockets can have every address (`ip_nonlocal_bind`, as it is beside keepalived), it is asked for among those of the
/// interfaces and in the routes.
#[must_use]
pub fn is_local(ip: IpAddr) -> bool {
    let addr = SocketAddr::new(ip, 0);
    let socket = || Socket::new(Domain::for_address(addr), Type::DGRAM, None);
    if !socket().is_ok_and(|socket| socket.bind(&addr.into()).is_ok()) {
        return false;
    }
    if !may_bind_anything(ip) || ip.is_loopback() || is_on_interface(ip) {
        return true;
    }
    // Which address would be talked to from itself: local routes may make whole networks ours.
    let from = socket().and_then(|socket| {
        socket.connect(&SocketAddr::new(ip, 9).into())?;
        socket.local_addr()
    });
    from.is_ok_and(|from| from.as_socket().is_some_and(|from| from.ip() == ip))
}

/// Whether `ip` is an address of this machine, or an IPv6 address by which a translator or tunnel may lead to one.
#[must_use]
pub fn leads_here(ip: IpAddr) -> bool {
    is_local(ip) || embedded_v4(ip).any(|ip| is_local(ip.into()))
}

fn may_bind_anything(ip: IpAddr) -> bool {
    let family = if ip.is_ipv4() { "ipv4" } else { "ipv6" };
    let setting = std::fs::read_to_string(format!("/proc/sys/net/{family}/ip_nonlocal_bind"));
    setting.is_ok_and(|setting| setting.trim() != "0")
}

/// Where that cannot be told, it is: nobody is to reach the gate through itself.
fn is_on_interface(ip: IpAddr) -> bool {
    let Ok(mut interfaces) = nix::ifaddrs::getifaddrs() else { return true };
    interfaces.any(|interface| {
        let address = interface.address;
        address.is_some_and(|address| {
            let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip()))) == Some(ip)
        })
    })
}

/// Whether this process may use addresses that are not its own (`IP_TRANSPARENT`), found out by trying.
#[must_use]
pub fn may_be_transparent() -> bool {
    Socket::new(Domain::IPV4, Type::STREAM, None).is_ok_and(|socket| socket.set_ip_transparent_v4(true).is_ok())
}

/// Whether this process may change nftables and routes.
#[must_use]
pub fn may_change_network() -> bool {
    use rustix::thread::{CapabilitySet, capabilities};
    capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::NET_ADMIN))
}

/// The ports that this host gives to outgoing connections, but for those that are kept free; `None` where it does not
/// tell.
#[must_use]
pub fn ephemeral_ports() -> Option<PortRanges> {
    let read = |name| std::fs::read_to_string(format!("/proc/sys/net/ipv4/{name}"));
    let range = read("ip_local_port_range").ok()?;
    let (first, last) = range.trim().split_once(char::is_whitespace)?;
    let kept = read("ip_local_reserved_ports").unwrap_or_default();
    given(first.trim().parse().ok()?, last.trim().parse().ok()?, kept.trim())
}

/// `kept` as in `ip_local_reserved_ports`: `8080,40000-40099`.
fn given(first: u16, last: u16, kept: &str) -> Option<PortRanges> {
    let one = |text: &str| {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        PortRange::new(first.parse().ok()?, last.parse().ok()?)
    };
    let kept: Vec<PortRange> = kept.split(',').filter_map(one).collect();
    let free = (first..=last).filter(|port| !kept.iter().any(|range| range.contains(*port)));
    PortRanges::new(free.filter_map(|port| PortRange::new(port, port)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_that_are_kept_free_are_not_given() {
        assert_eq!(given(32768, 60999, "").unwrap().to_string(), "32768-60999");
        assert_eq!(
            given(32768, 60999, "80,40000-40099,50000").unwrap().to_string(),
            "32768-39999, 40100-49999, 50001-60999"
        );
        assert!(ephemeral_ports().is_some());
    }

    #[test]
    fn loopback_is_ours_and_a_documentation_address_is_not() {
        assert!(is_local("127.0.0.1".parse().unwrap()));
        assert!(!is_local("192.0.2.77".parse().unwrap()));
        assert!(leads_here("2001:db8::5efe:7f00:1".parse().unwrap()));
        assert!(!leads_here("2001:db8::5efe:192.0.2.77".parse().unwrap()));
    }
}
