//! The PROXY protocol, versions 1 and 2: a header that a balancer sends ahead of a connection's own bytes and that
//! names the two ends which the balancer stands between. Written down in HAProxy's `doc/proxy-protocol.txt`.
//!
//! Parse and write stand side by side, and are pure. What cannot be read with certainty is a fault: whoever believes a
//! wrong header takes one client for another.

mod take;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str;

pub use take::take;

use crate::policy::ProxyVersion;

/// The longest header that is taken. Version 2 could tell of 64 KiB, of which all but the addresses is for others.
pub const MAX_HEADER: usize = 4096;

/// The longest header of version 1, with its CR LF (section 2.1).
const MAX_V1: usize = 107;
const V1: &[u8] = b"PROXY ";
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// The part of version 2 in front of the addresses (section 2.2).
const FIXED: usize = 16;
const CRC32C: u8 = 0x03;

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyHeader {
    /// The connection is forwarded for somebody. IPv4-mapped addresses are IPv4 here.
    Forwarded {
        /// Where it comes from.
        source: SocketAddr,
        /// Where it went to.
        destination: SocketAddr,
    },
    /// `LOCAL` or `UNKNOWN`: it is the balancer's own, such as a health check.
    Own,
}

/// Why a connection that must begin with a header was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HeaderFault {
    /// It ended before anything came.
    Nothing,
    /// It begins with something else.
    Missing,
    /// The header is no valid one, or was cut off.
    Malformed,
    /// The header is longer than what is taken.
    TooLong,
    /// The checksum is wrong.
    Checksum,
    /// It tells of a datagram or of a UNIX socket.
    NotTcp,
    /// An address in it belongs to no single host.
    NoHost,
    /// It did not come in time.
    Late,
    /// It was not waited for: too many others wait for theirs.
    TooMany,
}

/// How a connection began that had to begin with a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadHeader {
    /// What is wrong.
    pub fault: HeaderFault,
    /// Its first bytes, which may hold a password: few, and none where nothing came.
    pub seen: Box<[u8]>,
}

impl HeaderFault {
    /// The name that logs use and the README explains.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Nothing | Self::Missing => "no_proxy_header",
            Self::Malformed => "proxy_header_malformed",
            Self::TooLong => "proxy_header_too_long",
            Self::Checksum => "proxy_header_checksum",
            Self::NotTcp => "proxy_header_not_tcp",
            Self::NoHost => "proxy_header_address",
            Self::Late => "proxy_header_late",
            Self::TooMany => "proxy_headers_pending",
        }
    }

    /// What the operator can do about it.
    #[must_use]
    pub const fn advice(self) -> &'static str {
        match self {
            Self::Nothing | Self::Missing => {
                "the listener's `proxy_from` names this address: a balancer there must send a PROXY header (HAProxy: send-proxy, \
                 send-proxy-v2; nginx: proxy_protocol on), ahead of everything else and of TLS too; what comes from there \
                 otherwise must not be in `proxy_from`"
            }
            Self::Malformed => {
                "the header was cut off or does not keep to the protocol: see whether the balancer and what is behind it both \
                 add one, or try the other version (HAProxy: send-proxy, send-proxy-v2)"
            }
            Self::TooLong => {
                "version 1 has 107 bytes at most, and of version 2 4096 are taken: have the balancer send fewer extras \
                 (HAProxy: proxy-v2-options, set-proxy-v2-tlv-fmt)"
            }
            Self::Checksum => {
                "its CRC-32C does not fit what came: something in between changes the header, or the balancer counts wrongly; \
                 HAProxy sends none without `proxy-v2-options crc32c`"
            }
            Self::NotTcp => {
                "it tells of a datagram or a UNIX socket: the balancer must take clients by TCP, and send LOCAL or UNKNOWN for \
                 connections of its own"
            }
            Self::NoHost => {
                "the client that it names is no possible one (unspecified, multicast, loopback, link-local, or the gate \
                 itself): the balancer does not know its clients, perhaps because another proxy in front of it sends no header"
            }
            Self::Late => {
                "no whole header came in 5 s: in FTP the server speaks first, so the balancer must send the header as soon as \
                 it has connected; a check that only connects needs `check-send-proxy`, or belongs in `health_checks_from`"
            }
            Self::TooMany => {
                "64 connections to this port have not sent their PROXY header yet: does the balancer send one on its data \
                 ports too?"
            }
        }
    }
}

