//! When a rule holds: days of the week and times of the day, in a time zone.

use std::fmt;

use jiff::civil::{Date, Time, Weekday};
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{Timestamp, ToSpan as _};

/// The spans of time in which a rule holds: any of these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hours(pub Vec<Span>);

/// A span of time on some days of each week.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// The days on which it begins, from Monday.
    pub days: [bool; 7],
    /// When it begins.
    pub from: Time,
    /// When it ends: on the next day where that is not after its beginning.
    pub until: Time,
    /// Where the clocks show that.
    pub zone: TimeZone,
    /// As it was written.
    pub written: String,
}

impl Hours {
    /// Whether the rule holds at this moment.
    #[must_use]
    pub fn contain(&self, at: Timestamp) -> bool {
        self.0.iter().any(|span| span.contains(at))
    }

    /// When that may change next: the first beginning or end after this moment.
    #[must_use]
    pub fn next_change(&self, at: Timestamp) -> Option<Timestamp> {
        let spans = self.0.iter().flat_map(|span| span.around(at));
        spans.flat_map(|(from, until)| [from, until]).filter(|change| *change > at).min()
    }
}

impl Span {
    fn contains(&self, at: Timestamp) -> bool {
        self.around(at).into_iter().any(|(from, until)| from <= at && at < until)
    }

    /// The beginning and the end of each time that it comes round, from yesterday to this day next week.
    fn around(&self, at: Timestamp) -> Vec<(Timestamp, Timestamp)> {
        let today = self.zone.to_datetime(at).date();
        let day = |offset: i64| today.checked_add(offset.days()).ok();
        (-1..=8).filter_map(day).filter(|day| self.begins_on(day.weekday())).filter_map(|day| self.on(day)).collect()
    }

    fn begins_on(&self, day: Weekday) -> bool {
        usize::try_from(day.to_monday_zero_offset())
            .ok()
            .and_then(|day| self.days.get(day))
            .is_some_and(|begins| *begins)
    }

    /// A time that the clocks skip is the moment at which they do.
    fn on(&self, day: Date) -> Option<(Timestamp, Timestamp)> {
        let end = if self.until > self.from { day } else { day.tomorrow().ok()? };
        let moment = |day: Date, time: Time| {
            let shown = self.zone.to_ambiguous_timestamp(day.to_datetime(time));
            match shown.offset() {
                AmbiguousOffset::Gap { .. } => {
                    let before = shown.earlier().ok()?;
                    Some(self.zone.following(before).next()?.timestamp())
                }
                AmbiguousOffset::Unambiguous { .. } | AmbiguousOffset::Fold { .. } => shown.compatible().ok(),
            }
        };
        Some((moment(day, self.from)?, moment(end, self.until)?))
    }
}

impl fmt::Display for Hours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.iter().map(|span| span.written.as_str()).collect::<Vec<_>>().join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hours(days: [u8; 7], from: &str, until: &str) -> Hours {
        let zone = TimeZone::get("Europe/Berlin").unwrap();
        let (from, until) = (from.parse().unwrap(), until.parse().unwrap());
        Hours(vec![Span { days: days.map(|day| day == 1), from, until, zone, written: String::new() }])
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn working_hours_follow_the_clocks_of_the_zone() {
        let hours = hours([1, 1, 1, 1, 1, 0, 0], "08:00", "18:00");
        // A Monday in winter, and one in summer.
        for (moment, holds) in [
            ("2026-01-12T06:59:59Z", false),
            ("2026-01-12T07:00:00Z", true),
            ("2026-01-12T16:59:59Z", true),
            ("2026-01-12T17:00:00Z", false),
            ("2026-07-13T06:00:00Z", true),
            ("2026-07-13T16:00:00Z", false),
            ("2026-01-10T12:00:00Z", false),
        ] {
            assert_eq!(hours.contain(at(moment)), holds, "{moment}");
        }
        assert_eq!(hours.next_change(at("2026-01-09T17:00:00Z")), Some(at("2026-01-12T07:00:00Z")));
        assert_eq!(hours.next_change(at("2026-01-12T07:00:00Z")), Some(at("2026-01-12T17:00:00Z")));
    }

    #[test]
    fn a_night_belongs_to_the_day_on_which_it_begins() {
        let hours = hours([0, 0, 0, 0, 1, 0, 0], "22:00", "06:00");
        for (moment, holds) in [
            ("2026-01-09T20:59:00Z", false),
            ("2026-01-09T21:00:00Z", true),
            ("2026-01-10T04:59:00Z", true),
            ("2026-01-10T05:00:00Z", false),
            ("2026-01-10T21:30:00Z", false),
        ] {
            assert_eq!(hours.contain(at(moment)), holds, "{moment}");
        }
    }

    #[test]
    fn what_the_clocks_skip_is_no_time() {
        // At 01:00 UTC they go from 02:00 to 03:00.
        let until = hours([0, 0, 0, 0, 0, 0, 1], "01:00", "02:30");
        let from = hours([0, 0, 0, 0, 0, 0, 1], "02:30", "04:00");
        for (moment, before, after) in [
            ("2026-03-29T00:59:59Z", true, false),
            ("2026-03-29T01:00:00Z", false, true),
            ("2026-03-29T01:59:59Z", false, true),
            ("2026-03-29T02:00:00Z", false, false),
        ] {
            assert_eq!((until.contain(at(moment)), from.contain(at(moment))), (before, after), "{moment}");
        }
    }

    #[test]
    fn a_whole_day_is_from_midnight_to_midnight() {
        // The day on which the clocks go forward has 23 hours.
        let hours = hours([0, 0, 0, 0, 0, 0, 1], "00:00", "00:00");
        assert!(hours.contain(at("2026-03-28T23:00:00Z")));
        assert!(hours.contain(at("2026-03-29T21:59:59Z")));
        assert!(!hours.contain(at("2026-03-29T22:00:00Z")));
    }
}
