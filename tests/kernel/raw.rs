//! Packets that no socket would send: TCP segments and ICMP errors, made by hand.

use std::io::{ErrorKind, Read as _};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

use crate::lab::host::Host;

pub const FIN: u8 = 0x01;
pub const SYN: u8 = 0x02;
pub const RST: u8 = 0x04;
pub const PSH: u8 = 0x08;
pub const ACK: u8 = 0x10;
const TCP: u8 = 6;
const TCP_HEADER: usize = 20;

/// A TCP segment without options.
#[derive(Clone, Copy)]
pub struct Segment<'a> {
    pub from: SocketAddr,
    pub to: SocketAddr,
    pub flags: u8,
    pub sequence: u32,
    pub acknowledged: u32,
    pub payload: &'a [u8],
}

impl Segment<'_> {
    pub fn syn(from: SocketAddr, to: SocketAddr) -> Self {
        Self { from, to, flags: SYN, sequence: 1_000_000, acknowledged: 0, payload: &[] }
    }

    fn bytes(&self, options: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(self.from.port().to_be_bytes());
        bytes.extend(self.to.port().to_be_bytes());
        bytes.extend(self.sequence.to_be_bytes());
        bytes.extend(self.acknowledged.to_be_bytes());
        let words = u8::try_from((TCP_HEADER + options.len()) / 4).unwrap();
        bytes.extend([words << 4, self.flags, 0xff, 0xff, 0, 0, 0, 0]);
        bytes.extend(options);
        bytes.extend(self.payload);
        let mut summed = [ip_bytes(self.from.ip()), ip_bytes(self.to.ip())].concat();
        summed.extend([0, TCP]);
        summed.extend(u16::try_from(bytes.len()).unwrap().to_be_bytes());
        summed.extend(&bytes);
        let sum = checksum(&summed);
        bytes[16..18].copy_from_slice(&sum.to_be_bytes());
        bytes
    }
}

/// A raw socket of a machine, at one of its addresses.
pub struct Raw(Socket);

impl Raw {
    pub fn tcp(host: &Host, at: IpAddr) -> Self {
        Self::open(host, at, Protocol::TCP)
    }

    fn open(host: &Host, at: IpAddr, protocol: Protocol) -> Self {
        let socket = host.run(move || {
            let at = SocketAddr::new(at, 0);
            let socket = Socket::new(Domain::for_address(at), Type::RAW, Some(protocol))?;
            socket.bind(&at.into())?;
            socket.set_read_timeout(Some(Duration::from_millis(100)))?;
            Ok::<_, std::io::Error>(socket)
        });
        Self(socket.unwrap())
    }

    pub fn send(&self, segment: &Segment<'_>) {
        self.send_with(segment, &[]);
    }

    /// With TCP options: whole words of four bytes.
    pub fn send_with(&self, segment: &Segment<'_>, options: &[u8]) {
        self.put(&segment.bytes(options), segment.to.ip());
    }

    fn put(&self, bytes: &[u8], to: IpAddr) {
        // What is sent in a burst may find the queue full.
        loop {
            match self.0.send_to(bytes, &SocketAddr::new(to, 0).into()) {
                Ok(_) => return,
                Err(error) if matches!(error.raw_os_error(), Some(105 | 11)) => std::thread::yield_now(),
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// The sequence number of the SYN-ACK that `from` answers `to` with; `None` where none comes.
    pub fn syn_ack(&self, from: SocketAddr, to: SocketAddr, patience: Duration) -> Option<u32> {
        let end = Instant::now() + patience;
        let mut buffer = [0; 2048];
        while Instant::now() < end {
            let length = match (&self.0).read(&mut buffer) {
                Ok(length) => length,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => continue,
                Err(error) => panic!("{error}"),
            };
            let packet = &buffer[..length];
            // Of IPv4 the header is there too.
            let header = if from.is_ipv4() { usize::from(packet[0] & 0x0f) * 4 } else { 0 };
            let tcp = &packet[header..];
            let ports = [from.port().to_be_bytes(), to.port().to_be_bytes()].concat();
            if tcp.starts_with(&ports) && tcp[13] & (SYN | ACK | RST) == SYN | ACK {
                return Some(u32::from_be_bytes(tcp[4..8].try_into().unwrap()));
            }
        }
        None
    }
}

/// Sends ICMP errors of every kind about packets from `from` to `to`, as the machine at `to` would. Where a TCP header
/// has its flags, the last of them has `like_flags`.
pub fn icmp_errors(host: &Host, from: SocketAddr, to: SocketAddr, like_flags: u8) {
    const NEXT_MTU: u16 = 1400;
    let (protocol, kinds): (_, &[[u8; 2]]) = if from.is_ipv4() {
        (Protocol::ICMPV4, &[[3, 1], [3, 3], [3, 4], [11, 0]])
    } else {
        (Protocol::ICMPV6, &[[1, 0], [1, 4], [2, 0], [3, 0]])
    };
    let raw = Raw::open(host, to.ip(), protocol);
    // Far outside any window: the ends do not care.
    let inner = Segment { from, to, flags: ACK, sequence: 1, acknowledged: 1, payload: &[] }.bytes(&[]);
    for [kind, code] in kinds {
        let mut bytes = vec![*kind, *code, 0, 0, 0, 0];
        bytes.extend(NEXT_MTU.to_be_bytes());
        if from.is_ipv4() {
            // The sixth byte is the lower one of the identification.
            let mut header = vec![0x45, 0, 0, 40, 0x12, like_flags, 0, 0, 64, TCP, 0, 0];
            header.extend([ip_bytes(from.ip()), ip_bytes(to.ip())].concat());
            let sum = checksum(&header);
            header[10..12].copy_from_slice(&sum.to_be_bytes());
            bytes.extend(header);
            bytes.extend(&inner);
            let sum = checksum(&bytes);
            bytes[2..4].copy_from_slice(&sum.to_be_bytes());
        } else {
            // The sixth byte is the lower one of the length.
            bytes.extend([0x60, 0, 0, 0, 0, like_flags, TCP, 64]);
            bytes.extend([ip_bytes(from.ip()), ip_bytes(to.ip())].concat());
            bytes.extend(&inner);
        }
        raw.put(&bytes, from.ip());
    }
}

fn ip_bytes(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

/// The Internet checksum (RFC 1071).
fn checksum(bytes: &[u8]) -> u16 {
    let sum: u32 = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !u16::try_from((folded & 0xffff) + (folded >> 16)).unwrap()
}
