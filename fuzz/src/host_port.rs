//! The four notations of an address and port.

use std::net::{IpAddr, SocketAddr, SocketAddrV4};

use ftpgate::ftp::host_port::*;

/// What was written is read again, what was read was said, and nothing is read where two things could be.
///
/// A line feed parts the lines of a reply.
pub fn host_port(data: &[u8]) {
    let lines: Vec<&[u8]> = data.split(|byte| *byte == b'\n').collect();
    if let Ok(at) = parse_port(data) {
        assert!(data.iter().all(|byte| byte.is_ascii_digit() || *byte == b',' || byte.is_ascii_whitespace()));
        assert_eq!(numbers(data), six(at));
        v4(at);
    }
    if let Ok(at) = parse_eprt(data) {
        assert_ne!(at.port(), 0);
        assert_eq!(numbers(data).last(), Some(&u64::from(at.port())));
        assert!(!matches!(at.ip(), IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some()), "a mapped address");
        assert_eq!(parse_eprt(write_eprt(at).as_bytes()), Ok(at));
    }
    if let Ok(at) = parse_227(&lines) {
        let said = |line: &&[u8]| numbers(line).windows(6).any(|window| window == six(at));
        assert!(lines.iter().any(said), "{at} was not said");
        v4(at);
    }
    if let Ok(ExtendedPort { port, .. }) = parse_229(&lines) {
        assert_ne!(port, 0);
        assert!(lines.iter().any(|line| numbers(line).contains(&u64::from(port))), "{port} was not said");
        assert_eq!(parse_229(&[write_229(port).as_bytes()]), Ok(ExtendedPort { port, address: None }));
    }
    for line in lines {
        let twice = |more: &[u8]| [line, more].concat();
        if parse_227(&[line]).is_ok() {
            assert!(parse_227(&[&twice(b" (1,2,3,4,5,6)")]).is_err(), "the first of two");
        }
        if parse_229(&[line]).is_ok() {
            assert!(parse_229(&[&twice(b" (|||6446|)")]).is_err(), "the first of two");
        }
    }
    if let Ok(EpsvArgument::All) = parse_epsv_argument(data) {
        assert!(data.trim_ascii().eq_ignore_ascii_case(b"ALL"));
    }
}

fn v4(at: SocketAddrV4) {
    assert_ne!(at.port(), 0);
    assert_eq!(parse_port(write_port(at).as_bytes()), Ok(at));
    assert_eq!(parse_227(&[write_227(at).as_bytes()]), Ok(at));
    assert_eq!(parse_eprt(write_eprt(at.into()).as_bytes()), Ok(SocketAddr::V4(at)));
}

/// The six numbers of PORT and 227.
fn six(at: SocketAddrV4) -> Vec<u64> {
    at.ip().octets().into_iter().chain(at.port().to_be_bytes()).map(u64::from).collect()
}

/// Every run of digits as a number; those too large for one are all the same.
fn numbers(line: &[u8]) -> Vec<u64> {
    let runs = line.split(|byte| !byte.is_ascii_digit()).filter(|run| !run.is_empty());
    runs.map(|run| {
        run.iter().fold(0_u64, |number, digit| number.saturating_mul(10).saturating_add(u64::from(digit - b'0')))
    })
    .collect()
}
