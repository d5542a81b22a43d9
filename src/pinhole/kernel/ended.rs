//! Connections that are over, for as long as conntrack remembers them: what comes with their addresses and ports is theirs.

use std::collections::HashMap;
use std::time::Instant;

use super::conntrack::Flow;
use super::element::Entrance;

/// One of them.
#[derive(Clone, Copy, Debug)]
struct One {
    flow: Flow,
    /// When it is forgotten.
    until: Instant,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Ended(HashMap<Entrance, Vec<One>>);

impl Ended {
    /// Has one remembered for some time more, in which its ends may yet hear of each other.
    pub(super) fn add(&mut self, flow: Flow, until: Instant) {
        let all = self.0.entry(flow.entrance()).or_default();
        all.retain(|one| one.flow != flow);
        all.push(One { flow, until });
    }

    /// Whether there is one that came to this place from this peer.
    pub(super) fn has(&self, entrance: &Entrance) -> bool {
        self.0.contains_key(entrance)
    }

    /// Whether this one is.
    pub(super) fn contains(&self, flow: &Flow) -> bool {
        self.0.get(&flow.entrance()).is_some_and(|all| all.iter().any(|one| one.flow == *flow))
    }

    /// conntrack does not remember it any more, or it is another one now. Whether it was among them.
    pub(super) fn remove(&mut self, flow: &Flow) -> bool {
        let entrance = flow.entrance();
        let Some(all) = self.0.get_mut(&entrance) else { return false };
        let before = all.len();
        all.retain(|one| one.flow != *flow);
        let was_there = all.len() < before;
        if all.is_empty() {
            self.0.remove(&entrance);
        }
        was_there
    }

    /// Those that came to this place from this peer, which are not remembered any more.
    pub(super) fn take_at(&mut self, entrance: &Entrance) -> Vec<Flow> {
        self.0.remove(entrance).unwrap_or_default().into_iter().map(|one| one.flow).collect()
    }

    /// Those whose time is over.
    pub(super) fn overdue(&mut self, now: Instant) -> Vec<Flow> {
        let mut overdue = Vec::new();
        self.0.retain(|_, all| {
            overdue.extend(all.extract_if(.., |one| one.until <= now).map(|one| one.flow));
            !all.is_empty()
        });
        overdue
    }

    /// All of them.
    pub(super) fn all(&self) -> impl Iterator<Item = Flow> {
        self.0.values().flatten().map(|one| one.flow)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn flow(from: u16, at: u16) -> Flow {
        Flow { from: ([192, 0, 2, 1], from).into(), at: ([192, 0, 2, 2], at).into() }
    }

    #[test]
    fn they_are_found_by_their_place_and_forgotten_in_time() {
        let (mut ended, now) = (Ended::default(), Instant::now());
        let second = Duration::from_secs(1);
        ended.add(flow(1, 10_001), now + second);
        ended.add(flow(2, 10_001), now + 3 * second);
        ended.add(flow(3, 10_002), now + second);
        // Once more: it counts from now on.
        ended.add(flow(1, 10_001), now + 2 * second);
        assert_eq!(ended.overdue(now + second), [flow(3, 10_002)]);
        assert!(!ended.has(&flow(3, 10_002).entrance()) && ended.has(&flow(9, 10_001).entrance()));
        assert!(ended.contains(&flow(1, 10_001)));
        assert!(ended.remove(&flow(1, 10_001)) && !ended.remove(&flow(1, 10_001)));
        assert_eq!(ended.all().collect::<Vec<_>>(), [flow(2, 10_001)]);
        assert_eq!(ended.take_at(&flow(9, 10_001).entrance()), [flow(2, 10_001)]);
        assert!(!ended.has(&flow(2, 10_001).entrance()) && ended.overdue(now + 9 * second).is_empty());
    }
}
