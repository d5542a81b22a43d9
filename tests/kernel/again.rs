//! The same peer comes again from the same port to the same port: it gets where its own pinhole leads and nowhere else,
//! whatever became of the connection before.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::lab::Family;
use crate::raw::{ACK, Raw, Segment};
use crate::stage::*;
use crate::talk::Talk;

pub const BOTH: [Family; 2] = [Family::V4, Family::V6];

/// Where the peer that comes to the gate comes from, each time.
const FROM: u16 = 20;

/// Which side comes to the gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Passive,
    Active,
}

/// How the first connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    ResetByComer,
    ResetByOther,
    FinByComer,
    FinByOther,
    CutByGate,
}

pub const MODES: [Mode; 2] = [Mode::Passive, Mode::Active];

/// One port of the gate's for each side, so that both connections have it.
pub fn narrow(family: Family) -> Wish {
    Wish { family, inbound: "10001", outbound: "20000", ..Wish::default() }
}

fn stage(family: Family) -> Stage {
    let stage = Stage::with(&narrow(family));
    allow_ports_again(&stage);
    stage
}

/// A port in TIME_WAIT may be dialled from again after a second.
pub fn allow_ports_again(stage: &Stage) {
    for host in [&stage.net.client, &stage.net.server] {
        host.sysctl(&[("net/ipv4/tcp_tw_reuse", "1")]).unwrap();
    }
}

/// A session, and a pinhole that leads to the listener.
pub struct Opened {
    pub client: Talk,
    pub server: Talk,
    pub at: SocketAddr,
    pub data: TcpListener,
}

#[track_caller]
pub fn open(stage: &Stage, mode: Mode) -> Opened {
    let (mut client, mut server) = stage.session();
    let (at, data) = match mode {
        Mode::Passive => stage.passive(&mut client, &mut server),
        Mode::Active => stage.active(&mut client, &mut server),
    };
    Opened { client, server, at, data }
}

/// The peer connects, always from the same port; tries for some seconds.
#[track_caller]
pub fn come(stage: &Stage, mode: Mode, at: SocketAddr) -> TcpStream {
    let end = Instant::now() + PATIENCE;
    loop {
        let dialled = match mode {
            Mode::Passive => dial(&stage.net.client, stage.client_ip(), FROM, at, PATIENCE),
            Mode::Active => dial(&stage.net.server, stage.server_ip(), FROM, at, PATIENCE),
        };
        match dialled {
            Ok(stream) => return stream,
            // Its own TIME_WAIT.
            Err(ErrorKind::AddrNotAvailable) if Instant::now() < end => std::thread::sleep(Duration::from_millis(100)),
            Err(error) => panic!("{mode:?}: {error}"),
        }
    }
}

/// Ends the transfer between the connecting side and the other one, as wanted.
#[track_caller]
fn finish(stage: &Stage, opened: Opened, mode: Mode, end: End, comer: TcpStream, other: TcpStream) -> TcpListener {
    let Opened { mut client, mut server, data, .. } = opened;
    let mut told_broken = || {
        server.say("426 Broken");
        client.expect("426 Broken");
    };
    match end {
        End::ResetByComer => {
            reset(comer);
            assert_reset(other);
            told_broken();
            let outcome = if mode == Mode::Passive { "cut_by_client" } else { "cut_by_server" };
            stage.logged(&["event=\"transfer\"", &format!("outcome=\"{outcome}\"")]);
        }
        End::ResetByOther => {
            reset(other);
            assert_reset(comer);
            told_broken();
            let outcome = if mode == Mode::Passive { "cut_by_server" } else { "cut_by_client" };
            stage.logged(&["event=\"transfer\"", &format!("outcome=\"{outcome}\"")]);
        }
        End::FinByComer | End::FinByOther => {
            let (first, mut second) = if end == End::FinByComer { (comer, other) } else { (other, comer) };
            first.shutdown(std::net::Shutdown::Write).unwrap();
            second.read_to_end(&mut Vec::new()).unwrap();
            drop(second);
            (&first).read_to_end(&mut Vec::new()).unwrap();
            drop(first);
        }
        End::CutByGate => {
            drop((client, server));
            stage.logged(&["event=\"session_ended\""]);
            // Who says more hears of it.
            (&other).write_all(b"more").unwrap();
            assert_reset(comer);
            assert_reset(other);
            return data;
        }
    }
    drop((client, server));
    data
}

