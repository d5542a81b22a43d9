//! Each pinhole is for one connection of one peer, at one port, for a while.

use std::time::Duration;

use crate::lab::Family;
use crate::lab::net::Net;
use crate::stage::*;

const BOTH: [Family; 2] = [Family::V4, Family::V6];

fn stage(family: Family) -> Stage {
    Stage::with(&Wish { family, ..Wish::default() })
}

#[test]
fn a_stranger_does_not_get_in_and_does_not_use_the_pinhole_up() {
    for stage in BOTH.map(stage) {
        let (mut client, mut server) = stage.session();
        let (at, data) = stage.passive(&mut client, &mut server);
        stage.assert_shut(&stage.net.client, stage.stranger_ip(), at);
        stage.logged(&["event=\"stranger\"", &stage.stranger_ip().to_string()]);
        let ours = stage.dial(at).unwrap();
        begin(&mut client, &mut server, "RETR file");
        carries(accept(&data), ours, b"for the client");
        nobody_came_to(&data);
    }
}

#[test]
fn a_stranger_does_not_get_in_in_active_mode_either() {
    for stage in BOTH.map(stage) {
        let (mut client, mut server) = stage.session();
        let (at, data) = stage.active(&mut client, &mut server);
        // The client itself is not whom this pinhole is for.
        stage.assert_shut(&stage.net.client, stage.client_ip(), at);
        let theirs = stage.dial_back(at).unwrap();
        begin(&mut client, &mut server, "STOR file");
        carries(accept(&data), theirs, b"for the server");
        nobody_came_to(&data);
    }
}

#[test]
fn a_second_connection_is_refused() {
    for stage in BOTH.map(stage) {
        let (mut client, mut server) = stage.session();
        let (at, data) = stage.passive(&mut client, &mut server);
        let ours = stage.dial(at).unwrap();
        let theirs = accept(&data);
        stage.assert_shut(&stage.net.client, stage.client_ip(), at);
        nobody_came_to(&data);
        begin(&mut client, &mut server, "RETR file");
        carries(theirs, ours, b"and the first goes on");
    }
}

#[test]
fn nobody_is_let_in_after_the_timeout() {
    let stage = Stage::with(&Wish { timeout: "1s", ..Wish::default() });
    let (mut client, mut server) = stage.session();
    let (at, data) = stage.passive(&mut client, &mut server);
    stage.logged(&["event=\"pinhole_expired\"", "missing=client"]);
    stage.assert_shut(&stage.net.client, stage.client_ip(), at);
    nobody_came_to(&data);
    noop(&mut client, &mut server);
}

/// Either side may take its time, the client before its command and the server after it.
#[test]
fn the_time_counts_from_the_transfer() {
    let stage = Stage::with(&Wish { timeout: "2s", ..Wish::default() });
    let (mut client, mut server) = stage.session();
    let wait = || std::thread::sleep(Duration::from_millis(1300));
    let (at, data) = stage.active(&mut client, &mut server);
    wait();
    client.say("RETR tape");
    server.expect("RETR tape");
    wait();
    let theirs = stage.dial_back(at).unwrap();
    server.say("150 Found it");
    client.expect("150 Found it");
    carries(theirs, accept(&data), b"at last");
    complete(&mut client, &mut server);
    // It is used up all the same.
    stage.assert_shut(&stage.net.server, stage.server_ip(), at);
    nobody_came_to(&data);
    stage.logged(&["event=\"transfer\"", "outcome=\"ended\"", "datapath=\"kernel\""]);
    let (at, data) = stage.passive(&mut client, &mut server);
    wait();
    client.say("RETR tape");
    server.expect("RETR tape");
    stage.logged(&["event=\"pinhole_expired\"", "missing=client"]);
    stage.assert_shut(&stage.net.client, stage.client_ip(), at);
    nobody_came_to(&data);
}

/// The timeout is the kernel's too: a gate that hangs leaves nothing open for longer.
#[test]
fn the_timeout_needs_no_gate() {
    let stage = Stage::with(&Wish { timeout: "1s", ..Wish::default() });
    let (mut client, mut server) = stage.session();
    let (at, data) = stage.passive(&mut client, &mut server);
    stage.gate().pause();
    std::thread::sleep(Duration::from_millis(1200));
    // The gate's own listener takes what nothing leads elsewhere, and does not get to reset it.
    let _taken = stage.dial(at);
    nobody_came_to(&data);
}

#[test]
fn neighbour_ports_are_closed() {
    for stage in BOTH.map(stage) {
        let (mut client, mut server) = stage.session();
        let (at, _data) = stage.passive(&mut client, &mut server);
        let (back, _listener) = {
            let (mut other, mut its) = stage.session();
            let (back, listener) = stage.active(&mut other, &mut its);
            for port in [40000, 40003, if back.port() == 40001 { 40002 } else { 40001 }] {
                stage.assert_shut(&stage.net.server, stage.server_ip(), std::net::SocketAddr::new(back.ip(), port));
            }
            (back, listener)
        };
        assert!((40001..=40002).contains(&back.port()) && (10001..=10002).contains(&at.port()));
        for port in [10000, 10003, if at.port() == 10001 { 10002 } else { 10001 }] {
            stage.assert_shut(&stage.net.client, stage.client_ip(), stage.front(port));
        }
    }
}

