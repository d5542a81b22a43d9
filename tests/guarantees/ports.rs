//! No port outside the rule's ranges is ever listened on, announced or dialled.

use std::collections::HashSet;
use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener};

use super::support::*;

#[test]
fn announced_ports_are_of_the_range() {
    let gate = Gate::start();
    let (mut client, mut server) = gate.session();
    for _ in 0..30 {
        let (port, _data) = client.passive(&mut server);
        assert!(gate.rules.inbound.contains(&port), "{port}");
        let open: Vec<u16> = gate.rules.all().filter(|port| is_open(*port)).collect();
        assert_eq!(open, [port]);
        let (port, _data) = client.active(&mut server);
        assert!(gate.rules.outbound.contains(&port), "{port}");
        let open: Vec<u16> = gate.rules.all().filter(|port| is_open(*port)).collect();
        assert_eq!(open, [port]);
    }
}

#[test]
fn a_server_port_outside_the_range_is_not_dialled() {
    let trap = listen(SERVER);
    let gate = Gate::with(|rules| rules.server_ports = Some(format!("1024-{}", port_of(&trap) - 1)));
    let (mut client, mut server) = gate.session();
    for (command, answer) in [
        ("PASV", told_227(SERVER, port_of(&trap))),
        ("EPSV", format!("229 Entering Extended Passive Mode (|||{}|)", port_of(&trap))),
        ("PASV", told_227(SERVER, 22)),
        ("PASV", told_227(SERVER, 0)),
    ] {
        client.say(command);
        server.expect(command);
        server.say(&answer);
        client.expect_code("425");
        gate.assert_all_closed();
    }
    gate.logged(&["event=\"refused\"", "reason=\"server_port_outside_range\""]);
    client.say("LIST");
    client.expect_code("425");
    client.noop_with(&mut server);
    nobody_came_to(&trap);
}

#[test]
fn a_client_port_outside_the_range_is_not_dialled() {
    let trap = listen(CLIENT);
    let port = port_of(&trap);
    let gate = Gate::with(|rules| rules.client_ports = Some(format!("1024-{}", port - 1)));
    let (mut client, mut server) = gate.session();
    let reason = "client_port_outside_range";
    let line = format!("PORT {}", host_port(CLIENT, port));
    client.assert_refused(&mut server, &gate, &line, "504", reason);
    client.assert_refused(&mut server, &gate, &format!("EPRT |1|127.0.0.1|{port}|"), "504", reason);
    client.assert_refused(&mut server, &gate, "PORT 127,0,0,1,0,22", "504", reason);
    nobody_came_to(&trap);
}

#[test]
fn privileged_client_ports_are_refused_where_a_rule_says_nothing() {
    let gate = Gate::start();
    let (mut client, mut server) = gate.session();
    for port in [20, 22, 25, 1023] {
        let line = format!("PORT {}", host_port(CLIENT, port));
        client.assert_refused(&mut server, &gate, &line, "504", "client_port_outside_range");
    }
}

#[test]
fn a_full_range_refuses_and_falls_back_to_nothing() {
    let gate = Gate::with(|rules| rules.inbound = *rules.inbound.start()..=*rules.inbound.start());
    let (mut client, mut server) = gate.session();
    let (port, data) = client.passive(&mut server);
    let (mut second, mut second_server) = gate.session();
    second.say("PASV");
    second_server.expect("PASV");
    second_server.say(&told_227(SERVER, port_of(&data)));
    second.expect_code("425");
    gate.logged(&["event=\"refused\"", "reason=\"range_full\""]);
    let open: Vec<u16> = gate.rules.all().filter(|port| is_open(*port)).collect();
    assert_eq!(open, [port]);
    let (mut other, mut other_server) = gate.session_from(OTHER_CLIENT);
    let (same, other_data) = other.passive(&mut other_server);
    assert_eq!(same, port);
    for (from, data, token) in [(OTHER_CLIENT, &other_data, b"other"), (CLIENT, &data, b"first")] {
        let ours = dial(from, port).unwrap();
        let mut theirs = accept(data);
        theirs.write_all(token).unwrap();
        drop(theirs);
        assert_eq!(all_of(ours), token);
    }
    // What was full is free again.
    assert_eq!(second.passive(&mut second_server).0, port);
}

#[test]
fn ports_of_another_program_are_skipped() {
    let gate = Gate::with(|rules| rules.inbound = *rules.inbound.start()..=*rules.inbound.start() + 1);
    let (taken, free) = (*gate.rules.inbound.start(), *gate.rules.inbound.end());
    let theirs = TcpListener::bind((CLIENT, taken)).unwrap();
    theirs.set_nonblocking(true).unwrap();
    let (mut client, mut server) = gate.session();
    let (port, _data) = client.passive(&mut server);
    assert_eq!(port, free);
    // The port is chosen at random, so the one that is taken is tried sooner or later.
    wait_until("the port that is taken is logged", || {
        let _again = client.passive(&mut server);
        gate.log().contains("event=\"port_taken\"")
    });
    gate.logged(&["event=\"port_taken\"", &format!("port={taken}")]);
    nobody_came_to(&theirs);
}

#[test]
fn a_range_that_other_programs_have_refuses() {
    let gate = Gate::start();
    let taken: Vec<TcpListener> =
        gate.rules.inbound.clone().map(|port| TcpListener::bind((CLIENT, port)).unwrap()).collect();
    let (mut client, mut server) = gate.session();
    client.say("PASV");
    server.expect("PASV");
    server.say(&told_227(SERVER, 40_000));
    client.expect_code("425");
    gate.logged(&["event=\"refused\"", "reason=\"ports_taken\""]);
    drop(taken);
    gate.assert_all_closed();
    client.passive(&mut server);
}

