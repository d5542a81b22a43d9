//! One session: takes a client to its server, does every action of the session core and feeds every result back.

mod budget;
mod data;
mod explicit;
mod limits;
mod memory;
mod origin;
mod peer;
mod route;
mod unreachable;

use std::collections::HashMap;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::Sleep;

use crate::addr::{ClientAddr, Ends, ServerAddr, Side};
use crate::limits::{Counts, Place, SharedBucket};
use crate::net::{Accepted, Dialled, Loops, Names};
use crate::pinhole::{Bindings, DataEvent, Datapaths};
use crate::policy::{Asker, Candidates, Decision, Denied, Listener, Policy, ProxyVersion, Rule};
use crate::report::SessionLog;
use crate::session::{Action, CloseReason, Event, Input, PinholeId, Session, Setting};
use budget::Budget;
use data::{DataChannel, Held, next_data_event, next_event};
pub use memory::Memory;
use peer::{Heard, Peer};
pub use route::{Standing, receive, turn_away};

/// How long the last line may take to reach a peer, and the peer to close.
const FAREWELL: Duration = Duration::from_secs(3);

/// What holds for every session; a change is seen by all of them.
#[derive(Clone, Debug)]
pub struct Orders {
    /// The rules that hold.
    pub policy: Arc<Policy>,
    /// Whether the gate is up.
    pub phase: Phase,
}

/// Whether the gate is up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It is.
    Serving,
    /// Transfers may end, then sessions do.
    Draining,
    /// Sessions end now.
    Stopping,
}

/// What a session needs of the gate.
#[derive(Clone, Debug)]
pub struct Context {
    /// Move the bytes of data connections.
    pub datapaths: Datapaths,
    /// The rules, and whether the gate is up.
    pub orders: watch::Receiver<Orders>,
    /// What was found out about servers.
    pub memory: Memory,
    /// Looks names up.
    pub names: Names,
    /// How many sessions there are, and of whom.
    pub counts: Counts,
    /// Finds the connections that the gate makes to itself.
    pub loops: Loops,
    /// Whether `IP_TRANSPARENT` may be used.
    pub may_be_transparent: bool,
}

/// Leads a client that came to `listener` to its server: the session that begins then, and lasts to the end of its last
/// data connection. `None` where there is none.
///
/// They are two futures, for what it takes to find a server is larger than what a session needs for the rest of its life.
pub async fn lead(
    context: Context,
    listener: Arc<Listener>,
    client: TcpStream,
    standing: Standing,
) -> Option<Pin<Box<impl Future<Output = ()>>>> {
    let routed = route::to_server(&context, &listener, client, standing).await?;
    Some(drive(context, listener, routed))
}

fn drive(context: Context, listener: Arc<Listener>, routed: route::Routed) -> Pin<Box<impl Future<Output = ()>>> {
    let route::Routed {
        client,
        server,
        ends,
        client_is_gate,
        announced,
        bindings,
        allowed,
        policy,
        log,
        called,
        waited,
        connections,
        place,
    } = routed;
    let now = Instant::now();
    let notations = context.memory.of(ends.server, now);
    let Allowed { rule, candidates } = allowed;
    let timeouts = policy.timeouts;
    let setting = Setting { ends, client_is_gate, announced, rule, candidates, timeouts, notations, called, waited };
    let session = Session::new(setting, now);
    let driver = Box::new(Driver {
        session,
        listener,
        client,
        server: Peer::server(server),
        presence: Box::new(Presence { place, _connections: connections }),
        bindings,
        context,
        guards: HashMap::new(),
        data: None,
        pace: None,
        held_back: [false; 2],
        log,
        closed: None,
    });
    Box::pin(driver.run())
}

struct Driver {
    session: Session,
    listener: Arc<Listener>,
    client: Peer,
    server: Peer,
    presence: Box<Presence>,
    bindings: Bindings,
    context: Context,
    guards: HashMap<PinholeId, Held>,
    /// What the datapath tells; there while there are pinholes, for a channel has a buffer.
    data: Option<DataChannel>,
    /// What is left of the session's own rates, once it has had any.
    pace: Option<Arc<[SharedBucket; 2]>>,
    /// Whether it was told that transfers are held back, up and down.
    held_back: [bool; 2],
    log: SessionLog,
    closed: Option<CloseReason>,
}

