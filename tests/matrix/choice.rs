//! Which cells to run.

use std::collections::BTreeSet;

use crate::cell::{Cell, Talk, Via};
use crate::lab::client::Client;
use crate::lab::gate::{Datapath, Listener};
use crate::lab::server::Server;
use crate::lab::{Family, Mode};

/// All cells through the gate.
pub fn whole() -> Vec<Cell> {
    let gates =
        || Listener::ALL.into_iter().flat_map(|listener| Datapath::ALL.map(|datapath| Via::Gate(listener, datapath)));
    let ways = || gates().chain([Via::Bridge]);
    talks().flat_map(|talk| ways().map(move |via| Cell { talk, via })).collect()
}

/// All cells without the gate.
pub fn direct() -> Vec<Cell> {
    talks().map(|talk| Cell { talk, via: Via::Direct }).collect()
}

/// A few cells in which every two values that can meet do meet: always the next cell that
/// brings the most new pairs.
pub fn pairs() -> Vec<Cell> {
    let mut candidates: Vec<Cell> = whole().into_iter().filter(|cell| cell.talk.cannot().is_none()).collect();
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

fn talks() -> impl Iterator<Item = Talk> {
    let modes = [Mode::Passive, Mode::Active].map(|mode| [Family::V4, Family::V6].map(|family| (mode, family)));
    Server::ALL.into_iter().flat_map(move |server| {
        Client::ALL.into_iter().flat_map(move |client| {
            modes.into_iter().flatten().map(move |(mode, family)| Talk { server, client, mode, family })
        })
    })
}

fn pairs_of(cell: &Cell) -> Vec<(String, String)> {
    let name = cell.to_string();
    let values: Vec<&str> = name.split('/').collect();
    let mut pairs = Vec::new();
    for (at, first) in values.iter().enumerate() {
        pairs.extend(values[at + 1..].iter().map(|second| ((*first).to_owned(), (*second).to_owned())));
    }
    pairs
}
