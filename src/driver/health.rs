//! Health checks: connections that only ask whether the gate answers. It answers them itself, so that they cost no session
//! at a server.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;

use super::peer::{Heard, Peer};
use super::unreachable::too_busy;
use super::{Context, FAREWELL, Phase};
use crate::ftp::command::{Command, Verb};
use crate::limits::HealthCheck;
use crate::policy::Listener;
use crate::report;
use crate::session::CloseReason;

/// How long one may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// How many commands of one are answered.
const MAX_COMMANDS: u8 = 8;
/// Why one was turned away.
const TOO_MANY: &str = "too_many_health_checks";
const ADVICE: &str = "the hosts of `health_checks_from` connect more often than they are answered; does one leave its \
    connections open?";

const GREETING: &[u8] = b"220 The FTP gate is up.";
const NO_SESSION: &str = "421 Health checks get no session: QUIT and NOOP alone are answered.";
const LATE: &str = "421 Timeout.";

/// Takes note of a health check that has come; one that there is no room for is told so.
pub(super) fn begin(context: &Context, listener: &Listener, from: SocketAddr) -> Result<HealthCheck, String> {
    report::health_check(&listener.name, from);
    context.counts.check().ok_or_else(|| {
        report::too_busy(&listener.name, from, TOO_MANY, ADVICE);
        too_busy(TOO_MANY)
    })
}

/// Greets the checker, answers what it may ask, and closes. The gate is not up any more as soon as it drains.
pub(super) async fn answer(context: &Context, client: TcpStream, _room: HealthCheck) {
    let mut peer = Peer::client(client);
    let mut orders = context.orders.clone();
    let last = tokio::select! {
        biased;
        _ = orders.wait_for(|orders| orders.phase != Phase::Serving) => Some(CloseReason::Shutdown.reply()),
        last = tokio::time::timeout(PATIENCE, talk(&mut peer)) => last.unwrap_or(Some(LATE)),
    };
    if let Some(last) = last {
        peer.queue(last.as_bytes());
        // One that does not take it is closed.
        let _too_slow = tokio::time::timeout(FAREWELL, peer.finish()).await;
    }
}

/// What is to be said last; `None` where the checker is gone.
async fn talk(peer: &mut Peer) -> Option<&'static str> {
    peer.queue(GREETING);
    for _ in 0..MAX_COMMANDS {
        let line = loop {
            match peer.next_line() {
                Some(line) => break line.ok().map(|line| line.bytes),
                None => match peer.hear(true).await {
                    Heard::Progress => {}
                    Heard::Closed | Heard::Lost => return None,
                },
            }
        };
        match line.as_deref().map(|line| Command::parse(line).map(|command| command.verb)) {
            Some(Ok(Verb::Quit)) => return Some("221 Goodbye."),
            Some(Ok(Verb::Noop)) => peer.queue(b"200 Nothing done."),
            Some(_) | None => return Some(NO_SESSION),
        }
    }
    Some(NO_SESSION)
}
