//! The relay on loopback. Each test has addresses of its own, so that their ports are free.

mod bytes;
mod ends;

use std::collections::HashSet;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::timeout;

use super::*;
use crate::addr::{Network, PortRange, PortRanges, Side};
use crate::net::{dial, listen, reset_on_close};
use crate::policy::{DataPeers, Datapath, Networks};
use crate::session::HowEnded;

const SOON: Duration = Duration::from_secs(10);
const FIVE: (u16, u16) = (21001, 21005);

/// An address that no other test uses, in this process or another.
fn own_ip() -> IpAddr {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let [.., high, low] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, 64 + (high & 127), low, NEXT.fetch_add(1, Ordering::Relaxed)).into()
}

fn ranges((first, last): (u16, u16)) -> PortRanges {
    PortRanges::new(vec![PortRange::new(first, last).unwrap()]).unwrap()
}

fn local(last: u8) -> IpAddr {
    Ipv4Addr::new(127, 0, 1, last).into()
}

struct Lab {
    relay: Relay,
    at: IpAddr,
    server: TcpListener,
    events: (UnboundedSender<DataEvent>, UnboundedReceiver<DataEvent>),
    terms: Terms,
    next: u64,
    data_peers: DataPeers,
}

impl Lab {
    fn new() -> Self {
        Self::with(Relay::new(Duration::from_secs(2)))
    }

    fn with(relay: Relay) -> Self {
        let at = own_ip();
        let server = listen(SocketAddr::new(at, 0), false, 1024).unwrap();
        Self {
            relay,
            at,
            server,
            events: unbounded_channel(),
            terms: Terms::default(),
            next: 1,
            data_peers: DataPeers::default(),
        }
    }

    fn listens(&self, from: IpAddr, ports: (u16, u16)) -> Leg {
        Leg::Listen { at: self.at, ports: ranges(ports), from }
    }

    fn dials(&self, to: SocketAddr) -> Leg {
        Leg::Dial { to, from: self.at, from_port: None }
    }

    fn open_legs(&mut self, client: Leg, server: Leg) -> Result<Opened, OpenError> {
        self.open_behind(None, client, server)
    }

    /// The client's connection may come through `balancer`, with a header.
    fn open_behind(&mut self, balancer: Option<IpAddr>, client: Leg, server: Leg) -> Result<Opened, OpenError> {
        let data_peers = self.data_peers.clone();
        let proxies = balancer.map(|ip| Proxies::new(vec![Network::Net(ip.into())]));
        let binding = LegBinding { local: self.at, link: 0, transparent: false };
        let id = PinholeId(self.next);
        self.next += 1;
        let pinhole = Pinhole {
            id,
            client,
            server,
            datapath: Datapath::Relay,
            timeout: SOON,
            introduction: None,
            has_other: false,
            data_peers,
        };
        let bindings = Bindings { client: binding, server: binding, proxies };
        self.relay.open(&pinhole, false, &bindings, self.terms.clone(), self.events.0.clone())
    }

    /// Passive mode: `from` connects to us, we connect to the server.
    fn open(&mut self, from: IpAddr, ports: (u16, u16)) -> Result<Opened, OpenError> {
        let server = self.dials(self.server.local_addr().unwrap());
        self.open_legs(self.listens(from, ports), server)
    }

    async fn connect(&self, from: IpAddr, port: u16) -> std::io::Result<TcpStream> {
        dial(SocketAddr::new(self.at, port), Some((from, None)), false, SOON).await
    }

    /// What a peer reads that connects; a reset may come before connecting is over.
    async fn try_port(&self, from: IpAddr, port: u16) -> Result<Vec<u8>, ErrorKind> {
        match self.connect(from, port).await {
            Ok(mut stream) => read(&mut stream).await,
            Err(error) => Err(error.kind()),
        }
    }

    async fn event(&mut self) -> DataEvent {
        timeout(SOON, self.events.1.recv()).await.unwrap().unwrap()
    }

    async fn end(&mut self) -> DataEnd {
        loop {
            if let DataEvent::Ended { end, .. } = self.event().await {
                return end;
            }
        }
    }