#[test]
fn five_ports_carry_twenty_clients_with_five_pinholes_each() {
    let gate = Gate::start();
    let mut sessions = Vec::new();
    for number in 1..=20 {
        let from = Ipv4Addr::new(127, 0, 1, number);
        let mut ports = HashSet::new();
        for _ in 0..5 {
            let (mut client, mut server) = gate.session_from(from);
            let (port, data) = client.passive(&mut server);
            assert!(gate.rules.inbound.contains(&port) && ports.insert(port), "{port}");
            sessions.push((from, client, server, port, data));
        }
    }
    let mut transfers = Vec::new();
    for (number, (from, _, _, port, data)) in sessions.iter().enumerate() {
        transfers.push((number, dial(*from, *port).unwrap(), accept(data)));
    }
    gate.assert_all_closed();
    for (number, ours, mut theirs) in transfers {
        theirs.write_all(format!("for {number}").as_bytes()).unwrap();
        drop(theirs);
        assert_eq!(all_of(ours), format!("for {number}").as_bytes());
    }
}

/// The gate does not connect to services of its own machine on a client's word: a rule has to name that machine.
#[test]
fn the_gate_is_not_led_to_itself() {
    let trap = listen(CLIENT);
    for from in ["any", "126.0.0.0/7"] {
        let gate = Gate::with(|rules| rules.from = from);
        let (mut client, mut server) = gate.session();
        let line = format!("PORT {}", host_port(CLIENT, port_of(&trap)));
        client.assert_refused(&mut server, &gate, &line, "504", "client_is_gate");
        let line = format!("EPRT |1|127.0.0.1|{}|", port_of(&trap));
        client.assert_refused(&mut server, &gate, &line, "504", "client_is_gate");
        // Passive mode does not dial the client.
        let (port, data) = client.passive(&mut server);
        let _ours = dial(CLIENT, port).unwrap();
        accept(&data);
    }
    nobody_came_to(&trap);
    let gate = Gate::with(|rules| rules.from = "127.0.0.1");
    let (mut client, mut server) = gate.session();
    let (port, data) = client.active(&mut server);
    client.begin(&mut server, "RETR a");
    let _theirs = dial(SERVER, port).unwrap();
    accept(&data);
}

/// Each waits for a millisecond: a range that is full now is not for long.
#[test]
fn more_sessions_of_a_client_than_ports_wait_for_each_other() {
    let gate = Gate::start();
    assert_eq!(gate.rules.inbound.clone().count(), 5);
    let sessions: Vec<_> = (0..12).map(|_| gate.session()).collect();
    let work = |(mut client, mut server): (Talk, Talk)| {
        move || {
            for _ in 0..50 {
                let (mut ours, theirs) = client.transfer(&mut server, "STOR file");
                ours.write_all(b"a small file").unwrap();
                drop(ours);
                assert_eq!(all_of(theirs), b"a small file");
                client.complete(&mut server);
            }
        }
    };
    let threads: Vec<_> = sessions.into_iter().map(|session| std::thread::spawn(work(session))).collect();
    let failed = threads.into_iter().filter_map(|thread| thread.join().err()).count();
    assert_eq!(failed, 0, "sessions out of twelve");
    assert_eq!(gate.count("outcome=\"ended\""), 600);
    assert_eq!(gate.count("range_full"), 0);
}

/// A range that stays full is refused, and the session goes on; nothing is opened for a client that has gone meanwhile.
#[test]
fn a_range_that_stays_full_is_refused() {
    let gate = Gate::start();
    let mut sessions: Vec<_> = (0..7).map(|_| gate.session()).collect();
    let (mut client, mut server) = sessions.pop().unwrap();
    let (mut leaving, mut its) = sessions.pop().unwrap();
    let held: Vec<_> = sessions.iter_mut().map(|(client, server)| client.passive(server)).collect();
    for (client, server) in [(&mut client, &mut server), (&mut leaving, &mut its)] {
        client.say("PASV");
        server.expect("PASV");
        server.say(&told_227(SERVER, 50_000));
    }
    drop(leaving);
    client.expect_code("425");
    gate.logged(&["event=\"refused\"", "reason=\"range_full\""]);
    client.noop_with(&mut server);
    drop((held, sessions, its));
    gate.wait_all_closed();
}

/// Either side may take its time, the client before its command and the server after it.
#[test]
fn the_time_of_a_port_counts_from_the_transfer() {
    let gate = Gate::with(|rules| rules.pinhole_timeout = "2s");
    let (mut client, mut server) = gate.session();
    let wait = || std::thread::sleep(std::time::Duration::from_millis(1300));
    let (port, data) = client.active(&mut server);
    wait();
    client.say("RETR tape");
    server.expect("RETR tape");
    wait();
    let mut theirs = dial(SERVER, port).unwrap();
    let ours = accept(&data);
    theirs.write_all(b"at last").unwrap();
    drop(theirs);
    assert_eq!(all_of(ours), b"at last");
    client.complete(&mut server);
    client.passive(&mut server);
    wait();
    client.say("RETR tape");
    server.expect("RETR tape");
    gate.logged(&["event=\"pinhole_expired\"", "missing=client"]);
    gate.wait_all_closed();
}
