//! What is counted of everybody, of each rule, of each client address.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Bucket, SharedBucket, Tally};

/// How many client addresses are told apart, and again under each rule that asks for it. Those that come when it is full, and it cannot be made smaller, share one
/// count: nobody who fills it gains by that, nor do those suffer who were there before.
const MOST: usize = 1 << 16;
/// With fewer there is nothing to be gained by looking for those that may be forgotten.
const FEW: usize = 1 << 10;
/// How long it is not tried again to make room.
const SWEEP: Duration = Duration::from_secs(1);

/// Those who are counted together.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    /// The rule's name; `None`: under any.
    pub(super) rule: Option<Arc<str>>,
    /// From where; `None`: from anywhere.
    pub(super) client: Option<Origin>,
}

impl Key {
    /// All sessions of the gate.
    pub(super) const EVERYBODY: Self = Self { rule: None, client: None };
}

/// Where a client comes from, as far as clients are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Origin {
    /// This address, or for IPv6 this /64, which is what one host has.
    At(IpAddr),
    /// One of those that are too many.
    Others,
}

impl Origin {
    pub(super) fn of(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            IpAddr::V4(ip) => Self::At(IpAddr::V4(ip)),
            IpAddr::V6(ip) => Self::At(IpAddr::V6(Ipv6Addr::from(u128::from(ip) >> 64 << 64))),
        }
    }
}

/// What is known of those who are counted together.
#[derive(Debug, Default)]
pub(super) struct Crowd {
    /// Sessions that run.
    pub(super) sessions: u32,
    /// Data connections of sessions that have another one.
    pub(super) further_data: u32,
    /// Sessions that begin.
    pub(super) begun: Bucket,
    /// Logins that failed.
    pub(super) failed: Bucket,
    /// Until when they are turned away.
    pub(super) paused: Option<Instant>,
    /// What moves from clients to servers, and back.
    paces: Option<[SharedBucket; 2]>,
    /// How often they were turned away.
    pub(super) refused: Tally,
}

impl Crowd {
    pub(super) fn paces(&mut self) -> &[SharedBucket; 2] {
        self.paces.get_or_insert_default()
    }

    /// Whether nothing would be lost if it were forgotten.
    fn is_idle(&self, now: Instant) -> bool {
        self.sessions == 0
            && self.further_data == 0
            && self.paused.is_none_or(|until| until <= now)
            && self.begun.is_full(now)
            && self.failed.is_full(now)
            // What moves on after its session still takes from these.
            && self.paces.as_ref().is_none_or(|paces| paces.iter().all(|bucket| Arc::strong_count(bucket) == 1))
    }
}

/// All of them.
#[derive(Debug)]
pub(super) struct Crowds {
    all: HashMap<Key, Crowd>,
    /// How large it may grow before it is looked for what may be forgotten.
    enough: usize,
    swept: Option<Instant>,
    /// How many `further_data` all clients may have, and each.
    pub(super) most_further_data: [u32; 2],
    /// How many health checks are being answered.
    pub(super) health_checks: usize,
}

impl Default for Crowds {
    fn default() -> Self {
        Self::new([u32::MAX; 2])
    }
}

impl Crowds {
    /// Nobody yet; with these bounds of `further_data`.
    pub(super) fn new(most_further_data: [u32; 2]) -> Self {
        Self { all: HashMap::new(), enough: FEW, swept: None, most_further_data, health_checks: 0 }
    }

    /// Those of this key; or where there are too many, those who share it.
    pub(super) fn of(&mut self, key: &mut Key, now: Instant) -> &mut Crowd {
        if key.client.is_some() && !self.all.contains_key(key) && self.all.len() >= self.enough {
            self.make_room(now);
            // Under a rule only those come who are known already.
            if self.all.len() >= MOST && key.rule.is_none() {
                key.client = Some(Origin::Others);
            }
        }
        self.all.entry(key.clone()).or_default()
    }

    /// All sessions of the gate.
    pub(super) fn everybody(&mut self) -> &mut Crowd {
        self.all.entry(Key::EVERYBODY).or_default()
    }

    /// Those of this key, where any are known.
    pub(super) fn known(&mut self, key: &Key) -> Option<&mut Crowd> {
        self.all.get_mut(key)
    }

