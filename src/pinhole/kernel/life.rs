//! One connection through a pinhole of the kernel's, from conntrack's sightings of it.
//!
//!   Waiting --first packet--> Came --both have spoken--> Moving --closed, reset, forgotten--> over

use std::io::ErrorKind;
use std::time::Instant;

use super::conntrack::{Flow, Sighting, TcpState};
use super::mark::Mark;
use crate::addr::Side;
use crate::session::HowEnded;

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Nobody came.
    Waiting,
    /// The peer has; the one that it is led to has not answered.
    Came {
        flow: Flow,
        /// How long that one has.
        until: Instant,
    },
    /// Both have spoken.
    Moving {
        flow: Flow,
        /// One of them has said all.
        closing: bool,
        /// conntrack holds that both have, and have heard so. It takes one that says so twice for both.
        settled: bool,
    },
}

/// What a sighting means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Turn {
    /// Both have spoken, for the first time.
    pub(super) started: bool,
    /// It is over.
    pub(super) over: Option<HowEnded>,
}

impl Stage {
    pub(super) const fn flow(&self) -> Option<Flow> {
        match self {
            Self::Waiting => None,
            Self::Came { flow, .. } | Self::Moving { flow, .. } => Some(*flow),
        }
    }

    /// Whether conntrack holds it to be over.
    pub(super) const fn is_settled(&self) -> bool {
        matches!(self, Self::Moving { settled: true, .. })
    }

    /// Takes a sighting of this connection; `comer` is the side that came.
    pub(super) fn see(&mut self, sighting: &Sighting, comer: Side) -> Turn {
        let mut turn = Turn::default();
        let state = sighting.state;
        if let (Self::Came { flow, .. }, Some(TcpState::Open | TcpState::Closing | TcpState::TimeWait)) = (*self, state)
        {
            turn.started = true;
            *self = Self::Moving { flow, closing: false, settled: false };
        }
        turn.over = match (&mut *self, state) {
            (Self::Came { .. }, Some(TcpState::Reset)) => Some(refused(sighting.mark, comer)),
            (Self::Came { .. }, _) if sighting.is_gone => Some(not_reached(comer, ErrorKind::TimedOut)),
            (Self::Moving { .. }, Some(TcpState::Reset)) => Some(reset(sighting, comer)),
            (Self::Moving { closing, settled, .. }, state) => {
                *closing |= matches!(state, Some(TcpState::Closing | TcpState::TimeWait));
                *settled |= state == Some(TcpState::TimeWait);
                if *settled && sighting.counters.is_some_and(|counters| !counters.notes.may_go_on()) {
                    Some(HowEnded::Complete)
                } else {
                    // Somebody else has deleted a connection that was not at its end.
                    sighting.is_gone.then_some(if *closing { HowEnded::Complete } else { HowEnded::Aborted })
                }
            }
            (Self::Waiting | Self::Came { .. }, _) => None,
        };
        turn
    }
}

const fn not_reached(comer: Side, error: ErrorKind) -> HowEnded {
    HowEnded::NotReached { side: comer.other(), error }
}

/// A reset before both have spoken.
const fn refused(mark: Mark, comer: Side) -> HowEnded {
    if mark.has(Mark::RESET_BY_ORIGINAL) && !mark.has(Mark::RESET_BY_REPLY) {
        return HowEnded::CutBy(comer);
    }
    not_reached(comer, ErrorKind::ConnectionRefused)
}

