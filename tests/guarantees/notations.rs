//! What one session finds out about its server, the next one knows.

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
