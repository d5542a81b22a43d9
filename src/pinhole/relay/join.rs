//! Making both legs of a pinhole stand.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::addr::Side;
use crate::net::{dial_prepared, prepare_data, proxy_header, reset_on_close};
use crate::pinhole::Shared;
use crate::pinhole::orders::Ordered;
use crate::pinhole::ports::{Arrival, Arrived};
use crate::session::Introduction;

/// How one leg comes to stand.
pub(in crate::pinhole) enum Approach {
    /// The peer connects to us.
    Arrives(Arrival),
    /// We have connected to the peer.
    Stands(Arrived),
    /// We connect to the peer.
    Dialled { to: SocketAddr, from: (IpAddr, Option<u16>), transparent: bool, introduction: Option<Introduction> },
}

/// Why two legs were not joined.
pub(super) enum NotJoined {
    Closed,
    NotReached(Side, io::ErrorKind),
    /// The server could not be reached, and nobody has been told of a port.
    ServerClosed(io::ErrorKind),
    /// The client had nothing to get, and was told so.
    Empty,
}

/// Makes both legs stand. Whatever stands already is reset when the other one fails.
pub(super) async fn join(
    client: Approach,
    server: Approach,
    orders: &Ordered,
    shared: &Shared,
) -> Result<(TcpStream, TcpStream, SocketAddr), NotJoined> {
    let client_dialled = matches!(client, Approach::Dialled { .. });
    let server_dialled = matches!(server, Approach::Dialled { .. } | Approach::Stands(_));
    let (client, server) = match (client_dialled, server_dialled) {
        // The leg that is dialled waits for the other: without a peer there is nobody to dial for.
        (true, false) => {
            let server = stand(server, Side::Server, shared).await?;
            (stand(client, Side::Client, shared).await?, server)
        }
        (false, true) => {
            let client = stand(client, Side::Client, shared).await?;
            let server = stand(server.on_behalf_of(&client), Side::Server, shared).await?;
            (client, server)
        }
        (true, true) => tokio::try_join!(
            stand_when(orders, client, Side::Client, shared),
            stand_when(orders, server, Side::Server, shared)
        )?,
        (false, false) => {
            meet(stand(client, Side::Client, shared), stand(server, Side::Server, shared), orders).await?
        }
    };
    let peer = if client_dialled && !server_dialled { server.from } else { client.from };
    Ok((client.stream, server.stream, peer))
}

impl Approach {
    /// Connects to the server, where that is for us to do.
    pub(super) async fn reach(self, shared: &Shared) -> Result<Self, NotJoined> {
        match stand(self, Side::Server, shared).await {
            Ok(arrived) => Ok(Self::Stands(arrived)),
            Err(NotJoined::NotReached(_, error)) => Err(NotJoined::ServerClosed(error)),
            Err(other) => Err(other),
        }
    }

    /// The server is told of the connection that has come, rather than of the control connection.
    fn on_behalf_of(mut self, client: &Arrived) -> Self {
        if let Self::Dialled { introduction: Some(introduction), .. } = &mut self {
            introduction.client = client.from;
            match client.meant {
                Some(front) => introduction.front = front,
                None => introduction.front.set_port(client.port()),
            }
        }
        self
    }
}

/// Waits for both sides, in whichever order they come; for the client alone once the server will not.
async fn meet(
    client: impl Future<Output = Result<Arrived, NotJoined>>,
    server: impl Future<Output = Result<Arrived, NotJoined>>,
    orders: &Ordered,
) -> Result<(Arrived, Arrived), NotJoined> {
    let (mut client, mut server) = (pin!(client), pin!(server));
    let mut came = None;
    tokio::select! {
        biased;
        server = &mut server => return Ok((match came { Some(client) => client, None => client.await? }, server?)),
        true = orders.clone().wait(|orders| orders.finish) => {}
        first = async {
            came = Some(client.as_mut().await?);
            std::future::pending::<Result<(), NotJoined>>().await
        } => first?,
    }
    let client = match came {
        Some(client) => client,
        None => client.await?,
    };
    // A client that is gone already needs no end.
    let _ = reset_on_close(&client.stream, false);
    Err(NotJoined::Empty)
}

async fn stand_when(orders: &Ordered, approach: Approach, side: Side, shared: &Shared) -> Result<Arrived, NotJoined> {
    if !orders.clone().wait(|orders| orders.dials(side)).await {
        return Err(NotJoined::Closed);
    }
    stand(approach, side, shared).await
}

async fn stand(approach: Approach, side: Side, shared: &Shared) -> Result<Arrived, NotJoined> {
    match approach {
        Approach::Stands(arrived) => Ok(arrived),
        Approach::Arrives(arrival) => arrival.await.map_err(|_| NotJoined::Closed),
        Approach::Dialled { to, from, transparent, introduction } => {
            let dialled = async {
                // Nothing but an orderly end is to look like one.
                let resets = |socket: &_| reset_on_close(socket, true).and_then(|()| prepare_data(socket));
                let mut stream = dial_prepared(to, Some(from), transparent, shared.connect_timeout, resets).await?;
                if let Some(Introduction { version, client, front }) = introduction {
                    // It is the first to be sent, so there is room for it.
                    stream.write_all(&proxy_header::write(version, client, front)).await?;
                }
                Ok::<_, io::Error>(stream)
            };
            match dialled.await {
                Ok(stream) => Ok(Arrived { stream, from: to, meant: None }),
                Err(error) => Err(NotJoined::NotReached(side, error.kind())),
            }
        }
    }
}
