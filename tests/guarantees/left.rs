//! A transfer whose control connection ends before it does: what a side has ended in order arrives whole.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::Duration;

use socket2::SockRef;

use super::support::*;

const SIZE: usize = 2_000_000;

/// Long enough for the gate to have seen all that was done.
fn settle() {
    thread::sleep(Duration::from_millis(300));
}

/// The client sends a file, ends it, and goes, with the 150 unread: its control connection is reset.
#[test]
fn an_upload_whose_client_leaves_at_once_arrives_whole() {
    let gate = Gate::start();
    let (mut client, mut server) = gate.session();
    let (port, data) = client.passive(&mut server);
    client.say("STOR file");
    server.expect("STOR file");
    server.say("150 Send it");
    let mut ours = dial(CLIENT, port).unwrap();
    let theirs = accept(&data);
    let sender = thread::spawn(move || ours.write_all(&goods(SIZE)).unwrap());
    settle();
    drop(client);
    settle();
    let got = all_of(theirs);
    sender.join().unwrap();
    assert!(got == goods(SIZE), "{} bytes of {SIZE}", got.len());
    server.say("226 Stored");
    server.expect_end();
    gate.logged(&["event=\"transfer\"", "outcome=\"ended\"", "STOR file", &format!("bytes={SIZE}")]);
    gate.logged(&["event=\"session_ended\"", "reason=\"client_gone\""]);
    gate.wait_all_closed();
}

/// The same before the gate has reached the server, and with a server that says nothing more.
#[test]
fn an_upload_is_delivered_to_a_server_that_is_reached_after_its_client_has_left() {
    let gate = Gate::start();
    let (mut client, mut server) = gate.session();
    let (port, data) = client.passive(&mut server);
    client.say("STOR file");
    let mut ours = dial(CLIENT, port).unwrap();
    ours.write_all(b"all of it").unwrap();
    drop(ours);
    reset(client.stream);
    server.expect("STOR file");
    assert_eq!(all_of(accept(&data)), b"all of it");
    drop(server);
    gate.logged(&["event=\"transfer\"", "outcome=\"ended\"", "bytes=9"]);
    gate.wait_all_closed();
}

/// A client that dies in the middle is no client that has ended its file.
#[test]
fn an_upload_that_its_client_resets_after_leaving_is_reset() {
    let gate = Gate::start();
    let (mut client, mut server) = gate.session();
    let (mut ours, theirs) = client.transfer(&mut server, "STOR file");
    ours.write_all(b"half of it").unwrap();
    reset(client.stream);
    settle();
    reset(ours);
    assert_reset(theirs);
    gate.logged(&["event=\"transfer\"", "outcome=\"cut_by_client\""]);
    server.expect_end();
}

/// A download goes to nobody once its client is gone.
#[test]
fn a_download_ends_with_its_client() {
    let gate = Gate::start();
    let (mut client, mut server) = gate.session();
    let (_ours, theirs) = client.transfer(&mut server, "RETR file");
    reset(client.stream);
    assert_reset(theirs);
    gate.logged(&["event=\"transfer\"", "outcome=\"cut_by_client\""]);
}

#[test]
fn a_server_that_says_goodbye_in_a_transfer_ends_it_in_order() {
    let gate = Gate::start();
    let (mut client, mut server) = gate.session();
    let (ours, mut theirs) = client.transfer(&mut server, "RETR file");
    client.say("QUIT");
    server.expect("QUIT");
    server.say("221 Goodbye");
    client.expect("221 Goodbye");
    drop(server);
    client.expect_end();
    settle();
    let sender = thread::spawn(move || theirs.write_all(&goods(SIZE)).unwrap());
    let got = all_of(ours);
    sender.join().unwrap();
    assert!(got == goods(SIZE), "{} bytes of {SIZE}", got.len());
    gate.logged(&["event=\"transfer\"", "outcome=\"ended\"", &format!("bytes={SIZE}")]);
}

/// A server that has sent all it can, ended it and said so; most of it waits at the gate, for the client reads nothing.
fn done_too_soon(client: &mut Talk, server: &mut Talk) -> (TcpStream, usize) {
    let (ours, mut theirs) = client.transfer(server, "RETR file");
    SockRef::from(&theirs).set_send_buffer_size(16 * 1024).unwrap();
    theirs.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
    let mut sent = 0;
    let all = goods(64 * 1024 * 1024);
    while let Ok(count) = theirs.write(&all[sent..]) {
        sent += count;
    }
    theirs.shutdown(Shutdown::Write).unwrap();
    server.say("226 Done");
    thread::spawn(move || all_of(theirs));
    (ours, sent)
}

/// What the gate holds reaches the client ahead of the word that all was sent.
#[test]
fn the_end_of_a_download_is_told_after_its_bytes() {
    let gate = Gate::start();
    let (mut client, mut server) = gate.session();
    let (mut ours, sent) = done_too_soon(&mut client, &mut server);
    client.stream.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let early = client.try_line().map_err(|error| error.kind());
    assert_eq!(early, Err(ErrorKind::WouldBlock));
    let mut got = Vec::new();
    ours.read_to_end(&mut got).unwrap();
    assert!(got == goods(sent), "{} bytes of {sent}", got.len());
    bounded(&client.stream);
    client.expect("226 Done");
    drop(ours);
    gate.logged(&["event=\"transfer\"", "outcome=\"ended\"", &format!("bytes={sent}")]);
}

/// A client that takes nothing hears of the end all the same.
#[test]
fn the_end_of_a_download_is_not_held_for_ever() {
    let gate = Gate::start();
    let (mut client, mut server) = gate.session();
    let (ours, _) = done_too_soon(&mut client, &mut server);
    client.stream.set_read_timeout(Some(2 * IO)).unwrap();
    client.expect("226 Done");
    reset(ours);
    gate.logged(&["event=\"transfer\"", "outcome=\"cut_by_client\""]);
}

/// Nor is it for a server that keeps its data connection open.
#[test]
fn the_end_of_a_download_does_not_wait_for_its_connection_to_close() {
    let gate = Gate::start();
    let (mut client, mut server) = gate.session();
    let (mut ours, mut theirs) = client.transfer(&mut server, "RETR file");
    theirs.write_all(b"all of it").unwrap();
    let mut got = [0; 9];
    ours.read_exact(&mut got).unwrap();
    server.say("226 Done");
    client.expect("226 Done");
    drop(theirs);
    assert!(all_of(ours).is_empty());
}

/// The gate's connection to the server may stand for the gate alone: a server that closes its port may forget those who
/// wait there without a word.
#[test]
fn a_server_that_has_no_connection_leaves_none_to_the_client() {
    let gate = Gate::start();
    let (mut client, mut server) = gate.session();
    let (port, data) = client.passive(&mut server);
    let ours = dial(CLIENT, port).unwrap();
    let theirs = accept(&data);
    client.say("RETR file");
    server.expect("RETR file");
    server.say("425 Nobody came");
    client.expect("425 Nobody came");
    assert_reset(ours);
    assert_reset(theirs);
    gate.logged(&["event=\"transfer\"", "outcome=\"refused_by_server\""]);
}
