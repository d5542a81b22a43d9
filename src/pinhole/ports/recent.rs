//! Ports that a peer was given recently, and is given again only when no other is free.
//!
//! A peer may connect late to a port that it was told of: a client that gave up and changed its mind, or the second of two
//! attempts. Several sessions may have the same peer, as clients behind one NAT do. If the port already waited for another
//! session with that peer, it would get the other session's data. And a server that always dials from port 20 cannot dial
//! the same port again while the connection before is in TIME_WAIT.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;

use crate::addr::PortRanges;

/// Bytes that one generation takes, about; there are two generations.
const MAX_BYTES: usize = 1 << 20;
/// What a peer's entry takes beside its ports, about.
const ENTRY_BYTES: usize = 256;
/// How many ranges are kept for one peer: sessions under several rules may have it.
const MAX_RANGES: usize = 4;
/// In a range of so many ports or fewer, all are used in turn; in a larger one, one in four is free to be chosen at random.
const SMALL: usize = 16;
/// How many ports of one range are remembered at most.
const MAX_PORTS: usize = 4096;

/// An address of the gate, and the peer that is given a port there.
pub(super) type Pair = (IpAddr, IpAddr);

/// The recent ports of all peers.
///
/// A generation that is full replaces the one before it; a peer that comes back is kept. In a flood of peers the oldest are
/// forgotten early.
#[derive(Debug, Default)]
pub(super) struct RecentPorts {
    young: HashMap<Pair, Vec<Recent>>,
    young_bytes: usize,
    old: HashMap<Pair, Vec<Recent>>,
}

/// The ports of one range that one peer was given.
#[derive(Debug)]
struct Recent {
    ranges: PortRanges,
    /// Their places in the range, the one given longest ago first.
    order: VecDeque<u16>,
    /// A bit for each place: whether it is in `order`.
    is_recent: Vec<u64>,
    max: usize,
}

impl RecentPorts {
    /// How far behind place `start` of the range, going round, is the first port that the peer was not given recently.
    /// Only `left` places are looked at.
    pub(super) fn distance_to_other(&self, pair: &Pair, ranges: &PortRanges, start: u32, left: u32) -> Option<u32> {
        match self.get(pair, ranges) {
            Some(recent) => recent.distance_to_other(start, left),
            None => (left > 0).then_some(0),
        }
    }

    /// Whether the peer was given the port at this place recently.
    pub(super) fn has(&self, pair: &Pair, ranges: &PortRanges, place: u32) -> bool {
        self.get(pair, ranges).is_some_and(|recent| recent.has(place))
    }

    /// The places of the peer's recent ports, the one given longest ago first.
    pub(super) fn oldest_first(&self, pair: &Pair, ranges: &PortRanges) -> Vec<u32> {
        self.get(pair, ranges).map(|recent| recent.order.iter().copied().map(u32::from).collect()).unwrap_or_default()
    }

    /// The peer is given the port at this place.
    pub(super) fn give(&mut self, pair: Pair, ranges: &PortRanges, place: u32) {
        if !self.young.contains_key(&pair) {
            if self.young_bytes >= MAX_BYTES {
                self.old = std::mem::take(&mut self.young);
                self.young_bytes = 0;
            }
            let known = self.old.remove(&pair).unwrap_or_default();
            self.young_bytes += ENTRY_BYTES + known.iter().map(Recent::bytes).sum::<usize>();
            self.young.insert(pair, known);
        }
        let Some(known) = self.young.get_mut(&pair) else { return };
        let at = known.iter().position(|recent| recent.ranges == *ranges).unwrap_or_else(|| {
            if known.len() >= MAX_RANGES {
                known.remove(0);
            }
            let recent = Recent::new(ranges.clone());
            self.young_bytes += recent.bytes();
            known.push(recent);
            known.len() - 1
        });
        if let Some(recent) = known.get_mut(at) {
            recent.give(place);
        }
    }

    fn get(&self, pair: &Pair, ranges: &PortRanges) -> Option<&Recent> {
        let known = self.young.get(pair).or_else(|| self.old.get(pair))?;
        known.iter().find(|recent| recent.ranges == *ranges)
    }
}

impl Recent {
    fn new(ranges: PortRanges) -> Self {
        let count = ranges.count() as usize;
        let max = if count <= SMALL { count } else { (count - count / 4).min(MAX_PORTS) };
        Self { ranges, order: VecDeque::new(), is_recent: vec![0; count.div_ceil(64)], max }
    }

    /// What it takes at most.
    fn bytes(&self) -> usize {
        2 * self.max + 8 * self.is_recent.len()
    }

