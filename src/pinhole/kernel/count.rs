//! How many bytes a connection has carried.
//!
//! conntrack counts packets with their headers, and what was sent again as often as it was sent. The table's rules
//! note in the connection's labels where each side began, and how far it had heard the other when it said its last:
//! where a connection was closed in order, that is exact. It is not where one side has closed and the other goes on,
//! for nothing tells how far the first has heard it since.

use super::family::Family;

/// Packets of one direction, and their bytes with all headers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counter {
    pub(super) packets: u64,
    pub(super) bytes: u64,
}

/// What conntrack knows of how much was carried. Two of each: by the one that came, and by the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Counters {
    pub(super) family: Family,
    pub(super) seen: [Counter; 2],
    pub(super) notes: Notes,
    /// Which of them has closed first.
    pub(super) closed_first: [bool; 2],
    /// Both have closed, and neither had heard the other do so.
    pub(super) closed_at_once: bool,
}

/// The connection's labels: the first sequence number of each, then how far each had heard the other at its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Notes(pub(super) [u32; 4]);

/// What was carried one way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Carried {
    pub(super) bytes: u64,
    /// It is not known exactly.
    pub(super) is_estimate: bool,
}

/// Not noted.
const NOTHING: u32 = 0;
/// Noted, and then the other went on.
const NOT_ALL: u32 = u32::MAX;

impl Notes {
    /// Whether each side has said its last.
    pub(super) const fn both_have_ended(&self) -> bool {
        let Self([_, _, heard, heard_by_other]) = *self;
        heard != NOTHING && heard_by_other != NOTHING
    }

    /// Whether one side has said its last, and the other has not.
    pub(super) const fn one_has_ended(&self) -> bool {
        let Self([_, _, heard, heard_by_other]) = *self;
        (heard != NOTHING) != (heard_by_other != NOTHING)
    }

    /// Whether a side may yet say its last. Where nothing was noted from the beginning, nothing will be.
    pub(super) const fn may_go_on(&self) -> bool {
        let Self([first, other, ..]) = *self;
        !self.both_have_ended() && (first != NOTHING || other != NOTHING)
    }
}

/// A header of TCP with time stamps, as it is on nearly every packet.
const USUAL_TCP_HEADER: u64 = 32;
/// By how much an estimate may be wrong: headers of another length, what was sent again.
const SLACK: u64 = 1 << 20;

impl Counters {
    /// What arrived: by the one that came, and by the other.
    pub(super) fn payload(&self) -> [Carried; 2] {
        [0, 1].map(|direction| {
            let estimate = self.estimate(direction);
            let exact = self.noted(direction).and_then(|noted| nearest(noted, estimate));
            Carried { bytes: exact.unwrap_or(estimate), is_estimate: exact.is_none() }
        })
    }

    /// Whether nothing but headers went this way, as far as that can be told.
    pub(super) fn is_empty(&self, direction: usize) -> bool {
        self.payload().get(direction).is_none_or(|carried| carried.bytes == 0)
    }

    fn estimate(&self, direction: usize) -> u64 {
        let ip = match self.family {
            Family::V4 => 20,
            Family::V6 => 40,
        };
        self.seen.get(direction).map_or(0, |counter| {
            // The first packet has eight more.
            counter.bytes.saturating_sub(counter.packets * (ip + USUAL_TCP_HEADER) + 8)
        })
    }

    /// The lower 32 bits of the number, where the other side has closed too.
    fn noted(&self, direction: usize) -> Option<u32> {
        let Notes(notes) = self.notes;
        let first = *notes.get(direction)?;
        let heard = *notes.get(2 + (1 - direction))?;
        if first == NOTHING || heard == NOTHING || heard == NOT_ALL {
            return None;
        }
        // The first number is the SYN's; the end is another, and heard only by the side that closed after it.
        let end_was_heard = *self.closed_first.get(direction)? && !self.closed_at_once;
        let both_ends = if end_was_heard { 2 } else { 1 };
        Some(heard.wrapping_sub(first).wrapping_sub(both_ends))
    }
}

