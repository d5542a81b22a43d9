//! Addresses by their role, networks and ranges of ports.
//!
//! An FTP session has four addresses, and mixing two of them up is the classic fault of a gate. Each has a type of
//! its own here: client C, front F (what the client connected to), back B (what the server sees us as), server S.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6};

use ipnet::IpNet;

/// One side of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// The user-FTP process, and the leg towards it.
    Client,
    /// The server-FTP process, and the leg towards it.
    Server,
}

impl Side {
    /// The opposite side.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Client => "client",
            Self::Server => "server",
        })
    }
}

macro_rules! role {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub struct $name(SocketAddr);

        impl $name {
            /// Takes an address into this role; an IPv4-mapped IPv6 address becomes the IPv4 address that it stands for.
            #[must_use]
            pub fn new(addr: SocketAddr) -> Self {
                Self(canonical(addr))
            }

            /// The address and port.
            #[must_use]
            pub const fn socket(self) -> SocketAddr {
                self.0
            }

            /// The address alone.
            #[must_use]
            pub const fn ip(self) -> IpAddr {
                self.0.ip()
            }

            /// The port alone.
            #[must_use]
            pub const fn port(self) -> u16 {
                self.0.port()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

role! {
    /// C: where the client's control connection comes from.
    ClientAddr
}
role! {
    /// F: the address that the client connected to, and the only one that it is told about.
    FrontAddr
}
role! {
    /// B: the address that the server sees our control connection come from, and the only one that it is told about.
    BackAddr
}
role! {
    /// S: the server's control port.
    ServerAddr
}
role! {
    /// Where the client meant to go, when its connection was intercepted.
    OriginalDst
}

/// An address and port with IPv4 as IPv4, and with nothing beside them but the link that a link-local address is on.
#[must_use]
pub fn canonical(addr: SocketAddr) -> SocketAddr {
    on_link(SocketAddr::new(addr.ip().to_canonical(), addr.port()), link_of(addr))
}

/// The number of the interface whose link a link-local IPv6 address is on: without it the address says nothing. 0 where none
/// is given, and for every other address.
#[must_use]
pub const fn link_of(addr: SocketAddr) -> u32 {
    match addr {
        SocketAddr::V6(v6) if v6.ip().is_unicast_link_local() => v6.scope_id(),
        SocketAddr::V4(_) | SocketAddr::V6(_) => 0,
    }
}

/// The address and port on this link, where its address is link-local.
#[must_use]
pub const fn on_link(addr: SocketAddr, link: u32) -> SocketAddr {
    match addr {
        SocketAddr::V6(v6) if v6.ip().is_unicast_link_local() => {
            SocketAddr::V6(SocketAddrV6::new(*v6.ip(), v6.port(), 0, link))
        }
        SocketAddr::V4(_) | SocketAddr::V6(_) => addr,
    }
}

/// Whether an address may be dialled on a peer's word: not loopback, unspecified, link-local, multicast or broadcast,
/// written as IPv4 or as IPv6 that leads there.
#[must_use]
pub fn is_dialable(ip: IpAddr) -> bool {
    embedded_v4(ip).all(|ip| is_host(ip.into())) && is_host(ip)
}

/// The IPv4 addresses that an IPv6 address may lead to by way of a translator or tunnel:
///
/// - NAT64: the well-known prefix (RFC 6052 section 2.1) and that for local use (RFC 8215)
/// - SIIT's IPv4-translated addresses (RFC 2765 section 2.1)
/// - IPv4-compatible addresses (RFC 4291 section 2.5.5.1)
/// - 6to4 (RFC 3056 section 2)
/// - Teredo's server and client (RFC 4380 section 4)
/// - ISATAP (RFC 5214 section 6.1)
///
/// Prefixes that a network has chosen for itself are known to nobody else. An IPv4-mapped address is the IPv4 address,
/// and embeds none.
pub fn embedded_v4(ip: IpAddr) -> impl Iterator<Item = Ipv4Addr> {
    let found = match ip.to_canonical() {
        IpAddr::V4(_) => [None; 4],
        IpAddr::V6(ip) => match ip.segments() {
            [0x64, 0xff9b, 1, ..] => in_local_nat64(ip.octets()),
            [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0, 0, 0, 0, 0xffff, 0, high, low] | [0x2002, high, low, ..] => {
                [Some(joined(high, low)), None, None, None]
            }
            [0, 0, 0, 0, 0, 0, high, low] if high != 0 => [Some(joined(high, low)), None, None, None],
            [0x2001, 0, server_high, server_low, _, _, high, low] => {
                [Some(joined(server_high, server_low)), Some(joined(!high, !low)), None, None]
            }
            [_, _, _, _, 0 | 0x200, 0x5efe, high, low] => [Some(joined(high, low)), None, None, None],
            _ => [None; 4],
        },
    };
    found.into_iter().flatten()
}

/// What an address within 64:ff9b:1::/48 may embed: the prefix of the translator may be of any length from 48 on that RFC
/// 6052 section 2.2 knows, and only its operator knows which.
fn in_local_nat64(octets: [u8; 16]) -> [Option<Ipv4Addr>; 4] {
    // Octet 8 is no part of an address.
    let readings = [[6, 7, 9, 10], [7, 9, 10, 11], [9, 10, 11, 12], [12, 13, 14, 15]]
        .map(|places| Ipv4Addr::from(places.map(|place| octets[place])));
    // The prefix and the suffix are mostly zeros. No translator leads to 0.0.0.0/8, so that is no reading.
    let is_reading = |ip: &Ipv4Addr| ip.octets()[0] != 0;
    if readings.iter().any(is_reading) {
        readings.map(|ip| Some(ip).filter(is_reading))
    } else {
        [Some(Ipv4Addr::UNSPECIFIED), None, None, None]
    }
}

fn joined(high: u16, low: u16) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(high) << 16 | u32::from(low))
}

const fn is_host(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            !(ip.octets()[0] == 127
                || ip.octets()[0] == 0
                || ip.is_link_local()
                || ip.is_multicast()
                || ip.is_broadcast())
        }
        IpAddr::V6(ip) => !(ip.is_loopback() || ip.is_unspecified() || ip.is_unicast_link_local() || ip.is_multicast()),
    }
}