#[track_caller]
pub fn comes_again(stage: &Stage, mode: Mode, end: End) {
    let earlier = open(stage, mode);
    let at = earlier.at;
    let mut comer = come(stage, mode, at);
    let mut other = accept(&earlier.data);
    let mut earlier = earlier;
    begin(&mut earlier.client, &mut earlier.server, "RETR big");
    other.write_all(b"there").unwrap();
    comer.read_exact(&mut [0; 5]).unwrap();
    comer.write_all(b"and back").unwrap();
    other.read_exact(&mut [0; 8]).unwrap();
    // It goes on listening.
    let waiting = finish(stage, earlier, mode, end, comer, other);

    let mut later = open(stage, mode);
    assert_eq!(later.at, at);
    let began = Instant::now();
    let comer = come(stage, mode, at);
    let other = accept(&later.data);
    begin(&mut later.client, &mut later.server, "RETR small");
    let (of_server, of_client) = if mode == Mode::Passive { (other, comer) } else { (comer, other) };
    carries(of_server, of_client, b"for the second alone");
    complete(&mut later.client, &mut later.server);
    nobody_came_to(&waiting);
    assert!(began.elapsed() < Duration::from_secs(8), "{mode:?} {end:?}: {:?}", began.elapsed());
    stage.logged(&["event=\"transfer\"", "outcome=\"ended\"", "bytes=20 "]);
}

fn all_come_again(end: End) {
    for family in BOTH {
        for mode in MODES {
            eprintln!("{family:?} {mode:?} {end:?}");
            comes_again(&stage(family), mode, end);
        }
    }
}

#[test]
fn after_a_reset_by_the_peer_that_came() {
    all_come_again(End::ResetByComer);
}

#[test]
fn after_a_reset_by_the_other() {
    all_come_again(End::ResetByOther);
}

#[test]
fn after_the_peer_that_came_closed() {
    all_come_again(End::FinByComer);
}

#[test]
fn after_the_other_closed() {
    all_come_again(End::FinByOther);
}

#[test]
fn after_the_gate_cut_it() {
    all_come_again(End::CutByGate);
}

/// What is still on its way after a reset does not shut the port: a download is reset in full flow.
#[test]
fn after_a_reset_in_full_flow() {
    for family in BOTH {
        for mode in MODES {
            let stage = stage(family);
            for _ in 0..5 {
                let Opened { mut client, mut server, at, data } = open(&stage, mode);
                let comer = come(&stage, mode, at);
                let other = accept(&data);
                begin(&mut client, &mut server, "RETR big");
                let (receiver, sender) = if mode == Mode::Passive { (comer, other) } else { (other, comer) };
                let sender = flood(sender);
                (&receiver).read_exact(&mut [0; 100_000]).unwrap();
                reset(receiver);
                sender.join().unwrap();
                server.say("426 Cut");
                client.expect("426 Cut");
            }
            comes_again(&stage, mode, End::FinByOther);
        }
    }
}

/// Killed and started again: nothing that moved goes on unseen, and the ports can be used at once.
#[test]
fn after_the_gate_was_killed() {
    for family in BOTH {
        for mode in MODES {
            let mut stage = stage(family);
            let earlier = open(&stage, mode);
            let at = earlier.at;
            let comer = come(&stage, mode, at);
            let other = accept(&earlier.data);
            stage.gate().signal(Signal::KILL);
            assert!(stage.gate.as_mut().unwrap().ends());
            // Both are silent meanwhile.
            stage.restart(&narrow(family));
            (&other).write_all(b"does this go on?").unwrap();
            assert_reset(comer);
            assert_reset(other);
            let mut later = open(&stage, mode);
            let comer = come(&stage, mode, at);
            begin(&mut later.client, &mut later.server, "RETR small");
            carries(accept(&later.data), comer, b"again");
            nobody_came_to(&earlier.data);
        }
    }
}

