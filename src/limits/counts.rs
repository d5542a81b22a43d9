//! Who may have a session: the limits of the gate, of a client address and of a rule, judged in this order.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::crowds::{Crowd, Crowds, Key, Origin};
use super::{Bucket, Meter, Pace, Pacer, Rate, SharedBucket, Terms};
use crate::addr::ClientAddr;
use crate::policy::limits::size;
use crate::policy::{Capacity, GateLimits, Limit, Permission, Reached, Rule, Together, Whose};

const MINUTE: Duration = Duration::from_secs(60);

/// Everything that is counted. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Counts(Arc<Mutex<Crowds>>);

/// A session that may not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TurnedAway {
    /// Why.
    pub reached: Reached,
    /// How many were turned away since that was last told; `None` where it was told a moment ago.
    pub told: Option<u64>,
}

/// A connection whose client is not known yet: a PROXY header may name another. It is one of the gate's sessions.
#[derive(Debug)]
pub struct Arrival {
    /// `None` once it has become a [`Place`].
    counts: Option<Counts>,
}

/// A session's place among those that are counted; dropped, it is free for another.
#[derive(Debug)]
pub struct Place {
    counts: Counts,
    /// From where its client comes.
    origin: Origin,
    /// The rule under which it is counted.
    rule: Option<Arc<Rule>>,
}

/// The right to one more data connection for a session that has one; given back when dropped.
#[derive(Debug)]
pub struct FurtherData {
    counts: Counts,
    origin: Origin,
}

impl Drop for FurtherData {
    fn drop(&mut self) {
        let mut crowds = self.counts.lock();
        for key in of_gate(self.origin) {
            if let Some(crowd) = crowds.known(&key) {
                crowd.further_data = crowd.further_data.saturating_sub(1);
            }
        }
    }
}

impl Counts {
    /// Counts for a process with these descriptors.
    #[must_use]
    pub fn new(capacity: Capacity) -> Self {
        Self(Arc::new(Mutex::new(Crowds::new(capacity.further_data()))))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Crowds> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection was accepted, whose client is not known yet.
    ///
    /// # Errors
    /// The gate has too many sessions; nothing is counted.
    pub fn arrive(&self, limits: &GateLimits, now: Instant) -> Result<Arrival, TurnedAway> {
        let mut crowds = self.lock();
        let crowd = crowds.everybody();
        may_have_sessions(crowd, &limits.all, now).map_err(|refused| refused.by(Whose::Gate, limits.unwritten.all))?;
        crowd.sessions = crowd.sessions.saturating_add(1);
        drop(crowds);
        Ok(Arrival { counts: Some(self.clone()) })
    }

    /// A session begins, whose rule is not known yet.
    ///
    /// # Errors
    /// It may not be, and nothing is counted.
    pub fn admit(&self, limits: &GateLimits, client: ClientAddr, now: Instant) -> Result<Place, TurnedAway> {
        self.arrive(limits, now)?.admit(limits, client, now)
    }
}

impl Arrival {
    /// This is the client: its session begins, whose rule is not known yet.
    ///
    /// # Errors
    /// It may not be, and nothing is counted.
    pub fn admit(mut self, limits: &GateLimits, client: ClientAddr, now: Instant) -> Result<Place, TurnedAway> {
        let counts = self.counts.clone().unwrap_or_default();
        let mut own = Key { rule: None, client: Some(Origin::of(client.ip())) };
        let mut crowds = counts.lock();
        let by_gate = |refused: Refused| refused.by(Whose::Gate, false);
        may_begin(crowds.everybody(), &limits.all, now).map_err(by_gate)?;
        let crowd = crowds.of(&mut own, now);
        if limits.failed_logins.is_some() && crowd.paused.is_some_and(|until| now < until) {
            let value = humantime::format_duration(limits.pause).to_string();
            return Err(Refused::new(crowd, now, Limit::Pause, value).by(Whose::GateClient, false));
        }
        may_have_sessions(crowd, &limits.client, now)
            .map_err(|refused| refused.by(Whose::GateClient, limits.unwritten.client))?;
        may_begin(crowd, &limits.client, now).map_err(|refused| refused.by(Whose::GateClient, false))?;
        begin(crowd, &limits.client, now);
        crowd.sessions = crowd.sessions.saturating_add(1);
        begin(crowds.everybody(), &limits.all, now);
        drop(crowds);
        // The place has its count among all from now on.
        self.counts = None;
        Ok(Place { counts, origin: own.client.unwrap_or(Origin::Others), rule: None })
    }
}

impl Drop for Arrival {
    fn drop(&mut self) {
        if let Some(counts) = self.counts.take() {
            release(&mut counts.lock(), &[Key::EVERYBODY]);
        }
    }
}

/// Where a session is counted under any rule.
const fn of_gate(origin: Origin) -> [Key; 2] {
    [Key::EVERYBODY, Key { rule: None, client: Some(origin) }]
}

/// Where it is counted under this one: nowhere where that allows nothing, as before login.
fn of_rule(rule: &Rule, origin: Origin) -> Vec<Key> {
    if rule.permission == Permission::Deny {
        return Vec::new();
    }
    let name: Arc<str> = rule.name.as_str().into();
    let all = Key { rule: Some(Arc::clone(&name)), client: None };
    let own = Key { rule: Some(name), client: Some(origin) };
    if rule.limits.client.is_none() { vec![all] } else { vec![all, own] }
}

/// A limit that keeps a session away, and whether that is told now.
struct Refused {
    limit: Limit,
    value: String,
    told: Option<u64>,
}

impl Refused {
    fn new(crowd: &mut Crowd, now: Instant, limit: Limit, value: String) -> Self {
        Self { limit, value, told: crowd.refused.note(now) }
    }

