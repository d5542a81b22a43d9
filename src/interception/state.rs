//! What the kernel has of an interception.

use std::fmt;
use std::io;

use super::table::Table;
use super::{Interception, TABLE, routes};
use crate::net::netlink::{Groups, Socket, dump, find, number, text};

const GET_TABLE: u16 = number::NFTABLES | 1;
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
}

impl Missing {
    /// Whether connections get past the gate, or nowhere; else it takes a filter that heeds marks beside it.
    #[must_use]
    pub const fn is_fatal(self) -> bool {
        !matches!(self, Self::FilterRule(_))
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Table => write!(f, "there is no table inet {TABLE}"),
            Self::Dormant => write!(f, "table inet {TABLE} is dormant"),
            Self::OtherRules => write!(f, "table inet {TABLE} was made for other rules"),
            Self::Rules(chain) => write!(f, "chain inet {TABLE} {chain} was changed"),
            Self::RoutingRule(family) => write!(f, "the {family} routing rule for marked packets is missing"),
            Self::FilterRule(family) => write!(f, "the {family} routing rule for reverse-path filters is missing"),
            Self::Route(family) => write!(f, "the {family} route for marked packets is missing"),
        }
    }
}

pub(super) fn missing(interception: &Interception) -> io::Result<Vec<Missing>> {
    let mut missing = missing_of_table(&interception.table)?;
    for family in &interception.families {
        let there = routes::look(*family)?;
        let name = family.name();
        missing.extend((!there.delivers).then_some(Missing::RoutingRule(name)));
        missing.extend((!there.for_filters).then_some(Missing::FilterRule(name)));
        missing.extend((!there.route).then_some(Missing::Route(name)));
    }
    Ok(missing)
}

fn missing_of_table(table: &Table) -> io::Result<Vec<Missing>> {
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
                let flags = find(body, &[2])
                    .and_then(|flags| flags.first_chunk())
                    .map_or(0, |flags| u32::from_be_bytes(*flags));
                found = Some((flags, find(body, &[6]).map(comment)));
            }
        },
    )?;
    let Some((flags, comment)) = found else { return Ok(vec![Missing::Table]) };
    if flags & DORMANT != 0 {
        return Ok(vec![Missing::Dormant]);
    }
    if comment.flatten() != Some(table.comment()) {
        return Ok(vec![Missing::OtherRules]);
    }
    let mut counts = vec![0_usize; table.0.len()];
    dump(
        &socket,
        GET_RULE,
        number::INET,
        |w| w.text(1, TABLE),
        |message| {
            let Some(chain) = message.body.get(4..).and_then(|body| find(body, &[2])).map(text) else { return };
            let place = table.0.iter().position(|known| known.hook.name() == chain);
            if let Some(count) = place.and_then(|place| counts.get_mut(place)) {
                *count += 1;
            }
        },
    )?;
    let changed = table.0.iter().zip(counts).filter(|(chain, count)| chain.rules.len() != *count);
    Ok(changed.map(|(chain, _)| Missing::Rules(chain.hook.name())).collect())
}

/// The comment in a table's user data.
fn comment(data: &[u8]) -> Option<String> {
    const COMMENT: u8 = 0;
    match data {
        [COMMENT, length, rest @ ..] => rest.get(..usize::from(*length)).map(text),
        _ => None,
    }
}
