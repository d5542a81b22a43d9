//! One pinhole from its opening to its end: both legs are made to stand, then joined.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU64;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::TcpStream;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;

use super::pipes::PipePool;
use super::ports::{Arrival, Arrived};
use super::splice::{Broken, Pumped, WayTerms, pass_end_to, pump};
use super::{DataEvent, Shared};
use crate::addr::Side;
use crate::limits::{Meter, Pace, Terms};
use crate::net::{dial, keep_alive, prepare_data, proxy_header, reset_on_close};
use crate::policy::Limit;
use crate::session::{DataEnd, HowEnded, Introduction, PinholeId};

/// How long a client whose transfer reached a limit has to hear of it, before its data connection is reset.
const HEARS_WHY: Duration = Duration::from_secs(1);
/// How long a transfer goes on before it matters whether its peers are alive: most end sooner, and are never probed.
const LASTS: Duration = Duration::from_secs(1);
/// How often it is looked within the time of a stall whether something has moved.
const STALL_LOOKS: u32 = 8;

/// How one leg comes to stand.
pub(super) enum Approach {
    /// The peer connects to us.
    Arrives(Arrival),
    /// We connect to the peer.
    Dialled { to: SocketAddr, from: (IpAddr, Option<u16>), transparent: bool, introduction: Option<Introduction> },
}

/// What one pinhole needs.
pub(super) struct Job {
    pub(super) id: PinholeId,
    pub(super) client: Approach,
    pub(super) server: Approach,
    /// Where both legs are dialled: come when the client's is to be, and the server's.
    pub(super) started: [oneshot::Receiver<()>; 2],
    /// Where both sides are waited for: comes when the server will not.
    pub(super) finished: oneshot::Receiver<()>,
    pub(super) terms: Terms,
    pub(super) events: UnboundedSender<DataEvent>,
    pub(super) shared: Arc<Shared>,
}

/// Why two legs were not joined.
enum NotJoined {
    Closed,
    NotReached(Side, io::ErrorKind),
    /// The client had nothing to get, and was told so.
    Empty,
}

/// Serves one pinhole. `closed` fails when its guard is gone.
pub(super) async fn run(job: Job, mut closed: oneshot::Receiver<Infallible>) {
    let Job { id, client, server, started, finished, terms, events, shared } = job;
    let joined = tokio::select! {
        biased;
        _ = &mut closed => return,
        joined = join(client, server, started, finished, &shared) => joined,
    };
    let end = match joined {
        Ok((client, server, peer)) => {
            // Where nobody listens any more, the guard goes too.
            let _ = events.send(DataEvent::Started { id, peer });
            let end = transfer(&client, &server, &terms, &shared.pipes, &Told { id, events: &events }, closed).await;
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
        Err(NotJoined::NotReached(side, error)) => {
            DataEnd { to_server: 0, to_client: 0, is_estimate: false, how: HowEnded::NotReached { side, error } }
        }
        Err(NotJoined::Empty) => DataEnd { to_server: 0, to_client: 0, is_estimate: false, how: HowEnded::Complete },
        Err(NotJoined::Closed) => return,
    };
    let _ = events.send(DataEvent::Ended { id, end });
}

/// Makes both legs stand. Whatever stands already is reset when the other one fails.
async fn join(
    client: Approach,
    server: Approach,
    [dial_client, dial_server]: [oneshot::Receiver<()>; 2],
    finished: oneshot::Receiver<()>,
    shared: &Shared,
) -> Result<(TcpStream, TcpStream, SocketAddr), NotJoined> {
    let client_dialled = matches!(client, Approach::Dialled { .. });
    let server_dialled = matches!(server, Approach::Dialled { .. });
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
            stand_when(dial_client, client, Side::Client, shared),
            stand_when(dial_server, server, Side::Server, shared)
        )?,
        (false, false) => {
            meet(stand(client, Side::Client, shared), stand(server, Side::Server, shared), finished).await?
        }
    };
    let peer = if client_dialled && !server_dialled { server.from } else { client.from };
    Ok((client.stream, server.stream, peer))
}