    fn by(self, whose: Whose, is_default: bool) -> TurnedAway {
        let Self { limit, value, told } = self;
        TurnedAway { reached: Reached { limit, value, whose, is_default }, told }
    }
}

/// Whether one more may be, at a time.
fn may_have_sessions(crowd: &mut Crowd, limits: &Together, now: Instant) -> Result<(), Refused> {
    match limits.sessions.filter(|most| crowd.sessions >= most.get()) {
        Some(most) => Err(Refused::new(crowd, now, Limit::Sessions, most.to_string())),
        None => Ok(()),
    }
}

/// Whether one more may begin now.
fn may_begin(crowd: &mut Crowd, limits: &Together, now: Instant) -> Result<(), Refused> {
    let per_minute = limits.sessions_per_minute;
    match per_minute.filter(|most| crowd.begun.may_take(now, Rate::of(*most, MINUTE), 1).is_err()) {
        Some(most) => Err(Refused::new(crowd, now, Limit::SessionsPerMinute, most.to_string())),
        None => Ok(()),
    }
}

/// One that was judged begins.
fn begin(crowd: &mut Crowd, limits: &Together, now: Instant) {
    if let Some(most) = limits.sessions_per_minute {
        let _was_judged = crowd.begun.take(now, Rate::of(most, MINUTE), 1);
    }
}

impl Place {
    /// Whether the session is counted under this rule.
    #[must_use]
    pub fn is_under(&self, rule: &Arc<Rule>) -> bool {
        self.rule.as_ref().is_some_and(|under| Arc::ptr_eq(under, rule))
    }

    /// This rule holds for the session from now on.
    ///
    /// # Errors
    /// Its limits are reached; the session has its place under the rule before.
    pub fn enter(&mut self, rule: &Arc<Rule>, now: Instant) -> Result<(), TurnedAway> {
        if self.rule.as_ref().is_some_and(|under| under.name == rule.name) {
            // It has its place, if under an older form of the rule.
            self.follow(rule, now);
            return Ok(());
        }
        let mut keys = of_rule(rule, self.origin);
        let mut crowds = self.counts.lock();
        for (key, limits) in keys.iter_mut().zip([&rule.limits.all, &rule.limits.client]) {
            let whose = if key.client.is_some() { Whose::RuleClient } else { Whose::Rule };
            let crowd = crowds.of(key, now);
            may_have_sessions(crowd, limits, now)
                .and_then(|()| may_begin(crowd, limits, now))
                .map_err(|refused| refused.by(whose(rule.name.clone()), false))?;
        }
        for (key, limits) in keys.iter_mut().zip([&rule.limits.all, &rule.limits.client]) {
            let crowd = crowds.of(key, now);
            crowd.sessions = crowd.sessions.saturating_add(1);
            begin(crowd, limits, now);
        }
        drop(crowds);
        self.leave_rule();
        self.rule = Some(Arc::clone(rule));
        Ok(())
    }

