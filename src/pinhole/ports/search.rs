//! Looking for a port that can wait for one connection.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::brought::Peer;
use super::turns::InUse;
use super::{Key, Ports, Reservation, Waiting, Wanted, lock};
use crate::pinhole::OpenError;

/// The search for a port for one connection.
pub(super) struct Search<'a> {
    pub(super) ports: &'a Ports,
    pub(super) wanted: &'a Wanted<'a>,
    pub(super) from: IpAddr,
    pub(super) peer: Peer<'a>,
    /// Which ports are passed over.
    pub(super) is_busy: Option<&'a dyn Fn(u16) -> bool>,
    /// What is put into the port that is found.
    pub(super) waiting: Option<Waiting>,
    pub(super) skipped: &'a mut Vec<u16>,
}

impl Search<'_> {
    /// Takes a port of the range, if there is one.
    pub(super) fn anywhere(&mut self, start: u32) -> Result<Option<Reservation>, OpenError> {
        match self.among_others(start)? {
            None => self.among_recent(),
            found => Ok(found),
        }
    }

    /// Takes a port that the peer was not given recently: the one that is rather wanted, or the first from place `start` on.
    fn among_others(&mut self, start: u32) -> Result<Option<Reservation>, OpenError> {
        let Wanted { at, ports: ranges, rather, .. } = *self.wanted;
        let (pair, count) = ((at, self.from), ranges.count());
        let rather = rather
            .and_then(|port| ranges.place_of(port))
            .filter(|place| !self.ports.recent().has(&pair, ranges, *place));
        if let Some(place) = rather
            && let Some(reservation) = self.take(place)?
        {
            return Ok(Some(reservation));
        }
        let mut passed = 0;
        loop {
            let next = (start + passed) % count;
            let distance = self.ports.recent().distance_to_other(&pair, ranges, next, count - passed);
            let Some(distance) = distance else { return Ok(None) };
            let place = (next + distance) % count;
            passed += distance + 1;
            if Some(place) != rather
                && let Some(reservation) = self.take(place)?
            {
                return Ok(Some(reservation));
            }
        }
    }

    /// Takes a port that the peer was given recently, the one given longest ago first.
    fn among_recent(&mut self) -> Result<Option<Reservation>, OpenError> {
        let places = self.ports.recent().oldest_first(&(self.wanted.at, self.from), self.wanted.ports);
        for place in places {
            if let Some(reservation) = self.take(place)? {
                return Ok(Some(reservation));
            }
        }
        Ok(None)
    }

    /// Takes the port at this place of the range where it is free.
    fn take(&mut self, place: u32) -> Result<Option<Reservation>, OpenError> {
        let Wanted { at, socket, ports: ranges, .. } = *self.wanted;
        let Some(port) = ranges.nth(place) else { return Ok(None) };
        if self.is_busy.is_some_and(|is_busy| is_busy(port)) {
            return Ok(None);
        }
        let key = Key { ip: at, port, socket };
        let shared = self.ports.table_of(port);
        let mut table = lock(shared);
        match table.ready_for(shared, key, self.peer) {
            Ok(true) => {
                table.last_serial += 1;
                let serial = table.last_serial;
                if let Some(port) = table.ports.get_mut(&key)
                    && let Some(waiting) = self.waiting.take()
                {
                    let in_use = InUse { turns: Arc::clone(&self.ports.0.turns), from: self.from };
                    port.waiting.insert(self.from, Waiting { serial, _in_use: Some(in_use), ..waiting });
                }
                drop(table);
                self.ports.recent().give((at, self.from), ranges, place);
                Ok(Some(Reservation { table: Arc::clone(shared), key, from: self.from, serial }))
            }
            Ok(false) => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                if !self.skipped.contains(&port) {
                    self.skipped.push(port);
                }
                Ok(None)
            }
            Err(error) => Err(OpenError::at(SocketAddr::new(at, port), error)),
        }
    }
}
