//! Sockets that clients come to, and the sessions that they become.

use std::io;
use std::net::{SocketAddr, TcpListener as Socket};
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use super::StartError;
use super::arrivals::Accepted;
use super::workers::Workers;
use crate::driver::{self, Context};
use crate::net::{self, Shortage};
use crate::policy::{Capacity, Interception, Listener, Stand};
use crate::report;

/// How long to wait before the next try when no client can be accepted.
const BACK_OFF: Duration = Duration::from_millis(100);

/// How long a reload waits for listeners that one before it removed.
const CLOSING: Duration = Duration::from_secs(1);

/// The listeners that are open, in the order of the file.
#[derive(Debug, Default)]
pub(super) struct Acceptors {
    open: Vec<Acceptor>,
    /// The tasks of listeners that were removed: each has its socket until it has taken those who are waiting.
    closing: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Acceptor {
    socket: Arc<Socket>,
    /// What the file says of it now: the tasks that accept look at it for each client.
    listener: watch::Sender<Arc<Listener>>,
    /// One on each thread.
    tasks: Vec<JoinHandle<()>>,
}

/// A listener with its socket, not yet accepting.
pub(super) struct Ready {
    listener: Arc<Listener>,
    socket: Arc<Socket>,
    /// The same socket once for each thread; none where they have theirs.
    for_threads: Vec<Socket>,
}

impl Acceptors {
    /// Gets a socket for each listener: one that is open already, or a new one. Changes nothing yet.
    pub(super) fn open(&self, listeners: &[Listener], workers: &Workers) -> Result<Vec<Ready>, StartError> {
        let mut going: Vec<&Acceptor> = self.open.iter().collect();
        let kept: Vec<Option<&Acceptor>> = listeners
            .iter()
            .map(|listener| {
                let same = |acceptor: &&Acceptor| same_socket(&acceptor.listener.borrow(), listener);
                going.iter().position(same).map(|place| going.remove(place))
            })
            .collect();
        let going: Vec<&Socket> = going.iter().map(|acceptor| &*acceptor.socket).collect();
        let ready = |(listener, kept): (&Listener, Option<&Acceptor>)| {
            let (socket, for_threads) = match kept {
                Some(acceptor) => (Arc::clone(&acceptor.socket), Vec::new()),
                None => {
                    let (socket, for_threads) = bind(listener, &going, workers.count())?;
                    (Arc::new(socket), for_threads)
                }
            };
            Ok(Ready { listener: Arc::new(listener.clone()), socket, for_threads })
        };
        listeners.iter().zip(kept).map(ready).collect()
    }

    /// Accepts on these sockets, and on no others, from now on. One that is open already goes on without a break.
    pub(super) fn replace(&mut self, ready: Vec<Ready>, context: &Context, sessions: &Sessions) {
        let mut old = std::mem::take(&mut self.open);
        let kept = |old: &mut Vec<Acceptor>, socket: &Arc<Socket>| {
            let place = old.iter().position(|acceptor| Arc::ptr_eq(&acceptor.socket, socket))?;
            Some(old.swap_remove(place))
        };
        for Ready { listener, socket, for_threads } in ready {
            let acceptor = match kept(&mut old, &socket) {
                Some(acceptor) => {
                    acceptor.listener.send_replace(listener);
                    acceptor
                }
                None => {
                    let (listener, told) = watch::channel(listener);
                    let accepting = |worker, own| accept(own, told.clone(), context.clone(), sessions.clone(), worker);
                    let tasks = sessions.workers.spawn_on_each(for_threads, accepting);
                    Acceptor { socket, listener, tasks }
                }
            };
            self.open.push(acceptor);
        }
        // The rest ends when they have taken those who are waiting: its `listener` is gone.
        self.closing.extend(old.into_iter().flat_map(|acceptor| acceptor.tasks));
        self.closing.retain(|task| !task.is_finished());
    }

    /// Waits until removed listeners have closed their sockets, so that a file that has them again finds their ports free.
    /// Not for long: a thread that does not come to it must not keep the gate from a reload.
    pub(super) async fn closed(&mut self) {
        let closed = async {
            for task in self.closing.drain(..) {
                // It ended, one way or the other.
                let _ended = task.await;
            }
        };
        let _in_time = tokio::time::timeout(CLOSING, closed).await;
    }

    /// Accepts nobody any more; a socket that is not passed on is closed.
    pub(super) fn close(&mut self) {
        self.open.drain(..).flat_map(|acceptor| acceptor.tasks).for_each(|task| task.abort());
    }

    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        self.open.iter().filter_map(|acceptor| acceptor.socket.local_addr().ok()).collect()
    }
}

fn same_socket(old: &Listener, new: &Listener) -> bool {
    old.bind == new.bind && is_tproxy(old) == is_tproxy(new)
}

const fn is_tproxy(listener: &Listener) -> bool {
    matches!(listener.stand, Stand::Transparent { interception: Interception::Tproxy, .. })
}

/// A socket that listens, and the same once for each thread. `going` are the sockets of listeners that will be closed: one
/// may be in the way, as `0.0.0.0:21` is of `192.0.2.1:21`.
fn bind(listener: &Listener, going: &[&Socket], threads: usize) -> Result<(Socket, Vec<Socket>), StartError> {
    let (at, transparent) = (listener.bind, is_tproxy(listener));
    let prepare = |socket: &_| net::prepare_control(socket);
    let listening = match net::listen_prepared(at, transparent, net::CONTROL_BACKLOG, prepare) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && !going.is_empty() => {
            net::listen_in_place_of(going, at, transparent, net::CONTROL_BACKLOG, prepare)
        }
        listening => listening,
    };
    let ready = listening.and_then(|socket| {
        let socket = socket.into_std()?;
        let for_threads: io::Result<Vec<Socket>> = (0..threads).map(|_| socket.try_clone()).collect();
        Ok((socket, for_threads?))
    });
    ready.map_err(|error| StartError::Listen {
        name: listener.name.clone(),
        bind: at,
        advice: advice(listener, &error),
        error,
    })
}