    /// This rule holds for the session from now on, and nobody asks whether it may be: the rules have changed.
    pub fn follow(&mut self, rule: &Arc<Rule>, now: Instant) {
        if self.is_under(rule) {
            return;
        }
        let mut crowds = self.counts.lock();
        for mut key in of_rule(rule, self.origin) {
            let crowd = crowds.of(&mut key, now);
            crowd.sessions = crowd.sessions.saturating_add(1);
        }
        drop(crowds);
        self.leave_rule();
        self.rule = Some(Arc::clone(rule));
    }

    /// One more data connection for a session that has one already: those are few, because a client that reads nothing
    /// keeps its own for as long as it likes. `None` where there are too many.
    #[must_use]
    pub fn further_data(&self, now: Instant) -> Option<FurtherData> {
        let mut crowds = self.counts.lock();
        let most = crowds.most_further_data;
        let mut keys = of_gate(self.origin);
        for (key, most) in keys.iter_mut().zip(most) {
            if crowds.of(key, now).further_data >= most {
                return None;
            }
        }
        for key in &mut keys {
            crowds.of(key, now).further_data += 1;
        }
        Some(FurtherData { counts: self.counts.clone(), origin: self.origin })
    }

    fn leave_rule(&mut self) {
        if let Some(rule) = self.rule.take() {
            release(&mut self.counts.lock(), &of_rule(&rule, self.origin));
        }
    }

    /// A login failed: whether the address is turned away from now on.
    pub fn login_failed(&self, limits: &GateLimits, now: Instant) -> Option<Reached> {
        let most = limits.failed_logins?;
        let mut crowds = self.counts.lock();
        let [_, own] = of_gate(self.origin);
        let crowd = crowds.known(&own)?;
        let rate = Rate::of(most, limits.pause);
        let _ = crowd.failed.take(now, rate, 1);
        if crowd.failed.may_take(now, rate, 1).is_ok() {
            return None;
        }
        crowd.paused = now.checked_add(limits.pause);
        crowd.failed = Bucket::default();
        Some(Reached {
            limit: Limit::FailedLogins,
            value: most.to_string(),
            whose: Whose::GateClient,
            is_default: false,
        })
    }

