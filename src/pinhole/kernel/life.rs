//! One connection through a pinhole of the kernel's, from conntrack's sightings of it.
//!
//!   Waiting --a handshake is complete--> Moving --closed, reset, forgotten--> over
//!
//! While a pinhole waits there may be connections whose handshake is not complete: see [`super::half_open`].

use super::conntrack::{Flow, Sighting, TcpState};
use super::count::Notes;
use super::mark::Mark;
use crate::addr::Side;
use crate::session::HowEnded;

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// No connection stands.
    Waiting,
    /// One does.
    Moving {
        flow: Flow,
        /// One of them has said all.
        closing: bool,
        /// conntrack holds that both have, and have heard so. It takes one that says so twice for both.
        settled: bool,
        /// As far as they were told.
        notes: Notes,
    },
}

impl Stage {
    /// A connection has used the pinhole.
    pub(super) const fn used_by(flow: Flow) -> Self {
        Self::Moving { flow, closing: false, settled: false, notes: Notes([0; 4]) }
    }

    pub(super) const fn flow(&self) -> Option<Flow> {
        match self {
            Self::Waiting => None,
            Self::Moving { flow, .. } => Some(*flow),
        }
    }

    /// The connection, where one side has ended its direction and the other has not.
    pub(super) const fn half_closed(&self) -> Option<Flow> {
        match self {
            Self::Moving { flow, notes, .. } if notes.one_has_ended() => Some(*flow),
            Self::Moving { .. } | Self::Waiting => None,
        }
    }

    /// Whether conntrack holds it to be over.
    pub(super) const fn is_settled(&self) -> bool {
        matches!(self, Self::Moving { settled: true, .. })
    }

    /// Takes a sighting of this connection; `comer` is the side that came. How it ended, where it is over.
    pub(super) fn see(&mut self, sighting: &Sighting, comer: Side) -> Option<HowEnded> {
        let Self::Moving { closing, settled, notes, .. } = self else { return None };
        if let Some(noted) = sighting.notes.or_else(|| sighting.counters.map(|counters| counters.notes)) {
            *notes = noted;
        }
        let state = sighting.state;
        if state == Some(TcpState::Reset) {
            return Some(reset(sighting, comer));
        }
        *closing |= matches!(state, Some(TcpState::Closing | TcpState::TimeWait));
        *settled |= state == Some(TcpState::TimeWait);
        if *settled && sighting.counters.is_some_and(|counters| !counters.notes.may_go_on()) {
            return Some(HowEnded::Complete);
        }
        // Somebody else has deleted a connection that was not at its end. One that is half closed does not end by itself:
        // see `flows`.
        let was_at_its_end = *closing && !notes.one_has_ended();
        sighting.is_gone.then_some(if was_at_its_end { HowEnded::Complete } else { HowEnded::Aborted })
    }
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

    fn moving() -> Stage {
        Stage::used_by(flow())
    }

    fn saw(state: TcpState, bits: u32) -> Sighting {
        Sighting {
            flow: flow(),
            id: None,
            to: None,
            mark: Mark(OURS | bits),
            state: Some(state),
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
    fn told(stage: Stage, sightings: &[Sighting]) -> Vec<Option<HowEnded>> {
        let mut stage = stage;
        sightings.iter().map(|sighting| stage.see(sighting, Side::Client)).collect()
    }

    fn end(stage: Stage, sightings: &[Sighting]) -> Option<HowEnded> {
        *told(stage, sightings).last().unwrap()
    }

    #[test]
    fn it_ends_once_and_in_order() {
        use TcpState::{Closing, Open, TimeWait};
        let before = [Open, Open, Closing, Closing].map(|state| saw(state, 0));
        let end = looked_at(saw(TimeWait, 0), [1, 1, 2, 8493]);
        let told = told(moving(), &[&before[..], &[end]].concat());
        assert_eq!(told, [None, None, None, None, Some(HowEnded::Complete)]);
    }

    #[test]
    fn who_says_its_last_twice_has_not_ended_for_both() {
        use TcpState::{Closing, Open, Reset, TimeWait};
        let noted = Sighting { state: None, ..saw(Open, 0) };
        let early = [saw(Open, 0), saw(Closing, 0), saw(Closing, 0), looked_at(saw(TimeWait, 0), [1, 1, 2, 0])];
        assert_eq!(end(moving(), &early), None);
        let then = |last| end(moving(), &[&early[..], &[last]].concat());
        assert_eq!(then(looked_at(noted, [1, 1, 2, 8493])), Some(HowEnded::Complete));
        assert_eq!(then(saw(Reset, Mark::RESET_BY_REPLY)), Some(HowEnded::CutBy(Side::Server)));
        assert_eq!(then(gone()), Some(HowEnded::Aborted));
        // A kernel that notes nothing.
        assert_eq!(end(moving(), &[saw(Open, 0), looked_at(saw(TimeWait, 0), [0; 4])]), Some(HowEnded::Complete));
    }

    #[test]
    fn who_resets_is_named() {
        let open = saw(TcpState::Open, 0);
        let reset = |bits| end(moving(), &[open, saw(TcpState::Reset, bits)]);
        assert_eq!(reset(Mark::RESET_BY_ORIGINAL), Some(HowEnded::CutBy(Side::Client)));
        assert_eq!(reset(Mark::RESET_BY_REPLY), Some(HowEnded::CutBy(Side::Server)));
    }

    #[test]
    fn a_reset_after_the_last_word_cuts_nothing() {
        let reset = |notes, bytes: u64| {
            let mut reset = looked_at(saw(TcpState::Reset, Mark::RESET_BY_ORIGINAL), notes);
            reset.counters.as_mut().unwrap().seen[1] = Counter { packets: 5, bytes: 5 * 52 + 8 + bytes };
            end(moving(), &[saw(TcpState::Open, 0), reset])
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
        assert_eq!(end(moving(), &[open, gone()]), Some(HowEnded::Aborted));
        assert_eq!(end(moving(), &[open, saw(TcpState::Closing, 0), gone()]), Some(HowEnded::Complete));
    }
}
