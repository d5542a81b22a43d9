//! Whether the connections that are handed over arrive. What keeps them away (a filter, a route, a mark) cannot be seen in every
//! case, but that none arrives can.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How many clients the transparent listeners have accepted.
pub(super) type Accepted = Arc<AtomicU64>;

/// So many first packets, none of which became a connection, are no accident: each client sends its own several times.
const MANY: u64 = 3;
/// Time for a connection to come about, and for the first packet to be sent again.
const LONG: Duration = Duration::from_secs(6);
/// How often it is told that something was dropped.
const RARELY: Duration = Duration::from_secs(600);

/// What the operator is to hear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// So many first packets were handed over, and nothing has arrived.
    NoneArrives(u64),
    /// Something has arrived again.
    Arrives,
    /// So many packets were dropped since this was last told.
    Dropped(u64),
}

/// Compares what is handed over with what is accepted.
#[derive(Debug)]
pub(super) struct Arrivals {
    accepted: Accepted,
    /// Since when nothing has been accepted though something was handed over, with both counts then.
    since: Option<Instant>,
    handed_over: u64,
    accepted_then: u64,
    is_told: bool,
    dropped: u64,
    told_of_dropped: Option<Instant>,
}

impl Arrivals {
    pub(super) const fn new(accepted: Accepted) -> Self {
        Self {
            accepted,
            since: None,
            handed_over: 0,
            accepted_then: 0,
            is_told: false,
            dropped: 0,
            told_of_dropped: None,
        }
    }

    /// Takes the counts by now. Both begin anew where the interception is loaded again.
    pub(super) fn look(&mut self, now: Instant, handed_over: u64, dropped: u64) -> Vec<News> {
        self.arrivals(now, handed_over).into_iter().chain(self.drops(now, dropped)).collect()
    }

    fn arrivals(&mut self, now: Instant, handed_over: u64) -> Option<News> {
        let accepted = self.accepted.load(Ordering::Relaxed);
        if accepted != self.accepted_then || handed_over < self.handed_over {
            let arrives = accepted != self.accepted_then && std::mem::take(&mut self.is_told);
            (self.since, self.handed_over, self.accepted_then) = (None, handed_over, accepted);
            return arrives.then_some(News::Arrives);
        }
        let waiting = handed_over - self.handed_over;
        if waiting == 0 {
            return None;
        }
        let since = *self.since.get_or_insert(now);
        if self.is_told || waiting < MANY || now.saturating_duration_since(since) < LONG {
            return None;
        }
        self.is_told = true;
        Some(News::NoneArrives(waiting))
    }

    fn drops(&mut self, now: Instant, dropped: u64) -> Option<News> {
        let more = dropped.checked_sub(self.dropped);
        let is_due = self.told_of_dropped.is_none_or(|told| now.saturating_duration_since(told) >= RARELY);
        match more {
            Some(more) if is_due && more >= MANY => {
                (self.dropped, self.told_of_dropped) = (dropped, Some(now));
                Some(News::Dropped(more))
            }
            Some(_) => None,
            None => {
                self.dropped = dropped;
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn it_is_told_once_that_none_arrives_and_once_that_one_does() {
        let accepted = Accepted::default();
        let mut arrivals = Arrivals::new(Arc::clone(&accepted));
        let start = Instant::now();
        assert_eq!(arrivals.look(start, 0, 0), []);
        // One client, whose connection comes about.
        accepted.fetch_add(1, Ordering::Relaxed);
        assert_eq!(arrivals.look(start, 1, 0), []);
        assert_eq!(arrivals.look(start + second(3), 2, 0), []);
        assert_eq!(arrivals.look(start + second(30), 3, 0), [], "two packets are few");
        assert_eq!(arrivals.look(start + second(31), 5, 0), [News::NoneArrives(4)]);
        assert_eq!(arrivals.look(start + second(34), 9, 0), []);
        accepted.fetch_add(1, Ordering::Relaxed);
        assert_eq!(arrivals.look(start + second(37), 10, 0), [News::Arrives]);
        assert_eq!(arrivals.look(start + second(40), 12, 0), []);
        // Loaded again: it counts from 0.
        assert_eq!(arrivals.look(start + second(50), 1, 0), []);
        assert_eq!(arrivals.look(start + second(53), 4, 0), []);
        assert_eq!(arrivals.look(start + second(60), 4, 0), [News::NoneArrives(3)]);
    }

    #[test]
    fn drops_are_told_rarely_and_all_of_them() {
        let mut arrivals = Arrivals::new(Accepted::default());
        let start = Instant::now();
        assert_eq!(arrivals.look(start, 0, 2), []);
        assert_eq!(arrivals.look(start + second(1), 0, 4), [News::Dropped(4)]);
        assert_eq!(arrivals.look(start + second(3), 0, 5), []);
        assert_eq!(arrivals.look(start + second(602), 0, 9), [News::Dropped(5)]);
        assert_eq!(arrivals.look(start + second(604), 0, 1), []);
        assert_eq!(arrivals.look(start + second(1300), 0, 4), [News::Dropped(3)]);
    }
}
