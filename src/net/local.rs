//! What this machine is, and what it may do.

use std::net::{IpAddr, SocketAddr};

use socket2::{Domain, Socket, Type};

/// Whether `ip` is an address of this machine: one that a plain socket can have.
///
/// A machine may be set up to let every address be had (`ip_nonlocal_bind`); then this says yes to all, and
/// transparent listeners refuse everybody rather than dial themselves.
#[must_use]
pub fn is_local(ip: IpAddr) -> bool {
    let addr = SocketAddr::new(ip, 0);
    Socket::new(Domain::for_address(addr), Type::DGRAM, None).is_ok_and(|socket| socket.bind(&addr.into()).is_ok())
}

/// Whether this process may use addresses that are not its own (`IP_TRANSPARENT`), found out by trying.
#[must_use]
pub fn may_be_transparent() -> bool {
    Socket::new(Domain::IPV4, Type::STREAM, None).is_ok_and(|socket| socket.set_ip_transparent_v4(true).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_ours_and_a_documentation_address_is_not() {
        assert!(is_local("127.0.0.1".parse().unwrap()));
        assert!(!is_local("192.0.2.77".parse().unwrap()));
    }
}
