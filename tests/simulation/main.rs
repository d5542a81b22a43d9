//! Seeded conversations against the pure session core: good and bad clients, servers and datapaths, a clock that only
//! jumps, and an oracle that judges each step.
//!
//! ```text
//! cargo test --test simulation                                          a fixed set of seeds
//! cargo test --release --test simulation -- --steps 10000000            more of them
//! cargo test --test simulation -- --seed 17                             one of them, with its transcript
//! ```
//!
//! `FTPGATE_SIMULATION_STEPS` and `FTPGATE_SIMULATION_SEED` say the same where arguments cannot (cargo nextest). What
//! fails prints its seed and the conversation, in the form of tests/transcripts.

#![allow(missing_docs, clippy::print_stdout, clippy::wildcard_enum_match_arm)]

mod cast;
mod client;
mod datapath;
mod oracle;
mod script;
mod server;
#[path = "../transcript/show.rs"]
mod show;
mod wire;
mod world;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Instant;

use cast::{Cast, Combination, Manner};
use fastrand::Rng;
use libtest_mimic::{Arguments, Failed, Trial};
use script::Script;
use world::{Done, World};

/// Enough for every combination, in a few seconds without optimisation.
const STEPS: u64 = 200_000;

fn main() -> ExitCode {
    let (wish, arguments) = arguments();
    let trial = match wish {
        Wish::Steps(steps) => Trial::test("invariants_hold", move || many(steps)),
        Wish::Seed(seed) => Trial::test("invariants_hold", move || {
            let (script, outcome) = replay(seed);
            println!("{script}");
            outcome.map(drop).map_err(Failed::from)
        }),
    };
    libtest_mimic::run(&arguments, vec![trial]).exit_code()
}

#[derive(Clone, Copy)]
enum Wish {
    Steps(u64),
    Seed(u64),
}

/// Takes our own words out of the command line; the rest is libtest's.
fn arguments() -> (Wish, Arguments) {
    let mut words = std::env::args();
    let (mut steps, mut seed) = (number("FTPGATE_SIMULATION_STEPS"), number("FTPGATE_SIMULATION_SEED"));
    let mut theirs = Vec::new();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--steps" => steps = words.next().and_then(|text| text.replace('_', "").parse().ok()),
            "--seed" => seed = words.next().and_then(|text| text.parse().ok()),
            _ => theirs.push(word),
        }
    }
    let wish = seed.map_or_else(|| Wish::Steps(steps.unwrap_or(STEPS)), Wish::Seed);
    (wish, Arguments::from_iter(theirs))
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.replace('_', "").parse().ok()
}

/// Plays seed after seed, until so many inputs were given.
fn many(steps: u64) -> Result<(), Failed> {
    let combinations = Combination::all();
    let mut completed: BTreeMap<Combination, u32> = combinations.iter().map(|each| (*each, 0)).collect();
    let start = Instant::now();
    let (mut taken, mut conversations) = (0, 0);
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let failed = (0..).find(|seed| {
        let cast = Cast::draw(*seed, &mut Rng::with_seed(*seed), &combinations);
        let Ok(done) = play(*seed, &combinations, start, None) else { return true };
        if cast.manner == Manner::Good {
            *completed.entry(cast.combination).or_default() += done.completed;
        }
        taken += done.steps;
        conversations += 1;
        taken >= steps
    });
    std::panic::set_hook(hook);
    if let Some(seed) = failed.filter(|_| taken < steps) {
        let (script, outcome) = replay(seed);
        let why = outcome.err().unwrap_or_else(|| "it does not fail again".to_owned());
        return Err(format!("{script}\nseed {seed}: {why}").into());
    }
    let took = start.elapsed();
    let each = took.as_nanos() / u128::from(taken.max(1));
    println!("{conversations} conversations, {taken} steps, {took:.1?}, {each} ns a step");
    let missing: Vec<_> = completed.iter().filter(|(_, count)| **count == 0).collect();
    if missing.is_empty() { Ok(()) } else { Err(format!("no transfer was completed in {missing:?}").into()) }
}

/// Plays one seed again and writes it down.
fn replay(seed: u64) -> (String, Result<Done, String>) {
    let combinations = Combination::all();
    let cast = Cast::draw(seed, &mut Rng::with_seed(seed), &combinations);
    let mut script = Script::new(seed, &cast);
    let outcome = play(seed, &combinations, Instant::now(), Some(&mut script));
    (script.text().to_owned(), outcome)
}

fn play(seed: u64, combinations: &[Combination], start: Instant, script: Option<&mut Script>) -> Result<Done, String> {
    let mut rng = Rng::with_seed(seed);
    let cast = Cast::draw(seed, &mut rng, combinations);
    let world = World::new(cast, rng, start, script);
    catch_unwind(AssertUnwindSafe(|| world.play())).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(format!("panic: {}", text.unwrap_or_default()))
    })
}
