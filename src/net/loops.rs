//! Connections that the gate makes to itself: each would become a session that makes the next.

use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use socket2::SockRef;
use tokio::net::TcpStream;

/// The gate's own control connections, as both ends see them. Clones share them.
///
/// Either end may be first to ask, since a connection can be accepted before `connect(2)` has returned. Each puts itself
/// on its list and then looks at the other's, so one of them always sees the loop.
#[derive(Clone, Debug, Default)]
pub struct Loops(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    known: Mutex<Known>,
    /// Makes a [`Connection`] of two addresses; nobody outside can find two that are the same.
    hasher: RandomState,
}

#[derive(Debug, Default)]
struct Known {
    dialled: HashSet<Connection>,
    accepted: HashSet<Connection>,
}

/// A hash of where a connection comes from and goes to: an eighth of what the addresses take.
type Connection = u64;

/// A connection that leads back to the gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the connection leads back to the gate itself")]
pub struct IsLoop;

impl Loops {
    /// Notes a connection that the gate has made to a server.
    ///
    /// # Errors
    /// The gate has accepted it itself.
    pub fn dialled(&self, from: SocketAddr, to: SocketAddr) -> Result<Dialled, IsLoop> {
        let connection = self.connection(canonical(from), canonical(to));
        let mut known = self.lock();
        if known.accepted.contains(&connection) {
            return Err(IsLoop);
        }
        known.dialled.insert(connection);
        drop(known);
        Ok(Dialled { loops: self.clone(), connection })
    }

    /// Notes a connection that was accepted, until the result is dropped: where it comes from, and where it arrived.
    ///
    /// # Errors
    /// The gate has made it itself.
    pub fn accepted(&self, stream: &TcpStream, from: SocketAddr, to: SocketAddr) -> Result<Accepted, IsLoop> {
        let (from, to) = (canonical(from), canonical(to));
        // A NAT of this machine may have led it here from another address.
        let connections = [Some(to), meant(stream, to)].map(|to| to.map(|to| self.connection(from, to)));
        let mut known = self.lock();
        if connections.iter().flatten().any(|connection| known.dialled.contains(connection)) {
            return Err(IsLoop);
        }
        known.accepted.extend(connections.iter().flatten());
        drop(known);
        Ok(Accepted { loops: self.clone(), connections })
    }

    fn connection(&self, from: SocketAddr, to: SocketAddr) -> Connection {
        self.0.hasher.hash_one((from, to))
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn canonical(at: SocketAddr) -> SocketAddr {
    SocketAddr::new(at.ip().to_canonical(), at.port())
}

/// Where a connection was meant to go, if that is not where it arrived.
fn meant(stream: &TcpStream, local: SocketAddr) -> Option<SocketAddr> {
    let socket = SockRef::from(stream);
    let meant = if local.is_ipv4() { socket.original_dst_v4() } else { socket.original_dst_v6() };
    let meant = canonical(meant.ok()?.as_socket()?);
    Some(meant).filter(|meant| *meant != local)
}

/// A connection to a server, known for as long as this lives.
#[derive(Debug)]
pub struct Dialled {
    loops: Loops,
    connection: Connection,
}

/// A connection from a client, known for as long as this lives.
#[derive(Debug)]
pub struct Accepted {
    loops: Loops,
    connections: [Option<Connection>; 2],
}

impl Drop for Dialled {
    fn drop(&mut self) {
        self.loops.lock().dialled.remove(&self.connection);
    }
}

impl Drop for Accepted {
    fn drop(&mut self) {
        let mut known = self.loops.lock();
        for connection in self.connections.iter().flatten() {
            known.accepted.remove(connection);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::net::{dial, listen};

    fn note_dialled(loops: &Loops, stream: &TcpStream) -> Result<Dialled, IsLoop> {
        loops.dialled(stream.local_addr().unwrap(), stream.peer_addr().unwrap())
    }

    fn note_accepted(loops: &Loops, stream: &TcpStream) -> Result<Accepted, IsLoop> {
        loops.accepted(stream, stream.peer_addr().unwrap(), stream.local_addr().unwrap())
    }

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = listen("127.0.0.1:0".parse().unwrap(), false, 8).unwrap();
        let dialled = dial(listener.local_addr().unwrap(), None, false, Duration::from_secs(1)).await.unwrap();
        (dialled, listener.accept().await.unwrap().0)
    }

    #[tokio::test]
    async fn whichever_end_comes_second_sees_the_loop() {
        let (loops, (dialled, accepted)) = (Loops::default(), pair().await);
        let first = note_dialled(&loops, &dialled).unwrap();
        assert_eq!(note_accepted(&loops, &accepted).err(), Some(IsLoop));
        drop(first);
        let first = note_accepted(&loops, &accepted).unwrap();
        assert_eq!(note_dialled(&loops, &dialled).err(), Some(IsLoop));
        drop(first);
        assert!(loops.lock().dialled.is_empty() && loops.lock().accepted.is_empty());
    }

    #[tokio::test]
    async fn other_connections_are_no_loops() {
        let (loops, one, other) = (Loops::default(), pair().await, pair().await);
        let _client = note_accepted(&loops, &one.1).unwrap();
        let _server = note_dialled(&loops, &other.0).unwrap();
    }
}