    /// Both ends of a transfer that has started.
    async fn joined(&mut self) -> (TcpStream, TcpStream, Opened) {
        let opened = self.open(local(1), FIVE).unwrap();
        let client = self.connect(local(1), port(&opened, Side::Client)).await.unwrap();
        let (server, _) = timeout(SOON, self.server.accept()).await.unwrap().unwrap();
        let peer = client.local_addr().unwrap();
        assert_eq!(self.event().await, DataEvent::Started { id: PinholeId(self.next - 1), peer });
        (client, server, opened)
    }
}

/// The port that a side is to connect to.
fn port(opened: &Opened, side: Side) -> u16 {
    let [client, server] = opened.ports.unwrap();
    match side {
        Side::Client => client.unwrap(),
        Side::Server => server.unwrap(),
    }
}

async fn read(stream: &mut TcpStream) -> Result<Vec<u8>, ErrorKind> {
    let mut bytes = Vec::new();
    match timeout(SOON, stream.read_to_end(&mut bytes)).await {
        Ok(Ok(_)) => Ok(bytes),
        Ok(Err(error)) => Err(error.kind()),
        Err(_) => Err(ErrorKind::TimedOut),
    }
}

fn reset(stream: TcpStream) {
    reset_on_close(&stream, true).unwrap();
}

const RESET: Result<Vec<u8>, ErrorKind> = Err(ErrorKind::ConnectionReset);

#[tokio::test]
async fn a_stranger_is_reset_and_the_pinhole_stays() {
    let mut lab = Lab::new();
    let opened = lab.open(local(1), FIVE).unwrap();
    let port = port(&opened, Side::Client);
    let stranger_ip = Ipv4Addr::new(127, 0, 0, 2).into();
    for _ in 0..3 {
        assert_eq!(lab.try_port(stranger_ip, port).await, RESET);
        let event = lab.event().await;
        let DataEvent::Stranger { id: PinholeId(1), from, port: at, fault: None, .. } = event else {
            panic!("{event:?}")
        };
        assert_eq!((from.ip(), at), (stranger_ip, port));
    }
    let _client = lab.connect(local(1), port).await.unwrap();
    timeout(SOON, lab.server.accept()).await.unwrap().unwrap();
    assert!(matches!(lab.event().await, DataEvent::Started { .. }));
}

/// A flood of strangers is not a flood of what is told.
#[tokio::test]
async fn some_strangers_are_told_of_and_all_are_reset() {
    let mut lab = Lab::new();
    let opened = lab.open(local(1), FIVE).unwrap();
    let port = port(&opened, Side::Client);
    for _ in 0..12 {
        assert_eq!(lab.try_port(Ipv4Addr::new(127, 0, 0, 2).into(), port).await, RESET);
    }
    let _client = lab.connect(local(1), port).await.unwrap();
    let mut strangers = 0;
    while let DataEvent::Stranger { .. } = lab.event().await {
        strangers += 1;
    }
    assert!((1..12).contains(&strangers), "{strangers}");
}

