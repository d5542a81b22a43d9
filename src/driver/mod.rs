//! One session: takes a client to its server, does every action of the session core and feeds every result back.

mod budget;
mod data;
mod event_loop;
mod explicit;
mod health;
mod limits;
mod memory;
mod origin;
mod peer;
mod route;
mod turn;
mod unreachable;

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::net::TcpStream;
use tokio::sync::watch;

use crate::addr::{ClientAddr, Ends, ServerAddr, Side};
use crate::limits::{Counts, Place, SharedBucket};
use crate::net::{Accepted, Dialled, Locals, Loops, Names, Translations};
use crate::pinhole::{Bindings, DataEvent, Datapaths};
use crate::policy::{Asker, Candidates, Decision, Denied, Listener, Policy, ProxyVersion, Rule};
use crate::report::SessionLog;
use crate::session::{Action, CloseReason, Event, Input, PinholeId, Session, Setting};
use data::{DataChannel, Held, next_data_event};
pub use memory::Memory;
use peer::Peer;
pub use route::{Standing, receive, turn_away};
use turn::Queued;

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
    /// What this machine is, and what the gate may do on it.
    pub machine: Arc<Machine>,
    /// Finds the connections that the gate makes to itself.
    pub loops: Loops,
}

/// What this machine is, and what the gate may do on it.
#[derive(Debug)]
pub struct Machine {
    /// Which addresses are its own.
    pub locals: Locals,
    /// Which of the gate's connections it translates.
    pub translations: Translations,
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
        queued: None,
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
    /// The pinhole that waits for a port.
    queued: Option<Box<Queued>>,
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

impl Driver {
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

    /// Sends what was queued; there may be more where `lines_left` says so. What fails here fails again when the peer is
    /// next waited for, and is noticed then.
    fn flush(&mut self, lines_left: bool) {
        let _ = self.client.flush_with(lines_left || self.session.is_within_reply());
        let _ = self.server.flush_with(lines_left);
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
                    if let Some(answer) = self.open(pinhole) {
                        self.session.handle(Instant::now(), answer);
                    }
                }
                Action::Dial(id, side) => {
                    if let Some(held) = self.guards.get(&id) {
                        held.pinhole.dial(side);
                    }
                }
                Action::Finish(id) => {
                    if let Some(held) = self.guards.get(&id) {
                        held.pinhole.finish();
                    }
                }
                Action::Prolong(id, time) => {
                    if let Some(held) = self.guards.get(&id) {
                        held.pinhole.prolong(time);
                    }
                }
                Action::Deliver(id) => {
                    if let Some(held) = self.guards.get(&id) {
                        held.pinhole.deliver();
                    }
                }
                Action::Linger(id) => {
                    if let Some(held) = self.guards.get(&id) {
                        held.pinhole.linger();
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
        assert!(size_of::<Driver>() <= 1360, "the driver has grown to {}", size_of::<Driver>());
        assert!(size(&Driver::run) <= 1024, "its future has grown to {}", size(&Driver::run));
    }

    /// Thousands of clients may come at once, and what each takes then is not given back to the system at once.
    #[test]
    fn finding_a_server_takes_little_memory() {
        const fn size<A, B, C, D, F: Future>(_: &impl Fn(A, B, C, D) -> F) -> usize {
            size_of::<F>()
        }
        assert!(size(&lead) <= 4352, "the future has grown to {}", size(&lead));
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