    fn make_room(&mut self, now: Instant) {
        if self.swept.is_some_and(|swept| now.saturating_duration_since(swept) < SWEEP) && self.all.len() >= MOST {
            return;
        }
        self.swept = Some(now);
        self.all.retain(|_, crowd| !crowd.is_idle(now));
        self.all.shrink_to(FEW);
        self.enough = (self.all.len() * 2).clamp(FEW, MOST);
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::num::NonZeroU32;

    use super::*;
    use crate::limits::Rate;

    fn key(index: u32) -> Key {
        Key { rule: None, client: Some(Origin::of(Ipv4Addr::from(index).into())) }
    }

    #[test]
    fn a_network_of_64_bits_is_one_client() {
        let of = |text: &str| Origin::of(text.parse().unwrap());
        assert_eq!(of("2001:db8:1:2::3"), of("2001:db8:1:2:ffff::4"));
        assert_ne!(of("2001:db8:1:2::3"), of("2001:db8:1:3::3"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
    }

    #[test]
    fn what_is_kept_of_addresses_is_bounded() {
        let (mut crowds, now) = (Crowds::default(), Instant::now());
        let rate = Rate::of(NonZeroU32::MIN, Duration::from_secs(60));
        let most = u32::try_from(MOST).unwrap();
        for index in 0..most + 5000 {
            let _ = crowds.of(&mut key(index), now).begun.take(now, rate, 1);
        }
        // Those who share one, too.
        assert!(crowds.all.len() <= MOST + 1, "{}", crowds.all.len());
        let mut late = key(most + 7000);
        assert!(crowds.of(&mut late, now).begun.may_take(now, rate, 1).is_err());
        assert_eq!(late.client, Some(Origin::Others));
        // Who was there before is still told apart.
        let mut early = key(3);
        assert!(crowds.of(&mut early, now).begun.may_take(now, rate, 1).is_err());
        assert_ne!(early.client, Some(Origin::Others));
        // When there is nothing to be remembered of them any more, there is room.
        let later = now + Duration::from_secs(61);
        let mut fresh = key(most + 8000);
        assert!(crowds.of(&mut fresh, later).begun.may_take(later, rate, 1).is_ok());
        assert_ne!(fresh.client, Some(Origin::Others));
        assert!(crowds.all.len() < 10, "{}", crowds.all.len());
    }

    #[test]
    fn who_has_a_session_or_a_pause_is_not_forgotten() {
        let (mut crowds, now) = (Crowds::default(), Instant::now());
        crowds.of(&mut key(1), now).sessions = 1;
        crowds.of(&mut key(2), now).paused = Some(now + Duration::from_secs(300));
        let _ = crowds.of(&mut key(3), now).failed.take(now, Rate::of(NonZeroU32::MIN, Duration::from_secs(300)), 1);
        crowds.of(&mut key(4), now).further_data = 1;
        let _moves_on = crowds.of(&mut key(5), now).paces().clone();
        crowds.of(&mut key(6), now).paces();
        for index in 10..10 + u32::try_from(FEW).unwrap() * 2 {
            crowds.of(&mut key(index), now);
        }
        assert_eq!(crowds.known(&key(1)).unwrap().sessions, 1);
        assert!(crowds.known(&key(3)).is_some(), "its failed logins count");
        assert!(crowds.known(&key(4)).is_some(), "its data connections count");
        assert!(crowds.known(&key(5)).is_some(), "something still takes from its rates");
        assert!(crowds.known(&key(6)).is_none());
        assert!(crowds.known(&key(2)).unwrap().paused.is_some());
        assert!(crowds.known(&key(10)).is_none());
    }

    #[test]
    fn a_flood_of_addresses_does_not_have_all_looked_at_each_time() {
        let (mut crowds, now) = (Crowds::default(), Instant::now());
        let rate = Rate::of(NonZeroU32::MIN, SWEEP / 4);
        let most = u32::try_from(MOST).unwrap();
        for index in 0..=most {
            let _ = crowds.of(&mut key(index), now).begun.take(now, rate, 1);
        }
        // They could be forgotten by now, but were looked at a moment ago.
        let mut soon = key(most + 1);
        let _ = crowds.of(&mut soon, now + SWEEP / 2);
        assert_eq!(soon.client, Some(Origin::Others));
        let mut later = key(most + 2);
        let _ = crowds.of(&mut later, now + SWEEP);
        assert_ne!(later.client, Some(Origin::Others));
    }
}
