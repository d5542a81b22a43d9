//! Which addresses are this machine's own.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::is_local;

/// How long an answer holds: to ask takes a dozen system calls.
const HOLDS: Duration = Duration::from_secs(1);
/// How many answers are kept.
const MOST: usize = 4096;

/// Knows the answers of the last second.
#[derive(Debug, Default)]
pub struct Locals(Mutex<HashMap<IpAddr, (bool, Instant)>>);

impl Locals {
    /// Whether this machine has the address, or had it a second ago.
    pub fn has(&self, ip: IpAddr) -> bool {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_kept_within_bounds() {
        let locals = Locals::default();
        for _ in 0..2 {
            assert!(locals.has("127.0.0.1".parse().unwrap()));
            assert!(!locals.has("192.0.2.77".parse().unwrap()));
        }
        assert_eq!(locals.0.lock().unwrap().len(), 2);
        let many = (0..MOST).map(|number| IpAddr::from(u32::try_from(number).unwrap().to_be_bytes()));
        locals.0.lock().unwrap().extend(many.map(|ip| (ip, (false, Instant::now()))));
        assert!(locals.has("127.0.0.2".parse().unwrap()));
        assert_eq!(locals.0.lock().unwrap().len(), 1);
    }

    #[test]
    fn an_answer_does_not_hold_for_long() {
        let (locals, ip) = (Locals::default(), "127.0.0.1".parse().unwrap());
        let long_ago = Instant::now().checked_sub(HOLDS).unwrap();
        locals.0.lock().unwrap().insert(ip, (false, long_ago));
        assert!(locals.has(ip));
    }
}
