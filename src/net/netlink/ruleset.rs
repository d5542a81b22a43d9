//! All rules of nftables on this machine: those of iptables as well, where it is `iptables-nft`.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use super::{Groups, Message, Socket, Writer, attributes, dump, find, number, text};

const GET_CHAIN: u16 = number::NFTABLES | 4;
const GET_RULE: u16 = number::NFTABLES | 7;
const GET_SET: u16 = number::NFTABLES | 10;
const GET_ELEMENTS: u16 = number::NFTABLES | 13;
const GET_OBJECT: u16 = number::NFTABLES | 19;

/// Sets whose elements are read: what rules name in braces. There may be many where a program writes the rules.
const MOST_SETS: usize = 512;
/// Behind netlink's header stands netfilter's.
const HEADER: usize = 4;

/// Where a chain stands in a packet's way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Hook {
    Prerouting,
    Input,
    Forward,
    Output,
    Postrouting,
}

/// What makes a chain see packets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Base {
    pub(crate) hook: Hook,
    pub(crate) priority: i32,
    /// What no rule decides about is dropped.
    pub(crate) drops: bool,
}

/// A chain of rules. One without `base` is jumped to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Chain {
    pub(crate) base: Option<Base>,
    pub(crate) rules: Vec<Rule>,
}

/// One rule.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    /// What it is named by in its table.
    pub(crate) handle: u64,
    pub(crate) expressions: Vec<Expression>,
}

/// What a rule asks or does, by its name in the kernel, with its attributes.
#[derive(Clone, Debug)]
pub(crate) struct Expression {
    pub(crate) name: String,
    pub(crate) data: Vec<u8>,
}

impl Expression {
    /// The attribute that a path of types leads to.
    pub(crate) fn find(&self, path: &[u16]) -> Option<&[u8]> {
        find(&self.data, path)
    }

    /// The same, where it is a number.
    pub(crate) fn number(&self, path: &[u16]) -> Option<u32> {
        Some(u32::from_be_bytes(*self.find(path)?.first_chunk()?))
    }

    /// The same, where it is a name.
    pub(crate) fn text(&self, path: &[u16]) -> Option<String> {
        self.find(path).map(text)
    }
}

/// What becomes of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Accept,
    Drop,
    Continue,
    Return,
    Jump(String),
    Goto(String),
    /// Something else takes it.
    Taken,
}

impl Verdict {
    /// Reads the attributes of a verdict.
    pub(crate) fn read(verdict: &[u8]) -> Option<Self> {
        let code = i32::from_be_bytes(*find(verdict, &[1])?.first_chunk()?);
        let chain = || find(verdict, &[2]).map(text);
        Some(match code {
            0 => Self::Drop,
            1 => Self::Accept,
            -1 | -2 => Self::Continue,
            -3 => Self::Jump(chain()?),
            -4 => Self::Goto(chain()?),
            -5 => Self::Return,
            _ => Self::Taken,
        })
    }
}

/// What a set holds: each from its first value to its last, with what a map says of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Elements(pub(crate) Vec<(Vec<u8>, Vec<u8>, Option<Verdict>)>);

/// One table.
#[derive(Clone, Debug, Default)]
pub(crate) struct Table {
    pub(crate) chains: BTreeMap<String, Chain>,
    /// Those that were read.
    pub(crate) sets: BTreeMap<String, Elements>,
    /// Objects that set conntrack's helper for FTP.
    pub(crate) ftp_helpers: BTreeSet<String>,
}

/// All tables, by their family and name, that are not only about NAT.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ruleset(pub(crate) BTreeMap<(u8, String), Table>);

impl Ruleset {
    /// Reads them, but for the tables that `skips` names.
    ///
    /// # Errors
    /// Where the privilege is missing, or a table goes meanwhile.
    pub(crate) fn read(skips: impl Fn(&str) -> bool) -> io::Result<Self> {
        let socket = Socket::open(Groups::None)?;
        let mut tables: BTreeMap<(u8, String), Table> = BTreeMap::new();
        dump(
            &socket,
            GET_CHAIN,
            number::UNSPECIFIED,
            |_| (),
            |message| {
                if let Some((table, name, chain)) = chain(message).filter(|(table, ..)| !skips(&table.1)) {
                    tables.entry(table).or_default().chains.insert(name, chain);
                }
            },
        )?;
        tables.retain(|_, table| table.chains.values().any(|chain| chain.base.is_some()));
        if tables.is_empty() {
            return Ok(Self::default());
        }
        dump(
            &socket,
            GET_OBJECT,
            number::UNSPECIFIED,
            |_| (),
            |message| {
                if let Some((table, name)) = ftp_helper(message)
                    && let Some(table) = tables.get_mut(&table)
                {
                    table.ftp_helpers.insert(name);
                }
            },
        )?;
        let mut sets_left = MOST_SETS;
        for ((family, name), table) in &mut tables {
            let of_table = |w: &mut Writer| w.text(1, name);
            dump(&socket, GET_RULE, *family, of_table, |message| {
                if let Some((chain, rule)) = rule(message)
                    && let Some(chain) = table.chains.get_mut(&chain)
                {
                    chain.rules.push(rule);
                }
            })?;
            let mut sets = Vec::new();
            dump(&socket, GET_SET, *family, of_table, |message| sets.extend(readable_set(message)))?;
            sets.truncate(sets_left);
            sets_left -= sets.len();
            for set in sets {
                if let Some(elements) = elements(&socket, *family, name, &set)? {
                    table.sets.insert(set, elements);
                }
            }
        }
        Ok(Self(tables))
    }
}

