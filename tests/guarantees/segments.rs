//! What came in one piece goes on in one piece: small clients take what one read gives them for the whole reply.

use std::fmt::Write as _;
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use super::support::*;

/// Segments with data that this end has received.
fn segments(stream: &TcpStream) -> u32 {
    let [local, peer] = [stream.local_addr().unwrap(), stream.peer_addr().unwrap()].map(|at| at.to_string());
    let told = Command::new("ss").args(["-tinH", "src", &local, "dst", &peer]).output().unwrap().stdout;
    let told = String::from_utf8(told).unwrap();
    let count = told.split_whitespace().find_map(|word| word.strip_prefix("data_segs_in:"));
    count.unwrap_or_else(|| panic!("no count in {told}")).parse().unwrap()
}

/// A reply of so many lines.
fn reply(code: &str, lines: usize) -> String {
    let mut text = String::new();
    (1..lines).for_each(|line| write!(text, "{code}-Line {line} of the server's\r\n").unwrap());
    text + code + " The last\r\n"
}

#[test]
fn a_reply_that_comes_at_once_goes_on_at_once() {
    let gate = Gate::start();
    let (mut client, mut server) = gate.ungreeted_from(CLIENT);
    let mut seen = 0;
    let mut comes = |client: &mut Talk, server: &mut Talk, code: &str, lines: usize| {
        server.send(reply(code, lines).as_bytes());
        assert_eq!(client.expect_code(code).lines.len(), lines);
        let now = segments(&client.stream);
        assert_eq!(now - seen, 1, "a {code} of {lines} lines");
        seen = now;
    };
    comes(&mut client, &mut server, "220", 3);
    client.send(b"USER anna\r\nPASS secret\r\n");
    server.expect("USER anna");
    server.expect("PASS secret");
    comes(&mut client, &mut server, "331", 1);
    comes(&mut client, &mut server, "230", 5);
    for lines in [8, 9, 20, 60, 200] {
        client.say("HELP");
        server.expect("HELP");
        comes(&mut client, &mut server, "214", lines);
    }
}

/// A server may say each line by itself.
#[test]
fn a_reply_that_comes_in_pieces_goes_on_in_one() {
    let gate = Gate::start();
    let (mut client, mut server) = gate.ungreeted_from(CLIENT);
    for line in reply("220", 5).split_inclusive('\n') {
        server.send(line.as_bytes());
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(client.expect_code("220").lines.len(), 5);
    assert_eq!(segments(&client.stream), 1);
    // One that pauses is not held back for long.
    client.say("HELP");
    server.expect("HELP");
    server.send(b"214-Wait for it\r\n");
    client.expect("214-Wait for it");
    server.say("214 That was it");
    client.expect("214 That was it");
}
