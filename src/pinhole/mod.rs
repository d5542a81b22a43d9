//! Pinholes on this machine: the ports that they use, and the datapath that moves their bytes.
//!
//! The relay is a datapath in this process: it listens, accepts, dials, and splices the two legs together. The other
//! one is in the kernel: nftables leads the connection, which never reaches this process.

mod error;
mod firewalls;
mod kernel;
mod orders;
mod pipes;
mod ports;
mod relay;
mod splice;
#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;

pub use error::OpenError;
pub use kernel::{CONNECTION_MARK, CONNECTION_MASK, INTERCEPTED, Unavailable};

use crate::addr::{Side, on_link};
use crate::limits::{Pacer, Terms};
use crate::net::proxy_header::HeaderFault;
use crate::policy::{Datapath, Limit, Policy, Proxies};
use crate::session::{Carrier, DataEnd, Leg, Pinhole, PinholeId, WhyHalfOpen, WhyRelay};
use firewalls::Firewalls;
use kernel::Kernel;
use orders::Orderer;
use pipes::PipePool;
pub use ports::Turn;
use ports::{Ports, Reservation, Socket, Wanted};
use relay::{Approach, Job};

/// How the addresses of one leg are had on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LegBinding {
    /// The address on this machine's side of whatever translates it: where the client's connections arrive, whatever
    /// address it is told; where those to the server leave from, whatever address it sees.
    pub local: IpAddr,
    /// The link that the leg's link-local addresses are on, as the number of its interface; 0: it has none.
    pub link: u32,
    /// Whether the address that we listen at or dial from may be one that is not ours (`IP_TRANSPARENT`).
    pub transparent: bool,
}

/// How the addresses of both legs are had on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bindings {
    /// The leg between the client and us.
    pub client: LegBinding,
    /// The leg between us and the server.
    pub server: LegBinding,
    /// Where a balancer brought the client: those who may bring its data connections too, with a PROXY header each.
    pub proxies: Option<Proxies>,
}

/// What a datapath tells about a pinhole after it was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataEvent {
    /// The pinhole stands now, where its opening had left that open.
    Opened {
        /// The pinhole.
        id: PinholeId,
        /// The gate's port that the client connects to, where its leg is listened for.
        client_port: Option<u16>,
        /// The gate's port that the server connects to, where its leg is listened for.
        server_port: Option<u16>,
    },
    /// The kernel did not take it, and nothing is open.
    NotOpened {
        /// The pinhole.
        id: PinholeId,
        /// What the kernel said.
        error: std::io::ErrorKind,
    },
    /// It does not, for the server's port that was to be tried first is closed.
    ServerClosed {
        /// The pinhole.
        id: PinholeId,
        /// What the kernel said.
        error: std::io::ErrorKind,
    },
    /// Both legs stand, and bytes may move. At most once.
    Started {
        /// The pinhole, used up now.
        id: PinholeId,
        /// The peer that connected to us: the client where both did, and where neither did.
        peer: SocketAddr,
    },
    /// Somebody else tried a port that this pinhole waits on, and was reset; the pinhole still waits. Told a few times
    /// for each pinhole at most.
    Stranger {
        /// The pinhole that waits there.
        id: PinholeId,
        /// Who it was.
        from: SocketAddr,
        /// Who is to come.
        awaited: IpAddr,
        /// The gate's port.
        port: u16,
        /// What was wrong with its PROXY header, where it had to have one.
        fault: Option<HeaderFault>,
    },
    /// A connection to this pinhole was begun from its peer's address and not completed; the pinhole still waits, or
    /// another connection has used it. Told once for each pinhole at most, and by the kernel's datapath only.
    HalfOpen {
        /// The pinhole.
        id: PinholeId,
        /// Where the first packet said that it came from.
        from: SocketAddr,
        /// The port of the gate that it was for.
        port: u16,
        /// How it is known.
        why: WhyHalfOpen,
    },
    /// It would go faster than a rate allows. Told once for each direction at most.
    HeldBack {
        /// The pinhole.
        id: PinholeId,
        /// Which way.
        limit: Limit,
        /// Whose rate it is.
        pacer: Pacer,
        /// What it is, in bytes.
        in_a_second: u64,
    },
    /// The answer to [`PinholeGuard::deliver`].
    Delivered {
        /// The pinhole.
        id: PinholeId,
    },
    /// It is over. Exactly once for a pinhole that had `Started`, or whose dial failed; never for one that was closed
    /// while it waited.
    Ended {
        /// The pinhole.
        id: PinholeId,
        /// What became of it.
        end: DataEnd,
    },
}

