//! Headers as text and as bytes, then off a socket.

use std::time::Duration;

use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use crate::net::{dial, listen};

fn forwarded(source: &str, destination: &str) -> ProxyHeader {
    ProxyHeader::Forwarded { source: source.parse().unwrap(), destination: destination.parse().unwrap() }
}

/// Version 2 with this command, family and body.
fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).unwrap().to_be_bytes();
    [V2, &[command, family], &length, body].concat()
}

const PORTS: &[u8] = &[0xc0, 0x00, 0x00, 0x15];

fn body4() -> Vec<u8> {
    [&[192, 0, 2, 7, 203, 0, 113, 5][..], PORTS].concat()
}

/// A header with extras around a right checksum.
fn with_checksum() -> Vec<u8> {
    let extras =
        [&body4()[..], &[0x04, 0, 1, 9], &[CRC32C, 0, 4, 0, 0, 0, 0], &[0x02, 0, 3, b'f', b't', b'p']].concat();
    let mut header = v2(0x21, 0x11, &extras);
    let at = FIXED + 12 + 4 + 3;
    let sum = crc32c(&header, at..at + 4);
    header[at..at + 4].copy_from_slice(&sum.to_be_bytes());
    header
}

fn valid() -> Vec<Vec<u8>> {
    let (v4, v6) = ("192.0.2.7:49152".parse().unwrap(), "[2001:db8::7]:49152".parse().unwrap());
    let mut headers = vec![b"PROXY UNKNOWN\r\n".to_vec(), v2(0x20, 0x00, b""), v2(0x21, 0x00, b""), with_checksum()];
    for version in [ProxyVersion::V1, ProxyVersion::V2] {
        headers.extend([write(version, v4, v4), write(version, v6, v6), write(version, v4, v6)]);
    }
    headers
}

#[test]
fn version_1_is_read() {
    for (line, said) in [
        ("PROXY TCP4 192.0.2.7 203.0.113.5 49152 21", forwarded("192.0.2.7:49152", "203.0.113.5:21")),
        ("PROXY TCP6 2001:DB8::7 2001:db8::5 0 65535", forwarded("[2001:db8::7]:0", "[2001:db8::5]:65535")),
        ("PROXY TCP6 ::ffff:192.0.2.7 ::ffff:203.0.113.5 1 21", forwarded("192.0.2.7:1", "203.0.113.5:21")),
        ("PROXY UNKNOWN", ProxyHeader::Own),
        ("PROXY UNKNOWN ffff::1 whatever 0 99999", ProxyHeader::Own),
    ] {
        let bytes = format!("{line}\r\nUSER anonymous\r\n");
        assert_eq!(parse(bytes.as_bytes()), Ok(Some((said, line.len() + 2))), "{line}");
    }
}

