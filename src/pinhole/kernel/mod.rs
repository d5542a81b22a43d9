//! The datapath in the kernel: data connections are led through nftables, and their bytes never reach this process.
//!
//! Opening a pinhole adds its elements to the sets of our [`table`]; conntrack tells when somebody comes, when both
//! sides have spoken, and how it ends.

mod arriving;
mod changes;
mod condition;
mod conntrack;
mod count;
mod element;
mod ended;
mod family;
mod flows;
mod forwarding;
mod gates;
mod half_open;
mod life;
mod linger;
mod mark;
mod nftables;
mod passing;
mod set;
mod table;
mod watch;

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::UnboundedSender;

use super::firewalls::Firewalls;
use super::ports::{Ports, Socket, Wanted};
use super::{DataEvent, OpenError};
use crate::addr::{PortRanges, Side, is_dialable};
use crate::net::Locals;
use crate::policy::Networks;
use crate::session::{Leg, Pinhole, WhyRelay};
use changes::{Answer, Changes};
use conntrack::{Conntrack, Flow, Sighting, Whose};
use count::Counters;
use element::{Change, Entrance, Guarded, Passage};
use family::Family;
use flows::{Flows, Life, Serial, Task};
use forwarding::Forwarding;
use half_open::HalfOpen;
use life::Stage;
pub use mark::{INTERCEPTED, MASK as CONNECTION_MASK, OURS as CONNECTION_MARK};
use nftables::{Lacking, Nftables};
use watch::Watch;

/// How long conntrack is told to remember a half-closed connection, again each second: long enough for a process that is
/// paused meanwhile.
const KEPT_SECONDS: u32 = 120;

/// Why there is no kernel datapath.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Unavailable {
    /// No privilege.
    #[error("nftables takes CAP_NET_ADMIN, which this process does not have")]
    NoPrivilege,
    /// The kernel cannot do what is needed.
    #[error("{0}")]
    Lacking(String),
    /// conntrack is told not to tell.
    #[error("conntrack tells of no connections: `sysctl -w net.netfilter.nf_conntrack_events=1`")]
    NoEvents,
    /// conntrack does not count.
    #[error("conntrack counts no bytes: `sysctl -w net.netfilter.nf_conntrack_acct=1`")]
    NoAccounting,
}

impl From<Lacking> for Unavailable {
    fn from(lacking: Lacking) -> Self {
        if lacking.error.kind() == io::ErrorKind::PermissionDenied {
            return Self::NoPrivilege;
        }
        Self::Lacking(lacking.to_string())
    }
}

/// The datapath. Clones share it; with the last one its table goes.
#[derive(Clone, Debug)]
pub(super) struct Kernel {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    changes: Changes,
    conntrack: Mutex<Conntrack>,
    watch: Arc<Watch>,
    flows: Mutex<Flows>,
    forwarding: Forwarding,
    locals: Locals,
    firewalls: Arc<Firewalls>,
    table: String,
    /// Whether another gate ran when that was last asked: what is of one that is gone cannot be told from its own.
    others_run: AtomicBool,
    /// How long a peer that somebody is led to has to answer.
    patience: Duration,
}

/// A connection that the kernel can lead: who comes, and to whom.
#[derive(Debug)]
pub(super) struct Plan<'a> {
    comer: Side,
    at: IpAddr,
    ports: &'a PortRanges,
    from: IpAddr,
    to: SocketAddr,
    seen_as: Option<SocketAddr>,
}

