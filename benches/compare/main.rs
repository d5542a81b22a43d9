//! ftpgate beside what people would use in its place, on this machine, in turn: `benches/compare/run`.
//!
//! A client, a gate and a server are network namespaces; both ends are our own, and cost less than any real one. In
//! each round every contender has its turn with every measure, in a lab made for that alone. What counts is how they
//! stand to each other, not how fast this machine is.

#![allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm
)]

mod contender;
mod ftp_client;
mod ftp_server;
#[path = "../../tests/lab/mod.rs"]
mod lab;
mod measure;
mod rivals;
mod table;
mod usage;
mod wire;

use std::path::PathBuf;
use std::time::Instant;

use clap::Parser as _;
use serde_json::json;

use contender::Contender;
use lab::Fault;
use measure::{Figure, Measure, Stage};
use table::Results;

#[derive(clap::Parser)]
#[command(about = "Measures ftpgate beside its rivals")]
struct Args {
    /// How often each has its turn.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Only these contenders.
    #[arg(long, value_delimiter = ',')]
    contenders: Vec<String>,
    /// Only measures whose names begin so.
    #[arg(long, value_delimiter = ',')]
    measures: Vec<String>,
    /// Where the JSON goes.
    #[arg(long, default_value = "target/compare.json")]
    json: PathBuf,
    /// What cargo says to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<(), Fault> {
    let args = Args::parse();
    if !args.bench {
        // `cargo test --benches` only wants to know that this runs.
        return Ok(());
    }
    let contenders: Vec<Contender> = Contender::ALL
        .into_iter()
        .filter(|contender| args.contenders.is_empty() || args.contenders.iter().any(|name| name == contender.name()))
        .collect();
    let wanted = |measure: &Measure| {
        args.measures.is_empty() || args.measures.iter().any(|beginning| measure.name().starts_with(beginning.as_str()))
    };
    let measures: Vec<Measure> = Measure::ALL.into_iter().filter(wanted).collect();
    raise_file_limit()?;
    let begun = Instant::now();
    let mut results = Results::default();
    let mut faults = Vec::new();
    for round in 0..args.rounds {
        for measure in &measures {
            for turn in 0..contenders.len() {
                let contender = contenders[(round + turn) % contenders.len()];
                if !measure.suits(contender) {
                    continue;
                }
                match once(contender, *measure) {
                    Ok(figures) => figures.iter().for_each(|figure| results.add(round, contender, figure)),
                    Err(fault) => faults.push(format!("{} {}: {fault}", contender.name(), measure.name())),
                }
            }
        }
        eprintln!("round {} of {}: {:.0?}", round + 1, args.rounds, begun.elapsed());
    }
    println!("{}", machine());
    println!("median of {} rounds, and the spread from the least to the most in percent of it\n", args.rounds);
    results.print();
    results.print_goals();
    // What the contender said by then is in the file.
    faults.iter().for_each(|fault| println!("not measured: {}", fault.lines().next().unwrap_or_default()));
    let all = json!({ "machine": machine(), "rounds": args.rounds, "figures": results.json(), "faults": faults });
    std::fs::write(&args.json, format!("{all:#}\n")).map_err(|error| format!("{}: {error}", args.json.display()))?;
    Ok(())
}

fn once(contender: Contender, measure: Measure) -> Result<Vec<Figure>, Fault> {
    let stage = Stage::new(contender)?;
    stage.measure(measure).map_err(|fault| format!("{fault}\n{}", stage.said()).into())
}

/// Both ends of thousands of sessions are in this process.
fn raise_file_limit() -> Result<(), Fault> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    const WANTED: u64 = 65_536;
    let now = getrlimit(Resource::Nofile);
    let most = now.maximum.map(|most| most.max(WANTED));
    let more = Rlimit { current: most, maximum: most };
    // Without root the limit that there is must do.
    if setrlimit(Resource::Nofile, more).is_err() {
        setrlimit(Resource::Nofile, Rlimit { current: now.maximum, maximum: now.maximum })?;
    }
    Ok(())
}

fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpus = read("/proc/cpuinfo");
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("\t: unknown");
    let cores = cpus.lines().filter(|line| line.starts_with("processor")).count();
    let kernel = read("/proc/sys/kernel/osrelease");
    format!("{cores} x {}, Linux {}", model.trim_start_matches(['\t', ':', ' ']), kernel.trim())
}