    fn has(&self, place: u32) -> bool {
        let word = self.is_recent.get(place as usize / 64).copied().unwrap_or(0);
        word >> (place % 64) & 1 != 0
    }

    fn set(&mut self, place: u16, recent: bool) {
        if let Some(word) = self.is_recent.get_mut(usize::from(place) / 64) {
            let bit = 1 << (place % 64);
            *word = if recent { *word | bit } else { *word & !bit };
        }
    }

    fn distance_to_other(&self, start: u32, left: u32) -> Option<u32> {
        let count = self.ranges.count();
        let mut distance = 0;
        while distance < left {
            let place = (start + distance) % count;
            let others = !self.is_recent.get(place as usize / 64)? >> (place % 64);
            // What is left of this word, and of the range before it begins again.
            let here = (64 - place % 64).min(count - place);
            let skipped = others.trailing_zeros();
            if skipped < here {
                return Some(distance + skipped).filter(|distance| *distance < left);
            }
            distance += here;
        }
        None
    }

    fn give(&mut self, place: u32) {
        // A range has no more ports than there are.
        let Ok(place) = u16::try_from(place) else { return };
        if self.has(place.into()) {
            // Mostly the one given longest ago, which is the first.
            self.order.retain(|given| *given != place);
        }
        self.order.push_back(place);
        self.set(place, true);
        if self.order.len() > self.max
            && let Some(forgotten) = self.order.pop_front()
        {
            self.set(forgotten, false);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::addr::PortRange;

    fn ranges(first: u16, last: u16) -> PortRanges {
        PortRanges::new(vec![PortRange::new(first, last).unwrap()]).unwrap()
    }

    fn pair(to: u32) -> Pair {
        ([127, 0, 0, 1].into(), IpAddr::from(to.to_be_bytes()))
    }

    #[test]
    fn only_ports_that_are_not_recent_are_found() {
        for count in [1, 2, 5, 16, 17, 63, 64, 65, 100, 128, 1000, 64512] {
            let ranges = ranges(1024, u16::try_from(1023 + count).unwrap());
            let mut recent = RecentPorts::default();
            let mut given = HashSet::new();
            for turn in 0..2000_u32 {
                let start = turn.wrapping_mul(2_654_435_761) % count;
                let expected = (0..count).find(|distance| !given.contains(&((start + distance) % count)));
                let found = recent.distance_to_other(&pair(1), &ranges, start, count);
                assert_eq!(found, expected, "{count} ports, turn {turn}");
                if let Some(distance @ 1..) = found {
                    assert_eq!(recent.distance_to_other(&pair(1), &ranges, start, distance), None);
                }
                // Another peer, or another range, has nothing to do with it.
                assert_eq!(recent.distance_to_other(&pair(2), &ranges, start, count), Some(0));
                let place = match found {
                    Some(distance) => (start + distance) % count,
                    None => recent.oldest_first(&pair(1), &ranges)[0],
                };
                recent.give(pair(1), &ranges, place);
                given = recent.oldest_first(&pair(1), &ranges).into_iter().collect();
                assert!(given.contains(&place) && given.iter().all(|place| recent.has(&pair(1), &ranges, *place)));
                if count > 16 {
                    assert!(given.len() as u32 <= count - count / 4);
                }
            }
        }
    }

    #[test]
    fn no_port_comes_again_before_most_others_did() {
        let ranges = ranges(20_000, 20_099);
        let mut recent = RecentPorts::default();
        let mut last = HashMap::new();
        for turn in 0..1000_u32 {
            let start = turn.wrapping_mul(2_654_435_761) % 100;
            let place = (start + recent.distance_to_other(&pair(1), &ranges, start, 100).unwrap()) % 100;
            recent.give(pair(1), &ranges, place);
            if let Some(before) = last.insert(place, turn) {
                assert!(turn - before > 75);
            }
        }
    }

    #[test]
    fn a_flood_of_peers_takes_a_bounded_memory() {
        let mut recent = RecentPorts::default();
        let all = [ranges(1024, 65_535), ranges(2000, 3000), ranges(2000, 2005), ranges(1, 2), ranges(3, 4)];
        for peer in 0..100_000 {
            recent.give(pair(peer), &all[peer as usize % 5], peer % 2);
            // One that is in use is remembered.
            recent.give(pair(0), &all[0], 7);
            let entries = recent.young.len() + recent.old.len();
            assert!(entries <= 2 * MAX_BYTES / ENTRY_BYTES + 2 && recent.young_bytes <= MAX_BYTES + 32_768);
            assert!(recent.has(&pair(0), &all[0], 7));
        }
        for ranges in &all {
            recent.give(pair(0), ranges, 1);
        }
        assert_eq!(recent.young[&pair(0)].len(), MAX_RANGES);
    }
}
