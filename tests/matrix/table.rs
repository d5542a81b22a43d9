//! What came out, and the tables that the whole matrix leaves behind.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};

use crate::cell::{Cell, Outcome, Via};
use crate::choice::{self, LEGS};
use crate::lab::client::Client;
use crate::lab::gate::{Datapath, Listener};
use crate::lab::server::Server;
use crate::lab::{Family, Leg, Mode, Notation};

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

/// A file of results.
#[derive(Clone, Copy)]
pub struct File {
    name: &'static str,
    about: &'static str,
    sections: fn() -> Vec<(String, Vec<Column>)>,
}

/// The client's leg, and what is between it and the server.
type Column = (Leg, Via);

pub const MATRIX: File = File { name: "matrix.md", about: ABOUT_MATRIX, sections: datapaths };
pub const BRIDGES: File = File { name: "bridges.md", about: ABOUT_BRIDGES, sections: bridges };

const ABOUT_MATRIX: &str = "# Clients and servers through the gate

Written by `cargo test --test matrix -- --whole`. Each cell lists, uploads and downloads 8 MiB and
50 small files, resumes a download and deletes, direct first and then through the gate (wget: lists
and downloads only). Where the gate joins what is not the same on both sides: [bridges.md](bridges.md).

Columns: listener, then P for passive and A for active, 4 and 6 for the family; `client` is
`transparent: tproxy` with `source: client`. Cells: **ok** works through the gate, **FAIL** works
direct only, **-** does not work direct either (reasons below).

";

const ABOUT_BRIDGES: &str = "# Clients and servers that the gate joins

Written by `cargo test --test matrix -- --bridges`. A cell does what those of [matrix.md](matrix.md)
do, but the client does its part in one way and the server in another: each is tried direct in its
own first. The server refuses every other way, as far as it can be brought to: Pure-FTPd cannot
refuse active mode, inetutils' ftpd can refuse nothing, and there the gate's log tells what was used.
Either machine has addresses of one family only.

Columns: the client's leg, then the server's. P is passive and A active, 4 and 6 the family; p knows
PASV and PORT only, e EPSV and EPRT only. Cells: **ok** works through the gate, **FAIL** works direct
only, **-** cannot be (reasons below).

";

/// Writes files of results in `tests`.
pub fn write(results: &Results, files: &[File]) {
    for file in files {
        let path = format!("{}/tests/{}", env!("CARGO_MANIFEST_DIR"), file.name);
        match std::fs::write(&path, markdown(results, *file)) {
            Ok(()) => println!("wrote {path}"),
            Err(e) => println!("cannot write {path}: {e}"),
        }
    }
}

fn markdown(results: &Results, file: File) -> String {
    let all = results.all();
    let mut text = file.about.to_owned();
    let sections = (file.sections)();
    for (title, columns) in &sections {
        let _ = writeln!(text, "## {title}\n\n{}", table(&all, columns));
    }
    let columns: BTreeSet<Column> = sections.into_iter().flat_map(|(_, columns)| columns).collect();
    let reasons = results.reasons().into_iter().filter(|(cell, _)| columns.contains(&(cell.leg, cell.via)));
    let reasons = reasons.map(|(cell, reason)| {
        let way = if matches!(cell.via, Via::Bridge(_)) { head(cell.leg, cell.via) } else { cell.leg.to_string() };
        format!("- {}, {}, {way}: {}\n", cell.server, cell.client, reason.lines().next().unwrap_or_default())
    });
    let reasons: BTreeSet<String> = reasons.collect();
    text + "## Left out\n\n" + &reasons.into_iter().collect::<String>()
}

fn datapaths() -> Vec<(String, Vec<Column>)> {
    let section = |datapath| {
        let ways = Listener::ALL.into_iter().map(move |listener| Via::Gate(listener, datapath));
        let columns = ways.flat_map(|via| LEGS.map(|leg| (leg, via))).collect();
        (format!("`datapath: {datapath}`"), columns)
    };
    Datapath::ALL.into_iter().map(section).collect()
}

fn bridges() -> Vec<(String, Vec<Column>)> {
    let columns = |legs: Vec<(Leg, Leg)>| legs.into_iter().map(|(ours, theirs)| (ours, Via::Bridge(theirs))).collect();
    vec![
        ("One side passive, the other active".to_owned(), columns(choice::modes())),
        ("EPSV and EPRT on one side, PASV and PORT on the other".to_owned(), columns(choice::notations())),
        ("IPv4 on one side, IPv6 on the other".to_owned(), columns(choice::families())),
    ]
}

fn table(all: &BTreeMap<Cell, Outcome>, columns: &[Column]) -> String {
    let mut text = String::new();
    let heads = columns.iter().map(|&(leg, via)| format!(" {} |", head(leg, via)));
    let _ = writeln!(text, "| server | client |{}", heads.collect::<String>());
    let _ = writeln!(text, "| --- | --- |{}", " --- |".repeat(columns.len()));
    for (server, client) in Server::ALL.into_iter().flat_map(|s| Client::ALL.map(|c| (s, c))) {
        let cells = columns.iter().map(|&(leg, via)| match all.get(&Cell { server, client, leg, via }) {
            Some(Outcome::Works) => " ok |",
            Some(Outcome::Broken(_)) => " **FAIL** |",
            Some(Outcome::LeftOut(_)) | None => " - |",
        });
        let _ = writeln!(text, "| {server} | {client} |{}", cells.collect::<String>());
    }
    text
}

/// A column's head.
fn head(leg: Leg, via: Via) -> String {
    match via {
        Via::Gate(Listener::ClientSource, _) => format!("client {}", short(leg)),
        Via::Gate(listener, _) => format!("{listener} {}", short(leg)),
        Via::Bridge(theirs) => format!("{} {}", short(leg), short(theirs)),
        Via::Direct | Via::Limited => format!("{via} {}", short(leg)),
    }
}

fn short(leg: Leg) -> String {
    let mode = if leg.mode == Mode::Passive { 'P' } else { 'A' };
    let family = if leg.family == Family::V4 { '4' } else { '6' };
    let notation = match leg.notation {
        Notation::Either => "",
        Notation::Plain => "p",
        Notation::Extended => "e",
    };
    format!("{mode}{family}{notation}")
}