fn body<'a>(message: &Message<'a>) -> Option<&'a [u8]> {
    matches!(message.family(), number::INET | number::IPV4 | number::IPV6).then(|| message.body.get(HEADER..))?
}

fn chain(message: &Message<'_>) -> Option<((u8, String), String, Chain)> {
    const DROP: u32 = 0;
    let body = body(message)?;
    let (table, name) = (text(find(body, &[1])?), text(find(body, &[3])?));
    // A chain of NAT has a policy too, and is asked for the first packet only.
    let is_filter = find(body, &[7]).map(text).is_some_and(|kind| kind != "nat");
    let number = |path: &[u16]| Some(u32::from_be_bytes(*find(body, path)?.first_chunk()?));
    let hook = match number(&[4, 1]) {
        Some(0) => Some(Hook::Prerouting),
        Some(1) => Some(Hook::Input),
        Some(2) => Some(Hook::Forward),
        Some(3) => Some(Hook::Output),
        Some(4) => Some(Hook::Postrouting),
        _ => None,
    };
    let priority = number(&[4, 2]).map_or(0, u32::cast_signed);
    let base = hook.filter(|_| is_filter).map(|hook| Base { hook, priority, drops: number(&[5]) == Some(DROP) });
    Some(((message.family(), table), name, Chain { base, rules: Vec::new() }))
}

fn rule(message: &Message<'_>) -> Option<(String, Rule)> {
    let body = body(message)?;
    let chain = text(find(body, &[2])?);
    let handle = u64::from_be_bytes(*find(body, &[3])?.first_chunk()?);
    let expressions = attributes(find(body, &[4]).unwrap_or_default()).map(|(_, expression)| Expression {
        name: find(expression, &[1]).map(text).unwrap_or_default(),
        data: find(expression, &[2]).unwrap_or_default().to_vec(),
    });
    Some((chain, Rule { handle, expressions: expressions.collect() }))
}

/// The name of an object that sets conntrack's helper for FTP.
fn ftp_helper(message: &Message<'_>) -> Option<((u8, String), String)> {
    const CT_HELPER: u32 = 3;
    let body = body(message)?;
    let is_helper = find(body, &[3]) == Some(&CT_HELPER.to_be_bytes());
    let is_ftp = || find(body, &[4, 1]).map(text).as_deref() == Some("ftp");
    (is_helper && is_ftp()).then(|| Some(((message.family(), text(find(body, &[1])?)), text(find(body, &[2])?))))?
}

/// The name of a set whose elements are worth reading: what a rule names in braces, or ports.
fn readable_set(message: &Message<'_>) -> Option<String> {
    const ANONYMOUS: u32 = 1;
    const PORT: u32 = 13;
    let body = body(message)?;
    let number = |kind: u16| Some(u32::from_be_bytes(*find(body, &[kind])?.first_chunk()?));
    let is_worth_it = number(3).is_some_and(|flags| flags & ANONYMOUS != 0) || number(4) == Some(PORT);
    is_worth_it.then(|| find(body, &[2]).map(text))?
}

/// The elements of a set; those of one with ranges are the edges of these. `None` where one is for all that is not there.
fn elements(socket: &Socket, family: u8, table: &str, set: &str) -> io::Result<Option<Elements>> {
    const INTERVAL_END: u32 = 1;
    let mut edges: Vec<(Vec<u8>, bool, Option<Verdict>)> = Vec::new();
    let (mut has_ranges, mut is_for_all) = (false, false);
    let which = |w: &mut Writer| {
        w.text(1, table);
        w.text(2, set);
    };
    dump(socket, GET_ELEMENTS, family, which, |message| {
        let Some(body) = body(message) else { return };
        for (_, element) in attributes(find(body, &[3]).unwrap_or_default()) {
            let Some(key) = find(element, &[1, 1]) else {
                is_for_all = true;
                continue;
            };
            let flags = find(element, &[3]).and_then(|flags| flags.first_chunk()).map_or(0, |f| u32::from_be_bytes(*f));
            let ends = flags & INTERVAL_END != 0;
            has_ranges |= ends;
            edges.push((key.to_vec(), !ends, find(element, &[2, 2]).and_then(Verdict::read)));
        }
    })?;
    if is_for_all {
        return Ok(None);
    }
    if !has_ranges {
        return Ok(Some(Elements(edges.into_iter().map(|(key, _, verdict)| (key.clone(), key, verdict)).collect())));
    }
    // In order, and where one range ends where the next begins, the end first.
    edges.sort_by(|a, b| (&a.0, a.1).cmp(&(&b.0, b.1)));
    let mut ranges: Vec<(Vec<u8>, Vec<u8>, Option<Verdict>)> = Vec::new();
    let mut begun: Option<(Vec<u8>, Option<Verdict>)> = None;
    for (key, begins, verdict) in edges {
        if let Some((first, verdict)) = begun.take() {
            ranges.push((first, before(&key), verdict));
        }
        begun = begins.then_some((key, verdict));
    }
    ranges.extend(begun.map(|(first, verdict)| (first.clone(), vec![0xff; first.len()], verdict)));
    Ok(Some(Elements(ranges)))
}

/// The number before this one.
fn before(key: &[u8]) -> Vec<u8> {
    let mut key = key.to_vec();
    for byte in key.iter_mut().rev() {
        let (less, borrows) = byte.overflowing_sub(1);
        *byte = less;
        if !borrows {
            break;
        }
    }
    key
}