/// A peer that has closed in order and was never sent a byte cuts nothing by a reset: its kernel has forgotten a
/// connection that took the other side long to close.
fn reset(sighting: &Sighting, comer: Side) -> HowEnded {
    let (by, direction) = if sighting.mark.has(Mark::RESET_BY_ORIGINAL) { (comer, 0) } else { (comer.other(), 1) };
    let harmless = sighting.counters.is_some_and(|counters| {
        counters.closed_first.get(direction).is_some_and(|first| *first) && counters.is_empty(1 - direction)
    });
    if harmless { HowEnded::Complete } else { HowEnded::CutBy(by) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pinhole::kernel::count::{Counter, Counters, Notes};
    use crate::pinhole::kernel::family::Family;
    use crate::pinhole::kernel::mark::OURS;

    fn flow() -> Flow {
        Flow { from: "192.0.2.1:5000".parse().unwrap(), at: "192.0.2.2:10001".parse().unwrap() }
    }

    fn came() -> Stage {
        Stage::Came { flow: flow(), until: Instant::now() }
    }

    fn saw(state: TcpState, bits: u32) -> Sighting {
        Sighting {
            flow: flow(),
            to: None,
            mark: Mark(OURS | bits),
            state: Some(state),
            is_new: false,
            is_gone: false,
            notes: None,
            closed_at_once: false,
            counters: None,
        }
    }

    fn looked_at(sighting: Sighting, notes: [u32; 4]) -> Sighting {
        let counters = Counters {
            family: Family::V4,
            seen: [Counter { packets: 10, bytes: 9000 }, Counter { packets: 5, bytes: 5 * 52 + 8 }],
            notes: Notes(notes),
            closed_first: [true, false],
            closed_at_once: false,
        };
        Sighting { counters: Some(counters), ..sighting }
    }

    fn gone() -> Sighting {
        Sighting { state: None, is_gone: true, ..saw(TcpState::Open, 0) }
    }

    /// The side that came is the client: passive mode.
    fn told(stage: Stage, sightings: &[Sighting]) -> Vec<Turn> {
        let mut stage = stage;
        sightings.iter().map(|sighting| stage.see(sighting, Side::Client)).collect()
    }

    fn end(stage: Stage, sightings: &[Sighting]) -> Option<HowEnded> {
        told(stage, sightings).last().unwrap().over
    }

    #[test]
    fn it_starts_once_and_ends_in_order() {
        use TcpState::{Closing, Open, SynSent, TimeWait};
        let before = [SynSent, Open, Open, Closing, Closing].map(|state| saw(state, 0));
        let end = looked_at(saw(TimeWait, 0), [1, 1, 2, 8493]);
        let turns = told(came(), &[&before[..], &[end]].concat());
        assert_eq!(
            turns.iter().map(|turn| turn.started).collect::<Vec<_>>(),
            [false, true, false, false, false, false]
        );
        assert_eq!(turns.iter().filter_map(|turn| turn.over).collect::<Vec<_>>(), [HowEnded::Complete]);
        assert!(turns.last().unwrap().over.is_some());
    }

    #[test]
    fn who_says_its_last_twice_has_not_ended_for_both() {
        use TcpState::{Closing, Open, Reset, TimeWait};
        let noted = Sighting { state: None, ..saw(Open, 0) };
        let early = [saw(Open, 0), saw(Closing, 0), saw(Closing, 0), looked_at(saw(TimeWait, 0), [1, 1, 2, 0])];
        assert_eq!(end(came(), &early), None);
        let then = |last| end(came(), &[&early[..], &[last]].concat());
        assert_eq!(then(looked_at(noted, [1, 1, 2, 8493])), Some(HowEnded::Complete));
        assert_eq!(then(saw(Reset, Mark::RESET_BY_REPLY)), Some(HowEnded::CutBy(Side::Server)));
        assert_eq!(then(gone()), Some(HowEnded::Complete));
        // A kernel that notes nothing.
        assert_eq!(end(came(), &[saw(Open, 0), looked_at(saw(TimeWait, 0), [0; 4])]), Some(HowEnded::Complete));
    }

    #[test]
    fn who_does_not_answer_is_named() {
        let refused = [saw(TcpState::SynSent, 0), saw(TcpState::Reset, Mark::RESET_BY_REPLY)];
        let not_reached = |error| Some(HowEnded::NotReached { side: Side::Server, error });
        assert_eq!(end(came(), &refused), not_reached(ErrorKind::ConnectionRefused));
        assert_eq!(end(came(), &[gone()]), not_reached(ErrorKind::TimedOut));
        let given_up = saw(TcpState::Reset, Mark::RESET_BY_ORIGINAL);
        assert_eq!(end(came(), &[given_up]), Some(HowEnded::CutBy(Side::Client)));
    }

    #[test]
    fn who_resets_is_named() {
        let open = saw(TcpState::Open, 0);
        let reset = |bits| end(came(), &[open, saw(TcpState::Reset, bits)]);
        assert_eq!(reset(Mark::RESET_BY_ORIGINAL), Some(HowEnded::CutBy(Side::Client)));
        assert_eq!(reset(Mark::RESET_BY_REPLY), Some(HowEnded::CutBy(Side::Server)));
    }

    #[test]
    fn a_reset_after_the_last_word_cuts_nothing() {
        let reset = |notes, bytes: u64| {
            let mut reset = looked_at(saw(TcpState::Reset, Mark::RESET_BY_ORIGINAL), notes);
            reset.counters.as_mut().unwrap().seen[1] = Counter { packets: 5, bytes: 5 * 52 + 8 + bytes };
            end(came(), &[saw(TcpState::Open, 0), reset])
        };
        let (harmless, cut) = (Some(HowEnded::Complete), Some(HowEnded::CutBy(Side::Client)));
        // By estimate, and as noted, whatever was sent again.
        assert_eq!(reset([1, 1, 0, 0], 0), harmless);
        assert_eq!(reset([1, 1, 0, 0], 792), cut);
        assert_eq!(reset([1, 1, 2, 0], 12), harmless);
        assert_eq!(reset([1, 1, 802, 0], 800), cut);
        // The other has gone on since.
        assert_eq!(reset([1, 1, u32::MAX, 0], 800), cut);
    }

    #[test]
    fn what_is_forgotten_in_the_middle_was_cut() {
        let open = saw(TcpState::Open, 0);
        assert_eq!(end(came(), &[open, gone()]), Some(HowEnded::Aborted));
        assert_eq!(end(came(), &[open, saw(TcpState::Closing, 0), gone()]), Some(HowEnded::Complete));
    }
}
