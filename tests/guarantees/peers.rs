//! Data goes between the two peers of a session only: once, in time, whatever a peer says about addresses.

use std::io::Write as _;
use std::net::Ipv4Addr;

use super::support::*;

#[test]
fn a_stranger_is_reset_and_does_not_use_up_a_passive_pinhole() {
    let gate = Gate::start();
    let (mut client, mut server) = gate.session();
    let (port, data) = client.passive(&mut server);
    assert_shut_out(STRANGER, port);
    gate.logged(&[
        "event=\"stranger\"",
        "from=127.0.0.2:",
        "awaited=127.0.0.1 ",
        "data_peers: { client: \\\"127.0.0.2/32",
    ]);
    nobody_came_to(&data);
    client.begin(&mut server, "RETR file");
    let ours = dial(CLIENT, port).unwrap();
    let mut theirs = accept(&data);
    theirs.write_all(&goods(100_000)).unwrap();
    drop(theirs);
    assert!(all_of(ours) == goods(100_000));
    client.complete(&mut server);
}

#[test]
fn a_stranger_is_reset_and_does_not_use_up_an_active_pinhole() {
    let gate = Gate::start();
    let (mut client, mut server) = gate.session();
    let (port, data) = client.active(&mut server);
    assert!(gate.rules.outbound.contains(&port));
    assert_shut_out(STRANGER, port);
    gate.logged(&["event=\"stranger\"", "from=127.0.0.2:"]);
    nobody_came_to(&data);
    client.begin(&mut server, "RETR file");
    let mut theirs = dial(SERVER, port).unwrap();
    let ours = accept(&data);
    theirs.write_all(&goods(100_000)).unwrap();
    drop(theirs);
    assert!(all_of(ours) == goods(100_000));
    client.complete(&mut server);
    gate.assert_all_closed();
}

/// Balancers, clusters, CGNAT: a rule may name further addresses of the peers, each side's for itself.
#[test]
fn other_addresses_of_a_peer_are_let_in_where_the_rule_names_them() {
    const CLIENTS: Ipv4Addr = Ipv4Addr::new(127, 0, 3, 5);
    const SERVERS: Ipv4Addr = Ipv4Addr::new(127, 0, 4, 5);
    let gate = Gate::with(|rules| {
        rules.rule = "    data_peers: { client: \"127.0.3.0/28\", server: \"127.0.4.0/28\" }\n";
    });
    let (mut client, mut server) = gate.session();
    let (port, data) = client.passive(&mut server);
    assert_shut_out(STRANGER, port);
    assert_shut_out(SERVERS, port);
    gate.logged(&["event=\"stranger\"", "data_peers"]);
    nobody_came_to(&data);
    let mut ours = dial(CLIENTS, port).unwrap();
    let theirs = accept(&data);
    assert_shut_out(CLIENT, port);
    client.begin(&mut server, "STOR file");
    ours.write_all(b"whole").unwrap();
    drop(ours);
    assert_eq!(all_of(theirs), b"whole");
    client.complete(&mut server);
    let (port, data) = client.active(&mut server);
    assert_shut_out(CLIENTS, port);
    client.begin(&mut server, "RETR file");
    let mut theirs = dial(SERVERS, port).unwrap();
    let ours = accept(&data);
    theirs.write_all(&goods(1_000)).unwrap();
    drop(theirs);
    assert!(all_of(ours) == goods(1_000));
    client.complete(&mut server);
    gate.assert_all_closed();
    // The gate never goes to loopback because a peer says so, and does not advise what stands in the rule already.
    let line = format!("PORT {}", host_port(CLIENTS, 50_000));
    client.assert_refused(&mut server, &gate, &line, "504", "foreign_address");
    gate.logged(&["reason=\"foreign_address\"", "data never goes there"]);
}

#[test]
fn a_pinhole_takes_one_connection() {
    let gate = Gate::start();
    let (mut client, mut server) = gate.session();
    let (port, data) = client.passive(&mut server);
    let mut ours = dial(CLIENT, port).unwrap();
    let theirs = accept(&data);
    assert_shut_out(CLIENT, port);
    assert_shut_out(STRANGER, port);
    gate.assert_all_closed();
    nobody_came_to(&data);
    client.begin(&mut server, "STOR file");
    ours.write_all(b"whole").unwrap();
    drop(ours);
    assert_eq!(all_of(theirs), b"whole");
    client.complete(&mut server);
    assert_shut_out(CLIENT, port);
}

#[test]
fn an_active_pinhole_takes_one_connection() {
    let gate = Gate::start();
    let (mut client, mut server) = gate.session();
    let (port, data) = client.active(&mut server);
    let theirs = dial(SERVER, port).unwrap();
    let ours = accept(&data);
    assert_shut_out(SERVER, port);
    nobody_came_to(&data);
    drop(theirs);
    assert!(all_of(ours).is_empty());
}

