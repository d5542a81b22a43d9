//! The four notations of an address and port, parse and write side by side.
//!
//! Reading is lenient where peers are known to be sloppy and nothing else can be meant; it refuses whatever could be
//! read in two ways. Writing is strict: boxes further on read only the plainest form.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4};
use std::str::FromStr;

/// Why an address or port cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Malformed {
    /// There is none.
    Missing,
    /// Two or more things that could be one.
    Ambiguous,
    /// A number above 255, or a port above 65535.
    OutOfRange,
    /// Port 0.
    PortZero,
    /// Something else than the form asks for.
    Form,
    /// An address that is none, or of another family than it says.
    Address,
    /// A family that is neither 1 nor 2 (RFC 2428 section 2).
    UnknownFamily,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "no address and port in it",
            Self::Ambiguous => "more than one address and port in it",
            Self::OutOfRange => "a number is too large",
            Self::PortZero => "port 0",
            Self::Form => "not in the form that the RFC asks for",
            Self::Address => "not an address of that family",
            Self::UnknownFamily => "an address family that is neither 1 nor 2",
        })
    }
}

/// An address family as RFC 2428 numbers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// 1.
    V4,
    /// 2.
    V6,
}

/// The argument of PORT (RFC 959 section 4.1.2): `h1,h2,h3,h4,p1,p2`. Blanks after commas are borne.
///
/// # Errors
/// Where it is anything else.
pub fn parse_port(argument: &[u8]) -> Result<SocketAddrV4, Malformed> {
    let numbers = argument.trim_ascii().split(|byte| *byte == b',').map(<[u8]>::trim_ascii_start);
    six(&numbers.map(octet).collect::<Result<Vec<_>, _>>()?)
}

/// The argument of PORT, strict.
#[must_use]
pub fn write_port(addr: SocketAddrV4) -> String {
    let [a, b, c, d] = addr.ip().octets();
    let [high, low] = addr.port().to_be_bytes();
    format!("{a},{b},{c},{d},{high},{low}")
}

/// The text of a 227 reply, a slice for each of its lines: six numbers joined by commas, wherever they stand.
///
/// They are looked for in the last line, then in the lines before it; RFC 1123 section 4.1.2.6 promises no brackets.
/// The address is what the server says, `0.0.0.0` included: whether to believe it is the caller's question.
///
/// # Errors
/// Where there are none, or more than one candidate in the line.
pub fn parse_227(lines: &[&[u8]]) -> Result<SocketAddrV4, Malformed> {
    for line in lines.iter().rev() {
        let mut groups = number_groups(line).into_iter();
        match (groups.next(), groups.next()) {
            (None, _) => {}
            (Some(numbers), None) => return six(&numbers.into_iter().map(octet).collect::<Result<Vec<_>, _>>()?),
            (Some(_), Some(_)) => return Err(Malformed::Ambiguous),
        }
    }
    Err(Malformed::Missing)
}

/// The text of a 227 reply, strict.
#[must_use]
pub fn write_227(addr: SocketAddrV4) -> String {
    format!("Entering Passive Mode ({}).", write_port(addr))
}

/// The argument of EPRT (RFC 2428 section 2): `<d>family<d>address<d>port<d>`.
///
/// # Errors
/// Where it is anything else. A delimiter that could be part of an address is refused.
pub fn parse_eprt(argument: &[u8]) -> Result<SocketAddr, Malformed> {
    let argument = argument.trim_ascii();
    let (&delimiter, _) = argument.split_first().ok_or(Malformed::Missing)?;
    if !is_delimiter(delimiter) || delimiter.is_ascii_hexdigit() || matches!(delimiter, b':' | b'.') {
        return Err(Malformed::Form);
    }
    let fields: Vec<&[u8]> = argument.split(|byte| *byte == delimiter).collect();
    let &[b"", family, address, number, b""] = fields.as_slice() else { return Err(Malformed::Form) };
    let address = match family {
        b"1" => IpAddr::V4(parse::<Ipv4Addr>(address)?),
        b"2" => IpAddr::V6(parse::<Ipv6Addr>(address)?).to_canonical(),
        family if !family.is_empty() && family.iter().all(u8::is_ascii_digit) => return Err(Malformed::UnknownFamily),
        _ => return Err(Malformed::Form),
    };
    Ok(SocketAddr::new(address, port(number)?))
}

