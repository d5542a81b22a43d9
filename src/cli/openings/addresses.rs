//! Sets of addresses of one family: what rules before this one leave of a network, written as shortly as can be.

use std::fmt;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Subnets, Ipv6Subnets};

use crate::addr::Network;

/// IPv4 or IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// That of an address.
    #[must_use]
    pub const fn of(ip: IpAddr) -> Self {
        if ip.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    /// The highest address, as a number.
    const fn last(self) -> u128 {
        match self {
            Self::V4 => u32::MAX as u128,
            Self::V6 => u128::MAX,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// Addresses of one family, as ranges of numbers: sorted, apart from each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressSet {
    family: Family,
    ranges: Vec<(u128, u128)>,
}

/// A network, and the networks inside it that are not meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The network.
    pub net: IpNet,
    /// Not these.
    pub except: Vec<IpNet>,
}

impl AddressSet {
    /// No address.
    #[must_use]
    pub const fn none(family: Family) -> Self {
        Self { family, ranges: Vec::new() }
    }

    /// Those addresses of the networks that are of this family.
    pub fn of<'a>(networks: impl IntoIterator<Item = &'a Network>, family: Family) -> Self {
        let range = |network: &Network| match network {
            Network::Any => Some((0, family.last())),
            Network::Net(net) if Family::of(net.addr()) == family => {
                Some((number(net.network()), number(net.broadcast())))
            }
            Network::Net(_) => None,
        };
        Self::joined(family, networks.into_iter().filter_map(range).collect())
    }

    /// These addresses, of those that are of this family.
    pub fn of_hosts(hosts: impl IntoIterator<Item = IpAddr>, family: Family) -> Self {
        let hosts = hosts.into_iter().filter(|ip| Family::of(*ip) == family);
        Self::joined(family, hosts.map(|ip| (number(ip), number(ip))).collect())
    }

    fn joined(family: Family, mut ranges: Vec<(u128, u128)>) -> Self {
        ranges.sort_unstable();
        let mut joined: Vec<(u128, u128)> = Vec::with_capacity(ranges.len());
        for (first, last) in ranges {
            match joined.last_mut() {
                Some(before) if first <= before.1.saturating_add(1) => before.1 = before.1.max(last),
                _ => joined.push((first, last)),
            }
        }
        Self { family, ranges: joined }
    }

    /// Their family.
    #[must_use]
    pub const fn family(&self) -> Family {
        self.family
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Whether it is every address of the family.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.ranges == [(0, self.family.last())]
    }

    /// The addresses of both; they are of one family.
    #[must_use]
    pub fn with(&self, other: &Self) -> Self {
        Self::joined(self.family, [&self.ranges[..], &other.ranges[..]].concat())
    }

    /// The addresses that are in both.
    #[must_use]
    pub fn within(&self, other: &Self) -> Self {
        self.without(&other.rest())
    }

    /// The addresses that are not in the other one.
    #[must_use]
    pub fn without(&self, other: &Self) -> Self {
        let mut left = Vec::new();
        let mut holes = other.ranges.iter().peekable();
        for &(mut first, last) in &self.ranges {
            let mut used_up = false;
            while holes.next_if(|hole| hole.1 < first).is_some() {}
            // A hole may reach into the next range, so it is not taken out before it is passed.
            let mut ahead = holes.clone();
            while let Some(&(from, to)) = ahead.next_if(|hole| hole.0 <= last) {
                if from > first {
                    left.push((first, from - 1));
                }
                if to >= last {
                    used_up = true;
                    break;
                }
                first = to + 1;
            }
            if !used_up {
                left.push((first, last));
            }
        }
        Self { family: self.family, ranges: left }
    }

    fn rest(&self) -> Self {
        Self { family: self.family, ranges: vec![(0, self.family.last())] }.without(self)
    }

    /// The same as networks, lowest first.
    #[must_use]
    pub fn prefixes(&self) -> Vec<IpNet> {
        let mut nets = Vec::new();
        for &(first, last) in &self.ranges {
            match (address(self.family, first), address(self.family, last)) {
                (IpAddr::V4(first), IpAddr::V4(last)) => {
                    nets.extend(Ipv4Subnets::new(first, last, 0).map(IpNet::V4));
                }
                (IpAddr::V6(first), IpAddr::V6(last)) => {
                    nets.extend(Ipv6Subnets::new(first, last, 0).map(IpNet::V6));
                }
                // Both are of the set's family.
                (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => {}
            }
        }
        nets
    }

    /// The same in the fewest networks, some of them with exceptions: what is left of `any` is best said that way.
    #[must_use]
    pub fn parts(&self) -> Vec<Part> {
        shortest((0, self.family.last()), self)
    }
}

/// How many networks one has to read.
fn length(parts: &[Part]) -> usize {
    parts.iter().map(|part| 1 + part.except.len()).sum()
}

/// The shortest description of what lies inside one network.
fn shortest(net: (u128, u128), set: &AddressSet) -> Vec<Part> {
    let whole = AddressSet { family: set.family, ranges: vec![net] };
    let inside = AddressSet {
        family: set.family,
        ranges: set.ranges.iter().filter(|range| range.0 <= net.1 && range.1 >= net.0).copied().collect(),
    };
    let inside = inside.without(&whole.rest());
    if inside.is_empty() {
        return Vec::new();
    }
    let half = net.0 + (net.1 - net.0) / 2;
    // All in one half: the other one would only be one exception more.
    if inside.ranges.iter().all(|range| range.1 <= half) && half < net.1 {
        return shortest((net.0, half), &inside);
    }
    if inside.ranges.iter().all(|range| range.0 > half) {
        return shortest((half + 1, net.1), &inside);
    }
    let excepted =
        Part { net: whole.prefixes().first().copied().unwrap_or_default(), except: whole.without(&inside).prefixes() };
    if excepted.except.is_empty() {
        return vec![excepted];
    }
    let halves = [shortest((net.0, half), &inside), shortest((half + 1, net.1), &inside)].concat();
    if 1 + excepted.except.len() < length(&halves) { vec![excepted] } else { halves }
}

fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => u32::from(ip).into(),
        IpAddr::V6(ip) => ip.into(),
    }
}