/// Whether text can be the name of a host: labels of letters, digits, hyphens and underscores (RFC 1123 section 2.1).
///
/// One that ends in a number is refused: some resolvers take `127.1` or `0x7f000001` for an address.
#[must_use]
pub fn is_host_name(text: &str) -> bool {
    /// RFC 1035 section 2.3.4.
    const LONGEST: (usize, usize) = (253, 63);
    let label = |label: &str| {
        (1..=LONGEST.1).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    let relative = text.strip_suffix('.').unwrap_or(text);
    let last = relative.rsplit('.').next().unwrap_or_default();
    text.len() <= LONGEST.0 && relative.split('.').all(label) && !last.starts_with(|first: char| first.is_ascii_digit())
}

/// The addresses of one session, fixed once both control connections stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// C.
    pub client: ClientAddr,
    /// F.
    pub front: FrontAddr,
    /// B.
    pub back: BackAddr,
    /// S.
    pub server: ServerAddr,
}

/// Addresses that a rule speaks of: written out as `any`, or a network of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Network {
    /// Every address of both families.
    Any,
    /// The addresses of one prefix.
    Net(IpNet),
}

impl Network {
    /// Whether all of `other` lies inside.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Any, _) => true,
            (Self::Net(_), Self::Any) => false,
            (Self::Net(net), Self::Net(other)) => net.contains(other),
        }
    }

    /// Whether `ip` lies inside. IPv4-mapped IPv6 addresses count as the IPv4 address that they stand for.
    #[must_use]
    pub fn contains(&self, ip: IpAddr) -> bool {
        match self {
            Self::Any => true,
            Self::Net(net) => net.contains(&ip.to_canonical()),
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("any"),
            Self::Net(net) if net.prefix_len() == net.max_prefix_len() => net.addr().fmt(f),
            Self::Net(net) => net.fmt(f),
        }
    }
}

/// TCP ports from `first` to `last`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PortRange {
    first: u16,
    last: u16,
}

impl PortRange {
    /// The ports from `first` to `last`, or `None` where that is backwards.
    #[must_use]
    pub const fn new(first: u16, last: u16) -> Option<Self> {
        if first <= last { Some(Self { first, last }) } else { None }
    }

    /// The lowest port.
    #[must_use]
    pub const fn first(self) -> u16 {
        self.first
    }

    /// The highest port.
    #[must_use]
    pub const fn last(self) -> u16 {
        self.last
    }

    /// Whether `port` lies inside.
    #[must_use]
    pub const fn contains(self, port: u16) -> bool {
        self.first <= port && port <= self.last
    }

    /// How many ports there are: at least one.
    #[must_use]
    pub const fn count(self) -> u32 {
        self.last as u32 - self.first as u32 + 1
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last { write!(f, "{}", self.first) } else { write!(f, "{}-{}", self.first, self.last) }
    }
}

/// Several ranges of ports: sorted, apart from each other, never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortRanges(Vec<PortRange>);

