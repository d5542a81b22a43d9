//! Each limit bites, says which it is, lets others go on, and is there again for the next.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpStream};
use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use super::support::*;

fn gate_limits(limits: &'static str) -> Gate {
    Gate::with(|rules| rules.listener = limits)
}

fn rule_limits(limits: &'static str) -> Gate {
    Gate::with(|rules| rules.rule = limits)
}

/// A client that gets no session, and is told why; its server hears nothing of it.
#[track_caller]
fn turned_away(gate: &Gate, from: Ipv4Addr, limit: &str) {
    let mut client = Talk::new(dial(from, gate.rules.front()).unwrap());
    let reply = client.expect_code("421");
    assert!(reply.lines[0].contains(&format!("({limit})")), "{:?}", reply.lines);
    client.expect_end();
    nobody_came_to(&gate.server);
}

/// There is room for another session, once the gate has seen the end of one.
#[track_caller]
fn gets_in(gate: &Gate, from: Ipv4Addr) -> (Talk, Talk) {
    let client = poll(|| {
        let mut client = Talk::new(dial(from, gate.rules.front()).unwrap());
        let mut server = None;
        // Whoever is turned away is told at once; else the server is there.
        wait_until("a server or a goodbye", || {
            server = gate.server.accept().ok();
            server.is_some() || has_said(&client.stream)
        });
        let (server, _) = server?;
        server.set_nonblocking(false).unwrap();
        let mut server = Talk::new(server);
        server.say("220 Ready");
        client.expect("220 Ready");
        Some((client, server))
    });
    client.expect("nobody gets in")
}

fn has_said(stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    let said = stream.peek(&mut [0]).is_ok();
    stream.set_nonblocking(false).unwrap();
    said
}

fn log_in(client: &mut Talk, server: &mut Talk, user: &str, reply: &str) {
    client.say(&format!("USER {user}"));
    server.expect(&format!("USER {user}"));
    server.say(reply);
    client.expect(reply);
}

#[test]
fn sessions_of_the_gate() {
    let gate = gate_limits("limits:\n  sessions: 2\n");
    let (first, mut second) = (gate.session(), gate.session_from(OTHER_CLIENT));
    turned_away(&gate, CLIENT, "sessions");
    turned_away(&gate, STRANGER, "sessions");
    gate.logged(&["event=\"limit\"", "limit=\"sessions\"", "value=\"2\"", "of=\"gate\""]);
    second.0.noop_with(&mut second.1);
    drop(first);
    let (mut client, mut server) = gets_in(&gate, STRANGER);
    client.noop_with(&mut server);
    second.0.noop_with(&mut second.1);
}

#[test]
fn sessions_of_a_client() {
    let gate = gate_limits("limits:\n  per_client: { sessions: 1 }\n");
    let (mut client, mut server) = gate.session();
    turned_away(&gate, CLIENT, "sessions");
    gate.logged(&["event=\"limit\"", "limit=\"sessions\"", "of=\"gate\" each=\"client\""]);
    let (mut other, mut others_server) = gate.session_from(OTHER_CLIENT);
    other.noop_with(&mut others_server);
    client.noop_with(&mut server);
    // It is counted until its last data connection is over, and no longer.
    drop((client, server));
    gets_in(&gate, CLIENT);
}

#[test]
fn new_sessions_in_a_minute() {
    let gate = gate_limits("limits:\n  per_client: { sessions_per_minute: 2 }\n");
    drop(gate.session());
    let (mut client, mut server) = gate.session();
    turned_away(&gate, CLIENT, "sessions_per_minute");
    gate.logged(&["event=\"limit\"", "limit=\"sessions_per_minute\"", "value=\"2\""]);
    gate.session_from(OTHER_CLIENT);
    client.noop_with(&mut server);
}

#[test]
fn sessions_of_a_rule() {
    let gate = rule_limits("    limits: { sessions: 2, per_client: { sessions: 1 } }\n");
    let mut first = gate.session();
    turned_away(&gate, CLIENT, "sessions");
    gate.logged(&["event=\"limit\"", "value=\"1\"", "of=\"rule\" rule=\"tested\" each=\"client\""]);
    let _second = gate.session_from(OTHER_CLIENT);
    turned_away(&gate, STRANGER, "sessions");
    gate.logged(&["event=\"limit\"", "value=\"2\"", "of=\"rule\" rule=\"tested\""]);
    first.0.noop_with(&mut first.1);
    drop(first);
    gets_in(&gate, STRANGER);
}

#[test]
fn sessions_of_a_rule_with_users() {
    let gate = rule_limits("    users: [\"edi-*\"]\n    limits: { sessions: 1 }\n");
    let (mut first, mut firsts_server) = gate.session();
    let (mut second, mut seconds_server) = gate.session();
    log_in(&mut first, &mut firsts_server, "edi-1", "230 In");
    log_in(&mut second, &mut seconds_server, "edi-2", "230 In");
    second.expect("421 Too many sessions (sessions); try again later.");
    second.expect_end();
    seconds_server.expect_end();
    first.noop_with(&mut firsts_server);
    drop((first, firsts_server));
    gate.logged(&["event=\"session_ended\"", "session=1 "]);
    let (mut third, mut thirds_server) = gate.session();
    log_in(&mut third, &mut thirds_server, "edi-2", "230 In");
    third.noop_with(&mut thirds_server);
}

