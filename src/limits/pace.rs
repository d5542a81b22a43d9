//! How fast one transfer may go, and what else it must keep to.

use std::num::NonZeroU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::{Bucket, Rate};

/// A bucket that several transfers take from.
pub type SharedBucket = Arc<Mutex<Bucket>>;

/// Whose rate holds a transfer back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pacer {
    /// That of all transfers of the gate.
    Gate,
    /// That of a client address.
    GateClient,
    /// That of the session.
    Session,
    /// That of a client address, for one rule.
    RuleClient,
}

/// One rate that a transfer keeps to.
#[derive(Clone, Debug)]
pub struct Meter {
    /// Whose.
    pub pacer: Pacer,
    /// What it is.
    pub in_a_second: NonZeroU64,
    /// What is left of it.
    pub bucket: SharedBucket,
}

impl Meter {
    fn rate(&self) -> Rate {
        Rate::bytes(self.in_a_second)
    }

    fn with<T>(&self, use_it: impl FnOnce(&mut Bucket) -> T) -> T {
        use_it(&mut self.bucket.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// How fast one direction of a transfer may go: every meter has to agree.
#[derive(Clone, Debug, Default)]
pub struct Pace(Vec<Meter>);

impl Pace {
    /// Keeps to these.
    #[must_use]
    pub const fn new(meters: Vec<Meter>) -> Self {
        Self(meters)
    }

    /// Whether there is nothing to keep to.
    #[must_use]
    pub const fn is_none(&self) -> bool {
        self.0.is_empty()
    }

    /// How many bytes may move, of those that are wanted, and when: some, never all of a burst, so that others get theirs.
    #[must_use]
    pub fn reserve(&self, now: Instant, wanted: u64) -> Reserved<'_> {
        let share = self.0.iter().map(|meter| meter.rate().burst() / 4).min().unwrap_or(u64::MAX);
        let amount = wanted.min(share.max(1));
        let waits = self.0.iter().map(|meter| (meter.with(|bucket| bucket.reserve(now, meter.rate(), amount)), meter));
        let slowest = waits.filter(|(wait, _)| !wait.is_zero()).max_by_key(|(wait, _)| *wait);
        Reserved { amount, slowest }
    }

    /// What was reserved and did not move.
    pub fn give_back(&self, amount: u64) {
        self.0.iter().for_each(|meter| meter.with(|bucket| bucket.give_back(meter.rate(), amount)));
    }
}

/// Bytes that may move.
#[derive(Clone, Copy, Debug)]
pub struct Reserved<'a> {
    /// How many.
    pub amount: u64,
    /// How long to wait before that, and who says so.
    pub slowest: Option<(Duration, &'a Meter)>,
}

/// What a data connection must keep to.
#[derive(Clone, Debug, Default)]
pub struct Terms {
    /// From the client to the server.
    pub up: Pace,
    /// From the server to the client.
    pub down: Pace,
    /// How many bytes may move in a direction.
    pub size: Option<NonZeroU64>,
    /// How long it may move nothing.
    pub stall: Option<Duration>,
}

impl Terms {
    /// Whether there is anything to keep to.
    #[must_use]
    pub const fn is_none(&self) -> bool {
        self.up.is_none() && self.down.is_none() && self.size.is_none() && self.stall.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn meter(pacer: Pacer, in_a_second: u64, bucket: &SharedBucket) -> Meter {
        Meter { pacer, in_a_second: NonZeroU64::new(in_a_second).unwrap(), bucket: Arc::clone(bucket) }
    }

    /// As the relay does, with a clock of the test's: how many bytes move until then.
    fn moved(paces: &[Pace], now: Instant, end: Instant) -> Vec<u64> {
        let mut moved = vec![0; paces.len()];
        let mut turns: Vec<(Instant, u64)> = vec![(now, 0); paces.len()];
        while let Some((index, (at, amount))) = turns.iter().copied().enumerate().min_by_key(|(_, (at, _))| *at)
            && at <= end
        {
            moved[index] += amount;
            let next = paces[index].reserve(at, MIB);
            turns[index] = (at + next.slowest.map_or(Duration::ZERO, |(wait, _)| wait), next.amount);
        }
        moved
    }

    #[test]
    fn ten_seconds_move_ten_times_the_rate() {
        let (now, bucket) = (Instant::now(), SharedBucket::default());
        let pace = Pace::new(vec![meter(Pacer::Session, 10 * MIB, &bucket)]);
        let [moved] = moved(&[pace], now, now + Duration::from_secs(10))[..] else { panic!() };
        let burst = 10 * MIB / 8;
        assert!((100 * MIB..=100 * MIB + burst).contains(&moved), "{moved}");
    }

    #[test]
    fn those_who_share_a_rate_have_it_together_and_each_gets_as_much() {
        let (now, shared) = (Instant::now(), SharedBucket::default());
        let paces = [(); 4].map(|()| Pace::new(vec![meter(Pacer::Gate, MIB, &shared)]));
        let moved = moved(&paces, now, now + Duration::from_secs(8));
        assert!((8 * MIB..=8 * MIB + MIB / 8).contains(&moved.iter().sum()), "{moved:?}");
        assert!(moved.iter().all(|moved| *moved > 2 * MIB - MIB / 8), "{moved:?}");
    }

    #[test]
    fn the_strictest_holds_and_is_named_and_the_others_lose_nothing() {
        let (now, gate, own) = (Instant::now(), SharedBucket::default(), SharedBucket::default());
        let strict = Pace::new(vec![meter(Pacer::Gate, 8 * MIB, &gate), meter(Pacer::Session, MIB, &own)]);
        let end = now + Duration::from_secs(4);
        let [moved] = moved(std::slice::from_ref(&strict), now, end)[..] else { panic!() };
        assert!((4 * MIB..=4 * MIB + MIB / 8).contains(&moved), "{moved}");
        let reserved = strict.reserve(end, MIB);
        assert_eq!(reserved.slowest.unwrap().1.pacer, Pacer::Session);
        // What the session did not take is there for others.
        assert!(gate.lock().unwrap().is_full(end + Duration::from_millis(100)));
        strict.give_back(reserved.amount);
    }

    #[test]
    fn what_did_not_move_may_move_later() {
        let (now, bucket) = (Instant::now(), SharedBucket::default());
        let pace = Pace::new(vec![meter(Pacer::Session, MIB, &bucket)]);
        let reserved = || pace.reserve(now, MIB);
        let amount = reserved().amount;
        while reserved().slowest.is_none() {}
        let waits = reserved().slowest.unwrap().0;
        // The one that has just waited, and one more.
        (0..2).for_each(|_| pace.give_back(amount));
        assert!(reserved().slowest.unwrap().0 < waits);
    }
}
