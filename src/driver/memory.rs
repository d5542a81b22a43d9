//! What was found out about servers, kept for the next session with them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::addr::ServerAddr;
use crate::session::Notations;

/// How long it is believed: servers are replaced at last.
const BELIEVED: Duration = Duration::from_secs(3600);
/// How many servers are remembered: behind a transparent listener there may be any number of them.
const MOST: usize = 4096;

/// The notations that servers understand. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Memory(Arc<Mutex<HashMap<ServerAddr, Known>>>);

#[derive(Clone, Copy, Debug)]
struct Known {
    notations: Notations,
    /// A port that it has named by 229 could be connected to.
    reached: bool,
    since: Instant,
}

impl Memory {
    /// Whether a port that the server has named by 229 could be connected to.
    pub(super) fn is_reached(&self, server: ServerAddr, now: Instant) -> bool {
        self.known(server, now).is_some_and(|known| known.reached)
    }

    /// Remembers that.
    pub(super) fn reached(&self, server: ServerAddr, now: Instant) {
        let notations = self.of(server, now);
        self.insert(server, Known { notations, reached: true, since: now });
    }

    /// What is known of this server.
    pub(super) fn of(&self, server: ServerAddr, now: Instant) -> Notations {
        self.known(server, now).map_or_else(Notations::default, |known| known.notations)
    }

    fn known(&self, server: ServerAddr, now: Instant) -> Option<Known> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&server).copied();
        known.filter(|known| known.is_believed(now))
    }

    /// Remembers this of the server.
    pub(super) fn keep(&self, server: ServerAddr, notations: Notations, now: Instant) {
        let reached = self.is_reached(server, now);
        self.insert(server, Known { notations, reached, since: now });
    }

    fn insert(&self, server: ServerAddr, new: Known) {
        let now = new.since;
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST && !known.contains_key(&server) {
            known.retain(|_, known| known.is_believed(now));
        }
        // A memory that is full of what is still believed takes no more: it would only save a question.
        if known.len() < MOST || known.contains_key(&server) {
            known.insert(server, new);
        }
    }
}

impl Known {
    fn is_believed(self, now: Instant) -> bool {
        now.saturating_duration_since(self.since) < BELIEVED
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(index: u32) -> ServerAddr {
        ServerAddr::new((std::net::Ipv4Addr::from(0x0a00_0000 + index), 21).into())
    }

    #[test]
    fn it_is_believed_for_an_hour() {
        let (memory, now) = (Memory::default(), Instant::now());
        let pasv_only = Notations::new(Some(false), None);
        memory.keep(server(1), pasv_only, now);
        assert_eq!(memory.of(server(1), now + Duration::from_secs(3599)), pasv_only);
        assert_eq!(memory.of(server(1), now + Duration::from_secs(3600)), Notations::default());
        assert_eq!(memory.of(server(2), now), Notations::default());
    }

    #[test]
    fn what_is_known_of_a_server_is_kept_together() {
        let (memory, now) = (Memory::default(), Instant::now());
        let pasv_only = Notations::new(Some(false), None);
        assert!(!memory.is_reached(server(1), now));
        memory.keep(server(1), pasv_only, now);
        assert!(!memory.is_reached(server(1), now));
        memory.reached(server(1), now);
        assert!(memory.is_reached(server(1), now));
        assert_eq!(memory.of(server(1), now), pasv_only);
        memory.keep(server(1), Notations::default(), now);
        assert!(memory.is_reached(server(1), now) && !memory.is_reached(server(1), now + BELIEVED));
    }

    #[test]
    fn it_is_bounded_and_makes_room_for_what_is_believed() {
        let (memory, now) = (Memory::default(), Instant::now());
        let pasv_only = Notations::new(Some(false), None);
        (0..5000).for_each(|index| memory.keep(server(index), pasv_only, now));
        assert_eq!(memory.0.lock().unwrap().len(), MOST);
        let later = now + BELIEVED;
        memory.keep(server(6000), pasv_only, later);
        assert_eq!(memory.of(server(6000), later), pasv_only);
        assert_eq!(memory.0.lock().unwrap().len(), 1);
    }
}
