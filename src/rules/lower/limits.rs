//! Limits: counts, sizes, rates and time-outs.

use std::num::{NonZeroU32, NonZeroU64};
use std::time::Duration;

use super::super::place::{At, Fault, quoted};
use super::super::schema::{self, Written};
use super::{fault, wait};
use crate::policy::limits::UNITS;
use crate::policy::{GateLimits, RuleLimits, SessionLimits, TimeLimit, Together, Unwritten};

/// A rate under this would have a transfer look broken.
const LEAST_PACE: u64 = 1 << 10;
/// The longest time that anybody is kept waiting or away.
const DAY: Duration = Duration::from_secs(24 * 3600);
const SECOND: Duration = Duration::from_secs(1);

/// The `limits` of a file.
pub(super) fn gate(written: Written<schema::Limits>, at: &At<'_>) -> Option<GateLimits> {
    let default = GateLimits::default();
    let Some(written) = written.0 else { return Some(default) };
    let all = rates(written.sessions_per_minute, written.upload, written.download, at);
    let sessions = sessions(written.sessions, at);
    let all = all.zip(sessions).map(|(rates, (sessions, _))| Together { sessions, ..rates });
    let mut unwritten = Unwritten { all: sessions.is_none_or(|(_, unwritten)| unwritten), ..default.unwritten };
    let at = at.key("per_client");
    let Some(own) = written.per_client.0 else { return Some(GateLimits { all: all?, unwritten, ..default }) };
    let client = rates(own.sessions_per_minute, own.upload, own.download, &at);
    let sessions = self::sessions(own.sessions, &at);
    let client = client.zip(sessions).map(|(rates, (sessions, _))| Together { sessions, ..rates });
    unwritten.client = sessions.is_none_or(|(_, unwritten)| unwritten);
    let failed_logins = read(own.failed_logins, &at.key("failed_logins"), |written| count(&written));
    let has_pause = own.pause.0.is_some();
    let pause = wait::within(own.pause.0, default.pause, (SECOND, DAY), &at.key("pause"));
    if has_pause && at.lacks("failed_logins") {
        at.key_itself("pause").mistake("nothing leads to this pause", "add `failed_logins: 5`, or take it away");
        return None;
    }
    Some(GateLimits { all: all?, client: client?, unwritten, failed_logins: failed_logins?, pause: pause? })
}

/// The `limits` of a rule.
pub(super) fn rule(written: Written<schema::RuleLimits>, at: &At<'_>) -> Option<RuleLimits> {
    let Some(written) = written.0 else { return Some(RuleLimits::default()) };
    let none = || Written(None);
    let all = together(written.sessions, written.sessions_per_minute, none(), none(), at);
    let number = |written, key| read(written, &at.key(key), |written| count(&written));
    let pace = |written, key| read(written, &at.key(key), |written| pace_of(&written));
    let time = |Written(written): Written<_>, key| match written {
        Some(written) => wait::within(Some(written), SECOND, (SECOND, DAY), &at.key(key)).map(Some),
        None => Some(None),
    };
    let commands_per_second = number(written.commands_per_second, "commands_per_second");
    let failed_logins = number(written.failed_logins, "failed_logins");
    let (upload, download) = (pace(written.upload, "upload"), pace(written.download, "download"));
    let transfer_size = read(written.transfer_size, &at.key("transfer_size"), |schema::Size(text)| size(&text));
    let login_timeout = time_limit(written.login_timeout, &at.key("login_timeout"));
    let idle_timeout = time(written.idle_timeout, "idle_timeout");
    let stall_timeout = time(written.stall_timeout, "stall_timeout");
    let client = match written.per_client.0 {
        Some(own) => together(own.sessions, own.sessions_per_minute, own.upload, own.download, &at.key("per_client")),
        None => Some(Together::default()),
    };
    let session = SessionLimits {
        commands_per_second: commands_per_second?,
        failed_logins: failed_logins?,
        upload: upload?,
        download: download?,
        transfer_size: transfer_size?,
        login_timeout: login_timeout?,
        idle_timeout: idle_timeout?,
        stall_timeout: stall_timeout?,
    };
    Some(RuleLimits { all: all?, client: client?, session })
}

fn together(
    sessions: Written<schema::Count>,
    sessions_per_minute: Written<schema::Count>,
    upload: Written<schema::Pace>,
    download: Written<schema::Pace>,
    at: &At<'_>,
) -> Option<Together> {
    let sessions = read(sessions, &at.key("sessions"), |written| count(&written));
    let rates = rates(sessions_per_minute, upload, download, at);
    Some(Together { sessions: sessions?, ..rates? })
}

fn rates(
    sessions_per_minute: Written<schema::Count>,
    upload: Written<schema::Pace>,
    download: Written<schema::Pace>,
    at: &At<'_>,
) -> Option<Together> {
    let pace = |written, key| read(written, &at.key(key), |written| pace_of(&written));
    let sessions_per_minute = read(sessions_per_minute, &at.key("sessions_per_minute"), |written| count(&written));
    let (upload, download) = (pace(upload, "upload"), pace(download, "download"));
    Some(Together { sessions: None, sessions_per_minute: sessions_per_minute?, upload: upload?, download: download? })
}

/// The `sessions` of the gate, `None` for `off`; and whether they are left to the default.
fn sessions(Written(written): Written<schema::CountLimit>, at: &At<'_>) -> Option<(Option<NonZeroU32>, bool)> {
    match written {
        None => Some((None, true)),
        Some(schema::CountLimit(text)) if text == OFF => Some((None, false)),
        Some(schema::CountLimit(text)) => {
            let most = at.key("sessions").take(count(&schema::Count(text)))?;
            Some((Some(most), false))
        }
    }
}

/// What turns a limit off that there is by default.
const OFF: &str = "off";