#[test]
fn a_pinhole_ends_with_its_time() {
    let gate = Gate::with(|rules| rules.pinhole_timeout = "1s");
    let (mut client, mut server) = gate.session();
    let (passive, server_data) = client.passive(&mut server);
    wait_until("the passive pinhole is gone", || !is_open(passive));
    gate.logged(&["event=\"pinhole_expired\"", "missing=client"]);
    assert_shut_out(CLIENT, passive);
    nobody_came_to(&server_data);
    let (active, client_data) = client.active(&mut server);
    wait_until("the active pinhole is gone", || !is_open(active));
    gate.logged(&["event=\"pinhole_expired\"", "missing=server"]);
    assert_shut_out(SERVER, active);
    nobody_came_to(&client_data);
    client.say("RETR file");
    client.expect_code("425");
    client.noop_with(&mut server);
}

#[test]
fn a_pinhole_ends_with_its_session_and_with_the_next_negotiation() {
    let gate = Gate::start();
    let (mut client, mut server) = gate.session();
    let (first, _first_data) = client.passive(&mut server);
    assert!(is_open(first));
    let (second, _second_data) = client.active(&mut server);
    assert!(!is_open(first) && is_open(second));
    drop(client);
    gate.wait_all_closed();
}

#[test]
fn port_to_another_host_is_refused() {
    let gate = Gate::start();
    let (mut client, mut server) = gate.session();
    let trap = listen(STRANGER);
    let line = format!("PORT {}", host_port(STRANGER, port_of(&trap)));
    client.assert_refused(&mut server, &gate, &line, "504", "foreign_address");
    let line = format!("EPRT |1|127.0.0.2|{}|", port_of(&trap));
    client.assert_refused(&mut server, &gate, &line, "504", "foreign_address");
    client.say("LIST");
    client.expect_code("425");
    client.noop_with(&mut server);
    nobody_came_to(&trap);
}

#[test]
fn a_227_of_another_host_leads_to_the_server_itself() {
    let gate = Gate::start();
    let (mut client, mut server) = gate.session();
    let elsewhere = Ipv4Addr::new(127, 0, 0, 9);
    // The same port of two hosts: each time the kernel may have given it away at one of them.
    let both = || {
        let trap = listen(elsewhere);
        let data = std::net::TcpListener::bind((SERVER, port_of(&trap))).ok()?;
        Some((trap, data))
    };
    let (trap, data) = poll(both).unwrap();
    data.set_nonblocking(true).unwrap();
    client.say("PASV");
    server.expect("PASV");
    server.say(&told_227(elsewhere, port_of(&trap)));
    let port = the_port_in(&client.expect_code("227"));
    gate.logged(&["event=\"foreign_server_address\"", "named=127.0.0.9", "used=127.0.0.1"]);
    client.begin(&mut server, "RETR file");
    let ours = dial(CLIENT, port).unwrap();
    let mut theirs = accept(&data);
    theirs.write_all(b"from the peer").unwrap();
    drop(theirs);
    assert_eq!(all_of(ours), b"from the peer");
    client.complete(&mut server);
    nobody_came_to(&trap);
}

/// Two sessions of one address, as behind a NAT: the late connection of one never gets the other's file.
#[test]
fn a_late_connection_does_not_reach_another_session_of_the_same_address() {
    let gate = Gate::start();
    let (mut first, mut first_server) = gate.session();
    let (mut second, mut second_server) = gate.session();
    for turn in 0..200 {
        let (given_up, _) = first.passive(&mut first_server);
        let (_, _) = first.passive(&mut first_server);
        let (port, data) = second.passive(&mut second_server);
        assert_shut_out(CLIENT, given_up);
        let ours = dial(CLIENT, port).unwrap();
        let mut theirs = accept(&data);
        second.begin(&mut second_server, "RETR b");
        theirs.write_all(format!("of the second, {turn}").as_bytes()).unwrap();
        drop(theirs);
        assert_eq!(all_of(ours), format!("of the second, {turn}").as_bytes());
        second.complete(&mut second_server);
    }
}

/// The peer may have come from another address of its own: no firewall is to blame.
#[test]
fn a_pinhole_at_which_somebody_else_was_turned_away_names_it() {
    let gate = Gate::with(|rules| rules.pinhole_timeout = "2s");
    let (mut client, mut server) = gate.session();
    let (port, _data) = client.passive(&mut server);
    client.say("RETR file");
    server.expect("RETR file");
    assert_shut_out(STRANGER, port);
    gate.logged(&["event=\"pinhole_expired\"", "127.0.0.2 connected to port", "data_peers: { client: "]);
    assert!(!gate.log().contains("firewall"), "{}", gate.log());
}

/// With `data_peers` a port waits for one of several clients that may come from one address.
#[test]
fn a_range_that_is_full_because_of_data_peers_says_so() {
    let gate = Gate::with(|rules| {
        let first = *rules.inbound.start();
        rules.inbound = first..=first;
        rules.rule = "    data_peers: { client: \"127.0.3.0/28\" }\n";
    });
    let (mut client, mut server) = gate.session();
    let (_port, _data) = client.passive(&mut server);
    let (mut other, mut others) = gate.session_from(STRANGER);
    other.say("PASV");
    others.expect("PASV");
    others.say(&told_227(SERVER, 4711));
    other.expect_code("425");
    gate.logged(&["reason=\"range_full\"", "with `data_peers` a port does not wait for two peers"]);
}