/// A connection that moves is left alone by a first packet with its addresses and ports, which goes nowhere.
#[test]
fn a_syn_in_the_middle_goes_nowhere_and_harms_nothing() {
    for family in BOTH {
        for mode in MODES {
            let stage = stage(family);
            let mut opened = open(&stage, mode);
            let comer = come(&stage, mode, opened.at);
            let other = accept(&opened.data);
            begin(&mut opened.client, &mut opened.server, "RETR big");
            let (host, ip, beyond) = match mode {
                Mode::Passive => (&stage.net.client, stage.client_ip(), &stage.net.server),
                Mode::Active => (&stage.net.server, stage.server_ip(), &stage.net.client),
            };
            load(
                beyond,
                "table inet syns { chain in { type filter hook input priority 0; tcp dport != 21 tcp flags & (syn | ack) == syn counter\n}\n}\n",
            );
            // A pinhole waits at the same place for another connection.
            let (_talks, data) = if mode == Mode::Passive {
                let later = open(&stage, mode);
                ((later.client, later.server), Some(later.data))
            } else {
                (stage.session(), None)
            };
            let raw = Raw::tcp(host, ip);
            for _ in 0..5 {
                raw.send(&Segment::syn(SocketAddr::new(ip, FROM), opened.at));
            }
            std::thread::sleep(Duration::from_millis(1500));
            assert_eq!(packets(beyond, "syns"), 0, "{family:?} {mode:?}");
            let (of_server, of_client) = if mode == Mode::Passive { (other, comer) } else { (comer, other) };
            carries(of_server, of_client, &goods(100_000));
            complete(&mut opened.client, &mut opened.server);
            data.iter().for_each(nobody_came_to);
            stage.logged(&["event=\"transfer\"", "outcome=\"ended\"", "bytes=100000"]);
        }
    }
}

/// A packet that belongs to nothing leaves an entry in conntrack, which the next connection from that port meets.
#[test]
fn after_a_packet_out_of_nowhere() {
    for family in BOTH {
        for mode in MODES {
            let stage = stage(family);
            let (host, ip) = match mode {
                Mode::Passive => (&stage.net.client, stage.client_ip()),
                Mode::Active => (&stage.net.server, stage.server_ip()),
            };
            let mut opened = open(&stage, mode);
            let stray = Segment { flags: ACK, acknowledged: 77, ..Segment::syn((ip, FROM).into(), opened.at) };
            Raw::tcp(host, ip).send(&stray);
            std::thread::sleep(Duration::from_millis(100));
            let comer = come(&stage, mode, opened.at);
            begin(&mut opened.client, &mut opened.server, "RETR small");
            carries(accept(&opened.data), comer, b"all the same");
        }
    }
}

/// The SYN of a connection that was refused, or came to nothing, is not led where the earlier pinhole led.
#[test]
fn after_a_refusal() {
    for family in BOTH {
        for mode in MODES {
            let stage = stage(family);
            let Opened { at, data, client, server } = open(&stage, mode);
            let nobody = data.local_addr().unwrap();
            drop(data);
            let (host, ip) = match mode {
                Mode::Passive => (&stage.net.client, stage.client_ip()),
                Mode::Active => (&stage.net.server, stage.server_ip()),
            };
            assert_eq!(dial(host, ip, FROM, at, PATIENCE).unwrap_err(), ErrorKind::ConnectionRefused);
            drop((client, server));
            stage.logged(&["event=\"session_ended\""]);
            let mut later = open(&stage, mode);
            // Somebody listens where the first one led.
            let earlier = listen(if mode == Mode::Passive { &stage.net.server } else { &stage.net.client }, nobody);
            let comer = come(&stage, mode, at);
            begin(&mut later.client, &mut later.server, "RETR small");
            carries(accept(&later.data), comer, b"for the second");
            nobody_came_to(&earlier);
        }
    }
}