/// Reads the header at the front of `bytes`, and tells its length; `None` while it is not complete. Nothing but more
/// of the header can follow then: a caller may take all of `bytes`.
///
/// # Errors
/// Where no valid header begins with these bytes.
pub fn parse(bytes: &[u8]) -> Result<Option<(ProxyHeader, usize)>, HeaderFault> {
    let begins = |with: &[u8]| bytes.iter().zip(with).all(|(byte, wanted)| byte == wanted);
    if bytes.is_empty() {
        Ok(None)
    } else if begins(V1) {
        v1(bytes)
    } else if begins(V2) {
        v2(bytes)
    } else {
        Err(HeaderFault::Missing)
    }
}

/// Writes a header. Where one address is IPv4 and the other IPv6, both are written as IPv6, the IPv4 one mapped.
#[must_use]
pub fn write(version: ProxyVersion, source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    let ports = (source.port(), destination.port());
    match (version, source.ip().to_canonical(), destination.ip().to_canonical()) {
        (ProxyVersion::V1, IpAddr::V4(from), IpAddr::V4(to)) => write_v1("TCP4", &from, &to, ports),
        (ProxyVersion::V1, from, to) => write_v1("TCP6", &as_v6(from), &as_v6(to), ports),
        (ProxyVersion::V2, IpAddr::V4(from), IpAddr::V4(to)) => write_v2(0x11, &from.octets(), &to.octets(), ports),
        (ProxyVersion::V2, from, to) => write_v2(0x21, &as_v6(from).octets(), &as_v6(to).octets(), ports),
    }
}

fn as_v6(ip: IpAddr) -> Ipv6Addr {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    }
}

fn v1(bytes: &[u8]) -> Result<Option<(ProxyHeader, usize)>, HeaderFault> {
    let within = bytes.get(..MAX_V1).unwrap_or(bytes);
    let Some(end) = memchr::memchr(b'\n', within) else {
        return if bytes.len() < MAX_V1 { Ok(None) } else { Err(HeaderFault::TooLong) };
    };
    let line = within.get(..end).and_then(|line| line.strip_suffix(b"\r")).and_then(|line| str::from_utf8(line).ok());
    let header = v1_line(line.ok_or(HeaderFault::Malformed)?)?;
    Ok(Some((header, end + 1)))
}

fn v1_line(line: &str) -> Result<ProxyHeader, HeaderFault> {
    let fields: Vec<&str> = line.split(' ').collect();
    match fields[..] {
        // What follows is to be ignored.
        ["PROXY", "UNKNOWN", ..] => Ok(ProxyHeader::Own),
        ["PROXY", "TCP4", from, to, from_port, to_port] => {
            let ip = |text: &str| text.parse::<Ipv4Addr>().ok().map(IpAddr::V4);
            forwarded((ip(from), port(from_port)), (ip(to), port(to_port)))
        }
        ["PROXY", "TCP6", from, to, from_port, to_port] => {
            let ip = |text: &str| text.parse::<Ipv6Addr>().ok().map(IpAddr::V6);
            forwarded((ip(from), port(from_port)), (ip(to), port(to_port)))
        }
        _ => Err(HeaderFault::Malformed),
    }
}

/// A port as section 2.1 wants it: decimal digits, with no zero ahead of others.
fn port(text: &str) -> Option<u16> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| is_plain)
}

fn write_v1(family: &str, from: &impl ToString, to: &impl ToString, (from_port, to_port): (u16, u16)) -> Vec<u8> {
    format!("PROXY {family} {} {} {from_port} {to_port}\r\n", from.to_string(), to.to_string()).into_bytes()
}