#[test]
fn version_1_has_one_form() {
    use HeaderFault::{Malformed, Missing, NoHost, TooLong};
    for (bytes, fault) in [
        ("USER anonymous\r\n", Missing),
        ("PROXYTCP4 1.2.3.4 1.2.3.5 1 21\r\n", Missing),
        ("proxy TCP4 1.2.3.4 1.2.3.5 1 21\r\n", Missing),
        (" PROXY TCP4 1.2.3.4 1.2.3.5 1 21\r\n", Missing),
        ("PROXY TCP4 1.2.3.4 1.2.3.5 1 21\n", Malformed),
        ("PROXY TCP4 1.2.3.4 1.2.3.5 1 21\r\r\n", Malformed),
        ("PROXY TCP4 1.2.3.4 1.2.3.5 1 21 \r\n", Malformed),
        ("PROXY TCP4  1.2.3.4 1.2.3.5 1 21\r\n", Malformed),
        ("PROXY TCP4 1.2.3.4 1.2.3.5 1\r\n", Malformed),
        ("PROXY TCP4 1.2.3.4 1.2.3.5 +1 21\r\n", Malformed),
        ("PROXY TCP4 1.2.3.4 1.2.3.5 01 21\r\n", Malformed),
        ("PROXY TCP4 1.2.3.4 1.2.3.5 1 65536\r\n", Malformed),
        ("PROXY TCP4 1.2.3.4 1.2.3.5  21\r\n", Malformed),
        ("PROXY TCP4 1.2.3.04 1.2.3.5 1 21\r\n", Malformed),
        ("PROXY TCP4 1.2.3 1.2.3.5 1 21\r\n", Malformed),
        ("PROXY TCP4 2001:db8::1 2001:db8::2 1 21\r\n", Malformed),
        ("PROXY TCP6 1.2.3.4 1.2.3.5 1 21\r\n", Malformed),
        ("PROXY TCP6 fe80::1%eth0 fe80::2 1 21\r\n", Malformed),
        ("PROXY UDP4 1.2.3.4 1.2.3.5 1 21\r\n", Malformed),
        ("PROXY UNKNOWNS\r\n", Malformed),
        ("PROXY unknown\r\n", Malformed),
        ("PROXY \r\n", Malformed),
        ("PROXY TCP4 1.2.3.\u{664} 1.2.3.5 1 21\r\n", Malformed),
        ("PROXY TCP4 0.0.0.0 1.2.3.5 1 21\r\n", NoHost),
        ("PROXY TCP4 1.2.3.4 224.0.0.1 1 21\r\n", NoHost),
        ("PROXY TCP4 255.255.255.255 1.2.3.5 1 21\r\n", NoHost),
        ("PROXY TCP6 ff02::1 2001:db8::2 1 21\r\n", NoHost),
        ("PROXY TCP6 ::ffff:0.0.0.0 2001:db8::2 1 21\r\n", NoHost),
        (&format!("PROXY UNKNOWN {}\r\n", "x".repeat(92)), TooLong),
        (&format!("PROXY UNKNOWN {}", "x".repeat(93)), TooLong),
    ] {
        assert_eq!(parse(bytes.as_bytes()), Err(fault), "{bytes:?}");
    }
    let longest = format!("PROXY UNKNOWN {}\r\n", "x".repeat(91));
    assert_eq!(parse(longest.as_bytes()), Ok(Some((ProxyHeader::Own, MAX_V1))));
}

#[test]
fn version_2_is_read() {
    let said = forwarded("192.0.2.7:49152", "203.0.113.5:21");
    let mapped = |ip: &[u8]| [&[0; 10][..], &[0xff, 0xff], ip].concat();
    let body6 = [&mapped(&[192, 0, 2, 7])[..], &mapped(&[203, 0, 113, 5]), PORTS].concat();
    for (header, said) in [
        (v2(0x21, 0x11, &body4()), said),
        (v2(0x21, 0x21, &body6), said),
        (v2(0x21, 0x11, &[&body4()[..], &[0xea, 0, 3, 1, 2, 3]].concat()), said),
        (with_checksum(), said),
        (v2(0x20, 0x00, b""), ProxyHeader::Own),
        (v2(0x20, 0x11, &body4()), ProxyHeader::Own),
        (v2(0x20, 0xff, b"anything"), ProxyHeader::Own),
        (v2(0x21, 0x00, b""), ProxyHeader::Own),
    ] {
        let followed = [&header[..], b"USER anonymous\r\n"].concat();
        assert_eq!(parse(&followed), Ok(Some((said, header.len()))), "{header:02x?}");
    }
}

