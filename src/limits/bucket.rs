//! A token bucket.

use std::num::{NonZeroU32, NonZeroU64};
use std::time::{Duration, Instant};

/// The smallest burst of bytes: less would be a packet at a time.
const LEAST_BURST: u64 = 4096;

/// How much may pass in a time, and how much of it at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    amount: u64,
    per: Duration,
    burst: u64,
}

impl Rate {
    /// So many in a while; all of them may come at once.
    #[must_use]
    pub fn of(amount: NonZeroU32, per: Duration) -> Self {
        let amount = u64::from(amount.get());
        Self { amount, per, burst: amount }
    }

    /// So many bytes in a second; those of an eighth of it may come at once.
    #[must_use]
    pub fn bytes(in_a_second: NonZeroU64) -> Self {
        let amount = in_a_second.get();
        Self { amount, per: Duration::from_secs(1), burst: (amount / 8).max(LEAST_BURST) }
    }

    /// What may come at once.
    #[must_use]
    pub const fn burst(self) -> u64 {
        self.burst
    }

    /// In how long so many come in, rounded down: what is taken by and by never takes longer than the whole of it.
    fn time_for(self, amount: u64) -> Duration {
        let nanos = u128::from(amount) * self.per.as_nanos() / u128::from(self.amount);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

/// What is left of a rate. It is full at first; the rate is told each time, and may be another one.
///
/// All that is kept is when it will be full again: there is nothing to do while time passes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bucket {
    full_at: Option<Instant>,
}

impl Bucket {
    /// Takes so many, all or none.
    ///
    /// # Errors
    /// How long it takes until they are there. More than a burst is never there; then this is the time of a burst.
    pub fn take(&mut self, now: Instant, rate: Rate, amount: u64) -> Result<(), Duration> {
        self.may_take(now, rate, amount)?;
        self.spend(now, rate, amount);
        Ok(())
    }

    /// Whether so many could be taken.
    ///
    /// # Errors
    /// As [`Self::take`].
    pub fn may_take(&self, now: Instant, rate: Rate, amount: u64) -> Result<(), Duration> {
        let (lacking, most) = (self.until_full(now).saturating_add(rate.time_for(amount)), rate.time_for(rate.burst));
        match lacking.checked_sub(most) {
            None | Some(Duration::ZERO) if amount <= rate.burst => Ok(()),
            Some(wait) if amount <= rate.burst => Err(wait),
            _ => Err(most),
        }
    }

    /// Takes so many, whether they are there or not: how long to wait before they may be used. Those who share a bucket
    /// have their turns so, each after the other.
    #[must_use]
    pub fn reserve(&mut self, now: Instant, rate: Rate, amount: u64) -> Duration {
        self.spend(now, rate, amount);
        self.until_full(now).saturating_sub(rate.time_for(rate.burst))
    }

    fn spend(&mut self, now: Instant, rate: Rate, amount: u64) {
        let from = self.full_at.map_or(now, |full_at| full_at.max(now));
        self.full_at = Some(from.checked_add(rate.time_for(amount)).unwrap_or(from));
    }

    /// Puts back what was taken and not used.
    pub fn give_back(&mut self, rate: Rate, amount: u64) {
        self.full_at = self.full_at.and_then(|full_at| full_at.checked_sub(rate.time_for(amount)));
    }

    /// Whether nothing lacks: it might as well be a new one.
    #[must_use]
    pub fn is_full(&self, now: Instant) -> bool {
        self.until_full(now).is_zero()
    }

    fn until_full(&self, now: Instant) -> Duration {
        self.full_at.map_or(Duration::ZERO, |full_at| full_at.saturating_duration_since(now))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn three_a_second() -> Rate {
        Rate::of(NonZeroU32::new(3).unwrap(), Duration::from_secs(1))
    }

    #[test]
    fn it_takes_a_burst_and_then_one_at_a_time() {
        let (mut bucket, now, rate) = (Bucket::default(), Instant::now(), three_a_second());
        for _ in 0..3 {
            assert_eq!(bucket.take(now, rate, 1), Ok(()));
        }
        let wait = bucket.take(now, rate, 1).unwrap_err();
        assert!(bucket.take(now + wait / 2, rate, 1).is_err());
        assert_eq!(bucket.take(now + wait, rate, 1), Ok(()));
        assert!(bucket.take(now + wait, rate, 1).is_err());
        assert!(!bucket.is_full(now + Duration::from_secs(1)));
        assert!(bucket.is_full(now + Duration::from_secs(2)));
    }

    #[test]
    fn another_rate_holds_at_once() {
        let (mut bucket, now) = (Bucket::default(), Instant::now());
        let slow = Rate::of(NonZeroU32::new(1).unwrap(), Duration::from_secs(60));
        assert_eq!(bucket.take(now, slow, 1), Ok(()));
        assert!(bucket.may_take(now, slow, 1).is_err());
        let fast = Rate::of(NonZeroU32::new(600).unwrap(), Duration::from_secs(60));
        assert_eq!(bucket.may_take(now + Duration::from_secs(1), fast, 1).is_ok(), fast.burst() > 590);
    }

    proptest! {
        /// In no span of time does more pass than its burst and what comes in meanwhile.
        #[test]
        fn never_more_than_the_rate(
            in_a_second in 1024_u64..=100 << 30,
            steps in prop::collection::vec((0_u64..50_000_000, 1_u64..=1 << 20, 0_u64..4), 1..200),
        ) {
            let rate = Rate::bytes(NonZeroU64::new(in_a_second).unwrap());
            let (start, mut bucket) = (Instant::now(), Bucket::default());
            let mut now = start;
            let mut passed: Vec<(Instant, u64)> = Vec::new();
            for (nanos, wanted, quarters_used) in steps {
                now += Duration::from_nanos(nanos);
                if bucket.take(now, rate, wanted).is_ok() {
                    let used = wanted * quarters_used / 3;
                    bucket.give_back(rate, wanted - used.min(wanted));
                    passed.push((now, used.min(wanted)));
                }
            }
            for (first, (from, _)) in passed.iter().enumerate() {
                let mut sum = 0;
                for (at, amount) in &passed[first..] {
                    sum += amount;
                    let meanwhile = (at.duration_since(*from).as_nanos() * u128::from(in_a_second)) / 1_000_000_000;
                    // A nanosecond may be lost in each step.
                    let slack = 1 + (passed.len() as u128 * u128::from(in_a_second)) / 1_000_000_000;
                    prop_assert!(u128::from(sum) <= u128::from(rate.burst()) + meanwhile + slack);
                }
            }
        }

        /// Whoever waits for as long as he is told gets what he wants, and no sooner.
        #[test]
        fn the_wait_that_is_told_is_right(
            in_a_second in 1024_u64..=10 << 30,
            takes in prop::collection::vec(1_u64..=4096, 1..100),
        ) {
            let rate = Rate::bytes(NonZeroU64::new(in_a_second).unwrap());
            let (start, mut bucket) = (Instant::now(), Bucket::default());
            let (mut now, mut sum) = (start, 0_u64);
            for amount in takes {
                if let Err(wait) = bucket.take(now, rate, amount) {
                    now += wait;
                    prop_assert_eq!(bucket.take(now, rate, amount), Ok(()));
                }
                sum += amount;
            }
            // Nobody waits for longer than the sum takes, but for rounding.
            prop_assert!(now.duration_since(start) <= rate.time_for(sum));
        }
    }
}
