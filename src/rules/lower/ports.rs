//! Ranges of ports.

use super::super::place::{At, Fault, quoted};
use super::super::schema::{Many, Ports, SourcePort};
use super::fault;
use crate::addr::{PortRange, PortRanges};

/// Ports under this belong to services; no data connection has any business there (RFC 2577 section 3).
const FIRST_UNRESERVED: u32 = 1024;
const LAST: u32 = 65535;

/// The ranges of a key.
pub(super) fn ranges(Many(list): &Many<Ports>, at: &At<'_>) -> Option<PortRanges> {
    if list.is_empty() {
        at.mistake("this list of ports is empty", "write a range such as \"10001-10005\", or `any` for 1024-65535");
        return None;
    }
    let read: Vec<_> = list.iter().enumerate().map(|(index, Ports(text))| at.index(index).take(range(text))).collect();
    PortRanges::new(read.into_iter().collect::<Option<_>>()?)
}

/// The one port that connections come from: any but 0.
pub(super) fn source_port(SourcePort(text): &SourcePort) -> Result<u16, Fault> {
    let port = port(text.trim())
        .ok_or_else(|| Fault::new(format!("{} is not a port", quoted(text)), "write one port, such as 20"))?;
    if port == 0 {
        return fault("port 0 is not a port", "leave `source_port` out where any port will do");
    }
    u16::try_from(port).or_else(|_| fault(no_such(port), "write one port from 1 to 65535"))
}

fn range(text: &str) -> Result<PortRange, Fault> {
    let written = text.trim();
    if written == "any" {
        return between(text, FIRST_UNRESERVED, LAST);
    }
    let (first, last) = written.split_once('-').unwrap_or((written, written));
    if let (Some(first), Some(last)) = (port(first.trim()), port(last.trim())) {
        return between(text, first, last);
    }
    let ends = ["..=", "..", ":", "to", "\u{2013}"].iter().find_map(|between| {
        let (first, last) = written.split_once(between)?;
        Some((port(first.trim())?, port(last.trim())?))
    });
    let help = match ends {
        Some((first, last)) => format!("write \"{first}-{last}\""),
        None if written.contains(',') => "write a list, such as [\"10001-10005\", \"10009\"]".to_owned(),
        None => "write a range such as \"10001-10005\", or `any` for 1024-65535".to_owned(),
    };
    fault(format!("{} is not a range of ports", quoted(text)), help)
}

fn between(text: &str, first: u32, last: u32) -> Result<PortRange, Fault> {
    if first > last {
        return fault(format!("{} runs backwards", quoted(text)), format!("write \"{last}-{first}\""));
    }
    if first == 0 {
        return fault("port 0 is not a port", "write ports from 1024 to 65535");
    }
    if last > LAST {
        return fault(no_such(last), "write ports from 1024 to 65535");
    }
    if first < FIRST_UNRESERVED {
        let message = format!("port {first} is reserved for services, as every port under 1024");
        return fault(message, "write ports from 1024 to 65535");
    }
    let ends = u16::try_from(first).ok().zip(u16::try_from(last).ok());
    ends.and_then(|(first, last)| PortRange::new(first, last))
        .ok_or_else(|| Fault::new(no_such(last), "write ports from 1024 to 65535"))
}

fn no_such(port: u32) -> String {
    format!("there is no port {port}; the last is 65535")
}

/// Digits as a number; also one that is too high for a port, so that the message can name it.
pub(super) fn port(text: &str) -> Option<u32> {
    let digits = (1..=9).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    if digits { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_and_what_to_write_instead() {
        assert_eq!(range(" 10001 - 10005 ").unwrap().to_string(), "10001-10005");
        assert_eq!(range("10001").unwrap().to_string(), "10001");
        assert_eq!(range("any").unwrap().to_string(), "1024-65535");
        for (written, help) in [
            ("10005-10001", "write \"10001-10005\""),
            ("10001:10005", "write \"10001-10005\""),
            ("10001..10005", "write \"10001-10005\""),
            ("0", "write ports from 1024 to 65535"),
            ("21", "write ports from 1024 to 65535"),
            ("1023-2000", "write ports from 1024 to 65535"),
            ("65535-65536", "write ports from 1024 to 65535"),
            ("1-99999999999999999999", "write a range such as \"10001-10005\", or `any` for 1024-65535"),
            ("10001,10002", "write a list, such as [\"10001-10005\", \"10009\"]"),
        ] {
            assert_eq!(range(written).unwrap_err().help, help, "{written}");
        }
    }

    #[test]
    fn a_source_port_may_be_reserved() {
        let read = |text: &str| source_port(&SourcePort(text.to_owned()));
        assert_eq!(read("20"), Ok(20));
        assert!(read("0").is_err() && read("65536").is_err() && read("20-21").is_err() && read("-20").is_err());
    }
}