/// A first packet that is sent again is no other connection's.
#[test]
fn a_syn_that_is_sent_again_passes() {
    for family in BOTH {
        for mode in MODES {
            let stage = stage(family);
            let beyond = if mode == Mode::Passive { &stage.net.server } else { &stage.net.client };
            // The first answers are lost: to the first SYN, and to one that is sent again.
            load(
                beyond,
                "table inet lossy { chain out { type filter hook output priority 0; tcp sport != 21 \
                 tcp flags & (syn | ack) == syn | ack limit rate over 1/hour burst 1 packets accept; \
                 tcp sport != 21 tcp flags & (syn | ack) == syn | ack drop\n}\n}\n",
            );
            // Another gate, which knows nothing of the pinhole, sees these packets too.
            let second = narrow(family).yaml().replace(":21\"\n    server", ":2121\"\n    server");
            let _beside = crate::lab::gate::Gate::start_with(&stage.net, &second, 2121).unwrap();
            let mut opened = open(&stage, mode);
            let comer = come(&stage, mode, opened.at);
            begin(&mut opened.client, &mut opened.server, "RETR small");
            carries(accept(&opened.data), comer, b"at the second try");
        }
    }
}

/// A server that always dials from the same port cannot come again to one where its connection moves.
#[test]
fn a_port_at_which_the_same_peer_moves_data_is_taken_last() {
    for (family, datapath) in BOTH.into_iter().flat_map(|family| ["kernel", "relay"].map(|each| (family, each))) {
        for mode in MODES {
            let stage = Stage::with(&Wish { family, datapath, ..Wish::default() });
            let moving = open(&stage, mode);
            let comer = come(&stage, mode, moving.at);
            let other = accept(&moving.data);
            for _ in 0..4 {
                let later = open(&stage, mode);
                assert_ne!(later.at, moving.at, "{datapath}");
                drop((later.client, later.server));
                let ended = || (stage.elements() == 0).then_some(());
                crate::lab::poll(PATIENCE, ended).unwrap();
            }
            // Where there is no other one, it is.
            let [first, second] = [(); 2].map(|()| open(&stage, mode));
            assert!(first.at != moving.at && second.at == moving.at);
            drop((comer, other));
        }
    }
}

/// What a gate that was killed has left is ended when no other gate runs, and not before: it might be the other one's.
#[test]
fn what_another_gate_moves_is_left_alone() {
    let mut stage = stage(Family::V4);
    let second = narrow(Family::V4).yaml().replace(":21\"\n    server", ":2121\"\n    server");
    let second = second.replace("10001", "10002").replace("20000", "20002");
    let other_gate = crate::lab::gate::Gate::start_with(&stage.net, &second, 2121).unwrap();
    let mut opened = open(&stage, Mode::Passive);
    let comer = come(&stage, Mode::Passive, opened.at);
    let other = accept(&opened.data);
    begin(&mut opened.client, &mut opened.server, "RETR file");
    // It is started while the first one's data moves.
    drop(other_gate);
    let other_gate = crate::lab::gate::Gate::start_with(&stage.net, &second, 2121).unwrap();
    std::thread::sleep(Duration::from_millis(1500));
    (&other).write_all(b"still here").unwrap();
    (&comer).read_exact(&mut [0; 10]).unwrap();
    // It hears of the first one's end.
    stage.gate().signal(Signal::KILL);
    assert!(stage.gate.as_mut().unwrap().ends());
    std::thread::sleep(Duration::from_millis(2500));
    let _ = (&other).write_all(b"does this go on?");
    assert_reset(comer);
    assert_reset(other);
    drop(other_gate);
}

