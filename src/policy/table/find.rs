//! Finds the rules for one session.

use std::sync::Arc;

use super::build::{FEW_CELLS, WIDE};
use super::number::{bit, pair};
use super::{Cell, Compiled, Group, Holding, Kind, Rules, Side, Table, slice};
use crate::policy::{Asker, Rule, SessionLimits};

/// One who asks, as the table has it: what it takes to find the user's rule later, too.
#[derive(Clone)]
pub(in crate::policy) struct Search {
    rules: Rules,
    /// The networks that the client is in.
    from: Box<[u32]>,
    /// The destinations that the server is.
    to: Box<[u32]>,
    listener: Option<u32>,
    holding: Arc<Holding>,
}

/// The first rules that match.
pub(in crate::policy) struct Firsts {
    /// For anybody: those behind it do not count.
    pub(in crate::policy) plain: Option<Arc<Rule>>,
    /// That lets users in, before that.
    pub(in crate::policy) lets_in: Option<Arc<Rule>>,
    /// Whether one is for users, before that.
    pub(in crate::policy) for_users: bool,
    /// Where one is, the strictest limits of all that may come to let somebody in.
    pub(in crate::policy) limits: SessionLimits,
}

impl Rules {
    /// The first rules for who asks, and what it takes to find more.
    pub(in crate::policy) fn search(&self, asker: &Asker<'_>) -> (Search, Firsts) {
        let table = self.table();
        let search = Search {
            rules: self.clone(),
            from: table.from.around(asker.client.ip()).collect(),
            to: destinations(&self.0, asker),
            listener: table.listeners.numbers.get(asker.listener).copied(),
            holding: table.calendar.at(asker.at),
        };
        let [mut plain, mut allowed, mut denied] = [NONE; 3];
        search.groups(|group, wide| {
            let first = match group.kind {
                Kind::Plain => &mut plain,
                Kind::AllowUsers => &mut allowed,
                Kind::DenyUsers => &mut denied,
            };
            *first = search.first(group, *first, wide).unwrap_or(*first);
            plain
        });
        let for_users = allowed.min(denied) < plain;
        let firsts = Firsts {
            plain: self.rule(plain).cloned(),
            lets_in: self.rule(allowed).filter(|_| allowed < plain).cloned(),
            for_users,
            limits: if for_users { search.strictest(plain) } else { SessionLimits::default() },
        };
        (search, firsts)
    }
}

/// No rule: behind every one.
const NONE: u32 = u32::MAX;

impl Search {
    /// The first rule for this user.
    pub(in crate::policy) fn for_user(&self, user: &[u8]) -> Option<&Arc<Rule>> {
        let table = self.rules.table();
        let named = table.users.by_name.get(user.to_ascii_lowercase().as_slice()).map_or(&[][..], Vec::as_slice);
        let matches = |rule: u32| self.rules.rule(rule).is_some_and(|rule| rule.is_for_user(user));
        let mut best = NONE;
        self.groups(|group, wide| {
            let members = slice(&table.members, &group.members);
            best = match group.kind {
                Kind::Plain => self.first(group, best, wide),
                Kind::AllowUsers | Kind::DenyUsers => {
                    let by_name = common(members, named, best, |rule| self.is_for(rule, wide));
                    let before = by_name.unwrap_or(best);
                    let fits = |rule| self.is_for(rule, wide) && matches(rule);
                    common(members, &table.users.by_pattern, before, fits).or(by_name)
                }
            }
            .unwrap_or(best);
            best
        });
        self.rules.rule(best)
    }

    /// The strictest limits of the rules that match, up to this one.
    fn strictest(&self, last: u32) -> SessionLimits {
        let mut strictest = SessionLimits::default();
        let (table, end) = (self.rules.table(), last.saturating_add(1));
        if table.limited.is_empty() {
            return strictest;
        }
        self.groups(|group, wide| {
            let (mut members, mut limited) = (slice(&table.members, &group.members), table.limited.as_slice());
            while let Some(place) = common(members, limited, end, |rule| self.is_for(rule, wide)) {
                if let Some(rule) = self.rules.rule(place) {
                    strictest = strictest.and(rule.limits.session);
                }
                (members, limited) = (leap(members, place + 1), leap(limited, place + 1));
            }
            end
        });
        strictest
    }

