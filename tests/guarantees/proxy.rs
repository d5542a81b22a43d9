//! Whom a PROXY header names: believed where `proxy_from` says so, and nowhere else.

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};

use super::support::*;

const BALANCER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 5);

fn balanced() -> Gate {
    Gate::with(|rules| rules.listener = "    proxy_from: \"127.0.0.5\"\n")
}

/// A balanced gate whose clients all have to use one port.
fn with_one_port() -> Gate {
    Gate::with(|rules| {
        rules.listener = "    proxy_from: \"127.0.0.5\"\n";
        rules.inbound = *rules.inbound.start()..=*rules.inbound.start();
    })
}

fn v1(client: Ipv4Addr, port: u16) -> Vec<u8> {
    format!("PROXY TCP4 {client} 127.0.0.1 40000 {port}\r\n").into_bytes()
}

fn v2(client: Ipv4Addr, port: u16) -> Vec<u8> {
    let start = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c";
    [&start[..], &client.octets(), &[127, 0, 0, 1], &40_000_u16.to_be_bytes(), &port.to_be_bytes()].concat()
}

/// A connection from the balancer that begins with these bytes.
#[track_caller]
fn brought(port: u16, bytes: &[u8]) -> TcpStream {
    let mut stream = dial(BALANCER, port).unwrap();
    stream.write_all(bytes).unwrap();
    stream
}

/// A client of the balancer's that has been greeted, and its server's end.
#[track_caller]
fn session_of(gate: &Gate, client: Ipv4Addr) -> (Talk, Talk) {
    let front = gate.rules.front();
    let mut client = Talk::new(brought(front, &v1(client, front)));
    let mut server = Talk::new(accept(&gate.server));
    server.say("220 Ready");
    client.expect("220 Ready");
    (client, server)
}

/// A transfer through a pinhole that the client has come to.
#[track_caller]
fn carries(client: &mut Talk, server: &mut Talk, ours: TcpStream, data: &TcpListener) {
    let mut theirs = accept(data);
    client.begin(server, "RETR file");
    theirs.write_all(&goods(100_000)).unwrap();
    drop(theirs);
    assert!(all_of(ours) == goods(100_000));
    client.complete(server);
}

/// The connection ends, and nothing was said.
#[track_caller]
fn assert_silent_end(stream: TcpStream) {
    let mut talk = Talk::new(stream);
    talk.expect_end();
}

#[test]
fn a_header_says_who_the_client_is_and_what_follows_is_its_first_line() {
    let gate = balanced();
    let front = gate.rules.front();
    for header in [v1(OTHER_CLIENT, front), v2(OTHER_CLIENT, front)] {
        let mut client = Talk::new(brought(front, &[&header[..], b"USER a\r\nPASS b\r\n"].concat()));
        let mut server = Talk::new(accept(&gate.server));
        server.say("220 Ready");
        client.expect("220 Ready");
        server.expect("USER a");
        server.say("331 Password");
        client.expect("331 Password");
        server.expect("PASS b");
        server.say("230 Welcome");
        client.expect("230 Welcome");
        gate.logged(&["event=\"session_started\"", "client=127.0.0.3:40000", "via=127.0.0.5:"]);
    }
}

#[test]
fn the_client_is_told_the_address_that_it_connected_to() {
    let gate = balanced();
    let header = format!("PROXY TCP4 {OTHER_CLIENT} 192.0.2.80 40000 21\r\n");
    let mut client = Talk::new(brought(gate.rules.front(), header.as_bytes()));
    let mut server = Talk::new(accept(&gate.server));
    server.say("220 Ready");
    client.expect("220 Ready");
    client.say("PASV");
    server.expect("PASV");
    let data = listen(SERVER);
    server.say(&told_227(SERVER, port_of(&data)));
    let told = client.expect_code("227").lines.concat();
    assert!(told.contains("(192,0,2,80,"), "{told}");
    // An address of the client's own in PORT is the one that the header names, and no other.
    let line = format!("PORT {}", host_port(BALANCER, 40_000));
    client.say(&line);
    client.expect_code("504");
    gate.logged(&["event=\"refused\"", "reason=\"foreign_address\""]);
}

#[test]
fn rules_are_decided_on_the_client_of_the_header() {
    let gate = Gate::with(|rules| {
        rules.listener = "    proxy_from: \"127.0.0.5\"\n";
        rules.from = "127.0.0.3";
    });
    let front = gate.rules.front();
    let mut denied = Talk::new(brought(front, &v1(CLIENT, front)));
    denied.expect_code("421");
    gate.logged(&["event=\"session_denied\"", "client=127.0.0.1:40000"]);
    let (mut client, mut server) = session_of(&gate, OTHER_CLIENT);
    client.noop_with(&mut server);
}

