//! What came out, and the table that the whole matrix leaves behind.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};

use crate::cell::{Cell, Outcome, Talk, Via};
use crate::lab::client::Client;
use crate::lab::gate::{Datapath, Listener};
use crate::lab::server::Server;
use crate::lab::{Family, Mode};

#[derive(Default)]
pub struct Results(Mutex<BTreeMap<Cell, Outcome>>);

impl Results {
    pub fn add(&self, cell: Cell, outcome: &Outcome) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(cell, outcome.clone());
    }

    pub fn passed(&self) -> usize {
        self.all().values().filter(|outcome| matches!(outcome, Outcome::Works)).count()
    }

    /// Prints why cells were left out.
    pub fn show_left_out(&self) {
        for (cell, reason) in self.reasons() {
            println!("n/a {cell}: {reason}");
        }
    }

    fn all(&self) -> BTreeMap<Cell, Outcome> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn reasons(&self) -> Vec<(Cell, String)> {
        let all = self.all().into_iter();
        all.filter_map(|(cell, outcome)| match outcome {
            Outcome::LeftOut(reason) => Some((cell, reason)),
            Outcome::Works | Outcome::Broken(_) => None,
        })
        .collect()
    }
}

/// Writes `tests/matrix.md`.
pub fn write(results: &Results) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/matrix.md");
    match std::fs::write(path, markdown(results)) {
        Ok(()) => println!("wrote {path}"),
        Err(e) => println!("cannot write {path}: {e}"),
    }
}

const ABOUT: &str = "# Clients and servers through the gate

Written by `cargo test --test matrix -- --whole`. Each cell lists, uploads and downloads 8 MiB and
50 small files, resumes a download and deletes, direct first and then through the gate (wget: lists
and downloads only).

Columns: listener, then P for passive and A for active, 4 and 6 for the family; `client` is
`transparent: tproxy` with `source: client`. Cells: **ok** works through the gate, **FAIL** works
direct only, **-** does not work direct either (reasons below).

";

fn markdown(results: &Results) -> String {
    let all = results.all();
    let mut text = ABOUT.to_owned();
    for datapath in Datapath::ALL {
        let ways = Listener::ALL.map(|listener| Via::Gate(listener, datapath));
        let _ = writeln!(text, "## `datapath: {datapath}`\n\n{}", table(&all, &ways));
    }
    let _ =
        writeln!(text, "## `server_mode`: the mode that the client does not use\n\n{}", table(&all, &[Via::Bridge]));
    let reasons = results.reasons().into_iter().map(|(cell, reason)| {
        let talk = cell.talk;
        let reason = reason.lines().next().unwrap_or_default();
        format!("- {}, {}, {}, {}: {reason}\n", talk.server, talk.client, talk.mode, talk.family)
    });
    let reasons: BTreeSet<String> = reasons.collect();
    text + "## Left out\n\n" + &reasons.into_iter().collect::<String>()
}

fn table(all: &BTreeMap<Cell, Outcome>, ways: &[Via]) -> String {
    let mut text = String::new();
    let columns = columns(ways);
    let heads = columns.iter().map(|(via, mode, family)| {
        let mode = if *mode == Mode::Passive { 'P' } else { 'A' };
        let way = match via {
            Via::Gate(Listener::ClientSource, _) => "client".to_owned(),
            Via::Gate(listener, _) => listener.to_string(),
            Via::Bridge | Via::Direct => via.to_string(),
        };
        format!(" {way} {mode}{} |", family.to_string().trim_start_matches('v'))
    });
    let _ = writeln!(text, "| server | client |{}", heads.collect::<String>());
    let _ = writeln!(text, "| --- | --- |{}", " --- |".repeat(columns.len()));
    for (server, client) in Server::ALL.into_iter().flat_map(|s| Client::ALL.map(|c| (s, c))) {
        let cells = columns.iter().map(|&(via, mode, family)| {
            let cell = Cell { talk: Talk { server, client, mode, family }, via };
            match all.get(&cell) {
                Some(Outcome::Works) => " ok |",
                Some(Outcome::Broken(_)) => " **FAIL** |",
                Some(Outcome::LeftOut(_)) | None => " - |",
            }
        });
        let _ = writeln!(text, "| {server} | {client} |{}", cells.collect::<String>());
    }
    text
}

fn columns(ways: &[Via]) -> Vec<(Via, Mode, Family)> {
    let modes = [Mode::Passive, Mode::Active];
    let kinds = modes.into_iter().flat_map(|mode| [Family::V4, Family::V6].map(|family| (mode, family)));
    let kinds: Vec<_> = kinds.collect();
    ways.iter().flat_map(|via| kinds.iter().map(move |&(mode, family)| (*via, mode, family))).collect()
}