impl Approach {
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
    finished: oneshot::Receiver<()>,
) -> Result<(Arrived, Arrived), NotJoined> {
    let (mut client, mut server) = (pin!(client), pin!(server));
    let mut came = None;
    tokio::select! {
        biased;
        server = &mut server => return Ok((match came { Some(client) => client, None => client.await? }, server?)),
        Ok(()) = finished => {}
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

async fn stand_when(
    told: oneshot::Receiver<()>,
    approach: Approach,
    side: Side,
    shared: &Shared,
) -> Result<Arrived, NotJoined> {
    told.await.map_err(|_| NotJoined::Closed)?;
    stand(approach, side, shared).await
}

async fn stand(approach: Approach, side: Side, shared: &Shared) -> Result<Arrived, NotJoined> {
    match approach {
        Approach::Arrives(arrival) => arrival.await.map_err(|_| NotJoined::Closed),
        Approach::Dialled { to, from, transparent, introduction } => {
            let dialled = async {
                let mut stream = dial(to, Some(from), transparent, shared.connect_timeout).await?;
                // Nothing but an orderly end is to look like one.
                reset_on_close(&stream, true)?;
                prepare_data(&stream)?;
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

/// Moves bytes both ways until it is over. The sockets are to be closed then, which is **a reset unless both directions
/// ended in order**.
async fn transfer(
    client: &TcpStream,
    server: &TcpStream,
    terms: &Terms,
    pipes: &PipePool,
    told: &Told<'_>,
    closed: oneshot::Receiver<Infallible>,
) -> DataEnd {
    let (up, down) = (Way::default(), Way::default());
    let (up_terms, down_terms) =
        (told.terms(Limit::Upload, &terms.up, terms.size), told.terms(Limit::Download, &terms.down, terms.size));
    let how = tokio::select! {
        biased;
        _ = closed => HowEnded::Aborted,
        // Both legs are watched by themselves: one that is blocked, or has said its last word, is read by nobody.
        () = cut(client, &up, &down) => HowEnded::CutBy(Side::Client),
        () = cut(server, &down, &up) => HowEnded::CutBy(Side::Server),
        () = stalled(terms.stall, &up, &down) => HowEnded::Limited(Limit::StallTimeout),
        never = keep_alive_once_it_lasts([client, server]) => match never {},
        both = async { tokio::try_join!(
            up.run(client, server, Side::Client, pipes, &up_terms, &down),
            down.run(server, client, Side::Server, pipes, &down_terms, &up),
        ) } => match both {
            Ok(_) => end_in_order([(Side::Client, client, &down), (Side::Server, server, &up)]),
            Err(how) => how,
        },
    };
    DataEnd { to_server: up.pumped.moved(), to_client: down.pumped.moved(), is_estimate: false, how }
}

/// Whom to tell that a transfer is held back.
struct Told<'a> {
    id: PinholeId,
    events: &'a UnboundedSender<DataEvent>,
}

impl Told<'_> {
    /// The terms of one direction; that it is held back by its pace is told once.
    fn terms<'a>(&'a self, limit: Limit, pace: &'a Pace, size: Option<NonZeroU64>) -> WayTerms<'a> {
        let held_back = move |meter: &Meter| {
            let (id, pacer, in_a_second) = (self.id, meter.pacer, meter.in_a_second.get());
            let _ = self.events.send(DataEvent::HeldBack { id, limit, pacer, in_a_second });
        };
        WayTerms::new(pace, size.map_or(u64::MAX, NonZeroU64::get), Box::new(held_back))
    }
}

/// One direction.
#[derive(Default)]
struct Way {
    pumped: Pumped,
    /// Its source has ended it, and the sink was told.
    ended: AtomicBool,
}

impl Way {
    /// Moves bytes until the source ends, and passes the end on; else tells what is over.
    async fn run(
        &self,
        from: &TcpStream,
        to: &TcpStream,
        source: Side,
        pipes: &PipePool,
        terms: &WayTerms<'_>,
        back: &Self,
    ) -> Result<(), HowEnded> {
        let pumped = pump(from, to, pipes, &self.pumped, terms).await;
        // Where both have ended, and nothing went this way, the close that follows says as much.
        let is_last_and_empty = back.ended.load(Ordering::Relaxed) && !self.has_moved();
        match pumped.and_then(|()| if is_last_and_empty { Ok(()) } else { pass_end_to(to, &self.pumped) }) {
            Ok(()) => self.ended.store(true, Ordering::Relaxed),
            Err(Broken::Source) => return Err(HowEnded::CutBy(source)),
            Err(Broken::Sink) => return Err(HowEnded::CutBy(source.other())),
            Err(Broken::TooLarge) => return Err(HowEnded::Limited(Limit::TransferSize)),
        }
        Ok(())
    }

    fn has_moved(&self) -> bool {
        self.pumped.moved() > 0
    }
}

/// Returns when nothing has moved for so long, or a little longer.
async fn stalled(limit: Option<Duration>, up: &Way, down: &Way) {
    let Some(limit) = limit else { return std::future::pending().await };
    let stirs = || up.pumped.stirs() + down.pumped.stirs();
    let (mut last, mut quiet) = (stirs(), 0);
    while quiet < STALL_LOOKS {
        tokio::time::sleep(limit / STALL_LOOKS).await;
        let now = stirs();
        quiet = if now == last { quiet + 1 } else { 0 };
        last = now;
    }
}

async fn keep_alive_once_it_lasts(legs: [&TcpStream; 2]) -> Infallible {
    tokio::time::sleep(LASTS).await;
    for leg in legs {
        // It fails where the connection is gone, which is noticed as it is.
        let _ = keep_alive(leg);
    }
    std::future::pending().await
}

/// Returns when a peer's failure cuts the transfer; `out` comes from it, `back` goes to it.
///
/// A peer that has ended in order and was never sent a byte cuts nothing by going away. This happens to any slow
/// transfer: a minute after its close the peer's kernel forgets the connection, and answers the next probe by a reset.
async fn cut(stream: &TcpStream, out: &Way, back: &Way) {
    failure(stream).await;
    if out.ended.load(Ordering::Relaxed) && !back.has_moved() {
        std::future::pending::<()>().await;
    }
}

/// Returns when the peer has reset the connection, or it has failed otherwise.
async fn failure(stream: &TcpStream) {
    loop {
        if stream.ready(Interest::ERROR).await.is_err() || !matches!(stream.take_error(), Ok(None)) {
            return;
        }
        // Not an error after all: wait for the next one.
        let _ = stream.try_io(Interest::ERROR, || Err::<(), _>(io::ErrorKind::WouldBlock.into()));
    }
}

/// Lets both legs close in order, now that both directions have; with each goes the direction towards it.
fn end_in_order(legs: [(Side, &TcpStream, &Way); 2]) -> HowEnded {
    for (side, stream, back) in legs {
        // A reset may have come after the end of file.
        if !matches!(stream.take_error(), Ok(None)) && back.has_moved() {
            return HowEnded::CutBy(side);
        }
    }
    for (side, stream, _) in legs {
        if reset_on_close(stream, false).is_err() {
            return HowEnded::CutBy(side);
        }
    }
    HowEnded::Complete
}

#[cfg(test)]
mod tests {
    use socket2::SockRef;

    use super::*;
    use crate::net::listen;

    #[tokio::test]
    async fn the_legs_of_a_transfer_that_lasts_are_probed() {
        let listener = listen("127.0.0.1:0".parse().unwrap(), false, 8).unwrap();
        let dialled = dial(listener.local_addr().unwrap(), None, false, LASTS).await.unwrap();
        let accepted = listener.accept().await.unwrap().0;
        let legs = [&dialled, &accepted];
        let probed = || legs.map(|leg| SockRef::from(leg).keepalive().unwrap());
        let _elapsed = tokio::time::timeout(LASTS / 2, keep_alive_once_it_lasts(legs)).await;
        assert_eq!(probed(), [false; 2]);
        let _elapsed = tokio::time::timeout(LASTS * 3 / 2, keep_alive_once_it_lasts(legs)).await;
        assert_eq!(probed(), [true; 2]);
    }
}
