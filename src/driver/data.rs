//! Data connections of a session: what it asks of the datapath, and what the datapath tells.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{mpsc, watch};

use super::route::is_gate;
use super::{Driver, Orders, Phase, origin};
use crate::addr::Side;
use crate::limits::FurtherData;
use crate::pinhole::{DataEvent, OpenError, PinholeGuard};
use crate::session::{Carrier, Event, Input, Leg, Pinhole, PinholeId, Refusal, Stranger};

/// Both ends of what the datapath tells one session.
pub(super) type DataChannel = (mpsc::UnboundedSender<DataEvent>, mpsc::UnboundedReceiver<DataEvent>);

/// What keeps a data connection.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) pinhole: PinholeGuard,
    carrier: Carrier,
    /// Where it is not the session's only one.
    _further: Option<FurtherData>,
}

impl Driver {
    /// What happened to connections in the kernel before a line was sent is known before the line is.
    pub(super) fn catch_up(&mut self) {
        if !self.guards.values().any(|held| held.pinhole.is_kernels()) {
            return;
        }
        self.context.datapaths.catch_up();
        while let Some(event) = self.data.as_mut().and_then(|(_, receiver)| receiver.try_recv().ok()) {
            self.data_event(event);
            self.act();
        }
    }

    /// Opens a pinhole; `None` where the datapath answers later.
    pub(super) fn try_open(&mut self, pinhole: &Pinhole) -> Result<Option<Input>, OpenError> {
        let id = pinhole.id;
        let further = if self.guards.is_empty() { None } else { self.presence.place.further_data(Instant::now()) };
        if further.is_none() && !self.guards.is_empty() {
            return Ok(Some(Input::PinholeFailed { id, refusal: Refusal::TooManyConnections }));
        }
        if let Some(refusal) = self.leads_here(pinhole) {
            return Ok(Some(Input::PinholeFailed { id, refusal }));
        }
        let terms = self.terms();
        let (sender, _) = self.data.get_or_insert_with(mpsc::unbounded_channel);
        let now = Instant::now();
        let dials_first = pinhole.has_other && !self.context.memory.is_reached(self.session.ends().server, now);
        let opened = self.context.datapaths.open(pinhole, dials_first, &self.bindings, terms, sender.clone())?;
        opened.skipped.iter().for_each(|port| self.log.event(&Event::PortTaken(*port)));
        let carrier = opened.carrier;
        self.guards.insert(id, Held { pinhole: opened.guard, carrier, _further: further });
        let answer =
            |[client_port, server_port]: [_; 2]| Input::PinholeOpened { id, client_port, server_port, carrier };
        Ok(opened.ports.map(answer))
    }

    /// Why a leg is not to be dialled: a peer named another address than its own, which the rule would have it use, and that
    /// is this machine's.
    fn leads_here(&self, pinhole: &Pinhole) -> Option<Refusal> {
        let ends = self.session.ends();
        let own = [(Side::Client, ends.client.ip()), (Side::Server, ends.server.ip())];
        own.into_iter().find_map(|(side, peer)| {
            let Leg::Dial { to, .. } = *pinhole.leg(side) else { return None };
            let policy = Arc::clone(&self.context.orders.borrow().policy);
            (to.ip() != peer && is_gate(&self.context, &policy, to.ip())).then(|| match side {
                Side::Client => Refusal::ClientIsGate(to.ip()),
                Side::Server => Refusal::ForeignServerAddress { named: to.ip(), peer },
            })
        })
    }

    pub(super) fn data_event(&mut self, event: DataEvent) {
        let input = match event {
            DataEvent::Opened { id, client_port, server_port } => {
                let Some(carrier) = self.guards.get(&id).map(|held| held.carrier) else { return };
                if matches!(carrier, Carrier::Relay(_)) {
                    self.context.memory.reached(self.session.ends().server, Instant::now());
                }
                Input::PinholeOpened { id, client_port, server_port, carrier }
            }
            DataEvent::ServerClosed { id, error } => {
                self.forget(id);
                Input::PinholeFailed { id, refusal: Refusal::ServerPortClosed(error) }
            }
            DataEvent::NotOpened { id, error } => {
                self.session
                    .handle(Instant::now(), Input::PinholeFailed { id, refusal: Refusal::KernelRefused(error) });
                return self.forget(id);
            }
            DataEvent::Started { id, .. } => Input::DataStarted(id),
            DataEvent::Delivered { id } => Input::DataDelivered(id),
            DataEvent::Stranger { id, from, awaited, port, fault } => {
                let fault = fault.map(origin::trouble);
                Input::Stranger(id, Stranger { from, awaited, port, fault })
            }
            DataEvent::HalfOpen { from, port, why, .. } => {
                return self.log.event(&Event::HalfOpen { from, port, why });
            }
            DataEvent::HeldBack { limit, pacer, in_a_second, .. } => {
                return self.held_back(limit, pacer, in_a_second);
            }
            DataEvent::Ended { id, end } => {
                self.session.handle(Instant::now(), Input::DataEnded(id, end));
                return self.forget(id);
            }
        };
        self.session.handle(Instant::now(), input);
    }

    /// Closes a pinhole, if it is not closed already.
    pub(super) fn forget(&mut self, id: PinholeId) {
        self.dequeue(id);
        drop(self.guards.remove(&id));
        // A connection that moves still has its end to tell.
        if self.guards.is_empty() && !self.session.is_transferring() {
            // An idle session holds no buffer.
            self.guards = HashMap::new();
            self.data = None;
        }
    }
}

/// The next thing that happens to a data connection of a session that is over; `None` once there is none left.
pub(super) async fn next_data_event(
    data: &mut mpsc::UnboundedReceiver<DataEvent>,
    orders: &mut watch::Receiver<Orders>,
) -> Option<DataEvent> {
    tokio::select! {
        biased;
        event = data.recv() => event,
        _ = orders.wait_for(|orders| orders.phase == Phase::Stopping) => None,
    }
}

/// The next thing that happens to a data connection.
pub(super) async fn next_event(data: &mut Option<DataChannel>) -> DataEvent {
    match data {
        Some((_, receiver)) => match receiver.recv().await {
            Some(event) => event,
            // Not while the sender beside it lives.
            None => std::future::pending().await,
        },
        None => std::future::pending().await,
    }
}

pub(super) fn refusal(error: &OpenError, pinhole: &Pinhole) -> Refusal {
    match error {
        OpenError::RangeFull { .. } => Refusal::RangeFull { has_data_peers: !pinhole.data_peers.is_empty() },
        OpenError::InUse { .. } => Refusal::PortsTaken,
        OpenError::Privilege { .. } => Refusal::NoPrivilege,
        OpenError::AddressGone { .. } => Refusal::AddressGone,
        OpenError::NoDescriptors { .. } => Refusal::NoDescriptors,
        OpenError::NotByKernel(why) => Refusal::NotByKernel(*why),
        OpenError::Io { error, .. } => Refusal::System(error.kind()),
    }
}