/// What others know of the session.
struct Presence {
    /// Where it is counted.
    place: Place,
    /// Both control connections, as long as one may turn out to lead to the other.
    _connections: (Accepted, Dialled),
}

/// What the driver waited for.
enum Woken {
    Data(DataEvent),
    Orders,
    Heard(Side, Heard),
    Timeout,
}

impl Driver {
    async fn run(mut self: Box<Self>) {
        // Only the wait sets it.
        let mut alarm = pin!(tokio::time::sleep(Duration::MAX));
        let mut budget = Budget::new();
        // Nothing was heard while the last deadline was waited for.
        let mut is_silent = false;
        self.obey();
        self.act();
        while self.closed.is_none() {
            self.feed_lines(&mut budget);
            self.flush();
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
                Woken::Orders => self.obey(),
                // Seen to above.
                Woken::Timeout | Woken::Heard(_, Heard::Progress) => {}
                Woken::Heard(side, Heard::Closed) => self.session.handle(Instant::now(), Input::PeerClosed(side)),
                Woken::Heard(side, Heard::Lost) => self.session.handle(Instant::now(), Input::PeerLost(side)),
            }
            self.act();
        }
        // Boxed: what the end needs is not held all along.
        Box::pin(self.leave()).await;
    }

    /// Gives the session the lines that were read, as long as it wants them and its budget lasts.
    fn feed_lines(&mut self, budget: &mut Budget) {
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
            self.catch_up();
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
            heard = self.server.hear(hear_server) => Woken::Heard(Side::Server, heard),
            heard = self.client.hear(hear_client) => Woken::Heard(Side::Client, heard),
            () = ring(alarm, timeout) => Woken::Timeout,
        }
    }

    /// Does what the session asks for, and sees to the limits that it shares with others.
    fn act(&mut self) {
        loop {
            let failed_logins = self.do_actions();
            let reached = (0..failed_logins).find_map(|_| self.login_failed());
            match reached.or_else(|| self.enter()) {
                Some(limit) if self.closed.is_none() => self.session.handle(Instant::now(), Input::Limited(limit)),
                _ => break,
            }
        }
    }

    /// Sends what was queued. What fails here fails again when the peer is next waited for, and is noticed then.
    fn flush(&mut self) {
        let _ = self.client.flush();
        let _ = self.server.flush();
    }

    /// Does what the session asks for; how many logins have failed.
    fn do_actions(&mut self) -> usize {
        let mut failed_logins = 0;
        while let Some(action) = self.session.poll_action() {
            match action {
                Action::Forward { to, line, interrupt } => {
                    let peer = self.peer(to);
                    if interrupt && peer.interrupt().is_err() {
                        // The next attempt to send or read tells that the peer is lost.
                        continue;
                    }
                    self.peer(to).queue(&line);
                }
                Action::OpenPinhole(pinhole) => {
                    debug_assert!(self.session.poll_action().is_none(), "an answer is awaited after the last action");
                    if let Some(answer) = self.open(&pinhole) {
                        self.session.handle(Instant::now(), answer);
                    }
                }
                Action::Dial(id, side) => {
                    if let Some(held) = self.guards.get_mut(&id) {
                        held.pinhole.dial(side);
                    }
                }
                Action::Finish(id) => {
                    if let Some(held) = self.guards.get_mut(&id) {
                        held.pinhole.finish();
                    }
                }
                Action::ClosePinhole(id) => self.forget(id),
                Action::CloseWrite(side) => self.peer(side).close_write(),
                Action::Remember(notations) => {
                    self.context.memory.keep(self.session.ends().server, notations, Instant::now());
                }
                Action::Report(event) => {
                    failed_logins += usize::from(event == Event::LoginFailed);
                    self.log.event(&event);
                }
                Action::Close(reason) => self.closed = Some(reason),
            }
        }
        failed_logins
    }

    fn peer(&mut self, side: Side) -> &mut Peer {
        match side {
            Side::Client => &mut self.client,
            Side::Server => &mut self.server,
        }
    }

    /// Tells the session what holds now.
    fn obey(&mut self) {
        let (policy, phase) = {
            let orders = self.context.orders.borrow_and_update();
            (Arc::clone(&orders.policy), orders.phase)
        };
        let input = match phase {
            Phase::Serving => {
                let Ends { client, server, .. } = *self.session.ends();
                Input::Decided(policy.decide(&asker(&self.listener, client, server)))
            }
            Phase::Draining => Input::Drain,
            Phase::Stopping => Input::Stop,
        };
        self.session.handle(Instant::now(), input);
        if phase == Phase::Serving {
            // New rules send nobody away by their limits.
            self.presence.place.follow(self.session.rule(), Instant::now());
        }
    }

    /// The control connection is over; data that still moves goes on to its end, unless the gate ends first.
    async fn leave(mut self: Box<Self>) {
        let reason = self.closed.unwrap_or(CloseReason::Ended);
        let Self { client, server, .. } = *self;
        let farewell = async { tokio::join!(client.finish(), server.finish()) };
        // A peer that does not close in time is closed.
        let _too_slow = tokio::time::timeout(FAREWELL, farewell).await;
        let Some((sender, mut data)) = self.data else { return self.log.ended(reason, Instant::now()) };
        // The channel ends with the last pinhole.
        drop(sender);
        while let Some(event) = next_data_event(&mut data, &mut self.context.orders).await {
            if let DataEvent::Ended { id, end } = event {
                self.guards.remove(&id);
                self.session.handle(Instant::now(), Input::DataEnded(id, end));
                while let Some(action) = self.session.poll_action() {
                    if let Action::Report(event) = action {
                        self.log.event(&event);
                    }
                }
            }
        }
        self.log.ended(reason, Instant::now());
    }
}

