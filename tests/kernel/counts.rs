//! What the log says of a transfer that never came near the process.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr};
use std::process::Command;
use std::time::Duration;

use crate::lab::host::Host;
use crate::lab::net::PATH;
use crate::lab::{Family, poll};
use crate::stage::*;

#[test]
fn every_byte_is_counted_both_ways() {
    for family in [Family::V4, Family::V6] {
        let stage = Stage::with(&Wish { family, ..Wish::default() });
        let (mut client, mut server) = stage.session();
        for (number, size) in [0, 1, 1459, 1460, 1461, 1_000_000, 20_000_000].into_iter().enumerate() {
            let name = format!("RETR {number}");
            let (ours, theirs) = stage.transfer(&mut client, &mut server, &name);
            carries(theirs, ours, &goods(size));
            complete(&mut client, &mut server);
            stage.logged(&[&name, &format!("bytes={size} "), "outcome=\"ended\"", "datapath=\"kernel\""]);
            let name = format!("STOR {number}");
            let (ours, theirs) = stage.transfer(&mut client, &mut server, &name);
            carries(ours, theirs, &goods(size));
            complete(&mut client, &mut server);
            stage.logged(&[&name, &format!("bytes={size} "), "outcome=\"ended\"", "datapath=\"kernel\""]);
        }
    }
}

#[test]
fn active_transfers_are_counted_too() {
    let stage = Stage::new();
    let (mut client, mut server) = stage.session();
    let (at, data) = stage.active(&mut client, &mut server);
    let theirs = stage.dial_back(at).unwrap();
    begin(&mut client, &mut server, "RETR file");
    carries(theirs, accept(&data), &goods(123_456));
    complete(&mut client, &mut server);
    stage.logged(&["event=\"transfer\"", "way=\"download\"", "mode=\"active\"", "bytes=123456", "outcome=\"ended\""]);
}

#[test]
fn a_cut_transfer_is_estimated() {
    let stage = Stage::new();
    let (mut client, mut server) = stage.session();
    let (mut ours, mut theirs) = stage.transfer(&mut client, &mut server, "RETR file");
    theirs.write_all(&goods(500_000)).unwrap();
    std::io::Read::read_exact(&mut ours, &mut vec![0; 500_000]).unwrap();
    reset(theirs);
    assert_reset(ours);
    server.say("426 Broken");
    client.expect("426 Broken");
    let line = stage.logged(&["event=\"transfer\"", "outcome=\"cut_by_server\"", "estimated=true"]);
    assert!((490_000..=510_000).contains(&number_of_bytes(&line)), "{line}");
}

/// Machines whose packets have other headers than an estimate takes for granted.
fn stage_without_time_stamps() -> Stage {
    let stage = Stage::new();
    for host in [&stage.net.client, &stage.net.server] {
        host.sysctl(&[("net/ipv4/tcp_timestamps", "0")]).unwrap();
    }
    stage
}

/// From now on this machine hears nothing more of a connection, which one of the two ports is enough to know.
fn deafen(host: &Host, port: u16) {
    let rule = |which: &str| format!("tcp {which} {port} counter drop\n");
    let rules = rule("dport") + &rule("sport");
    load(host, &format!("table inet deaf {{ chain in {{ type filter hook input priority 0;\n{rules}}}\n}}\n"));
}

/// Waits until so many packets were not heard.
#[track_caller]
fn ignores(host: &Host, packets: u64) {
    let ignored = || {
        let mut nft = Command::new("nft");
        nft.args(["list", "table", "inet", "deaf"]).env("PATH", PATH);
        let output = host.run(move || nft.output()).unwrap();
        let listed = String::from_utf8(output.stdout).unwrap();
        let counts = listed.split("counter packets ").skip(1);
        let counted: u64 = counts.map(|rest| rest.split(' ').next().unwrap().parse::<u64>().unwrap()).sum();
        (counted >= packets).then_some(())
    };
    poll(PATIENCE, ignored).expect("no packet came");
}

fn hears_again(host: &Host) {
    load(host, "delete table inet deaf\n");
}

/// The one line about a transfer, when there is one; the number is exact.
#[track_caller]
fn assert_exact(stage: &Stage, command: &str, bytes: usize) {
    let line = stage.logged(&["event=\"transfer\"", command]);
    assert!(line.contains(&format!("bytes={bytes} ")) && line.contains("outcome=\"ended\""), "{line}");
    assert!(!line.contains("estimated"), "{line}");
}

#[test]
fn a_last_word_said_twice_is_not_the_end() {
    let stage = stage_without_time_stamps();
    let (mut client, mut server) = stage.session();
    let (mut ours, mut theirs) = stage.transfer(&mut client, &mut server, "RETR file");
    theirs.write_all(&goods(1000)).unwrap();
    ours.read_exact(&mut [0; 1000]).unwrap();
    deafen(&stage.net.server, theirs.local_addr().unwrap().port());
    theirs.shutdown(Shutdown::Write).unwrap();
    // The answer to the second one.
    ignores(&stage.net.server, 2);
    complete(&mut client, &mut server);
    noop(&mut client, &mut server);
    assert!(!stage.gate().log().contains("event=\"transfer\""), "it is not over");
    hears_again(&stage.net.server);
    drop(ours);
    assert_exact(&stage, "RETR file", 1000);
    // Who goes away instead of closing is told of.
    let (mut ours, mut theirs) = stage.transfer(&mut client, &mut server, "RETR other");
    theirs.write_all(&goods(1000)).unwrap();
    ours.read_exact(&mut [0; 100]).unwrap();
    deafen(&stage.net.server, theirs.local_addr().unwrap().port());
    theirs.shutdown(Shutdown::Write).unwrap();
    ignores(&stage.net.server, 2);
    reset(ours);
    server.say("426 Broken");
    client.expect("426 Broken");
    stage.logged(&["event=\"transfer\"", "RETR other", "outcome=\"cut_by_client\""]);
}

