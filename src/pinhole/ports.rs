//! Who may use which of the gate's ports.
//!
//! A listener exists only while a pinhole needs its port. Several peers share a port, told apart by their addresses; a
//! peer for which the port waits already gets the next one.

mod accept;
mod brought;
mod moving;
mod recent;
mod search;
mod turns;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::rand::{GetRandomFlags, getrandom};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

use self::accept::accept_all;
use self::brought::{Peer, Place, Readers};
pub(super) use self::moving::Moving;
use self::moving::MovingPorts;
use self::recent::RecentPorts;
use self::search::Search;
pub use self::turns::Turn;
use self::turns::{InUse, Turns};
use super::{DataEvent, OpenError};
use crate::addr::{PortRanges, on_link};
use crate::net::{listen_prepared, reset_on_close};
use crate::policy::{Networks, Proxies};
use crate::session::PinholeId;

const BACKLOG: u32 = 256;
/// Many more than there are threads.
const TABLES: usize = 64;

/// A leg that somebody is to connect to.
pub(super) struct Wanted<'a> {
    pub(super) at: IpAddr,
    /// The link that link-local ones among the addresses are on; else 0.
    pub(super) link: u32,
    pub(super) socket: Socket,
    pub(super) ports: &'a PortRanges,
    /// Taken before others, where it is in the range.
    pub(super) rather: Option<u16>,
    pub(super) from: IpAddr,
    /// Who may bring the peer's connection, with a PROXY header that names it.
    pub(super) proxies: Option<&'a Proxies>,
    /// Who may connect in place of the peer.
    pub(super) data_peers: &'a Networks,
    /// At which ports something is left of an earlier connection of the peer's: others are taken before them.
    pub(super) is_busy: Option<&'a dyn Fn(u16) -> bool>,
}

/// What holds one of the gate's ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Socket {
    /// A listener.
    Plain,
    /// A listener at an address that is not ours.
    Transparent,
    /// Nothing: the kernel leads packets for this address elsewhere, and nobody else here could have it.
    None,
}

impl Socket {
    const ALL: [Self; 3] = [Self::Plain, Self::Transparent, Self::None];
}

/// Who takes the connection.
enum Taker {
    Relay(oneshot::Sender<Arrived>),
    /// Leads it elsewhere before it gets here.
    Kernel,
}

/// Comes when the peer has connected; fails when the pinhole is closed before.
pub(super) type Arrival = oneshot::Receiver<Arrived>;

/// A connection that stands.
#[derive(Debug)]
pub(super) struct Arrived {
    pub(super) stream: TcpStream,
    /// Where the peer is.
    pub(super) from: SocketAddr,
    /// Where it connected to, where a PROXY header says so.
    pub(super) meant: Option<SocketAddr>,
}

impl Arrived {
    /// The gate's port.
    pub(super) fn port(&self) -> u16 {
        self.stream.local_addr().map_or(0, |at| at.port())
    }
}

/// Every port that is listened on.
///
/// There are several tables, so that threads seldom wait for each other: listening and closing happen with one locked.
/// What a port has to do with is all in one of them.
#[derive(Clone, Debug)]
pub(super) struct Ports(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    tables: [Arc<Mutex<Table>>; TABLES],
    recent: Mutex<RecentPorts>,
    moving: Arc<MovingPorts>,
    turns: Arc<Turns>,
}

impl Default for Ports {
    fn default() -> Self {
        let tables = std::array::from_fn(|_| Arc::default());
        Self(Arc::new(Shared { tables, recent: Mutex::default(), moving: Arc::default(), turns: Arc::default() }))
    }
}

#[derive(Debug, Default)]
struct Table {
    ports: HashMap<Key, Port>,
    /// Names listeners and waiting pinholes, so that what is late finds nothing rather than the wrong one.
    last_serial: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    ip: IpAddr,
    /// Where the address is link-local: there may be another one like it on each link.
    link: u32,
    port: u16,
    socket: Socket,
}

/// One port, with at least one pinhole waiting.
#[derive(Debug)]
struct Port {
    serial: u64,
    listening: Option<Listening>,
    readers: Readers,
    waiting: HashMap<IpAddr, Waiting>,
}

#[derive(Debug)]
struct Listening {
    listener: TcpListener,
    acceptor: AbortHandle,
}

struct Waiting {
    serial: u64,
    id: PinholeId,
    /// The link that the peer is on, where its address is link-local.
    link: u32,
    strangers: u8,
    proxies: Option<Proxies>,
    data_peers: Networks,
    events: UnboundedSender<DataEvent>,
    taker: Taker,
    /// While the port waits for this peer.
    _in_use: Option<InUse>,
}

impl std::fmt::Debug for Waiting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Waiting").field("serial", &self.serial).field("id", &self.id).finish_non_exhaustive()
    }
}

impl Ports {
    /// Takes a port of the range for one connection: at random among those that the peer was not given recently, else the
    /// one that it was given longest ago. Ports that another program has go to `skipped`.
    pub(super) fn reserve(
        &self,
        wanted: &Wanted<'_>,
        id: PinholeId,
        events: &UnboundedSender<DataEvent>,
        skipped: &mut Vec<u16>,
    ) -> Result<(Reservation, Arrival), OpenError> {
        let (arrived, arrival) = oneshot::channel();
        let taker = Taker::Relay(arrived);
        let proxies = wanted.proxies.cloned();
        let (data_peers, events) = (wanted.data_peers.clone(), events.clone());
        let link = wanted.link;
        let waiting = Waiting { serial: 0, id, link, strangers: 0, proxies, data_peers, events, taker, _in_use: None };
        Ok((self.take(wanted, waiting, skipped)?, arrival))
    }

