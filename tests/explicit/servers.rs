//! Which servers clients can name, and which not.

use crate::lab::Family;
use crate::stage::{RULES, Stage, accept, assert_closed, listener, nobody_came_to};

#[test]
fn the_server_hears_only_its_own_name_of_the_user() {
    let stage = Stage::new();
    let server = stage.listen("10.2.0.2:2121");
    let mut client = stage.client();
    client.say("USER anna@example.com@10.2.0.2:2121");
    let mut server = accept(&server);
    server.send(b"220-Welcome\r\n227 Entering Passive Mode (10,2,0,2,4,1)\r\n220 Ready\r\n");
    server.expect("USER anna@example.com");
    server.say("331 Password");
    client.expect("331 Password");
    client.say("PASS secret");
    server.expect("PASS secret");
    server.say("530 No");
    client.expect("530 No");
    client.say("USER anna@10.2.0.2:2121");
    server.expect("USER anna");
    server.say("331 Password");
    client.expect("331 Password");
    assert!(!stage.gate.log().contains("secret"));
}

#[test]
fn lines_sent_ahead_wait_for_the_server() {
    let stage = Stage::new();
    let server = stage.listen("10.2.0.2:21");
    let mut client = stage.client();
    client.send(b"NOOP\r\nOPEN 10.2.0.2\r\nUSER anna\r\nPASS x\r\n");
    client.expect_code("200");
    let mut server = accept(&server);
    server.say("220 Ready");
    client.expect("220 Ready");
    for (said, answer) in [("USER anna", "331 Password"), ("PASS x", "230 In")] {
        server.expect(said);
        server.say(answer);
        client.expect(answer);
    }
}

#[test]
fn a_login_to_the_gate_may_come_first() {
    let stage = Stage::new();
    let server = stage.listen("10.2.0.2:21");
    for command in ["OPEN", "SITE"] {
        let mut client = stage.client();
        client.say("USER gatekeeper");
        client.expect_code("331");
        client.say("PASS geheim");
        client.expect_code("230");
        client.say(&format!("{command} 10.2.0.2"));
        let mut server = accept(&server);
        server.say("220 Ready");
        client.expect("220 Ready");
    }
    assert!(!stage.gate.log().contains("geheim"));
}

#[test]
fn the_gate_itself_and_what_is_no_host_are_not_dialled() {
    let stage = Stage::with(
        &format!("{}    advertise: \"10.2.0.7\"\n", listener("explicit: user-at-host", Family::V4)),
        &RULES.replace("to: [\"10.2.0.0/24\", \"2001:db8:2::/64\", \"10.2.0.2:2121\"]", "to: any"),
    );
    for (host, reason) in [
        ("127.0.0.1", "destination_not_dialable"),
        ("[::1]", "destination_not_dialable"),
        ("::ffff:127.0.0.1", "destination_not_dialable"),
        ("0.0.0.0", "destination_not_dialable"),
        ("169.254.169.254", "destination_not_dialable"),
        ("fe80::1", "destination_not_dialable"),
        ("224.0.0.1", "destination_not_dialable"),
        ("255.255.255.255", "destination_not_dialable"),
        ("localhost", "destination_not_dialable"),
        ("10.1.0.1", "destination_is_gate"),
        ("64:ff9b:1::127.0.0.1", "destination_not_dialable"),
        ("::ffff:0:127.0.0.1", "destination_not_dialable"),
        ("64:ff9b::10.1.0.1", "destination_is_gate"),
        ("64:ff9b:1:a01:0:100::", "destination_is_gate"),
        ("2001:db8:9::5efe:10.1.0.1", "destination_is_gate"),
        ("10.2.0.1:2121", "destination_is_gate"),
        ("2001:db8:1::1", "destination_is_gate"),
        ("10.2.0.7", "destination_is_gate"),
        ("10.2.0.9", "denied"),
        ("127.1", "destination_malformed"),
    ] {
        let mut client = stage.client();
        client.say(&format!("USER anna@{host}"));
        let code = if reason == "destination_malformed" { "501" } else { "530" };
        client.expect_code(code);
        stage.logged(&["event=\"refused\"", &format!("reason=\"{reason}\"")]);
        // It can name another.
        client.say("NOOP");
        client.expect_code("200");
    }
}

