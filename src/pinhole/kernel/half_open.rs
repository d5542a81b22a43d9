//! Connections to a pinhole whose handshake is not complete.
//!
//! Anybody can send the first packet of one with the peer's address. None of them uses the pinhole; how they end tells
//! whether the peer that the pinhole leads to can be reached at all.

use std::time::{Duration, Instant};

use super::conntrack::{Flow, Sighting, TcpState};
use super::mark::Mark;
use crate::session::WhyHalfOpen;

/// How many are watched at a time; more than that are not the peer's.
const MOST: usize = 8;

/// How long one that was answered may take to say so, where it keeps others from beginning.
const ALONE_FOR: Duration = Duration::from_secs(2);

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct One {
    flow: Flow,
    /// How long the destination has to answer.
    until: Instant,
    answered: bool,
    /// The SYN was sent again.
    repeated: bool,
}

/// Those of one pinhole.
#[derive(Debug)]
pub(super) struct HalfOpen {
    watched: Vec<One>,
    /// Whether there can be but one at a time: where the destination sees all of them come from the same
    /// port, conntrack drops the first packet of the next one as long as it remembers the last.
    is_exclusive: bool,
    was_told: bool,
}

/// The outcome of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Nothing yet.
    Open,
    /// The destination refused it.
    Refused,
    /// The originator does not complete the handshake. Nothing tells who it was where it was reset before it was
    /// answered: the destination knew an earlier connection with the same addresses and ports and said so, and the
    /// originator begins once more.
    GivenUp(Option<WhyHalfOpen>),
}

/// What is to be done about one that has been half open for long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Overdue {
    /// The destination does not answer, although the SYN was repeated.
    NoAnswer(Flow),
    /// It was answered, and that was not acknowledged: the pinhole still waits.
    Unacknowledged(Flow),
    /// Its first packet was lost behind the gate, and the originator does not repeat it.
    NotRepeated(Flow),
}

impl HalfOpen {
    pub(super) const fn new(is_exclusive: bool) -> Self {
        Self { watched: Vec::new(), is_exclusive, was_told: false }
    }

    /// Whether one that comes to nothing is to be forgotten for the next one to begin.
    pub(super) const fn is_exclusive(&self) -> bool {
        self.is_exclusive
    }

    /// Watches one more, where there is room.
    pub(super) fn begin(&mut self, flow: Flow, until: Instant) -> bool {
        let has_room = self.watched.len() < MOST;
        if has_room {
            self.watched.push(One { flow, until, answered: false, repeated: false });
        }
        has_room
    }

    /// Takes a sighting of one that is watched; it is not any more where something came of it.
    pub(super) fn see(&mut self, now: Instant, sighting: &Sighting) -> Outcome {
        let Some(index) = self.watched.iter().position(|one| one.flow == sighting.flow) else { return Outcome::Open };
        let Some(one) = self.watched.get_mut(index) else { return Outcome::Open };
        if !one.answered && matches!(sighting.state, Some(TcpState::SynReceived | TcpState::Open)) {
            one.answered = true;
            one.until = if self.is_exclusive { one.until.min(now + ALONE_FOR) } else { one.until };
        }
        one.repeated |= sighting.mark.has(Mark::REPEATED);
        let outcome = match sighting.state {
            Some(TcpState::Reset) if sighting.mark.has(Mark::RESET_BY_ORIGINAL) => {
                Outcome::GivenUp(one.answered.then_some(WhyHalfOpen::Reset))
            }
            Some(TcpState::Reset) => Outcome::Refused,
            _ if sighting.is_gone => Outcome::GivenUp(Some(WhyHalfOpen::Silent)),
            _ => return Outcome::Open,
        };
        self.watched.swap_remove(index);
        outcome
    }

    /// One that has been half open for too long, if there is any; it is not watched any more.
    pub(super) fn overdue(&mut self, now: Instant) -> Option<Overdue> {
        let index = self.watched.iter().position(|one| one.until <= now)?;
        let One { flow, answered, repeated, .. } = self.watched.swap_remove(index);
        // Where another one was answered the peer is there.
        let others_were = self.watched.iter().any(|one| one.answered);
        Some(match answered {
            true => Overdue::Unacknowledged(flow),
            false if repeated && !others_were => Overdue::NoAnswer(flow),
            false => Overdue::NotRepeated(flow),
        })
    }

