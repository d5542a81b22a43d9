//! Pipes to splice through: taken while bytes are in flight, given back when empty.
//!
//! The size is the point: through 64 KiB a splice is no faster than a copy. A user without privilege has some 64 pipes
//! of 1 MiB, then smaller ones, so they are shared, and where none can be had the bytes are copied.

use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::pipe::{PipeFlags, fcntl_getpipe_size, fcntl_setpipe_size, pipe_with};
use rustix::process::{Resource, getrlimit};

const WANTED_BYTES: usize = 1 << 20;
/// Under this a copy is better.
const LEAST_BYTES: usize = 64 << 10;
const MOST_PIPES: usize = 256;

/// Two ends and a size.
pub(super) struct Pipe {
    pub(super) read: OwnedFd,
    pub(super) write: OwnedFd,
    pub(super) size: usize,
}

/// Shared by all transfers.
#[derive(Clone)]
pub(super) struct PipePool(Arc<Mutex<Pool>>);

struct Pool {
    idle: Vec<Pipe>,
    /// How many more may be made.
    left: usize,
}

impl PipePool {
    /// As many pipes as leave most file descriptors to connections.
    pub(super) fn new() -> Self {
        let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        Self::with_limit(usize::try_from(files / 16).unwrap_or(MOST_PIPES).min(MOST_PIPES))
    }

    /// At most `limit` pipes.
    pub(super) fn with_limit(limit: usize) -> Self {
        Self(Arc::new(Mutex::new(Pool { idle: Vec::new(), left: limit })))
    }

    /// An empty pipe; `None` where no useful one can be had now.
    pub(super) fn take(&self) -> Option<Lease> {
        let mut pool = self.lock();
        let pipe = match pool.idle.pop() {
            Some(pipe) => pipe,
            None if pool.left == 0 => return None,
            None => {
                let made = Pipe::make();
                // A pipe that is refused now, for want of files or pages, may be had later.
                pool.left -= usize::from(made.is_some());
                made?
            }
        };
        Some(Lease { pipe: Some(pipe), filled: 0, pool: self.clone() })
    }

    fn lock(&self) -> MutexGuard<'_, Pool> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for PipePool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pool = self.lock();
        f.debug_struct("PipePool").field("idle", &pool.idle.len()).field("left", &pool.left).finish()
    }
}

impl Pipe {
    fn make() -> Option<Self> {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).ok()?;
        let size = fcntl_setpipe_size(&write, WANTED_BYTES).or_else(|_| fcntl_getpipe_size(&write)).ok()?;
        (size >= LEAST_BYTES).then_some(Self { read, write, size })
    }
}

/// A pipe on loan.
pub(super) struct Lease {
    /// There until it is dropped.
    pipe: Option<Pipe>,
    /// Bytes inside.
    pub(super) filled: usize,
    pool: PipePool,
}

impl Lease {
    /// The pipe.
    pub(super) fn pipe(&self) -> &Pipe {
        self.pipe.as_ref().expect("a lease has its pipe until it is dropped")
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut pool = self.pool.lock();
        match self.pipe.take() {
            Some(pipe) if self.filled == 0 => pool.idle.push(pipe),
            // The bytes of one transfer must never come out in another: the pipe goes with them.
            _ => pool.left += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pool_is_bounded_and_takes_back_empty_pipes_only() {
        let pool = PipePool::with_limit(2);
        let (one, two) = (pool.take(), pool.take());
        assert!(one.is_some() && two.is_some() && pool.take().is_none());
        drop(one);
        assert_eq!(pool.lock().idle.len(), 1);
        let mut two = two.unwrap();
        two.filled = 1;
        drop(two);
        let pool = pool.lock();
        assert_eq!((pool.idle.len(), pool.left), (1, 1));
    }
}
