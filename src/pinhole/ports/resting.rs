//! Ports that a peer was given not long ago, and is given again only when nothing else is left.
//!
//! A peer may connect late to a port that it was told of: a client that gave up and changed its mind, or the second of two
//! attempts. Several sessions may have the same peer, as clients behind one NAT do. If the port already waited for another
//! session with that peer, it would get the other session's data.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Instant;

/// How many are kept in one generation of one table; there are two generations.
const MOST: usize = 512;

/// A port at an address of the gate, and the peer that was given it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Given {
    pub(super) at: IpAddr,
    pub(super) port: u16,
    pub(super) to: IpAddr,
}

/// The ports of one table that rest, each with the end of its rest.
///
/// Nothing cleans up by the clock: a generation that is full, or all of whose ports have rested, replaces the one before it.
/// In a flood of peers the oldest are forgotten early.
#[derive(Debug, Default)]
pub(super) struct Resting {
    young: HashMap<Given, Instant>,
    old: HashMap<Given, Instant>,
    /// When all of the young ones have rested.
    until: Option<Instant>,
}

impl Resting {
    /// When a port has rested; `None` where it does not rest.
    pub(super) fn until(&self, given: &Given, now: Instant) -> Option<Instant> {
        self.young.get(given).or_else(|| self.old.get(given)).copied().filter(|until| now < *until)
    }

    /// A peer is given a port, which then rests.
    pub(super) fn give(&mut self, given: Given, now: Instant, until: Instant) {
        if self.young.len() >= MOST || self.until.is_some_and(|until| until <= now) {
            self.old = std::mem::take(&mut self.young);
            self.until = None;
        }
        self.young.insert(given, until);
        self.until = self.until.max(Some(until));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn given(port: u16, to: u32) -> Given {
        Given { at: [127, 0, 0, 1].into(), port, to: IpAddr::from(to.to_be_bytes()) }
    }

    #[test]
    fn a_port_rests_for_its_peer_only_and_not_for_ever() {
        let now = Instant::now();
        let later = |seconds| now + Duration::from_secs(seconds);
        let mut resting = Resting::default();
        resting.give(given(10_001, 1), now, later(10));
        assert_eq!(resting.until(&given(10_001, 1), later(9)), Some(later(10)));
        assert_eq!(resting.until(&given(10_001, 2), now), None);
        assert_eq!(resting.until(&given(10_002, 1), now), None);
        assert_eq!(resting.until(&given(10_001, 1), later(10)), None);
        // Given again, it rests again, in whichever generation it was.
        resting.give(given(10_001, 1), later(11), later(21));
        assert_eq!(resting.until(&given(10_001, 1), later(20)), Some(later(21)));
    }

    #[test]
    fn a_flood_of_peers_takes_a_bounded_memory_and_what_has_rested_goes() {
        let now = Instant::now();
        let mut resting = Resting::default();
        for peer in 0..10_000 {
            resting.give(given(10_001, peer), now, now + Duration::from_secs(60));
            assert!(resting.young.len() + resting.old.len() <= 2 * MOST);
        }
        assert!(resting.until(&given(10_001, 9_999), now).is_some());
        for later in [61, 122] {
            let now = now + Duration::from_secs(later);
            resting.give(given(10_001, 1), now, now + Duration::from_secs(60));
        }
        assert_eq!(resting.young.len() + resting.old.len(), 2);
    }
}
