//! Every client at every server, both modes, both families, through every kind of listener; and every
//! leg of a client's with every leg of a server's, where the gate has to join what is not the same.
//!
//! A cell runs **direct first**, routed past the gate, and then through the gate: what works
//! direct must work through it. What does not work direct is left out, and the reason is shown.
//!
//! ```text
//! cargo test --test matrix                    cells in which every pair of values occurs
//! cargo test --test matrix -- --whole         all cells; writes tests/matrix.md and tests/bridges.md
//! cargo test --test matrix -- --bridges       those with two different legs; writes tests/bridges.md
//! cargo test --test matrix -- --direct        without the gate
//! cargo test --test matrix -- vsftpd/curl     the cells with this in their name
//! ```
//!
//! `FTPGATE_MATRIX=whole`, `bridges` or `direct` says the same where arguments cannot (cargo nextest).

// Shared with other test binaries; each uses a part.
#![allow(dead_code, missing_docs, unreachable_pub, clippy::print_stdout, clippy::unwrap_used)]

#[path = "../lab/mod.rs"]
mod lab;

mod cell;
mod choice;
mod limits;
mod names;
mod table;
#[path = "../lab/talk.rs"]
mod talk;

use std::net::{IpAddr, TcpListener, TcpStream};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use cell::{Cell, Outcome};
use lab::Family;
use lab::client::Client;
use lab::net::Net;
use lab::server::Server;
use libtest_mimic::{Arguments, Completion, Failed, Trial};
use table::Results;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Extent {
    Pairs,
    Whole,
    Bridges,
    Direct,
}

fn main() -> ExitCode {
    let (extent, mut arguments) = arguments();
    // A cell waits more than it works.
    arguments.test_threads.get_or_insert(4);
    let cells = match extent {
        Extent::Pairs => choice::pairs(),
        Extent::Whole => [choice::gates(), choice::bridges()].concat(),
        Extent::Bridges => choice::bridges(),
        Extent::Direct => choice::direct(),
    };
    let results = Arc::new(Results::default());
    let mut trials: Vec<Trial> = cells.into_iter().map(|cell| trial(cell, &results)).collect();
    trials.extend(limits::trials());
    trials.extend(names::trials());
    trials.push(Trial::test("lab/complete", complete));
    trials.push(Trial::test("lab/wired", wired));
    let conclusion = libtest_mimic::run(&arguments, trials);
    if arguments.list {
        return ExitCode::SUCCESS;
    }
    if arguments.filter.is_none() {
        match extent {
            Extent::Whole => table::write(&results, &[table::MATRIX, table::BRIDGES]),
            Extent::Bridges => table::write(&results, &[table::BRIDGES]),
            Extent::Pairs | Extent::Direct => {}
        }
    }
    results.show_left_out();
    let (passed, failed, skipped) = (conclusion.num_passed, conclusion.num_failed, conclusion.num_ignored);
    println!("{passed} passed, {failed} failed, {skipped} skipped");
    let nothing_ran = results.passed() == 0 && arguments.filter.is_none();
    if failed > 0 || nothing_ran { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Takes our own words out of the command line; the rest is libtest's.
fn arguments() -> (Extent, Arguments) {
    let (ours, theirs): (Vec<String>, Vec<String>) =
        std::env::args().partition(|word| ["--whole", "--bridges", "--direct"].contains(&word.as_str()));
    let wish = ours.last().cloned().or_else(|| std::env::var("FTPGATE_MATRIX").ok());
    let extent = match wish.as_deref().map(|word| word.trim_start_matches('-')) {
        Some("whole") => Extent::Whole,
        Some("bridges") => Extent::Bridges,
        Some("direct") => Extent::Direct,
        Some(_) | None => Extent::Pairs,
    };
    (extent, Arguments::from_iter(theirs))
}

fn trial(cell: Cell, results: &Arc<Results>) -> Trial {
    let results = Arc::clone(results);
    Trial::ignorable_test(cell.to_string(), move || {
        let outcome = cell::run(cell);
        results.add(cell, &outcome);
        match outcome {
            Outcome::Works => Ok(Completion::Completed),
            Outcome::LeftOut(reason) => Ok(Completion::ignored_with(reason.lines().next().unwrap_or_default())),
            Outcome::Broken(report) => Err(Failed::from(report)),
        }
    })
}

/// Cells of a program that is missing would all be left out, so its absence is a failure.
fn complete() -> Result<(), Failed> {
    let servers = Server::ALL.into_iter().filter(|s| !s.is_present()).map(|s| s.to_string());
    let clients = Client::ALL.into_iter().filter(|c| !c.is_present()).map(|c| c.to_string());
    let missing: Vec<String> = servers.chain(clients).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(format!("not here: {}; run tests/lab/packages", missing.join(", ")).into())
}

/// Without a way through the lab all cells of a family would be left out; with a way past the
/// gate they would all work.
fn wired() -> Result<(), Failed> {
    let net = Net::new().map_err(|fault| fault.to_string())?;
    let reaches = |address: IpAddr, patience: Duration| {
        net.client.run(move || TcpStream::connect_timeout(&(address, 21).into(), patience)).map(drop)
    };
    let servers = [Family::V4, Family::V6].map(Net::server_address);
    let listen = move || servers.iter().map(|&address| TcpListener::bind((address, 21))).collect::<Result<Vec<_>, _>>();
    let _listeners = net.server.run(listen).map_err(|e| format!("no listener at the server: {e}"))?;
    for address in servers {
        reaches(address, Duration::from_secs(5)).map_err(|e| format!("the client does not reach {address}: {e}"))?;
    }
    net.close().map_err(|fault| fault.to_string())?;
    match servers.into_iter().find(|&address| reaches(address, Duration::from_millis(500)).is_ok()) {
        Some(address) => Err(format!("the client reaches {address} past the gate").into()),
        None => Ok(()),
    }
}
