//! Moving the bytes between two legs that stand.

use std::convert::Infallible;
use std::io;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::addr::Side;
use crate::limits::{Meter, Pace, Terms};
use crate::net::{keep_alive, reset_on_close};
use crate::pinhole::DataEvent;
use crate::pinhole::orders::Ordered;
use crate::pinhole::pipes::PipePool;
use crate::pinhole::splice::{Broken, Pumped, WayTerms, pass_end_to, pump};
use crate::policy::Limit;
use crate::session::{DataEnd, HowEnded, PinholeId};

/// How long a transfer goes on before it matters whether its peers are alive: most end sooner, and are never probed.
const LASTS: Duration = Duration::from_secs(1);
/// How long nothing may move once there is no control connection: keep-alive probes find a peer that is gone as soon.
const LINGER: Duration = Duration::from_secs(120);
/// How long the word that all was sent is held for a client that takes no more of it.
const TAKES_NONE: Duration = Duration::from_secs(3);
/// How long for a server that has sent no more, nor its end: that may be on its way.
const HAS_NONE: Duration = Duration::from_millis(500);
const IDLE_LOOK: Duration = Duration::from_millis(20);
/// How often it is looked within the time of a stall whether something has moved.
const STALL_LOOKS: u32 = 8;

/// Moves bytes both ways until it is over. The sockets are to be closed then, which is **a reset unless both directions
/// ended in order**.
pub(super) async fn transfer(
    client: &TcpStream,
    server: &TcpStream,
    terms: &Terms,
    pipes: &PipePool,
    told: &Told<'_>,
    orders: &Ordered,
    closed: oneshot::Receiver<Infallible>,
) -> DataEnd {
    let (up, down) = (Way::default(), Way { ended: Arc::clone(&orders.delivered), ..Way::default() });
    let (up_terms, down_terms) =
        (told.terms(Limit::Upload, &terms.up, terms.size), told.terms(Limit::Download, &terms.down, terms.size));
    let how = tokio::select! {
        biased;
        _ = closed => HowEnded::Aborted,
        // Both legs are watched by themselves: one that is blocked, or has said its last word, is read by nobody.
        () = cut(client, &up, &down) => HowEnded::CutBy(Side::Client),
        () = cut(server, &down, &up) => HowEnded::CutBy(Side::Server),
        () = stalled(terms.stall, &up, &down) => HowEnded::Limited(Limit::StallTimeout),
        () = lingered(orders, &up, &down) => HowEnded::Aborted,
        never = deliver(orders, &down, told) => match never {},
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
pub(super) struct Told<'a> {
    pub(super) id: PinholeId,
    pub(super) events: &'a UnboundedSender<DataEvent>,
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
    ended: Arc<AtomicBool>,
    tells_end: Notify,
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
            Ok(()) => {
                self.ended.store(true, Ordering::Release);
                self.tells_end.notify_one();
            }
            Err(Broken::Source) => return Err(HowEnded::CutBy(source)),
            Err(Broken::Sink) => return Err(HowEnded::CutBy(source.other())),
            Err(Broken::TooLarge) => return Err(HowEnded::Limited(Limit::TransferSize)),
        }
        Ok(())
    }

    /// Returns when nothing goes this way for now: the sink takes no more, or the source has no more.
    async fn idles(&self) {
        let (mut last, mut since) = (self.pumped.stirs(), Instant::now());
        loop {
            let patience = if self.pumped.is_blocked() { TAKES_NONE } else { HAS_NONE };
            let Some(left) = patience.checked_sub(since.elapsed()) else { return };
            tokio::time::sleep(left.clamp(IDLE_LOOK, HAS_NONE)).await;
            if last != self.pumped.stirs() {
                (last, since) = (self.pumped.stirs(), Instant::now());
            }
        }
    }

    fn has_moved(&self) -> bool {
        self.pumped.moved() > 0
    }
}

/// Returns when nothing has moved for so long, or a little longer.
async fn stalled(limit: Option<Duration>, up: &Way, down: &Way) {
    let Some(limit) = limit else { return std::future::pending().await };
    quiet(limit, up, down).await;
}

/// The same once no control connection watches over it any more.
async fn lingered(orders: &Ordered, up: &Way, down: &Way) {
    if !orders.clone().wait(|orders| orders.linger).await {
        std::future::pending::<()>().await;
    }
    quiet(LINGER, up, down).await;
}

/// Tells, where that is asked for, when the client was sent what the server has.
async fn deliver(orders: &Ordered, down: &Way, told: &Told<'_>) -> Infallible {
    if orders.clone().wait(|orders| orders.deliver).await {
        tokio::select! {
            () = down.tells_end.notified() => {}
            () = down.idles() => {}
        }
        let _ = told.events.send(DataEvent::Delivered { id: told.id });
    }
    std::future::pending().await
}

async fn quiet(limit: Duration, up: &Way, down: &Way) {
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
    use crate::net::{dial, listen};
    use crate::pinhole::orders::Orderer;

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

    const STALL: Duration = Duration::from_secs(8);

    /// Lets a direction stir so many times with pauses between that are shorter than a stall, and much longer together.
    async fn stir_slowly(way: &Way) {
        for _ in 0..10 {
            tokio::time::sleep(STALL * 7 / 8).await;
            way.pumped.stir();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_are_not_added_up() {
        for goes_up in [true, false] {
            let (up, down) = (Way::default(), Way::default());
            let slow = if goes_up { &up } else { &down };
            tokio::select! {
                biased;
                () = stalled(Some(STALL), &up, &down) => panic!("cut while it moved"),
                () = stir_slowly(slow) => {}
            }
            let quiet = Instant::now();
            stalled(Some(STALL), &up, &down).await;
            assert!((STALL..=STALL * 9 / 8).contains(&quiet.elapsed()), "{:?}", quiet.elapsed());
        }
    }

    /// Whether all was sent is known of a server that pauses only when it has been quiet for long enough.
    #[tokio::test(start_paused = true)]
    async fn a_direction_idles_when_it_has_paused_for_long() {
        for (patience, blocked) in [(HAS_NONE, false), (TAKES_NONE, true)] {
            let way = Way::default();
            way.pumped.set_blocked(blocked);
            let stir_often = async {
                for _ in 0..20 {
                    tokio::time::sleep(patience - 2 * IDLE_LOOK).await;
                    way.pumped.stir();
                }
            };
            tokio::select! {
                biased;
                () = way.idles() => panic!("it moves, with pauses of less than {patience:?}"),
                () = stir_often => {}
            }
            let quiet = Instant::now();
            way.idles().await;
            // Where something was taken last, it is looked again half a second later.
            assert!((patience..=patience + HAS_NONE).contains(&quiet.elapsed()), "{:?}", quiet.elapsed());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_watches_over_may_be_slow_but_not_stand_still() {
        let (up, down) = (Way::default(), Way::default());
        let (orderer, orders) = Orderer::new();
        let lingers = || lingered(&orders, &up, &down);
        assert!(tokio::time::timeout(10 * LINGER, lingers()).await.is_err(), "its session watches over it");
        orderer.order(|orders| orders.linger = true);
        assert!(tokio::time::timeout(LINGER * 7 / 8, lingers()).await.is_err());
        tokio::time::timeout(LINGER * 9 / 8, lingers()).await.unwrap();
        drop(orderer);
    }
}
