//! What the gate guarantees, each with a peer that tries to break it.

#![allow(missing_docs, unreachable_pub, clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

mod bench;

use std::io::{ErrorKind, Write as _};
use std::net::{SocketAddr, TcpListener};

use bench::*;

/// A rule with these many ports each way.
fn rule(ports: u16) -> (String, Vec<u16>, Vec<u16>) {
    let all = free_ports(ports * 2);
    let (passive, active) = all.split_at(usize::from(ports));
    let range = |ports: &[u16]| format!("\"{}-{}\"", ports[0], ports[ports.len() - 1]);
    let text = format!("    action: allow\n    inbound: {}\n    outbound: {}", range(passive), range(active));
    (text, passive.to_vec(), active.to_vec())
}

#[test]
fn only_the_peer_comes_in_and_only_once() {
    let (server, (rule, ports, _)) = (Server::new(), rule(4));
    let gate = Gate::start(server.at(), &rule);
    let (mut client, mut session) = session(&gate, &server);
    let (at, data) = passive(&mut client, &mut session);
    assert!(ports.contains(&at.port()), "{at} is outside {ports:?}");
    let mut stranger = connect_from([127, 0, 0, 2].into(), at).unwrap();
    assert_eq!(read_all(&mut stranger).1, Some(ErrorKind::ConnectionReset), "a stranger was let in");
    let mut mine = connect_from([127, 0, 0, 1].into(), at).unwrap();
    client.send(b"RETR x");
    session.expect("RETR x");
    let (mut theirs, _) = data.accept().unwrap();
    theirs.write_all(b"whole").unwrap();
    drop(theirs);
    assert_eq!(read_all(&mut mine), (b"whole".to_vec(), None));
    until("the port to close", || !is_open(at));
    gate.wait_for("event=\"stranger\"");
}

#[test]
fn a_pinhole_closes_in_time() {
    let (server, (rule, ..)) = (Server::new(), rule(4));
    let gate = Gate::start(server.at(), &(rule + "\n    pinhole_timeout: 1s"));
    let (mut client, mut session) = session(&gate, &server);
    let (at, _data) = passive(&mut client, &mut session);
    until("the port to close", || connect_from([127, 0, 0, 3].into(), at).is_err());
    gate.wait_for("event=\"pinhole_expired\"");
    client.send(b"LIST");
    client.expect("425 Send PASV");
}

#[test]
fn a_new_pasv_replaces_the_last() {
    let (server, (rule, ..)) = (Server::new(), rule(8));
    let gate = Gate::start(server.at(), &rule);
    let (mut client, mut session) = session(&gate, &server);
    let (first, _data) = passive(&mut client, &mut session);
    let (second, _data) = passive(&mut client, &mut session);
    assert!(first == second || connect_from([127, 0, 0, 3].into(), first).is_err(), "the first is still open");
}

#[test]
fn no_port_outside_the_ranges() {
    let server = Server::new();
    let trap = TcpListener::bind("127.0.0.1:0").unwrap();
    let (mut rule, ports, _) = rule(4);
    rule = rule.replace("inbound: ", "inbound: {server_ports: \"1024-1025\", gate_ports: ");
    rule = rule.replacen("\n    outbound", "}\n    outbound", 1);
    let gate = Gate::start(server.at(), &rule);
    let (mut client, mut session) = session(&gate, &server);
    client.send(b"PASV");
    session.expect("PASV");
    session.send(&tuple(b"227 here (", trap.local_addr().unwrap(), b")"));
    client.expect("425");
    gate.wait_for("server_port_outside_range");
    assert!(ports.iter().all(|port| !is_open(SocketAddr::from(([127, 0, 0, 1], *port)))));
    for (line, name) in [
        (&b"PORT 127,0,0,1,0,22"[..], "client_port_outside_range"),
        (b"PORT 10,0,0,9,20,20", "foreign_address"),
        (b"EPRT |1|127.0.0.9|5000|", "foreign_address"),
        (b"PORT 127,0,0,1,0,0", "malformed_request"),
    ] {
        client.send(line);
        client.expect("50");
        gate.wait_for(name);
    }
    client.send(b"NOOP");
    session.expect("NOOP");
}

