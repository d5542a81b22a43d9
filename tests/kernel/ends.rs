//! How transfers and gates end, and what is left of them.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use rustix::process::Signal;
use socket2::SockRef;

use crate::lab::net::Net;
use crate::lab::{Family, poll};
use crate::stage::*;
use crate::talk::Talk;

#[test]
fn a_reset_on_one_side_is_a_reset_on_the_other() {
    for family in [Family::V4, Family::V6] {
        let stage = Stage::with(&Wish { family, ..Wish::default() });
        let (mut client, mut server) = stage.session();
        let (ours, mut theirs) = stage.transfer(&mut client, &mut server, "RETR file");
        theirs.write_all(b"some of it").unwrap();
        reset(theirs);
        assert_reset(ours);
        server.say("226 Done");
        client.expect("226 Done");
        stage.logged(&["event=\"transfer\"", "outcome=\"cut_by_server\""]);
        let (mut ours, theirs) = stage.transfer(&mut client, &mut server, "STOR file");
        ours.write_all(b"some of it").unwrap();
        reset(ours);
        assert_reset(theirs);
        server.say("426 Broken");
        client.expect("426 Broken");
        stage.logged(&["event=\"transfer\"", "outcome=\"cut_by_client\""]);
    }
}

#[test]
fn a_transfer_ends_with_its_session() {
    for family in [Family::V4, Family::V6] {
        let stage = Stage::with(&Wish { family, ..Wish::default() });
        let (mut client, mut server) = stage.session();
        let (ours, theirs) = stage.transfer(&mut client, &mut server, "RETR file");
        let sender = flood(theirs);
        drop(server);
        client.expect_code("421");
        assert_reset(ours);
        assert!(sender.join().unwrap() != std::io::ErrorKind::WouldBlock, "the server was told");
        stage.logged(&["event=\"transfer\"", "outcome=\"cut_by_server\"", "datapath=\"kernel\""]);
    }
}

#[test]
fn an_idle_transfer_ends_with_its_session_at_its_next_word() {
    let stage = Stage::new();
    let (mut client, mut server) = stage.session();
    let (mut ours, mut theirs) = stage.transfer(&mut client, &mut server, "STOR file");
    ours.write_all(b"before").unwrap();
    drop(server);
    client.expect_code("421");
    theirs.write_all(b"after").unwrap();
    assert_reset(ours);
    assert_reset(theirs);
}

#[test]
fn a_transfer_outlives_its_session_where_the_rule_says_so() {
    let stage = Stage::with(&Wish { rule: "    at_session_end: finish\n", ..Wish::default() });
    let (mut client, mut server) = stage.session();
    let (ours, mut theirs) = stage.transfer(&mut client, &mut server, "RETR file");
    theirs.write_all(b"some of it, ").unwrap();
    drop(server);
    client.expect_code("421");
    theirs.write_all(b"and all the rest").unwrap();
    drop(theirs);
    let mut got = Vec::new();
    std::io::Read::read_to_end(&mut { ours }, &mut got).unwrap();
    assert_eq!(got, b"some of it, and all the rest");
    stage.logged(&["event=\"transfer\"", "bytes=28"]);
}

/// Most of the file is still on the client's machine when the client closes everything, its control connection by a reset.
#[test]
fn an_upload_whose_client_leaves_at_once_arrives_whole() {
    for family in [Family::V4, Family::V6] {
        let stage = Stage::with(&Wish { family, ..Wish::default() });
        let (mut client, mut server) = stage.session();
        let (at, data) = stage.passive(&mut client, &mut server);
        client.say("STOR file");
        server.expect("STOR file");
        server.say("150 Send it");
        let mut ours = stage.dial(at).unwrap();
        let theirs = accept(&data);
        SockRef::from(&ours).set_send_buffer_size(8 << 20).unwrap();
        SockRef::from(&theirs).set_recv_buffer_size(64 << 10).unwrap();
        ours.set_nonblocking(true).unwrap();
        let size = ours.write(&goods(2_000_000)).unwrap();
        assert!(size > 300_000, "the client's buffer takes {size} bytes");
        drop(ours);
        std::thread::sleep(std::time::Duration::from_millis(200));
        drop(client);
        std::thread::sleep(std::time::Duration::from_millis(500));
        let mut got = Vec::new();
        std::io::Read::read_to_end(&mut { theirs }, &mut got).unwrap();
        assert!(got == goods(size), "{} bytes of {size}", got.len());
        server.say("226 Stored");
        server.expect_end();
        stage.logged(&["event=\"transfer\"", "outcome=\"ended\"", &format!("bytes={size}"), "datapath=\"kernel\""]);
        stage.logged(&["event=\"session_ended\"", "reason=\"client_gone\""]);
    }
}