/// Both datapaths. Clones share them.
#[derive(Clone, Debug)]
pub struct Datapaths {
    relay: Relay,
    machine: Arc<Machine>,
}

/// What all of the kernel's connections share. One pointer in each session is enough.
#[derive(Debug, Default)]
struct Machine {
    kernel: OnceLock<Result<Kernel, Unavailable>>,
    firewalls: Arc<Firewalls>,
}

impl Datapaths {
    /// The relay, with no port open. `connect_timeout` is how long a peer that is dialled has to answer.
    #[must_use]
    pub fn new(connect_timeout: Duration) -> Self {
        Self { relay: Relay::new(connect_timeout), machine: Arc::default() }
    }

    /// Starts the kernel's datapath, if that was not tried before: the name of its table.
    ///
    /// # Errors
    /// Why there is none.
    pub fn start_kernel(&self) -> Result<&str, &Unavailable> {
        let start = || Kernel::start(self.relay.shared.connect_timeout, Arc::clone(&self.machine.firewalls));
        self.machine.kernel.get_or_init(start).as_ref().map(Kernel::table)
    }

    /// Looks whether other firewalls of this machine let through what these rules need, says what they do not, and goes on
    /// looking.
    pub fn watch_firewalls(&self, policy: &Policy) {
        self.machine.firewalls.watch(policy, self.machine.kernel.get().is_some_and(Result::is_ok));
    }

    /// What of the kernel's settings stands in the way of the kernel's connections of this family on this machine, in words
    /// for the operator.
    #[must_use]
    pub fn obstacle(&self, v6: bool) -> Option<String> {
        self.machine.kernel.get()?.as_ref().ok()?.obstacle(v6)
    }

    /// Has everything that has happened to the kernel's connections by now told, before this returns.
    pub fn catch_up(&self) {
        if let Some(Ok(kernel)) = self.machine.kernel.get() {
            kernel.hear();
        }
    }

    /// Waits until there may be a port for a connection of this peer, where none was free; `None` where too many wait already.
    #[must_use]
    pub fn wait_for_port(&self, from: IpAddr) -> Option<Turn> {
        self.relay.shared.ports.wait(from)
    }

    /// Opens `pinhole` by the datapath that its rule names, or by the one that fits and can keep to `terms`; what happens is told through
    /// `events`. Where it `dials_first` the relay connects to the server before it answers: a client that is told of a port
    /// of the gate takes it to be open, and has no way to try another when it finds the server's closed. Through the kernel it
    /// sees that for itself. Must be called inside a tokio runtime.
    ///
    /// # Errors
    ///
    /// Says why a leg could not be listened for; nothing is open then.
    pub fn open(
        &self,
        pinhole: &Pinhole,
        dials_first: bool,
        bindings: &Bindings,
        terms: Terms,
        events: UnboundedSender<DataEvent>,
    ) -> Result<Opened, OpenError> {
        let planned = match (pinhole.datapath, self.machine.kernel.get()) {
            (Datapath::Relay, _) => Err(WhyRelay::Rule),
            _ if !terms.is_none() => Err(WhyRelay::Limited),
            _ if has_header(pinhole, bindings) => Err(WhyRelay::ProxyHeader),
            _ if !pinhole.data_peers.is_empty() => Err(WhyRelay::DataPeers),
            (Datapath::Auto | Datapath::Kernel, Some(Err(_)) | None) => Err(WhyRelay::NoKernel),
            (Datapath::Auto | Datapath::Kernel, Some(Ok(kernel))) => kernel.plan(pinhole).map(|plan| (kernel, plan)),
        };
        match planned {
            Ok((kernel, plan)) => {
                let mut skipped = Vec::new();
                let guard = kernel.open(pinhole, &plan, &self.relay.shared.ports, events, &mut skipped)?;
                Ok(Opened {
                    ports: None,
                    guard: PinholeGuard(Held::Kernel { guard }),
                    skipped,
                    carrier: Carrier::Kernel,
                })
            }
            Err(why) if pinhole.datapath == Datapath::Kernel => Err(OpenError::NotByKernel(why)),
            Err(why) => self
                .relay
                .open(pinhole, dials_first, bindings, terms, events)
                .map(|opened| Opened { carrier: Carrier::Relay(why), ..opened }),
        }
    }
}

