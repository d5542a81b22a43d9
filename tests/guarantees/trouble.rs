//! A bad peer costs its own session only.

use std::io::{Read as _, Write as _};
use std::thread;

use super::support::*;

/// Runs a transfer through the gate that begins before the trouble and ends after it.
fn beside(gate: &Gate, trouble: impl FnOnce()) {
    let (mut client, mut server) = gate.session_from(OTHER_CLIENT);
    let (mut ours, mut theirs) = client.transfer(&mut server, "RETR file");
    let (first, second) = (goods(300_000), goods(500_000));
    let sent = first.clone();
    let sending = thread::spawn(move || {
        theirs.write_all(&sent).unwrap();
        theirs
    });
    let mut got = vec![0; first.len()];
    ours.read_exact(&mut got).unwrap();
    assert!(got == first);
    let mut theirs = sending.join().unwrap();
    trouble();
    let sent = second.clone();
    let sending = thread::spawn(move || theirs.write_all(&sent).unwrap());
    assert!(all_of(ours) == second);
    sending.join().unwrap();
    client.complete(&mut server);
    client.noop_with(&mut server);
    assert!(!gate.log().contains("panicked"));
}

/// The last thing that a client hears is 421, or nothing.
#[track_caller]
fn assert_turned_away(mut client: Talk, mut server: Talk) {
    let lines = client.rest();
    assert!(lines.last().is_none_or(|line| line.starts_with("421 ")), "{lines:?}");
    drop(client);
    server.expect_end();
}

#[test]
fn a_megabyte_without_a_line_end() {
    let gate = Gate::start();
    beside(&gate, || {
        let (mut client, server) = gate.session();
        for _ in 0..1024 {
            if client.try_send(&[b'x'; 1024]).is_err() {
                break;
            }
        }
        assert_turned_away(client, server);
    });
    gate.logged(&["event=\"session_ended\"", "reason=\"bad_client\""]);
}

#[test]
fn a_megabyte_without_a_line_end_from_the_server() {
    let gate = Gate::start();
    beside(&gate, || {
        let (client, mut server) = gate.session();
        for _ in 0..1024 {
            if server.try_send(&[b'x'; 1024]).is_err() {
                break;
            }
        }
        assert_turned_away(client, server);
    });
    gate.logged(&["event=\"session_ended\"", "reason=\"bad_server\""]);
}

#[test]
fn nul_and_garbage() {
    let gate = Gate::start();
    beside(&gate, || {
        let (mut client, server) = gate.session();
        client.send(b"RETR a\0b\r\n\x01\x02\x03\r\nRETR a\rPORT 1\r\nDELE all\r\n");
        for _ in 0..3 {
            client.expect_code("500");
        }
        assert_turned_away(client, server);
    });
    gate.logged(&["event=\"session_ended\"", "reason=\"bad_client\""]);
}

#[test]
fn random_bytes() {
    let gate = Gate::start();
    beside(&gate, || {
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let mut bytes = Vec::new();
        for _ in 0..8 * 1024 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            bytes.extend_from_slice(&state.to_le_bytes());
        }
        let (mut client, mut server) = gate.session();
        let _cut_off = client.try_send(&bytes);
        // What happens to be a line with a verb may pass; the end is the same.
        client.rest();
        drop(client);
        server.rest();
    });
    gate.logged(&["event=\"session_ended\"", "reason=\"bad_client\""]);
}

#[test]
fn http_and_tls() {
    let gate = Gate::start();
    let requests: [(&[u8], &str); 3] = [
        (b"GET / HTTP/1.1\r\nHost: gate\r\n\r\n", "http_client"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n", "tls_client"),
        // No line end: the client waits for an answer to its first words.
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "tls_client"),
    ];
    beside(&gate, || {
        for (request, reason) in requests {
            let (mut client, server) = gate.session();
            client.send(request);
            client.expect_code("421");
            assert_turned_away(client, server);
            gate.logged(&["event=\"session_ended\"", &format!("reason=\"{reason}\"")]);
        }
    });
}

#[test]
fn a_client_that_leaves_in_the_middle_of_pasv() {
    let gate = Gate::start();
    let data = listen(SERVER);
    beside(&gate, || {
        let (mut client, mut server) = gate.session();
        client.say("PASV");
        server.expect("PASV");
        drop(client);
        server.say(&told_227(SERVER, port_of(&data)));
        server.rest();
        gate.wait_all_closed();
    });
    nobody_came_to(&data);
}

#[test]
fn a_server_that_leaves_in_the_middle_of_pasv() {
    let gate = Gate::start();
    beside(&gate, || {
        let (mut client, mut server) = gate.session();
        client.say("PASV");
        server.expect("PASV");
        drop(server);
        client.expect_code("421");
        client.expect_end();
        gate.assert_all_closed();
    });
}

#[test]
fn half_a_227_and_the_end() {
    let gate = Gate::start();
    beside(&gate, || {
        for half in
            ["227 Entering Passive Mode (127,0,0,1,200,200)", "227-Entering\r\n227", "22", "227 (127,0,0,1,\r\n"]
        {
            let (mut client, mut server) = gate.session();
            client.say("PASV");
            server.expect("PASV");
            server.send(half.as_bytes());
            drop(server);
            assert!(client.rest().iter().all(|line| !line.starts_with("227")));
            gate.assert_all_closed();
        }
    });
}
