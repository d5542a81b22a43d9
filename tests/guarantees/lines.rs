//! A line that one peer sends never acts as a line of the other.

use std::io::Write as _;
use std::thread;
use std::time::Duration;

use super::support::*;

/// A 227 whose port somebody listens at, who must never be dialled.
fn lure() -> (String, std::net::TcpListener) {
    let trap = listen(SERVER);
    (told_227(SERVER, port_of(&trap)), trap)
}

#[track_caller]
fn nothing_opened(gate: &Gate, client: &mut Talk, server: &mut Talk, trap: &std::net::TcpListener) {
    client.noop_with(server);
    gate.assert_all_closed();
    client.say("LIST");
    client.expect_code("425");
    client.noop_with(server);
    nobody_came_to(trap);
}

#[test]
fn a_227_as_a_banner_opens_nothing() {
    let gate = Gate::start();
    let (line, trap) = lure();
    let (mut client, mut server) = gate.ungreeted_from(CLIENT);
    server.say(&line);
    assert!(client.rest().iter().all(|line| line.starts_with("421 ")));
    gate.logged(&["event=\"session_ended\"", "reason=\"server_not_ftp\""]);
    gate.assert_all_closed();
    nobody_came_to(&trap);
}

#[test]
fn a_227_within_a_banner_opens_nothing() {
    let gate = Gate::start();
    let (line, trap) = lure();
    let (mut client, mut server) = gate.ungreeted_from(CLIENT);
    server.send(format!("220-Hello\r\n{line}\r\n220 Ready {line}\r\n").as_bytes());
    client.expect_code("220");
    nothing_opened(&gate, &mut client, &mut server, &trap);
}

#[test]
fn a_227_in_an_echo_opens_nothing() {
    let gate = Gate::start();
    let (line, trap) = lure();
    let (mut client, mut server) = gate.session();
    let command = format!("XECHO {line}");
    client.say(&command);
    server.expect(&command);
    server.say(&format!("200 {line}"));
    client.expect_code("200");
    nothing_opened(&gate, &mut client, &mut server, &trap);
    // A client that is made to say a reply is no server.
    client.say(&line);
    server.expect(&line);
    server.say("500 What?");
    client.expect_code("500");
    nothing_opened(&gate, &mut client, &mut server, &trap);
}

/// A listing whose file names end the reply and answer PASV, told while PASV waits in the same segment as STAT.
#[test]
fn a_227_behind_a_false_end_of_a_listing_opens_nothing() {
    let gate = Gate::start();
    let (lure, trap) = lure();
    let (mut client, mut server) = gate.session();
    client.send(b"STAT -1\r\nPASV\r\n");
    server.expect("STAT -1");
    server.send(format!("213-Status\r\n213 x\r\n{lure}\r\n{lure}\r\n").as_bytes());
    client.expect_code("213");
    // The rest of a long listing comes in several pieces.
    for _ in 0..5 {
        thread::sleep(Duration::from_millis(20));
        server.send(format!("name\r\n{lure}\r\n").as_bytes());
    }
    server.send(b"213 End\r\n");
    server.expect("PASV");
    let data = listen(SERVER);
    server.say(&told_227(SERVER, port_of(&data)));
    let told = (0..5).map(|_| client.line()).collect::<Vec<_>>();
    assert!(told.iter().all(|line| line == "name"), "{told:?}");
    let port = the_port_in(&client.expect_code("227"));
    let _ours = dial(CLIENT, port).unwrap();
    accept(&data);
    nobody_came_to(&trap);
}

/// The client holds the rest of the listing up by taking nothing of it, as long as it likes.
#[test]
fn a_client_that_takes_nothing_does_not_make_the_server_look_silent() {
    /// More bytes than the kernel keeps for a client that takes nothing.
    const NAMES: usize = 1 << 15;
    let gate = Gate::start();
    let (lure, trap) = lure();
    let (mut client, mut server) = gate.session();
    socket2::SockRef::from(&client.stream).set_recv_buffer_size(1 << 16).unwrap();
    client.send(b"STAT -1\r\nPASV\r\n");
    server.expect("STAT -1");
    let mut listing = server.stream.try_clone().unwrap();
    let name = "n".repeat(254);
    let names = [b"213-Status\r\n213 x\r\n".to_vec(), format!("{name}\r\n").repeat(NAMES).into_bytes()].concat();
    let rest = format!("{lure}\r\n").repeat(1000) + "213 End\r\n";
    let teller = thread::spawn(move || {
        listing.set_write_timeout(Some(PATIENCE)).unwrap();
        listing.write_all(&names).and_then(|()| listing.write_all(rest.as_bytes())).unwrap();
    });
    // All that the kernel keeps is full by then.
    thread::sleep(Duration::from_millis(1500));
    client.expect_code("213");
    (0..NAMES).for_each(|_| client.expect(&name));
    teller.join().unwrap();
    server.expect("PASV");
    let data = listen(SERVER);
    server.say(&told_227(SERVER, port_of(&data)));
    let port = the_port_in(&client.expect_code("227"));
    let _ours = dial(CLIENT, port).unwrap();
    accept(&data);
    nobody_came_to(&trap);
}

