//! The routing rules and routes that deliver marked packets to this machine (rtnetlink(7)).

use std::io::{self, ErrorKind};

use super::table::Family;
use super::{FILTERS, MARK, ROUTES};
use crate::net::netlink::{Socket, Writer, ask, find, number};

const NEW_ROUTE: u16 = 24;
const DELETE_ROUTE: u16 = 25;
const GET_ROUTE: u16 = 26;
const NEW_RULE: u16 = 32;
const DELETE_RULE: u16 = 33;
const GET_RULE: u16 = 34;
/// `struct fib_rule_hdr` and `struct rtmsg` have the same length; what they begin with is the family.
const HEADER: usize = 12;
const MAIN: u32 = 254;
const LO: u32 = 1;
/// More doubles than this nobody makes by hand.
const MOST_DOUBLES: usize = 64;

/// A routing rule for marked packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// Marked packets are delivered.
    Delivers,
    /// Reverse-path filters that heed the mark look in the main table.
    ForFilters,
}

impl Rule {
    pub(super) const ALL: [Self; 2] = [Self::Delivers, Self::ForFilters];

    const fn priority(self) -> u32 {
        match self {
            Self::Delivers => ROUTES,
            Self::ForFilters => FILTERS,
        }
    }

    const fn table(self) -> u32 {
        match self {
            Self::Delivers => ROUTES,
            Self::ForFilters => MAIN,
        }
    }

    /// Writes its attributes (linux/fib_rules.h).
    fn write(self, w: &mut Writer) {
        if self == Self::ForFilters {
            w.text(3, "lo");
        }
        w.bytes(6, &self.priority().to_ne_bytes());
        w.bytes(10, &MARK.to_ne_bytes());
        w.bytes(15, &self.table().to_ne_bytes());
    }

    fn header(family: Family) -> [u8; HEADER] {
        const TO_TABLE: u8 = 1;
        let mut header = [0; HEADER];
        (header[0], header[7]) = (number_of(family), TO_TABLE);
        header
    }

    /// Whether the attributes of a rule are its.
    fn is(self, attributes: &[u8]) -> bool {
        const DESTINATION: u16 = 1;
        const SOURCE: u16 = 2;
        let has = |kind: u16, value: u32| find(attributes, &[kind]) == Some(&value.to_ne_bytes());
        if [DESTINATION, SOURCE].iter().any(|kind| find(attributes, &[*kind]).is_some()) {
            return false;
        }
        let is_for_lo = find(attributes, &[3]).is_some_and(|name| name == b"lo\0");
        let any = find(attributes, &[3]).is_none();
        let origin = if self == Self::ForFilters { is_for_lo } else { any };
        origin && has(10, MARK) && has(15, self.table()) && has(6, self.priority())
    }
}

/// What of it is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct There {
    pub(super) delivers: bool,
    pub(super) for_filters: bool,
    pub(super) route: bool,
    /// The table has more, which may lead some packets elsewhere.
    pub(super) other_route: bool,
    /// A rule that comes first leads every packet elsewhere, also marked ones: its priority.
    pub(super) earlier_rule: Option<u32>,
}

/// Whether this machine has the family at all: IPv6 may be switched off, and then nothing of it comes.
pub(super) fn is_there(family: Family) -> bool {
    let switched_off = || std::fs::read_to_string("/proc/sys/net/ipv6/conf/lo/disable_ipv6");
    // Where there is no such setting, there is no IPv6.
    family == Family::V4 || switched_off().is_ok_and(|value| value.trim() == "0")
}

/// What is there for a family.
pub(super) fn look(family: Family) -> io::Result<There> {
    let socket = Socket::open_routes()?;
    let mut there = There::default();
    let mut header = [0; HEADER];
    header[0] = number_of(family);
    let question = |kind| {
        let mut writer = Writer::default();
        let of_table = |w: &mut Writer| {
            if kind == GET_ROUTE {
                w.bytes(15, &ROUTES.to_ne_bytes());
            }
        };
        writer.message_with(kind, number::DUMP, 1, &header, of_table);
        writer
    };
    ask(&socket, &question(GET_RULE), |message| {
        let attributes = message.body.get(HEADER..).unwrap_or_default();
        there.delivers |= Rule::Delivers.is(attributes);
        there.for_filters |= Rule::ForFilters.is(attributes);
        there.earlier_rule = there.earlier_rule.or_else(|| comes_first(message.body, attributes));
    })?;
    let routes = ask(&socket, &question(GET_ROUTE), |message| {
        const LOCAL: u8 = 2;
        let (prefix, kind) = (message.body.get(1), message.body.get(7));
        let attributes = message.body.get(HEADER..).unwrap_or_default();
        if find(attributes, &[15]) == Some(&ROUTES.to_ne_bytes()) {
            let is_it = prefix == Some(&0) && kind == Some(&LOCAL);
            there.route |= is_it;
            there.other_route |= !is_it;
        }
    });
    match routes {
        // There is no such table.
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(there),
        routes => routes.map(|()| there),
    }
}

