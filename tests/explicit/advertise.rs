//! What clients are told as the gate's address: names, and addresses by network.

use crate::lab::Family;
use crate::stage::{RULES, Stage, accept, listener};
use crate::talk::Talk;

fn stage(advertise: &str) -> Stage {
    let listener = listener("server: \"10.2.0.2:21\"", Family::V4);
    Stage::with(&format!("{listener}    advertise: {advertise}\n"), RULES)
}

/// A session, and what the client is told in answer to PASV.
#[track_caller]
fn told(stage: &Stage, server: &std::net::TcpListener) -> String {
    let mut client = stage.ungreeted(Family::V4);
    let mut server = accept(server);
    server.say("220 Ready");
    client.expect("220 Ready");
    passive(&mut client, &mut server)
}

#[track_caller]
fn passive(client: &mut Talk, server: &mut Talk) -> String {
    client.say("PASV");
    server.expect("PASV");
    server.say("227 Entering Passive Mode (10,2,0,2,195,80)");
    let reply = client.expect_code("227").lines.remove(0);
    let numbers = reply.split(['(', ')']).nth(1).unwrap();
    numbers.split(',').take(4).collect::<Vec<_>>().join(".")
}

#[test]
fn a_name_is_looked_up_again_when_its_time_is_over() {
    let stage = stage("gate.example");
    stage.names.set("gate.example", &["203.0.113.5"], 1);
    let server = stage.listen("10.2.0.2:21");
    assert_eq!(told(&stage, &server), "203.0.113.5");
    stage.names.set("gate.example", &["203.0.113.6"], 3600);
    let changed =
        crate::lab::poll(std::time::Duration::from_secs(10), || (told(&stage, &server) == "203.0.113.6").then_some(()));
    assert!(changed.is_some());
    // That there is no IPv6 address may be known for a moment longer than the IPv4 one was.
    std::thread::sleep(std::time::Duration::from_millis(1100));
    assert_eq!(told(&stage, &server), "203.0.113.6");
    // Now both are known for an hour.
    let asked = stage.names.asked();
    stage.names.set("gate.example", &["203.0.113.7"], 3600);
    assert_eq!(told(&stage, &server), "203.0.113.6");
    assert_eq!(stage.names.asked(), asked);
}

#[test]
fn the_last_address_holds_while_the_name_server_is_silent() {
    let stage = stage("gate.example");
    stage.names.set("gate.example", &["203.0.113.5"], 0);
    let server = stage.listen("10.2.0.2:21");
    assert_eq!(told(&stage, &server), "203.0.113.5");
    stage.names.be_silent(true);
    // The first client finds out, and waits for it; the next does not.
    let mut client = stage.ungreeted(Family::V4);
    client.stream.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
    let mut end = accept(&server);
    end.say("220 Ready");
    client.expect("220 Ready");
    assert_eq!(passive(&mut client, &mut end), "203.0.113.5");
    let asked = stage.names.asked();
    assert_eq!(told(&stage, &server), "203.0.113.5");
    assert_eq!(stage.names.asked(), asked);
}

#[test]
fn a_name_without_an_address_refuses_pasv_and_nothing_else() {
    let stage = stage("gate.example");
    stage.logged(&["event=\"name_not_found\"", "gate.example"]);
    let server = stage.listen("10.2.0.2:21");
    let mut client = stage.ungreeted(Family::V4);
    let mut server = accept(&server);
    server.say("220 Ready");
    client.expect("220 Ready");
    client.say("PASV");
    client.expect_code("425");
    stage.logged(&["event=\"refused\"", "reason=\"advertise_unknown\""]);
    client.say("EPSV");
    server.expect("EPSV");
    server.say("229 Entering Extended Passive Mode (|||50000|)");
    client.expect_code("229");
}

#[test]
fn clients_inside_are_told_the_inside_address() {
    let inside = "\n      - { from: \"10.1.0.0/24\", address: \"10.1.0.1\" }\n      \
                  - { from: any, address: \"203.0.113.5\" }";
    let inside_only = stage(inside);
    let server = inside_only.listen("10.2.0.2:21");
    assert_eq!(told(&inside_only, &server), "10.1.0.1");
    let outside = stage(&inside.replace("10.1.0.0/24", "10.7.0.0/24"));
    let server = outside.listen("10.2.0.2:21");
    assert_eq!(told(&outside, &server), "203.0.113.5");
}