#[test]
fn a_full_range_is_refused_and_never_widened() {
    let (server, (rule, ports, _)) = (Server::new(), rule(1));
    let gate = Gate::start(server.at(), &rule);
    let (mut first, mut first_session) = session(&gate, &server);
    let (at, _data) = passive(&mut first, &mut first_session);
    assert_eq!(at.port(), ports[0]);
    let (mut second, mut second_session) = session(&gate, &server);
    second.send(b"PASV");
    second_session.expect("PASV");
    second_session.send(b"227 (127,0,0,1,100,100)");
    second.expect("425");
    gate.wait_for("range_full");
    // Another client address shares the port.
    let mut third = Client::from([127, 0, 0, 3].into(), gate.at);
    let mut third_session = server.session();
    third.expect("220");
    assert_eq!(passive(&mut third, &mut third_session).0.port(), ports[0]);
}

#[test]
fn a_port_of_another_program_is_passed_over() {
    let (server, (rule, ports, _)) = (Server::new(), rule(2));
    let _other = TcpListener::bind(("127.0.0.1", ports[0])).unwrap();
    let gate = Gate::start(server.at(), &rule);
    let (mut client, mut session) = session(&gate, &server);
    for _ in 0..8 {
        assert_eq!(passive(&mut client, &mut session).0.port(), ports[1]);
    }
    gate.wait_for("event=\"port_taken\"");
}

#[test]
fn five_ports_carry_a_hundred_transfers() {
    let (server, (rule, ..)) = (Server::new(), rule(5));
    let gate = Gate::start(server.at(), &rule);
    let mut all = Vec::new();
    for host in 1..=20 {
        for _ in 0..5 {
            let mut client = Client::from([127, 0, 1, host].into(), gate.at);
            let mut session = server.session();
            client.expect("220");
            let (at, data) = passive(&mut client, &mut session);
            all.push((client, session, at, data, host));
        }
    }
    for (client, _, at, data, host) in &mut all {
        let mut mine = connect_from([127, 0, 1, *host].into(), *at).unwrap();
        client.send(b"RETR x");
        let mut theirs = data.accept().unwrap().0;
        theirs.write_all(&[*host]).unwrap();
        drop(theirs);
        assert_eq!(read_all(&mut mine), (vec![*host], None));
    }
}

#[test]
fn no_line_of_one_peer_acts_as_a_line_of_the_other() {
    let (server, (rule, ports, _)) = (Server::new(), rule(4));
    let gate = Gate::start(server.at(), &rule);
    let mut client = gate.client();
    let mut session = Client::over(server.listener.accept().unwrap().0);
    session.send(b"220-hello\r\n227 Entering Passive Mode (127,0,0,1,100,100)\r\n220 ready");
    client.expect("220-");
    client.expect("227 ");
    client.expect("220 ");
    client.send(b"XXX 227 Entering Passive Mode (127,0,0,1,100,100)");
    session.expect("XXX");
    session.send(b"500-XXX\r\n227 Entering Passive Mode (127,0,0,1,100,100)\r\n500 not understood");
    client.expect("500-");
    client.expect("227");
    client.expect("500 ");
    session.send(b"227 Entering Passive Mode (127,0,0,1,100,100)");
    gate.wait_for("unasked_passive_reply");
    client.send(b"NOOP");
    session.expect("NOOP");
    session.send(b"229 (|||25700|)");
    client.expect("451");
    client.send(b"AUTH TLS");
    client.expect("534");
    assert!(ports.iter().all(|port| !is_open(SocketAddr::from(([127, 0, 0, 1], *port)))), "something opened");
}

#[test]
fn what_is_not_its_business_passes_byte_for_byte() {
    let (server, (rule, ..)) = (Server::new(), rule(4));
    let gate = Gate::start(server.at(), &rule);
    let (mut client, mut session) = session(&gate, &server);
    let lines: [&[u8]; 5] = [
        b"DELE gr\xfcn \xe9\xff\xffx",
        b"XCRC a  b",
        b"SITE CHMOD 755 a",
        b"MFMT 2026 x",
        "MKD \u{65e5}\u{672c}".as_bytes(),
    ];
    let stream: Vec<u8> = lines.iter().flat_map(|line| [*line, b"\r\n"].concat()).collect();
    client.stream.set_nodelay(true).unwrap();
    for byte in &stream {
        client.stream.write_all(&[*byte]).unwrap();
    }
    client.stream.write_all(&stream).unwrap();
    for line in lines.iter().chain(&lines) {
        assert_eq!(session.line(), *line);
        session.send(&[b"250 ", *line].concat());
        assert_eq!(client.line(), [b"250 ", *line].concat());
    }
}