#[test]
fn version_2_is_refused_where_it_is_not_sure() {
    use HeaderFault::{Checksum, Malformed, NoHost, NotTcp, TooLong};
    let sum = |sum: [u8; 4]| [&body4()[..], &[CRC32C, 0, 4], &sum].concat();
    let (good, mut nobody) = (with_checksum(), body4());
    let twice = [&good[FIXED..], &[CRC32C, 0, 4, 0, 0, 0, 0]].concat();
    nobody[..4].fill(0);
    for (header, fault) in [
        (v2(0x11, 0x11, &body4()), Malformed),
        (v2(0x22, 0x11, &body4()), Malformed),
        (v2(0x31, 0x11, &body4()), Malformed),
        (v2(0x21, 0x10, &body4()), Malformed),
        (v2(0x21, 0x13, &body4()), Malformed),
        (v2(0x21, 0x41, &body4()), Malformed),
        (v2(0x21, 0x12, &body4()), NotTcp),
        (v2(0x21, 0x22, &[1; 36]), NotTcp),
        (v2(0x21, 0x31, &[1; 216]), NotTcp),
        (v2(0x21, 0x32, &[1; 216]), NotTcp),
        (v2(0x21, 0x11, &body4()[..11]), Malformed),
        (v2(0x21, 0x21, &body4()), Malformed),
        (v2(0x21, 0x11, &[&body4()[..], &[1]].concat()), Malformed),
        (v2(0x21, 0x11, &[&body4()[..], &[1, 0, 2, 0]].concat()), Malformed),
        (v2(0x21, 0x11, &[&body4()[..], &[CRC32C, 0, 3, 0, 0, 0]].concat()), Malformed),
        (v2(0x21, 0x11, &sum([0; 4])), Checksum),
        (v2(0x21, 0x11, &twice), Checksum),
        (v2(0x21, 0x11, &nobody), NoHost),
        (v2(0x21, 0x11, &[1; MAX_HEADER - FIXED + 1]), TooLong),
        // Its length alone tells.
        (v2(0x21, 0x11, &[1; 65535])[..FIXED].to_vec(), TooLong),
    ] {
        assert_eq!(parse(&header).unwrap_err(), fault, "{:02x?}", &header[..header.len().min(40)]);
    }
}

/// The check value that every list of CRCs gives for CRC-32C.
#[test]
fn the_checksum_is_crc_32c() {
    assert_eq!(crc32c(b"123456789", 0..0), 0xe306_9283);
    assert_eq!(crc32c(b"12xx56789", 2..4), crc32c(b"12\0\x0056789", 0..0));
}

#[test]
fn a_part_of_a_header_is_not_complete() {
    for header in valid() {
        for end in 0..header.len() {
            assert_eq!(parse(&header[..end]), Ok(None), "{:?}", header[..end].escape_ascii().to_string());
        }
        assert!(matches!(parse(&header), Ok(Some((_, length))) if length == header.len()));
    }
}

/// What is read from a changed header is what a header with just these bytes says: nothing is half believed.
#[test]
fn one_changed_byte_is_refused_or_means_what_it_says() {
    let plain = write(ProxyVersion::V2, "192.0.2.7:49152".parse().unwrap(), "203.0.113.5:21".parse().unwrap());
    for (header, is_checked) in [(plain, false), (with_checksum(), true)] {
        for (at, byte) in (0..header.len()).flat_map(|at| (0..=255).map(move |byte| (at, byte))) {
            let mut changed = header.clone();
            changed[at] = byte;
            if changed == header {
                continue;
            }
            match parse(&changed) {
                Err(_) | Ok(None) => {}
                // The command LOCAL has all the rest discarded.
                Ok(Some((ProxyHeader::Own, length))) => assert_eq!((at, byte, length), (12, 0x20, header.len())),
                // The checksum itself was made something else, or lies behind the end.
                Ok(Some((said, _))) if is_checked => {
                    assert_eq!(said, parse(&header).unwrap().unwrap().0, "{at} {byte}")
                }
                Ok(Some((ProxyHeader::Forwarded { source, destination }, length))) => {
                    assert_eq!(write(ProxyVersion::V2, source, destination), changed[..length]);
                }
            }
        }
    }
}