    /// One of them is to be told of: true once.
    pub(super) const fn tell(&mut self) -> bool {
        !std::mem::replace(&mut self.was_told, true)
    }

    /// Those that are watched, which they are not any more.
    pub(super) fn take(&mut self) -> Vec<Flow> {
        self.watched.drain(..).map(|one| one.flow).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::pinhole::kernel::mark::OURS;

    fn flow(port: u16) -> Flow {
        Flow { from: ([192, 0, 2, 1], port).into(), at: ([192, 0, 2, 2], 10_001).into() }
    }

    fn saw(port: u16, state: TcpState, bits: u32) -> Sighting {
        let gone = Sighting::of_the_gone(flow(port), false);
        Sighting { mark: Mark(OURS | Mark::HALF_OPEN | bits), state: Some(state), is_gone: false, ..gone }
    }

    fn watching(ports: &[u16]) -> (HalfOpen, Instant) {
        let (mut half_open, now) = (HalfOpen::new(false), Instant::now());
        assert!(ports.iter().all(|port| half_open.begin(flow(*port), now)));
        (half_open, now)
    }

    #[test]
    fn what_comes_of_each_is_told_apart() {
        use TcpState::{Reset, SynReceived, SynSent};
        let (mut half_open, now) = watching(&[1, 2, 3]);
        assert_eq!(half_open.see(now, &saw(1, SynSent, 0)), Outcome::Open);
        assert_eq!(half_open.see(now, &saw(1, Reset, Mark::RESET_BY_REPLY)), Outcome::Refused);
        assert_eq!(half_open.see(now, &saw(2, SynReceived, 0)), Outcome::Open);
        assert_eq!(
            half_open.see(now, &saw(2, Reset, Mark::RESET_BY_ORIGINAL)),
            Outcome::GivenUp(Some(WhyHalfOpen::Reset))
        );
        let gone = Sighting::of_the_gone(flow(3), false);
        assert_eq!(half_open.see(now, &gone), Outcome::GivenUp(Some(WhyHalfOpen::Silent)));
        assert_eq!(half_open.take(), []);
        let (mut half_open, now) = watching(&[1]);
        assert_eq!(half_open.see(now, &saw(1, Reset, Mark::RESET_BY_ORIGINAL)), Outcome::GivenUp(None));
    }

    #[test]
    fn a_peer_is_silent_only_where_it_was_asked_again_and_answers_nobody() {
        let again = |port| saw(port, TcpState::SynSent, Mark::REPEATED);
        let (mut half_open, now) = watching(&[1]);
        half_open.see(now, &again(1));
        assert_eq!(half_open.overdue(now - Duration::from_secs(1)), None);
        assert_eq!(half_open.overdue(now), Some(Overdue::NoAnswer(flow(1))));
        let (mut half_open, now) = watching(&[1]);
        assert_eq!(half_open.overdue(now), Some(Overdue::NotRepeated(flow(1))));
        let (mut half_open, now) = watching(&[1, 2]);
        half_open.see(now, &again(1));
        half_open.see(now, &saw(2, TcpState::SynReceived, 0));
        assert_eq!(half_open.overdue(now), Some(Overdue::NotRepeated(flow(1))));
        assert_eq!(half_open.overdue(now), Some(Overdue::Unacknowledged(flow(2))));
        assert_eq!(half_open.overdue(now), None);
    }

    #[test]
    fn one_that_is_alone_is_soon_given_up() {
        let now = Instant::now();
        for (is_exclusive, after) in [(true, ALONE_FOR), (false, Duration::from_secs(10))] {
            let mut half_open = HalfOpen::new(is_exclusive);
            half_open.begin(flow(1), now + Duration::from_secs(10));
            half_open.see(now, &saw(1, TcpState::SynReceived, 0));
            assert_eq!(half_open.overdue(now + after - Duration::from_millis(1)), None);
            assert_eq!(half_open.overdue(now + after), Some(Overdue::Unacknowledged(flow(1))));
        }
    }

    #[test]
    fn a_flood_is_not_watched() {
        let (mut half_open, now) = (HalfOpen::new(false), Instant::now());
        assert_eq!((0..1000).filter(|port| half_open.begin(flow(*port), now)).count(), MOST);
        assert!(half_open.tell() && !half_open.tell());
    }
}