fn address(family: Family, number: u128) -> IpAddr {
    match family {
        // Numbers of IPv4 sets are below 2^32.
        Family::V4 => IpAddr::V4(u32::try_from(number).unwrap_or(u32::MAX).into()),
        Family::V6 => IpAddr::V6(number.into()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn set(text: &str) -> AddressSet {
        let networks: Vec<Network> = text.split_whitespace().map(|net| Network::Net(net.parse().unwrap())).collect();
        let family = if text.contains(':') { Family::V6 } else { Family::V4 };
        AddressSet::of(&networks, family)
    }

    fn written(set: &AddressSet) -> String {
        let list = |nets: &[IpNet]| nets.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        let part = |part: &Part| match &part.except[..] {
            [] => part.net.to_string(),
            except => format!("{} but {}", part.net, list(except)),
        };
        set.parts().iter().map(part).collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn what_is_left_is_written_shortly() {
        for (all, gone, left) in [
            ("0.0.0.0/0", "10.0.0.0/8 172.16.0.0/12", "0.0.0.0/0 but 10.0.0.0/8 172.16.0.0/12"),
            ("10.0.0.0/8 192.0.2.7/32", "10.0.5.0/24", "10.0.0.0/8 but 10.0.5.0/24, 192.0.2.7/32"),
            ("10.0.0.0/24", "10.0.0.128/25", "10.0.0.0/25"),
            ("10.0.0.0/24 10.0.1.0/24", "192.0.2.0/24", "10.0.0.0/23"),
            ("10.0.0.0/24", "0.0.0.0/0", ""),
            ("::/0", "fc00::/7", "::/0 but fc00::/7"),
            ("2001:db8::/32 ::/128", "2001:db8:1::/48", "::/128, 2001:db8::/32 but 2001:db8:1::/48"),
        ] {
            assert_eq!(written(&set(all).without(&set(gone))), left, "{all} without {gone}");
        }
        assert!(AddressSet::of(&[Network::Any], Family::V6).is_everything());
        assert!(set("0.0.0.0/1 128.0.0.0/1").is_everything());
    }

    proptest! {
        #[test]
        fn sets_are_what_their_members_say(
            nets in prop::collection::vec((any::<u8>(), 24..=32u8), 0..6),
            others in prop::collection::vec((any::<u8>(), 24..=32u8), 0..6),
        ) {
            let networks = |list: &[(u8, u8)]| -> Vec<Network> {
                let net = |&(last, length): &(u8, u8)| IpNet::new(IpAddr::from([10, 0, 0, last]), length).unwrap().trunc();
                list.iter().map(net).map(Network::Net).collect()
            };
            let (ours, theirs) = (networks(&nets), networks(&others));
            let (a, b) = (AddressSet::of(&ours, Family::V4), AddressSet::of(&theirs, Family::V4));
            let (with, within, without) = (a.with(&b), a.within(&b), a.without(&b));
            for (set, expected) in [
                (&with, (|a, b| a || b) as fn(bool, bool) -> bool),
                (&within, |a, b| a && b),
                (&without, |a, b| a && !b),
            ] {
                let (prefixes, parts) = (set.prefixes(), set.parts());
                for ip in (0..=255u8).map(|last| IpAddr::from([10, 0, 0, last])) {
                    let [in_a, in_b] = [&ours, &theirs].map(|nets| nets.iter().any(|net| net.contains(ip)));
                    let held = prefixes.iter().any(|net| net.contains(&ip));
                    let told = parts.iter().any(|part| {
                        part.net.contains(&ip) && !part.except.iter().any(|net| net.contains(&ip))
                    });
                    prop_assert_eq!((held, told), (expected(in_a, in_b), expected(in_a, in_b)), "{}", ip);
                }
            }
        }
    }
}