/// Whether one side's connection begins with a PROXY header. One whose client a balancer brought does not even need to:
/// its front is not one of the gate's addresses, by which the kernel could lead it.
const fn has_header(pinhole: &Pinhole, bindings: &Bindings) -> bool {
    bindings.proxies.is_some() || (pinhole.introduction.is_some() && matches!(pinhole.server, Leg::Dial { .. }))
}

/// The datapath in this process. Clones share their ports and their pipes.
#[derive(Clone, Debug)]
pub struct Relay {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    ports: Ports,
    pipes: PipePool,
    connect_timeout: Duration,
}

impl Relay {
    /// A relay with no port open, that waits for as long as `connect_timeout` when it dials.
    #[must_use]
    pub fn new(connect_timeout: Duration) -> Self {
        Self::with_pipes(connect_timeout, PipePool::new())
    }

    fn with_pipes(connect_timeout: Duration, pipes: PipePool) -> Self {
        Self { shared: Arc::new(Shared { ports: Ports::default(), pipes, connect_timeout }) }
    }

    /// Opens `pinhole`: when this returns, the ports that it names are listened on, and what happens is told through
    /// `events`. Must be called inside a tokio runtime.
    ///
    /// # Errors
    ///
    /// Says why a leg could not be listened for; nothing is open then.
    pub fn open(
        &self,
        pinhole: &Pinhole,
        dials_first: bool,
        bindings: &Bindings,
        terms: Terms,
        events: UnboundedSender<DataEvent>,
    ) -> Result<Opened, OpenError> {
        let (mut skipped, mut moving) = (Vec::new(), Vec::new());
        let mut approach = |side: Side, binding: LegBinding| match *pinhole.leg(side) {
            Leg::Listen { at, ref ports, from } => {
                let socket = if binding.transparent { Socket::Transparent } else { Socket::Plain };
                let proxies = bindings.proxies.as_ref().filter(|_| side == Side::Client);
                let data_peers = pinhole.data_peers.of(side);
                let at = if side == Side::Client { binding.local } else { at };
                let all = &self.shared.ports;
                let is_busy = |port| all.is_moving(SocketAddr::new(at, port), from);
                let is_busy: Option<&dyn Fn(u16) -> bool> = Some(&is_busy);
                let link = binding.link;
                let wanted = Wanted { at, link, socket, ports, rather: None, from, proxies, data_peers, is_busy };
                let (reservation, arrival) = all.reserve(&wanted, pinhole.id, &events, &mut skipped)?;
                moving.push(all.moves(SocketAddr::new(at, reservation.port()), from));
                Ok((Some(reservation), Approach::Arrives(arrival)))
            }
            Leg::Dial { to, from, from_port } => {
                // Without the privilege to stand for another we come from our own address: some clients take that.
                let from = if side == Side::Client && binding.transparent { from } else { binding.local };
                let introduction = pinhole.introduction.filter(|_| side == Side::Server);
                let transparent = binding.transparent;
                let to = on_link(to, binding.link);
                Ok((None, Approach::Dialled { to, from: (from, from_port), transparent, introduction }))
            }
        };
        let (client_port, client) = approach(Side::Client, bindings.client)?;
        let (server_port, server) = approach(Side::Server, bindings.server)?;
        let (alive, closed) = oneshot::channel();
        let (orderer, orders) = Orderer::new();
        let (id, tells) = (pinhole.id, events.clone());
        let ports = [client_port.as_ref().map(Reservation::port), server_port.as_ref().map(Reservation::port)];
        let tells_ports = dials_first.then_some(ports);
        let shared = Arc::clone(&self.shared);
        let job = Job { id, client, server, tells_ports, orders, terms, events, shared, _moving: moving };
        tokio::spawn(relay::run(job, closed));
        Ok(Opened {
            ports: (!dials_first).then_some(ports),
            guard: PinholeGuard(Held::Relay {
                _ports: [client_port, server_port],
                id,
                events: tells,
                orders: orderer,
                _alive: alive,
            }),
            skipped,
            carrier: Carrier::Relay(WhyRelay::Rule),
        })
    }
}