impl PortRanges {
    /// Every port that is not reserved (RFC 2577 section 3): 1024-65535.
    #[must_use]
    pub fn unreserved() -> Self {
        Self(vec![PortRange { first: 1024, last: 65535 }])
    }

    /// Sorts and joins `ranges`; `None` where there are none.
    #[must_use]
    pub fn new(mut ranges: Vec<PortRange>) -> Option<Self> {
        ranges.sort_by_key(|range| range.first);
        let mut joined: Vec<PortRange> = Vec::with_capacity(ranges.len());
        for range in ranges {
            match joined.last_mut() {
                Some(last) if u32::from(range.first) <= u32::from(last.last) + 1 => {
                    last.last = last.last.max(range.last)
                }
                _ => joined.push(range),
            }
        }
        if joined.is_empty() { None } else { Some(Self(joined)) }
    }

    /// The ranges, lowest first.
    #[must_use]
    pub fn as_slice(&self) -> &[PortRange] {
        &self.0
    }

    /// Whether `port` lies in one of them.
    #[must_use]
    pub fn contains(&self, port: u16) -> bool {
        self.0.iter().any(|range| range.contains(port))
    }

    /// Whether some port lies in both.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        let overlap = |a: &PortRange, b: &PortRange| a.first <= b.last && b.first <= a.last;
        self.0.iter().any(|range| other.0.iter().any(|other| overlap(range, other)))
    }

    /// How many ports there are in all.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.0.iter().map(|range| range.count()).sum()
    }

    /// How many ports lie below this one, where it is one of them.
    #[must_use]
    pub fn place_of(&self, port: u16) -> Option<u32> {
        let mut below = 0;
        for range in &self.0 {
            if range.contains(port) {
                return Some(below + u32::from(port - range.first));
            }
            below += range.count();
        }
        None
    }

    /// The `index`th port, counted from the lowest; `None` past the last.
    #[must_use]
    pub fn nth(&self, mut index: u32) -> Option<u16> {
        for range in &self.0 {
            if index < range.count() {
                return u16::try_from(u32::from(range.first) + index).ok();
            }
            index -= range.count();
        }
        None
    }
}

