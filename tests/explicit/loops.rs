//! A gate whose connections are led back to itself.

use std::process::Command;

use crate::lab::{Family, poll};
use crate::stage::{RULES, Stage, accept, assert_closed, listener};
use crate::talk::IO;

/// The rules cannot tell: a NAT on the gate's machine leads the server's address back to the gate.
#[test]
fn a_loop_through_a_nat_ends_where_it_closes() {
    let stage = Stage::with(&listener("server: \"10.2.0.77:21\"", Family::V4), RULES);
    let gate = crate::lab::net::Net::gate_address(Family::V4);
    let rules = format!(
        "table ip loop {{ chain output {{ type nat hook output priority -100; \
         ip daddr 10.2.0.77 tcp dport 21 dnat to {gate}:21\n }}\n }}\n"
    );
    stage.net.gate.run(move || {
        let status = Command::new("nft").arg(rules).status().unwrap();
        assert!(status.success());
        // The rule for clients must hold for the gate as a client, or the loop ends there.
        let mut route = Command::new("ip");
        let added = route.args(["route", "replace", "10.2.0.77/32", "via", "10.2.0.2", "src"]).arg(gate.to_string());
        assert!(added.status().unwrap().success());
    });
    let mut client = stage.ungreeted(Family::V4);
    // Either end may see it: the one hears why from the other, or says so itself.
    let reply = client.expect_code("421");
    assert!(reply.lines[0].contains("(loop)"), "{:?}", reply.lines);
    assert_closed(client);
    stage.logged(&["event=\"session_denied\"", "reason=\"loop\""]);
    let sessions = || stage.gate.log().matches("event=\"session_started\"").count();
    // On a busy machine a few may begin before the first is known to be one.
    assert!(sessions() <= 3, "{}", stage.gate.log());
    // And it stays so.
    assert!(poll(IO / 10, || (sessions() > 3).then_some(())).is_none());
}

/// As many names as a gate with few descriptors looks up at once, and more: nobody waits for long, and transfers go on.
#[test]
fn names_that_nobody_answers_for_take_no_descriptors() {
    let stage = Stage::new();
    stage.names.be_silent(true);
    let mut clients: Vec<_> = (0..150).map(|_| stage.client()).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        client.say(&format!("USER anna@name-{number}.example"));
    }
    let files = format!("/proc/{}/fd", stage.gate.process());
    let sample = |_| {
        std::thread::sleep(IO / 100);
        std::fs::read_dir(&files).unwrap().count()
    };
    let sockets = (0..20).map(sample).max().unwrap();
    // One for each client and those of 64 lookups, not four for each.
    assert!(sockets < 150 + 64 * 8 + 100, "{sockets}");
    for mut client in clients {
        client.stream.set_read_timeout(Some(IO * 4)).unwrap();
        client.expect_code("421");
    }
}

/// A rule may name a network of the server's, and the gate be in it: a server's word never leads the gate to itself.
#[test]
fn a_network_that_data_may_go_to_does_not_lead_to_the_gate() {
    let rules = RULES.replace("    inbound:", "    data_peers: { server: \"10.2.0.0/24\" }\n    inbound:");
    let stage = Stage::with(&listener("server: \"10.2.0.2:21\"", Family::V4), &rules);
    let server = stage.listen("10.2.0.2:21");
    let mut client = stage.ungreeted(Family::V4);
    let mut server = accept(&server);
    server.say("220 Ready");
    client.expect("220 Ready");
    let data = stage.listen("10.2.0.2:51210");
    let mut told = String::new();
    for (named, code) in [("10,2,0,1", "425"), ("10,2,0,3", "227"), ("10,1,0,1", "227")] {
        client.say("PASV");
        server.expect("PASV");
        server.say(&format!("227 Entering Passive Mode ({named},200,10)"));
        told = client.expect_code(code).lines.concat();
    }
    let numbers: Vec<u16> = told.split(|c: char| !c.is_ascii_digit()).filter_map(|part| part.parse().ok()).collect();
    let [.., high, low] = numbers[..] else { panic!("{told}") };
    let at = (crate::lab::net::Net::gate_address(Family::V4), high * 256 + low);
    let ours = stage.net.client.run(move || std::net::TcpStream::connect(at)).unwrap();
    let theirs = accept(&data);
    client.say("RETR file");
    server.expect("RETR file");
    drop(theirs);
    server.send(b"150 Here\r\n226 Done\r\n");
    client.expect("150 Here");
    client.expect("226 Done");
    drop(ours);
    stage.logged(&["event=\"transfer\"", "datapath=\"relay\"", "why=\"data_peers\""]);
    // The gate's address on the other side is in no such network: the server's own is used.
    stage.logged(&["event=\"foreign_server_address\"", "named=10.1.0.1", "used=10.2.0.2"]);
    stage.logged(&["event=\"refused\"", "reason=\"foreign_server_address\"", "10.2.0.1"]);
}