/// Beside keepalived, sockets can have every address: that makes none of them the gate's own.
#[test]
fn where_every_address_can_be_had_the_gate_knows_its_own() {
    let stage = Stage::with(
        &listener("explicit: user-at-host", Family::V4),
        &RULES.replace("to: [\"10.2.0.0/24\", \"2001:db8:2::/64\", \"10.2.0.2:2121\"]", "to: any"),
    );
    stage.net.gate.sysctl(&[("net/ipv4/ip_nonlocal_bind", "1"), ("net/ipv6/ip_nonlocal_bind", "1")]).unwrap();
    stage.net.gate.ip("addr add 10.2.0.3/24 dev wan\nroute add local 10.2.0.64/30 dev lo\n").unwrap();
    for host in ["10.1.0.1", "10.2.0.1", "10.2.0.3", "10.2.0.66", "2001:db8:1::1", "2001:db8:2::1"] {
        let mut client = stage.client();
        client.say(&format!("USER anna@{host}"));
        client.expect_code("530");
        stage.logged(&["reason=\"destination_is_gate\"", &format!("{host} is this machine")]);
    }
    for at in ["10.2.0.2:21", "[2001:db8:2::2]:21"] {
        let server = stage.listen(at);
        let mut client = stage.client();
        client.say(&format!("USER anna@{}", at.trim_end_matches(":21")));
        let mut server = accept(&server);
        server.say("220 Ready");
        server.expect("USER anna");
        server.say("230 in");
        client.expect("230 in");
    }
}

#[test]
fn a_gate_is_no_tool_to_try_servers_with() {
    let stage = Stage::new();
    let mut client = stage.client();
    for host in ["10.2.0.9", "10.9.9.9"] {
        client.say(&format!("USER anna@{host}"));
        client.expect_code("530");
    }
    client.say("OPEN 10.2.0.9");
    client.expect_code("421");
    assert_closed(client);
}

#[test]
fn a_client_that_no_rule_lets_anywhere_is_not_asked() {
    let stage = Stage::with(
        &listener("explicit: user-at-host", Family::V4),
        &RULES.replace("from: [\"10.1.0.0/24\", \"2001:db8:1::/64\"]", "from: \"10.1.0.77\""),
    );
    let mut client = stage.ungreeted(Family::V4);
    client.expect_code("421");
    stage.logged(&["event=\"session_denied\"", "reason=\"denied\""]);
    assert_closed(client);
}

#[test]
fn nothing_passes_before_a_server_is_named() {
    let stage = Stage::new();
    let server = stage.listen("10.2.0.2:21");
    let mut client = stage.client();
    for (line, code) in [
        ("PASV", "530"),
        ("EPSV", "530"),
        ("PORT 10,1,0,2,4,1", "530"),
        ("RETR x", "530"),
        ("FEAT", "530"),
        ("PASS x", "503"),
        ("AUTH TLS", "534"),
        ("CWD /", "530"),
    ] {
        client.say(line);
        client.expect_code(code);
    }
    client.say("QUIT");
    client.expect_code("221");
    assert_closed(client);
    nobody_came_to(&server);
}

#[test]
fn a_server_that_is_not_there_ends_the_session() {
    let stage = Stage::new();
    let mut client = stage.client();
    client.say("USER anna@10.2.0.2");
    client.expect_code("421");
    stage.logged(&["event=\"server_unreachable\"", "server=10.2.0.2:21"]);
    assert_closed(client);
}

#[test]
fn the_rules_are_asked_for_the_address_that_a_name_has() {
    let stage = Stage::new();
    let server = stage.listen("10.2.0.2:21");
    let elsewhere = stage.listen("[2001:db8:2::2]:21");
    stage.names.set("good.example", &["10.2.0.2"], 60);
    stage.names.set("denied.example", &["10.2.0.9", "2001:db8:2::9"], 60);
    stage.names.set("rebound.example", &["127.0.0.1", "10.1.0.1"], 60);
    stage.names.set("mixed.example", &["10.2.0.9", "127.0.0.1", "10.2.0.2"], 60);
    stage.names.set("both.example", &["2001:db8:2::2", "10.2.0.2"], 60);

    for name in ["good.example", "GOOD.example", "mixed.example", "both.example", "from-hosts"] {
        let mut client = stage.client();
        client.say(&format!("OPEN {name}"));
        let mut server = accept(&server);
        server.say("220 Ready");
        client.expect("220 Ready");
    }
    nobody_came_to(&elsewhere);
    for (name, reason) in
        [("denied.example", "denied"), ("rebound.example", "destination_is_gate"), ("no-such.example", "name_unknown")]
    {
        let mut client = stage.client();
        client.say(&format!("OPEN {name}"));
        client.expect_code("530");
        stage.logged(&["event=\"refused\"", &format!("reason=\"{reason}\"")]);
    }
    nobody_came_to(&server);
}

