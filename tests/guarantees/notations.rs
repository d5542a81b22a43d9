//! What one session finds out about its server, the next one knows.

use std::io::Write as _;

use super::support::*;

#[test]
fn a_server_is_not_asked_twice_for_what_it_does_not_know() {
    let gate = Gate::start();
    let data = listen(SERVER);
    let (mut client, mut server) = gate.session();
    client.say("EPSV");
    server.expect("EPSV");
    server.say("500 What?");
    server.expect("PASV");
    server.say(&told_227(SERVER, port_of(&data)));
    client.expect_code("229");

    let (mut client, mut server) = gate.session_from(OTHER_CLIENT);
    client.say("EPSV");
    server.expect("PASV");
    server.say(&told_227(SERVER, port_of(&data)));
    client.expect_code("229");
    client.noop_with(&mut server);

    // It was replaced by one that knows only the other.
    client.say("PASV");
    server.expect("PASV");
    server.say("502 Not any more");
    server.expect("EPSV");
    server.say(&format!("229 Entering Extended Passive Mode (|||{}|)", port_of(&data)));
    client.expect_code("227");
    let (mut client, mut server) = gate.session();
    client.say("PASV");
    server.expect("EPSV");
    server.say("530 Log in first");
    client.expect("530 Log in first");
    client.noop_with(&mut server);
}

/// A client tries PASV where the port that EPSV named refuses its connection; ours does not refuse it.
#[test]
fn a_server_whose_epsv_port_is_closed_is_asked_by_pasv() {
    let gate = Gate::start();
    let (mut client, mut server) = gate.session();
    let closed = listen(SERVER);
    let port = port_of(&closed);
    drop(closed);
    client.say("EPSV");
    server.expect("EPSV");
    server.say(&format!("229 Extended (|||{port}|)"));
    finish_by_pasv(&gate, client, server);
    let (mut client, server) = gate.session();
    client.say("EPSV");
    finish_by_pasv(&gate, client, server);
    gate.logged(&["reason=\"server_port_closed\"", "229 Extended"]);
}

fn finish_by_pasv(gate: &Gate, mut client: Talk, mut server: Talk) {
    server.expect("PASV");
    let data = listen(SERVER);
    server.say(&told_227(SERVER, port_of(&data)));
    let told = client.expect_code("229").lines.concat();
    let ours = dial(CLIENT, told.split('|').nth(3).unwrap().parse().unwrap()).unwrap();
    let mut theirs = accept(&data);
    client.begin(&mut server, "RETR file");
    theirs.write_all(b"a file").unwrap();
    drop(theirs);
    assert_eq!(all_of(ours), b"a file");
    client.complete(&mut server);
    gate.logged(&["outcome=\"ended\""]);
}

/// One that is open is connected to as soon as it is known, once; later ones when the client has come.
#[test]
fn the_first_epsv_port_of_a_server_is_tried() {
    let gate = Gate::start();
    let (mut client, mut server) = gate.session();
    for is_first in [true, false] {
        let data = listen(SERVER);
        client.say("EPSV");
        server.expect("EPSV");
        server.say(&format!("229 Extended (|||{}|)", port_of(&data)));
        let told = client.expect_code("229").lines.concat();
        let early = is_first.then(|| accept(&data));
        if !is_first {
            nobody_came_to(&data);
        }
        let mut ours = dial(CLIENT, told.split('|').nth(3).unwrap().parse().unwrap()).unwrap();
        let theirs = early.unwrap_or_else(|| accept(&data));
        client.begin(&mut server, "STOR file");
        ours.write_all(b"a file").unwrap();
        drop(ours);
        assert_eq!(all_of(theirs), b"a file");
        client.complete(&mut server);
    }
}
