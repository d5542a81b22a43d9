//! What is none of the gate's business passes byte for byte, and secrets stay where they are.

use super::support::*;

const COMMANDS: [&[u8]; 9] = [
    b"SIZE \xe9t\xe9 \xff\xff.txt\r\n",
    b"DELE  two  blanks \r\n",
    b"XCRC \"a b\" 0 100\r\n",
    b"SITE FOO -x 'y'\r\n",
    b"MFMT 20260102030405 f\xe4.bin\r\n",
    b"site chmod 644 \xc3\xa4\r\n",
    b"CWD /227 Entering Passive Mode (127,0,0,1,4,1)\r\n",
    b"RNFR a\tb\x1b[31m\r\n",
    b"Noop\r\n",
];

#[test]
fn commands_and_replies_pass_byte_for_byte() {
    let gate = Gate::start();
    let (mut client, mut server) = gate.session();
    let replies: [&[u8]; 3] = [b"213 \xe9\xff\xff\x1b \t x \r\n", b"250-a\r\n 250 b\r\n\r\n250 c\r\n", b"599 \r\n"];
    for command in COMMANDS {
        for reply in replies {
            client.send(command);
            assert_eq!(server.raw_line(), command);
            server.send(reply);
            let count = reply.iter().filter(|byte| **byte == b'\n').count();
            let got: Vec<u8> = (0..count).flat_map(|_| client.raw_line()).collect();
            assert_eq!(got.escape_ascii().to_string(), reply.escape_ascii().to_string());
        }
    }
}

#[test]
fn file_names_of_transfers_pass_byte_for_byte() {
    let gate = Gate::start();
    let (mut client, mut server) = gate.session();
    for command in [&b"RETR \xe9 \xff\xffx\r\n"[..], b"STOR  \xe4\r\n", b"list -la \xc3\xa9\r\n", b"MLSD\r\n"] {
        client.passive(&mut server);
        client.send(command);
        assert_eq!(server.raw_line().escape_ascii().to_string(), command.escape_ascii().to_string());
        server.say("550 No");
        client.expect("550 No");
    }
}

/// 0xFF is a letter in CP1251, KOI8-R and Latin-1, and begins a Telnet command elsewhere than in an argument.
#[test]
fn names_and_passwords_in_any_charset_pass_byte_for_byte() {
    let gate = Gate::start();
    let (mut client, mut server) = gate.session();
    let every: Vec<u8> = (0x80..=0xff).collect();
    let behind_0xff: Vec<u8> = (0x80..=0xff).flat_map(|byte| [0xff, byte]).collect();
    let names: [&[u8]; 9] = [
        b"\xcf\xf0\xe8\xff\xf2\xed\xee.txt",
        b"\xff",
        b"\xff\xf4\xff\xf2ABOR",
        b"doubled \xff\xff",
        b"\xff\xfa\x18 \xf4\xd4\xde\xa3\xd4",
        b"\x95\\\x8e\xa6\x83\\",
        "\u{43e}\u{442}\u{447}\u{451}\u{442} \u{ff}".as_bytes(),
        &every,
        &behind_0xff,
    ];
    for name in names {
        for verb in [&b"SIZE "[..], b"PASS ", b"CWD  ", b"XYZ "] {
            let line = [verb, name, b"\r\n"].concat();
            client.send(&line);
            assert_eq!(server.raw_line().escape_ascii().to_string(), line.escape_ascii().to_string());
            let reply = [b"257 \"", name, b"\"\r\n"].concat();
            server.send(&reply);
            assert_eq!(client.raw_line().escape_ascii().to_string(), reply.escape_ascii().to_string());
        }
        client.passive(&mut server);
        let line = [b"STOR ", name, b"\r\n"].concat();
        line.iter().for_each(|byte| client.send(&[*byte]));
        assert_eq!(server.raw_line().escape_ascii().to_string(), line.escape_ascii().to_string());
        server.send(&[b"553-", name, b"\r\n", name, b"\r\n553 no\r\n"].concat());
        assert_eq!(client.raw_line(), [b"553-", name, b"\r\n"].concat());
        assert_eq!(client.raw_line(), [name, b"\r\n"].concat());
        client.expect("553 no");
    }
}

#[test]
fn segments_mean_nothing() {
    let gate = Gate::start();
    let (mut client, mut server) = gate.session();
    for command in COMMANDS {
        command.iter().for_each(|byte| client.send(&[*byte]));
        assert_eq!(server.raw_line(), command);
        b"200 \xe9 fine\r\n".iter().for_each(|byte| server.send(&[*byte]));
        assert_eq!(client.raw_line(), b"200 \xe9 fine\r\n");
    }
    client.send(&COMMANDS.concat());
    let got: Vec<u8> = COMMANDS.iter().flat_map(|_| server.raw_line()).collect();
    assert_eq!(got.escape_ascii().to_string(), COMMANDS.concat().escape_ascii().to_string());
    server.send(&b"200 One\r\n".repeat(COMMANDS.len()));
    COMMANDS.iter().for_each(|_| client.expect("200 One"));
    client.noop_with(&mut server);
}

#[test]
fn negotiations_split_in_bytes_are_rewritten_as_ever() {
    let gate = Gate::start();
    let (mut client, mut server) = gate.session();
    let data = listen(SERVER);
    b"pasv\r\n".iter().for_each(|byte| client.send(&[*byte]));
    server.expect("PASV");
    told_227(SERVER, port_of(&data)).bytes().chain(*b"\r\n").for_each(|byte| server.send(&[byte]));
    let port = the_port_in(&client.expect_code("227"));
    assert!(gate.rules.inbound.contains(&port));
}

