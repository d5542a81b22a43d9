//! What the kernel has of an interception.

use std::fmt;
use std::io;

use super::Counts;
use super::table::{Counter, Fnv, Table};
use super::{Interception, MARK, ROUTES, TABLE, routes};
use crate::net::netlink::{Groups, Socket, Writer, dump, find, number, text};

const GET_TABLE: u16 = number::NFTABLES | 1;
const GET_CHAIN: u16 = number::NFTABLES | 4;
const GET_OBJECT: u16 = number::NFTABLES | 19;
const GET_RULE: u16 = number::NFTABLES | 7;

/// Something that has to be there and is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// The table.
    Table,
    /// The table is switched off (`flags dormant`).
    Dormant,
    /// It is there, for other rules, or with another `--fail-open`.
    OtherRules,
    /// Rules were taken out of this chain of it, or put into it.
    Rules(&'static str),
    /// The routing rule of this family that leads to the route.
    RoutingRule(&'static str),
    /// The routing rule of this family that reverse-path filters need.
    FilterRule(&'static str),
    /// The route of this family.
    Route(&'static str),
    /// The table of that route has others, too.
    OtherRoute(&'static str),
    /// A routing rule of this priority comes before that for marked packets.
    EarlierRule(u32),
    /// The table, or a chain of it, is another one than was there when it was last complete.
    Changed,
}

impl Missing {
    /// Whether to load the interception again is the remedy.
    #[must_use]
    pub const fn can_be_loaded(self) -> bool {
        !matches!(self, Self::OtherRoute(_) | Self::EarlierRule(_))
    }
}

/// What the table in the kernel was when it was complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Tells it from one that has replaced it.
    handle: u64,
    /// Of all its chains and rules.
    digest: u64,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Table => write!(f, "there is no table inet {TABLE}"),
            Self::Dormant => write!(f, "table inet {TABLE} is dormant"),
            Self::OtherRules => write!(
                f,
                "table inet {TABLE} is not the one for these rules: they have changed since, or it was made by another \
                 version or with another --fail-open"
            ),
            Self::Changed => write!(f, "a rule or chain of table inet {TABLE} was replaced"),
            Self::OtherRoute(family) => write!(f, "routing table {ROUTES} has another {family} route"),
            Self::EarlierRule(priority) => write!(
                f,
                "the routing rule of priority {priority} comes before that of marked packets ({ROUTES}) and leads them elsewhere"
            ),
            Self::Rules(chain) => write!(f, "chain inet {TABLE} {chain} was changed"),
            Self::RoutingRule(family) => write!(f, "the {family} routing rule for marked packets is missing"),
            Self::FilterRule(family) => write!(
                f,
                "the {family} routing rule for reverse-path filters (iif lo fwmark {MARK:#x} lookup main) is missing"
            ),
            Self::Route(family) => write!(f, "the {family} route for marked packets is missing"),
        }
    }
}

/// What is missing; `seen` is what was complete before, and is renewed.
pub(super) fn missing(interception: &Interception, seen: &mut Option<Seen>) -> io::Result<Vec<Missing>> {
    let mut missing = missing_of_table(&interception.table, seen)?;
    for family in interception.families.iter().filter(|family| routes::is_there(**family)) {
        let there = routes::look(*family)?;
        let name = family.name();
        missing.extend((!there.delivers).then_some(Missing::RoutingRule(name)));
        missing.extend((!there.for_filters).then_some(Missing::FilterRule(name)));
        missing.extend((!there.route).then_some(Missing::Route(name)));
        missing.extend(there.other_route.then_some(Missing::OtherRoute(name)));
        missing.extend(there.earlier_rule.map(Missing::EarlierRule));
    }
    Ok(missing)
}

fn missing_of_table(table: &Table, seen: &mut Option<Seen>) -> io::Result<Vec<Missing>> {
    const DORMANT: u32 = 1;
    let socket = Socket::open(Groups::None)?;
    let mut found = None;
    dump(
        &socket,
        GET_TABLE,
        number::INET,
        |_| (),
        |message| {
            let Some(body) = message.body.get(4..) else { return };
            if find(body, &[1]).map(text).as_deref() == Some(TABLE) {
                let flags =
                    find(body, &[2]).and_then(<[u8]>::first_chunk).map_or(0, |flags| u32::from_be_bytes(*flags));
                let handle =
                    find(body, &[4]).and_then(<[u8]>::first_chunk).map_or(0, |handle| u64::from_be_bytes(*handle));
                found = Some((flags, find(body, &[6]).and_then(comment), handle));
            }
        },
    )?;
    let Some((flags, comment, handle)) = found else { return Ok(vec![Missing::Table]) };
    if flags & DORMANT != 0 {
        return Ok(vec![Missing::Dormant]);
    }
    if comment != Some(table.comment()) {
        return Ok(vec![Missing::OtherRules]);
    }
    let mut counts = vec![0_usize; table.0.len()];
    let mut all = Fnv::default();
    let of_table = |w: &mut Writer| w.text(1, TABLE);
    dump(&socket, GET_CHAIN, number::INET, of_table, |message| {
        let Some(body) = message.body.get(4..) else { return };
        if find(body, &[1]).map(text).as_deref() == Some(TABLE) {
            all.add(body);
        }
    })?;
    dump(&socket, GET_RULE, number::INET, of_table, |message| {
        let Some(body) = message.body.get(4..) else { return };
        let Some(chain) = find(body, &[2]).map(text) else { return };
        all.add(body);
        let place = table.0.iter().position(|known| known.hook.name() == chain);
        if let Some(count) = place.and_then(|place| counts.get_mut(place)) {
            *count += 1;
        }
    })?;
    let changed = table.0.iter().zip(counts).filter(|(chain, count)| chain.rules.len() != *count);
    let mut missing: Vec<Missing> = changed.map(|(chain, _)| Missing::Rules(chain.hook.name())).collect();
    let now = Seen { handle, digest: all.finish() };
    // One that replaces it is held against its comment and counts alone.
    if missing.is_empty() && seen.is_some_and(|seen| seen.handle == handle && seen.digest != now.digest) {
        missing.push(Missing::Changed);
    }
    if missing.is_empty() {
        *seen = Some(now);
    }
    Ok(missing)
}

/// What a table has counted.
pub(super) fn counts(table: &str) -> io::Result<Counts> {
    const COUNTER: u32 = 1;
    let socket = Socket::open(Groups::None)?;
    let mut counts = Counts::default();
    let which = |w: &mut Writer| {
        w.text(1, table);
        w.u32(3, COUNTER);
    };
    dump(&socket, GET_OBJECT, number::INET, which, |message| {
        let Some(body) = message.body.get(4..) else { return };
        if find(body, &[1]).map(text).as_deref() != Some(table) {
            return;
        }
        let packets = find(body, &[4, 2]).and_then(<[u8]>::first_chunk).map_or(0, |count| u64::from_be_bytes(*count));
        let name = find(body, &[2]).map(text);
        match Counter::ALL.into_iter().find(|counter| name.as_deref() == Some(counter.name())) {
            Some(Counter::HandedOver) => counts.handed_over = packets,
            Some(Counter::Dropped) => counts.dropped = packets,
            None => {}
        }
    })?;
    Ok(counts)
}

/// The comment in a table's user data.
fn comment(data: &[u8]) -> Option<String> {
    const COMMENT: u8 = 0;
    match data {
        [COMMENT, length, rest @ ..] => rest.get(..usize::from(*length)).map(text),
        _ => None,
    }
}