/// The argument of EPRT, strict.
#[must_use]
pub fn write_eprt(addr: SocketAddr) -> String {
    let family = if addr.is_ipv4() { 1 } else { 2 };
    format!("|{family}|{}|{}|", addr.ip(), addr.port())
}

/// What a 229 reply says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExtendedPort {
    /// The port.
    pub port: u16,
    /// The address, which RFC 2428 section 3 wants left empty.
    pub address: Option<IpAddr>,
}

/// The text of a 229 reply, a slice for each of its lines: `<d><d><d>port<d>`, in brackets or not.
///
/// # Errors
/// Where there is none, or more than one candidate in the line.
pub fn parse_229(lines: &[&[u8]]) -> Result<ExtendedPort, Malformed> {
    for line in lines.iter().rev() {
        let mut found: Vec<Result<ExtendedPort, Malformed>> = Vec::new();
        let mut at = 0;
        while at < line.len() {
            match extended_at(line, at) {
                Some((result, length)) => {
                    found.push(result);
                    at += length;
                }
                None => at += 1,
            }
        }
        match found.as_slice() {
            [] => {}
            [one] => return *one,
            _ => return Err(Malformed::Ambiguous),
        }
    }
    Err(Malformed::Missing)
}

/// The text of a 229 reply, strict.
#[must_use]
pub fn write_229(port: u16) -> String {
    format!("Entering Extended Passive Mode (|||{port}|)")
}

/// The argument of EPSV (RFC 2428 section 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EpsvArgument {
    /// None.
    None,
    /// A family.
    Family(Family),
    /// `ALL`: nothing but EPSV will be used from now on.
    All,
}

/// The argument of EPSV.
///
/// # Errors
/// Where it is neither empty, a family nor `ALL`.
pub fn parse_epsv_argument(argument: &[u8]) -> Result<EpsvArgument, Malformed> {
    match argument.trim_ascii() {
        b"" => Ok(EpsvArgument::None),
        b"1" => Ok(EpsvArgument::Family(Family::V4)),
        b"2" => Ok(EpsvArgument::Family(Family::V6)),
        all if all.eq_ignore_ascii_case(b"ALL") => Ok(EpsvArgument::All),
        family if family.iter().all(u8::is_ascii_digit) => Err(Malformed::UnknownFamily),
        _ => Err(Malformed::Form),
    }
}

/// Runs of numbers joined by commas in a line of text. A run of fewer than four is prose (`42,983 files`); a longer
/// one was meant as an address, so one of the wrong length makes the reply unreadable rather than another's turn.
fn number_groups(line: &[u8]) -> Vec<Vec<&[u8]>> {
    let mut groups = Vec::new();
    let mut rest = line;
    while let Some(start) = rest.iter().position(u8::is_ascii_digit) {
        let signed = start.checked_sub(1).and_then(|before| rest.get(before)).is_some_and(|byte| b"+-".contains(byte));
        let mut numbers = Vec::new();
        rest = rest.get(start..).unwrap_or_default();
        loop {
            let length = rest.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(rest.len());
            let (number, after) = rest.split_at(length);
            // A sign makes a number that no octet can be.
            numbers.push(if signed && numbers.is_empty() { b"-".as_slice() } else { number });
            rest = after;
            let Some(after) = rest.strip_prefix(b",") else { break };
            let next = after.trim_ascii_start();
            rest = next;
            if !next.first().is_some_and(u8::is_ascii_digit) {
                // "1,2,-3": something stands where a number must.
                numbers.push(b"-");
                break;
            }
        }
        if numbers.len() >= 4 {
            groups.push(numbers);
        }
    }
    groups
}

