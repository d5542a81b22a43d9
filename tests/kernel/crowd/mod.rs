//! Many sessions of clients that share one address, at few ports, in both modes, whose peers break off, abort, say more in
//! between and leave: every byte that arrives is of its own transfer, no file ends early, and the sessions go on.
//!
//! `FTPGATE_CROWD_SECONDS` lets it run longer, and `FTPGATE_CROWD_SEED` has the clients choose the same things again.

#![allow(clippy::wildcard_enum_match_arm, reason = "most plans concern one side")]

mod client;
mod file;
mod server;

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use fastrand::Rng;

use crate::lab::poll;
use crate::stage::*;
use file::File;

const CLIENTS: usize = 10;
const SECONDS: u64 = 6;

/// What is seen on both sides.
struct Seen {
    faults: Mutex<Vec<String>>,
    /// Files that have come to the server whole.
    stored: Mutex<HashSet<(u32, u32)>>,
    /// Files whose clients left when they had sent them.
    left: Mutex<HashSet<(u32, u32)>>,
    sessions: AtomicU32,
    whole: AtomicU32,
    over: AtomicBool,
    until: Instant,
}

impl Seen {
    fn fault(&self, text: String) {
        eprintln!("{text}");
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).push(text);
    }

    fn is_over(&self) -> bool {
        Instant::now() >= self.until || !self.faults.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn crowd(wish: Wish) {
    let seed = number("FTPGATE_CROWD_SEED").unwrap_or_else(|| fastrand::u64(0..1_000_000));
    let seconds = number("FTPGATE_CROWD_SECONDS").unwrap_or(SECONDS);
    eprintln!("FTPGATE_CROWD_SEED={seed}");
    // Servers that dial from port 20 need a port for each file that is on its way: half of these do.
    let wish = Wish { inbound: "10001-10005", outbound: "40001-40015", ..wish };
    let stage = Stage::with(&wish);
    for host in [&stage.net.client, &stage.net.gate, &stage.net.server] {
        // A port in TIME_WAIT may be dialled from again after a second.
        host.sysctl(&[("net/ipv4/tcp_tw_reuse", "1")]).unwrap();
    }
    let seen = Seen {
        faults: Mutex::default(),
        stored: Mutex::default(),
        left: Mutex::default(),
        sessions: AtomicU32::new(0),
        whole: AtomicU32::new(0),
        over: AtomicBool::new(false),
        until: Instant::now() + Duration::from_secs(seconds),
    };
    std::thread::scope(|scope| {
        let (stage, seen) = (&stage, &seen);
        scope.spawn(move || {
            while !seen.over.load(Ordering::Relaxed) {
                match stage.next_control() {
                    Some(control) => drop(scope.spawn(move || server::serve(stage, seen, control))),
                    None => std::thread::sleep(Duration::from_millis(1)),
                }
            }
        });
        let clients: Vec<_> = (0..CLIENTS)
            .map(|index| {
                let rng = Rng::with_seed(seed.wrapping_mul(1000) + u64::try_from(index).unwrap());
                scope.spawn(move || client::visit_again(stage, seen, rng))
            })
            .collect();
        let ended: Vec<_> = clients.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
        // The last ones' files may be on their way.
        std::thread::sleep(Duration::from_millis(500));
        seen.over.store(true, Ordering::Relaxed);
        ended.into_iter().for_each(|ended| ended.unwrap());
    });
    let faults = seen.faults.lock().unwrap();
    assert!(faults.is_empty(), "FTPGATE_CROWD_SEED={seed}: {faults:#?}");
    let (left, stored) = (seen.left.lock().unwrap(), seen.stored.lock().unwrap());
    let lost: Vec<_> = left.difference(&stored).collect();
    assert!(lost.is_empty(), "FTPGATE_CROWD_SEED={seed}: of {} not stored: {lost:?}", left.len());
    let whole = seen.whole.load(Ordering::Relaxed);
    eprintln!("{} sessions, {whole} whole transfers", seen.sessions.load(Ordering::Relaxed));
    assert!(whole > 20, "only {whole} whole transfers");
    assert!(!stage.gate().log().contains("panicked"));
    if wish.datapath == "kernel" {
        assert!(poll(PATIENCE, || (stage.elements() == 0).then_some(())).is_some(), "{} are left", stage.elements());
    }
}

#[test]
fn every_byte_is_its_own_transfers_by_the_kernel() {
    crowd(Wish::default());
}

#[test]
fn every_byte_is_its_own_transfers_by_the_kernel_from_port_20() {
    crowd(Wish { source_port: Some(20), ..Wish::default() });
}

#[test]
fn every_byte_is_its_own_transfers_by_the_relay() {
    crowd(Wish { datapath: "relay", ..Wish::default() });
}

#[test]
fn every_byte_is_its_own_transfers_by_the_relay_from_port_20() {
    crowd(Wish { datapath: "relay", source_port: Some(20), ..Wish::default() });
}

/// Both sides see each other's addresses, and the gate's ports are ports of theirs.
#[test]
fn every_byte_is_its_own_transfers_between_their_own_addresses() {
    for datapath in ["kernel", "relay"] {
        crowd(Wish { datapath, transparent: Some(AS_CLIENT), ..Wish::default() });
    }
}

#[test]
fn every_byte_is_its_own_transfers_between_their_own_addresses_from_port_20() {
    crowd(Wish { transparent: Some(AS_CLIENT), source_port: Some(20), ..Wish::default() });
}
