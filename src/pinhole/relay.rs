//! One pinhole from its opening to its end: both legs are made to stand, then joined.

mod join;
mod transfer;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;

use self::join::{NotJoined, join};
use self::transfer::{Told, transfer};
use super::orders::Ordered;
use super::ports::Moving;
use super::{DataEvent, Shared};
use crate::limits::Terms;
use crate::session::{DataEnd, HowEnded, PinholeId};
pub(super) use join::Approach;

/// How long a client whose transfer reached a limit has to hear of it, before its data connection is reset.
const HEARS_WHY: Duration = Duration::from_secs(1);

/// What one pinhole needs.
pub(super) struct Job {
    pub(super) id: PinholeId,
    pub(super) client: Approach,
    pub(super) server: Approach,
    /// The server is to be connected to before anybody is told of these ports.
    pub(super) tells_ports: Option<[Option<u16>; 2]>,
    pub(super) orders: Ordered,
    pub(super) terms: Terms,
    pub(super) events: UnboundedSender<DataEvent>,
    pub(super) shared: Arc<Shared>,
    /// The gate's ports that its peers come to: others are taken before them until it is over.
    pub(super) _moving: Vec<Moving>,
}

/// Serves one pinhole. `closed` fails when its guard is gone.
pub(super) async fn run(job: Job, mut closed: oneshot::Receiver<Infallible>) {
    let Job { id, client, mut server, tells_ports, orders, terms, events, shared, _moving } = job;
    let joined = tokio::select! {
        biased;
        _ = &mut closed => return,
        joined = async {
            if let Some([client_port, server_port]) = tells_ports {
                server = server.reach(&shared).await?;
                let _ = events.send(DataEvent::Opened { id, client_port, server_port });
            }
            join(client, server, &orders, &shared).await
        } => joined,
    };
    let end = match joined {
        Ok((client, server, peer)) => {
            // Where nobody listens any more, the guard goes too.
            let _ = events.send(DataEvent::Started { id, peer });
            let told = Told { id, events: &events };
            let end = transfer(&client, &server, &terms, &shared.pipes, &told, &orders, closed).await;
            if matches!(end.how, HowEnded::Limited(_)) {
                // It is known before the server can say that it was cut, and the client hears why before it is cut: else
                // many a client takes it for a bad line, and tries again.
                let _ = events.send(DataEvent::Ended { id, end });
                drop(server);
                tokio::time::sleep(HEARS_WHY).await;
                return;
            }
            end
        }
        Err(NotJoined::ServerClosed(error)) => {
            let _ = events.send(DataEvent::ServerClosed { id, error });
            return;
        }
        Err(NotJoined::NotReached(side, error)) => {
            DataEnd { to_server: 0, to_client: 0, is_estimate: false, how: HowEnded::NotReached { side, error } }
        }
        Err(NotJoined::Empty) => DataEnd { to_server: 0, to_client: 0, is_estimate: false, how: HowEnded::Complete },
        Err(NotJoined::Closed) => return,
    };
    let _ = events.send(DataEvent::Ended { id, end });
}
