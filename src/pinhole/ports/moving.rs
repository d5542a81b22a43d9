//! The ports at which relayed connections have come, for as long as they may move bytes.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How many connections of a peer have one of the gate's ports. A peer that dials from the same port each time, as servers do from
/// port 20, would come into the earlier one: it has perhaps ended it, and the file is still on its way to the other side.
#[derive(Debug, Default)]
pub(super) struct MovingPorts(Mutex<HashMap<(SocketAddr, IpAddr), usize>>);

impl MovingPorts {
    pub(super) fn has(&self, at: SocketAddr, from: IpAddr) -> bool {
        self.lock().contains_key(&(at, from.to_canonical()))
    }

    pub(super) fn add(self: &Arc<Self>, at: SocketAddr, from: IpAddr) -> Moving {
        let key = (at, from.to_canonical());
        *self.lock().entry(key).or_default() += 1;
        Moving { ports: Arc::clone(self), key }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(SocketAddr, IpAddr), usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection at one of the gate's ports, or one that is waited for; dropped, it is over.
#[derive(Debug)]
pub(in crate::pinhole) struct Moving {
    ports: Arc<MovingPorts>,
    key: (SocketAddr, IpAddr),
}

impl Drop for Moving {
    fn drop(&mut self) {
        let mut ports = self.ports.lock();
        if let Entry::Occupied(mut count) = ports.entry(self.key) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}