#[test]
fn secrets_never_reach_the_log() {
    let gate = Gate::with_arguments(|_| {}, &["--log-level", "debug"]);
    let (mut client, mut server) = gate.session();
    for line in ["PASS hunter2", "pass  hunter2", "ACCT hunter2", "Acct hunter2"] {
        client.say(line);
        server.expect(line);
        server.say("230 Fine");
        client.expect("230 Fine");
    }
    // Whose server takes a tab for a blank has a client that may send one.
    client.say("PASS\thunter2");
    client.say("\tPASS hunter2");
    client.send(b"PASS\x0bhunter2\r\n\xa0pass hunter2\r\n");
    for _ in 0..2 {
        server.raw_line();
        server.say("230 Fine");
        client.expect("230 Fine");
    }
    client.expect_code("500");
    client.expect_code("500");
    let (mut client, server) = gate.session();
    client.send(b"PASS hunter2\0\r\n");
    client.send(format!("PASS {}\r\n", "hunter2".repeat(1000)).as_bytes());
    client.say("LPRT 4");
    gate.logged(&["unknown_negotiation"]);
    drop(client);
    drop(server);
    gate.logged(&["event=\"session_ended\""]);
    assert!(!gate.log().contains("hunter2"));
}

/// Secrets under any name, with a split verb, or repeated by the server.
#[test]
fn secrets_of_other_commands_never_reach_the_log() {
    for format in ["text", "json"] {
        for rule in ["    read_only: true\n", "    commands: { deny: [SITE, USER2] }\n", ""] {
            let server = listen(SERVER);
            let rules = Rules { rule, ..Rules::new(port_of(&server)) };
            let text = rules.yaml();
            let gate = Gate::launch(rules, server, &text, &["--log-level", "trace", "--log-format", format]);
            gate.logged(&["event", "ready"]);
            let lines: [&[u8]; 17] = [
                b"SITE PSWD old hunter2",
                b"SITE PASSWD hunter2",
                b"SITE ADDUSER anna hunter2",
                b"SITE GPASS staff hunter2",
                b"SITE \"PSWD\" old hunter2",
                b"ADAT hunter2",
                b"MIC hunter2",
                b"ENC hunter2",
                b"CONF hunter2",
                b"AUTH PLAIN hunter2",
                b"USER anna:hunter2@host",
                b"PASSS hunter2",
                b"PA\xffSS hunter2",
                b"PA\xffxSS hunter2",
                b"\"PASS\" hunter2",
                b"P\"ASS\"hunter2",
                b"PASS\x01hunter2",
            ];
            for line in lines {
                let (mut client, mut server) = gate.session();
                client.send(&[line, &b"\r\nNOOP\r\nQUIT\r\n"[..]].concat());
                while let Ok(said) = server.try_line() {
                    if said.is_empty() {
                        break;
                    }
                    let quit = said.starts_with(b"QUIT");
                    server.say(if quit { "221 bye" } else { "500 'PASS hunter2': not understood" });
                    server.say("500 'PASS hunter2' not understood, twice");
                    if quit {
                        break;
                    }
                }
                drop(server);
                let _answers = client.rest();
            }
            gate.logged(&["session_ended"]);
            assert!(!gate.log().contains("hunter2"), "{rule}{}", gate.log());
        }
    }
}

#[test]
fn nothing_that_a_peer_says_steers_a_terminal() {
    let gate = Gate::with_arguments(|_| {}, &["--log-level", "debug"]);
    let (mut client, mut server) = gate.session();
    client.say("RETR refused\x1b[31m");
    client.expect_code("425");
    client.passive(&mut server);
    client.say("RETR run\x1b[31m\x07\u{9b}31m");
    assert!(server.raw_line().starts_with(b"RETR run\x1b"));
    server.say("550 \x1b[31m");
    client.expect("550 \x1b[31m");
    server.say("227 unasked\x1b[31m");
    gate.logged(&["event=\"refused\"", "reason=\"unasked_passive_reply\""]);
    gate.logged(&["event=\"refused\"", "RETR refused"]);
    gate.logged(&["event=\"transfer\"", "RETR run"]);
    let log = gate.log();
    assert!(!log.chars().any(|c| c.is_control() && c != '\n'), "{}", log.escape_debug());
}

#[test]
fn an_urgent_abort_stays_urgent() {
    let gate = Gate::start();
    let (mut client, mut server) = gate.session();
    server.keep_urgent_inline();
    client.send_urgent(b"\xff\xf4\xff");
    client.send(b"\xf2ABOR\r\n");
    assert_eq!(server.raw_line(), b"\xff\xf4\xff\xf2ABOR\r\n", "the server's attention was not called");
    // Two urgent bytes apart, as some libraries send them: what is left of them goes no further.
    client.send_urgent(b"\xf4");
    client.send_urgent(b"\xff");
    client.send(b"abor\r\n");
    assert_eq!(server.raw_line(), b"abor\r\n");
    // What came without urgent data goes on as the plain command.
    client.send(b"\xff\xf4\xff\xf2ABOR\r\n");
    assert_eq!(server.raw_line(), b"ABOR\r\n");
}