fn six(numbers: &[u8]) -> Result<SocketAddrV4, Malformed> {
    let &[a, b, c, d, high, low] = numbers else { return Err(Malformed::Form) };
    match u16::from_be_bytes([high, low]) {
        0 => Err(Malformed::PortZero),
        port => Ok(SocketAddrV4::new(Ipv4Addr::new(a, b, c, d), port)),
    }
}

/// A decimal number up to 255; leading zeros do not make it octal.
fn octet(digits: &[u8]) -> Result<u8, Malformed> {
    number(digits)?.try_into().map_err(|_| Malformed::OutOfRange)
}

fn port(digits: &[u8]) -> Result<u16, Malformed> {
    match u16::try_from(number(digits)?) {
        Ok(0) => Err(Malformed::PortZero),
        Ok(port) => Ok(port),
        Err(_) => Err(Malformed::OutOfRange),
    }
}

fn number(digits: &[u8]) -> Result<u32, Malformed> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(Malformed::Form);
    }
    digits.iter().try_fold(0_u32, |number, digit| {
        let number = number * 10 + u32::from(digit - b'0');
        if number > 65_535 { Err(Malformed::OutOfRange) } else { Ok(number) }
    })
}

fn parse<T: FromStr>(text: &[u8]) -> Result<T, Malformed> {
    std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).ok_or(Malformed::Address)
}

const fn is_delimiter(byte: u8) -> bool {
    matches!(byte, 33..=126) && !byte.is_ascii_digit()
}

/// What stands at `at`, where that is the beginning of `<d>[family]<d>[address]<d>port<d>`, and how long it is.
fn extended_at(line: &[u8], at: usize) -> Option<(Result<ExtendedPort, Malformed>, usize)> {
    let tail = line.get(at..)?;
    let (&delimiter, _) = tail.split_first()?;
    if !is_delimiter(delimiter) || delimiter.is_ascii_alphabetic() {
        return None;
    }
    let mut fields = tail.split(|byte| *byte == delimiter);
    let [first, family, address, digits] = [fields.next()?, fields.next()?, fields.next()?, fields.next()?];
    // The closing delimiter.
    fields.next()?;
    let is_number = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    if !first.is_empty() || !is_number || !matches!(family, b"" | b"1" | b"2") {
        return None;
    }
    let address = match (family, address) {
        (_, b"") => None,
        (b"1", address) => Some(IpAddr::V4(parse(address).ok()?)),
        (b"2", address) => Some(IpAddr::V6(parse(address).ok()?).to_canonical()),
        _ => return None,
    };
    let length = family.len() + address_length(tail, delimiter) + digits.len() + 4;
    Some((port(digits).map(|port| ExtendedPort { port, address }), length))
}