#[test]
fn an_urgent_abort_stays_urgent() {
    let (server, (rule, ..)) = (Server::new(), rule(4));
    let gate = Gate::start(server.at(), &rule);
    let (mut client, mut session) = session(&gate, &server);
    let theirs = socket2::SockRef::from(&session.stream);
    theirs.set_out_of_band_inline(true).unwrap();
    let mine = socket2::SockRef::from(&client.stream);
    assert_eq!(mine.send_out_of_band(b"\xff\xf4\xff").unwrap(), 3);
    client.send(b"\xf2ABOR");
    assert_eq!(session.line(), b"\xff\xf4\xff\xf2ABOR", "the server's attention was not called");
    // What came without urgent data goes on as the plain command.
    client.send(b"\xff\xf4\xff\xf2ABOR");
    assert_eq!(session.line(), b"ABOR");
}

#[test]
fn a_file_that_was_cut_short_is_seen_to_be() {
    let (server, (rule, ..)) = (Server::new(), rule(4));
    let mut gate = Gate::start(server.at(), &rule);
    for by_server in [true, false] {
        let (mut client, mut session) = session(&gate, &server);
        let (at, data) = passive(&mut client, &mut session);
        let mut mine = connect_from([127, 0, 0, 1].into(), at).unwrap();
        client.send(if by_server { b"RETR x" } else { b"STOR x" });
        let theirs = data.accept().unwrap().0;
        theirs.set_read_timeout(Some(PATIENCE)).unwrap();
        let (mut sender, mut receiver) = if by_server { (theirs, mine) } else { (mine, theirs) };
        sender.write_all(b"half").unwrap();
        let mut half = [0; 4];
        std::io::Read::read_exact(&mut receiver, &mut half).unwrap();
        reset(sender);
        assert_eq!(read_all(&mut receiver).1, Some(ErrorKind::ConnectionReset));
        session.send(b"150 go\r\n426 broken");
        client.expect("150");
        client.expect("426");
        gate.wait_for(if by_server { "cut_by_server" } else { "cut_by_client" });
        mine = receiver;
        drop(mine);
    }
    let (mut client, mut session) = session(&gate, &server);
    let (at, data) = passive(&mut client, &mut session);
    let mut mine = connect_from([127, 0, 0, 1].into(), at).unwrap();
    let mut theirs = data.accept().unwrap().0;
    theirs.write_all(b"half").unwrap();
    let mut half = [0; 4];
    std::io::Read::read_exact(&mut mine, &mut half).unwrap();
    gate.process.kill().unwrap();
    assert_eq!(read_all(&mut mine).1, Some(ErrorKind::ConnectionReset), "a killed gate made a file look whole");
    gate.process.wait().unwrap();
    assert!(!is_open(at) && !is_open(gate.at), "a killed gate left a port open");
}

#[test]
fn the_gate_dials_nobody_on_a_peers_word() {
    let (server, (rule, ..)) = (Server::new(), rule(4));
    let gate = Gate::start(server.at(), &rule);
    let (mut client, mut session) = session(&gate, &server);
    let trap = TcpListener::bind("127.0.0.9:0").unwrap();
    let port = trap.local_addr().unwrap().port();
    let data = TcpListener::bind(("127.0.0.1", port)).unwrap();
    client.send(b"EPSV");
    session.expect("EPSV");
    session.send(&tuple(b"227 (", trap.local_addr().unwrap(), b")"));
    let told = client.expect("229 Entering Extended Passive Mode (|||");
    let port: u16 = told.split('|').nth(3).unwrap().parse().unwrap();
    let _mine = connect_from([127, 0, 0, 1].into(), SocketAddr::from(([127, 0, 0, 1], port))).unwrap();
    data.accept().unwrap();
    trap.set_nonblocking(true).unwrap();
    assert_eq!(trap.accept().unwrap_err().kind(), ErrorKind::WouldBlock, "the trap was dialled");
    gate.wait_for("foreign_server_address");
}