/// The client has one port for data, and sees each connection to it come from the same one. It says the next PORT while
/// the last connection to that port is closing.
#[test]
fn a_client_with_one_port_gets_every_file() {
    for family in BOTH {
        let wish = Wish { family, outbound: "40001-40100", source_port: Some(20), ..Wish::default() };
        let stage = Stage::with(&wish);
        allow_ports_again(&stage);
        let (mut client, mut server) = stage.session();
        let own = SocketAddr::new(stage.client_ip(), 5000);
        let data = listen(&stage.net.client, own);
        let mut closing = None;
        for round in 0..200 {
            let at = stage.active_at(&mut client, &mut server, own);
            // The server closes when it is asked for the next one, or even later.
            let late = closing.take().filter(|_| round % 4 == 3);
            let theirs = stage.dial_back(at).unwrap_or_else(|error| panic!("round {round}: {error}"));
            let ours = accept(&data);
            drop(late);
            begin(&mut client, &mut server, "RETR small");
            (&theirs).write_all(b"some bytes").unwrap();
            (&ours).read_exact(&mut [0; 10]).unwrap();
            match round % 4 {
                0 => {
                    drop(theirs);
                    (&ours).read_to_end(&mut Vec::new()).unwrap();
                }
                1 => drop((ours, theirs)),
                _ => {
                    // The client knows how much there was.
                    drop(ours);
                    closing = Some(theirs);
                }
            }
            complete(&mut client, &mut server);
        }
    }
}

/// The peer that a pinhole leads to remembers an earlier connection with the same addresses and ports for longer than
/// conntrack does: it answers the SYN by an ACK, and the one that follows by a SYN-ACK.
#[test]
fn where_the_other_remembers_longer_than_conntrack() {
    for (family, mode) in BOTH.into_iter().flat_map(|family| MODES.map(|mode| (family, mode))) {
        let stage = stage(family);
        stage.net.gate.sysctl(&[("net/netfilter/nf_conntrack_tcp_timeout_time_wait", "1")]).unwrap();
        let (far, far_ip) = match mode {
            Mode::Passive => (&stage.net.server, stage.server_ip()),
            Mode::Active => (&stage.net.client, stage.client_ip()),
        };
        for host in [&stage.net.client, &stage.net.server] {
            // With time stamps the SYN would be known to be a later one's.
            host.sysctl(&[("net/ipv4/tcp_timestamps", "0")]).unwrap();
        }
        let data = listen(far, SocketAddr::new(far_ip, 5000));
        load(
            far,
            "table inet resets { chain in { type filter hook input priority 0; tcp dport 5000 tcp flags & rst == rst counter\n}\n}\n",
        );
        let (mut client, mut server) = stage.session();
        for bytes in [100_000_000, 10] {
            let at = match mode {
                Mode::Passive => stage.passive_at(&mut client, &mut server, 5000),
                Mode::Active => stage.active_at(&mut client, &mut server, data.local_addr().unwrap()),
            };
            let comer = come(&stage, mode, at);
            let other = accept(&data);
            begin(&mut client, &mut server, "STOR file");
            // More numbers are used than new connections' first numbers advance meanwhile.
            let goods = vec![7; bytes];
            std::thread::scope(|scope| {
                scope.spawn(|| (&comer).write_all(&goods).unwrap());
                (&other).read_exact(&mut vec![0; goods.len()]).unwrap();
            });
            other.shutdown(std::net::Shutdown::Write).unwrap();
            (&comer).read_to_end(&mut Vec::new()).unwrap();
            drop(comer);
            (&other).read_to_end(&mut Vec::new()).unwrap();
            drop(other);
            complete(&mut client, &mut server);
            std::thread::sleep(Duration::from_millis(2500));
        }
        assert!(packets(far, "resets") > 0, "the SYN was not taken for an earlier connection's");
        assert!(!stage.gate().log().contains("half_open"), "{}", stage.gate().log());
    }
}
