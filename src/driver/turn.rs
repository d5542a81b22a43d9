//! A pinhole that waits for a port, where its range is full.

use std::time::{Duration, Instant};

use super::Driver;
use super::data::refusal;
use crate::pinhole::{OpenError, Turn};
use crate::session::{Input, Pinhole, PinholeId};

/// How long: clients wait longer for their 227, and a range that is full for so long is too narrow.
const WAIT: Duration = Duration::from_millis(500);

/// A pinhole that waits for its port.
#[derive(Debug)]
pub(super) struct Queued {
    pinhole: Pinhole,
    until: Instant,
    turn: Turn,
}

impl Driver {
    /// Opens a pinhole; `None` where the answer comes later.
    pub(super) fn open(&mut self, pinhole: Pinhole) -> Option<Input> {
        match self.try_open(&pinhole) {
            Ok(answer) => answer,
            Err(OpenError::RangeFull { for_peer, .. })
                if let Some(turn) = self.context.datapaths.wait_for_port(for_peer) =>
            {
                self.queued = Some(Box::new(Queued { pinhole, until: Instant::now() + WAIT, turn }));
                None
            }
            Err(error) => Some(Input::PinholeFailed { id: pinhole.id, refusal: refusal(&error, &pinhole) }),
        }
    }

    /// There may be a port now for the pinhole that waits, or it has waited for too long.
    pub(super) fn open_queued(&mut self) {
        let Some(queued) = self.queued.take() else { return };
        let now = Instant::now();
        let answer = match self.try_open(&queued.pinhole) {
            Ok(answer) => answer,
            Err(OpenError::RangeFull { .. }) if now < queued.until => {
                self.queued = Some(queued);
                None
            }
            Err(error) => {
                Some(Input::PinholeFailed { id: queued.pinhole.id, refusal: refusal(&error, &queued.pinhole) })
            }
        };
        if let Some(answer) = answer {
            self.session.handle(now, answer);
        }
    }

    /// A pinhole is closed that may wait.
    pub(super) fn dequeue(&mut self, id: PinholeId) {
        self.queued.take_if(|queued| queued.pinhole.id == id);
    }
}

/// Returns when it is worth to look for a port again.
pub(super) async fn next_turn(queued: &mut Option<Box<Queued>>) {
    match queued {
        Some(queued) => queued.turn.comes(queued.until).await,
        None => std::future::pending().await,
    }
}