impl Kernel {
    /// Makes the table and listens to conntrack.
    pub(super) fn start(patience: Duration, firewalls: Arc<Firewalls>) -> Result<Self, Unavailable> {
        let nftables = Nftables::start()?;
        let lacking = |error| Lacking { part: Some("question for connections".to_owned()), error };
        if forwarding::setting("nf_conntrack_events").is_some_and(|value| value == "0") {
            return Err(Unavailable::NoEvents);
        }
        if forwarding::setting("nf_conntrack_acct").is_some_and(|value| value == "0") {
            return Err(Unavailable::NoAccounting);
        }
        let conntrack = Conntrack::open(nftables.own()).map_err(lacking)?;
        let watch = Arc::new(Watch::open(nftables.own()).map_err(lacking)?);
        let shared = Arc::new(Shared {
            table: nftables.name().to_owned(),
            changes: Changes::new(nftables),
            conntrack: Mutex::new(conntrack),
            watch: Arc::clone(&watch),
            flows: Mutex::default(),
            forwarding: Forwarding::new(),
            locals: Locals::default(),
            firewalls,
            others_run: AtomicBool::new(true),
            patience,
        });
        shared.end_forerunners(Instant::now()).map_err(lacking)?;
        shared.end_orphans(Instant::now()).map_err(lacking)?;
        let watched = Arc::downgrade(&shared);
        let run = move || watch::run(&watch, &watched);
        let thread = std::thread::Builder::new().name("conntrack".to_owned()).spawn(run);
        thread.map_err(|error| Lacking { part: Some("thread".to_owned()), error })?;
        Ok(Self { shared })
    }

    /// The name of its table.
    pub(super) fn table(&self) -> &str {
        &self.shared.table
    }

    /// What of the kernel's settings stands in the way of connections of this family, in words for the operator.
    pub(super) fn obstacle(&self, v6: bool) -> Option<String> {
        let (family, name) =
            if v6 { (Family::V6, "net.ipv6.conf.all.forwarding") } else { (Family::V4, "net.ipv4.ip_forward") };
        (!self.shared.forwarding.is_on(family)).then(|| {
            format!("packets are not forwarded: `sysctl -w {name}=1`; until then data of this family is relayed")
        })
    }

    /// Whether the kernel can lead this connection.
    pub(super) fn plan<'a>(&self, pinhole: &'a Pinhole) -> Result<Plan<'a>, WhyRelay> {
        let (comer, listen, dial) = match (&pinhole.client, &pinhole.server) {
            (listen @ Leg::Listen { .. }, dial @ Leg::Dial { .. }) => (Side::Client, listen, dial),
            (dial @ Leg::Dial { .. }, listen @ Leg::Listen { .. }) => (Side::Server, listen, dial),
            _ => return Err(WhyRelay::TwoOfAKind),
        };
        let (Leg::Listen { at, ports, from }, Leg::Dial { to, from: seen_as, from_port }) = (listen, dial) else {
            return Err(WhyRelay::TwoOfAKind);
        };
        let (at, from, seen_as) = (at.to_canonical(), from.to_canonical(), seen_as.to_canonical());
        let to = SocketAddr::new(to.ip().to_canonical(), to.port());
        if [at, from, seen_as].iter().any(|ip| ip.is_ipv4() != to.is_ipv4()) {
            return Err(WhyRelay::TwoFamilies);
        }
        // Addresses that say nothing without their link are not led to either.
        let is_here = |peer| !is_dialable(peer) || self.shared.locals.has(peer);
        if !is_dialable(at) || [from, to.ip()].into_iter().any(is_here) {
            return Err(WhyRelay::PeerIsHere);
        }
        if !self.shared.forwarding.is_on(Family::of(to.ip())) {
            return Err(WhyRelay::NoForwarding);
        }
        if let Some(why) = self.shared.firewalls.close(to.is_ipv4()) {
            return Err(why);
        }
        let seen_as =
            (seen_as != from || from_port.is_some()).then(|| SocketAddr::new(seen_as, from_port.unwrap_or(0)));
        Ok(Plan { comer, at, ports, from, to, seen_as })
    }

    /// Takes note of all that has happened by now.
    pub(super) fn hear(&self) {
        self.shared.hear();
    }

    /// Opens a pinhole. Whether it stands is told through `events`.
    pub(super) fn open(
        &self,
        pinhole: &Pinhole,
        plan: &Plan<'_>,
        ports: &Ports,
        events: UnboundedSender<DataEvent>,
        skipped: &mut Vec<u16>,
    ) -> Result<Guard, OpenError> {
        let &Plan { comer, at, ports: range, from, to, seen_as } = plan;
        let socket = if self.shared.locals.has(at) { Socket::Plain } else { Socket::None };
        // In transparent mode the peer goes to the very address that it is led to: to the same port, where it may.
        let rather = (at == to.ip()).then_some(to.port());
        let is_busy = |port| self.shared.flows().is_busy(&Entrance { from, at: SocketAddr::new(at, port) });
        let (is_busy, data_peers): (Option<&dyn Fn(u16) -> bool>, _) = (Some(&is_busy), &Networks::default());
        let wanted = Wanted { at, link: 0, socket, ports: range, rather, from, proxies: None, data_peers, is_busy };
        let reservation = ports.reserve_for_kernel(&wanted, pinhole.id, &events, skipped)?;
        let port = reservation.port();
        let (client_port, server_port, guard) = match comer {
            Side::Client => (Some(port), None, Guarded::FromAll),
            Side::Server => (None, Some(port), Guarded::FromPeer),
        };
        let passage = Passage { entrance: Entrance { from, at: SocketAddr::new(at, port) }, to, seen_as, guard };
        let answer = Answer { events: events.clone(), id: pinhole.id, client_port, server_port };
        let life = Life {
            id: pinhole.id,
            events,
            passage,
            comer,
            stage: Stage::Waiting,
            half_open: HalfOpen::new(seen_as.is_some_and(|seen_as| seen_as.port() != 0)),
            closed_at_once: false,
            reservation: Some(reservation),
        };
        let room = life.wants_room().map(Task::MakeRoom);
        let (serial, earlier) = self.shared.flows().add(life);
        self.shared.do_all(earlier.into_iter().chain(room));
        let guard = Guard { shared: Arc::clone(&self.shared), serial };
        self.shared.changes.make(Change::Open(passage, pinhole.timeout), Some(answer));
        Ok(guard)
    }
}

