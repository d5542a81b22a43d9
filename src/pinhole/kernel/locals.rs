//! Which addresses are this machine's own.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::net::is_local;

/// How long an answer holds: to ask takes a dozen system calls.
const HOLDS: Duration = Duration::from_secs(1);
/// How many answers are kept.
const MOST: usize = 4096;

/// Knows the answers of the last second.
#[derive(Debug, Default)]
pub(super) struct Locals(Mutex<HashMap<IpAddr, (bool, Instant)>>);

impl Locals {
    /// Whether this machine has the address, or had it a second ago.
    pub(super) fn has(&self, ip: IpAddr) -> bool {
        let now = Instant::now();
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((is_local, at)) = known.get(&ip)
            && now.saturating_duration_since(*at) < HOLDS
        {
            return *is_local;
        }
        if known.len() >= MOST {
            known.clear();
        }
        let is_local = is_local(ip);
        known.insert(ip, (is_local, now));
        is_local
    }
}