/// A pinhole that stands, or will.
#[derive(Debug)]
pub struct Opened {
    /// The gate's ports that the client and the server connect to, where their legs are listened for; `None` where
    /// [`DataEvent::Opened`] will tell.
    pub ports: Option<[Option<u16>; 2]>,
    /// Keeps it open.
    pub guard: PinholeGuard,
    /// Ports of the ranges that another program has taken.
    pub skipped: Vec<u16>,
    /// Who moves the bytes.
    pub carrier: Carrier,
}

/// Keeps a pinhole open: dropped, it stops waiting at once, and a transfer that still moves is aborted, with a reset
/// on both sides.
pub struct PinholeGuard(Held);

enum Held {
    Relay {
        _ports: [Option<Reservation>; 2],
        id: PinholeId,
        events: UnboundedSender<DataEvent>,
        orders: Orderer,
        _alive: oneshot::Sender<Infallible>,
    },
    Kernel {
        guard: kernel::Guard,
    },
}

impl PinholeGuard {
    /// Closes the pinhole, as dropping the guard does. Its listeners are gone when this returns.
    pub fn close(self) {
        drop(self);
    }

    /// Where both sides are waited for: the server will not come, and the client's connection ends in order, empty. Does
    /// nothing where the server has come.
    pub fn finish(&self) {
        if let Held::Relay { orders, .. } = &self.0 {
            orders.order(|orders| orders.finish = true);
        }
    }

    /// It waits for this long from now on. In the relay it waits until it is closed.
    pub fn prolong(&self, time: Duration) {
        if let Held::Kernel { guard } = &self.0 {
            guard.prolong(time);
        }
    }

    /// Has [`DataEvent::Delivered`] told once the client was sent what the server has, or either of them does no more for now.
    pub fn deliver(&self) {
        // The kernel holds nothing back, and the session does not ask it.
        if let Held::Relay { orders, id, events, .. } = &self.0 {
            if orders.is_delivered() {
                // Where nobody listens any more, the guard goes too.
                let _ = events.send(DataEvent::Delivered { id: *id });
            } else {
                orders.order(|orders| orders.deliver = true);
            }
        }
    }

    /// Nobody watches over the connection any more: it is cut when nothing has moved for long.
    pub fn linger(&self) {
        match &self.0 {
            Held::Relay { orders, .. } => orders.order(|orders| orders.linger = true),
            Held::Kernel { guard } => guard.linger(),
        }
    }

    /// Whether the kernel moves the bytes.
    #[must_use]
    pub const fn is_kernels(&self) -> bool {
        matches!(self.0, Held::Kernel { .. })
    }

    /// Dials a leg, where both are dialled; does nothing for other pinholes, nor a second time.
    pub fn dial(&self, side: Side) {
        if let Held::Relay { orders, .. } = &self.0 {
            orders.order(|orders| orders.dial(side));
        }
    }
}

impl fmt::Debug for PinholeGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Held::Relay { _ports, .. } => f.debug_struct("PinholeGuard").field("ports", _ports).finish_non_exhaustive(),
            Held::Kernel { guard } => f.debug_tuple("PinholeGuard").field(guard).finish(),
        }
    }
}