#[test]
fn failed_logins_of_an_address_and_its_pause() {
    let gate = gate_limits("limits:\n  per_client: { failed_logins: 2, pause: 3s }\n");
    let (mut client, mut server) = gate.session();
    log_in(&mut client, &mut server, "root", "530 No");
    drop((client, server));
    let (mut client, mut server) = gate.session();
    let (mut beside, mut besides_server) = gate.session_from(OTHER_CLIENT);
    log_in(&mut client, &mut server, "root", "530 No");
    client.expect("421 Too many failed logins (failed_logins).");
    turned_away(&gate, CLIENT, "pause");
    client.expect_end();
    server.expect_end();
    drop((client, server));
    gate.logged(&["event=\"limit\"", "limit=\"failed_logins\"", "value=\"2\"", "of=\"gate\" each=\"client\""]);
    gate.logged(&["event=\"session_ended\"", "reason=\"failed_logins\""]);
    gate.logged(&["event=\"limit\"", "limit=\"pause\"", "value=\"3s\""]);
    beside.noop_with(&mut besides_server);
    let (mut client, mut server) = gets_in(&gate, CLIENT);
    client.noop_with(&mut server);
}

#[test]
fn failed_logins_of_a_session() {
    let gate = rule_limits("    limits: { failed_logins: 2 }\n");
    let (mut client, mut server) = gate.session();
    log_in(&mut client, &mut server, "root", "530 No");
    log_in(&mut client, &mut server, "root", "530 No");
    client.expect("421 Too many failed logins (failed_logins).");
    server.expect_end();
    gate.logged(&["event=\"limit\"", "limit=\"failed_logins\"", "of=\"rule\" rule=\"tested\""]);
    let (mut client, mut server) = gate.session();
    client.noop_with(&mut server);
}

#[test]
fn commands_in_a_second() {
    let gate = rule_limits("    limits: { commands_per_second: 2 }\n");
    let (mut client, mut server) = gate.session();
    client.send(b"NOOP 1\r\nNOOP 2\r\nNOOP 3\r\nNOOP 4\r\nNOOP 5\r\n");
    let mut other = gate.session();
    other.0.noop_with(&mut other.1);
    // None is lost, none refused.
    for number in 1..=5 {
        server.expect(&format!("NOOP {number}"));
        server.say(&format!("200 {number}"));
        client.expect(&format!("200 {number}"));
    }
    gate.logged(&["event=\"limit\"", "limit=\"commands_per_second\"", "value=\"2\""]);
}

#[test]
fn the_time_to_log_in() {
    let gate = rule_limits("    limits: { login_timeout: 2s }\n");
    let (mut inside, mut insides_server) = gate.session();
    log_in(&mut inside, &mut insides_server, "anna", "230 In");
    let (mut client, mut server) = gate.session();
    client.expect("421 Nobody has logged in for too long (login_timeout).");
    client.expect_end();
    server.expect_end();
    gate.logged(&["event=\"limit\"", "limit=\"login_timeout\"", "value=\"2s\""]);
    gate.logged(&["event=\"session_ended\"", "reason=\"login_timeout\""]);
    inside.noop_with(&mut insides_server);
}

#[test]
fn the_time_to_do_nothing() {
    let gate = rule_limits("    limits: { idle_timeout: 2s }\n");
    let (mut busy, mut busys_server) = gate.session();
    let (ours, theirs) = busy.transfer(&mut busys_server, "RETR slow");
    let (mut waits, mut waits_server) = gate.session();
    waits.say("NOOP");
    waits_server.expect("NOOP");
    let (mut client, mut server) = gate.session();
    client.expect("421 Nothing was asked for too long (idle_timeout).");
    client.expect_end();
    server.expect_end();
    gate.logged(&["event=\"limit\"", "limit=\"idle_timeout\"", "value=\"2s\""]);
    // Who transfers, or waits for an answer, is not idle.
    waits_server.say("200 At last");
    waits.expect("200 At last");
    drop(theirs);
    assert!(all_of(ours).is_empty());
    busy.complete(&mut busys_server);
}

#[test]
fn a_transfer_in_which_nothing_moves() {
    let gate = rule_limits("    limits: { stall_timeout: 2s }\n");
    let (mut client, mut server) = gate.session();
    let (mut ours, theirs) = client.transfer(&mut server, "STOR file");
    let (mut other, mut others_server) = gate.session_from(OTHER_CLIENT);
    let (others_ours, mut others_theirs) = other.transfer(&mut others_server, "RETR slow");
    ours.write_all(b"some").unwrap();
    let slow = thread::spawn(move || {
        for _ in 0..18 {
            others_theirs.write_all(b".").unwrap();
            thread::sleep(Duration::from_millis(150));
        }
    });
    assert_reset(ours);
    assert_reset(theirs);
    server.say("426 Lost");
    client.expect("426 Nothing has moved for too long; transfer aborted (stall_timeout).");
    gate.logged(&["event=\"limit\"", "limit=\"stall_timeout\"", "value=\"2s\""]);
    gate.logged(&["event=\"transfer\"", "outcome=\"stall_timeout\"", "bytes=4"]);
    client.noop_with(&mut server);
    // One that is slow is not stalled.
    slow.join().unwrap();
    assert_eq!(all_of(others_ours), b"..................");
    other.complete(&mut others_server);
}

