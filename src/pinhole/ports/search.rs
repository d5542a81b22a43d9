//! Looking for a port that can wait for one connection.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::brought::Peer;
use super::turns::InUse;
use super::{Key, Ports, Reservation, Waiting, Wanted, lock};
use crate::addr::{link_of, on_link};
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
        let Wanted { at, link, socket, ports: ranges, .. } = *self.wanted;
        let Some(port) = ranges.nth(place) else { return Ok(None) };
        if self.is_busy.is_some_and(|is_busy| is_busy(port)) {
            return Ok(None);
        }
        let key = Key { ip: at, link: link_of(on_link(SocketAddr::new(at, port), link)), port, socket };
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

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::sync::mpsc::unbounded_channel;

    use super::*;
    use crate::addr::{PortRange, PortRanges};
    use crate::pinhole::ports::Socket;
    use crate::policy::Networks;
    use crate::session::PinholeId;

    /// A socket that listens would take what the kernel is to lead elsewhere, and the reverse.
    #[tokio::test]
    async fn a_port_is_held_in_one_way_at_a_time() {
        let (ports, (events, _told)) = (Ports::default(), unbounded_channel());
        let [high, low] = [std::process::id() >> 8, std::process::id()].map(|part| part.to_be_bytes()[3]);
        let at = Ipv4Addr::new(127, 63, high, low).into();
        let one = PortRanges::new(vec![PortRange::new(21001, 21001).unwrap()]).unwrap();
        let data_peers = Networks::default();
        let wanted = |peer: u8, socket| Wanted {
            at,
            link: 0,
            socket,
            ports: &one,
            rather: None,
            from: Ipv4Addr::new(127, 0, 1, peer).into(),
            proxies: None,
            data_peers: &data_peers,
            is_busy: None,
        };
        let listening = ports.reserve(&wanted(1, Socket::Plain), PinholeId(1), &events, &mut Vec::new()).unwrap();
        let led = |peer| ports.reserve_for_kernel(&wanted(peer, Socket::None), PinholeId(2), &events, &mut Vec::new());
        assert!(matches!(led(2), Err(OpenError::RangeFull { .. })));
        drop(listening);
        let led = led(2).unwrap();
        let other = ports.reserve(&wanted(3, Socket::Plain), PinholeId(3), &events, &mut Vec::new());
        assert!(matches!(other, Err(OpenError::RangeFull { .. })));
        drop(led);
    }
}
