//! What a client writes so that the gate reads one command and the server another.

use super::support::*;

/// Lines that the server must never hear under this rule, and how each is refused.
#[track_caller]
fn never_heard(rule: &'static str, lines: &[(&[u8], &str, &str)]) {
    let gate = Gate::with(|rules| rules.rule = rule);
    for (line, code, reason) in lines {
        // A session each, because a few such lines end one.
        let (mut client, mut server) = gate.session();
        client.send(&[line, &b"\r\n"[..]].concat());
        let reply = client.line();
        assert!(reply.starts_with(code), "{}: {reply}", line.escape_ascii());
        client.noop_with(&mut server);
        gate.logged(&["event=\"refused\"", &format!("reason=\"{reason}\"")]);
    }
}

/// ProFTPD up to 1.3.8 takes quotation marks away.
#[test]
fn no_verb_hides_in_quotation_marks() {
    let lines: [&[u8]; 8] = [
        b"\"PORT\" 127,0,0,1,78,32",
        b"\"EPRT\" |1|127.0.0.1|20000|",
        b"\"PASV\"",
        b"\"DELE\"f",
        b"\"STAT\" .",
        b"\"SITE\" CHMOD 777 m",
        b"'DELE' f",
        b"DELE\x0bf",
    ];
    let lines = lines.map(|line| (line, "500", "garbage"));
    never_heard("", &lines);
    never_heard("    commands: { deny: [DELE, STAT, SITE] }\n", &lines);
    never_heard("    read_only: true\n", &lines);
}

#[test]
fn no_word_hides_behind_site() {
    let lines: [&[u8]; 6] = [
        b"SITE CHMOD 701 m",
        b"SITE \"CHMOD\"701 m",
        b"SITE \"CPFR\"/etc/hostname",
        b"SITE\t\tCHMOD 701 m",
        b"SITE  \t CHMOD\t701 m",
        b"SITE CH\xffxMOD 701 m",
    ];
    never_heard(
        "    commands: { deny: [\"SITE CHMOD\", \"SITE CPFR\"] }\n",
        &lines.map(|line| (line, "502", "command_not_allowed")),
    );
    never_heard(
        "    commands: { allow: [RETR, \"SITE UMASK\"] }\n",
        &lines.map(|line| (line, "502", "command_not_allowed")),
    );
    never_heard("    read_only: true\n", &lines.map(|line| (line, "502", "read_only")));
}

/// pyftpdlib takes the end of a verb that it does not know for the command.
#[test]
fn no_command_hides_at_the_end_of_another() {
    never_heard(
        "    commands: { deny: [STAT], allow_unknown: [YSTAT] }\n",
        &[
            (b"XSTAT .", "502", "unknown_command"),
            (b"YSTAT .", "502", "command_not_allowed"),
            (b"SITE STAT .", "502", "command_not_allowed"),
        ],
    );
    let gate = Gate::with(|rules| rules.rule = "    commands: { deny: [STAT], allow_unknown: [PRET] }\n");
    let (mut client, mut server) = gate.session();
    for (said, told) in [("NOOP\tSTAT .", "NOOP STAT ."), ("PRET RETR a", "PRET RETR a"), ("RANG 0 9", "RANG 0 9")] {
        client.say(said);
        server.expect(told);
        server.say("200 ok");
        client.expect("200 ok");
    }
}

/// Servers differ in where such a path begins.
#[test]
fn no_path_hides_behind_odd_blanks() {
    never_heard(
        "    paths: [{ path: \"/in/**\", allow: any }]\n",
        &[
            (b"MFMT 20260101120000\t/etc/passwd", "553", "path_unknown"),
            (b"MFCT 20260101120000\x0b/etc/passwd", "553", "path_unknown"),
            (b"MFF modify=20260101120000;\t/etc/passwd", "553", "path_unknown"),
            (b"SIZE \x0b/etc/passwd", "550", "path_unknown"),
        ],
    );
    never_heard("    read_only: true\n", &[(b"MDTM 20260101120000\tx", "553", "read_only")]);
}

/// What is left of a Telnet command ahead of a verb is for no server to see.
#[test]
fn stray_telnet_bytes_go_no_further() {
    let gate = Gate::start();
    let (mut client, mut server) = gate.session();
    client.send(b"\xff\xff\xf2NOOP\r\n");
    assert_eq!(server.raw_line(), b"NOOP\r\n");
}

#[test]
fn commands_of_other_protocols_end_the_session() {
    let gate = Gate::start();
    for (line, reason) in [
        ("ehlo x", "smtp_client"),
        ("MAIL FROM:<a@b>", "smtp_client"),
        ("get /x HTTP/1.1", "http_client"),
        ("Options * HTTP/1.1", "http_client"),
    ] {
        let (mut client, mut server) = gate.session();
        client.say(line);
        assert!(client.rest().iter().all(|line| line.starts_with("421 ")), "{line}");
        server.expect_end();
        gate.logged(&["event=\"session_ended\"", &format!("reason=\"{reason}\"")]);
    }
    for line in ["354 go ahead", "HTTP/1.1 400 Bad Request"] {
        let (mut client, mut server) = gate.session();
        client.say("XYZ");
        server.expect("XYZ");
        server.say(line);
        assert!(client.rest().iter().all(|line| line.starts_with("421 ")), "{line}");
        gate.logged(&["event=\"session_ended\"", "reason=\"server_not_ftp\""]);
    }
    // Files may be called so.
    let (mut client, mut server) = gate.session();
    for line in ["SIZE HTTP/1.1", "MKD notes on HTTP/1.1", "CWD GET", "DELE EHLO x"] {
        client.say(line);
        server.expect(line);
        server.say("250 ok");
        client.expect("250 ok");
    }
}

/// A line is shown up to its 256th byte, which is before the word that matters.
#[test]
fn the_word_that_a_long_line_hides_is_in_the_log() {
    let gate = Gate::start();
    let (mut client, mut server) = gate.session();
    client.send(&[b"SIZE /", "a".repeat(505).as_bytes(), b"dele /x\r\n"].concat());
    client.expect_code("501");
    client.noop_with(&mut server);
    gate.logged(&["reason=\"hidden_command\"", "511 bytes", "`DELE`"]);
}
