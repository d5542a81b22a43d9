//! Which of many networks an address lies in.

use std::collections::HashMap;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::addr::Network;

/// Networks by number, sorted so that those around an address are found by one search.
#[derive(Debug, Default)]
pub(super) struct Prefixes {
    any: Option<u32>,
    v4: Family<u32>,
    v6: Family<u128>,
}

impl Prefixes {
    /// Takes each network once, with its number.
    pub(super) fn new(networks: &HashMap<Network, u32>) -> Self {
        let (mut any, mut v4, mut v6) = (None, Vec::new(), Vec::new());
        for (network, &number) in networks {
            match network {
                Network::Any => any = Some(number),
                Network::Net(IpNet::V4(net)) => v4.push((net.network().into(), net.broadcast().into(), number)),
                Network::Net(IpNet::V6(net)) => v6.push((net.network().into(), net.broadcast().into(), number)),
            }
        }
        Self { any, v4: Family::new(v4), v6: Family::new(v6) }
    }

    /// The numbers of the networks that an address lies in, `any` last.
    pub(super) fn around(&self, ip: IpAddr) -> impl Iterator<Item = u32> {
        let (v4, v6) = match ip.to_canonical() {
            IpAddr::V4(ip) => (Some(self.v4.around(ip.into())), None),
            IpAddr::V6(ip) => (None, Some(self.v6.around(ip.into()))),
        };
        v4.into_iter().flatten().chain(v6.into_iter().flatten()).chain(self.any)
    }
}

/// Every how many networks one is looked at first: those between are in few lines of the processor's cache.
const STEP: usize = 32;

/// The networks of one family. Two of them never overlap but where one lies in the other, so those around an address are
/// among the last that begins before it and those which that lies in.
#[derive(Debug)]
struct Family<A> {
    /// The first address of each, in order; of two that begin together, the wider is first.
    first: Vec<A>,
    /// One of [`STEP`] of these.
    steps: Vec<A>,
    nodes: Vec<Node<A>>,
}

#[derive(Debug)]
struct Node<A> {
    last: A,
    number: u32,
    /// The narrowest that it lies in, counted from 1; 0: none.
    parent: u32,
}

impl<A: Copy + Ord> Family<A> {
    fn new(mut list: Vec<(A, A, u32)>) -> Self {
        list.sort_unstable_by_key(|&(first, last, _)| (first, std::cmp::Reverse(last)));
        let first: Vec<A> = list.iter().map(|&(first, ..)| first).collect();
        let mut nodes = Vec::with_capacity(list.len());
        // Those that the next one may lie in.
        let mut open: Vec<(A, u32)> = Vec::new();
        for (first, last, number) in list {
            while open.last().is_some_and(|&(end, _)| end < first) {
                open.pop();
            }
            let parent = open.last().map_or(0, |&(_, place)| place);
            nodes.push(Node { last, number, parent });
            open.push((last, super::number(nodes.len())));
        }
        Self { steps: first.iter().step_by(STEP).copied().collect(), first, nodes }
    }

    fn around(&self, ip: A) -> impl Iterator<Item = u32> {
        // The last step that does not begin behind it.
        let begin = self.steps.partition_point(|first| *first <= ip).saturating_sub(1) * STEP;
        let near = self.first.get(begin..self.first.len().min(begin + STEP)).unwrap_or_default();
        let mut place = super::number(begin + near.partition_point(|first| *first <= ip));
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

impl<A> Default for Family<A> {
    fn default() -> Self {
        Self { first: Vec::new(), steps: Vec::new(), nodes: Vec::new() }
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

    #[test]
    fn among_many_the_same_are_found_as_one_by_one() {
        let net = |n: u32| format!("10.{}.{}.0/{}", n / 200, n % 200, 24 + n % 9);
        let nets: Vec<IpNet> = (0..1_000).map(|n| net(n).parse().unwrap()).collect();
        let networks = (0..).zip(&nets).map(|(number, net)| (Network::Net(*net), number)).collect();
        let prefixes = Prefixes::new(&networks);
        for n in 0..1_100 {
            let ip: IpAddr = format!("10.{}.{}.{}", n / 200, n % 200, n % 7).parse().unwrap();
            let found: Vec<u32> = prefixes.around(ip).collect();
            let there: Vec<u32> = (0..).zip(&nets).filter(|(_, net)| net.contains(&ip)).map(|(n, _)| n).collect();
            assert_eq!(found, there, "{ip}");
        }
    }
}
