//! The rules of a file, compiled: a decision costs the same with ten rules and with a hundred thousand.
//!
//! Every network in a `from` and every destination in a `to` has a number. A *cell* has the rules for one pair of them,
//! and within it a *group* those that are alike in listeners, hours and kind. Who asks lies in a few networks and wants a
//! server in a few destinations; the first rule of each group in the cells where they meet, the lowest of all, decides.
//! So the order of the file still does.
//!
//! Rules with long lists on both sides would need too many cells. They stand in the cells of one side alone, and are
//! asked whether they match.

mod build;
mod calendar;
mod find;
mod number;
mod prefixes;

use std::collections::HashMap;
use std::fmt;
use std::ops::{Deref, Range};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::{Permission, Rule, SessionLimits};
use crate::addr::ClientAddr;
use calendar::{Calendar, Holding};
pub(super) use find::{Firsts, Search};
use number::{Numbered, number};
use prefixes::Prefixes;

/// The rules of a file in their order, and the tables made of them.
#[derive(Clone)]
pub struct Rules(Arc<Compiled>);

struct Compiled {
    rules: Vec<Arc<Rule>>,
    table: Table,
    longest_login_timeout: Option<Duration>,
}

/// What was made of the rules. A rule is a number here: its place in the file.
struct Table {
    from: Prefixes,
    to: Prefixes,
    /// For each network of a `from`.
    from_sides: Vec<Side>,
    /// For each destination of a `to`.
    to_sides: Vec<Side>,
    /// For each network of a `to`.
    destinations: Vec<Destinations>,
    /// The destinations with a port, by network and port.
    ported: Numbered<u32>,
    /// In the order of their networks and destinations.
    cells: Vec<Cell>,
    /// The place of each cell whose network has many.
    far_cells: Numbered<u32>,
    groups: Vec<Group>,
    /// The rules of all groups.
    members: Vec<u32>,
    /// The destinations of the rules that stand by their clients alone, and the networks of those that stand by their
    /// servers alone: sorted.
    wide: Numbered<Vec<u32>>,
    /// What is for some clients, towards whatever server.
    admissions: Vec<Admission>,
    listeners: Listeners,
    calendar: Calendar,
    users: Users,
    /// The rules that limit what a session may have.
    limited: Vec<u32>,
}

/// One network or destination, as what can be told without a look at its cells.
#[derive(Clone, Default)]
struct Side {
    /// The first rule that has it.
    least: u32,
    /// A bit for each that it shares a cell with; two may have one bit.
    partners: u64,
    /// Whether rules stand by it alone.
    wide: bool,
    /// Its cells, for a network of a `from`.
    cells: Range<u32>,
    /// Its part of the admissions.
    admissions: Range<u32>,
}

/// The rules for one pair.
struct Cell {
    to: u32,
    groups: Range<u32>,
}

/// The destinations with one network.
#[derive(Clone, Default)]
struct Destinations {
    /// The one without a port, of rules that deny.
    every_port: Option<u32>,
    /// The one without a port, of rules that allow: only port 21 where clients choose their servers.
    control_port: Option<u32>,
    with_ports: bool,
}

/// What a rule says, as far as order matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    /// It is for anybody.
    Plain,
    /// It lets users in.
    AllowUsers,
    /// It keeps users out.
    DenyUsers,
}

/// Rules of one cell that are alike; `members` in their order.
struct Group {
    kind: Kind,
    listeners: u32,
    hours: u32,
    /// The first of them, which is all that most who ask want to know.
    first: u32,
    members: Range<u32>,
}

/// The first rule of its kind for some clients.
struct Admission {
    listeners: u32,
    hours: u32,
    /// Whether it denies every server to every user; else it allows some.
    denies: bool,
    first: u32,
}

/// Which listeners rules are for.
#[derive(Default)]
struct Listeners {
    numbers: HashMap<String, u32>,
    /// Sorted; the first is for every listener.
    sets: Vec<Vec<u32>>,
}

impl Listeners {
    fn has(&self, set: u32, listener: Option<u32>) -> bool {
        set == 0
            || listener.is_some_and(|listener| {
                self.sets.get(set as usize).is_some_and(|set| set.binary_search(&listener).is_ok())
            })
    }
}

/// The rules that are for some users.
#[derive(Default)]
struct Users {
    /// By a plain name, without capitals.
    by_name: HashMap<Box<[u8]>, Vec<u32>>,
    /// Those that have patterns.
    by_pattern: Vec<u32>,
}

impl Rules {
    /// Compiles rules, which are asked in this order.
    #[must_use]
    pub fn new(rules: Vec<Arc<Rule>>) -> Self {
        let table = Table::new(&rules);
        let longest_login_timeout = longest_login_timeout(&rules);
        Self(Arc::new(Compiled { rules, table, longest_login_timeout }))
    }

    /// The longest time to log in that any rule leaves; `None` where one has no limit. Nobody may take longer, whichever rule
    /// will hold.
    #[must_use]
    pub fn longest_login_timeout(&self) -> Option<Duration> {
        self.0.longest_login_timeout
    }

    /// When some rule begins or ceases to hold next, for its hours.
    pub(super) fn next_change(&self, at: Timestamp) -> Option<Timestamp> {
        self.table().calendar.at(at).until
    }

    /// Whether any rule that comes before all is denied allows something to this client.
    pub(super) fn admit(&self, listener: &str, client: ClientAddr, at: Timestamp) -> bool {
        let table = self.table();
        let listener = table.listeners.numbers.get(listener).copied();
        let holding = table.calendar.at(at);
        let [mut allowed, mut denied] = [u32::MAX; 2];
        for from in table.from.around(client.ip()) {
            let range = table.from_sides.get(from as usize).map(|side| side.admissions.clone()).unwrap_or_default();
            for admission in slice(&table.admissions, &range) {
                if table.listeners.has(admission.listeners, listener) && holding.holds(admission.hours) {
                    let first = if admission.denies { &mut denied } else { &mut allowed };
                    *first = admission.first.min(*first);
                }
            }
        }
        allowed < denied
    }

    fn table(&self) -> &Table {
        &self.0.table
    }

    fn rule(&self, number: u32) -> Option<&Arc<Rule>> {
        self.0.rules.get(number as usize)
    }
}

fn longest_login_timeout(rules: &[Arc<Rule>]) -> Option<Duration> {
    let allow = rules.iter().filter(|rule| rule.permission == Permission::Allow);
    let times: Option<Vec<Duration>> = allow.map(|rule| rule.limits.session.time_to_log_in()).collect();
    times.map(|times| times.into_iter().max().unwrap_or(SessionLimits::LOGIN_TIMEOUT))
}

impl From<Vec<Arc<Rule>>> for Rules {
    fn from(rules: Vec<Arc<Rule>>) -> Self {
        Self::new(rules)
    }
}

impl Deref for Rules {
    type Target = [Arc<Rule>];

    fn deref(&self) -> &[Arc<Rule>] {
        &self.0.rules
    }
}

impl<'a> IntoIterator for &'a Rules {
    type Item = &'a Arc<Rule>;
    type IntoIter = std::slice::Iter<'a, Arc<Rule>>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl PartialEq for Rules {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0.rules == other.0.rules
    }
}

impl Eq for Rules {}

impl fmt::Debug for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.rules.fmt(f)
    }
}

/// A part of a table; nothing where it has no such part.
fn slice<'a, T>(table: &'a [T], range: &Range<u32>) -> &'a [T] {
    table.get(range.start as usize..range.end as usize).unwrap_or_default()
}
