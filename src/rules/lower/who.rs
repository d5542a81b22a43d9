//! Whom a rule is for, besides addresses: listeners, users, hours.

use jiff::civil::Time;
use jiff::tz::TimeZone;

use super::super::near::nearest;
use super::super::place::{At, Fault, quoted};
use super::super::schema::{self, Many};
use super::fault;
use crate::policy::{Globs, Hours, Span};

/// How a span of time is written.
const EXAMPLE: &str = "Mon-Fri 08:00-18:00 Europe/Berlin";
const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// The listeners of a rule; `known` are those of the file, where they could be read.
pub(super) fn listeners(
    Many(list): &Many<schema::ListenerName>,
    known: Option<&[String]>,
    at: &At<'_>,
) -> Option<Vec<String>> {
    if list.is_empty() {
        at.mistake(
            "this list is empty, which would be no listener",
            "name listeners, or leave `listener` out for every one",
        );
        return None;
    }
    let one = |schema::ListenerName(name): &schema::ListenerName| match known {
        Some(known) if !known.contains(name) => {
            let known: Vec<&str> = known.iter().map(String::as_str).collect();
            let near = nearest(name, &known).map(|near| format!("did you mean `{near}`? ")).unwrap_or_default();
            fault(
                format!("there is no listener {}", quoted(name)),
                format!("{near}listeners here: {}", known.join(", ")),
            )
        }
        _ => Ok(name.clone()),
    };
    all(list, at, one)
}

/// The users of a rule.
pub(super) fn users(Many(list): &Many<schema::User>, at: &At<'_>) -> Option<Globs> {
    if list.is_empty() {
        at.mistake("this list is empty, which would be nobody", "name users, or leave `users` out for everybody");
        return None;
    }
    let written = all(list, at, |schema::User(name)| {
        if name.is_empty() {
            return fault("this name is empty", "write a user's name, or a pattern such as \"edi-*\"");
        }
        pattern(name, Globs::for_names)
    })?;
    Globs::for_names(written).ok()
}

/// One pattern, tried.
pub(super) fn pattern(
    text: &str,
    build: impl Fn(Vec<String>) -> Result<Globs, globset::Error>,
) -> Result<String, Fault> {
    match build(vec![text.to_owned()]) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => fault(
            format!("{} is no pattern: {}", quoted(text), error.kind()),
            "close each [ and {, and write \\[ where the character itself is meant",
        ),
    }
}

/// The hours of a rule.
pub(super) fn hours(Many(list): &Many<schema::Hours>, at: &At<'_>) -> Option<Hours> {
    if list.is_empty() {
        let help = format!("write such as \"{EXAMPLE}\", or leave `hours` out for always");
        at.mistake("this list is empty, which would be never", help);
        return None;
    }
    all(list, at, |schema::Hours(text)| span(text)).map(Hours)
}

/// `Mon-Fri 08:00-18:00 Europe/Berlin`, and `daily` for every day.
fn span(text: &str) -> Result<Span, Fault> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let &[on, times, zone] = words.as_slice() else {
        let message = format!("{} has not three parts: days, times and a time zone", quoted(text));
        return fault(message, format!("write such as \"{EXAMPLE}\""));
    };
    let Some((from, until)) = times.split_once('-') else {
        return fault(format!("{} is no span of time", quoted(times)), "write such as \"08:00-18:00\"");
    };
    let zone = TimeZone::get(zone).map_err(|_| {
        let help = "write a name of the time zone database, such as \"Europe/Berlin\" or \"UTC\"";
        Fault::new(format!("there is no time zone {}", quoted(zone)), help)
    })?;
    if from == "24:00" {
        return fault("no day begins at 24:00", "write \"00:00\", and the day that follows");
    }
    Ok(Span { days: days(on)?, from: time(from)?, until: time(until)?, zone, written: words.join(" ") })
}

fn days(text: &str) -> Result<[bool; 7], Fault> {
    if text.eq_ignore_ascii_case("daily") {
        return Ok([true; 7]);
    }
    let mut days = [false; 7];
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (Some(first), Some(last)) = (day(first), day(last)) else {
            let message = format!("{} are no days of the week", quoted(text));
            return fault(message, "write such as \"Mon-Fri\", \"Sat,Sun\" or \"daily\"");
        };
        let length = (last + 7 - first) % 7;
        for offset in 0..=length {
            days[(first + offset) % 7] = true;
        }
    }
    Ok(days)
}

fn day(text: &str) -> Option<usize> {
    DAYS.iter().position(|day| text.eq_ignore_ascii_case(day))
}

/// `24:00` is the midnight at the end of a day.
fn time(text: &str) -> Result<Time, Fault> {
    let digits = |text: &str| text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
    let read = text.split_once(':').filter(|(hours, minutes)| digits(hours) && digits(minutes));
    let time = read.and_then(|(hours, minutes)| match (hours.parse().ok()?, minutes.parse().ok()?) {
        (24, 0) => Some(Time::midnight()),
        (hours, minutes) => Time::new(hours, minutes, 0, 0).ok(),
    });
    time.ok_or_else(|| Fault::new(format!("{} is no time of the day", quoted(text)), "write such as \"08:00\""))
}

/// Each of a list, with the mistakes of all.
pub(super) fn all<W, T>(list: &[W], at: &At<'_>, read: impl Fn(&W) -> Result<T, Fault>) -> Option<Vec<T>> {
    let read: Vec<_> = list.iter().enumerate().map(|(index, one)| at.index(index).take(read(one))).collect();
    read.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_and_times_are_read() {
        let span_of = |text: &str| span(text).unwrap();
        assert_eq!(span_of("Mon-Fri 08:00-18:00 UTC").days, [true, true, true, true, true, false, false]);
        assert_eq!(span_of("sat,SUN 00:00-24:00 UTC").days, [false, false, false, false, false, true, true]);
        assert_eq!(span_of("Fri-Mon 22:00-06:00 Europe/Berlin").days, [true, false, false, false, true, true, true]);
        assert_eq!(span_of("daily  00:00-24:00  UTC").written, "daily 00:00-24:00 UTC");
        for wrong in [
            "",
            "Mon-Fri",
            "Mon-Fri 8-18 UTC",
            "Mon-Fri 08:00-18:00",
            "Mo 08:00-18:00 UTC",
            "Mon 08:00-25:00 UTC",
            "Mon 8:00-18:00 UTC",
            "Mon 08:00-18:00 Mars/Olympus",
            "Mon 08:00 UTC",
            "Mon 24:00-06:00 UTC",
            "Mon, 08:00-18:00 UTC",
        ] {
            assert!(span(wrong).is_err(), "{wrong}");
        }
    }
}