#[test]
fn a_transfer_goes_on_after_the_servers_goodbye() {
    let stage = Stage::new();
    let (mut client, mut server) = stage.session();
    let (ours, theirs) = stage.transfer(&mut client, &mut server, "RETR file");
    client.say("QUIT");
    server.expect("QUIT");
    server.say("221 Goodbye");
    client.expect("221 Goodbye");
    drop(server);
    client.expect_end();
    carries(theirs, ours, &goods(2_000_000));
    stage.logged(&["event=\"transfer\"", "outcome=\"ended\"", "bytes=2000000", "datapath=\"kernel\""]);
}

#[test]
fn what_the_rules_deny_now_is_cut() {
    let stage = Stage::new();
    let (mut client, mut server) = stage.session();
    let (ours, theirs) = stage.transfer(&mut client, &mut server, "RETR file");
    let sender = flood(theirs);
    let yaml = Wish::default().yaml().replace("action: allow", "action: deny");
    stage.gate().reload(yaml.split("    datapath").next().unwrap());
    assert_reset(ours);
    sender.join().unwrap();
    stage.logged(&["event=\"transfer\"", "outcome=\"aborted\""]);
}

#[test]
fn a_gate_that_is_told_to_end_lets_a_transfer_end_and_leaves_nothing() {
    let mut stage = Stage::new();
    let (mut client, mut server) = stage.session();
    let (ours, theirs) = stage.transfer(&mut client, &mut server, "RETR file");
    stage.gate().signal(Signal::TERM);
    stage.logged(&["event=\"draining\""]);
    carries(theirs, ours, &goods(1 << 20));
    complete(&mut client, &mut server);
    assert!(stage.gate.as_mut().unwrap().ends());
    assert!(!stage.nft("list ruleset").contains("ftpgate"));
}

/// Killed, a gate leaves no table and no way in; what moves is whole, or visibly cut.
#[test]
fn a_gate_that_is_killed_leaves_nothing_open() {
    for family in [Family::V4, Family::V6] {
        let mut stage = Stage::with(&Wish { family, ..Wish::default() });
        let (mut client, mut server) = stage.session();
        let (at, data) = stage.passive(&mut client, &mut server);
        let (mut other, mut its) = stage.session();
        let (ours, theirs) = stage.transfer(&mut other, &mut its, "RETR file");
        stage.gate().signal(Signal::KILL);
        assert!(stage.gate.as_mut().unwrap().ends());
        assert!(!stage.nft("list ruleset").contains("ftpgate"));
        stage.assert_shut(&stage.net.client, stage.client_ip(), at);
        stage.assert_shut(&stage.net.client, stage.stranger_ip(), at);
        nobody_came_to(&data);
        client.expect_end();
        let sent = goods(100_000);
        let sender = std::thread::spawn({
            let (mut theirs, sent) = (theirs, sent.clone());
            move || theirs.write_all(&sent)
        });
        let mut got = Vec::new();
        let ended = std::io::Read::read_to_end(&mut { ours }, &mut got);
        let _ = sender.join().unwrap();
        assert!(ended.is_err() || got == sent, "a clean end after {} bytes", got.len());

        // A new one finds the place as the first did, and takes the same ports.
        stage.restart(&Wish { family, ..Wish::default() });
        let (mut client, mut server) = stage.session();
        for _ in 0..3 {
            let (ours, theirs) = stage.transfer(&mut client, &mut server, "RETR file");
            carries(theirs, ours, b"again");
            complete(&mut client, &mut server);
        }
    }
}

/// Two gates on one machine: neither takes the other's connections for its own.
#[test]
fn two_gates_do_not_meet() {
    let stage = Stage::new();
    let second = Wish::default().yaml().replace(":21\"\n    server", ":2121\"\n    server").replace("1000", "2000");
    let gate = crate::lab::gate::Gate::start_with(&stage.net, &second, 2121).unwrap();
    assert_eq!(stage.nft("list tables").matches("ftpgate").count(), 2);
    let (mut client, mut server) = stage.session();
    let (ours, theirs) = stage.transfer(&mut client, &mut server, "RETR file");
    assert!(gate.log().lines().all(|line| !line.contains("WARN")), "{}", gate.log());
    drop(gate);
    let gone = poll(std::time::Duration::from_secs(5), || {
        (stage.nft("list tables").matches("ftpgate").count() == 1).then_some(())
    });
    assert!(gone.is_some());
    carries(theirs, ours, &goods(100_000));
    complete(&mut client, &mut server);
    stage.logged(&["event=\"transfer\"", "bytes=100000", "outcome=\"ended\""]);
}

