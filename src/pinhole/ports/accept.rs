//! Accepting at a port: a connection is handed to the pinhole that waits for it, or reset.

use std::collections::hash_map::Entry;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::io::Errno;
use tokio::net::TcpStream;

use super::brought::{Bringer, Place};
use super::{Arrived, BACKLOG, Key, Listening, Port, Table, Taker, Waiting, lock};
use crate::addr::link_of;
use crate::net::proxy_header::HeaderFault;
use crate::net::{accept, prepare_data};
use crate::pinhole::DataEvent;

/// How often one pinhole tells of strangers: a flood of them must not fill the memory.
const STRANGERS_TOLD: u8 = 8;
/// How long accepting rests when there is no file descriptor for the next connection.
const REST: Duration = Duration::from_millis(50);

impl Port {
    /// Hands a connection to the pinhole that waits for its peer, once, or resets it.
    pub(super) fn admit(&mut self, arrived: Arrived, port: u16, by: Option<Bringer>) {
        let may_bring = |waiting: &Waiting, by: Bringer| {
            waiting.serial <= by.serial && waiting.proxies.as_ref().is_some_and(|proxies| proxies.contains(by.ip))
        };
        // A PROXY header names no link.
        let is_there = |waiting: &Waiting, from: SocketAddr| [0, waiting.link].contains(&link_of(from));
        if let Entry::Occupied(waiting) = self.waiting.entry(self.whose(arrived.from.ip()))
            && matches!(waiting.get().taker, Taker::Relay(_))
            && by.is_none_or(|by| may_bring(waiting.get(), by))
            && is_there(waiting.get(), arrived.from)
        {
            if prepare_data(&arrived.stream).is_ok()
                && let Taker::Relay(taker) = waiting.remove().taker
            {
                // Where the pinhole is being closed, the stream comes back and is reset here.
                let _ = taker.send(arrived);
            }
            return;
        }
        self.turn_away(arrived.stream, arrived.from, port, None);
    }

    /// The peer that a connection from this address is of: no two that wait here may have it.
    pub(super) fn whose(&self, ip: IpAddr) -> IpAddr {
        let has_it = |(from, waiting): (&IpAddr, &Waiting)| waiting.data_peers.contains(ip).then_some(*from);
        if self.waiting.contains_key(&ip) { ip } else { self.waiting.iter().find_map(has_it).unwrap_or(ip) }
    }

    pub(super) fn turn_away(&mut self, stream: TcpStream, from: SocketAddr, port: u16, fault: Option<HeaderFault>) {
        // It is reset: the listener's options have it so.
        drop(stream);
        for (awaited, waiting) in self.waiting.iter_mut().filter(|(_, waiting)| waiting.strangers < STRANGERS_TOLD) {
            waiting.strangers += 1;
            let told = DataEvent::Stranger { id: waiting.id, from, awaited: *awaited, port, fault };
            let _ = waiting.events.send(told);
        }
    }

    /// Admits what was in the queue before a pinhole is added, so that none of it can use that one up.
    pub(super) fn drain(&mut self, place: &Place) -> io::Result<()> {
        for _ in 0..=BACKLOG {
            let Some(Listening { listener, .. }) = &self.listening else { break };
            match accept(listener) {
                Ok((stream, from)) => self.come(TcpStream::from_std(stream)?, from, place),
                Err(error) => match Errno::from_io_error(&error) {
                    Some(Errno::AGAIN) => break,
                    Some(Errno::MFILE | Errno::NFILE) => return Err(error),
                    _ => {}
                },
            }
        }
        Ok(())
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.acceptor.abort();
    }
}

/// Accepts at one port until nothing waits there any more.
///
/// The listener stays in the table, so that it closes at once when its last pinhole does.
pub(super) async fn accept_all(table: Weak<Mutex<Table>>, key: Key, serial: u64) {
    while let Some(accepted) = poll_fn(|context| accept_one(&table, key, serial, context)).await {
        if accepted.is_err_and(|error| error.kind() != io::ErrorKind::ConnectionAborted) {
            tokio::time::sleep(REST).await;
        }
    }
}

fn accept_one(
    shared: &Weak<Mutex<Table>>,
    key: Key,
    serial: u64,
    context: &mut Context<'_>,
) -> Poll<Option<io::Result<()>>> {
    let Some(table) = shared.upgrade() else { return Poll::Ready(None) };
    let mut table = lock(&table);
    let place = Place { table: Weak::clone(shared), key, serial: table.last_serial };
    let Some(port) = table.ports.get_mut(&key).filter(|port| port.serial == serial) else { return Poll::Ready(None) };
    let Some(Listening { listener, .. }) = &port.listening else { return Poll::Ready(None) };
    match ready!(listener.poll_accept(context)) {
        Ok((stream, from)) => port.come(stream, from, &place),
        Err(error) => return Poll::Ready(Some(Err(error))),
    }
    if port.waiting.is_empty() {
        table.ports.remove(&key);
        return Poll::Ready(None);
    }
    Poll::Ready(Some(Ok(())))
}
