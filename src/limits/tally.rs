//! Things that happen often and are logged now and then, with their number.

use std::time::{Duration, Instant};

/// How long the next line waits after a line.
const PAUSE: Duration = Duration::from_secs(10);

/// Counts what happens between two lines of the log.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    told: Option<Instant>,
    untold: u64,
}

impl Tally {
    /// It happened again: how many times since the last line, if it is time for a line.
    pub fn note(&mut self, now: Instant) -> Option<u64> {
        self.untold += 1;
        if self.told.is_some_and(|told| now.saturating_duration_since(told) < PAUSE) {
            return None;
        }
        self.told = Some(now);
        Some(std::mem::take(&mut self.untold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_told_at_once_and_the_rest_by_number() {
        let (mut tally, now) = (Tally::default(), Instant::now());
        let told = [0, 1, 9, 10, 11].map(|seconds| tally.note(now + Duration::from_secs(seconds)));
        assert_eq!(told, [Some(1), None, None, Some(3), None]);
    }
}