#[test]
fn the_next_address_of_a_name_is_tried() {
    let stage = Stage::new();
    stage.names.set("two.example", &["10.2.0.3", "10.2.0.2"], 60);
    let server = stage.listen("10.2.0.2:21");
    let mut client = stage.client();
    client.say("USER anna@two.example");
    let mut server = accept(&server);
    server.say("220 Ready");
    server.expect("USER anna");
}

#[test]
fn a_silent_name_server_is_not_waited_for_for_ever() {
    let stage = Stage::new();
    stage.names.be_silent(true);
    let mut client = stage.client();
    client.stream.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
    client.say("USER anna@slow.example");
    client.expect_code("421");
    stage.logged(&["event=\"name_not_found\"", "no name server answered for `slow.example`"]);
    assert_closed(client);
}

#[test]
fn an_ipv6_client_reaches_an_ipv4_server_by_name() {
    let stage = Stage::with(&listener("explicit: user-at-host", Family::V6), RULES);
    stage.names.set("old.example", &["10.2.0.2"], 60);
    let server = stage.listen("10.2.0.2:21");
    let mut client = stage.client_of(Family::V6);
    client.say("USER anna@old.example");
    let mut server = accept(&server);
    server.say("220 Ready");
    server.expect("USER anna");
    server.say("331 Password");
    client.expect("331 Password");
    client.say("ALGS STATUS64");
    client.expect("216 EPSVEPRT");
    client.say("EPSV");
    server.expect("EPSV");
    server.say("500 What?");
    server.expect("PASV");
    server.say("227 Entering Passive Mode (10,2,0,2,195,80)");
    client.expect_code("229");
}

#[test]
fn a_gate_that_ends_sends_clients_without_a_server_away() {
    let stage = Stage::new();
    let mut client = stage.client();
    stage.gate.signal(rustix::process::Signal::TERM);
    client.expect_code("421");
    assert_closed(client);
}

/// Behind another port there may be anything: a mail server greets with 220 too.
#[test]
fn a_port_that_no_rule_names_is_not_dialled() {
    let stage = Stage::new();
    stage.names.set("mail.example", &["10.2.0.2"], 60);
    let mail = stage.listen("10.2.0.2:25");
    let other = stage.listen("10.2.0.2:2122");
    for line in ["OPEN 10.2.0.2:25", "SITE 10.2.0.2 25", "USER anna@mail.example:25", "OPEN 10.2.0.2:2122"] {
        let mut client = stage.client();
        client.say(line);
        client.expect_code("530");
    }
    stage.logged(&["event=\"refused\"", "reason=\"denied\"", "10.2.0.2:25"]);
    nobody_came_to(&mail);
    nobody_came_to(&other);
}

/// A rule may name the port of a server that turns out to be another kind.
#[test]
fn a_mail_server_gets_no_mail() {
    let stage = Stage::new();
    let listener = stage.listen("10.2.0.2:2121");
    for line in
        ["EHLO x", "helo x", "MAIL FROM:<a@b.example>", "rcpt TO:<a@b.example>", "DATA", "vrfy root", "STARTTLS"]
    {
        let mut client = stage.client();
        client.say("OPEN 10.2.0.2:2121");
        let mut server = accept(&listener);
        server.say("220 mail.example ESMTP");
        client.expect_code("220");
        client.say(line);
        client.expect_code("421");
        assert_closed(client);
        assert_closed(server);
    }
    stage.logged(&["event=\"session_ended\"", "reason=\"smtp_client\""]);
    let mut client = stage.client();
    client.say("OPEN 10.2.0.2:2121");
    let mut server = accept(&listener);
    server.say("220 mail.example ESMTP");
    client.expect_code("220");
    client.say("XDATA");
    server.expect("XDATA");
    server.say("354 End data with <CR><LF>.<CR><LF>");
    client.expect_code("421");
    assert_closed(client);
    stage.logged(&["event=\"session_ended\"", "reason=\"server_not_ftp\""]);
}

/// What a client says before it has named a server, and what it cannot name, may have a password in it.
#[test]
fn no_password_of_a_login_is_logged() {
    let stage = Stage::new();
    for line in [
        "USER anna:geheim@10.2.0.77/x",
        "OPEN ftp://anna:geheim@10.2.0.2",
        "SITE PSWD alt geheim",
        "PA\"SS geheim",
        "\"PASS\" geheim",
        "SITE anna:geheim@10.2.0.2",
    ] {
        let mut client = stage.client();
        client.say(line);
        let _refused = client.line();
    }
    stage.logged(&["event=\"refused\"", "anna:****@10.2.0.77"]);
    assert!(!stage.gate.log().contains("geheim"), "{}", stage.gate.log());
}
