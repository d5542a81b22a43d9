//! Somebody came in place of the peer that is awaited: who that may be.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::addr::Side;

/// Why the awaited peer itself comes to the gate where the kernel was to lead it.
pub(super) const NOT_LED: &str = "another table of this machine has not tracked its connection, has translated it first \
    (conntrack's FTP helper does, too) or has changed its mark; or it is a second connection: see `nft list ruleset`";

/// Whether it is the peer itself. A link-local address may be another host's, on another link.
pub(super) fn is_awaited(from: IpAddr, awaited: IpAddr) -> bool {
    from == awaited && !matches!(from, IpAddr::V6(ip) if ip.is_unicast_link_local())
}

/// The likeliest causes, and what to do where it is the peer by another of its addresses.
pub(super) fn advice(from: IpAddr, awaited: IpAddr, side: Side) -> String {
    let cause = match (from, awaited) {
        _ if from == awaited => {
            return "it has the awaited address, but on another link than the control connection".to_owned();
        }
        _ if is_same_host_network(from, awaited) => format!(
            "{from} is in the same /64 as the {side} {awaited}: perhaps a temporary (privacy) address of the same host, \
             which may turn them off"
        ),
        _ if is_private(from) != is_private(awaited) => format!(
            "one of {from} and the {side} {awaited} is a private address: perhaps the same host, of whose connections a \
             router translates some and not others (hairpin NAT); have it treat the data ports as the control port"
        ),
        (IpAddr::V4(_), IpAddr::V4(_)) => format!(
            "perhaps the {side} {awaited} by another of its addresses: a NAT with several (CGNAT), several uplinks, a balancer"
        ),
        _ => format!("perhaps the {side} {awaited} by another of its addresses: several uplinks, a balancer, a NAT"),
    };
    format!(
        "{cause}. If it is the same peer, write `data_peers: {{ {side}: \"{}\" }}` in the rule, or the network of all its \
         addresses; if it is not, somebody tries ports",
        network_of(from)
    )
}

fn is_same_host_network(from: IpAddr, awaited: IpAddr) -> bool {
    from.is_ipv6() && network_of(from).contains(&awaited)
}

/// What hosts of one network have in common: of IPv6 the first 64 bits. Of IPv4 nobody can tell.
fn network_of(ip: IpAddr) -> IpNet {
    let length = if ip.is_ipv4() { 32 } else { 64 };
    IpNet::new(ip, length).map_or_else(|_| ip.into(), |net| net.trunc())
}

/// Addresses that are translated on their way to the Internet.
fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_private() || (ip.octets()[0] == 100 && ip.octets()[1] & 0xc0 == 64),
        IpAddr::V6(ip) => ip.is_unique_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_likeliest_cause_is_named() {
        for (from, awaited, side, words) in [
            (
                "2001:db8:1::77",
                "2001:db8:1::2",
                Side::Client,
                &["same /64", "temporary (privacy) address", "data_peers: { client: \"2001:db8:1::/64\" }"][..],
            ),
            (
                "2001:db8:2::77",
                "2001:db8:1::2",
                Side::Client,
                &["several uplinks", "data_peers: { client: \"2001:db8:2::/64\" }"],
            ),
            ("198.51.100.7", "198.51.100.9", Side::Server, &["CGNAT", "data_peers: { server: \"198.51.100.7/32\" }"]),
            ("10.0.0.7", "198.51.100.9", Side::Client, &["hairpin"]),
            ("198.51.100.9", "100.64.0.1", Side::Client, &["hairpin"]),
            ("fd00::1", "2001:db8::1", Side::Client, &["hairpin"]),
        ] {
            let told = advice(from.parse().unwrap(), awaited.parse().unwrap(), side);
            assert!(words.iter().all(|word| told.contains(word)), "{told}");
        }
        let link = "fe80::7".parse().unwrap();
        let same = advice(link, link, Side::Client);
        assert!(same.contains("another link") && !same.contains("data_peers"), "{same}");
    }
}
