//! From a client's connection to its server's: where it leads, whether that is allowed, and who stands for whom.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use socket2::SockRef;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::origin::{self, Origin};
use super::peer::Peer;
use super::unreachable::{self, Unreachable};
use super::{Allowed, Context, Phase, asker, explicit, health};
use crate::addr::{BackAddr, ClientAddr, Ends, FrontAddr, OriginalDst, ServerAddr, embedded_v4, is_dialable, link_of};
use crate::limits::{Arrival, HealthCheck, Place, TurnedAway};
use crate::net::{self, Accepted, Dialled, Shortage, proxy_header};
use crate::pinhole::{Bindings, LegBinding};
use crate::policy::{Advertised, Interception, Listener, Policy, Source, Stand};
use crate::report::{self, SessionLog};
use crate::session::Called;

/// How long a client that is turned away has to take its last line.
const FAREWELL: Duration = Duration::from_secs(3);

/// Both control connections, and what is fixed by them.
pub(super) struct Routed {
    pub(super) client: Peer,
    pub(super) server: TcpStream,
    pub(super) ends: Ends,
    pub(super) client_is_gate: bool,
    pub(super) announced: Option<IpAddr>,
    pub(super) bindings: Bindings,
    pub(super) allowed: Allowed,
    pub(super) policy: Arc<Policy>,
    pub(super) called: Option<Called>,
    /// How much of its time to log in the client has taken to name its server.
    pub(super) waited: Duration,
    /// Both connections, by which a loop is known however late its other end looks.
    pub(super) connections: (Accepted, Dialled),
    pub(super) place: Place,
    pub(super) log: SessionLog,
}

/// A client that came to a listener, and has no server yet.
pub(super) struct Caller<'a> {
    pub(super) context: &'a Context,
    pub(super) listener: &'a Listener,
    pub(super) peer: Peer,
    pub(super) origin: Origin,
    pub(super) place: Place,
    pub(super) accepted: Accepted,
    pub(super) log: SessionLog,
}

/// A connection to a server.
pub(super) struct Connected {
    pub(super) stream: TcpStream,
    /// Where the server sees it come from.
    back: BackAddr,
    /// Where it comes from before this machine translates that.
    local: SocketAddr,
    dialled: Dialled,
}

/// Where a client's connection leads.
pub(super) struct Destination {
    pub(super) front: FrontAddr,
    pub(super) server: ServerAddr,
    /// The address of this machine that the client's packets arrive at, or the front where they need none.
    pub(super) local: IpAddr,
}

/// What a client that was accepted counts as.
#[derive(Debug)]
pub enum Standing {
    /// A session of its address.
    Session(Place),
    /// A session, and whose will be known when its PROXY header has come.
    Unknown(Arrival),
    /// No session: a host that only looks whether the gate is up.
    Check(HealthCheck),
}

/// Takes note of a client that was just accepted; `None` where it is turned away. It has heard why then, for nothing is
/// waited for here: a flood is refused before it costs more than this.
pub fn receive(context: &Context, listener: &Listener, client: &TcpStream, from: SocketAddr) -> Option<Standing> {
    let limits = context.orders.borrow().policy.limits;
    let from = ClientAddr::new(from);
    let is_brought = listener.proxies.contains(from.ip());
    if !is_brought && listener.is_checked_by(from) {
        return begin_check(context, listener, client, from).map(Standing::Check);
    }
    let now = Instant::now();
    let standing = context.counts.arrive(&limits, now).and_then(|arrival| {
        if is_brought {
            return Ok(Standing::Unknown(arrival));
        }
        arrival.admit(&limits, from, now).map(Standing::Session)
    });
    standing.map_err(|refused| one_too_many(listener, client, from, &refused)).ok()
}

/// Takes note of a health check; one that there is no room for has heard so.
fn begin_check(context: &Context, listener: &Listener, client: &TcpStream, from: ClientAddr) -> Option<HealthCheck> {
    health::begin(context, listener, from.socket()).map_err(|reply| say_once(client, &reply)).ok()
}

/// Turns away a client that a limit keeps out. Nobody waits for it: what is sent now is all that it hears.
fn one_too_many(listener: &Listener, client: &TcpStream, from: ClientAddr, refused: &TurnedAway) {
    SessionLog::new(from, Instant::now()).turned_away(&listener.name, refused);
    say_once(client, refused.reached.limit.reply());
}

/// Turns away a client that was just accepted, because the gate lacks something.
pub fn turn_away(listener: &Listener, client: &TcpStream, from: SocketAddr, shortage: Shortage) {
    report::too_busy(&listener.name, from, shortage.name(), shortage.advice());
    say_once(client, &unreachable::too_busy(shortage.name()));
}

/// Sends a line to a client that has just come, as far as it can be sent now, whatever the runtime knows by then.
fn say_once(client: &TcpStream, line: &str) {
    // Who does not take it does not hear it.
    let _ = SockRef::from(client).send(format!("{line}\r\n").as_bytes());
}