impl Shared {
    fn flows(&self) -> MutexGuard<'_, Flows> {
        self.flows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn conntrack(&self) -> MutexGuard<'_, Conntrack> {
        self.conntrack.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look(&self, flow: &Flow) -> Option<Counters> {
        self.conntrack().look(flow).ok().flatten()?.counters
    }

    /// Takes all that conntrack has told: what is known afterwards is as new as what a peer says.
    fn hear(&self) {
        let mut tasks = Vec::new();
        self.watch.hear(|heard| {
            let heard = heard.map_or_else(|| self.catch_up(), |sighting| self.see(sighting));
            for task in heard {
                match task {
                    // The port is free before anybody else has heard this, and may want it.
                    Task::Close(passage, _reservation) => self.changes.leave(Change::Close(passage), None),
                    task @ (Task::Cut(_)
                    | Task::Keep(_)
                    | Task::MakeRoom(_)
                    | Task::ForgetHalfOpen(_)
                    | Task::ForgetEnded(_)) => {
                        tasks.push(task);
                    }
                }
            }
        });
        // Not while it is heard: another program may keep the kernel's tables busy.
        self.changes.work();
        self.do_all(tasks);
    }

    fn see(&self, sighting: &Sighting) -> Vec<Task> {
        self.flows().see(Instant::now(), self.patience, sighting, |flow| self.look(flow))
    }

    fn close(&self, serial: Serial) {
        // Somebody may have come that is not known of.
        self.hear();
        let task = self.flows().close(Instant::now(), serial, |flow| self.look(flow));
        self.do_all(task);
    }

    fn tick(&self, now: Instant) {
        let tasks = self.flows().overdue(now);
        self.do_all(tasks);
        // Where that fails it is tried again.
        let _ = self.end_orphans(now);
        let tasks = self.flows().close_still(now, |flow| self.look(flow));
        self.do_all(tasks);
    }

