//! Durations.

use std::time::Duration;

use super::super::place::{At, Fault, quoted};
use super::super::schema::{self, Written};
use super::fault;
use crate::policy::Timeouts;

const SECOND: Duration = Duration::from_secs(1);
const TEN_MINUTES: Duration = Duration::from_secs(600);
const HOUR: Duration = Duration::from_secs(3600);

/// The duration of a key, between one second and ten minutes; `default` where it is not written.
pub(super) fn wait(written: Option<schema::Duration>, default: Duration, at: &At<'_>) -> Option<Duration> {
    within(written, default, (SECOND, TEN_MINUTES), at)
}

/// The `timeouts` of a file.
pub(super) fn timeouts(written: schema::Timeouts, at: &At<'_>) -> Option<Timeouts> {
    let default = Timeouts::default();
    let key = |Written(written): Written<_>, key, default, limits| within(written, default, limits, &at.key(key));
    let connect = key(written.connect, "connect", default.connect, (SECOND, TEN_MINUTES));
    let greeting = key(written.greeting, "greeting", default.greeting, (SECOND, TEN_MINUTES));
    // Not to wait at all for transfers is a fair wish, and a long one may take its time.
    let drain = key(written.drain, "drain", default.drain, (Duration::ZERO, HOUR));
    Some(Timeouts { connect: connect?, greeting: greeting?, drain: drain? })
}

/// The duration of a key, within these limits; `default` where it is not written.
pub(super) fn within(
    written: Option<schema::Duration>,
    default: Duration,
    limits: (Duration, Duration),
    at: &At<'_>,
) -> Option<Duration> {
    let Some(schema::Duration(text)) = written else { return Some(default) };
    at.take(duration(&text, limits))
}

fn duration(text: &str, (least, most): (Duration, Duration)) -> Result<Duration, Fault> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return fault(format!("{} has no unit", quoted(text)), format!("write \"{}s\" for seconds", shortened(text)));
    }
    let Ok(duration) = humantime::parse_duration(text) else {
        return fault(
            format!("{} is not a duration", quoted(text)),
            "write a number and its unit, such as \"30s\" or \"2min\"",
        );
    };
    let help = || {
        format!("write a duration from {} to {}", humantime::format_duration(least), humantime::format_duration(most))
    };
    if duration < least {
        return fault(format!("{} is too short", quoted(text)), help());
    }
    if duration > most {
        return fault(format!("{} is too long", quoted(text)), help());
    }
    Ok(duration)
}

fn shortened(text: &str) -> &str {
    text.get(..20).unwrap_or(text)
}