/// Connects a client to its server; where that cannot be, the client hears why and the connection is closed.
pub(super) async fn to_server(
    context: &Context,
    listener: &Listener,
    client: TcpStream,
    standing: Standing,
) -> Option<Routed> {
    let own = Origin::by_connection(&client)?;
    let Ok(accepted) = context.loops.accepted(&client, own.client.socket(), own.local) else {
        SessionLog::new(own.client, Instant::now()).is_loop(&listener.name, &"the client");
        say_once(&client, unreachable::LOOP);
        return None;
    };
    let mut orders = context.orders.clone();
    let origin = tokio::select! {
        biased;
        // A PROXY header that does not come must not put off a shutdown.
        _ = orders.wait_for(|orders| orders.phase != Phase::Serving) => None,
        origin = origin::of(listener, &client, own) => origin,
    }?;
    let destination = destination(listener, &client, &origin);
    let place = match standing {
        Standing::Session(place) => place,
        Standing::Check(room) => return check(context, client, room).await,
        // A balancer that asks for itself, or in the name of one that does.
        Standing::Unknown(_) if listener.is_checked_by(origin.client) => {
            let room = begin_check(context, listener, &client, origin.client)?;
            return check(context, client, room).await;
        }
        Standing::Unknown(arrival) => {
            let limits = context.orders.borrow().policy.limits;
            let admitted = arrival.admit(&limits, origin.client, Instant::now());
            admitted.map_err(|refused| one_too_many(listener, &client, origin.client, &refused)).ok()?
        }
    };
    let peer = Peer::client(client);
    let log = SessionLog::new(origin.client, Instant::now());
    let caller = Caller { context, listener, peer, origin, place, accepted, log };
    match destination {
        Ok(Some(destination)) => to_known_server(caller, destination).await,
        // Boxed: it is several times as large as what other clients need, and thousands may come at once.
        Ok(None) => Box::pin(explicit::to_named_server(caller)).await,
        Err((reason, detail)) => {
            caller.log.no_destination(&listener.name, reason, &detail);
            caller.turn_away("421 This connection leads nowhere.").await;
            None
        }
    }
}

/// Answers a health check, which has no server.
async fn check(context: &Context, client: TcpStream, room: HealthCheck) -> Option<Routed> {
    // Boxed: few clients need it.
    Box::pin(health::answer(context, client, room)).await;
    None
}

async fn to_known_server(mut caller: Caller<'_>, destination: Destination) -> Option<Routed> {
    let policy = Arc::clone(&caller.context.orders.borrow().policy);
    let server = destination.server;
    let allowed = match Allowed::by(policy.decide(&asker(caller.listener, caller.origin.client, server))) {
        Ok(allowed) => allowed,
        Err(denied) => {
            caller.log.denied(&caller.listener.name, &server, &denied);
            caller.turn_away("421 The rules do not allow this session.").await;
            return None;
        }
    };
    if let Err(refused) = caller.enter(&allowed) {
        caller.turn_away(refused.reached.limit.reply()).await;
        return None;
    }
    match caller.dial(server, destination.front, &allowed, policy.timeouts.connect).await {
        Ok(server) => caller.lead(server, &destination, allowed, policy, None, Duration::ZERO).await,
        Err(why) => {
            why.log(&caller, &server);
            caller.turn_away(&why.reply()).await;
            None
        }
    }
}

/// Where the client meant to go, `None` where it has still to say; or the name of the reason why that is nowhere, with
/// the address.
fn destination(
    listener: &Listener,
    client: &TcpStream,
    origin: &Origin,
) -> Result<Option<Destination>, (&'static str, String)> {
    let local = origin.local;
    match listener.stand {
        Stand::Explicit => Ok(None),
        Stand::Reverse { server } => Ok(Some(Destination { front: origin.front, server, local: local.ip() })),
        Stand::Transparent { source: Source::Client, .. } if link_of(origin.client.socket()) != 0 => {
            Err(("client_is_link_local", origin.client.to_string()))
        }
        Stand::Transparent { interception, .. } => {
            let original = net::original_dst(client, interception)
                .map_err(|error| ("not_intercepted", format!("no original destination: {error}")))?;
            check_original(original)?;
            let (front, server) = (FrontAddr::new(original.socket()), ServerAddr::new(original.socket()));
            let local = match interception {
                Interception::Tproxy => front.ip(),
                Interception::Redirect => local.ip(),
            };
            Ok(Some(Destination { front, server, local }))
        }
    }
}

/// The gate must not dial itself, nor what is no host of the network, on a client's word.
fn check_original(original: OriginalDst) -> Result<(), (&'static str, String)> {
    if !is_dialable(original.ip()) {
        return Err(("destination_not_dialable", original.to_string()));
    }
    if net::leads_here(original.ip()) {
        return Err(("destination_is_gate", original.to_string()));
    }
    Ok(())
}

