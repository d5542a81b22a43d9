//! The loop of one session: lines, data connections, new rules and deadlines, in the order in which they count.

use std::pin::{Pin, pin};
use std::time::{Duration, Instant};

use tokio::time::Sleep;

use super::Driver;
use super::budget::Budget;
use super::data::next_event;
use super::peer::Heard;
use super::turn::next_turn;
use crate::addr::Side;
use crate::pinhole::DataEvent;
use crate::session::{Input, Session};

/// What the driver waited for.
enum Woken {
    Data(DataEvent),
    /// There may be a port for the pinhole that waits for one.
    Port,
    Orders,
    Heard(Side, Heard),
    Timeout,
}

impl Driver {
    pub(super) async fn run(mut self: Box<Self>) {
        // Only the wait sets it.
        let mut alarm = pin!(tokio::time::sleep(Duration::MAX));
        let mut budget = Budget::new();
        // Nothing was heard while the last deadline was waited for.
        let mut is_silent = false;
        self.obey();
        self.act();
        while self.closed.is_none() {
            self.feed_lines(&mut budget);
            self.flush(!budget.has_lines());
            // Where the budget is spent, lines may be left that were read. Deadlines come before waiting: a peer that always
            // has something to say must not put them off.
            if budget.yield_if_spent().await || self.closed.is_some() || self.time_out_if_due(&mut budget, is_silent) {
                continue;
            }
            let hears_server = self.listens(Side::Server);
            let woken = budget.wait_for(pin!(self.wait(alarm.as_mut()))).await;
            if !hears_server {
                self.session.server_unheard(Instant::now());
            }
            is_silent = hears_server && matches!(woken, Woken::Timeout);
            match woken {
                Woken::Data(event) => self.data_event(event),
                Woken::Port => self.open_queued(),
                Woken::Orders => self.obey(),
                // Seen to above.
                Woken::Timeout | Woken::Heard(_, Heard::Progress) => {}
                Woken::Heard(side, Heard::Closed) => self.session.handle(Instant::now(), Input::PeerClosed(side)),
                Woken::Heard(side, Heard::Lost) => {
                    self.peer(side).lose();
                    self.session.handle(Instant::now(), Input::PeerLost(side));
                }
            }
            self.act();
        }
        // Boxed: what the end needs is not held all along.
        Box::pin(self.leave()).await;
    }

    /// Gives the session the lines that were read, as long as it wants them and its budget lasts.
    fn feed_lines(&mut self, budget: &mut Budget) {
        let mut has_caught_up = false;
        while self.closed.is_none() && budget.has_lines() {
            let from_server = self.listens(Side::Server).then(|| self.server.next_line()).flatten();
            let line = match from_server {
                Some(line) => (Side::Server, line),
                None if self.listens(Side::Client)
                    && let Some(line) = self.client.next_line() =>
                {
                    (Side::Client, line)
                }
                None => return,
            };
            let input = match line {
                (Side::Client, Ok(line)) => Input::ClientLine(line),
                (Side::Server, Ok(line)) => Input::ServerLine(line),
                (side, Err(fault)) => Input::BadLine(side, fault),
            };
            // Every line was read before the first is handled.
            if !std::mem::replace(&mut has_caught_up, true) {
                self.catch_up();
            }
            let now = Instant::now();
            if !self.listens(Side::Server) {
                self.session.server_unheard(now);
            }
            self.session.handle(now, input);
            self.act();
            budget.count_line();
        }
    }

    /// Whether a side's lines can be taken: they are wanted, and there is room for what they lead to. Any line may be
    /// answered as well as passed on, so both sides must have room.
    fn listens(&mut self, side: Side) -> bool {
        self.session.wants(side) && self.client.has_room() && self.server.has_room()
    }

    /// Whether a deadline was due; it has been seen to then.
    fn time_out_if_due(&mut self, budget: &mut Budget, is_silent: bool) -> bool {
        let now = Instant::now();
        let is_due = |session: &Session| session.poll_timeout().is_some_and(|due| due <= now);
        if !is_due(&self.session) {
            return false;
        }
        if !is_silent {
            // Something may have come that was not read yet.
            self.session.server_unheard(now);
            if !is_due(&self.session) {
                return false;
            }
        }
        budget.count_line();
        self.session.handle(now, Input::Timeout);
        self.act();
        true
    }

    async fn wait(&mut self, alarm: Pin<&mut Sleep>) -> Woken {
        let timeout = self.session.poll_timeout();
        let (hear_client, hear_server) = (self.listens(Side::Client), self.listens(Side::Server));
        tokio::select! {
            biased;
            // First, for a peer must not be able to put off a shutdown.
            changed = self.context.orders.changed() => {
                // The sender lives as long as the gate.
                let _gate_is_gone = changed.is_err();
                Woken::Orders
            }
            // Ahead of lines, so that a connection that came is known before what is said about it.
            event = next_event(&mut self.data) => Woken::Data(event),
            () = next_turn(&mut self.queued) => Woken::Port,
            heard = self.server.hear(hear_server) => Woken::Heard(Side::Server, heard),
            heard = self.client.hear(hear_client) => Woken::Heard(Side::Client, heard),
            () = ring(alarm, timeout) => Woken::Timeout,
        }
    }
}

/// Waits for a moment. An alarm that is set for an earlier one stays: resetting it costs more than one needless wake-up.
async fn ring(mut alarm: Pin<&mut Sleep>, at: Option<Instant>) {
    let Some(at) = at else { return std::future::pending().await };
    let at = tokio::time::Instant::from_std(at);
    if alarm.deadline() > at || alarm.is_elapsed() {
        alarm.as_mut().reset(at);
    }
    alarm.as_mut().await;
    if tokio::time::Instant::now() < at {
        alarm.as_mut().reset(at);
        alarm.await;
    }
}
