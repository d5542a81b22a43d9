//! Health checks: whether the gate is up is asked without a session at the server.

use std::io::Write as _;
use std::net::Ipv4Addr;

use super::support::*;

const MONITOR: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 6);
const BALANCER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 5);

fn checked() -> Gate {
    Gate::with_arguments(
        |rules| rules.listener = "    health_checks_from: \"127.0.0.6/31\"\n",
        &["--log-level", "debug"],
    )
}

#[track_caller]
fn check(gate: &Gate, from: Ipv4Addr) -> Talk {
    let mut check = Talk::new(dial(from, gate.rules.front()).unwrap());
    check.expect_code("220");
    check
}

#[test]
fn a_health_check_costs_no_session() {
    let gate = checked();
    let mut monitor = check(&gate, MONITOR);
    monitor.say("NOOP");
    monitor.expect_code("200");
    monitor.say("quit");
    monitor.expect_code("221");
    monitor.expect_end();
    drop(check(&gate, MONITOR));
    gate.logged(&["event=\"health_check\"", "127.0.0.6"]);
    // Others have their session, and the server has seen nobody else.
    let (mut client, mut server) = gate.session();
    client.noop_with(&mut server);
    nobody_came_to(&gate.server);
    let started = gate.log().lines().filter(|line| line.contains("session_started")).count();
    assert_eq!(started, 1, "{}", gate.log());
}

#[test]
fn a_health_check_is_no_way_to_the_server() {
    let gate = checked();
    for line in ["USER anna", "PASV", "STAT", "\x01", "", "GET / HTTP/1.1"] {
        let mut monitor = check(&gate, MONITOR);
        monitor.say(line);
        assert!(monitor.line().starts_with("421 "), "{line}");
        monitor.expect_end();
    }
    let mut monitor = check(&gate, MONITOR);
    monitor.send(&b"NOOP\r\n".repeat(100));
    let told = monitor.rest();
    assert!(told.len() < 20 && told.last().unwrap().starts_with("421 "), "{told:?}");
    nobody_came_to(&gate.server);
}

#[test]
fn health_checks_that_stay_are_closed_and_leave_the_gate_to_others() {
    let gate = checked();
    let mut monitors: Vec<Talk> = (0..64).map(|_| check(&gate, MONITOR)).collect();
    let mut more = Talk::new(dial(MONITOR, gate.rules.front()).unwrap());
    assert!(more.line().starts_with("421 Too busy"));
    more.expect_end();
    let (mut client, mut server) = gate.session();
    client.noop_with(&mut server);
    for monitor in &mut monitors {
        monitor.stream.set_read_timeout(Some(std::time::Duration::from_secs(15))).unwrap();
        assert!(monitor.line().starts_with("421 "));
    }
    drop(monitors);
    let answered = (0..50).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(100));
        Talk::new(dial(MONITOR, gate.rules.front()).unwrap()).line().starts_with("220 ")
    });
    assert!(answered, "there is no room again");
    gate.logged(&["event=\"too_busy\"", "reason=\"too_many_health_checks\""]);
}

/// A balancer that asks for itself (LOCAL), and one that brings a client.
#[test]
fn a_balancers_own_check_is_one() {
    let gate = Gate::with(|rules| {
        rules.listener = "    proxy_from: \"127.0.0.5\"\n    health_checks_from: \"127.0.0.5\"\n";
    });
    let front = gate.rules.front();
    let brought = |header: &[u8]| {
        let mut stream = dial(BALANCER, front).unwrap();
        stream.write_all(header).unwrap();
        Talk::new(stream)
    };
    let mut local = brought(b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0");
    local.expect_code("220");
    local.say("QUIT");
    local.expect_code("221");
    let mut unknown = brought(b"PROXY UNKNOWN\r\n");
    unknown.expect_code("220");
    nobody_came_to(&gate.server);
    let mut client = brought(format!("PROXY TCP4 127.0.0.9 127.0.0.1 40000 {front}\r\n").as_bytes());
    let mut server = Talk::new(accept(&gate.server));
    server.say("220 Ready");
    client.expect("220 Ready");
}