    /// The same for a connection that the kernel leads elsewhere; a connection that arrives here anyway is reset.
    pub(super) fn reserve_for_kernel(
        &self,
        wanted: &Wanted<'_>,
        id: PinholeId,
        events: &UnboundedSender<DataEvent>,
        skipped: &mut Vec<u16>,
    ) -> Result<Reservation, OpenError> {
        let taker = Taker::Kernel;
        let (data_peers, events) = (Networks::default(), events.clone());
        let (link, proxies) = (wanted.link, None);
        let waiting = Waiting { serial: 0, id, link, strangers: 0, proxies, data_peers, events, taker, _in_use: None };
        self.take(wanted, waiting, skipped)
    }

    fn take(&self, wanted: &Wanted<'_>, waiting: Waiting, skipped: &mut Vec<u16>) -> Result<Reservation, OpenError> {
        let from = wanted.from.to_canonical();
        let count = wanted.ports.count();
        let start = random_below(count).map_err(|error| OpenError::at(SocketAddr::new(wanted.at, 0), error))?;
        let skipped_before = skipped.len();
        let peer = Peer { from, proxies: wanted.proxies, data_peers: wanted.data_peers };
        let is_busy = wanted.is_busy;
        let mut search = Search { ports: self, wanted, from, peer, is_busy, waiting: Some(waiting), skipped };
        if let Some(reservation) = search.anywhere(start)? {
            return Ok(reservation);
        }
        if search.is_busy.take().is_some()
            && let Some(reservation) = search.anywhere(start)?
        {
            return Ok(reservation);
        }
        let taken = search.skipped.len() - skipped_before;
        Err(if u32::try_from(taken) == Ok(count) {
            OpenError::InUse { ports: wanted.ports.clone(), at: wanted.at }
        } else {
            OpenError::RangeFull { ports: wanted.ports.clone(), for_peer: from }
        })
    }

    /// Waits for a port of this peer's to be free; `None` where too many wait already.
    pub(super) fn wait(&self, from: IpAddr) -> Option<Turn> {
        self.0.turns.wait(from.to_canonical())
    }

    /// Whether a relayed connection of this peer's has a port of the gate, or may yet.
    pub(super) fn is_moving(&self, at: SocketAddr, from: IpAddr) -> bool {
        self.0.moving.has(at, from)
    }

    /// A relayed connection of this peer's has the port, until the result is dropped.
    pub(super) fn moves(&self, at: SocketAddr, from: IpAddr) -> Moving {
        self.0.moving.add(at, from)
    }

    fn table_of(&self, port: u16) -> &Arc<Mutex<Table>> {
        &self.0.tables[usize::from(port) % TABLES]
    }

    fn recent(&self) -> MutexGuard<'_, RecentPorts> {
        self.0.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    /// Whether `key` can wait for this peer; it is listened on then, and nothing old is left in its queue. `shared` is
    /// this table.
    fn ready_for(&mut self, shared: &Arc<Mutex<Self>>, key: Key, peer: Peer<'_>) -> io::Result<bool> {
        let others = Socket::ALL.into_iter().filter(|socket| *socket != key.socket);
        if others.into_iter().any(|socket| self.ports.contains_key(&Key { socket, ..key })) {
            return Ok(false);
        }
        let place = Place { table: Arc::downgrade(shared), key, serial: self.last_serial };
        let serial = self.last_serial + 1;
        match self.ports.entry(key) {
            Entry::Occupied(port) if !port.get().has_room_for(peer) => Ok(false),
            Entry::Occupied(mut port) => {
                let drained = port.get_mut().drain(&place);
                if drained.is_err() && port.get().waiting.is_empty() {
                    port.remove();
                }
                drained.map(|()| true)
            }
            Entry::Vacant(place) => {
                let listening = match key.socket {
                    Socket::None => None,
                    Socket::Plain | Socket::Transparent => {
                        let transparent = key.socket == Socket::Transparent;
                        // Connections are reset until its transfer has ended in order.
                        let resets = |socket: &_| reset_on_close(socket, true);
                        let at = on_link(SocketAddr::new(key.ip, key.port), key.link);
                        let listener = listen_prepared(at, transparent, BACKLOG, resets)?;
                        let acceptor = tokio::spawn(accept_all(Arc::downgrade(shared), key, serial)).abort_handle();
                        Some(Listening { listener, acceptor })
                    }
                };
                place.insert(Port { serial, listening, readers: Readers::default(), waiting: HashMap::new() });
                self.last_serial = serial;
                Ok(true)
            }
        }
    }
}

fn lock(table: &Mutex<Table>) -> MutexGuard<'_, Table> {
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A number under `count`, which is at least one; nobody outside can guess it.
fn random_below(count: u32) -> io::Result<u32> {
    let mut bytes = [0; 8];
    getrandom(&mut bytes, GetRandomFlags::empty())?;
    Ok(u32::try_from(u64::from_ne_bytes(bytes) % u64::from(count)).unwrap_or(0))
}

/// A port that waits for one connection; dropped, it waits no longer, and is closed where nobody else uses it.
#[derive(Debug)]
pub(super) struct Reservation {
    table: Arc<Mutex<Table>>,
    key: Key,
    from: IpAddr,
    serial: u64,
}

impl Reservation {
    /// The gate's port.
    pub(super) const fn port(&self) -> u16 {
        self.key.port
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut table = lock(&self.table);
        let Entry::Occupied(mut port) = table.ports.entry(self.key) else { return };
        if port.get().waiting.get(&self.from).is_some_and(|waiting| waiting.serial == self.serial) {
            port.get_mut().waiting.remove(&self.from);
        }
        if port.get().waiting.is_empty() {
            port.remove();
        }
    }
}