    /// Visits the groups that match, in no order. The visitor says before which rule another must be to count.
    fn groups(&self, mut visit: impl FnMut(&Group, Wide) -> u32) {
        let table = self.rules.table();
        let mut before = NONE;
        let mut cell = |from: u32, to: u32, wide: Wide, before: &mut u32| {
            let Some(cell) = find_cell(table, from, to) else { return };
            for group in slice(&table.groups, &cell.groups) {
                if table.listeners.has(group.listeners, self.listener) && self.holding.holds(group.hours) {
                    *before = visit(group, wide);
                }
            }
        };
        for &from in &self.from {
            let Some(client) = side(&table.from_sides, from, before) else { continue };
            if client.wide {
                cell(from, WIDE, Wide::ByClient, &mut before);
            }
            for &to in &self.to {
                let Some(server) = side(&table.to_sides, to, before) else { continue };
                if client.partners & bit(to) != 0 && server.partners & bit(from) != 0 {
                    cell(from, to, Wide::No, &mut before);
                }
            }
        }
        for &to in &self.to {
            if side(&table.to_sides, to, before).is_some_and(|side| side.wide) {
                cell(WIDE, to, Wide::ByServer, &mut before);
            }
        }
    }

    /// The first of a group that matches, where it is before another.
    fn first(&self, group: &Group, before: u32, wide: Wide) -> Option<u32> {
        if group.first >= before || wide == Wide::No {
            return Some(group.first).filter(|first| *first < before);
        }
        let members = slice(&self.rules.table().members, &group.members);
        members.iter().take_while(|rule| **rule < before).find(|rule| self.is_for(**rule, wide)).copied()
    }

    /// Whether a rule of a cell that matches does.
    fn is_for(&self, rule: u32, wide: Wide) -> bool {
        let ours = match wide {
            Wide::No => return true,
            Wide::ByClient => &self.to,
            Wide::ByServer => &self.from,
        };
        let list = self.rules.table().wide.get(&rule.into());
        list.is_some_and(|list| ours.iter().any(|one| list.binary_search(one).is_ok()))
    }
}

/// Whether the rules of a cell are known to match, or by one side alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wide {
    No,
    ByClient,
    ByServer,
}

fn find_cell(table: &Table, from: u32, to: u32) -> Option<&Cell> {
    let near = table.from_sides.get(from as usize).map(|side| &side.cells).filter(|cells| cells.len() <= FEW_CELLS);
    match near {
        Some(near) => slice(&table.cells, near).iter().find(|cell| cell.to == to),
        None => table.far_cells.get(&pair(from, to)).and_then(|place| table.cells.get(*place as usize)),
    }
}

/// A network or destination, unless all its rules come too late.
fn side(sides: &[Side], number: u32, before: u32) -> Option<&Side> {
    sides.get(number as usize).filter(|side| side.least < before)
}

/// The destinations that a server is.
fn destinations(compiled: &Compiled, asker: &Asker<'_>) -> Box<[u32]> {
    let server = asker.server;
    let table = &compiled.table;
    let one = |network: u32| {
        let destinations = table.destinations.get(network as usize).cloned().unwrap_or_default();
        let key = pair(network, server.port().into());
        let ported = if destinations.with_ports { table.ported.get(&key).copied() } else { None };
        let control_port = destinations.control_port.filter(|_| !asker.chose_port());
        destinations.every_port.into_iter().chain(control_port).chain(ported)
    };
    table.to.around(server.ip()).flat_map(one).collect()
}

/// The first that is in both of two sorted lists and fits, where it is before another. It leaps over what only one has.
fn common(mut a: &[u32], mut b: &[u32], before: u32, fits: impl Fn(u32) -> bool) -> Option<u32> {
    loop {
        let (&first, &other) = (a.first()?, b.first()?);
        if first >= before || other >= before {
            return None;
        }
        match first.cmp(&other) {
            std::cmp::Ordering::Equal if fits(first) => return Some(first),
            std::cmp::Ordering::Equal => (a, b) = (&a[1..], &b[1..]),
            std::cmp::Ordering::Less => a = leap(a, other),
            std::cmp::Ordering::Greater => b = leap(b, first),
        }
    }
}

/// What is left of a sorted list from `least` on.
fn leap(list: &[u32], least: u32) -> &[u32] {
    let mut step = 1;
    while list.get(step).is_some_and(|&member| member < least) {
        step *= 2;
    }
    let near = &list[step / 2..];
    &near[near.partition_point(|&member| member < least)..]
}

impl PartialEq for Search {
    fn eq(&self, other: &Self) -> bool {
        (&self.from, &self.to, self.listener) == (&other.from, &other.to, other.listener)
            && self.holding.is_like(&other.holding)
            && self.rules == other.rules
    }
}

impl Eq for Search {}
