//! Which of many networks an address lies in.

use std::collections::HashMap;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::addr::Network;

/// Networks by number, sorted so that those around an address are found by one search.
#[derive(Debug, Default)]
pub(super) struct Prefixes {
    any: Option<u32>,
    v4: Family,
    v6: Family,
}

impl Prefixes {
    /// Takes each network once, with its number.
    pub(super) fn new(networks: &HashMap<Network, u32>) -> Self {
        let (mut any, mut v4, mut v6) = (None, Vec::new(), Vec::new());
        for (network, &number) in networks {
            match network {
                Network::Any => any = Some(number),
                Network::Net(net) => {
                    let (first, last) = (bits(net.network()), bits(net.broadcast()));
                    let family = if matches!(net, IpNet::V4(_)) { &mut v4 } else { &mut v6 };
                    family.push((first, last, number));
                }
            }
        }
        Self { any, v4: Family::new(v4), v6: Family::new(v6) }
    }

    /// The numbers of the networks that an address lies in, `any` last.
    pub(super) fn around(&self, ip: IpAddr) -> impl Iterator<Item = u32> {
        let ip = ip.to_canonical();
        let family = if ip.is_ipv4() { &self.v4 } else { &self.v6 };
        family.around(bits(ip)).chain(self.any)
    }
}

/// The networks of one family. Two of them never overlap but where one lies in the other, so those around an address are
/// among the last that begins before it and those which that lies in.
#[derive(Debug, Default)]
struct Family {
    /// The first address of each, in order; of two that begin together, the wider is first.
    first: Vec<u128>,
    nodes: Vec<Node>,
}

#[derive(Debug)]
struct Node {
    last: u128,
    number: u32,
    /// The narrowest that it lies in, counted from 1; 0: none.
    parent: u32,
}

impl Family {
    fn new(mut list: Vec<(u128, u128, u32)>) -> Self {
        list.sort_unstable_by_key(|&(first, last, _)| (first, std::cmp::Reverse(last)));
        let mut family = Self::default();
        // Those that the next one may lie in.
        let mut open: Vec<(u128, u32)> = Vec::new();
        for (first, last, number) in list {
            while open.last().is_some_and(|&(end, _)| end < first) {
                open.pop();
            }
            let parent = open.last().map_or(0, |&(_, place)| place);
            family.first.push(first);
            family.nodes.push(Node { last, number, parent });
            open.push((last, super::number(family.nodes.len())));
        }
        family
    }

    fn around(&self, ip: u128) -> impl Iterator<Item = u32> {
        let mut place = super::number(self.first.partition_point(|first| *first <= ip));
        std::iter::from_fn(move || {
            loop {
                let node = self.nodes.get((place as usize).checked_sub(1)?)?;
                place = node.parent;
                if ip <= node.last {
                    return Some(node.number);
                }
            }
        })
    }
}

const fn bits(ip: IpAddr) -> u128 {
    match ip {
        // A family of its own: what IPv4 and IPv6 have in common is of no account.
        IpAddr::V4(ip) => ip.to_bits() as u128,
        IpAddr::V6(ip) => ip.to_bits(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_networks_around_an_address_are_found_from_within() {
        let written =
            ["10.0.0.0/8", "10.0.0.0/16", "10.0.0.0/32", "10.0.128.0/17", "0.0.0.0/0", "::/0", "::ffff:0:0/96"];
        let mut networks: HashMap<Network, u32> =
            (0..).zip(written).map(|(number, net)| (Network::Net(net.parse().unwrap()), number)).collect();
        networks.insert(Network::Any, 7);
        let prefixes = Prefixes::new(&networks);
        for (ip, around) in [
            ("10.0.0.0", &[2, 1, 0, 4, 7][..]),
            ("10.0.0.1", &[1, 0, 4, 7]),
            ("10.0.200.0", &[3, 1, 0, 4, 7]),
            ("10.200.0.1", &[0, 4, 7]),
            ("255.255.255.255", &[4, 7]),
            ("::1", &[5, 7]),
            // IPv4 in another form is IPv4.
            ("::ffff:10.0.0.1", &[1, 0, 4, 7]),
        ] {
            assert_eq!(prefixes.around(ip.parse().unwrap()).collect::<Vec<_>>(), around, "{ip}");
        }
    }
}
