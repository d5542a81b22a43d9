//! From rules to tables.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use super::calendar::CalendarBuilder;
use super::number::{Numbered, bit, number, pair, parts};
use super::{Admission, Cell, Destinations, Group, Kind, Listeners, Prefixes, Side, Table, Users};
use crate::addr::Network;
use crate::policy::{Destination, Permission, Rule, SessionLimits};

/// In place of a destination or a network: the rules of such a cell have to be asked whether they match.
pub(super) const WIDE: u32 = u32::MAX;
/// A rule may have this many cells for each entry of its lists.
const CELLS_FOR_EACH: usize = 8;

/// The cells of a network are gone through where they are no more than this.
pub(super) const FEW_CELLS: usize = 8;

/// A rule in a cell. The order of the fields is the order of the table.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Member {
    cell: u64,
    alike: Alike,
    rule: u32,
}

/// What makes a group.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Alike {
    listeners: u32,
    hours: u32,
    kind: Kind,
}

/// Numbers in the order in which things are first met.
struct Numbers<T>(HashMap<T, u32>);

impl<T> Default for Numbers<T> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<T: Hash + Eq> Numbers<T> {
    fn of(&mut self, thing: T) -> u32 {
        let next = number(self.0.len());
        *self.0.entry(thing).or_insert(next)
    }
}

#[derive(Default)]
struct Builder {
    from: Numbers<Network>,
    to_networks: Numbers<Network>,
    /// Each with whether it is one without a port that allows.
    to: Numbers<(Destination, bool)>,
    listener_sets: Numbers<Vec<u32>>,
    listeners: Numbers<String>,
    calendar: CalendarBuilder,
    users: Users,
    limited: Vec<u32>,
    members: Vec<Member>,
    wide: Numbered<Vec<u32>>,
    /// Clients, what is alike, whether all is denied, the rule.
    admissions: Vec<(u32, u32, u32, bool, u32)>,
}

impl Table {
    pub(super) fn new(rules: &[Arc<Rule>]) -> Self {
        let mut builder = Builder::default();
        // Its number is the one for every listener.
        builder.listener_sets.of(Vec::new());
        let lists: Vec<_> = rules.iter().map(|rule| builder.lists(rule)).collect();
        let rarest = Rarest::new(&lists);
        for ((place, rule), (from, to)) in (0..).zip(rules).zip(&lists) {
            builder.rule(place, rule, from, to, &rarest);
        }
        builder.finish()
    }
}

/// How many rules have each network of a `from`, and each destination of a `to`.
struct Rarest {
    from: Vec<u32>,
    to: Vec<u32>,
}

impl Rarest {
    fn new(lists: &[(Vec<u32>, Vec<u32>)]) -> Self {
        let count = |lists: &mut dyn Iterator<Item = &Vec<u32>>| {
            let mut counts = Vec::new();
            for &entry in lists.flatten() {
                let entry = entry as usize;
                counts.resize(counts.len().max(entry + 1), 0);
                counts[entry] += 1;
            }
            counts
        };
        Self { from: count(&mut lists.iter().map(|(from, _)| from)), to: count(&mut lists.iter().map(|(_, to)| to)) }
    }

    /// Whether the clients of a rule are fewer rules' than its servers are.
    fn is_by_client(&self, from: &[u32], to: &[u32]) -> bool {
        let most =
            |counts: &[u32], list: &[u32]| list.iter().filter_map(|&entry| counts.get(entry as usize)).max().copied();
        most(&self.from, from) <= most(&self.to, to)
    }
}

impl Builder {
    /// The numbers of a rule's networks and destinations, sorted, each once.
    fn lists(&mut self, rule: &Rule) -> (Vec<u32>, Vec<u32>) {
        let from = rule.from.iter().map(|network| self.from.of(*network)).collect();
        let to = rule.to.iter().map(|destination| {
            self.to_networks.of(destination.network);
            self.to.of((*destination, destination.is_for_control_port(rule.permission)))
        });
        (sorted(from), sorted(to.collect()))
    }

    fn rule(&mut self, place: u32, rule: &Rule, from: &[u32], to: &[u32], rarest: &Rarest) {
        let kind = match (&rule.users, rule.permission) {
            (None, _) => Kind::Plain,
            (Some(_), Permission::Allow) => Kind::AllowUsers,
            (Some(_), Permission::Deny) => Kind::DenyUsers,
        };
        let listeners = sorted(rule.listeners.iter().map(|name| self.listeners.of(name.clone())).collect());
        let listeners = self.listener_sets.of(listeners);
        let hours = self.calendar.number(rule.hours.as_ref());
        let alike = Alike { listeners, hours, kind };
        let mut add = |from, to| self.members.push(Member { cell: pair(from, to), alike, rule: place });
        if from.len().saturating_mul(to.len()) <= CELLS_FOR_EACH * (from.len() + to.len()) {
            from.iter().for_each(|&from| to.iter().for_each(|&to| add(from, to)));
        } else if rarest.is_by_client(from, to) {
            from.iter().for_each(|&from| add(from, WIDE));
            self.wide.insert(place.into(), to.to_vec());
        } else {
            to.iter().for_each(|&to| add(WIDE, to));
            self.wide.insert(place.into(), from.to_vec());
        }
        self.user_names(place, rule);
        if rule.permission == Permission::Allow && rule.limits.session != SessionLimits::default() {
            self.limited.push(place);
        }
        let everywhere = Destination { network: Network::Any, port: None };
        let denies = rule.permission == Permission::Deny && rule.users.is_none() && rule.to.contains(&everywhere);
        if denies || rule.permission == Permission::Allow {
            self.admissions.extend(from.iter().map(|&from| (from, listeners, hours, denies, place)));
        }
    }