#[test]
fn sides_that_close_at_once_are_counted_exactly() {
    let stage = stage_without_time_stamps();
    let (mut client, mut server) = stage.session();
    for (command, server_first) in [("RETR one", true), ("RETR other", false)] {
        let (mut ours, mut theirs) = stage.transfer(&mut client, &mut server, command);
        theirs.write_all(&goods(1000)).unwrap();
        ours.read_exact(&mut [0; 1000]).unwrap();
        let there = (&stage.net.server, theirs.local_addr().unwrap().port(), &theirs);
        let here = (&stage.net.client, ours.local_addr().unwrap().port(), &ours);
        let (first, second) = if server_first { (there, here) } else { (here, there) };
        deafen(second.0, second.1);
        deafen(first.0, first.1);
        first.2.shutdown(Shutdown::Write).unwrap();
        ignores(second.0, 1);
        second.2.shutdown(Shutdown::Write).unwrap();
        ignores(first.0, 1);
        hears_again(second.0);
        hears_again(first.0);
        complete(&mut client, &mut server);
        assert_exact(&stage, command, 1000);
    }
}

#[test]
fn a_client_that_closes_when_it_has_all_is_counted_exactly() {
    let stage = stage_without_time_stamps();
    let (mut client, mut server) = stage.session();
    let (mut ours, mut theirs) = stage.transfer(&mut client, &mut server, "RETR file");
    theirs.write_all(&goods(1000)).unwrap();
    ours.read_exact(&mut [0; 1000]).unwrap();
    drop(ours);
    assert_eq!(theirs.read(&mut [0]).unwrap(), 0);
    drop(theirs);
    complete(&mut client, &mut server);
    assert_exact(&stage, "RETR file", 1000);
}

#[test]
fn what_comes_after_the_others_last_word_is_estimated() {
    let stage = Stage::new();
    let (mut client, mut server) = stage.session();
    for size in [10, 100_000] {
        let command = format!("RETR {size}");
        let (ours, mut theirs) = stage.transfer(&mut client, &mut server, &command);
        ours.shutdown(Shutdown::Write).unwrap();
        assert_eq!(theirs.read(&mut [0]).unwrap(), 0);
        carries(theirs, ours, &goods(size));
        complete(&mut client, &mut server);
        let line = stage.logged(&["event=\"transfer\"", &command, "estimated=true", "outcome=\"ended\""]);
        let bytes = number_of_bytes(&line);
        assert!((size..size + 1000).contains(&bytes), "{line}");
    }
    let (ours, mut theirs) = stage.transfer(&mut client, &mut server, "RETR cut");
    ours.shutdown(Shutdown::Write).unwrap();
    assert_eq!(theirs.read(&mut [0]).unwrap(), 0);
    theirs.write_all(b"not heard").unwrap();
    ours.peek(&mut [0]).unwrap();
    reset(ours);
    server.say("426 Broken");
    client.expect("426 Broken");
    stage.logged(&["event=\"transfer\"", "RETR cut", "estimated=true", "outcome=\"cut_by_client\""]);
}

fn number_of_bytes(line: &str) -> usize {
    line.split("bytes=").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap()
}

#[test]
fn who_did_not_come_is_named() {
    let stage = Stage::with(&Wish { timeout: "1s", ..Wish::default() });
    let (mut client, mut server) = stage.session();
    let (_, data) = stage.passive(&mut client, &mut server);
    stage.logged(&["event=\"pinhole_expired\"", "missing=client"]);
    drop(data);
    let (_, data) = stage.active(&mut client, &mut server);
    stage.logged(&["event=\"pinhole_expired\"", "missing=server"]);
    drop(data);
}

#[test]
fn a_server_that_refuses_its_own_port_is_named() {
    let stage = Stage::new();
    let (mut client, mut server) = stage.session();
    let at = stage.passive_at(&mut client, &mut server, 45_678);
    assert_eq!(stage.dial(at).unwrap_err(), std::io::ErrorKind::ConnectionRefused);
    stage.logged(&["event=\"data_not_reached\"", "missing=server", "heard=\"closed\""]);
    client.say("RETR file");
    client.expect_code("425");
    noop(&mut client, &mut server);
}

#[test]
fn a_client_whose_firewall_is_silent_is_named() {
    let stage = Stage::on(crate::lab::net::Net::new().unwrap(), &Wish::default());
    load(
        &stage.net.client,
        "table inet wall { chain in { type filter hook input priority 0; tcp dport 5678 drop;\n}\n}\n",
    );
    let (mut client, mut server) = stage.session();
    let at = stage.active_at(&mut client, &mut server, SocketAddr::new(stage.client_ip(), 5678));
    let dialled = dial(&stage.net.server, stage.server_ip(), 0, at, Duration::from_secs(14));
    assert!(dialled.is_err());
    stage.logged(&["event=\"data_not_reached\"", "missing=client", "heard=\"no_answer\""]);
}
