//! How the gate starts and ends, and what a client hears that cannot be served.

use std::io::Write as _;

use rustix::process::Signal;

use super::support::*;

#[test]
fn told_to_end_it_says_so_to_idle_sessions() {
    let mut gate = Gate::start();
    let (mut client, mut server) = gate.session();
    let (port, _data) = client.passive(&mut server);
    gate.signal(Signal::TERM);
    client.expect_code("421");
    client.expect_end();
    server.expect_end();
    drop((client, server));
    assert_eq!(gate.exit().code(), Some(0));
    gate.logged(&["event=\"session_ended\"", "reason=\"shutdown\""]);
    gate.logged(&["event=\"stopped\""]);
    assert!(!is_open(port) && !is_open(gate.rules.front()));
}

#[test]
fn told_to_end_it_lets_a_transfer_end_whole() {
    let mut gate = Gate::start();
    let (mut client, mut server) = gate.session();
    let (ours, mut theirs) = client.transfer(&mut server, "RETR file");
    theirs.write_all(&goods(100_000)).unwrap();
    gate.signal(Signal::TERM);
    gate.logged(&["event=\"draining\""]);
    wait_until("nobody new is served", || !is_open(gate.rules.front()));
    theirs.write_all(&goods(200_000)).unwrap();
    drop(theirs);
    assert!(all_of(ours) == [goods(100_000), goods(200_000)].concat());
    client.complete(&mut server);
    client.expect_code("421");
    client.expect_end();
    drop((client, server));
    assert_eq!(gate.exit().code(), Some(0));
    gate.logged(&["event=\"transfer\"", "outcome=\"ended\"", "bytes=300000"]);
}

/// Starts a gate that cannot, and gives what it says.
fn failed_start(change: impl FnOnce(&mut Rules, String) -> String) -> String {
    let server = listen(SERVER);
    let mut rules = Rules::new(port_of(&server));
    let yaml = rules.yaml();
    let text = change(&mut rules, yaml);
    let mut gate = Gate::launch(rules, server, &text, &[]);
    assert_eq!(gate.exit().code(), Some(3), "{}", gate.log());
    gate.assert_all_closed();
    gate.log()
}

#[test]
fn a_port_in_use_is_named_at_the_start() {
    let taken = listen(CLIENT);
    let port = port_of(&taken);
    let said = failed_start(|rules, yaml| yaml.replace(&format!(":{}\"", rules.front()), &format!(":{port}\"")));
    assert_eq!(said.matches("cannot start").count(), 1, "{said}");
    assert!(said.contains(&format!("127.0.0.1:{port}")) && said.contains("another program listens there"), "{said}");
    assert!(!said.contains("event=\"ready\""));
}

#[test]
fn a_wrong_file_is_told_at_the_start() {
    let said = failed_start(|_, yaml| yaml.replace("action: allow", "action: alow"));
    assert!(said.contains("rules.yaml:10") && said.contains("alow"), "{said}");
    assert!(!said.contains("event=\"ready\""));
}

#[test]
fn a_server_that_is_down_is_told_to_the_client() {
    let gate = Gate::with(|rules| rules.server = rules.slot.first + 11);
    let mut client = Talk::new(dial(CLIENT, gate.rules.front()).unwrap());
    client.expect_code("421");
    client.expect_end();
    gate.logged(&["event=\"server_unreachable\"", "reason=\"server_unreachable\"", "refused"]);
}

#[test]
fn a_client_that_no_rule_knows_is_turned_away() {
    let gate = Gate::with(|rules| rules.from = "127.0.0.1");
    let mut stranger = Talk::new(dial(STRANGER, gate.rules.front()).unwrap());
    stranger.expect_code("421");
    stranger.expect_end();
    gate.logged(&["event=\"session_denied\"", "reason=\"denied\"", "client=127.0.0.2:"]);
    nobody_came_to(&gate.server);
}

#[test]
fn signals_of_log_rotation_end_nothing() {
    let gate = Gate::start();
    let (mut client, mut server) = gate.session();
    for (signal, name) in [(Signal::USR1, "SIGUSR1"), (Signal::USR2, "SIGUSR2")] {
        gate.signal(signal);
        gate.logged(&["event=\"signal_ignored\"", name]);
    }
    client.noop_with(&mut server);
}
