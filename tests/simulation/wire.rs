//! Replies and notations as the RFCs have them, read again without the gate's own code.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// What a line is in a stream of replies (RFC 959 section 4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framed {
    /// The first line of several.
    Begin(u16),
    /// One in the middle.
    Inside,
    /// The last of several.
    End(u16),
    /// A reply of one line.
    Whole(u16),
    /// No line of a reply.
    Stray,
}

/// Takes a stream of replies apart.
#[derive(Debug, Default)]
pub(crate) struct Framing {
    inside: Option<u16>,
}

impl Framing {
    pub(crate) fn next(&mut self, line: &[u8]) -> Framed {
        let code = code(line);
        let more = line.get(3) == Some(&b'-');
        let last = matches!(line.get(3), None | Some(b' ' | b'\t'));
        match (self.inside, code) {
            (Some(inside), Some(code)) if inside == code && last => {
                self.inside = None;
                Framed::End(code)
            }
            (Some(_), _) => Framed::Inside,
            (None, Some(code)) if more => {
                self.inside = Some(code);
                Framed::Begin(code)
            }
            (None, Some(code)) if last => Framed::Whole(code),
            (None, _) => Framed::Stray,
        }
    }

    pub(crate) fn is_inside(&self) -> bool {
        self.inside.is_some()
    }
}

pub(crate) fn code(line: &[u8]) -> Option<u16> {
    match line {
        [a @ b'1'..=b'6', b @ b'0'..=b'9', c @ b'0'..=b'9', ..] => {
            Some(u16::from(a - b'0') * 100 + u16::from(b - b'0') * 10 + u16::from(c - b'0'))
        }
        _ => None,
    }
}

/// The number of the command that a reply of a simulated server answers: `200 c17 fine`.
pub(crate) fn tag(line: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(line.get(4..)?).ok()?;
    let word = text.split_whitespace().next()?;
    word.strip_prefix('c')?.parse().ok()
}

/// Whether a simulated server tells by this 1yz reply that a transfer was aborted.
pub(crate) fn is_measured(text: &[u8]) -> bool {
    text.ends_with(b"(measured here)\n")
}

/// The verb of a command, in capitals, as the laxest server finds it: some take quotation marks away, and Telnet commands.
pub(crate) fn verb(line: &[u8]) -> String {
    let plain: Vec<u8> = line.iter().copied().filter(|byte| *byte < 0xf0).collect();
    let text = plain.trim_ascii();
    let quoted = text.strip_prefix(b"\"").and_then(|rest| rest.split(|byte| *byte == b'"').next());
    let ends = |byte: &u8| byte.is_ascii_whitespace() || byte.is_ascii_control();
    let word = quoted.unwrap_or_else(|| text.split(ends).next().unwrap_or_default());
    String::from_utf8_lossy(word).to_ascii_uppercase()
}

pub(crate) fn argument(line: &[u8]) -> String {
    let line = String::from_utf8_lossy(line.trim_ascii()).into_owned();
    line.split_once(|c: char| c.is_ascii_whitespace()).map(|(_, rest)| rest.trim().to_owned()).unwrap_or_default()
}

fn numbers(text: &str) -> Option<(Ipv4Addr, u16)> {
    let numbers: Vec<u8> = text.split(',').map(|number| number.parse().ok()).collect::<Option<_>>()?;
    let &[a, b, c, d, high, low] = numbers.as_slice() else { return None };
    Some((Ipv4Addr::new(a, b, c, d), u16::from(high) * 256 + u16::from(low)))
}

/// The strict 227, and no other.
pub(crate) fn strict_227(line: &[u8]) -> Option<(Ipv4Addr, u16)> {
    let text = std::str::from_utf8(line).ok()?;
    numbers(text.strip_prefix("227 Entering Passive Mode (")?.strip_suffix(").")?)
}

/// The strict 229, and no other.
pub(crate) fn strict_229(line: &[u8]) -> Option<u16> {
    let text = std::str::from_utf8(line).ok()?;
    text.strip_prefix("229 Entering Extended Passive Mode (|||")?.strip_suffix("|)")?.parse().ok()
}

/// The argument of PORT, as clients of the simulation write it.
pub(crate) fn port(argument: &str) -> Option<SocketAddr> {
    numbers(argument).map(|(ip, port)| SocketAddr::new(ip.into(), port))
}

/// The argument of EPRT.
pub(crate) fn eprt(argument: &str) -> Option<SocketAddr> {
    let mut fields = argument.split('|').skip(1);
    let (family, address, port) = (fields.next()?, fields.next()?, fields.next()?);
    let ip: IpAddr = address.parse().ok()?;
    let fits = match family {
        "1" => ip.is_ipv4(),
        "2" => ip.is_ipv6(),
        _ => false,
    };
    (fits && fields.next() == Some("") && fields.next().is_none()).then_some(SocketAddr::new(ip, port.parse().ok()?))
}

pub(crate) fn write_port(at: SocketAddr) -> String {
    let SocketAddr::V4(at) = at else { return write_eprt(at) };
    let [a, b, c, d] = at.ip().octets();
    format!("PORT {a},{b},{c},{d},{},{}", at.port() / 256, at.port() % 256)
}

pub(crate) fn write_eprt(at: SocketAddr) -> String {
    format!("EPRT |{}|{}|{}|", if at.is_ipv4() { 1 } else { 2 }, at.ip(), at.port())
}
