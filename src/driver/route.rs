//! From a client's connection to its server's: where it leads, whether that is allowed, and who stands for whom.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::Context;
use super::origin::{self, Origin};
use super::peer::Peer;
use crate::addr::{BackAddr, ClientAddr, Ends, FrontAddr, OriginalDst, ServerAddr, is_dialable};
use crate::ftp::line::LineReader;
use crate::net::{self, proxy_header};
use crate::pinhole::{Bindings, LegBinding};
use crate::policy::{Decision, Interception, Listener, Policy, Rule, Source, Stand};
use crate::report::SessionLog;

/// How long a client that is turned away has to take its 421.
const FAREWELL: Duration = Duration::from_secs(3);

/// Both control connections, and what is fixed by them.
pub(super) struct Routed {
    pub(super) client: TcpStream,
    pub(super) server: TcpStream,
    pub(super) ends: Ends,
    pub(super) announced: IpAddr,
    pub(super) bindings: Bindings,
    pub(super) rule: Arc<Rule>,
    pub(super) policy: Arc<Policy>,
    pub(super) log: SessionLog,
}

/// Where a client's connection leads.
struct Destination {
    front: FrontAddr,
    server: ServerAddr,
    /// The address of this machine that the client's packets arrive at, or the front where they need none.
    local: IpAddr,
}

/// Connects a client to its server; where that cannot be, the client hears why and the connection is closed.
pub(super) async fn to_server(context: &Context, listener: &Listener, client: TcpStream) -> Option<Routed> {
    let origin = origin::of(listener, &client).await?;
    let address = origin.client;
    let log = SessionLog::new(address, Instant::now());
    let policy = Arc::clone(&context.orders.borrow().policy);
    if net::prepare_control(&client).is_err() {
        return None;
    }
    let destination = match destination(listener, &client, &origin) {
        Ok(destination) => destination,
        Err((reason, detail)) => {
            log.no_destination(&listener.name, reason, &detail);
            turn_away(client, "421 This connection leads nowhere.").await;
            return None;
        }
    };
    let server = destination.server;
    let rule = match policy.decide(address, server) {
        Decision::Allow(rule) => rule,
        Decision::Deny(denied) => {
            log.denied(&listener.name, &server, &denied);
            turn_away(client, "421 The rules do not allow this session.").await;
            return None;
        }
    };
    match connect(listener, address, server, policy.timeouts.connect, introduction(&rule, &origin)).await {
        Ok(stream) => {
            log.started(&listener.name, &server, &rule.name, origin.via);
            let back = BackAddr::new(stream.local_addr().ok()?);
            let ends = Ends { client: address, front: destination.front, back, server };
            let announced = listener.advertise.unwrap_or_else(|| destination.front.ip());
            let proxies = origin.via.map(|_| listener.proxies.clone());
            let bindings = Bindings { proxies, ..bindings(context, listener, &ends, destination.local) };
            Some(Routed { client, server: stream, ends, announced, bindings, rule, policy, log })
        }
        Err(error) => {
            log.no_server(&listener.name, &server, &error);
            turn_away(client, &format!("421 The server cannot be reached: {}.", error.kind())).await;
            None
        }
    }
}

/// Where the client meant to go; or the name of the reason why that is nowhere, with the address.
fn destination(
    listener: &Listener,
    client: &TcpStream,
    origin: &Origin,
) -> Result<Destination, (&'static str, String)> {
    let local = origin.local;
    match listener.stand {
        Stand::Reverse { server } => Ok(Destination { front: origin.front, server, local: local.ip() }),
        Stand::Transparent { interception, .. } => {
            let original = net::original_dst(client, interception)
                .map_err(|error| ("not_intercepted", format!("no original destination: {error}")))?;
            check_original(original)?;
            let (front, server) = (FrontAddr::new(original.socket()), ServerAddr::new(original.socket()));
            let local = match interception {
                Interception::Tproxy => front.ip(),
                Interception::Redirect => local.ip(),
            };
            Ok(Destination { front, server, local })
        }
    }
}

/// The gate must not dial itself, nor what is no host of the network, on a client's word.
fn check_original(original: OriginalDst) -> Result<(), (&'static str, String)> {
    if !is_dialable(original.ip()) {
        return Err(("destination_not_dialable", original.to_string()));
    }
    if net::is_local(original.ip()) {
        return Err(("destination_is_gate", original.to_string()));
    }
    Ok(())
}

async fn connect(
    listener: &Listener,
    client: ClientAddr,
    server: ServerAddr,
    timeout: Duration,
    introduction: Option<Vec<u8>>,
) -> std::io::Result<TcpStream> {
    let as_client = matches!(listener.stand, Stand::Transparent { source: Source::Client, .. });
    let from = as_client.then(|| (client.ip(), None));
    let mut stream = net::dial(server.socket(), from, as_client, timeout).await?;
    net::prepare_control(&stream)?;
    if let Some(header) = introduction {
        // It is the first to be sent, so there is room for it.
        stream.write_all(&header).await?;
    }
    Ok(stream)
}

/// The PROXY header that the rule wants the server to be sent.
fn introduction(rule: &Rule, origin: &Origin) -> Option<Vec<u8>> {
    let (client, front) = (origin.client.socket(), origin.front.socket());
    rule.send_proxy.map(|version| proxy_header::write(version, client, front))
}

/// Which addresses of the session are this machine's own, and which it stands for.
fn bindings(context: &Context, listener: &Listener, ends: &Ends, local: IpAddr) -> Bindings {
    let (client, as_client) = match listener.stand {
        Stand::Reverse { .. } => (LegBinding { listen_at: local, transparent: false }, false),
        Stand::Transparent { interception, source } => {
            // A redirected client comes to an address of ours; only dialling it in the server's name takes privilege.
            let transparent = interception == Interception::Tproxy || context.may_be_transparent;
            (LegBinding { listen_at: local, transparent }, source == Source::Client)
        }
    };
    let server = LegBinding { listen_at: ends.back.ip(), transparent: as_client };
    Bindings { client, server, proxies: None }
}

/// Says why there will be no session.
async fn turn_away(client: TcpStream, reply: &str) {
    let mut client = Peer::new(client, LineReader::commands());
    client.queue(reply.as_bytes());
    // A client that does not take it is closed.
    let _too_slow = tokio::time::timeout(FAREWELL, client.finish()).await;
}