#[test]
fn addresses_of_two_families_are_written_as_ipv6() {
    let (v4, v6) = ("192.0.2.7:1".parse().unwrap(), "[2001:db8::5]:21".parse().unwrap());
    let text = write(ProxyVersion::V1, v4, v6);
    assert_eq!(String::from_utf8(text).unwrap(), "PROXY TCP6 ::ffff:192.0.2.7 2001:db8::5 1 21\r\n");
    let text = write(ProxyVersion::V1, v6, v4);
    assert_eq!(String::from_utf8(text).unwrap(), "PROXY TCP6 2001:db8::5 ::ffff:192.0.2.7 21 1\r\n");
}

fn end() -> impl Strategy<Value = SocketAddr> {
    let v4 = any::<[u8; 4]>().prop_map(IpAddr::from);
    let ip = prop_oneof![v4, any::<[u8; 16]>().prop_map(IpAddr::from)];
    (ip, any::<u16>())
        .prop_map(|(ip, port)| SocketAddr::new(ip.to_canonical(), port))
        .prop_filter("a host", |end| !end.ip().is_unspecified() && !end.ip().is_multicast())
        .prop_filter("a host", |end| end.ip() != IpAddr::V4(Ipv4Addr::BROADCAST))
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        source in end(),
        destination in end(),
        version in prop_oneof![Just(ProxyVersion::V1), Just(ProxyVersion::V2)],
        rest in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let header = write(version, source, destination);
        let said = ProxyHeader::Forwarded { source, destination };
        prop_assert_eq!(parse(&[&header[..], &rest].concat()), Ok(Some((said, header.len()))));
    }

    #[test]
    fn no_bytes_make_it_panic(
        start in prop::sample::select(vec![&b""[..], V1, b"PROXY TCP4 ", V2, b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0"]),
        bytes in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let bytes = [start, &bytes].concat();
        if let Ok(Some((_, length))) = parse(&bytes) {
            prop_assert!(length <= bytes.len());
        }
    }
}

async fn pair() -> (TcpStream, TcpStream) {
    let listener = listen("127.0.0.1:0".parse().unwrap(), false, 8).unwrap();
    let dialled = dial(listener.local_addr().unwrap(), None, false, Duration::from_secs(1)).await.unwrap();
    (dialled, listener.accept().await.unwrap().0)
}

#[tokio::test]
async fn not_a_byte_more_is_taken() {
    let long = v2(0x21, 0x11, &[&body4()[..], &[4, 3, 0], &[7; 0x300]].concat());
    for header in valid().into_iter().chain([long]) {
        let (mut balancer, mut ours) = pair().await;
        balancer.write_all(&[&header[..], b"USER anonymous\r\n"].concat()).await.unwrap();
        assert_eq!(take(&ours).await.ok(), parse(&header).unwrap().map(|(said, _)| said));
        drop(balancer);
        let mut rest = Vec::new();
        ours.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, b"USER anonymous\r\n");
    }
}

#[tokio::test]
async fn a_header_may_come_in_pieces() {
    for header in valid() {
        let (mut balancer, mut ours) = pair().await;
        let sending = async {
            for byte in &header {
                balancer.write_all(&[*byte]).await.unwrap();
                tokio::task::yield_now().await;
            }
            balancer.write_all(b"!").await.unwrap();
        };
        let (taken, ()) = tokio::join!(take(&ours), sending);
        assert!(taken.is_ok());
        assert_eq!(ours.read_u8().await.unwrap(), b'!');
    }
}

#[tokio::test]
async fn the_end_of_a_connection_is_a_fault() {
    for (sent, fault) in [(&b""[..], HeaderFault::Nothing), (b"PROXY TC", HeaderFault::Malformed)] {
        let (mut balancer, ours) = pair().await;
        balancer.write_all(sent).await.unwrap();
        drop(balancer);
        assert_eq!(take(&ours).await, Err(BadHeader { fault, seen: sent.into() }));
    }
}