    /// Ends the connections of an earlier gate that had this one's mark: nobody sees what they move, and our table keeps them
    /// translated.
    fn end_forerunners(&self, now: Instant) -> io::Result<()> {
        let marked = self.conntrack().look_at_all(Whose::Own)?;
        let tasks = self.flows().end_orphans(now, &marked);
        self.do_all(tasks);
        Ok(())
    }

    /// The same of gates with other marks: when no other gate runs, as this one starts or when the last of the others has
    /// ended.
    fn end_orphans(&self, now: Instant) -> io::Result<()> {
        if !self.others_run.load(Ordering::Relaxed) {
            return Ok(());
        }
        if gates::others_run(&self.table)? {
            return Ok(());
        }
        let marked = self.conntrack().look_at_all(Whose::Every)?;
        // A gate that has started in between may have connections among these.
        if gates::others_run(&self.table)? {
            return Ok(());
        }
        // Our own that are among them have been told of by now.
        self.hear();
        let tasks = self.flows().end_orphans(now, &marked);
        self.do_all(tasks);
        self.others_run.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// Sightings were lost: all connections are looked at.
    fn catch_up(&self) -> Vec<Task> {
        let Ok(present) = self.conntrack().look_at_all(Whose::Own) else { return Vec::new() };
        let mut tasks = Vec::new();
        for sighting in &present {
            // One of an earlier pinhole at the same place may be among them.
            let waiting = self.flows().waiting_at(&sighting.flow.entrance());
            let is_earlier = waiting.is_some_and(|passage| self.changes.is_unused(&passage));
            if sighting.mark.is_half_open() || !is_earlier {
                tasks.extend(self.see(sighting));
            }
        }
        for flow in self.flows().missing(&present) {
            // What used a pinhole and went unseen was no half-open connection when it did.
            let waiting = self.flows().waiting_at(&flow.entrance());
            let was_used = waiting.is_some_and(|passage| !self.changes.is_unused(&passage));
            tasks.extend(self.see(&Sighting::of_the_gone(flow, was_used)));
        }
        tasks
    }

    fn do_all(&self, tasks: impl IntoIterator<Item = Task>) {
        for task in tasks {
            // A connection that is not there any more needs nothing done to it.
            let _is_gone = match task {
                Task::Close(passage, _reservation) => {
                    self.changes.make(Change::Close(passage), None);
                    Ok(())
                }
                Task::Cut(flow) => self.conntrack().cut(&flow),
                // That there was none is the rule.
                Task::MakeRoom(between) => self.conntrack().make_room(&between),
                Task::Keep(flow) => self.conntrack().keep(&flow, KEPT_SECONDS),
                Task::ForgetHalfOpen(flow) => self.conntrack().forget_if(&flow, |known| known.mark.is_half_open()),
                Task::ForgetEnded(flow) => self.conntrack().forget_if(&flow, Sighting::is_over),
            };
        }
    }
}

impl Drop for Shared {
    /// The table goes, and with it what translates addresses. A connection that another firewall's table would keep
    /// translated must not outlive us unseen.
    fn drop(&mut self) {
        for flow in self.flows().all() {
            // That there is none any more is as well.
            let _ = self.conntrack().delete(&flow, None);
        }
    }
}

/// Keeps a pinhole open: dropped, nobody can use it any more, and a connection through it is cut.
pub(super) struct Guard {
    shared: Arc<Shared>,
    serial: Serial,
}

impl Guard {
    /// The pinhole waits for this long from now on, where nobody has come.
    pub(super) fn prolong(&self, time: Duration) {
        // Somebody may have come that is not known of.
        self.shared.hear();
        let passage = self.shared.flows().waiting(self.serial);
        if let Some(passage) = passage {
            self.shared.changes.make(Change::Prolong(passage, time), None);
        }
    }

    /// No control connection watches over the connection any more.
    pub(super) fn linger(&self) {
        self.shared.flows().linger(Instant::now(), self.serial);
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.shared.close(self.serial);
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard").field("serial", &self.serial).finish_non_exhaustive()
    }
}
