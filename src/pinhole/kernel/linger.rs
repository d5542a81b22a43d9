//! Connections whose control connections are gone: they may go on to their end, but not stand still for ever.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::count::Counter;
use super::flows::Serial;

/// How long nothing may move: TCP probes would find a peer that is gone as soon.
const LINGER: Duration = Duration::from_secs(120);

/// What each has carried when it last moved, and since when it has not.
#[derive(Debug, Default)]
pub(super) struct Lingering(HashMap<Serial, (Option<[Counter; 2]>, Instant)>);

impl Lingering {
    pub(super) fn add(&mut self, now: Instant, serial: Serial) {
        self.0.entry(serial).or_insert((None, now));
    }

    pub(super) fn remove(&mut self, serial: Serial) {
        self.0.remove(&serial);
    }

    pub(super) fn serials(&self) -> impl Iterator<Item = Serial> {
        self.0.keys().copied()
    }

    /// Takes what a connection has carried by now. Whether that has been the same for too long.
    pub(super) fn is_still(&mut self, now: Instant, serial: Serial, carried: Option<[Counter; 2]>) -> bool {
        let Some((last, since)) = self.0.get_mut(&serial) else { return false };
        if *last != carried {
            (*last, *since) = (carried, now);
        }
        now.saturating_duration_since(*since) >= LINGER
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_still_for_long_is_told() {
        let (mut lingering, start, serial) = (Lingering::default(), Instant::now(), Serial::default());
        let carried = |packets| Some([Counter { packets, bytes: 0 }, Counter::default()]);
        let minute = Duration::from_secs(60);
        assert!(!lingering.is_still(start + 9 * minute, serial, carried(1)), "nobody has asked");
        lingering.add(start, serial);
        assert!(!lingering.is_still(start + minute, serial, carried(1)));
        assert!(!lingering.is_still(start + 2 * minute, serial, carried(2)));
        assert!(!lingering.is_still(start + 3 * minute, serial, carried(2)));
        assert!(lingering.is_still(start + 4 * minute, serial, carried(2)));
        lingering.remove(serial);
        assert!(!lingering.is_still(start + 9 * minute, serial, carried(2)));
    }
}