#[test]
fn a_bad_peer_costs_its_own_session_only() {
    let (server, (rule, ..)) = (Server::new(), rule(4));
    let gate = Gate::start(server.at(), &rule);
    let (mut good, mut good_session) = session(&gate, &server);
    let (at, data) = passive(&mut good, &mut good_session);
    let mut mine = connect_from([127, 0, 0, 1].into(), at).unwrap();
    let mut theirs = data.accept().unwrap().0;
    theirs.write_all(b"begin ").unwrap();
    let endless = vec![b'x'; 1 << 20];
    let bad: [&[u8]; 4] = [b"GET / HTTP/1.1\r\n\r\n", b"a\0\r\nb\0\r\nc\0\r\n", b"\x16\x03\x01\r\n", &endless];
    for bytes in bad {
        let (mut client, _session) = session(&gate, &server);
        // The gate may have closed before all was written.
        let _ = client.stream.write_all(bytes);
        let mut last = client.text();
        while last.starts_with("500") {
            last = client.text();
        }
        assert!(last.starts_with("421") || last.is_empty(), "{last}");
    }
    theirs.write_all(b"end").unwrap();
    drop(theirs);
    assert_eq!(read_all(&mut mine), (b"begin end".to_vec(), None));
}

#[test]
fn secrets_and_controls_reach_no_log() {
    let (server, (rule, ..)) = (Server::new(), rule(4));
    let gate = Gate::start(server.at(), &rule);
    let (mut client, mut session) = session(&gate, &server);
    for line in [&b"PASS open-sesame"[..], b"ACCT open-sesame"] {
        client.send(line);
        session.expect(&String::from_utf8_lossy(line));
        session.send(b"230 ok");
        client.expect("230");
    }
    client.send(b"PASS open-sesame\0");
    client.expect("500");
    client.send(b"RETR \x1b[2J");
    client.expect("425");
    gate.wait_for("nothing_negotiated");
    let log = gate.log();
    assert!(!log.contains("open-sesame") && !log.contains('\u{1b}'), "{log}");
}

#[test]
fn a_wrong_file_never_replaces_a_good_one() {
    let (server, (rule, ..)) = (Server::new(), rule(4));
    let gate = Gate::start(server.at(), &rule);
    let (mut client, mut session) = session(&gate, &server);
    write_rules(&gate.rules, gate.at, server.at(), "    action: perhaps");
    gate.signal("HUP");
    gate.wait_for("event=\"reload_failed\"");
    passive(&mut client, &mut session);
    let (_, other, _) = self::rule(4);
    let inbound = format!("    action: allow\n    inbound: \"{}-{}\"", other[0], other[3]);
    write_rules(&gate.rules, gate.at, server.at(), &inbound);
    gate.signal("HUP");
    gate.wait_for("rule test changed");
    let (at, _data) = passive(&mut client, &mut session);
    assert!(other.contains(&at.port()), "the old range is still in force");
    client.send(b"PORT 127,0,0,1,100,100");
    client.expect("502");
    write_rules(&gate.rules, gate.at, server.at(), "    action: deny");
    gate.signal("HUP");
    client.expect("421");
}

#[test]
fn a_drained_gate_lets_transfers_end() {
    let (server, (rule, ..)) = (Server::new(), rule(4));
    let mut gate = Gate::start(server.at(), &rule);
    let (mut idle, _idle_session) = session(&gate, &server);
    let (mut client, mut session) = session(&gate, &server);
    let (at, data) = passive(&mut client, &mut session);
    let mut mine = connect_from([127, 0, 0, 1].into(), at).unwrap();
    client.send(b"RETR x");
    session.expect("RETR x");
    let mut theirs = data.accept().unwrap().0;
    theirs.write_all(b"begin ").unwrap();
    gate.signal("TERM");
    idle.expect("421");
    until("the port to close", || !is_open(gate.at));
    theirs.write_all(b"end").unwrap();
    drop(theirs);
    assert_eq!(read_all(&mut mine), (b"begin end".to_vec(), None));
    drop(mine);
    session.send(b"226 done");
    client.expect("226");
    client.expect("421");
    drop((client, session, idle));
    assert!(gate.process.wait().unwrap().success());
}

#[test]
fn what_is_wrong_is_told_to_the_right_party() {
    let at = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (rule, ..) = rule(4);
    let gate = Gate::start(at, &rule);
    gate.client().expect("421 The server cannot be reached");
    gate.wait_for("server_unreachable");
    let again = std::process::Command::new(env!("CARGO_BIN_EXE_ftpgate")).arg("run").arg(&gate.rules).output().unwrap();
    assert_eq!(again.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&again.stderr).contains("another program listens there"));
    let server = Server::new();
    let gate = Gate::start(server.at(), &rule);
    let mut client = gate.client();
    Client::over(server.listener.accept().unwrap().0).send(b"SSH-2.0-OpenSSH_9.2");
    client.expect("421 The server does not speak FTP");
    let (mut client, session) = session(&gate, &server);
    drop(session);
    client.expect("421 The server closed the connection");
}