    /// What a data connection of the session has to keep to; `had` are what is left of its session's own rates.
    #[must_use]
    pub fn terms(
        &self,
        gate: &GateLimits,
        rule: &Rule,
        now: Instant,
        had: impl FnOnce() -> [SharedBucket; 2],
    ) -> Terms {
        let limits = &rule.limits;
        let session =
            Together { upload: limits.session.upload, download: limits.session.download, ..Together::default() };
        let mut meters: [Vec<Meter>; 2] = Default::default();
        let mut add = |pacer, limits: &Together, buckets: &[SharedBucket; 2]| {
            for ((meters, rate), bucket) in meters.iter_mut().zip([limits.upload, limits.download]).zip(buckets) {
                meters.extend(rate.map(|in_a_second| Meter { pacer, in_a_second, bucket: Arc::clone(bucket) }));
            }
        };
        let mut crowds = self.counts.lock();
        let [all, own] = of_gate(self.origin);
        let of_client = Key { rule: Some(rule.name.as_str().into()), ..own.clone() };
        for (pacer, limits, mut key) in [
            (Pacer::Gate, &gate.all, all),
            (Pacer::GateClient, &gate.client, own),
            (Pacer::RuleClient, &limits.client, of_client),
        ] {
            if limits.has_pace() {
                add(pacer, limits, crowds.of(&mut key, now).paces());
            }
        }
        drop(crowds);
        if session.has_pace() {
            add(Pacer::Session, &session, &had());
        }
        let [up, down] = meters.map(Pace::new);
        Terms { up, down, size: limits.session.transfer_size, stall: limits.session.stall_timeout }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.leave_rule();
        release(&mut self.counts.lock(), &of_gate(self.origin));
    }
}

fn release(crowds: &mut Crowds, keys: &[Key]) {
    for key in keys {
        if let Some(crowd) = crowds.known(key) {
            crowd.sessions = crowd.sessions.saturating_sub(1);
        }
    }
}

impl Pacer {
    /// What is to be told of a transfer that it holds back.
    #[must_use]
    pub fn reached(self, limit: Limit, in_a_second: u64, rule: &str) -> Reached {
        let whose = match self {
            Self::Gate => Whose::Gate,
            Self::GateClient => Whose::GateClient,
            Self::Session => Whose::Rule(rule.to_owned()),
            Self::RuleClient => Whose::RuleClient(rule.to_owned()),
        };
        Reached { limit, value: format!("{}/s", size(in_a_second)), whose, is_default: false }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;
    use crate::policy::Unwritten;

    fn client(last: u8) -> ClientAddr {
        ClientAddr::new(([192, 0, 2, last], 50_000).into())
    }

    fn sessions(most: u32) -> Together {
        Together { sessions: NonZeroU32::new(most), ..Together::default() }
    }

    fn per_minute(most: u32) -> Together {
        Together { sessions_per_minute: NonZeroU32::new(most), ..Together::default() }
    }

    fn gate(all: Together, client: Together) -> GateLimits {
        GateLimits { all, client, ..GateLimits::default() }
    }

    fn rule(name: &str, all: Together, client: Together) -> Arc<Rule> {
        let mut rule = Rule::new(name, Permission::Allow);
        (rule.limits.all, rule.limits.client) = (all, client);
        Arc::new(rule)
    }

    fn why<T: std::fmt::Debug>(refused: Result<T, TurnedAway>) -> (Limit, Whose) {
        let Reached { limit, whose, .. } = refused.unwrap_err().reached;
        (limit, whose)
    }

    #[test]
    fn sessions_begin_under_a_rule_so_many_times_a_minute() {
        let (counts, now) = (Counts::default(), Instant::now());
        let (limits, rule) = (GateLimits::default(), rule("a", per_minute(3), per_minute(2)));
        let enter = |number, now| counts.admit(&limits, client(number), now).unwrap().enter(&rule, now);
        assert!(enter(1, now).is_ok() && enter(1, now).is_ok());
        assert_eq!(why(enter(1, now)), (Limit::SessionsPerMinute, Whose::RuleClient("a".to_owned())));
        assert!(enter(2, now).is_ok());
        assert_eq!(why(enter(3, now)), (Limit::SessionsPerMinute, Whose::Rule("a".to_owned())));
        assert!(enter(3, now + MINUTE).is_ok());
    }

    #[test]
    fn the_gate_is_asked_before_the_client() {
        let (counts, now) = (Counts::default(), Instant::now());
        let limits = gate(sessions(3), sessions(2));
        let admit = |last| counts.admit(&limits, client(last), now);
        let (first, second) = (admit(1).unwrap(), admit(1).unwrap());
        assert_eq!(why(admit(1)), (Limit::Sessions, Whose::GateClient));
        let _third = admit(2).unwrap();
        assert_eq!(why(admit(1)), (Limit::Sessions, Whose::Gate));
        drop(first);
        assert_eq!(admit(2).map(drop), Ok(()));
        assert_eq!(admit(1).map(drop), Ok(()));
        drop(second);
    }

    #[test]
    fn a_connection_counts_before_its_client_is_known() {
        let (counts, now) = (Counts::default(), Instant::now());
        let limits = gate(sessions(2), sessions(1));
        let first = counts.arrive(&limits, now).unwrap();
        let second = counts.arrive(&limits, now).unwrap();
        assert_eq!(why(counts.arrive(&limits, now)), (Limit::Sessions, Whose::Gate));
        let place = first.admit(&limits, client(1), now).unwrap();
        assert_eq!(why(second.admit(&limits, client(1), now)), (Limit::Sessions, Whose::GateClient));
        // The one that was refused is free again, the other when its session ends.
        drop(counts.arrive(&limits, now).unwrap());
        let other = counts.admit(&limits, client(2), now).unwrap();
        assert_eq!(why(counts.arrive(&limits, now)), (Limit::Sessions, Whose::Gate));
        drop((place, other));
        assert_eq!([(); 2].map(|()| counts.arrive(&limits, now).is_ok()), [true; 2]);
    }

    #[test]
    fn a_limit_that_nobody_wrote_is_said_to_be_the_default() {
        let (counts, now) = (Counts::default(), Instant::now());
        let limits = gate(sessions(2), sessions(1));
        let _place = counts.admit(&limits, client(1), now).unwrap();
        assert!(counts.admit(&limits, client(1), now).unwrap_err().reached.is_default);
        let written = GateLimits { unwritten: Unwritten { all: true, client: false }, ..limits };
        assert!(!counts.admit(&written, client(1), now).unwrap_err().reached.is_default);
    }

    #[test]
    fn who_is_turned_away_takes_nothing_from_others() {
        let (counts, now) = (Counts::default(), Instant::now());
        let limits = gate(per_minute(2), per_minute(1));
        let admit = |last| counts.admit(&limits, client(last), now);
        drop(admit(1).unwrap());
        for _ in 0..10 {
            assert_eq!(why(admit(1)), (Limit::SessionsPerMinute, Whose::GateClient));
        }
        drop(admit(2).unwrap());
        assert_eq!(why(admit(3)), (Limit::SessionsPerMinute, Whose::Gate));
        let later = now + Duration::from_secs(30);
        assert_eq!(counts.admit(&limits, client(3), later).map(drop), Ok(()));
        assert_eq!(counts.admit(&limits, client(1), now + Duration::from_secs(60)).map(drop), Ok(()));
    }

    #[test]
    fn a_place_under_a_rule_is_free_when_the_session_leaves_it() {
        let (counts, now) = (Counts::default(), Instant::now());
        let none = GateLimits::default();
        let (one, other) =
            (rule("one", sessions(1), Together::default()), rule("other", Together::default(), sessions(1)));
        let mut places: Vec<Place> = (1..=3).map(|last| counts.admit(&none, client(last), now).unwrap()).collect();
        let mut again = counts.admit(&none, client(1), now).unwrap();
        places[0].enter(&one, now).unwrap();
        // It has its place already.
        places[0].enter(&one, now).unwrap();
        places[0].enter(&rule("one", sessions(1), Together::default()), now).unwrap();
        assert_eq!(why(places[1].enter(&one, now)), (Limit::Sessions, Whose::Rule("one".into())));
        places[0].enter(&other, now).unwrap();
        places[1].enter(&one, now).unwrap();
        assert_eq!(why(again.enter(&other, now)), (Limit::Sessions, Whose::RuleClient("other".into())));
        places[2].enter(&other, now).unwrap();
        drop(places);
        again.enter(&other, now).unwrap();
        again.enter(&one, now).unwrap();
    }

    #[test]
    fn new_rules_send_nobody_away_and_count_those_who_are_there() {
        let (counts, now) = (Counts::default(), Instant::now());
        let none = GateLimits::default();
        let mut places: Vec<Place> = (1..=3).map(|last| counts.admit(&none, client(last), now).unwrap()).collect();
        let strict = rule("strict", sessions(1), Together::default());
        for place in &mut places {
            place.follow(&strict, now);
        }
        let mut late = counts.admit(&none, client(9), now).unwrap();
        places.truncate(1);
        assert_eq!(why(late.enter(&strict, now)), (Limit::Sessions, Whose::Rule("strict".into())));
        drop(places);
        late.enter(&strict, now).unwrap();
    }

    #[test]
    fn an_address_with_failed_logins_is_turned_away_for_a_pause() {
        let (counts, now) = (Counts::default(), Instant::now());
        let limits = GateLimits { failed_logins: NonZeroU32::new(3), ..GateLimits::default() };
        // They are those of its sessions together.
        for _ in 0..2 {
            assert_eq!(counts.admit(&limits, client(1), now).unwrap().login_failed(&limits, now), None);
        }
        let place = counts.admit(&limits, client(1), now).unwrap();
        let reached = place.login_failed(&limits, now).unwrap();
        assert_eq!((reached.limit, reached.value.as_str()), (Limit::FailedLogins, "3"));
        // A session that was there already begins to count again, and does not tell of each.
        assert_eq!(place.login_failed(&limits, now), None);
        assert_eq!(why(counts.admit(&limits, client(1), now)), (Limit::Pause, Whose::GateClient));
        assert_eq!(counts.admit(&limits, client(2), now).map(drop), Ok(()));
        let later = now + limits.pause;
        assert_eq!(why(counts.admit(&limits, client(1), later - Duration::from_secs(1))).0, Limit::Pause);
        assert_eq!(counts.admit(&limits, client(1), later).unwrap().login_failed(&limits, later), None);
    }

    #[test]
    fn who_is_turned_away_again_and_again_is_told_of_now_and_then() {
        let (counts, now) = (Counts::default(), Instant::now());
        let limits = gate(Together::default(), sessions(1));
        let _place = counts.admit(&limits, client(1), now).unwrap();
        let told = |seconds| counts.admit(&limits, client(1), now + Duration::from_secs(seconds)).unwrap_err().told;
        assert_eq!([0, 1, 9, 10, 11].map(told), [Some(1), None, None, Some(3), None]);
    }

    #[test]
    fn further_data_connections_are_few_for_each_client_and_for_all() {
        let (counts, now) = (Counts::new(Capacity::new(256, 40)), Instant::now());
        let limits = GateLimits::default();
        let places: Vec<Place> = (1..=4).map(|last| counts.admit(&limits, client(last), now).unwrap()).collect();
        let mut taken: Vec<Vec<FurtherData>> =
            places.iter().map(|place| std::iter::from_fn(|| place.further_data(now)).collect()).collect();
        assert_eq!(taken.iter().map(Vec::len).collect::<Vec<_>>(), [8, 8, 0, 0]);
        taken[0].pop();
        assert!(places[1].further_data(now).is_none());
        assert!(places[2].further_data(now).is_some());
    }

    #[test]
    fn a_panic_frees_the_place_too() {
        let (counts, now) = (Counts::default(), Instant::now());
        let limits = gate(sessions(1), Together::default());
        let place = counts.admit(&limits, client(1), now).unwrap();
        let panics = move || {
            let _place = place;
            let _crowds = _place.counts.lock();
            panic!("a fault of ours");
        };
        assert!(std::thread::spawn(panics).join().is_err());
        assert_eq!(counts.admit(&limits, client(1), now).map(drop), Ok(()));
    }

    #[test]
    fn the_terms_are_those_of_all_who_share_them() {
        let (counts, now) = (Counts::default(), Instant::now());
        let pace = |upload, download| Together {
            upload: std::num::NonZeroU64::new(upload),
            download: std::num::NonZeroU64::new(download),
            ..Together::default()
        };
        let limits = gate(pace(1 << 20, 0), Together::default());
        let mut place = counts.admit(&limits, client(1), now).unwrap();
        let plain = rule("plain", Together::default(), Together::default());
        place.enter(&plain, now).unwrap();
        let terms = place.terms(&limits, &plain, now, Default::default);
        assert!(!terms.up.is_none() && terms.down.is_none() && !terms.is_none());
        let other = counts.admit(&limits, client(2), now).unwrap().terms(&limits, &plain, now, Default::default);
        let turns: Vec<bool> = [&terms, &other, &terms, &other, &terms]
            .map(|terms| terms.up.reserve(now, 1 << 20).slowest.is_some())
            .into();
        assert_eq!(turns, [false, false, false, false, true]);
        assert!(place.terms(&GateLimits::default(), &plain, now, Default::default).is_none());
    }
}