impl fmt::Display for PortRanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, range) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{range}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_hosts_are_told_from_numbers() {
        for name in ["a", "ftp.example.com", "ftp.example.com.", "my_host", "3com.example", "xn--bcher-kva.example"] {
            assert!(is_host_name(name), "{name}");
        }
        let long = format!("{}.example", "a".repeat(64));
        for other in
            ["", ".", "a..b", "a b", "127.1", "0x7f000001", "10.0.0.1", "::1", "gr\u{fc}n", "a/b", long.as_str()]
        {
            assert!(!is_host_name(other), "{other}");
        }
    }

    fn ranges(list: &[(u16, u16)]) -> PortRanges {
        PortRanges::new(list.iter().map(|&(a, b)| PortRange::new(a, b).unwrap()).collect()).unwrap()
    }

    #[test]
    fn ranges_are_sorted_and_joined() {
        let joined = ranges(&[(300, 400), (100, 200), (201, 210), (350, 500), (65535, 65535)]);
        assert_eq!(joined.to_string(), "100-210, 300-500, 65535");
        assert_eq!(joined.count(), 111 + 201 + 1);
    }

    #[test]
    fn nth_walks_over_the_gaps_and_ends() {
        let two = ranges(&[(10, 11), (20, 21)]);
        let all: Vec<u16> = (0..5).map_while(|index| two.nth(index)).collect();
        assert_eq!(all, [10, 11, 20, 21]);
        for (other, overlaps) in [((11, 19), true), ((12, 19), false), ((21, 30), true), ((1, 9), false)] {
            assert_eq!(two.overlaps(&ranges(&[other])), overlaps, "{other:?}");
        }
    }

    #[test]
    fn a_mapped_address_is_the_ipv4_address() {
        let mapped = ClientAddr::new("[::ffff:192.0.2.1]:5".parse().unwrap());
        assert_eq!(mapped.socket(), "192.0.2.1:5".parse().unwrap());
        let net = Network::Net("192.0.2.0/24".parse().unwrap());
        assert!(net.contains("::ffff:192.0.2.9".parse().unwrap()));
        assert!(!net.contains("2001:db8::1".parse().unwrap()));
    }

    #[test]
    fn some_addresses_are_never_dialled() {
        let never = "127.0.0.1 127.255.0.9 0.0.0.0 0.1.2.3 169.254.1.1 224.0.0.1 239.1.2.3 255.255.255.255 :: ::1 \
                     fe80::1 febf::1 ff02::1 ::ffff:127.0.0.1 ::ffff:0.0.0.0 ::ffff:169.254.0.1 ::ffff:224.0.0.1 \
                     64:ff9b::127.0.0.1 64:ff9b::a9fe:a9fe 2002:7f00:1::1 2002:a9fe:101:: ::127.0.0.1 ::169.254.0.1";
        for ip in never.split_whitespace() {
            assert!(!is_dialable(ip.parse().unwrap()), "{ip}");
        }
        for ip in [
            "10.0.0.1",
            "203.0.113.5",
            "169.253.0.1",
            "2001:db8::1",
            "fd00::1",
            "::ffff:10.0.0.1",
            "64:ff9b::10.0.0.1",
            "2002:a00:1::1",
        ] {
            assert!(is_dialable(ip.parse().unwrap()), "{ip}");
        }
    }

    /// Every form in which an IPv6 address carries an IPv4 address, with one that must not be dialled and one that may.
    #[test]
    fn ipv6_is_judged_by_the_ipv4_that_it_embeds() {
        for (form, never, may) in [
            ("NAT64, RFC 6052", "64:ff9b::7f00:1", "64:ff9b::cb00:7105"),
            ("local NAT64, RFC 8215, /96", "64:ff9b:1::7f00:1", "64:ff9b:1::cb00:7105"),
            ("local NAT64, /96, deeper", "64:ff9b:1:2:0:4:7f00:1", "64:ff9b:1:2:0:4:cb00:7105"),
            ("local NAT64, /48", "64:ff9b:1:7f00:0:100::", "64:ff9b:1:cb00:71:500::"),
            ("local NAT64, /48, link-local", "64:ff9b:1:a9fe:a9:fe00::", "64:ff9b:1:a01:2:300::"),
            ("local NAT64, /48, with a suffix", "64:ff9b:1:7f00:0:100:0:9", "64:ff9b:1:cb00:71:500:0:9"),
            ("local NAT64, /56", "64:ff9b:1:7f:0:1::", "64:ff9b:1:cb:0:7105::"),
            ("local NAT64, /64", "64:ff9b:1:1:7f:0:100:0", "64:ff9b:1:1:cb:71:500:0"),
            ("SIIT, RFC 2765", "::ffff:0:7f00:1", "::ffff:0:cb00:7105"),
            ("mapped", "::ffff:7f00:1", "::ffff:cb00:7105"),
            ("compatible", "::7f00:1", "::cb00:7105"),
            ("6to4", "2002:7f00:1::1", "2002:cb00:7105::1"),
            ("Teredo, the client", "2001:0:cb00:7105:8000:63bf:80ff:fffe", "2001:0:cb00:7105:8000:63bf:34ff:8efa"),
            ("Teredo, the server", "2001:0:7f00:1:8000:63bf:34ff:8efa", "2001:0:4136:e378:8000:63bf:3fff:fdd2"),
            ("ISATAP", "2001:db8::5efe:7f00:1", "2001:db8::5efe:cb00:7105"),
            ("ISATAP, global", "2001:db8::200:5efe:a9fe:a9fe", "2001:db8::200:5efe:cb00:7105"),
        ] {
            assert!(!is_dialable(never.parse().unwrap()), "{form}: {never}");
            assert!(is_dialable(may.parse().unwrap()), "{form}: {may}");
        }
        // Neither reading of these is an address of a host.
        for nobody in ["64:ff9b::", "64:ff9b:1::", "::ffff:0:0:0"] {
            assert!(!is_dialable(nobody.parse().unwrap()), "{nobody}");
        }
        assert!(is_dialable("2001:1::7f00:1".parse().unwrap()));
    }

    #[test]
    fn an_embedded_address_is_read_where_the_prefix_has_it() {
        let read = |ip: &str| embedded_v4(ip.parse().unwrap()).map(|ip| ip.to_string()).collect::<Vec<_>>();
        assert_eq!(read("64:ff9b:1::203.0.113.5"), ["203.0.113.5"]);
        // With a prefix of 48 bits, or of 64.
        assert_eq!(read("64:ff9b:1:cb00:71:500::"), ["203.0.113.5", "113.5.0.0"]);
        assert_eq!(read("2001:0:4136:e378:8000:63bf:3fff:fdd2"), ["65.54.227.120", "192.0.2.45"]);
        assert_eq!(read("2001:db8::1"), [""; 0]);
        assert_eq!(read("203.0.113.5"), [""; 0]);
    }

    #[test]
    fn an_empty_list_of_ranges_does_not_exist() {
        assert_eq!(PortRanges::new(Vec::new()), None);
        assert_eq!(PortRange::new(2, 1), None);
    }
}
