//! Who a client is: the other end of its connection, or whom a balancer's PROXY header names.

use std::net::{IpAddr, SocketAddr};

use tokio::net::TcpStream;

use crate::addr::{ClientAddr, FrontAddr, canonical, is_dialable, link_of};
use crate::net;
use crate::net::proxy_header::{self, BadHeader, HeaderFault, ProxyHeader};
use crate::policy::Listener;
use crate::policy::ProxyVersion;
use crate::report;
use crate::session::HeaderTrouble;

/// Where a control connection comes from and went to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Origin {
    pub(super) client: ClientAddr,
    /// What the client connected to, as far as its own connection tells.
    pub(super) front: FrontAddr,
    /// The address and port of this machine that the connection arrived at.
    pub(super) local: SocketAddr,
    /// The balancer that brought it.
    pub(super) via: Option<SocketAddr>,
}

impl Origin {
    /// What the connection itself tells; `None` where it is gone.
    pub(super) fn by_connection(stream: &TcpStream) -> Option<Self> {
        let (peer, local) = (canonical(stream.peer_addr().ok()?), canonical(stream.local_addr().ok()?));
        Some(Self { client: ClientAddr::new(peer), front: FrontAddr::new(local), local, via: None })
    }
}

impl Origin {
    /// The link that the client is on, where one of the addresses by which it came is link-local.
    pub(super) fn link(&self) -> u32 {
        let peer = self.via.unwrap_or_else(|| self.client.socket());
        link_of(self.local).max(link_of(peer))
    }
}

/// Finds out who the client is, given what its connection tells. A connection without the header that it must begin with
/// is closed, and nothing is said to it.
pub(super) async fn of(listener: &Listener, stream: &TcpStream, own: Origin) -> Option<Origin> {
    let (peer, local) = (own.client.socket(), own.local);
    if !listener.proxies.contains(peer.ip()) {
        return Some(own);
    }
    let via = Some(peer);
    let origin = match proxy_header::take(stream).await {
        Ok(ProxyHeader::Own) => Ok(Origin { via, ..own }),
        Ok(ProxyHeader::Forwarded { source, destination }) if !may_be_client(source.ip(), peer.ip()) => {
            let said = proxy_header::write(ProxyVersion::V1, source, destination);
            Err(BadHeader { fault: HeaderFault::NoHost, seen: said.into() })
        }
        Ok(ProxyHeader::Forwarded { source, destination }) => {
            Ok(Origin { client: ClientAddr::new(source), front: FrontAddr::new(destination), local, via })
        }
        Err(fault) => Err(fault),
    };
    origin
        .map_err(|BadHeader { fault, seen }| {
            let seen = Some(&*seen).filter(|_| fault != HeaderFault::Nothing);
            report::bad_proxy_header(&listener.name, peer, trouble(fault), seen);
        })
        .ok()
}

/// What is told of a fault.
pub(super) const fn trouble(fault: HeaderFault) -> HeaderTrouble {
    HeaderTrouble { reason: fault.name(), advice: fault.advice() }
}

/// Active mode dials the client. A balancer elsewhere has no clients that are this machine, or on its links alone.
fn may_be_client(client: IpAddr, balancer: IpAddr) -> bool {
    (is_dialable(client) && !net::leads_here(client)) || net::is_local(balancer)
}
