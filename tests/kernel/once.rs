//! A pinhole is used by one connection that stands: not by a SYN that anybody can send, and not by two at once.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use socket2::{Domain, SockAddr, Socket, Type};

use crate::lab::Family;
use crate::lab::host::Host;
use crate::raw::{ACK, PSH, Raw, Segment, icmp_errors};
use crate::stage::*;
use crate::talk::bounded;

const BOTH: [Family; 2] = [Family::V4, Family::V6];

/// Ports that no socket of the tests gets by itself.
const SPOOFED: std::ops::Range<u16> = 20_001..20_006;

fn stage(family: Family) -> Stage {
    Stage::with(&Wish { family, ..Wish::default() })
}

/// One SYN from each of the ports.
fn spoof(host: &Host, from: IpAddr, ports: impl IntoIterator<Item = u16>, to: SocketAddr) {
    let raw = Raw::tcp(host, from);
    ports.into_iter().for_each(|port| raw.send(&Segment::syn(SocketAddr::new(from, port), to)));
}

/// The machine says nothing to what arrives for the ports of [`SPOOFED`].
fn keep_silent(host: &Host) {
    load(
        host,
        "table inet silent { chain out { type filter hook output priority 0; tcp sport 20001-20005 tcp flags rst drop\n}\n}\n",
    );
}

/// How the log begins to name the first of the ports of [`SPOOFED`].
fn from(ip: IpAddr) -> String {
    format!("from={}", SocketAddr::new(ip, SPOOFED.start))
}

#[test]
fn a_spoofed_syn_does_not_use_a_pinhole_up() {
    for stage in BOTH.map(stage) {
        let (mut client, mut server) = stage.session();
        let (at, data) = stage.passive(&mut client, &mut server);
        spoof(&stage.net.client, stage.client_ip(), SPOOFED, at);
        stage.logged(&["WARN", "event=\"half_open\"", &from(stage.client_ip()), "cause=", &at.port().to_string()]);
        let ours = stage.dial(at).unwrap();
        begin(&mut client, &mut server, "RETR file");
        carries(accept(&data), ours, b"for the client itself");
        complete(&mut client, &mut server);
        stage.logged(&["event=\"transfer\"", "outcome=\"ended\"", "bytes=21 "]);
        nobody_came_to(&data);
        assert_eq!(stage.gate().log().matches("event=\"half_open\"").count(), 1, "{}", stage.gate().log());
    }
}

#[test]
fn a_spoofed_syn_does_not_use_a_pinhole_up_in_active_mode_either() {
    for stage in BOTH.map(stage) {
        let (mut client, mut server) = stage.session();
        let (at, data) = stage.active(&mut client, &mut server);
        spoof(&stage.net.server, stage.server_ip(), SPOOFED, at);
        stage.logged(&["event=\"half_open\"", &from(stage.server_ip())]);
        let theirs = stage.dial_back(at).unwrap();
        begin(&mut client, &mut server, "STOR file");
        carries(accept(&data), theirs, b"for the server itself");
        nobody_came_to(&data);
    }
}

/// No reset tells that nobody is there: behind a firewall that is silent, and where the host is down.
#[test]
fn a_spoofed_syn_of_a_silent_host_does_not_either() {
    for stage in BOTH.map(stage) {
        keep_silent(&stage.net.client);
        let (mut client, mut server) = stage.session();
        let (at, data) = stage.passive(&mut client, &mut server);
        spoof(&stage.net.client, stage.client_ip(), SPOOFED, at);
        // Who does not know the answer cannot acknowledge it.
        let raw = Raw::tcp(&stage.net.client, stage.client_ip());
        for port in SPOOFED {
            let syn = Segment::syn(SocketAddr::new(stage.client_ip(), port), at);
            say_late(
                &raw,
                &Segment { flags: ACK, sequence: syn.sequence + 1, acknowledged: 77, payload: b"blind", ..syn },
            );
        }
        // An error about it is no handshake.
        icmp_errors(&stage.net.client, at, (stage.client_ip(), SPOOFED.start).into(), ACK);
        let ours = stage.dial(at).unwrap();
        begin(&mut client, &mut server, "STOR file");
        carries(ours, accept(&data), b"while the others are half open");
        complete(&mut client, &mut server);
        stage.logged(&["event=\"transfer\"", "outcome=\"ended\"", "bytes=30 "]);
        stage.logged(&["event=\"half_open\""]);
        nobody_came_to(&data);
    }
}

