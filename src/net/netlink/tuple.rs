//! The addresses and ports of a TCP connection, as conntrack writes them (`CTA_TUPLE_*`).

use std::net::{IpAddr, SocketAddr};

use super::{Writer, find, number};

const ADDRESSES: u16 = 1;
const PROTOCOL: u16 = 2;
const TCP: u8 = 6;

/// Reads where packets of one direction come from and where they go to.
pub(crate) fn read(tuple: &[u8], family: u8) -> Option<(SocketAddr, SocketAddr)> {
    let address = |kind: [u16; 2]| -> Option<IpAddr> {
        match family {
            number::IPV4 => Some(IpAddr::from(<[u8; 4]>::try_from(find(tuple, &[ADDRESSES, kind[0]])?).ok()?)),
            number::IPV6 => Some(IpAddr::from(<[u8; 16]>::try_from(find(tuple, &[ADDRESSES, kind[1]])?).ok()?)),
            _ => None,
        }
    };
    let port = |kind| Some(u16::from_be_bytes(find(tuple, &[PROTOCOL, kind])?.try_into().ok()?));
    Some((SocketAddr::new(address([1, 3])?, port(2)?), SocketAddr::new(address([2, 4])?, port(3)?)))
}

/// Writes the same, inside the attribute of the tuple.
pub(crate) fn write(w: &mut Writer, from: SocketAddr, to: SocketAddr) {
    w.nest(ADDRESSES, |w| {
        for (ip, kinds) in [(from.ip(), [1, 3]), (to.ip(), [2, 4])] {
            match ip {
                IpAddr::V4(ip) => w.bytes(kinds[0], &ip.octets()),
                IpAddr::V6(ip) => w.bytes(kinds[1], &ip.octets()),
            }
        }
    });
    w.nest(PROTOCOL, |w| {
        w.bytes(1, &[TCP]);
        w.bytes(2, &from.port().to_be_bytes());
        w.bytes(3, &to.port().to_be_bytes());
    });
}