#[allow(clippy::wildcard_enum_match_arm, reason = "the kinds of errors are not ours, and many")]
fn advice(listener: &Listener, error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "another program listens there: `ss -ltnp` shows which",
        io::ErrorKind::AddrNotAvailable => "this machine does not have that address: `ip address` shows those it has",
        io::ErrorKind::PermissionDenied if is_tproxy(listener) => {
            "`transparent: tproxy` needs CAP_NET_ADMIN, and a port under 1024 CAP_NET_BIND_SERVICE"
        }
        io::ErrorKind::PermissionDenied => "a port under 1024 needs CAP_NET_BIND_SERVICE",
        _ => "see the error of the system",
    }
}

async fn accept(
    socket: Socket,
    mut listener: watch::Receiver<Arc<Listener>>,
    context: Context,
    sessions: Sessions,
    worker: usize,
) {
    let socket = match TcpListener::from_std(socket) {
        Ok(socket) => socket,
        Err(error) => return report::not_accepted(&listener.borrow().name, &error),
    };
    let serve = |listener: Arc<Listener>, client, address| {
        if matches!(listener.stand, Stand::Transparent { .. }) {
            sessions.intercepted.fetch_add(1, Ordering::Relaxed);
        }
        let Some(standing) = driver::receive(&context, &listener, &client, address) else { return };
        if !sessions.has_room_for(&client) {
            return driver::turn_away(&listener, &client, address, Shortage::Descriptors);
        }
        let context = context.clone();
        sessions.spawn(worker, client, address, |client| driver::lead(context, listener, client, standing));
    };
    loop {
        let accepted = tokio::select! {
            accepted = socket.accept() => accepted,
            () = removed(&mut listener) => break,
        };
        match accepted {
            Ok((client, address)) => {
                serve(Arc::clone(&listener.borrow()), client, address);
            }
            // The client was gone before it was taken.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                report::not_accepted(&listener.borrow().name, &error);
                tokio::time::sleep(BACK_OFF).await;
            }
        }
    }
    // Who is connected already came in time; those who go on coming do not keep the port open.
    for _ in 0..net::CONTROL_BACKLOG {
        tokio::select! {
            biased;
            Ok((client, address)) = socket.accept() => serve(Arc::clone(&listener.borrow()), client, address),
            () = std::future::ready(()) => break,
        }
    }
}

/// Waits until the file has this listener no more.
async fn removed(listener: &mut watch::Receiver<Arc<Listener>>) {
    while listener.changed().await.is_ok() {}
}

/// The sessions that run.
#[derive(Clone, Debug)]
pub(super) struct Sessions {
    shared: Arc<Running>,
    workers: Workers,
    capacity: Capacity,
    /// How many have come to transparent listeners.
    intercepted: Accepted,
}

#[derive(Debug, Default)]
struct Running {
    count: AtomicUsize,
    ended: Notify,
}

impl Sessions {
    pub(super) fn new(workers: Workers, capacity: Capacity, intercepted: Accepted) -> Self {
        Self { shared: Arc::default(), workers, capacity, intercepted }
    }

    /// Whether there are descriptors to serve this client, who has just been accepted, without those that running sessions
    /// need for data. The kernel gives the lowest number that is free, so all below the client's are in use.
    fn has_room_for(&self, client: &TcpStream) -> bool {
        let number = u64::try_from(client.as_raw_fd()).unwrap_or_default();
        let sessions = u64::try_from(self.count()).unwrap_or(u64::MAX).saturating_add(1);
        self.capacity.has_room(number, sessions)
    }

    pub(super) const fn workers(&self) -> &Workers {
        &self.workers
    }

    pub(super) fn count(&self) -> usize {
        self.shared.count.load(Ordering::SeqCst)
    }

    /// Finds a client its session, and runs it. A panic in either ends it alone.
    fn spawn<F, S>(
        &self,
        worker: usize,
        client: TcpStream,
        address: SocketAddr,
        lead: impl FnOnce(TcpStream) -> F + Send + 'static,
    ) where
        F: Future<Output = Option<S>> + Send,
        S: Future<Output = ()> + Send + 'static,
    {
        let counted = Counted::new(Arc::clone(&self.shared), address);
        self.workers.spawn_with(worker, client, async |client, load| {
            let Some(session) = lead(client).await else { return counted.ended_well() };
            // A task of its own: this one is as large as finding a server was.
            tokio::spawn(async move {
                let _load = load;
                session.await;
                counted.ended_well();
            });
        });
    }

    pub(super) async fn all_ended(&self) {
        loop {
            let ended = self.shared.ended.notified();
            if self.count() == 0 {
                return;
            }
            ended.await;
        }
    }
}

/// Counts one session for as long as it lives, whatever ends it.
struct Counted {
    shared: Arc<Running>,
    client: SocketAddr,
    well: bool,
}

impl Counted {
    fn new(shared: Arc<Running>, client: SocketAddr) -> Self {
        shared.count.fetch_add(1, Ordering::SeqCst);
        Self { shared, client, well: false }
    }

    fn ended_well(mut self) {
        self.well = true;
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        if !self.well && std::thread::panicking() {
            report::session_panicked(self.client);
        }
        self.shared.count.fetch_sub(1, Ordering::SeqCst);
        self.shared.ended.notify_waiters();
    }
}