#[test]
fn a_health_check_is_the_balancers_own() {
    let gate = balanced();
    for header in [&b"PROXY UNKNOWN\r\n"[..], b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"] {
        let mut check = Talk::new(brought(gate.rules.front(), header));
        let mut server = Talk::new(accept(&gate.server));
        server.say("220 Ready");
        check.expect("220 Ready");
        check.noop_with(&mut server);
        gate.logged(&["event=\"session_started\"", "client=127.0.0.5:"]);
    }
}

#[test]
fn a_header_from_another_source_ends_the_session() {
    let gate = balanced();
    let front = gate.rules.front();
    for header in [v1(OTHER_CLIENT, front), v2(OTHER_CLIENT, front)] {
        let (mut client, mut server) = gate.session_from(STRANGER);
        client.send(&[&header[..], b"NOOP\r\n"].concat());
        client.expect_code("421");
        drop(client);
        server.expect_end();
    }
    let ended = |line: &&str| line.contains("event=\"session_ended\"") && line.contains("reason=\"proxy_header\"");
    wait_until("both sessions have ended", || gate.log().lines().filter(ended).count() == 2);
    assert!(!gate.log().contains("client=127.0.0.3"));
}

#[test]
fn a_second_header_ends_the_session() {
    let gate = balanced();
    let front = gate.rules.front();
    for header in [v1(STRANGER, front), v2(STRANGER, front)] {
        let (mut client, mut server) = session_of(&gate, OTHER_CLIENT);
        client.noop_with(&mut server);
        client.send(&header);
        client.expect_code("421");
        drop(client);
        server.expect_end();
        drop(server);
        gate.logged(&["event=\"session_ended\"", "client=127.0.0.3:", "reason=\"proxy_header\""]);
    }
}

