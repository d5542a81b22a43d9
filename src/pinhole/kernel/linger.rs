//! Connections whose control connections are gone: they may go on to their end, but not stand still for ever.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::count::Counter;
use super::flows::Serial;

/// How long one side may send nothing: who is sent something acknowledges it, and TCP probes would find a peer that is gone
/// as soon.
const LINGER: Duration = Duration::from_secs(120);

/// What each side of a connection had sent when it last did, and since when it has not.
#[derive(Debug, Default)]
pub(super) struct Lingering(HashMap<Serial, [(Option<Counter>, Instant); 2]>);

impl Lingering {
    pub(super) fn add(&mut self, now: Instant, serial: Serial) {
        self.0.entry(serial).or_insert([(None, now); 2]);
    }

    pub(super) fn remove(&mut self, serial: Serial) {
        self.0.remove(&serial);
    }

    pub(super) fn serials(&self) -> impl Iterator<Item = Serial> {
        self.0.keys().copied()
    }

    /// Takes what each side has sent by now. Whether one of them has sent nothing for too long.
    pub(super) fn is_still(&mut self, now: Instant, serial: Serial, carried: Option<[Counter; 2]>) -> bool {
        let Some(sides) = self.0.get_mut(&serial) else { return false };
        for ((last, since), carried) in sides.iter_mut().zip(carried.map_or([None; 2], |sides| sides.map(Some))) {
            if *last != carried {
                (*last, *since) = (carried, now);
            }
        }
        sides.iter().any(|(_, since)| now.saturating_duration_since(*since) >= LINGER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_still_for_long_is_told() {
        let (mut lingering, start, serial) = (Lingering::default(), Instant::now(), Serial::default());
        let carried = |packets| Some([Counter { packets, bytes: 0 }, Counter { packets: packets / 2, bytes: 0 }]);
        let minute = Duration::from_secs(60);
        assert!(!lingering.is_still(start + 9 * minute, serial, carried(1)), "nobody has asked");
        lingering.add(start, serial);
        assert!(!lingering.is_still(start + minute, serial, carried(1)));
        assert!(!lingering.is_still(start + 2 * minute, serial, carried(2)));
        assert!(!lingering.is_still(start + 3 * minute, serial, carried(2)));
        assert!(lingering.is_still(start + 4 * minute, serial, carried(2)));
        lingering.remove(serial);
        assert!(!lingering.is_still(start + 9 * minute, serial, carried(2)));
        // Nobody acknowledges what the other side sends.
        lingering.add(start, serial);
        for minutes in 0..=2 {
            let one = Some([Counter { packets: minutes.into(), bytes: 0 }, Counter::default()]);
            assert_eq!(lingering.is_still(start + minutes * minute, serial, one), minutes == 2);
        }
    }
}
