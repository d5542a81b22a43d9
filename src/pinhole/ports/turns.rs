//! Waiting for a port of a range that is full: most pinholes live for a millisecond.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;

/// How many may wait at a time, for whatever ports. One too many is refused at once.
const MOST: usize = 256;
/// How often a port is looked for although none was heard to be free: it may be another peer's that stood in the way.
const LOOK: Duration = Duration::from_millis(50);

/// Those who wait for a port, by the peer for which it is to wait: each port serves one connection of a peer at a time.
#[derive(Debug, Default)]
pub(super) struct Turns {
    waiters: Mutex<HashMap<IpAddr, (Arc<Notify>, usize)>>,
    /// How many there are.
    count: AtomicUsize,
}

impl Turns {
    /// Waits for a port of this peer's, in the order in which they came; `None` where too many wait already.
    pub(super) fn wait(self: &Arc<Self>, from: IpAddr) -> Option<Turn> {
        let mut waiters = self.lock();
        if self.count.load(Ordering::Relaxed) >= MOST {
            return None;
        }
        let (notify, count) = waiters.entry(from).or_default();
        *count += 1;
        self.count.fetch_add(1, Ordering::SeqCst);
        let (notify, turns) = (Arc::clone(notify), Arc::clone(self));
        let notified = Box::pin(Arc::clone(&notify).notified_owned());
        Some(Turn { turns, from, notify, notified })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, (Arc<Notify>, usize)>> {
        self.waiters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A port in use for a peer; dropped, the next one who waits for a port of that peer's may look again.
#[derive(Debug)]
pub(super) struct InUse {
    pub(super) turns: Arc<Turns>,
    pub(super) from: IpAddr,
}

impl Drop for InUse {
    fn drop(&mut self) {
        if self.turns.count.load(Ordering::SeqCst) > 0
            && let Some((notify, _)) = self.turns.lock().get(&self.from)
        {
            notify.notify_one();
        }
    }
}

/// A place among those who wait.
#[derive(Debug)]
pub struct Turn {
    turns: Arc<Turns>,
    from: IpAddr,
    notify: Arc<Notify>,
    notified: Pin<Box<OwnedNotified>>,
}

impl Turn {
    /// Returns when there may be a port, or `until` has come. May be dropped and asked for again.
    pub async fn comes(&mut self, until: Instant) {
        let left = until.saturating_duration_since(Instant::now());
        if tokio::time::timeout(left.min(LOOK), self.notified.as_mut()).await.is_ok() {
            self.notified = Box::pin(Arc::clone(&self.notify).notified_owned());
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut waiters = self.turns.lock();
        if let Entry::Occupied(mut entry) = waiters.entry(self.from) {
            entry.get_mut().1 -= 1;
            if entry.get().1 == 0 {
                entry.remove();
            }
        }
        self.turns.count.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[tokio::test]
    async fn the_first_to_wait_is_told_of_a_free_port() {
        let turns = Arc::new(Turns::default());
        let until = Instant::now() + Duration::from_secs(10);
        let (mut first, mut second) = (turns.wait(PEER).unwrap(), turns.wait(PEER).unwrap());
        let told = |turn: &mut Turn| {
            let waker = std::task::Waker::noop();
            turn.notified.as_mut().poll(&mut std::task::Context::from_waker(waker)).is_ready()
        };
        assert!(!told(&mut first) && !told(&mut second));
        drop(InUse { turns: Arc::clone(&turns), from: PEER });
        assert!(!told(&mut second));
        // One who gives up hands it on.
        drop(first);
        second.comes(until).await;
        drop(InUse { turns: Arc::clone(&turns), from: PEER });
        assert!(told(&mut second));
        drop(second);
        assert!(turns.lock().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn each_free_port_is_told_of_once() {
        let turns = Arc::new(Turns::default());
        let until = Instant::now() + Duration::from_secs(10);
        let mut turn = turns.wait(PEER).unwrap();
        let begin = tokio::time::Instant::now();
        drop(InUse { turns: Arc::clone(&turns), from: PEER });
        turn.comes(until).await;
        assert_eq!(begin.elapsed(), Duration::ZERO, "it was not told");
        turn.comes(until).await;
        assert!(begin.elapsed() >= LOOK, "it was told twice");
    }

    #[tokio::test]
    async fn no_more_than_some_wait() {
        let turns = Arc::new(Turns::default());
        let waiting: Vec<Turn> = std::iter::from_fn(|| turns.wait(PEER)).take(MOST + 1).collect();
        assert_eq!(waiting.len(), MOST);
        drop(waiting);
        assert!(turns.wait(PEER).is_some());
    }
}
