//! How many sessions this process can serve.

use crate::net;
use crate::policy::{Capacity, Policy};

/// What a process needs besides its sessions, its listeners and its threads: standard streams, signals, nftables.
const BASE: u64 = 32;
/// What each thread needs for its events.
const OF_A_THREAD: u64 = 4;

/// How many sessions a gate with these rules can serve on this machine, once it has raised its limit of open files.
#[must_use]
pub fn capacity(policy: &Policy) -> Capacity {
    let (_, most) = net::file_limits();
    with_limit(policy, most)
}

/// The same with the limit as it is now.
pub(super) fn now(policy: &Policy) -> Capacity {
    let (limit, _) = net::file_limits();
    with_limit(policy, limit)
}

fn with_limit(policy: &Policy, limit: Option<u64>) -> Capacity {
    let threads = super::workers::count() as u64;
    let listeners = policy.listeners.len() as u64;
    // Each thread has a listener's socket of its own.
    let own = BASE + threads * OF_A_THREAD + listeners * (threads + 1);
    Capacity::new(limit.unwrap_or(u64::MAX), own)
}