/// Whether an address is this machine's, or that of a NAT in front of it which would lead back here.
pub(super) fn is_gate(context: &Context, policy: &Policy, ip: IpAddr) -> bool {
    if embedded_v4(ip).any(|ip| is_gate(context, policy, ip.into())) {
        return true;
    }
    let mut advertised = policy.listeners.iter().flat_map(|listener| &listener.advertise);
    context.machine.locals.has(ip)
        || advertised.any(|advertise| advertise.advertised == Advertised::Address(ip))
        || context.names.is_advertised(ip)
}

impl Caller<'_> {
    /// Takes a place under the rule that holds, where the user does not decide.
    pub(super) fn enter(&mut self, allowed: &Allowed) -> Result<(), TurnedAway> {
        let entered = self.place.enter(&allowed.rule, Instant::now());
        entered.inspect_err(|refused| self.log.turned_away(&self.listener.name, refused))
    }

    /// Connects to a server, with the client's address where the listener says so; `front` is what the client has
    /// connected to, as far as it knows.
    pub(super) async fn dial(
        &self,
        server: ServerAddr,
        front: FrontAddr,
        allowed: &Allowed,
        timeout: Duration,
    ) -> Result<Connected, Unreachable> {
        let as_client = matches!(self.listener.stand, Stand::Transparent { source: Source::Client, .. });
        let from = as_client.then(|| (self.origin.client.ip(), None));
        let mut stream = net::dial(server.socket(), from, as_client, timeout).await?;
        let local = stream.local_addr()?;
        let dialled = self.context.loops.dialled(local, server.socket())?;
        net::prepare_control(&stream)?;
        if let Some(version) = allowed.send_proxy() {
            // It is the first to be sent, so there is room for it.
            stream.write_all(&proxy_header::write(version, self.origin.client.socket(), front.socket())).await?;
        }
        Ok(Connected { stream, back: self.back(local, server, as_client), local, dialled })
    }

    /// The address that the server sees a connection of the gate come from. An address that it could be told, but that leads nowhere, is
    /// no better than the one that it does not know.
    fn back(&self, local: SocketAddr, server: ServerAddr, as_client: bool) -> BackAddr {
        let tracked = self.context.machine.translations.look(local, server.socket());
        let seen = tracked.map_or(local, |tracked| tracked.seen_from);
        if seen.ip() == local.ip() || as_client || self.context.machine.locals.has(seen.ip()) {
            return BackAddr::new(seen);
        }
        report::translated(&self.listener.name, local.ip(), seen.ip());
        BackAddr::new(local)
    }

    /// The server is connected to: the session can begin.
    pub(super) async fn lead(
        mut self,
        Connected { stream: server, back, local, dialled }: Connected,
        destination: &Destination,
        allowed: Allowed,
        policy: Arc<Policy>,
        called: Option<Called>,
        waited: Duration,
    ) -> Option<Routed> {
        self.log.started(&self.listener.name, &destination.server, &allowed.rule.name, self.origin.via);
        let ends = Ends { client: self.origin.client, front: destination.front, back, server: destination.server };
        let announced = self.announced(destination.front).await;
        let bindings = self.bindings(destination, local);
        let client_is_gate = is_gate(self.context, &policy, ends.client.ip());
        let Self { peer: client, place, log, accepted, .. } = self;
        let connections = (accepted, dialled);
        Some(Routed {
            client,
            server,
            ends,
            client_is_gate,
            announced,
            bindings,
            allowed,
            policy,
            called,
            waited,
            connections,
            place,
            log,
        })
    }

    /// Which addresses of the session are this machine's own, and which it stands for; `back` is where the connection to
    /// the server leaves from.
    fn bindings(&self, destination: &Destination, back: SocketAddr) -> Bindings {
        let (transparent, as_client) = match self.listener.stand {
            Stand::Reverse { .. } | Stand::Explicit => (false, false),
            // A redirected client comes to one of the gate's addresses; only dialling it in the server's name takes privilege.
            Stand::Transparent { interception, source } => (
                interception == Interception::Tproxy || self.context.machine.may_be_transparent,
                source == Source::Client,
            ),
        };
        let client = LegBinding { local: destination.local, link: self.origin.link(), transparent };
        let link = link_of(back).max(link_of(destination.server.socket()));
        let server = LegBinding { local: back.ip(), link, transparent: as_client };
        let proxies = self.origin.via.map(|_| self.listener.proxies.clone());
        Bindings { client, server, proxies }
    }

    /// What the client is told in 227; `None` where nobody knows.
    async fn announced(&self, front: FrontAddr) -> Option<IpAddr> {
        match self.listener.advertised_to(self.origin.client) {
            None => Some(front.ip()),
            Some(Advertised::Address(ip)) => Some(*ip),
            Some(Advertised::Name(name)) => {
                let found = self.context.names.advertised(name, front.ip().is_ipv6()).await;
                found.inspect_err(|error| self.log.no_address(&self.listener.name, error)).ok()
            }
        }
    }

    /// Says why there will be no session.
    pub(super) async fn turn_away(mut self, reply: &str) {
        self.peer.queue(reply.as_bytes());
        // A client that does not take it is closed.
        let _too_slow = tokio::time::timeout(FAREWELL, self.peer.finish()).await;
    }
}