/// The client sees every connection come from the same port: there is room for one at a time.
#[test]
fn a_spoofed_syn_does_not_keep_a_fixed_port_for_long() {
    for (family, silent) in [(Family::V4, false), (Family::V4, true), (Family::V6, false), (Family::V6, true)] {
        let stage = Stage::with(&Wish { family, source_port: Some(20), ..Wish::default() });
        if silent {
            keep_silent(&stage.net.server);
        }
        let (mut client, mut server) = stage.session();
        let (at, data) = stage.active(&mut client, &mut server);
        spoof(&stage.net.server, stage.server_ip(), SPOOFED, at);
        let theirs = stage.dial_back(at).unwrap();
        begin(&mut client, &mut server, "STOR file");
        let ours = accept(&data);
        assert_eq!(ours.peer_addr().unwrap().port(), 20);
        carries(ours, theirs, b"for the server itself");
        complete(&mut client, &mut server);
        stage.logged(&["event=\"transfer\"", "outcome=\"ended\"", "bytes=21 "]);
        stage.logged(&["event=\"half_open\""]);
        nobody_came_to(&data);
    }
}

#[test]
fn a_flood_of_syns_costs_one_line_and_a_second_try() {
    let stage = stage(Family::V4);
    keep_silent(&stage.net.client);
    let (mut client, mut server) = stage.session();
    let (at, data) = stage.passive(&mut client, &mut server);
    let port = data.local_addr().unwrap().port();
    let count = format!("type filter hook input priority 0; tcp dport {port} tcp flags syn / syn,ack counter");
    load(&stage.net.server, &format!("table inet syns {{ chain in {{ {count}\n}}\n}}\n"));
    spoof(&stage.net.client, stage.client_ip(), 20_001..25_001, at);
    noop(&mut client, &mut server);
    let ours = stage.dial(at).unwrap();
    begin(&mut client, &mut server, "RETR file");
    carries(accept(&data), ours, b"after the flood");
    complete(&mut client, &mut server);
    stage.logged(&["event=\"transfer\"", "outcome=\"ended\"", "bytes=15 "]);
    assert_eq!(stage.gate().log().matches("event=\"half_open\"").count(), 1);
    // At most 100 at once, and 100 in each second that it took.
    let passed = packets(&stage.net.server, "syns");
    assert!((100..2000).contains(&passed), "{passed} of 5000");
}

/// Both have been answered; the one that says so first is the one.
#[test]
fn a_handshake_that_ends_late_ends_in_vain() {
    for stage in BOTH.map(stage) {
        keep_silent(&stage.net.client);
        let (mut client, mut server) = stage.session();
        let (at, data) = stage.passive(&mut client, &mut server);
        let (raw, late) = half_open(&stage, at);
        let ours = stage.dial(at).unwrap();
        let theirs = accept(&data);
        say_late(&raw, &late);
        begin(&mut client, &mut server, "RETR file");
        carries(theirs, ours, b"the first one's");
        complete(&mut client, &mut server);
        noop(&mut client, &mut server);
        nobody_came_to(&data);
    }
}

/// The next pinhole at the same place does not take what was begun through an earlier one with another destination.
#[test]
fn a_handshake_that_ends_in_the_next_pinhole_ends_in_vain() {
    for family in BOTH {
        let stage = Stage::with(&Wish { family, inbound: "10001", ..Wish::default() });
        keep_silent(&stage.net.client);
        let (mut client, mut server) = stage.session();
        let (at, earlier) = stage.passive(&mut client, &mut server);
        let (raw, late) = half_open(&stage, at);
        let (again, data) = stage.passive(&mut client, &mut server);
        assert_eq!(at, again);
        say_late(&raw, &late);
        std::thread::sleep(Duration::from_millis(100));
        say_late(&raw, &late);
        let ours = stage.dial(at).unwrap();
        begin(&mut client, &mut server, "STOR file");
        carries(ours, accept(&data), b"through the second");
        nobody_came_to(&data);
        nobody_came_to(&earlier);
    }
}

/// Sends a SYN and waits for its answer: the last packet of the handshake, with data.
fn half_open(stage: &Stage, at: SocketAddr) -> (Raw, Segment<'static>) {
    let from = SocketAddr::new(stage.client_ip(), SPOOFED.start);
    let raw = Raw::tcp(&stage.net.client, from.ip());
    let syn = Segment::syn(from, at);
    raw.send(&syn);
    let theirs = raw.syn_ack(at, from, PATIENCE).expect("the server was not asked");
    let late = Segment {
        flags: ACK | PSH,
        sequence: syn.sequence + 1,
        acknowledged: theirs.wrapping_add(1),
        payload: b"late",
        ..syn
    };
    (raw, late)
}

/// The acknowledgement alone, and with data.
fn say_late(raw: &Raw, late: &Segment<'_>) {
    raw.send(&Segment { flags: ACK, payload: b"", ..*late });
    raw.send(late);
}

