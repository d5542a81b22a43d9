//! Changes of the sets, taken together where they come together.
//!
//! A change is made by whoever asks for it, at once: it takes the kernel some microseconds. While one is being made the
//! others leave theirs, and go on: who makes it takes them along in its next transaction. So nobody waits when another
//! program keeps the kernel's tables busy, but one.

use std::io;
use std::sync::{Mutex, PoisonError, TryLockError};

use tokio::sync::mpsc::UnboundedSender;

use super::element::{Change, Passage};
use super::nftables::Nftables;
use super::set::Set;
use crate::pinhole::DataEvent;
use crate::report;
use crate::session::PinholeId;

/// Where to tell that a pinhole stands, or that it does not.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) events: UnboundedSender<DataEvent>,
    pub(super) id: PinholeId,
    pub(super) client_port: Option<u16>,
    pub(super) server_port: Option<u16>,
}

impl Answer {
    fn tell(self, result: io::Result<()>) {
        let Self { events, id, client_port, server_port } = self;
        // Where nobody listens any more, the pinhole's guard is gone and has closed it.
        let _ = events.send(match result {
            Ok(()) => DataEvent::Opened { id, client_port, server_port },
            Err(error) => DataEvent::NotOpened { id, error: error.kind() },
        });
    }
}

/// Changes that wait, and what makes them.
#[derive(Debug)]
pub(super) struct Changes {
    queue: Mutex<Vec<(Change, Option<Answer>)>>,
    nftables: Mutex<Nftables>,
}

impl Changes {
    pub(super) const fn new(nftables: Nftables) -> Self {
        Self { queue: Mutex::new(Vec::new()), nftables: Mutex::new(nftables) }
    }

    /// Has a change made, in the order in which they are asked for.
    pub(super) fn make(&self, change: Change, answer: Option<Answer>) {
        self.leave(change, answer);
        self.work();
    }

    /// Leaves a change for the next [`Changes::work`].
    pub(super) fn leave(&self, change: Change, answer: Option<Answer>) {
        self.lock_queue().push((change, answer));
    }

    /// Makes all that wait, unless somebody is at it.
    pub(super) fn work(&self) {
        // What comes while this thread is at it may find it busy, just before it leaves.
        while !self.lock_queue().is_empty() {
            let mut nftables = match self.nftables.try_lock() {
                Ok(nftables) => nftables,
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => return,
            };
            let (changes, answers): (Vec<_>, Vec<_>) = std::mem::take(&mut *self.lock_queue()).into_iter().unzip();
            let results = nftables.apply(&changes);
            drop(nftables);
            for ((answer, change), result) in answers.into_iter().zip(&changes).zip(results) {
                match (answer, result) {
                    // Somebody has used it, or its time was over.
                    (None, Err(error))
                        if matches!(change, Change::Prolong(..)) && error.kind() == io::ErrorKind::NotFound => {}
                    (Some(answer), result) => answer.tell(result),
                    (None, Ok(())) => {}
                    // Another pinhole is at the same place already.
                    (None, Err(error)) if error.kind() == io::ErrorKind::AlreadyExists => {}
                    (None, Err(error)) => {
                        report::system("nftables did not take a pinhole away; it goes with its timeout", &error);
                    }
                }
            }
        }
    }

    /// Whether nobody has come to a pinhole, as the kernel knows it.
    pub(super) fn is_unused(&self, passage: &Passage) -> bool {
        let unused = self.nftables.lock().unwrap_or_else(PoisonError::into_inner).holds(Set::Unused, passage);
        // Who came meanwhile found it busy.
        self.work();
        // Where the kernel does not say, it is taken to be so: then no connection is taken for the wrong one.
        unused.unwrap_or(true)
    }

    fn lock_queue(&self) -> std::sync::MutexGuard<'_, Vec<(Change, Option<Answer>)>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