/// The number with these lower 32 bits that is nearest to the estimate, if that is near enough to be true.
fn nearest(low: u32, estimate: u64) -> Option<u64> {
    const ROUND: u64 = 1 << 32;
    let base = estimate & !(ROUND - 1) | u64::from(low);
    [base.checked_sub(ROUND), Some(base), base.checked_add(ROUND)]
        .into_iter()
        .flatten()
        .min_by_key(|candidate| candidate.abs_diff(estimate))
        .filter(|candidate| candidate.abs_diff(estimate) <= SLACK + estimate / 8)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counters() -> Counters {
        Counters {
            family: Family::V4,
            seen: [Counter { packets: 5, bytes: 268 }, Counter { packets: 4, bytes: 1216 }],
            notes: Notes([100, 200, 1202, 101]),
            closed_first: [false, true],
            closed_at_once: false,
        }
    }

    fn exactly(bytes: [u64; 2]) -> [Carried; 2] {
        bytes.map(|bytes| Carried { bytes, is_estimate: false })
    }

    #[test]
    fn a_transfer_closed_in_order_is_counted_exactly() {
        let download = counters();
        assert_eq!(download.payload(), exactly([0, 1000]));
        // The one that came closed first and had heard nothing.
        let upload = Counters {
            notes: Notes([100, 200, 201, 1102]),
            closed_first: [true, false],
            seen: [Counter { packets: 4, bytes: 1216 }, Counter::default()],
            ..counters()
        };
        assert_eq!(upload.payload(), exactly([1000, 0]));
    }

    #[test]
    fn an_end_that_was_not_heard_is_not_taken_off() {
        let notes = Notes([100, 200, 1201, 101]);
        let at_once = Counters { notes, closed_at_once: true, ..counters() };
        assert_eq!(at_once.payload(), exactly([0, 1000]));
        // The one that came knew how much there would be, and closed first.
        let knowing = Counters { notes: Notes([100, 200, 1201, 102]), closed_first: [true, false], ..counters() };
        assert_eq!(knowing.payload(), exactly([0, 1000]));
    }

    #[test]
    fn numbers_go_round() {
        let long = 5 * (1 << 32) + 17;
        let counters = Counters {
            notes: Notes([0xffff_ff00, 0xffff_fff0, 0xffff_fff0_u32.wrapping_add(17 + 2), 0xffff_ff02]),
            seen: [Counter::default(), Counter { packets: 1_000_000, bytes: long + 60_000_000 }],
            ..counters()
        };
        assert_eq!(counters.payload()[1], Carried { bytes: long, is_estimate: false });
    }

    #[test]
    fn what_was_cut_is_estimated() {
        let estimate = [0, 1000].map(|bytes| Carried { bytes, is_estimate: true });
        let cut = Counters { notes: Notes([100, 200, 0, 0]), ..counters() };
        assert_eq!(cut.payload(), estimate);
        assert!(cut.is_empty(0) && !cut.is_empty(1));
        // Labels of somebody else's.
        let strange = Counters { notes: Notes([1, 2, 0x7fff_0000, 0x7000_0000]), ..counters() };
        assert_eq!(strange.payload(), estimate);
    }

    #[test]
    fn who_goes_on_after_the_others_last_word_is_estimated() {
        let half_closed =
            Counters { notes: Notes([100, 200, NOT_ALL, 102]), closed_first: [true, false], ..counters() };
        assert_eq!(half_closed.payload()[1], Carried { bytes: 1000, is_estimate: true });
        assert!(!half_closed.is_empty(1));
    }

    #[test]
    fn both_have_ended_when_both_are_noted() {
        for (notes, one, both, may_go_on) in [
            ([1, 1, 0, 0], false, false, true),
            ([1, 1, 0, 5], true, false, true),
            ([1, 1, NOT_ALL, 0], true, false, true),
            ([1, 1, 5, 5], false, true, false),
            ([0; 4], false, false, false),
        ] {
            let noted = Notes(notes);
            let told = (noted.one_has_ended(), noted.both_have_ended(), noted.may_go_on());
            assert_eq!(told, (one, both, may_go_on), "{notes:?}");
        }
    }
}