#[test]
fn the_size_of_a_transfer() {
    let gate = rule_limits("    limits: { transfer_size: 300kB }\n");
    let (mut client, mut server) = gate.session();
    let (mut ours, theirs) = client.transfer(&mut server, "STOR fits");
    let fits = goods(300_000);
    let sent = fits.clone();
    let sending = thread::spawn(move || ours.write_all(&sent).unwrap());
    assert!(all_of(theirs) == fits);
    sending.join().unwrap();
    client.complete(&mut server);

    let (mut ours, mut theirs) = client.transfer(&mut server, "STOR larger");
    let sending = thread::spawn(move || {
        let _cut_at_some_time = ours.write_all(&goods(300_001));
        let _ = ours.shutdown(Shutdown::Write);
        ours
    });
    let mut got = Vec::new();
    let cut = theirs.read_to_end(&mut got);
    assert!(cut.is_err(), "a clean end after {} bytes", got.len());
    assert!(got.len() <= 300_000 && goods(300_001).starts_with(&got));
    assert_reset(sending.join().unwrap());
    server.say("226 All there, as far as I know");
    client.expect("552 The transfer is larger than is allowed (transfer_size).");
    gate.logged(&["event=\"limit\"", "limit=\"transfer_size\"", "value=\"300kB\""]);
    gate.logged(&["event=\"transfer\"", "outcome=\"transfer_size\""]);
    client.noop_with(&mut server);

    let (ours, mut theirs) = client.transfer(&mut server, "RETR larger");
    let sending = thread::spawn(move || {
        let _cut_at_some_time = theirs.write_all(&goods(500_000));
        theirs
    });
    assert_reset(ours);
    assert_reset(sending.join().unwrap());
    server.say("451 Lost it");
    client.expect("552 The transfer is larger than is allowed (transfer_size).");
    client.noop_with(&mut server);
}

#[test]
fn bytes_in_a_second() {
    let gate = rule_limits("    limits: { upload: 64KiB/s, per_client: { download: 64KiB/s } }\n");
    let (mut client, mut server) = gate.session();
    let all = goods(100_000);
    let (mut ours, theirs) = client.transfer(&mut server, "STOR file");
    let sent = all.clone();
    let sending = thread::spawn(move || ours.write_all(&sent).unwrap());
    // No limit holds for others' downloads.
    let (mut other, mut others_server) = gate.session_from(OTHER_CLIENT);
    let (others_ours, mut others_theirs) = other.transfer(&mut others_server, "RETR file");
    others_theirs.write_all(b"quick").unwrap();
    drop(others_theirs);
    assert_eq!(all_of(others_ours), b"quick");
    other.complete(&mut others_server);
    assert!(all_of(theirs) == all);
    sending.join().unwrap();
    client.complete(&mut server);
    gate.logged(&["event=\"limit\"", "limit=\"upload\"", "value=\"64KiB/s\"", "of=\"rule\" rule=\"tested\""]);
    gate.logged(&["event=\"transfer\"", "way=\"upload\"", "bytes=100000", "outcome=\"ended\""]);

    let (ours, mut theirs) = client.transfer(&mut server, "RETR file");
    let sent = all.clone();
    let sending = thread::spawn(move || theirs.write_all(&sent).unwrap());
    assert!(all_of(ours) == all);
    sending.join().unwrap();
    client.complete(&mut server);
    gate.logged(&["event=\"limit\"", "limit=\"download\"", "rule=\"tested\" each=\"client\""]);
}

#[test]
fn new_limits_hold_for_the_next_decision() {
    let gate = gate_limits("limits:\n  sessions: 2\n");
    let (mut first, mut second) = (gate.session(), gate.session());
    turned_away(&gate, CLIENT, "sessions");
    gate.write_rules(&gate.rules.yaml().replace("sessions: 2", "sessions: 1"));
    gate.signal(Signal::HUP);
    gate.logged(&["event=\"reloaded\"", "limits changed"]);
    // Those who are there stay.
    first.0.noop_with(&mut first.1);
    second.0.noop_with(&mut second.1);
    drop(first);
    gate.logged(&["event=\"session_ended\""]);
    turned_away(&gate, OTHER_CLIENT, "sessions");
    let rule = "    limits: { idle_timeout: 2s }\n    datapath";
    let open = gate.rules.yaml().replace("sessions: 2", "sessions: 3").replace("    datapath", rule);
    gate.write_rules(&open);
    gate.signal(Signal::HUP);
    gate.logged(&["event=\"reloaded\"", "rule tested changed: limits; limits changed: gate"]);
    let (mut third, mut thirds_server) = gate.session();
    third.noop_with(&mut thirds_server);
    second.0.expect("421 Nothing was asked for too long (idle_timeout).");
}