#[test]
fn a_227_within_a_reply_of_several_lines_opens_nothing() {
    let gate = Gate::start();
    let (line, trap) = lure();
    let (mut client, mut server) = gate.session();
    for (command, code) in [("STAT", "211"), ("HELP", "214"), ("FEAT", "211")] {
        client.say(command);
        server.expect(command);
        server.send(format!("{code}-Text\r\n{line}\r\n {line}\r\n{code} End\r\n").as_bytes());
        client.expect_code(code);
        nothing_opened(&gate, &mut client, &mut server, &trap);
    }
    client.say("HELP");
    server.expect("HELP");
    server.send(format!("214-Text\r{line}\r\n214 End\r\n").as_bytes());
    assert!(client.expect_code("214").lines.iter().all(|line| !line.contains('\r')));
    nothing_opened(&gate, &mut client, &mut server, &trap);
}

#[test]
fn a_227_that_nobody_asked_for_opens_nothing_and_is_no_reply() {
    let gate = Gate::start();
    let (line, trap) = lure();
    let (mut client, mut server) = gate.session();
    for line in [line.clone(), format!("229 Extended (|||{}|)", port_of(&trap)), format!("227-a\r\n{line}")] {
        server.say(&line);
        gate.logged(&["event=\"refused\"", "reason=\"unasked_passive_reply\""]);
        nothing_opened(&gate, &mut client, &mut server, &trap);
    }
}

#[test]
fn a_227_as_the_answer_to_another_command_opens_nothing() {
    let gate = Gate::start();
    let (line, trap) = lure();
    let (mut client, mut server) = gate.session();
    for command in ["NOOP", "USER a", "PASS b", "PWD", "SITE HELP"] {
        client.say(command);
        server.expect(command);
        server.say(&line);
        client.expect_code("451");
        nothing_opened(&gate, &mut client, &mut server, &trap);
    }
}

#[test]
fn a_227_after_the_refusal_of_pasv_opens_nothing() {
    let gate = Gate::start();
    let (line, trap) = lure();
    let (mut client, mut server) = gate.session();
    client.say("PASV");
    server.expect("PASV");
    // Not one of the codes after which the server is asked by EPSV.
    server.send(format!("530 No\r\n{line}\r\n").as_bytes());
    client.expect_code("530");
    nothing_opened(&gate, &mut client, &mut server, &trap);
}

#[test]
fn a_second_227_opens_nothing() {
    let gate = Gate::start();
    let (line, trap) = lure();
    let (mut client, mut server) = gate.session();
    let data = listen(SERVER);
    client.say("PASV");
    server.expect("PASV");
    server.send(format!("{}\r\n{line}\r\n", told_227(SERVER, port_of(&data))).as_bytes());
    let port = the_port_in(&client.expect_code("227"));
    client.noop_with(&mut server);
    let open: Vec<u16> = gate.rules.all().filter(|port| is_open(*port)).collect();
    assert_eq!(open, [port]);
    let _ours = dial(CLIENT, port).unwrap();
    let _theirs = accept(&data);
    nobody_came_to(&trap);
}

#[test]
fn auth_is_refused_and_the_server_never_sees_it() {
    let gate = Gate::start();
    let (mut client, mut server) = gate.session();
    for line in ["AUTH TLS", "auth ssl", "PBSZ 0", "PROT P", "CCC"] {
        client.assert_refused(&mut server, &gate, line, "534", "encryption_not_possible");
    }
}

#[test]
fn what_comes_with_auth_is_judged_as_ever() {
    let gate = Gate::start();
    let trap = listen(STRANGER);
    let (mut client, mut server) = gate.session();
    let bounce = host_port(STRANGER, port_of(&trap));
    client.send(format!("AUTH TLS\r\nPORT {bounce}\r\n").as_bytes());
    client.expect_code("534");
    client.expect_code("504");
    client.noop_with(&mut server);
    // A handshake that starts at once.
    client.send(b"AUTH TLS\r\n\x16\x03\x01\x00\x05\x01\x00\x00\x01\x03\r\nNOOP\r\nDELE all\r\n");
    client.expect_code("534");
    client.expect_code("421");
    client.expect_end();
    server.expect_end();
    gate.assert_all_closed();
    nobody_came_to(&trap);
}

#[test]
fn a_feature_that_does_not_hold_is_not_offered() {
    let gate = Gate::start();
    let (mut client, mut server) = gate.session();
    client.say("FEAT");
    server.expect("FEAT");
    server.send(b"211-Features\r\n AUTH TLS\r\n MLST size*;\r\n PROT\r\n211 End\r\n");
    let shown = ["211-Features", " MLST size*;", " EPRT", " EPSV", "211 End"];
    assert_eq!(client.expect_code("211").lines, shown);
}