/// A peer that dials from the same port each time would come into its own earlier connection.
#[tokio::test]
async fn a_port_whose_connection_still_moves_is_not_given_to_its_peer() {
    const TWO: (u16, u16) = (21010, 21011);
    let mut lab = Lab::new();
    let opened = lab.open(local(1), TWO).unwrap();
    let busy = port(&opened, Side::Client);
    let client = lab.connect(local(1), busy).await.unwrap();
    let (server, _) = timeout(SOON, lab.server.accept()).await.unwrap().unwrap();
    assert!(matches!(lab.event().await, DataEvent::Started { .. }));
    for _ in 0..8 {
        let next = lab.open(local(1), TWO).unwrap();
        assert_ne!(port(&next, Side::Client), busy);
        drop(next);
        // What waited has to hear of it.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    drop((client, server));
    lab.end().await;
    // It is the one unused for longest now.
    let next = lab.open(local(1), TWO).unwrap();
    assert_eq!(port(&next, Side::Client), busy);
}

/// A peer may have further addresses, where a rule names them.
#[tokio::test]
async fn another_address_of_the_peer_is_let_in_where_it_is_named() {
    let mut lab = Lab::new();
    let network = "127.0.2.0/28".parse().map(Network::Net).unwrap();
    lab.data_peers = DataPeers { client: Networks::new(vec![network]), ..DataPeers::default() };
    let one = (21002, 21002);
    let _mine = lab.open(local(1), one).unwrap();
    // Whose connection it would be could not be told.
    assert!(matches!(lab.open(local(2), one), Err(OpenError::RangeFull { .. })));
    lab.data_peers = DataPeers::default();
    assert!(matches!(lab.open(Ipv4Addr::new(127, 0, 2, 3).into(), one), Err(OpenError::RangeFull { .. })));
    let _other = lab.open(local(3), one).unwrap();
    assert_eq!(lab.try_port(Ipv4Addr::new(127, 0, 2, 16).into(), 21002).await, RESET);
    let from = Ipv4Addr::new(127, 0, 2, 5).into();
    let client = lab.connect(from, 21002).await.unwrap();
    timeout(SOON, lab.server.accept()).await.unwrap().unwrap();
    let started = DataEvent::Started { id: PinholeId(1), peer: client.local_addr().unwrap() };
    while lab.event().await != started {}
    // Once.
    assert_eq!(lab.try_port(from, 21002).await, RESET);
}

#[tokio::test]
async fn a_pinhole_is_for_one_connection() {
    let mut lab = Lab::new();
    let (_client, _server, opened) = lab.joined().await;
    let again = lab.connect(local(1), port(&opened, Side::Client)).await;
    assert_eq!(again.unwrap_err().kind(), ErrorKind::ConnectionRefused);

    // The port stays open for another client, and is still not for the first one.
    let one = (21001, 21001);
    let mine = lab.open(local(1), one).unwrap();
    let _other = lab.open(local(2), one).unwrap();
    let _first = lab.connect(local(1), 21001).await.unwrap();
    assert_eq!(lab.try_port(local(1), 21001).await, RESET);
    drop(mine);
}

#[tokio::test]
async fn an_old_connection_does_not_use_up_a_new_pinhole() {
    let mut lab = Lab::new();
    let one = (21001, 21001);
    let _other = lab.open(local(2), one).unwrap();
    // On this single thread nothing is accepted between these two connections and the opening.
    let early = std::net::TcpStream::connect((lab.at, 21001)).unwrap();
    let from = early.local_addr().unwrap().ip();
    let _mine = lab.open(from, one).unwrap();
    early.set_nonblocking(true).unwrap();
    assert_eq!(read(&mut TcpStream::from_std(early).unwrap()).await, RESET);
    let _late = lab.connect(from, 21001).await.unwrap();
    timeout(SOON, lab.server.accept()).await.unwrap().unwrap();
}

#[tokio::test]
async fn five_ports_carry_five_transfers_for_each_of_a_hundred_clients() {
    let mut lab = Lab::new();
    let mut open = Vec::new();
    for client in (1..=100).map(local) {
        let five: Vec<Opened> = (0..5).map(|_| lab.open(client, FIVE).unwrap()).collect();
        let ports: HashSet<u16> = five.iter().map(|opened| port(opened, Side::Client)).collect();
        assert_eq!(ports, (FIVE.0..=FIVE.1).collect());
        assert!(matches!(lab.open(client, FIVE), Err(OpenError::RangeFull { for_peer, .. }) if for_peer == client));
        open.push((client, five));
    }
    for (client, five) in &open {
        for opened in five {
            let mut a = lab.connect(*client, port(opened, Side::Client)).await.unwrap();
            let (mut b, _) = timeout(SOON, lab.server.accept()).await.unwrap().unwrap();
            a.write_all(client.to_string().as_bytes()).await.unwrap();
            a.shutdown().await.unwrap();
            assert_eq!(read(&mut b).await, Ok(client.to_string().into_bytes()));
        }
    }
    let refused = lab.connect(local(1), FIVE.0).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::ConnectionRefused);
}

