//! Connections that a balancer brings: each is read to the end of its PROXY header before it is anybody's.
//!
//! Each is read by a task of its own, so that one that is slow keeps no other waiting; there is a bound to their time
//! and, for each port, to their number. They end with the port.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, Weak};

use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::{Arrived, Key, Port, Table, lock};
use crate::addr::canonical;
use crate::net::proxy_header::{BadHeader, HeaderFault, ProxyHeader, take};
use crate::policy::{Networks, Proxies};

/// How many headers are waited for at one port.
const MOST: usize = 64;

/// Those whose header is awaited at one port.
#[derive(Debug, Default)]
pub(super) struct Readers(JoinSet<()>);

/// Where and when a connection came.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) table: Weak<Mutex<Table>>,
    pub(super) key: Key,
    /// The last name that the table had given away: a pinhole with a later one was not there yet.
    pub(super) serial: u64,
}

/// Who brought a connection, and which pinholes were there when it came.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bringer {
    pub(super) ip: IpAddr,
    pub(super) serial: u64,
}

/// Who is to connect, and who may bring its connection.
#[derive(Clone, Copy)]
pub(super) struct Peer<'a> {
    pub(super) from: IpAddr,
    pub(super) proxies: Option<&'a Proxies>,
    /// Who may connect in its place.
    pub(super) data_peers: &'a Networks,
}

impl Peer<'_> {
    /// Whether connections from `ip` are to begin with a header, as far as this peer is concerned.
    fn is_brought_by(self, ip: IpAddr) -> bool {
        self.proxies.is_some_and(|proxies| proxies.contains(ip))
    }

    /// Whether connections of both may look alike: one peer's own address is where the other one's balancer is, or both may
    /// come from one address.
    fn is_like(self, other: Self) -> bool {
        let hides = |one: Self, behind: Self| behind.is_brought_by(one.from) && !one.is_brought_by(one.from);
        let stands_for = |one: Self, for_: Self| one.data_peers.contains(for_.from);
        self.from == other.from
            || hides(self, other)
            || hides(other, self)
            || stands_for(self, other)
            || stands_for(other, self)
            || self.data_peers.overlap(other.data_peers)
    }
}

impl Readers {
    /// Makes room, or says that there is none.
    fn are_too_many(&mut self) -> bool {
        while self.0.try_join_next().is_some() {}
        self.0.len() >= MOST
    }
}

impl Port {
    fn peers(&self) -> impl Iterator<Item = Peer<'_>> {
        self.waiting.iter().map(|(from, waiting)| Peer {
            from: *from,
            proxies: waiting.proxies.as_ref(),
            data_peers: &waiting.data_peers,
        })
    }

    /// Whether it can wait for this peer too.
    pub(super) fn has_room_for(&self, peer: Peer<'_>) -> bool {
        !self.peers().any(|other| other.is_like(peer))
    }

    /// Takes a connection that has come, a balancer's once its header has been read.
    pub(super) fn come(&mut self, stream: TcpStream, from: SocketAddr, place: &Place) {
        let from = canonical(from);
        if self.peers().any(|peer| peer.is_brought_by(from.ip())) {
            self.read(stream, from, place.clone());
        } else {
            self.admit(Arrived { stream, from, meant: None }, place.key.port, None);
        }
    }

    /// Reads the header of a connection that has come from a balancer, then admits it.
    fn read(&mut self, stream: TcpStream, from: SocketAddr, place: Place) {
        if self.readers.are_too_many() {
            return self.turn_away(stream, from, place.key.port, Some(HeaderFault::TooMany));
        }
        let serial = self.serial;
        self.readers.0.spawn(async move {
            let header = take(&stream).await;
            let Some(table) = place.table.upgrade() else { return };
            let mut table = lock(&table);
            let Some(port) = table.ports.get_mut(&place.key).filter(|port| port.serial == serial) else { return };
            port.header_read(stream, from, header, &place);
            if port.waiting.is_empty() {
                table.ports.remove(&place.key);
            }
        });
    }

    fn header_read(
        &mut self,
        stream: TcpStream,
        from: SocketAddr,
        header: Result<ProxyHeader, BadHeader>,
        place: &Place,
    ) {
        let arrived = match header {
            Ok(ProxyHeader::Own) => Arrived { stream, from, meant: None },
            Ok(ProxyHeader::Forwarded { source, destination }) => {
                Arrived { stream, from: source, meant: Some(destination) }
            }
            // What else it said may be a file's first bytes, which nobody is shown.
            Err(bad) => return self.turn_away(stream, from, place.key.port, Some(bad.fault)),
        };
        self.admit(arrived, place.key.port, Some(Bringer { ip: from.ip(), serial: place.serial }));
    }
}