#[test]
fn a_bad_header_ends_the_connection_in_silence() {
    let gate = balanced();
    let front = gate.rules.front();
    let udp = [&v2(OTHER_CLIENT, front)[..13], &[0x12], &v2(OTHER_CLIENT, front)[14..]].concat();
    let long_v2 = [&b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff"[..], &[7; 70_000]].concat();
    let long_v1 = [b"PROXY UNKNOWN ".to_vec(), vec![b'x'; 70_000]].concat();
    let multicast = v2(Ipv4Addr::new(224, 0, 0, 1), front);
    let unspecified = v1(Ipv4Addr::UNSPECIFIED, front);
    let cases: [(&[u8], &str); 9] = [
        (b"USER anonymous\r\n", "no_proxy_header"),
        (b"\x16\x03\x01\x02\0", "no_proxy_header"),
        (b"PROXY TCP4 127.0.0.3 127.0.0.1 1 65536\r\n", "proxy_header_malformed"),
        (b"PROXY TCP4 127.0.0.3 127.0.0.1 1 21\nUSER x\r\n", "proxy_header_malformed"),
        (&udp, "proxy_header_not_tcp"),
        (&long_v2, "proxy_header_too_long"),
        (&long_v1, "proxy_header_too_long"),
        (&multicast, "proxy_header_address"),
        (&unspecified, "proxy_header_address"),
    ];
    for (bytes, reason) in cases {
        let mut stream = dial(BALANCER, front).unwrap();
        // It is closed while it still sends.
        let _cut_off = stream.write_all(bytes);
        assert_silent_end(stream);
        gate.logged(&["event=\"bad_proxy_header\"", "listener=\"front\"", &format!("reason=\"{reason}\"")]);
    }
    for half in [&v1(OTHER_CLIENT, front)[..20], &v2(OTHER_CLIENT, front)[..20]] {
        let stream = brought(front, half);
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        assert_silent_end(stream);
    }
    let (mut client, mut server) = session_of(&gate, OTHER_CLIENT);
    client.noop_with(&mut server);
    nobody_came_to(&gate.server);
}

/// With what came, escaped, and what to do about it: neither a password nor a control character of it.
#[test]
fn each_fault_of_a_header_is_told_with_its_first_bytes_and_advice() {
    let gate = balanced();
    let front = gate.rules.front();
    let with_checksum = [
        &b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x13\x7f\0\0\x03\x7f\0\0\x01\0\x07\0\x15\x03\0\x04"[..],
        &[0; 4],
        b"PASS secret\r\n",
    ]
    .concat();
    let udp = [&v2(OTHER_CLIENT, front)[..13], &[0x12], &v2(OTHER_CLIENT, front)[14..], b"PASS secret\r\n"].concat();
    let cases: [(&[u8], &str, &str, &str); 9] = [
        (b"USER anna\r\nPASS secret\r\n", "no_proxy_header", "USER anna", "must send a PROXY header"),
        (b"PASS secret\r\n", "no_proxy_header", "PASS ****", "must send a PROXY header"),
        (b"\x16\x03\x01\x02\0", "no_proxy_header", r"\\x16\\x03\\x01\\x02\\x00", "ahead of everything else and of TLS"),
        (b"PROXY \x1b[31mTCP4\r\n", "proxy_header_malformed", r"PROXY \\x1b[31mTCP4", "does not keep to the protocol"),
        (&udp, "proxy_header_not_tcp", r"QUIT\\n!\\x12\\x00\\x0c\\x7f", "UNIX socket"),
        (
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff",
            "proxy_header_too_long",
            r"QUIT\\n!\\x11\\xff\\xff",
            "send fewer extras",
        ),
        (&with_checksum, "proxy_header_checksum", r"\\x7f\\x00\\x00\\x03", "CRC-32C"),
        (b"PROXY TCP4 0.0.0.0 127.0.0.1 1 21\r\n", "proxy_header_address", "PROXY TCP4 0.0.0.0", "no possible one"),
        (b"PROXY TCP4 192.0.2.1 ", "proxy_header_late", "PROXY TCP4 192.0.2.1 ", "the server speaks first"),
    ];
    for (bytes, reason, seen, advice) in cases {
        let stream = brought(front, bytes);
        gate.logged(&[
            "WARN",
            "event=\"bad_proxy_header\"",
            &format!("reason=\"{reason}\""),
            "seen=\"",
            seen,
            "advice=\"",
            advice,
        ]);
        drop(stream);
    }
    let log = gate.log();
    assert!(!log.contains("secret") && !log.contains('\x1b'), "{log}");
}

#[test]
fn a_header_that_does_not_come_is_not_waited_for() {
    let gate = balanced();
    let front = gate.rules.front();
    let slow = [brought(front, b""), brought(front, b"PROXY TCP4 "), brought(front, &v2(OTHER_CLIENT, front)[..27])];
    let (mut client, mut server) = session_of(&gate, OTHER_CLIENT);
    client.noop_with(&mut server);
    let late = || gate.log().matches("reason=\"proxy_header_late\"").count() == slow.len();
    wait_until("all are late", late);
    slow.into_iter().for_each(assert_silent_end);
    client.noop_with(&mut server);
    nobody_came_to(&gate.server);
}

#[test]
fn a_data_connection_comes_from_the_client_itself_or_through_the_balancer() {
    let gate = balanced();
    let (mut client, mut server) = session_of(&gate, OTHER_CLIENT);
    let (port, data) = client.passive(&mut server);
    carries(&mut client, &mut server, dial(OTHER_CLIENT, port).unwrap(), &data);
    for header in [v1, v2] {
        let (port, data) = client.passive(&mut server);
        let ours = brought(port, &header(OTHER_CLIENT, port));
        carries(&mut client, &mut server, ours, &data);
    }
    // The first bytes of an upload come with the header.
    let (port, data) = client.passive(&mut server);
    let mut ours = brought(port, &[&v2(OTHER_CLIENT, port)[..], b"first, "].concat());
    let theirs = accept(&data);
    client.begin(&mut server, "STOR file");
    ours.write_all(b"second").unwrap();
    drop(ours);
    assert_eq!(all_of(theirs), b"first, second");
    client.complete(&mut server);
}

#[test]
fn nobody_else_comes_to_a_data_port_and_none_uses_it_up() {
    let gate = balanced();
    let (mut client, mut server) = session_of(&gate, OTHER_CLIENT);
    let (port, data) = client.passive(&mut server);
    let strangers: [(Ipv4Addr, Vec<u8>); 6] = [
        // The balancer names another client, or none, or does not say.
        (BALANCER, v1(STRANGER, port)),
        (BALANCER, v2(STRANGER, port)),
        (BALANCER, b"PROXY UNKNOWN\r\n".to_vec()),
        (BALANCER, b"data without a header".to_vec()),
        // Somebody who is no balancer names the client.
        (STRANGER, v1(OTHER_CLIENT, port)),
        (CLIENT, v2(OTHER_CLIENT, port)),
    ];
    for (from, bytes) in strangers {
        match dial(from, port) {
            Ok(mut stream) => {
                let _cut_off = stream.write_all(&bytes);
                assert_reset(stream);
            }
            // So fast that it was not even known to be connected.
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
        }
    }
    gate.logged(&["event=\"stranger\"", "from=127.0.0.2:40000"]);
    gate.logged(&["event=\"stranger\"", "from=127.0.0.5:", "reason=\"no_proxy_header\"", "must send a PROXY header"]);
    // A file's first bytes are not the log's business.
    assert!(!gate.log().contains("data without"), "{}", gate.log());
    nobody_came_to(&data);
    let ours = brought(port, &v1(OTHER_CLIENT, port));
    carries(&mut client, &mut server, ours, &data);
}

#[test]
fn slow_headers_at_a_data_port_keep_nobody_waiting() {
    let gate = with_one_port();
    let (mut client, mut server) = session_of(&gate, OTHER_CLIENT);
    let (port, data) = client.passive(&mut server);
    let slow: Vec<TcpStream> = (0..20).map(|_| brought(port, b"PROXY TCP4 127.0.0.3 ")).collect();
    let ours = brought(port, &v1(OTHER_CLIENT, port));
    carries(&mut client, &mut server, ours, &data);
    // With the port they end too.
    slow.into_iter().for_each(assert_reset);
    gate.assert_all_closed();
}

#[test]
fn headers_at_a_data_port_are_bounded_in_number() {
    let gate = with_one_port();
    let (mut client, mut server) = session_of(&gate, OTHER_CLIENT);
    let (port, data) = client.passive(&mut server);
    let _slow: Vec<TcpStream> = (0..64).map(|_| dial(BALANCER, port).unwrap()).collect();
    assert_reset(dial(BALANCER, port).unwrap());
    gate.logged(&["event=\"stranger\"", "reason=\"proxy_headers_pending\"", "advice=\"64 connections"]);
    carries(&mut client, &mut server, dial(OTHER_CLIENT, port).unwrap(), &data);
}

#[test]
fn clients_of_one_balancer_share_a_port() {
    let gate = with_one_port();
    let (mut one, mut its_server) = session_of(&gate, OTHER_CLIENT);
    let (mut two, mut other_server) = session_of(&gate, STRANGER);
    let (port, data) = one.passive(&mut its_server);
    let (same, other_data) = two.passive(&mut other_server);
    assert_eq!(port, same);
    // A third who has a port of that range is told from them by its own address.
    let (mut three, mut third_server) = gate.session_from(CLIENT);
    let (same, third_data) = three.passive(&mut third_server);
    assert_eq!(port, same);
    // The balancer did not bring that one.
    assert_reset(brought(port, &v1(CLIENT, port)));
    carries(&mut two, &mut other_server, brought(port, &v2(STRANGER, port)), &other_data);
    carries(&mut three, &mut third_server, dial(CLIENT, port).unwrap(), &third_data);
    carries(&mut one, &mut its_server, brought(port, &v1(OTHER_CLIENT, port)), &data);
    gate.assert_all_closed();
}

#[test]
fn a_header_that_was_awaited_before_a_pinhole_was_opened_does_not_use_it_up() {
    let gate = with_one_port();
    let (mut one, mut its_server) = session_of(&gate, OTHER_CLIENT);
    let (mut two, mut other_server) = session_of(&gate, STRANGER);
    let (port, data) = one.passive(&mut its_server);
    // Keeps the port open in between.
    let (_, _other_data) = two.passive(&mut other_server);
    let header = v1(OTHER_CLIENT, port);
    let mut old = brought(port, &header[..20]);
    // One that came later is taken, so the old one has been accepted.
    carries(&mut one, &mut its_server, brought(port, &header), &data);
    let (same, data) = one.passive(&mut its_server);
    assert_eq!(port, same);
    old.write_all(&header[20..]).unwrap();
    assert_reset(old);
    nobody_came_to(&data);
    carries(&mut one, &mut its_server, brought(port, &header), &data);
}

/// The header of version 1 that a connection to the server begins with, as client and front.
#[track_caller]
fn introduced(stream: &mut Talk) -> (SocketAddrV4, SocketAddrV4) {
    let line = stream.line();
    let fields: Vec<&str> = line.split(' ').collect();
    let ["PROXY", "TCP4", client, front, client_port, front_port] = fields[..] else { panic!("{line}") };
    let end = |ip: &str, port: &str| SocketAddrV4::new(ip.parse().unwrap(), port.parse().unwrap());
    (end(client, client_port), end(front, front_port))
}

fn ends_of(stream: &TcpStream) -> (SocketAddrV4, SocketAddrV4) {
    let plain = |at| match at {
        std::net::SocketAddr::V4(at) => at,
        std::net::SocketAddr::V6(_) => unreachable!("clients here have IPv4"),
    };
    (plain(stream.local_addr().unwrap()), plain(stream.peer_addr().unwrap()))
}

#[test]
fn the_server_is_told_of_the_client_first() {
    let gate = Gate::with(|rules| rules.rule = "    send_proxy: v1\n");
    let (mut client, mut server) = gate.ungreeted_from(OTHER_CLIENT);
    assert_eq!(introduced(&mut server), ends_of(&client.stream));
    server.say("220 Ready");
    client.expect("220 Ready");
    client.noop_with(&mut server);
    let (port, data) = client.passive(&mut server);
    let mut ours = dial(OTHER_CLIENT, port).unwrap();
    let mut theirs = Talk::new(accept(&data));
    assert_eq!(introduced(&mut theirs), ends_of(&ours));
    client.begin(&mut server, "STOR file");
    ours.write_all(b"the file\r\n").unwrap();
    theirs.expect("the file");
    drop(ours);
    theirs.expect_end();
    drop(theirs);
    client.complete(&mut server);
    // Where the server connects to us, it knows whom it asked for.
    let (port, data) = client.active_from(&mut server, OTHER_CLIENT);
    let mut theirs = dial(SERVER, port).unwrap();
    let ours = accept(&data);
    client.begin(&mut server, "RETR file");
    theirs.write_all(b"nothing else").unwrap();
    drop(theirs);
    assert_eq!(all_of(ours), b"nothing else");
    client.complete(&mut server);
    let line = gate.logged(&["event=\"transfer\"", "command=\"STOR file\""]);
    assert!(line.contains("bytes=10 "), "the header does not count: {line}");
}

#[test]
fn the_server_is_told_in_version_2_of_the_client_that_a_balancer_brought() {
    let gate = Gate::with(|rules| {
        rules.listener = "    proxy_from: \"127.0.0.5\"\n";
        rules.rule = "    send_proxy: v2\n";
    });
    let front = gate.rules.front();
    let mut client = Talk::new(brought(front, &v1(OTHER_CLIENT, front)));
    let mut server = Talk::new(accept(&gate.server));
    server.expect_bytes(&v2(OTHER_CLIENT, front));
    server.say("220 Ready");
    client.expect("220 Ready");
    let (port, data) = client.passive(&mut server);
    let ours = brought(port, &v1(OTHER_CLIENT, port));
    let mut theirs = Talk::new(accept(&data));
    theirs.expect_bytes(&v2(OTHER_CLIENT, port));
    client.begin(&mut server, "RETR file");
    theirs.send(b"the file");
    drop(theirs);
    assert_eq!(all_of(ours), b"the file");
    client.complete(&mut server);
}

#[test]
fn the_server_is_told_of_a_client_that_waits_for_its_data() {
    let gate = Gate::with(|rules| rules.rule = "    send_proxy: v1\n    server_mode: passive\n");
    let (mut client, mut server) = gate.ungreeted_from(OTHER_CLIENT);
    let (_, front) = introduced(&mut server);
    server.say("220 Ready");
    client.expect("220 Ready");
    let (waits, data) = (listen(OTHER_CLIENT), listen(SERVER));
    client.say(&format!("PORT {}", host_port(OTHER_CLIENT, port_of(&waits))));
    server.expect("PASV");
    server.say(&told_227(SERVER, port_of(&data)));
    client.expect_code("200");
    client.begin(&mut server, "RETR file");
    let mut theirs = Talk::new(accept(&data));
    assert_eq!(introduced(&mut theirs), (SocketAddrV4::new(OTHER_CLIENT, port_of(&waits)), front));
    let ours = accept(&waits);
    theirs.send(b"the file");
    drop(theirs);
    assert_eq!(all_of(ours), b"the file");
    client.complete(&mut server);
}

/// A header may take 5 s to come; a gate that is told to end does not wait for it.
#[test]
fn an_unfinished_header_does_not_put_off_the_end() {
    let mut gate = balanced();
    let _pending: Vec<TcpStream> = (0..20).map(|_| brought(gate.rules.front(), b"PROXY TCP4 ")).collect();
    // It was accepted after those.
    let _session = session_of(&gate, OTHER_CLIENT);
    let began = std::time::Instant::now();
    gate.signal(rustix::process::Signal::TERM);
    assert_eq!(gate.exit().code(), Some(0));
    assert!(began.elapsed() < std::time::Duration::from_secs(4), "{:?}", began.elapsed());
}