/// A pinhole that was used is dropped when its transfer ends: by then another may wait for the same peer at its port.
#[tokio::test]
async fn a_pinhole_that_is_dropped_late_takes_no_others_place() {
    const ONE: (u16, u16) = (21001, 21001);
    let mut lab = Lab::new();
    let first = lab.open(local(1), ONE).unwrap();
    let _moving = lab.connect(local(1), 21001).await.unwrap();
    let _at_server = timeout(SOON, lab.server.accept()).await.unwrap().unwrap();
    let _second = lab.open(local(1), ONE).unwrap();
    drop(first);
    let mut client = lab.connect(local(1), 21001).await.unwrap();
    let (mut server, _) = timeout(SOON, lab.server.accept()).await.unwrap().unwrap();
    client.write_all(b"the second").await.unwrap();
    drop(client);
    assert_eq!(read(&mut server).await, Ok(b"the second".to_vec()));
    // The port is closed with the last one.
    let refused = lab.connect(local(1), 21001).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn ports_of_other_programs_are_skipped_by_name() {
    let mut lab = Lab::new();
    let _taken: Vec<_> = (21001..=21004).map(|port| std::net::TcpListener::bind((lab.at, port)).unwrap()).collect();
    let opened = lab.open(local(1), FIVE).unwrap();
    assert_eq!(port(&opened, Side::Client), 21005);
    assert!(opened.skipped.iter().all(|port| (21001..=21004).contains(port)));
    assert!(matches!(lab.open(local(1), FIVE), Err(OpenError::RangeFull { .. })));
    assert!(matches!(lab.open(local(1), (21001, 21004)), Err(OpenError::InUse { .. })));
}

#[tokio::test]
async fn an_address_of_somebody_else_is_named() {
    let mut lab = Lab::new();
    lab.at = "192.0.2.77".parse().unwrap();
    let error = lab.open_legs(lab.listens(local(1), FIVE), lab.listens(local(1), FIVE)).unwrap_err();
    assert!(matches!(error, OpenError::AddressGone { .. }), "{error}");
}

#[tokio::test]
async fn a_client_at_the_address_of_anothers_balancer_does_not_share_a_port_with_it() {
    const ONE: (u16, u16) = (21001, 21001);
    let balancer = local(9);
    let mut lab = Lab::new();
    let server = || Leg::Dial { to: SocketAddr::new(local(7), 9), from: local(7), from_port: None };
    let mut open = |by, client| lab.open_behind(by, lab.listens(client, ONE), server());
    let brought = open(Some(balancer), local(1)).unwrap();
    assert!(matches!(open(None, balancer), Err(OpenError::RangeFull { .. })));
    // One whom that balancer may bring too is told by its header.
    let both = open(Some(balancer), balancer).unwrap();
    drop((brought, both));
    let _direct = open(None, balancer).unwrap();
    assert!(matches!(open(Some(balancer), local(1)), Err(OpenError::RangeFull { .. })));
    open(Some(balancer), balancer).unwrap_err();
    open(Some(local(8)), local(1)).unwrap();
}

#[tokio::test]
async fn nothing_listens_after_a_close() {
    let mut lab = Lab::new();
    let opened = lab.open(local(1), (21001, 21001)).unwrap();
    let other = lab.open(local(2), (21001, 21001)).unwrap();
    opened.guard.close();
    assert_eq!(lab.try_port(local(1), 21001).await, RESET);
    drop(other);
    let refused = lab.connect(local(2), 21001).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    assert!(matches!(lab.event().await, DataEvent::Stranger { id: PinholeId(2), .. }));
    assert!(lab.events.1.try_recv().is_err());
}

#[tokio::test]
async fn a_failed_dial_resets_the_accepted_side() {
    let mut lab = Lab::new();
    let closed = SocketAddr::new(lab.at, 21009);
    let opened = lab.open_legs(lab.listens(local(1), FIVE), lab.dials(closed)).unwrap();
    assert_eq!(lab.try_port(local(1), port(&opened, Side::Client)).await, RESET);
    let how = HowEnded::NotReached { side: Side::Server, error: ErrorKind::ConnectionRefused };
    let end = DataEnd { to_server: 0, to_client: 0, is_estimate: false, how };
    assert_eq!(lab.event().await, DataEvent::Ended { id: PinholeId(1), end });
}

#[tokio::test]
async fn two_that_listen_are_joined() {
    let mut lab = Lab::new();
    let opened = lab.open_legs(lab.listens(local(1), FIVE), lab.listens(local(2), FIVE)).unwrap();
    let mut server = lab.connect(local(2), port(&opened, Side::Server)).await.unwrap();
    server.write_all(b"early").await.unwrap();
    let mut client = lab.connect(local(1), port(&opened, Side::Client)).await.unwrap();
    drop(server);
    assert_eq!(read(&mut client).await, Ok(b"early".to_vec()));
    drop(client);
    assert_eq!(lab.end().await.how, HowEnded::Complete);
}

#[tokio::test]
async fn a_client_whose_server_has_nothing_gets_an_end() {
    for client_first in [true, false] {
        let mut lab = Lab::new();
        let opened = lab.open_legs(lab.listens(local(1), FIVE), lab.listens(local(2), FIVE)).unwrap();
        let at = port(&opened, Side::Client);
        let early = if client_first { Some(lab.connect(local(1), at).await.unwrap()) } else { None };
        tokio::time::sleep(Duration::from_millis(50)).await;
        opened.guard.finish();
        let mut client = match early {
            Some(client) => client,
            None => lab.connect(local(1), at).await.unwrap(),
        };
        assert_eq!(read(&mut client).await, Ok(Vec::new()));
        assert_eq!(
            lab.end().await,
            DataEnd { to_server: 0, to_client: 0, is_estimate: false, how: HowEnded::Complete }
        );
    }
}

#[tokio::test]
async fn a_client_whose_server_has_come_gets_what_it_sent() {
    let mut lab = Lab::new();
    let opened = lab.open_legs(lab.listens(local(1), FIVE), lab.listens(local(2), FIVE)).unwrap();
    let mut server = lab.connect(local(2), port(&opened, Side::Server)).await.unwrap();
    server.write_all(b"sent").await.unwrap();
    drop(server);
    tokio::time::sleep(Duration::from_millis(50)).await;
    opened.guard.finish();
    let mut client = lab.connect(local(1), port(&opened, Side::Client)).await.unwrap();
    assert_eq!(read(&mut client).await, Ok(b"sent".to_vec()));
}

#[tokio::test]
async fn two_that_are_dialled_wait_for_the_start() {
    let mut lab = Lab::new();
    let client = listen(SocketAddr::new(lab.at, 0), false, 8).unwrap();
    let legs = (lab.dials(client.local_addr().unwrap()), lab.dials(lab.server.local_addr().unwrap()));
    let opened = lab.open_legs(legs.0, legs.1).unwrap();
    assert!(timeout(Duration::from_millis(50), client.accept()).await.is_err());
    opened.guard.dial(Side::Server);
    let (mut server, _) = timeout(SOON, lab.server.accept()).await.unwrap().unwrap();
    assert!(timeout(Duration::from_millis(50), client.accept()).await.is_err());
    opened.guard.dial(Side::Client);
    opened.guard.dial(Side::Client);
    let (mut client, _) = timeout(SOON, client.accept()).await.unwrap().unwrap();
    server.write_all(b"hello").await.unwrap();
    drop(server);
    assert_eq!(read(&mut client).await, Ok(b"hello".to_vec()));
}

#[tokio::test]
async fn a_port_that_was_given_up_comes_again_last() {
    let mut lab = Lab::new();
    let peer = local(1);
    for _ in 0..50 {
        let first = lab.open(peer, FIVE).unwrap();
        let given_up = first.ports.unwrap()[0].unwrap();
        drop(first);
        // Four sessions of the same peer may each have another one.
        let others: Vec<Opened> = (0..4).map(|_| lab.open(peer, FIVE).unwrap()).collect();
        assert!(others.iter().all(|other| other.ports.unwrap()[0] != Some(given_up)));
        assert!(lab.try_port(peer, given_up).await.is_err());
        // With nothing else left, it is given all the same.
        let last = lab.open(peer, FIVE).unwrap();
        assert_eq!(last.ports.unwrap()[0], Some(given_up));
        // To another peer it is a port like any other.
        let one = (given_up, given_up);
        assert_eq!(lab.open(local(2), one).unwrap().ports.unwrap()[0], Some(given_up));
    }
}