    fn user_names(&mut self, place: u32, rule: &Rule) {
        let Some(users) = &rule.users else { return };
        for name in users.plain() {
            self.users.by_name.entry(name.into()).or_default().push(place);
        }
        if users.has_patterns() {
            self.users.by_pattern.push(place);
        }
    }

    fn finish(mut self) -> Table {
        let mut from_sides = vec![Side { least: u32::MAX, ..Side::default() }; self.from.0.len()];
        let mut to_sides = vec![Side { least: u32::MAX, ..Side::default() }; self.to.0.len()];
        self.members.sort_unstable();
        let (mut groups, mut cells): (Vec<Group>, Vec<Cell>) = Default::default();
        for cell in self.members.chunk_by(|a, b| a.cell == b.cell) {
            let start = number(groups.len());
            for group in cell.chunk_by(|a, b| a.alike == b.alike) {
                let begin = groups.last().map_or(0, |last| last.members.end);
                let Member { alike: Alike { listeners, hours, kind }, rule: first, .. } = group[0];
                groups.push(Group { kind, listeners, hours, first, members: begin..begin + number(group.len()) });
            }
            let (from, to) = parts(cell[0].cell);
            let least = cell.iter().map(|member| member.rule).min().unwrap_or(u32::MAX);
            note(&mut from_sides, from, to, least);
            note(&mut to_sides, to, from, least);
            if let Some(side) = from_sides.get_mut(from as usize) {
                let place = number(cells.len());
                let begin = if side.cells.is_empty() { place } else { side.cells.start };
                side.cells = begin..place + 1;
            }
            cells.push(Cell { to, groups: start..number(groups.len()) });
        }
        let far_cells = far_cells(&from_sides, &cells);
        let admissions = admissions(self.admissions, &mut from_sides);
        let (destinations, ported) = destinations(&self.to.0, &self.to_networks.0);
        let mut sets: Vec<(Vec<u32>, u32)> = self.listener_sets.0.into_iter().collect();
        sets.sort_unstable_by_key(|(_, number)| *number);
        Table {
            from: Prefixes::new(&self.from.0),
            to: Prefixes::new(&self.to_networks.0),
            from_sides,
            to_sides,
            destinations,
            ported,
            cells,
            far_cells,
            groups,
            members: self.members.into_iter().map(|member| member.rule).collect(),
            wide: self.wide,
            admissions,
            listeners: Listeners { numbers: self.listeners.0, sets: sets.into_iter().map(|(set, _)| set).collect() },
            calendar: self.calendar.build(),
            users: self.users,
            limited: self.limited,
        }
    }
}

/// Keeps in mind that one shares a cell with the other.
fn note(sides: &mut [Side], one: u32, other: u32, least: u32) {
    let Some(side) = sides.get_mut(one as usize) else { return };
    side.least = side.least.min(least);
    match other {
        WIDE => side.wide = true,
        other => side.partners |= bit(other),
    }
}

/// The places of cells that are found by a look-up and not by going through the few of their network; the cells of rules
/// that stand by their servers alone are such, too.
fn far_cells(from_sides: &[Side], cells: &[Cell]) -> Numbered<u32> {
    let place_of = |from: u32, place: u32| Some((pair(from, cells.get(place as usize)?.to), place));
    let many = (0..).zip(from_sides).filter(|(_, side)| side.cells.len() > FEW_CELLS);
    let mut places: Numbered<u32> =
        many.flat_map(|(from, side)| side.cells.clone().filter_map(move |place| place_of(from, place))).collect();
    // They stand last, for their network is none.
    let by_server = from_sides.iter().map(|side| side.cells.end).max().unwrap_or(0)..number(cells.len());
    places.extend(by_server.filter_map(|place| place_of(WIDE, place)));
    places
}

/// The first rule of each kind for each network of clients.
fn admissions(mut written: Vec<(u32, u32, u32, bool, u32)>, sides: &mut [Side]) -> Vec<Admission> {
    written.sort_unstable();
    written.dedup_by_key(|&mut (from, listeners, hours, denies, _)| (from, listeners, hours, denies));
    for (place, (from, ..)) in (0..).zip(&written) {
        let Some(side) = sides.get_mut(*from as usize) else { continue };
        if side.admissions.is_empty() {
            side.admissions.start = place;
        }
        side.admissions.end = place + 1;
    }
    let admission = |(_, listeners, hours, denies, first)| Admission { listeners, hours, denies, first };
    written.into_iter().map(admission).collect()
}

/// The destinations by their network, and by network and port.
fn destinations(
    to: &HashMap<(Destination, bool), u32>,
    networks: &HashMap<Network, u32>,
) -> (Vec<Destinations>, Numbered<u32>) {
    let mut by_network = vec![Destinations::default(); networks.len()];
    let mut ported = Numbered::default();
    for (&(destination, is_for_control_port), &place) in to {
        let Some(&network) = networks.get(&destination.network) else { continue };
        let Some(of_network) = by_network.get_mut(network as usize) else { continue };
        match destination.port {
            None if is_for_control_port => of_network.control_port = Some(place),
            None => of_network.every_port = Some(place),
            Some(port) => {
                of_network.with_ports = true;
                ported.insert(pair(network, port.into()), place);
            }
        }
    }
    (by_network, ported)
}

fn sorted(mut list: Vec<u32>) -> Vec<u32> {
    list.sort_unstable();
    list.dedup();
    list
}