#[allow(clippy::option_option, reason = "not written and not readable are two things")]
fn time_limit(Written(written): Written<schema::TimeLimit>, at: &At<'_>) -> Option<Option<TimeLimit>> {
    match written {
        None => Some(None),
        Some(schema::TimeLimit(text)) if text == OFF => Some(Some(TimeLimit::Off)),
        Some(schema::TimeLimit(text)) => {
            let time = wait::within(Some(schema::Duration(text)), SECOND, (SECOND, DAY), at)?;
            Some(Some(TimeLimit::After(time)))
        }
    }
}

/// Nothing where nothing was written; `None` only for what was written and could not be read.
#[allow(clippy::option_option, reason = "not written and not readable are two things")]
fn read<W, T>(Written(written): Written<W>, at: &At<'_>, of: impl FnOnce(W) -> Result<T, Fault>) -> Option<Option<T>> {
    written.map_or(Some(None), |written| at.take(of(written)).map(Some))
}

fn count(schema::Count(text): &schema::Count) -> Result<NonZeroU32, Fault> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse() {
        Ok(0) => fault("nobody would get in with 0", "write 1 or more; to let nobody in, write a rule that denies"),
        Ok(number) => Ok(NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN)),
        Err(_) if digits => fault(format!("{} is too many", quoted(text)), "leave it out where there is no limit"),
        Err(_) => fault(format!("{} is not a number", quoted(text)), "write a whole number, such as 20"),
    }
}

fn pace_of(schema::Pace(text): &schema::Pace) -> Result<NonZeroU64, Fault> {
    let Some(amount) = text.strip_suffix("/s") else {
        let help = if size(text).is_ok() { format!("write \"{text}/s\"") } else { PACE.to_owned() };
        return fault(format!("{} is not a rate", quoted(text)), help);
    };
    let amount = size(amount.trim_end())
        .map_err(|_| Fault::new(format!("{} is not a rate", quoted(text)), unit_help(amount, PACE, "/s")))?;
    if amount.get() < LEAST_PACE {
        return fault(format!("{} is too slow", quoted(text)), "write \"1KiB/s\" or more");
    }
    Ok(amount)
}

/// What to write for a rate, and for a size.
const PACE: &str = "write a size and `/s`, such as \"10MiB/s\"";
const SIZE: &str = "write a number and its unit, such as \"500MB\" or \"2GiB\"";

fn size(text: &str) -> Result<NonZeroU64, Fault> {
    let wrong = || Fault::new(format!("{} is not a size", quoted(text)), unit_help(text, SIZE, ""));
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits).ok_or_else(wrong)?;
    let unit = UNITS.iter().find(|(name, _)| *name == unit.trim_start()).ok_or_else(wrong)?.1;
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let bytes = number.checked_mul(unit).filter(|bytes| *bytes <= 1 << 60);
    let bytes =
        bytes.ok_or_else(|| Fault::new(format!("{} is too much", quoted(text)), "leave it out for no limit"))?;
    NonZeroU64::new(bytes).ok_or_else(|| Fault::new("nothing could move with 0", "write a size such as \"2GiB\""))
}

/// Bits, and units of one letter, are told apart from bytes; a number alone is in want of a unit.
fn unit_help(text: &str, else_help: &str, end: &str) -> String {
    let digits: String = text.chars().take_while(char::is_ascii_digit).take(20).collect();
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit()).trim();
    let meant = match unit.to_ascii_lowercase().as_str() {
        "" | "b" | "byte" | "bytes" => "B",
        "k" | "kb" | "kib" => "KiB",
        "m" | "mb" | "mib" => "MiB",
        "g" | "gb" | "gib" => "GiB",
        "t" | "tb" | "tib" => "TiB",
        _ => return else_help.to_owned(),
    };
    if digits.is_empty() { else_help.to_owned() } else { format!("write \"{digits}{meant}{end}\": sizes are in bytes") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_rates_have_units() {
        let bytes = |text| size(text).ok().map(NonZeroU64::get);
        for (text, expected) in [
            ("1B", Some(1)),
            ("3kB", Some(3000)),
            ("3KB", Some(3000)),
            ("3KiB", Some(3072)),
            ("2 MiB", Some(2 << 20)),
            ("2GB", Some(2_000_000_000)),
            ("2GiB", Some(2 << 30)),
            ("1TiB", Some(1 << 40)),
            ("", None),
            ("5", None),
            ("5M", None),
            ("5Mb", None),
            ("-5MB", None),
            ("5.5MB", None),
            ("0MB", None),
            ("99999999TiB", None),
            ("99999999999999999999B", None),
            ("5MB/s", None),
            ("\u{0665}MB", None),
        ] {
            assert_eq!(bytes(text), expected, "{text}");
        }
        let rate = |text: &str| pace_of(&schema::Pace(text.to_owned())).ok().map(NonZeroU64::get);
        assert_eq!(rate("10MiB/s"), Some(10 << 20));
        assert_eq!(rate("1KiB /s"), Some(1024));
        for wrong in ["10MiB", "10/s", "10Mbit/s", "1B/s", "/s", ""] {
            assert_eq!(rate(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_slip_is_told_with_what_was_meant() {
        let help = |text: &str| pace_of(&schema::Pace(text.to_owned())).unwrap_err().help;
        assert_eq!(help("10MiB"), "write \"10MiB/s\"");
        assert_eq!(help("1000"), PACE);
        assert_eq!(help("10Mb/s"), "write \"10MiB/s\": sizes are in bytes");
        assert_eq!(help("fast"), PACE);
        assert_eq!(size("2g").unwrap_err().help, "write \"2GiB\": sizes are in bytes");
        assert_eq!(size("much").unwrap_err().help, SIZE);
    }
}
