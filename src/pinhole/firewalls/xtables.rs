//! What extensions of iptables ask of a packet, and do with it, where nftables runs them.

use super::packet::{Holds, Packet};
use crate::net::netlink::{Expression, Verdict};

/// Whether a `match` holds.
pub(super) fn matches(expression: &Expression, packet: &Packet) -> Holds {
    let info = expression.find(&[3]).unwrap_or_default();
    match expression.text(&[1]).unwrap_or_default().as_str() {
        "comment" => Holds::Yes,
        "udp" | "udplite" | "icmp" | "icmp6" | "sctp" | "dccp" | "esp" | "ah" => Holds::No,
        "tcp" => tcp(info, packet).unwrap_or(Holds::Maybe),
        "multiport" => multiport(info, packet).unwrap_or(Holds::Maybe),
        "conntrack" => conntrack(info, packet).unwrap_or(Holds::Maybe),
        "state" => number(info, 0).map_or(Holds::Maybe, |mask| Holds::when(states(packet, true) & mask != 0)),
        "mark" => mark(info, packet.mark).unwrap_or(Holds::Maybe),
        "connmark" => mark(info, packet.ct_mark).unwrap_or(Holds::Maybe),
        _ => Holds::Maybe,
    }
}

/// What a `target` does; nothing where the rules go on.
pub(super) fn target(expression: &Expression) -> Option<Verdict> {
    const GO_ON: [&str; 20] = [
        "LOG",
        "NFLOG",
        "MARK",
        "CONNMARK",
        "CT",
        "NOTRACK",
        "TCPMSS",
        "TCPOPTSTRIP",
        "CHECKSUM",
        "TOS",
        "DSCP",
        "ECN",
        "CLASSIFY",
        "TRACE",
        "SET",
        "AUDIT",
        "HL",
        "TTL",
        "SECMARK",
        "CONNSECMARK",
    ];
    match expression.text(&[1]).unwrap_or_default().as_str() {
        "REJECT" => Some(Verdict::Drop),
        name if GO_ON.contains(&name) => None,
        _ => Some(Verdict::Taken),
    }
}

/// Whether a `CT` target leaves packets untracked, or sets conntrack's helper for FTP.
pub(super) fn conntrack_target(expression: &Expression) -> (bool, bool) {
    const UNTRACKED: u16 = 1;
    const HELPER_AT: usize = 12;
    const HELPER: usize = 16;
    let info = expression.find(&[3]).unwrap_or_default();
    match expression.text(&[1]).unwrap_or_default().as_str() {
        "NOTRACK" => (true, false),
        "CT" => {
            let helper = info.get(HELPER_AT..HELPER_AT + HELPER).unwrap_or_default();
            (short(info, 0).is_some_and(|flags| flags & UNTRACKED != 0), helper.starts_with(b"ftp\0"))
        }
        _ => (false, false),
    }
}

fn short(info: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*info.get(at..)?.first_chunk()?))
}

fn number(info: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*info.get(at..)?.first_chunk()?))
}

/// `struct xt_tcp`.
fn tcp(info: &[u8], packet: &Packet) -> Option<Holds> {
    let [_, flags_asked, _, inverted, ..] = *info.get(8..)?.first_chunk::<4>()?;
    let option = *info.get(8)?;
    let range = |at: usize| Some(short(info, at)?..=short(info, at + 2)?);
    let (from, to) = (range(0)?, range(4)?);
    let ports = |ports: &std::ops::RangeInclusive<u16>, port: Option<u16>, is_inverted: bool| {
        let all = *ports.start() == 0 && *ports.end() == u16::MAX;
        let holds = if all { Holds::Yes } else { Holds::known(port, |port| ports.contains(&port)) };
        if is_inverted { holds.not() } else { holds }
    };
    let both = ports(&from, packet.from_port, inverted & 1 != 0).and(ports(&to, packet.to_port, inverted & 2 != 0));
    Some(if flags_asked == 0 && option == 0 { both } else { both.and(Holds::Maybe) })
}

/// `struct xt_multiport_v1`.
fn multiport(info: &[u8], packet: &Packet) -> Option<Holds> {
    const SOURCE: u8 = 0;
    const DESTINATION: u8 = 1;
    const PORTS: usize = 15;
    let [of, count] = *info.first_chunk()?;
    let begins = |n: usize| info.get(2 + 2 * PORTS + n).copied();
    let mut ranges = Vec::new();
    let mut n = 0;
    while n < usize::from(count).min(PORTS) {
        let first = short(info, 2 + 2 * n)?;
        n += usize::from(begins(n)? != 0);
        ranges.push(first..=short(info, 2 + 2 * n)?);
        n += 1;
    }
    let is_among = |port| Holds::known(port, |port| ranges.iter().any(|range| range.contains(&port)));
    let holds = match of {
        SOURCE => is_among(packet.from_port),
        DESTINATION => is_among(packet.to_port),
        _ => is_among(packet.from_port).or(is_among(packet.to_port)),
    };
    Some(if *info.get(2 + 3 * PORTS)? != 0 { holds.not() } else { holds })
}

/// The states of a packet's connection; one that is translated is in a state of its own as well, for iptables.
fn states(packet: &Packet, or_translated: bool) -> u32 {
    const DNAT: u32 = 1 << 7;
    let is_translated = packet.ct_status.map_or(or_translated, |status| status & super::packet::DNAT != 0);
    packet.ct_state | if is_translated { DNAT } else { 0 }
}

/// `struct xt_conntrack_mtinfo1` to `3`: eight addresses, two times, five numbers, and then what is asked of them.
fn conntrack(info: &[u8], packet: &Packet) -> Option<Holds> {
    const ASKED_AT: usize = 146;
    const STATE: u16 = 1;
    let (asked, inverted) = (short(info, ASKED_AT)?, short(info, ASKED_AT + 2)?);
    let mask = u32::from(short(info, ASKED_AT + 4)?);
    if asked & STATE == 0 {
        return Some(Holds::Maybe);
    }
    let may = states(packet, true) & mask != 0;
    let must = states(packet, false) & mask != 0;
    let holds = if may == must { Holds::when(must) } else { Holds::Maybe };
    let holds = if inverted & STATE != 0 { holds.not() } else { holds };
    Some(if asked == STATE { holds } else { holds.and(Holds::Maybe) })
}

/// `struct xt_mark_mtinfo1`, and that of `connmark`.
fn mark(info: &[u8], value: Option<u32>) -> Option<Holds> {
    let (wanted, mask, inverted) = (number(info, 0)?, number(info, 4)?, *info.get(8)?);
    let holds = Holds::known(value, |value| value & mask == wanted);
    Some(if inverted != 0 { holds.not() } else { holds })
}
