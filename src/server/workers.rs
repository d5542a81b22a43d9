//! The threads that sessions run on, one for each processor.
//!
//! A session stays on its thread, and so does all that it waits for: nothing of it is woken across processors, which
//! costs more than all that is done with a line.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::report;

/// How many tasks have their turn before it is looked what has come in: data that moves must not keep a line waiting.
const TURNS: u32 = 16;

/// A thread may have this part of the least number of sessions more than that: a fourth.
const UNEVEN: usize = 4;

/// How often a thread wakes up with nothing to do. The runtime writes to its own wake-up descriptor for each timer that is
/// set ahead of all others; behind this one, no deadline of a session is.
const TICK: Duration = Duration::from_secs(1);

/// All threads, at least one. Clones share them; they end with the last one.
#[derive(Clone, Debug)]
pub(super) struct Workers(Arc<[Worker]>);

#[derive(Debug)]
pub(super) struct Worker {
    runtime: Handle,
    sessions: Arc<AtomicUsize>,
    /// The thread ends when this is dropped.
    _stop: oneshot::Sender<()>,
}

/// How many threads there are to be.
pub(super) fn count() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

impl Workers {
    pub(super) fn start() -> io::Result<Self> {
        let workers: io::Result<Vec<Worker>> = (0..count()).map(Worker::start).collect();
        Ok(Self(workers?.into()))
    }

    /// How many threads there are.
    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    /// Runs a task on each thread, which is told its number and given what is its own.
    pub(super) fn spawn_on_each<T, F>(&self, own: Vec<T>, task: impl Fn(usize, T) -> F) -> Vec<JoinHandle<()>>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let each = self.0.iter().zip(own).enumerate();
        each.map(|(number, (worker, own))| worker.runtime.spawn(task(number, own))).collect()
    }

    /// Waits until each thread has run a task that does nothing: one that hangs keeps this waiting.
    pub(super) async fn all_answer(&self) {
        let answers: Vec<JoinHandle<()>> = self.0.iter().map(|worker| worker.runtime.spawn(async {})).collect();
        for answer in answers {
            // Threads end with the gate, and nobody waits then.
            let _answered = answer.await;
        }
    }

    /// Does this with a client that thread `number`, which calls this, has taken: there, unless another thread has
    /// clearly less to do. The client counts as what the thread has to do for as long as there is its [`Load`].
    pub(super) fn spawn_with<F>(
        &self,
        number: usize,
        client: TcpStream,
        task: impl FnOnce(TcpStream, Load) -> F + Send + 'static,
    ) where
        F: Future<Output = ()> + Send,
    {
        let own = self.0.get(number).filter(|own| {
            let least = self.0.iter().map(Worker::load).min().unwrap_or_default();
            own.load() <= least + least / UNEVEN
        });
        if let Some(own) = own {
            let load = own.one_more();
            own.runtime.spawn(async { task(client, load).await });
        } else if let Some(other) = self.0.iter().min_by_key(|worker| worker.load()) {
            let load = other.one_more();
            other.runtime.spawn(async {
                // What it hears from now on is told to this thread.
                match client.into_std().and_then(TcpStream::from_std) {
                    Ok(client) => task(client, load).await,
                    Err(error) => report::system("a client cannot be served by another thread", &error),
                }
            });
        }
    }
}

impl Worker {
    fn start(number: usize) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().event_interval(TURNS).build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        thread::Builder::new().name(format!("worker {number}")).spawn(move || {
            runtime.spawn(async {
                loop {
                    tokio::time::sleep(TICK).await;
                }
            });
            // It ends in either case when the other side is gone.
            let _gone = runtime.block_on(stopped);
        })?;
        Ok(Self { runtime: handle, sessions: Arc::default(), _stop: stop })
    }

    fn load(&self) -> usize {
        self.sessions.load(Ordering::Relaxed)
    }

    fn one_more(&self) -> Load {
        self.sessions.fetch_add(1, Ordering::Relaxed);
        Load(Arc::clone(&self.sessions))
    }
}

/// One client that a thread has to do with, until this is dropped.
pub(super) struct Load(Arc<AtomicUsize>);

impl Drop for Load {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