#[test]
fn the_right_host_gets_to_no_other_port_of_the_server() {
    for stage in BOTH.map(stage) {
        let (mut client, mut server) = stage.session();
        let other = listen(&stage.net.server, std::net::SocketAddr::new(stage.server_ip(), 4444));
        let (at, data) = stage.passive(&mut client, &mut server);
        for to in [other.local_addr().unwrap(), data.local_addr().unwrap(), (stage.server_ip(), 21).into()] {
            stage.assert_shut(&stage.net.client, stage.client_ip(), to);
        }
        stage.dial(at).unwrap();
        accept(&data);
        for to in [other.local_addr().unwrap(), data.local_addr().unwrap()] {
            stage.assert_shut(&stage.net.client, stage.client_ip(), to);
        }
        nobody_came_to(&other);
        nobody_came_to(&data);
    }
}

/// Even where the machine forwards everything: the port that the server waits at is for who comes through the gate.
#[test]
fn nobody_gets_past_the_gate_to_where_a_pinhole_leads() {
    let stage = Stage::with(&Wish { closed: false, ..Wish::default() });
    let (mut client, mut server) = stage.session();
    let (at, data) = stage.passive(&mut client, &mut server);
    let direct = data.local_addr().unwrap();
    for from in [stage.client_ip(), stage.stranger_ip()] {
        stage.assert_shut(&stage.net.client, from, direct);
    }
    nobody_came_to(&data);
    stage.dial(at).unwrap();
    accept(&data);
}

/// The server reaches the client through the pinhole only; everybody else reaches whatever the client has at that port.
#[test]
fn a_port_that_a_client_names_stays_open_for_others() {
    for family in BOTH {
        let stage = Stage::with(&Wish { family, closed: false, ..Wish::default() });
        let other = stage.net.spur("third", 3).unwrap();
        let (mut client, mut server) = stage.session();
        let (at, data) = stage.active(&mut client, &mut server);
        let direct = data.local_addr().unwrap();
        let theirs = dial(&other, Net::spur_address(3, family), 0, direct, PATIENCE).unwrap();
        carries(theirs, accept(&data), b"no business of the gate's");
        stage.assert_shut(&stage.net.server, stage.server_ip(), direct);
        nobody_came_to(&data);
        let theirs = stage.dial_back(at).unwrap();
        begin(&mut client, &mut server, "RETR file");
        carries(theirs, accept(&data), b"for the client");
    }
}

#[test]
fn what_replaces_or_ends_a_negotiation_closes_its_pinhole_at_once() {
    let stage = Stage::with(&Wish { inbound: "10001-10020", ..Wish::default() });
    let ends: [fn(&Stage, &mut _, &mut _); 4] = [
        |stage, client, server| drop(stage.passive(client, server)),
        |stage, client, server| drop(stage.active(client, server)),
        |_, client, server| {
            client.say("QUIT");
            server.expect("QUIT");
            server.say("221 Bye");
            client.expect("221 Bye");
            client.expect_end();
        },
        |stage, client, _| {
            let yaml = Wish::default().yaml().replace("action: allow", "action: deny");
            let yaml = yaml.split("    datapath").next().unwrap();
            stage.gate().reload(yaml);
            client.expect_code("421");
            client.expect_end();
        },
    ];
    for end in ends {
        let (mut client, mut server) = stage.session();
        let (at, data) = stage.passive(&mut client, &mut server);
        end(&stage, &mut client, &mut server);
        stage.assert_shut(&stage.net.client, stage.client_ip(), at);
        nobody_came_to(&data);
    }
}

#[test]
fn a_first_packet_that_is_lost_behind_the_gate_is_sent_again() {
    for stage in BOTH.map(stage) {
        let (mut client, mut server) = stage.session();
        let (at, data) = stage.passive(&mut client, &mut server);
        let port = data.local_addr().unwrap().port();
        let rules = |family: &str, source: &str| {
            format!(
                "table {family} lossy {{ set seen {{ type inet_service; flags dynamic; size 10; }}\n\
                 chain in {{ type filter hook input priority 0; tcp dport {port} tcp flags syn {source} != @seen \
                 add @seen {{ {source} }} drop\n}}\n}}\n"
            )
        };
        load(&stage.net.server, &rules("inet", "tcp sport"));
        let ours = stage.dial(at).unwrap();
        begin(&mut client, &mut server, "RETR file");
        carries(accept(&data), ours, b"the second packet was the same connection");
    }
}

/// A client may come again from the same port, and be listened for at the same one.
#[test]
fn a_port_that_was_just_used_serves_the_next_connection() {
    for family in BOTH {
        let stage = Stage::with(&Wish {
            family,
            inbound: "10001",
            outbound: "40001",
            source_port: Some(20),
            ..Wish::default()
        });
        let (mut client, mut server) = stage.session();
        for round in 0_u8..5 {
            let (at, data) = stage.passive(&mut client, &mut server);
            let ours = dial(&stage.net.client, stage.client_ip(), 5555, at, Duration::from_secs(5)).unwrap();
            begin(&mut client, &mut server, "STOR file");
            let theirs = accept(&data);
            // Who closes first keeps the port: the server, here, so that the client can have it again.
            carries(theirs, ours, &[round; 1000]);
            complete(&mut client, &mut server);
        }
        let waits = listen(&stage.net.client, std::net::SocketAddr::new(stage.client_ip(), 6666));
        for round in 0_u8..5 {
            let at = stage.active_at(&mut client, &mut server, waits.local_addr().unwrap());
            let theirs = stage.dial_back(at).unwrap();
            begin(&mut client, &mut server, "RETR file");
            let ours = accept(&waits);
            assert_eq!(ours.peer_addr().unwrap(), (Net::gate_address(family), 20).into());
            carries(theirs, ours, &[round; 1000]);
            complete(&mut client, &mut server);
        }
    }
}