fn v2(bytes: &[u8]) -> Result<Option<(ProxyHeader, usize)>, HeaderFault> {
    let Some(&[command, family, high, low]) = bytes.get(V2.len()..FIXED) else { return Ok(None) };
    let length = FIXED + usize::from(u16::from_be_bytes([high, low]));
    if !matches!(command, 0x20 | 0x21) {
        return Err(HeaderFault::Malformed);
    }
    if length > MAX_HEADER {
        return Err(HeaderFault::TooLong);
    }
    let Some(header) = bytes.get(..length) else { return Ok(None) };
    let body = header.get(FIXED..).unwrap_or_default();
    let (said, rest) = match (command, family) {
        // All that follows is to be discarded, whatever family it claims to be of.
        (0x20, _) => return Ok(Some((ProxyHeader::Own, length))),
        (_, 0x00) => (ProxyHeader::Own, body),
        (_, 0x11) => v2_addresses::<4>(body)?,
        (_, 0x21) => v2_addresses::<16>(body)?,
        (_, 0x12 | 0x22 | 0x31 | 0x32) => return Err(HeaderFault::NotTcp),
        _ => return Err(HeaderFault::Malformed),
    };
    check_extras(header, rest)?;
    Ok(Some((said, length)))
}

/// Two addresses, then two ports; and what follows them.
fn v2_addresses<const LENGTH: usize>(body: &[u8]) -> Result<(ProxyHeader, &[u8]), HeaderFault>
where
    IpAddr: From<[u8; LENGTH]>,
{
    let parts = || {
        let (from, rest) = body.split_first_chunk::<LENGTH>()?;
        let (to, rest) = rest.split_first_chunk::<LENGTH>()?;
        let (from_port, rest) = rest.split_first_chunk::<2>()?;
        let (to_port, rest) = rest.split_first_chunk::<2>()?;
        let end = |ip: &[u8; LENGTH], port: &[u8; 2]| (Some(IpAddr::from(*ip)), Some(u16::from_be_bytes(*port)));
        Some((end(from, from_port), end(to, to_port), rest))
    };
    let (from, to, rest) = parts().ok_or(HeaderFault::Malformed)?;
    Ok((forwarded(from, to)?, rest))
}

/// The extras (TLVs) behind the addresses say nothing for us, but must be whole, and a checksum among them right.
fn check_extras(header: &[u8], mut rest: &[u8]) -> Result<(), HeaderFault> {
    while let Some((&kind, after)) = rest.split_first() {
        let (length, after) = after.split_first_chunk::<2>().ok_or(HeaderFault::Malformed)?;
        let length = usize::from(u16::from_be_bytes(*length));
        let (value, after) = after.split_at_checked(length).ok_or(HeaderFault::Malformed)?;
        if kind == CRC32C {
            let sum: [u8; 4] = value.try_into().map_err(|_| HeaderFault::Malformed)?;
            let from = header.len() - after.len() - sum.len();
            if crc32c(header, from..from + sum.len()) != u32::from_be_bytes(sum) {
                return Err(HeaderFault::Checksum);
            }
        }
        rest = after;
    }
    Ok(())
}

/// CRC-32C (RFC 4960 appendix B) of `bytes`, with those of `zeroed` taken as zero.
fn crc32c(bytes: &[u8], zeroed: std::ops::Range<usize>) -> u32 {
    let sum = bytes.iter().enumerate().fold(u32::MAX, |sum, (at, &byte)| {
        let byte = if zeroed.contains(&at) { 0 } else { byte };
        (0..8).fold(sum ^ u32::from(byte), |sum, _| if sum & 1 == 1 { sum >> 1 ^ 0x82f6_3b78 } else { sum >> 1 })
    });
    !sum
}

fn write_v2(family: u8, from: &[u8], to: &[u8], (from_port, to_port): (u16, u16)) -> Vec<u8> {
    // Two addresses of one kind and two ports: 12 or 36.
    let length = if family == 0x11 { 12 } else { 36 };
    [V2, &[0x21, family, 0, length], from, to, &from_port.to_be_bytes(), &to_port.to_be_bytes()].concat()
}

fn forwarded(
    from: (Option<IpAddr>, Option<u16>),
    to: (Option<IpAddr>, Option<u16>),
) -> Result<ProxyHeader, HeaderFault> {
    let end = |(ip, port): (Option<IpAddr>, Option<u16>)| {
        let ip = ip.ok_or(HeaderFault::Malformed)?.to_canonical();
        let is_hosts = !ip.is_unspecified() && !ip.is_multicast() && ip != IpAddr::V4(Ipv4Addr::BROADCAST);
        let port = port.ok_or(HeaderFault::Malformed)?;
        if is_hosts { Ok(SocketAddr::new(ip, port)) } else { Err(HeaderFault::NoHost) }
    };
    Ok(ProxyHeader::Forwarded { source: end(from)?, destination: end(to)? })
}
