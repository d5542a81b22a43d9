//! A file that was cut short on one side is seen as cut short on the other.

use std::io::{Read as _, Write as _};
use std::thread;

use rustix::process::Signal;

use super::support::*;

const LARGE: usize = 8 * 1024 * 1024;

/// Reads just so many bytes.
fn some_of(stream: &mut std::net::TcpStream, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    stream.read_exact(&mut bytes).unwrap();
    bytes
}

#[test]
fn a_download_that_the_server_resets_is_reset_for_the_client() {
    let gate = Gate::start();
    let (mut client, mut server) = gate.session();
    let (mut ours, mut theirs) = client.transfer(&mut server, "RETR file");
    theirs.write_all(&goods(10_000)).unwrap();
    assert!(some_of(&mut ours, 10_000) == goods(10_000));
    reset(theirs);
    assert_reset(ours);
    server.say("426 Broken");
    client.expect("426 Broken");
    gate.logged(&["event=\"transfer\"", "outcome=\"cut_by_server\"", "RETR file", "bytes=10000"]);
}

#[test]
fn a_download_that_the_server_resets_is_no_success_even_if_it_says_so() {
    let gate = Gate::start();
    let (mut client, mut server) = gate.session();
    let (mut ours, mut theirs) = client.transfer(&mut server, "RETR file");
    theirs.write_all(b"begun").unwrap();
    assert_eq!(some_of(&mut ours, 5), b"begun");
    reset(theirs);
    server.say("226 All is well");
    assert_reset(ours);
    gate.logged(&["event=\"transfer\"", "outcome=\"cut_by_server\""]);
}

#[test]
fn a_download_that_the_client_resets_is_reset_for_the_server() {
    let gate = Gate::start();
    let (mut client, mut server) = gate.session();
    let (mut ours, mut theirs) = client.transfer(&mut server, "RETR file");
    theirs.write_all(b"begun").unwrap();
    assert_eq!(some_of(&mut ours, 5), b"begun");
    reset(ours);
    assert_reset(theirs);
    server.say("426 Broken");
    client.expect("426 Broken");
    gate.logged(&["event=\"transfer\"", "outcome=\"cut_by_client\""]);
}

#[test]
fn an_upload_that_the_client_resets_is_reset_for_the_server() {
    let gate = Gate::start();
    let (mut client, mut server) = gate.session();
    let (mut ours, mut theirs) = client.transfer(&mut server, "STOR file");
    ours.write_all(&goods(10_000)).unwrap();
    assert!(some_of(&mut theirs, 10_000) == goods(10_000));
    reset(ours);
    assert_reset(theirs);
    server.say("426 Broken");
    client.expect("426 Broken");
    gate.logged(&["event=\"transfer\"", "outcome=\"cut_by_client\"", "STOR file", "bytes=10000"]);
}

#[test]
fn an_active_upload_that_the_client_resets_is_reset_for_the_server() {
    let gate = Gate::start();
    let (mut client, mut server) = gate.session();
    let (port, data) = client.active(&mut server);
    client.begin(&mut server, "STOR file");
    let mut theirs = dial(SERVER, port).unwrap();
    let mut ours = accept(&data);
    ours.write_all(b"begun").unwrap();
    assert_eq!(some_of(&mut theirs, 5), b"begun");
    reset(ours);
    assert_reset(theirs);
}

#[test]
fn a_server_that_cannot_be_reached_for_data_is_no_empty_file() {
    let gate = Gate::start();
    let (mut client, mut server) = gate.session();
    let (port, data) = client.passive(&mut server);
    let closed = port_of(&data);
    drop(data);
    client.begin(&mut server, "RETR file");
    assert_shut_out(CLIENT, port);
    server.say("425 Nobody came");
    client.expect(&format!("425 Can't open data connection: the server's port {closed} is closed."));
    gate.logged(&["event=\"data_not_reached\"", "missing=server"]);
    gate.logged(&["event=\"transfer\"", "outcome=\"server_not_reached\""]);
}

#[test]
fn a_server_that_dies_cuts_its_transfer() {
    let gate = Gate::start();
    let (mut client, mut server) = gate.session();
    let (mut ours, mut theirs) = client.transfer(&mut server, "RETR file");
    theirs.write_all(b"begun").unwrap();
    assert_eq!(some_of(&mut ours, 5), b"begun");
    drop(server);
    reset(theirs);
    client.expect_code("421");
    assert_reset(ours);
    gate.logged(&["event=\"transfer\"", "outcome=\"cut_by_server\""]);
}

#[test]
fn large_files_arrive_whole_both_ways() {
    let gate = Gate::start();
    let (mut client, mut server) = gate.session();
    for (command, up) in [("STOR large", true), ("RETR large", false)] {
        let (ours, theirs) = client.transfer(&mut server, command);
        let (mut source, sink) = if up { (ours, theirs) } else { (theirs, ours) };
        let sending = thread::spawn(move || source.write_all(&goods(LARGE)).unwrap());
        let got = all_of(sink);
        sending.join().unwrap();
        assert_eq!(got.len(), LARGE);
        assert!(got == goods(LARGE), "{command}: other bytes");
        client.complete(&mut server);
        gate.logged(&["event=\"transfer\"", "outcome=\"ended\"", command, &format!("bytes={LARGE}")]);
    }
}

#[test]
fn a_gate_that_is_killed_leaves_no_clean_end_and_no_open_port() {
    let mut gate = Gate::start();
    let (mut client, mut server) = gate.session();
    let (mut ours, mut theirs) = client.transfer(&mut server, "RETR file");
    theirs.write_all(b"begun").unwrap();
    assert_eq!(some_of(&mut ours, 5), b"begun");
    let (mut waiting, mut waiting_server) = gate.session_from(OTHER_CLIENT);
    let (port, _data) = waiting.passive(&mut waiting_server);
    assert!(is_open(port));
    gate.signal(Signal::KILL);
    gate.exit();
    assert_reset(ours);
    assert_reset(theirs);
    assert!(!is_open(gate.rules.front()));
    gate.assert_all_closed();
}
