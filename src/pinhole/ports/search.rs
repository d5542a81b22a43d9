//! Looking for a port that can wait for one connection.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use super::brought::Peer;
use super::resting::Given;
use super::{Key, Ports, Reservation, Waiting, Wanted, lock};
use crate::pinhole::OpenError;

/// The search for a port for one connection.
pub(super) struct Search<'a> {
    pub(super) ports: &'a Ports,
    pub(super) wanted: &'a Wanted<'a>,
    pub(super) from: IpAddr,
    pub(super) peer: Peer<'a>,
    pub(super) now: Instant,
    /// What is put into the port that is found.
    pub(super) waiting: Option<Waiting>,
    pub(super) skipped: &'a mut Vec<u16>,
}

impl Search<'_> {
    /// Takes this port where it is free. Where `resting` is there, a port that rests is not taken but noted in it.
    pub(super) fn take(
        &mut self,
        port: u16,
        resting: Option<&mut Vec<(Instant, u16)>>,
    ) -> Result<Option<Reservation>, OpenError> {
        let Wanted { at, socket, timeout, .. } = *self.wanted;
        let key = Key { ip: at, port, socket };
        let given = Given { at, port, to: self.from };
        let shared = self.ports.table_of(port);
        let mut table = lock(shared);
        if let Some(resting) = resting
            && let Some(until) = table.resting.until(&given, self.now)
        {
            resting.push((until, port));
            return Ok(None);
        }
        match table.ready_for(shared, key, self.peer) {
            Ok(true) => {
                table.last_serial += 1;
                let serial = table.last_serial;
                if let Some(port) = table.ports.get_mut(&key)
                    && let Some(waiting) = self.waiting.take()
                {
                    port.waiting.insert(self.from, Waiting { serial, ..waiting });
                }
                table.resting.give(given, self.now, self.now + 2 * timeout);
                Ok(Some(Reservation { table: Arc::clone(shared), key, from: self.from, serial }))
            }
            Ok(false) => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                self.skipped.push(port);
                Ok(None)
            }
            Err(error) => Err(OpenError::at(SocketAddr::new(at, port), error)),
        }
    }
}
