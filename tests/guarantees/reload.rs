//! A wrong rules file never replaces a good one; a right one holds for running sessions too.

use rustix::process::Signal;

use super::support::*;

#[test]
fn a_wrong_file_leaves_the_old_rules_in_force() {
    let gate = Gate::start();
    let (mut client, mut server) = gate.session();
    let good = gate.rules.yaml();
    let reversed = good.replace("action: allow", "action: allows");
    let spare = gate.rules.spare();
    let ports = format!("{}-{}", spare.end(), spare.start());
    let empty_range = good.replace(&format!("{}-{}", gate.rules.inbound.start(), gate.rules.inbound.end()), &ports);
    for (count, wrong) in ["", "rules: [", &reversed, &empty_range].into_iter().enumerate() {
        gate.write_rules(wrong);
        gate.signal(Signal::HUP);
        wait_until("the failure is logged", || gate.log().matches("event=\"reload_failed\"").count() == count + 1);
        let (port, _data) = client.passive(&mut server);
        assert!(gate.rules.inbound.contains(&port));
        let (mut newcomer, mut newcomers_server) = gate.session_from(OTHER_CLIENT);
        newcomer.noop_with(&mut newcomers_server);
    }
    assert!(!gate.log().contains("event=\"reloaded\""));
}

#[test]
fn a_listener_that_cannot_be_had_leaves_the_old_rules_in_force() {
    let gate = Gate::start();
    let taken = listen(CLIENT);
    let more =
        format!("  - name: more\n    bind: \"127.0.0.1:{}\"\n    server: \"127.0.0.1:1\"\nrules:", port_of(&taken));
    gate.write_rules(&gate.rules.yaml().replace("rules:", &more).replace("action: allow", "action: deny"));
    gate.signal(Signal::HUP);
    gate.logged(&["event=\"reload_failed\""]);
    let (mut client, mut server) = gate.session();
    client.noop_with(&mut server);
}

#[test]
fn new_rules_hold_in_running_sessions() {
    let mut gate = Gate::start();
    let (mut client, mut server) = gate.session();
    let (before, _data) = client.passive(&mut server);
    assert!(gate.rules.inbound.contains(&before));
    gate.rules.inbound = gate.rules.spare();
    gate.write_rules(&gate.rules.yaml());
    gate.signal(Signal::HUP);
    gate.logged(&["event=\"reloaded\"", "rule tested changed"]);
    for _ in 0..5 {
        let (after, _data) = client.passive(&mut server);
        assert!(gate.rules.spare().contains(&after), "{after}");
    }
    assert!(!is_open(before));
}

#[test]
fn a_session_that_is_denied_ends() {
    let mut gate = Gate::start();
    let (mut client, mut server) = gate.session();
    let (port, _data) = client.passive(&mut server);
    gate.rules.action = "deny";
    gate.rules.from = "127.0.0.1";
    let others = "  - name: others\n    from: any\n    to: any\n    action: allow\n    outbound: 40000\n";
    let (mut other, mut others_server) = gate.session_from(OTHER_CLIENT);
    gate.write_rules(&format!("{}{others}", gate.rules.yaml()));
    gate.signal(Signal::HUP);
    gate.logged(&["event=\"reloaded\""]);
    client.expect_code("421");
    client.expect_end();
    server.expect_end();
    gate.logged(&["event=\"session_ended\"", "reason=\"denied\""]);
    wait_until("the pinhole is gone", || !is_open(port));
    other.noop_with(&mut others_server);
    other.assert_refused(&mut others_server, &gate, "PASV", "502", "passive_not_allowed");
    let mut again = Talk::new(dial(CLIENT, gate.rules.front()).unwrap());
    again.expect_code("421");
    again.expect_end();
    nobody_came_to(&gate.server);
}

#[test]
fn a_transfer_of_a_session_that_is_denied_is_reset() {
    let mut gate = Gate::start();
    let (mut client, mut server) = gate.session();
    let (ours, theirs) = client.transfer(&mut server, "RETR file");
    gate.rules.action = "deny";
    gate.write_rules(&gate.rules.yaml());
    gate.signal(Signal::HUP);
    client.expect_code("421");
    assert_reset(ours);
    assert_reset(theirs);
    gate.logged(&["event=\"transfer\"", "outcome=\"aborted\""]);
}

/// Takes a minute, for hours have no seconds.
#[test]
fn a_session_ends_with_the_hours_of_its_rule() {
    // Nobody logs in for more than a minute.
    let gate = Gate::with(|rules| rules.rule = "    limits: { login_timeout: off }\n");
    let (mut client, mut server) = gate.session();
    let now = jiff::Timestamp::now();
    let end = jiff::Timestamp::from_second((now.as_second() + 3) / 60 * 60 + 60).unwrap();
    let clock = |at: jiff::Timestamp| at.strftime("%H:%M").to_string();
    let span = format!("daily {}-{} UTC", clock(now), clock(end));
    gate.write_rules(&gate.rules.yaml().replace("action: allow\n", &format!("action: allow\n    hours: \"{span}\"\n")));
    gate.signal(Signal::HUP);
    gate.logged(&["event=\"reloaded\""]);
    client.noop_with(&mut server);
    while jiff::Timestamp::now() < end {
        assert!(!gate.log().contains("event=\"session_ended\""));
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    gate.logged(&["event=\"session_ended\"", "reason=\"denied\""]);
    client.expect_code("421");
}