fn address_length(tail: &[u8], delimiter: u8) -> usize {
    tail.split(|byte| *byte == delimiter).nth(2).map_or(0, <[u8]>::len)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn v4(text: &str) -> Result<SocketAddrV4, Malformed> {
        Ok(text.parse().unwrap())
    }

    #[test]
    fn port_is_read_as_strictly_as_servers_do() {
        let table: [(&str, Result<SocketAddrV4, Malformed>); 13] = [
            ("10,0,0,5,4,1", v4("10.0.0.5:1025")),
            ("10, 0, 0, 5, 4, 1  ", v4("10.0.0.5:1025")),
            ("010,0,0,005,004,01", v4("10.0.0.5:1025")),
            ("10,0,0,5,0,21", v4("10.0.0.5:21")),
            ("10,225,1,89,124,22_", Err(Malformed::Form)),
            ("10,0,0,5,4", Err(Malformed::Form)),
            ("10,0,0,5,4,1,1", Err(Malformed::Form)),
            ("10,0,0,256,4,1", Err(Malformed::OutOfRange)),
            ("10,0,0,99999999999,4,1", Err(Malformed::OutOfRange)),
            ("10,0,0,-5,4,1", Err(Malformed::Form)),
            ("10,0,0,+5,4,1", Err(Malformed::Form)),
            ("10,0,0,5,0,0", Err(Malformed::PortZero)),
            ("", Err(Malformed::Form)),
        ];
        for (text, expected) in table {
            assert_eq!(parse_port(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn a_227_is_found_in_every_dialect() {
        let table: [(&[&str], Result<SocketAddrV4, Malformed>); 21] = [
            (&["Entering Passive Mode (127,0,0,1,4,51)"], v4("127.0.0.1:1075")),
            (&["Entering Passive Mode (10,20,144,151,62,141)."], v4("10.20.144.151:16013")),
            (&["Entering Passive Mode( 10, 0, 0, 1, 143,225)."], v4("10.0.0.1:36833")),
            (&["Data transfer will passively listen to 127,0,0,1,4,51"], v4("127.0.0.1:1075")),
            (&["Entering Passive Mode. 217,69,76,44,156,68"], v4("217.69.76.44:40004")),
            (&["192,168,178,39,184,244"], v4("192.168.178.39:47348")),
            (&["=127,0,0,1,4,51"], v4("127.0.0.1:1075")),
            (&["listen socket created", "(127,0,0,1,154,21)"], v4("127.0.0.1:39445")),
            (&["(127,0,0,1,154,21)", "done"], v4("127.0.0.1:39445")),
            (&["(0,0,0,0,137,217)"], v4("0.0.0.0:35289")),
            (&["IPv4 slot 3, wait 2 minutes: (10,0,0,1,4,1)"], v4("10.0.0.1:1025")),
            (&["Passif \u{e9}tabli (10,0,0,1,4,1)"], v4("10.0.0.1:1025")),
            (&["1,234,567 bytes free (10,0,0,1,4,1)"], v4("10.0.0.1:1025")),
            (&["Entering Passive Mode ("], Err(Malformed::Missing)),
            (&["Entering Passive Mode (10,0,0,256,4,1)"], Err(Malformed::OutOfRange)),
            (&["Entering Passive Mode (-10,0,0,1,4,1)"], Err(Malformed::Form)),
            (&["Entering Passive Mode (10,0,0,-1,4,1)"], Err(Malformed::Form)),
            (&["Entering Passive Mode (10,0,0,1,0,0)"], Err(Malformed::PortZero)),
            (&["(10,0,0,1,4,1,7)"], Err(Malformed::Form)),
            (&["(10,0,0,1,4,1) (10,0,0,2,4,1)"], Err(Malformed::Ambiguous)),
            (&["(10,0,0,1,4)"], Err(Malformed::Form)),
        ];
        for (lines, expected) in table {
            let bytes: Vec<&[u8]> = lines.iter().map(|line| line.as_bytes()).collect();
            assert_eq!(parse_227(&bytes), expected, "{lines:?}");
        }
        assert_eq!(parse_227(&[b"Mode passif \xe9tabli (10,0,0,1,4,1)"]), v4("10.0.0.1:1025"));
    }

    #[test]
    fn a_229_is_found_in_every_dialect() {
        let port = |port| Ok(ExtendedPort { port, address: None });
        let table: [(&str, Result<ExtendedPort, Malformed>); 14] = [
            ("Entering Extended Passive Mode (|||6446|)", port(6446)),
            ("Entering Extended Passive Mode (|||6446|).", port(6446)),
            ("Entering Extended Passive Mode (!!!6446!)", port(6446)),
            ("Entering Extended Passive Mode |||6446|", port(6446)),
            ("ok (|1||6446|)", port(6446)),
            ("ok (|1|10.0.0.1|6446|)", Ok(ExtendedPort { port: 6446, address: Some([10, 0, 0, 1].into()) })),
            ("ok (|||70000|)", Err(Malformed::OutOfRange)),
            ("ok (|||0|)", Err(Malformed::PortZero)),
            ("ok (||||)", Err(Malformed::Missing)),
            ("ok (|||6446)", Err(Malformed::Missing)),
            ("ok (111644611)", Err(Malformed::Missing)),
            ("ok (|||-5|)", Err(Malformed::Missing)),
            ("ok (|||6446|) (|||6447|)", Err(Malformed::Ambiguous)),
            ("ok", Err(Malformed::Missing)),
        ];
        for (text, expected) in table {
            assert_eq!(parse_229(&[text.as_bytes()]), expected, "{text}");
        }
        assert_eq!(parse_229(&[b"here:", b"(|||6446|)", b"done"]), port(6446));
    }

    #[test]
    fn eprt_is_read_with_its_family() {
        let ok = |text: &str| Ok(text.parse::<SocketAddr>().unwrap());
        let table: [(&str, Result<SocketAddr, Malformed>); 14] = [
            ("|1|132.235.1.2|6275|", ok("132.235.1.2:6275")),
            ("|2|3ffe::1|6275|", ok("[3ffe::1]:6275")),
            ("!1!132.235.1.2!6275!", ok("132.235.1.2:6275")),
            ("|2|::ffff:1.2.3.4|6275|", ok("1.2.3.4:6275")),
            ("|2|fe80::1%eth0|6275|", Err(Malformed::Address)),
            ("|1|3ffe::1|6275|", Err(Malformed::Address)),
            ("|2|1.2.3.4|6275|", Err(Malformed::Address)),
            ("|3|1.2.3.4|6275|", Err(Malformed::UnknownFamily)),
            ("|1|1.2.3.4|0|", Err(Malformed::PortZero)),
            ("|1|1.2.3.4|65536|", Err(Malformed::OutOfRange)),
            ("|1|1.2.3.4|6275", Err(Malformed::Form)),
            ("|1|1.2.3.4|6275|x", Err(Malformed::Form)),
            (":2:3ffe::1:6275:", Err(Malformed::Form)),
            ("", Err(Malformed::Missing)),
        ];
        for (text, expected) in table {
            assert_eq!(parse_eprt(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn epsv_takes_a_family_or_all() {
        assert_eq!(parse_epsv_argument(b""), Ok(EpsvArgument::None));
        assert_eq!(parse_epsv_argument(b" all "), Ok(EpsvArgument::All));
        assert_eq!(parse_epsv_argument(b"2"), Ok(EpsvArgument::Family(Family::V6)));
        assert_eq!(parse_epsv_argument(b"3"), Err(Malformed::UnknownFamily));
        assert_eq!(parse_epsv_argument(b"ALLES"), Err(Malformed::Form));
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(ip: [u8; 4], wide: [u8; 16], port in 1_u16..) {
            let addr = SocketAddrV4::new(ip.into(), port);
            prop_assert_eq!(parse_port(write_port(addr).as_bytes()), Ok(addr));
            prop_assert_eq!(parse_227(&[write_227(addr).as_bytes()]), Ok(addr));
            prop_assert_eq!(parse_eprt(write_eprt(addr.into()).as_bytes()), Ok(addr.into()));
            let wide = SocketAddr::new(IpAddr::V6(wide.into()).to_canonical(), port);
            prop_assert_eq!(parse_eprt(write_eprt(wide).as_bytes()), Ok(wide));
            prop_assert_eq!(parse_229(&[write_229(port).as_bytes()]), Ok(ExtendedPort { port, address: None }));
        }

        #[test]
        fn no_bytes_cause_a_panic(bytes: Vec<u8>, text in "[-0-9,|() .!]{0,60}") {
            for bytes in [bytes.as_slice(), text.as_bytes()] {
                let _ = (parse_port(bytes), parse_eprt(bytes), parse_epsv_argument(bytes));
                let _ = (parse_227(&[bytes]), parse_229(&[bytes, bytes]));
            }
        }
    }
}
