//! Other firewalls on this machine: what one of them drops, none of our accept verdicts brings back.

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::family::Family;
use super::mark;
use crate::net::netlink::{Groups, Message, Socket, Writer, attributes, dump, find, number, text};
use crate::report;

const GET_CHAIN: u16 = number::NFTABLES | 4;
const GET_RULE: u16 = number::NFTABLES | 7;
/// A firewall may be loaded at any time; how soon that is found out.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// Those that would drop our connections.
#[derive(Debug)]
pub(super) struct Firewalls(Mutex<Looked>);

#[derive(Debug)]
struct Looked {
    at: Instant,
    closed: Vec<Closed>,
}

impl Firewalls {
    pub(super) fn new(now: Instant) -> Self {
        Self(Mutex::new(Looked { at: now, closed: closed_chains().unwrap_or_default() }))
    }

    /// Whether connections of this family would be dropped.
    pub(super) fn close(&self, family: Family) -> bool {
        self.looked().closed.iter().any(|chain| chain.concerns(family))
    }

    /// What there is, in words for the operator.
    pub(super) fn obstacles(&self) -> Vec<String> {
        self.looked().closed.iter().map(Closed::in_words).collect()
    }

    /// Looks again where that was long ago, and says what has changed.
    pub(super) fn look_again(&self, now: Instant) {
        if now.saturating_duration_since(self.looked().at) < LOOK_AGAIN {
            return;
        }
        // The question is not asked under the lock: sessions look there.
        let closed = closed_chains();
        let mut looked = self.looked();
        looked.at = now;
        let Ok(closed) = closed else { return };
        closed
            .iter()
            .filter(|chain| !looked.closed.contains(chain))
            .for_each(|chain| report::obstacle(&chain.in_words()));
        looked.closed.iter().filter(|chain| !closed.contains(chain)).for_each(|chain| report::no_obstacle(&chain));
        looked.closed = closed;
    }

    fn looked(&self) -> MutexGuard<'_, Looked> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A chain of another firewall that drops what is forwarded unless one of its rules accepts it; and no rule of its table
/// looks at marks of connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Closed {
    family: u8,
    table: String,
    chain: String,
}

impl std::fmt::Display for Closed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let family = match self.family {
            number::IPV4 => "ip",
            number::IPV6 => "ip6",
            _ => "inet",
        };
        write!(f, "{family} {} {}", self.table, self.chain)
    }
}

impl Closed {
    fn concerns(&self, family: Family) -> bool {
        self.family == number::INET || self.family == family.number()
    }

    fn in_words(&self) -> String {
        let accept = to_accept();
        format!(
            "chain `{self}` drops what is forwarded and asks for no mark: `nft insert rule {self} {accept}` (until \
             then the relay moves the data)"
        )
    }
}

/// The chains that would drop our connections.
fn closed_chains() -> io::Result<Vec<Closed>> {
    let socket = Socket::open(Groups::None)?;
    let mut chains = Vec::new();
    dump(&socket, GET_CHAIN, number::UNSPECIFIED, |_| (), |message| chains.extend(forward_chain(message)))?;
    let mut closed = Vec::new();
    for (chain, mut drops) in chains {
        let mut looks_at_marks = false;
        let table = |w: &mut Writer| w.text(1, &chain.table);
        dump(&socket, GET_RULE, chain.family, table, |message| {
            let Some(rule) = message.body.get(4..) else { return };
            looks_at_marks |= expressions(rule).any(|(name, data)| reads_ct_mark(&name, data));
            if find(rule, &[2]).map(text).as_ref() == Some(&chain.chain) {
                // Rules come in their order: the last of them decides, where it is for everything.
                drops |= expressions(rule).all(|(name, data)| name == "counter" || refuses(&name, data));
            }
        })?;
        if drops && !looks_at_marks {
            closed.push(chain);
        }
    }
    Ok(closed)
}

/// A chain that what is forwarded goes through, and whether it drops what none of its rules accepts.
fn forward_chain(message: &Message<'_>) -> Option<(Closed, bool)> {
    const FORWARD: u32 = 2;
    const DROP: u32 = 0;
    let body = message.body.get(4..)?;
    let is = |path: &[u16], value: u32| find(body, path).is_some_and(|found| found == value.to_be_bytes());
    let family = message.family();
    let forwards = matches!(family, number::INET | number::IPV4 | number::IPV6) && is(&[4, 1], FORWARD);
    let chain = Closed { family, table: text(find(body, &[1])?), chain: text(find(body, &[3])?) };
    // A chain of NAT has a policy too, and is asked for the first packet only.
    (forwards && find(body, &[7]).map(text).as_deref() == Some("filter")).then(|| (chain, is(&[5], DROP)))
}

/// The expressions of a rule, each with its data.
fn expressions(rule: &[u8]) -> impl Iterator<Item = (String, &[u8])> {
    const EXPRESSIONS: u16 = 4;
    attributes(find(rule, &[EXPRESSIONS]).unwrap_or_default()).map(|(_, expression)| {
        let name = find(expression, &[1]).map(text).unwrap_or_default();
        (name, find(expression, &[2]).unwrap_or_default())
    })
}

/// Whether an expression asks for the mark of a connection, in the words of nftables or of iptables.
fn reads_ct_mark(name: &str, data: &[u8]) -> bool {
    const CT_MARK: u32 = 3;
    match name {
        "ct" => find(data, &[2]) == Some(&CT_MARK.to_be_bytes()) && find(data, &[1]).is_some(),
        "match" => find(data, &[1]).map(text).is_some_and(|name| name == "connmark"),
        _ => false,
    }
}

/// Whether an expression ends a packet's way.
fn refuses(name: &str, data: &[u8]) -> bool {
    const VERDICT: [u16; 3] = [2, 2, 1];
    const DROP: u32 = 0;
    match name {
        "immediate" => find(data, &VERDICT) == Some(&DROP.to_be_bytes()),
        "reject" => true,
        "target" => find(data, &[1]).map(text).is_some_and(|name| name == "REJECT"),
        _ => false,
    }
}

/// What an operator's firewall has to accept, in the words of nftables.
#[must_use]
pub(super) fn to_accept() -> String {
    format!("ct mark and {:#x} == {:#x} accept", mark::MASK, mark::OURS)
}
