//! Which cells to run.

use std::collections::BTreeSet;

use crate::cell::{Cell, Via};
use crate::lab::client::Client;
use crate::lab::gate::{Datapath, Listener};
use crate::lab::server::Server;
use crate::lab::{Family, Leg, Mode, Notation};

/// Both modes, both families, as the programs like it.
pub const LEGS: [Leg; 4] = [
    Leg::new(Mode::Passive, Family::V4),
    Leg::new(Mode::Passive, Family::V6),
    Leg::new(Mode::Active, Family::V4),
    Leg::new(Mode::Active, Family::V6),
];

/// All cells with the same leg on both sides.
pub fn gates() -> Vec<Cell> {
    let ways = Listener::ALL.map(|listener| Datapath::ALL.map(|datapath| Via::Gate(listener, datapath)));
    talks()
        .flat_map(|(server, client)| {
            let cells = LEGS.into_iter().flat_map(|leg| ways.into_iter().flatten().map(move |via| (leg, via)));
            cells.map(move |(leg, via)| Cell { server, client, leg, via })
        })
        .collect()
}

/// All cells in which the gate joins two legs that are not the same.
pub fn bridges() -> Vec<Cell> {
    let bridges = [modes(), notations(), families()].concat();
    talks()
        .flat_map(|(server, client)| {
            bridges.clone().into_iter().map(move |(leg, theirs)| Cell { server, client, leg, via: Via::Bridge(theirs) })
        })
        .collect()
}

/// All cells without the gate.
pub fn direct() -> Vec<Cell> {
    talks().flat_map(|(server, client)| LEGS.map(|leg| Cell { server, client, leg, via: Via::Direct })).collect()
}

/// One side in passive mode, the other in active mode: the client's leg, and the server's.
pub fn modes() -> Vec<(Leg, Leg)> {
    pairs_of_legs().filter(|(ours, theirs)| ours.family == theirs.family && ours.mode != theirs.mode).collect()
}

/// One side knows EPSV and EPRT only, the other PASV and PORT.
pub fn notations() -> Vec<(Leg, Leg)> {
    let both = [(Notation::Plain, Notation::Extended), (Notation::Extended, Notation::Plain)];
    let legs = pairs_of_legs().filter(|(ours, theirs)| (ours.family, theirs.family) == (Family::V4, Family::V4));
    let noted = |leg: Leg, notation| Leg { notation, ..leg };
    legs.flat_map(|(ours, theirs)| both.map(|(one, other)| (noted(ours, one), noted(theirs, other)))).collect()
}

/// One side has IPv4 only, the other IPv6; an old IPv4 server does not know EPSV and EPRT (RFC 6384).
pub fn families() -> Vec<(Leg, Leg)> {
    let legs = pairs_of_legs().filter(|(ours, theirs)| ours.family != theirs.family);
    legs.flat_map(|(ours, theirs)| {
        let old = (theirs.family == Family::V4).then_some((ours, Leg { notation: Notation::Plain, ..theirs }));
        [Some((ours, theirs)), old].into_iter().flatten()
    })
    .collect()
}

/// A few cells in which every two values that can meet do meet: always the next cell that
/// brings the most new pairs.
pub fn pairs() -> Vec<Cell> {
    let whole = [gates(), bridges()].concat();
    let mut candidates: Vec<Cell> = whole.into_iter().filter(|cell| cell.cannot().is_none()).collect();
    let mut seen = BTreeSet::new();
    let mut chosen = Vec::new();
    loop {
        let new = |cell: &Cell| pairs_of(cell).iter().filter(|pair| !seen.contains(*pair)).count();
        // The first of the best, so that the choice is the same every time.
        let best =
            candidates.iter().enumerate().rev().max_by_key(|(_, cell)| new(cell)).map(|(at, cell)| (at, new(cell)));
        let Some((at, 1..)) = best else { return chosen };
        let cell = candidates.remove(at);
        seen.extend(pairs_of(&cell));
        chosen.push(cell);
    }
}

fn talks() -> impl Iterator<Item = (Server, Client)> {
    Server::ALL.into_iter().flat_map(|server| Client::ALL.map(|client| (server, client)))
}

fn pairs_of_legs() -> impl Iterator<Item = (Leg, Leg)> {
    LEGS.into_iter().flat_map(|ours| LEGS.map(|theirs| (ours, theirs)))
}

/// Every two values of the cell, each with its place in the name: what the client does is another
/// value than the same done by the server.
fn pairs_of(cell: &Cell) -> Vec<[(usize, String); 2]> {
    let name = cell.to_string();
    let values: Vec<(usize, String)> = name.split('/').map(str::to_owned).enumerate().collect();
    let mut pairs = Vec::new();
    for (at, first) in values.iter().enumerate() {
        pairs.extend(values[at + 1..].iter().map(|second| [first.clone(), second.clone()]));
    }
    pairs
}