/// Two gates with the same port: what one of them moves there is none of the other's business.
#[test]
fn two_gates_use_the_same_port_in_turn() {
    let wish = Wish { inbound: "10001", ..Wish::default() };
    let stage = Stage::with(&wish);
    let rules = wish.yaml().replace(":21\"\n    server", ":2121\"\n    server");
    let second = crate::lab::gate::Gate::start_with(&stage.net, &rules, 2121).unwrap();
    let at = |port| {
        let client = stage.dial(stage.front(port)).unwrap();
        let (mut client, mut server) = (Talk::new(client), Talk::new(stage.next_control_soon()));
        server.say("220 Ready");
        client.expect("220 Ready");
        (client, server)
    };
    let mut sessions = [at(21), at(2121)];
    let mut moving: Vec<(TcpStream, TcpStream)> = Vec::new();
    for turn in 0..6 {
        let (client, server) = &mut sessions[turn % 2];
        if turn >= 2 {
            // The earlier one of this session, which others have begun and ended beside.
            let (ours, theirs) = moving.remove(0);
            carries(theirs, ours, &goods(100_000));
            complete(client, server);
        }
        moving.push(stage.transfer(client, server, "RETR file"));
    }
    for (turn, (ours, theirs)) in moving.into_iter().enumerate() {
        let (client, server) = &mut sessions[turn % 2];
        carries(theirs, ours, &goods(100_000));
        complete(client, server);
    }
    for gate in [stage.gate(), &second] {
        let are_told = || (gate.log().matches("outcome=\"ended\"").count() == 3).then_some(());
        assert!(poll(PATIENCE, are_told).is_some(), "{}", gate.log());
    }
}

#[test]
fn flushing_all_rules_takes_nothing_from_the_gate() {
    let stage = Stage::new();
    let (mut client, mut server) = stage.session();
    let (at, data) = stage.passive(&mut client, &mut server);
    stage.nft("flush ruleset");
    stage.assert_shut(&stage.net.client, stage.stranger_ip(), at);
    let ours = stage.dial(at).unwrap();
    begin(&mut client, &mut server, "RETR file");
    carries(accept(&data), ours, b"still led");
    complete(&mut client, &mut server);
    assert_eq!(Net::gate_address(stage.family), at.ip());
}

/// One side has ended its direction and the other pauses for longer than conntrack remembers such a connection.
#[test]
fn a_side_that_has_ended_waits_for_the_other() {
    for family in [Family::V4, Family::V6] {
        let net = Net::new().unwrap();
        net.close().unwrap();
        net.gate
            .sysctl(&[
                ("net/netfilter/nf_conntrack_tcp_timeout_fin_wait", "3"),
                ("net/netfilter/nf_conntrack_tcp_timeout_close_wait", "3"),
                ("net/netfilter/nf_conntrack_tcp_timeout_last_ack", "3"),
                ("net/netfilter/nf_conntrack_tcp_timeout_time_wait", "3"),
            ])
            .unwrap();
        let stage = Stage::on(net, &Wish { family, ..Wish::default() });
        let (mut client, mut server) = stage.session();
        let (mut ours, mut theirs) = stage.transfer(&mut client, &mut server, "RETR tape");
        ours.shutdown(std::net::Shutdown::Write).unwrap();
        let (first, second) = (goods(50_000), goods(70_000));
        theirs.write_all(&first).unwrap();
        let mut got = vec![0; first.len()];
        ours.read_exact(&mut got).unwrap();
        std::thread::sleep(std::time::Duration::from_secs(8));
        theirs.write_all(&second).unwrap();
        drop(theirs);
        ours.read_to_end(&mut got).unwrap();
        assert!(got == [first, second].concat(), "{} bytes", got.len());
        complete(&mut client, &mut server);
        stage.logged(&["event=\"transfer\"", "outcome=\"ended\"", "bytes=120000 "]);
    }
}