/// The priority of a rule that comes before ours, leads to another table and asks neither who it is from nor to.
fn comes_first(header: &[u8], attributes: &[u8]) -> Option<u32> {
    const TO_TABLE: u8 = 1;
    const INVERTED: u32 = 2;
    let number =
        |kind: u16| find(attributes, &[kind]).and_then(<[u8]>::first_chunk).map(|bytes| u32::from_ne_bytes(*bytes));
    // Destination, source and the interfaces; the interface's own table, users, protocol and ports.
    let is_narrow = [1, 2, 3, 17, 19, 20, 22, 23, 24].iter().any(|kind| find(attributes, &[*kind]).is_some());
    let priority = number(6).unwrap_or(0);
    let flags = header.get(8..).and_then(<[u8]>::first_chunk).map_or(0, |flags| u32::from_ne_bytes(*flags));
    let is_marked = match (number(10), number(16)) {
        (Some(mark), mask) => MARK & mask.unwrap_or(u32::MAX) == mark,
        (None, _) => true,
    };
    let concerns_ours = is_marked != (flags & INVERTED != 0);
    let leads = header.get(7) == Some(&TO_TABLE);
    (leads && concerns_ours && !is_narrow && (1..ROUTES).contains(&priority)).then_some(priority)
}

/// Adds what is missing for these families.
pub(super) fn add(families: &[Family]) -> io::Result<()> {
    let socket = Socket::open_routes()?;
    for family in families.iter().filter(|family| is_there(**family)) {
        for rule in Rule::ALL {
            let flags = number::CREATE | number::EXCL;
            let added = change(&socket, NEW_RULE, flags, Rule::header(*family), |w| rule.write(w));
            ignore(added, &[ErrorKind::AlreadyExists])?;
        }
        change(&socket, NEW_ROUTE, number::CREATE | number::REPLACE, route(*family), write_route)?;
    }
    Ok(())
}

/// Removes all of it, for both families.
pub(super) fn remove() -> io::Result<()> {
    let socket = Socket::open_routes()?;
    for family in Family::BOTH {
        for rule in Rule::ALL {
            for _ in 0..MOST_DOUBLES {
                match change(&socket, DELETE_RULE, 0, Rule::header(family), |w| rule.write(w)) {
                    Ok(()) => {}
                    Err(error) if is_absent(&error) => break,
                    Err(error) => return Err(error),
                }
            }
        }
        match change(&socket, DELETE_ROUTE, 0, route(family), write_route) {
            Err(error) if !is_absent(&error) => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// There is none, or this kernel has no such family.
fn is_absent(error: &io::Error) -> bool {
    const GONE: [i32; 4] = [libc::ENOENT, libc::ESRCH, libc::EAFNOSUPPORT, libc::EOPNOTSUPP];
    error.raw_os_error().is_some_and(|code| GONE.contains(&code))
}

fn ignore(result: io::Result<()>, kinds: &[ErrorKind]) -> io::Result<()> {
    result.or_else(|error| if kinds.contains(&error.kind()) { Ok(()) } else { Err(error) })
}

fn change(
    socket: &Socket,
    kind: u16,
    flags: u16,
    header: [u8; HEADER],
    fill: impl FnOnce(&mut Writer),
) -> io::Result<()> {
    let mut writer = Writer::default();
    writer.message_with(kind, flags, 1, &header, fill);
    writer.ask_for_answer();
    ask(socket, &writer, |_| ())
}

/// Every address, delivered here.
fn route(family: Family) -> [u8; HEADER] {
    const SET_BY_HAND: u8 = 3;
    const SCOPE_HOST: u8 = 254;
    const LOCAL: u8 = 2;
    let mut header = [0; HEADER];
    (header[0], header[5], header[6], header[7]) = (number_of(family), SET_BY_HAND, SCOPE_HOST, LOCAL);
    header
}

fn write_route(w: &mut Writer) {
    w.bytes(4, &LO.to_ne_bytes());
    w.bytes(15, &ROUTES.to_ne_bytes());
}

const fn number_of(family: Family) -> u8 {
    match family {
        Family::V4 => number::IPV4,
        Family::V6 => number::IPV6,
    }
}