/// Data in a SYN (TCP Fast Open, RFC 7413) would be there before anybody has shown who it is from.
#[test]
fn no_data_comes_with_a_syn() {
    const FAST_OPEN: [u8; 12] = [34, 10, 1, 2, 3, 4, 5, 6, 7, 8, 1, 1];
    for stage in BOTH.map(stage) {
        keep_silent(&stage.net.client);
        let (mut client, mut server) = stage.session();
        let (at, _data) = stage.passive(&mut client, &mut server);
        let from = SocketAddr::new(stage.client_ip(), SPOOFED.start);
        let raw = Raw::tcp(&stage.net.client, from.ip());
        raw.send_with(&Segment { payload: b"early", ..Segment::syn(from, at) }, &FAST_OPEN);
        assert_eq!(raw.syn_ack(at, from, Duration::from_millis(300)), None);
        // Sent again without, as by every stack that knows the option.
        raw.send(&Segment::syn(from, at));
        assert!(raw.syn_ack(at, from, PATIENCE).is_some());
    }
}

/// How many pinholes two connections come to at the same moment, and for how long at most that is tried.
const RACES: usize = 1500;
const RACE_FOR: Duration = Duration::from_secs(8);

/// Connects when all do; gives back what it has then, with its mark in it.
struct Racer {
    sockets: mpsc::Sender<(Socket, SocketAddr, u32)>,
    streams: mpsc::Receiver<Option<TcpStream>>,
}

impl Racer {
    fn start(number: usize, ready: &Arc<AtomicUsize>) -> Self {
        let ready = Arc::clone(ready);
        let (sockets, inbox) = mpsc::channel::<(Socket, SocketAddr, u32)>();
        let (outbox, streams) = mpsc::channel();
        std::thread::spawn(move || {
            let mut cpus = nix::sched::CpuSet::new();
            cpus.set(number).unwrap();
            nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), &cpus).unwrap();
            for (round, (socket, at, delay)) in inbox.into_iter().enumerate() {
                let at = SockAddr::from(at);
                ready.fetch_add(1, Ordering::SeqCst);
                while ready.load(Ordering::SeqCst) < 2 * (round + 1) {
                    std::hint::spin_loop();
                }
                (0..delay).for_each(|_| std::hint::spin_loop());
                let connected = socket.connect_timeout(&at, Duration::from_millis(500)).is_ok();
                let mut stream = TcpStream::from(socket);
                let said = connected && stream.write_all(&[u8::try_from(number).unwrap()]).is_ok();
                outbox.send(said.then_some(stream)).unwrap();
            }
        });
        Self { sockets, streams }
    }
}

fn two_sockets(host: &Host, from: IpAddr) -> [Socket; 2] {
    host.run(move || {
        [(); 2].map(|()| {
            let socket = Socket::new(Domain::for_address((from, 0).into()), Type::STREAM, None).unwrap();
            socket.bind(&SocketAddr::new(from, 0).into()).unwrap();
            socket
        })
    })
}

#[test]
fn of_two_at_the_same_moment_one_gets_in() {
    for family in BOTH {
        race(&Stage::with(&Wish { family, inbound: "10001-14000", ..Wish::default() }));
    }
}

fn race(stage: &Stage) {
    let ready = Arc::default();
    let racers = [0, 1].map(|number| Racer::start(number, &ready));
    let (mut client, mut server) = stage.session();
    let mut used = std::collections::VecDeque::new();
    let end = Instant::now() + RACE_FOR;
    for round in 0..RACES {
        if Instant::now() > end {
            break;
        }
        let (at, data) = stage.passive(&mut client, &mut server);
        let sockets = two_sockets(&stage.net.client, stage.client_ip());
        for ((number, racer), socket) in racers.iter().enumerate().zip(sockets) {
            let delay = u32::try_from((round / 2 % 20) * 10).unwrap() * u32::from(number == round % 2);
            racer.sockets.send((socket, at, delay)).unwrap();
        }
        let mut streams = racers.each_ref().map(|racer| racer.streams.recv().unwrap());
        let mut theirs = accept(&data);
        let mut who = [0];
        theirs.read_exact(&mut who).unwrap();
        theirs.write_all(&who).unwrap();
        let winner = streams[usize::from(who[0])].as_mut().expect("it was heard");
        bounded(winner);
        let mut echo = [9];
        winner.read_exact(&mut echo).unwrap();
        assert_eq!(echo, who);
        nobody_else(&data, round);
        used.push_back(data);
        if used.len() > 100 {
            nobody_else(&used.pop_front().unwrap(), round);
        }
    }
    used.iter().for_each(|data| nobody_else(data, RACES));
}

#[track_caller]
fn nobody_else(data: &TcpListener, round: usize) {
    if let Ok((second, from)) = data.accept() {
        second.set_nonblocking(false).unwrap();
        second.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        let said = (&second).read(&mut [0]).unwrap_or(0);
        panic!("round {round}: {from} got in as the second, with {said} bytes");
    }
}