/// A client that wants to reach a server, now.
fn asker(listener: &Listener, client: ClientAddr, server: ServerAddr) -> Asker<'_> {
    Asker::new(listener, client, server, Timestamp::now())
}

/// What holds for a session that may be.
#[derive(Debug)]
struct Allowed {
    rule: Arc<Rule>,
    candidates: Option<Candidates>,
}

impl Allowed {
    /// The PROXY header that the server is sent first: as the first rule wants it that may come to hold.
    fn send_proxy(&self) -> Option<ProxyVersion> {
        self.candidates.as_ref().map_or(self.rule.send_proxy, Candidates::send_proxy)
    }

    fn by(decision: Decision) -> Result<Self, Denied> {
        match decision {
            Decision::Allow(rule) => Ok(Self { rule, candidates: None }),
            Decision::AtLogin(candidates) => Ok(Self { rule: Candidates::nobody(), candidates: Some(candidates) }),
            Decision::Deny(denied) => Err(denied),
        }
    }
}

/// Waits for a moment. An alarm that is set for an earlier one stays: to set it anew costs more than to wake in vain.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ftp::line::{MAX_COMMAND, MAX_REPLY};
    use crate::session;

    /// What an idle session costs is this and what it holds on the heap, which is nothing: see `Driver::forget`.
    #[test]
    fn a_session_is_small() {
        const fn size<F: Future>(_: &impl Fn(Box<Driver>) -> F) -> usize {
            size_of::<F>()
        }
        assert!(size_of::<Driver>() <= 1344, "the driver has grown to {}", size_of::<Driver>());
        assert!(size(&Driver::run) <= 1024, "its future has grown to {}", size(&Driver::run));
    }

    /// What a session holds while it waits, whatever its peers do. Data connections have their buffers apart.
    #[test]
    fn the_buffers_of_a_session_are_bounded() {
        let readers = (MAX_COMMAND + 2) + (MAX_REPLY + 2);
        let to_server = peer::HIGH_WATER + MAX_COMMAND + 2;
        // A longer reply, or many, were held by the session before.
        let to_client = peer::HIGH_WATER + MAX_REPLY + 2;
        let all = readers + to_server + to_client + session::MAX_HELD + size_of::<Driver>() + 1024;
        assert!(all <= 64 << 10, "a session may hold {all} bytes");
    }
}
