//! What a pinhole of the relay's is told while it stands.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;

use crate::addr::Side;

/// What it was told so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Orders {
    /// Where both legs are dialled: whether the client's is to be, and the server's.
    dial: [bool; 2],
    /// Where both sides are waited for: the server will not come.
    pub(super) finish: bool,
    /// Tell when the client was sent all.
    pub(super) deliver: bool,
    /// End it when nothing has moved for long.
    pub(super) linger: bool,
}

impl Orders {
    pub(super) const fn dials(&self, side: Side) -> bool {
        match side {
            Side::Client => self.dial[0],
            Side::Server => self.dial[1],
        }
    }

    pub(super) const fn dial(&mut self, side: Side) {
        match side {
            Side::Client => self.dial[0] = true,
            Side::Server => self.dial[1] = true,
        }
    }
}

/// Gives orders.
#[derive(Debug)]
pub(super) struct Orderer {
    orders: watch::Sender<Orders>,
    delivered: Arc<AtomicBool>,
}

impl Orderer {
    pub(super) fn new() -> (Self, Ordered) {
        let (sender, receiver) = watch::channel(Orders::default());
        let delivered = Arc::new(AtomicBool::new(false));
        (Self { orders: sender, delivered: Arc::clone(&delivered) }, Ordered { orders: receiver, delivered })
    }

    pub(super) fn order(&self, change: impl FnOnce(&mut Orders)) {
        self.orders.send_modify(change);
    }

    /// Whether the client was sent all that the server had.
    pub(super) fn is_delivered(&self) -> bool {
        self.delivered.load(Ordering::Acquire)
    }
}

/// Hears them.
#[derive(Clone, Debug)]
pub(super) struct Ordered {
    orders: watch::Receiver<Orders>,
    /// To be set once the server has ended its direction, and the client was sent all of it.
    pub(super) delivered: Arc<AtomicBool>,
}

impl Ordered {
    /// Waits for an order; false where the pinhole is closed before.
    pub(super) async fn wait(mut self, is_given: impl Fn(&Orders) -> bool) -> bool {
        self.orders.wait_for(is_given).await.is_ok()
    }
}
