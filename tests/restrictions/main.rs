//! What rules let clients do, with real servers and real clients: users, hours, commands, paths.
//!
//! A whole visit under a rule that restricts nothing of it must work at every server, for the gate asks the server for
//! its directory in between; then each restriction is shown to bite, and nothing else with it.

#![allow(dead_code, missing_docs, unreachable_pub, clippy::unwrap_used)]

#[path = "../lab/mod.rs"]
mod lab;
#[path = "../lab/talk.rs"]
mod talk;

use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use lab::client::{Client, Visit};
use lab::gate::Gate;
use lab::job::{Job, tail};
use lab::net::Net;
use lab::scratch::Scratch;
use lab::server::{PASSWORD, Running, Server, USER};
use lab::{Family, Leg, Mode, goods, poll};
use talk::{IO, Talk};

/// A server, a gate under a rule with these lines, and a client's folder.
struct Stage {
    net: Net,
    server: Running,
    gate: Gate,
    folder: Scratch,
}

impl Stage {
    fn new(server: Server, rules: &str) -> Self {
        let net = Net::new().unwrap();
        let running = server.or_without_users().start(&net.server, Family::V4).unwrap();
        net.close().unwrap();
        let gate = Gate::start_with(&net, &file(rules), 21).unwrap();
        let folder = Scratch::new("client").unwrap();
        goods::stock_client(folder.path()).unwrap();
        Self { net, server: running, gate, folder }
    }

    /// Other rules from now on.
    fn reload(&self, rules: &str) {
        self.gate.reload(&file(rules));
        self.logged(&["event=\"reloaded\""]);
    }

    /// Where the server puts its user, as it calls that itself.
    fn home(&self) -> String {
        self.curl("-v", "");
        let log = std::fs::read_to_string(self.folder.join("log")).unwrap();
        let line =
            log.lines().rev().find(|line| line.starts_with("< 257 ")).unwrap_or_else(|| panic!("no 257:\n{log}"));
        line.split('"').nth(1).unwrap().to_owned()
    }

    /// curl with these words for a path below the user's home: its exit code.
    fn curl(&self, words: &str, path: &str) -> i32 {
        let url = format!("ftp://{USER}:{PASSWORD}@{}/{path}", Net::gate_address(Family::V4));
        let words = format!("curl -q -sS --connect-timeout 10 --max-time 20 {words} {url}");
        let words: Vec<&str> = words.split(' ').filter(|word| !word.is_empty()).collect();
        let log = self.folder.join("log");
        let setup = |command: &mut Command| {
            command.current_dir(self.folder.path());
        };
        let mut job = Job::start(&self.net.client, &log, &words, setup).unwrap();
        job.wait(Duration::from_secs(30)).and_then(|status| status.code()).unwrap_or_else(|| panic!("{}", tail(&log)))
    }

    /// A whole visit, with all that the client can do.
    #[track_caller]
    fn is_visited_by(&self, client: Client, mode: Mode) {
        let visit = Visit {
            server: Net::gate_address(Family::V4),
            leg: Leg::new(mode, Family::V4),
            user: USER,
            folder: self.folder.path(),
        };
        let log = self.folder.join("log");
        let made = client.visit(&self.net.client, &visit).and_then(|()| {
            goods::inspect(&self.server.home(), self.folder.path(), &std::fs::read(&log)?, client.abilities())
        });
        made.unwrap_or_else(|fault| panic!("{fault}\n{}\n--- gate\n{}", tail(&log), self.gate.tail()));
    }

    /// Logged in at the server, past the gate.
    fn direct(&self) -> Talk {
        let at = SocketAddr::new(Net::server_address(Family::V4), 21);
        logged_in(self.net.server.run(move || TcpStream::connect_timeout(&at, IO)).unwrap())
    }

    /// Logged in at the server through the gate.
    fn through(&self) -> Talk {
        let at = SocketAddr::new(Net::gate_address(Family::V4), 21);
        logged_in(self.net.client.run(move || TcpStream::connect_timeout(&at, IO)).unwrap())
    }

    #[track_caller]
    fn logged(&self, words: &[&str]) {
        let fits = |line: &str| words.iter().all(|word| line.contains(word));
        let found = poll(Duration::from_secs(5), || self.gate.log().lines().any(fits).then_some(()));
        assert!(found.is_some(), "no line has all of {words:?}:\n{}", self.gate.log());
    }

    #[track_caller]
    fn refused(&self, reason: &str) {
        self.logged(&["event=\"refused\"", &format!("reason=\"{reason}\"")]);
    }
}

#[track_caller]
fn logged_in(stream: TcpStream) -> Talk {
    let mut talk = Talk::new(stream);
    talk.expect_code("220");
    talk.say(&format!("USER {USER}"));
    talk.expect_code("331");
    talk.say(&format!("PASS {PASSWORD}"));
    talk.expect_code("230");
    talk
}

/// A rules file with these rules, in which `{all}` is everybody and every server, and `{ports}` both modes.
fn file(rules: &str) -> String {
    let bind = SocketAddr::new(Net::gate_address(Family::V4), 21);
    let server = SocketAddr::new(Net::server_address(Family::V4), 21);
    let ports = "inbound: \"10001-10020\", outbound: \"20000-20019\"";
    let rules = rules.replace("{all}", "from: any, to: any").replace("{ports}", ports);
    format!("version: 1\nlisteners:\n  - {{ name: front, bind: \"{bind}\", server: \"{server}\" }}\nrules:\n{rules}")
}

/// curl's exit codes.
const DONE: i32 = 0;
const NO_ACCESS: i32 = 9;
const NO_FILE: i32 = 78;
const NOT_RETRIEVED: i32 = 19;
const NOT_STORED: i32 = 25;
const COMMAND_FAILED: i32 = 21;
const NO_LOGIN: i32 = 67;

/// A whole visit under a rule that asks for the user and follows every path.
#[track_caller]
fn visits(server: Server, client: Client, mode: Mode) {
    let stage = Stage::new(
        server,
        "  - { name: others, {all}, users: \"x*\", action: deny }\n  \
           - { name: visitors, {all}, users: \"LA*\", action: allow, {ports}, paths: [{ path: \"/**\", allow: any }] }\n",
    );
    stage.is_visited_by(client, mode);
    stage.logged(&["event=\"logged_in\"", "rule=\"visitors\""]);
}

#[test]
fn paths_are_followed_at_vsftpd() {
    visits(Server::Vsftpd, Client::Curl, Mode::Passive);
}

#[test]
fn paths_are_followed_at_proftpd() {
    visits(Server::Proftpd, Client::Lftp, Mode::Passive);
}

#[test]
fn paths_are_followed_at_pure_ftpd() {
    visits(Server::PureFtpd, Client::Tnftp, Mode::Active);
}

#[test]
fn paths_are_followed_at_inetutils() {
    visits(Server::Inetutils, Client::Ncftp, Mode::Passive);
}

#[test]
fn paths_are_followed_at_pyftpdlib() {
    visits(Server::Pyftpdlib, Client::Ftplib, Mode::Active);
}

#[test]
fn a_user_that_no_rule_allows_never_reaches_the_server() {
    let stage = Stage::new(Server::Vsftpd, "  - { name: edi, {all}, users: \"edi-*\", action: allow, {ports} }\n");
    assert_eq!(stage.curl("", "hello.txt"), NO_LOGIN);
    stage.refused("user_denied");
    assert!(!stage.gate.log().contains("logged_in"));
}

#[test]
fn a_rule_whose_hours_are_over_does_not_hold() {
    // The two halves of the day meet, whenever the test runs.
    for (first, second) in [("00:00-12:00", "12:00-24:00"), ("12:00-24:00", "00:00-12:00")] {
        let stage = Stage::new(
            Server::Vsftpd,
            &format!(
                "  - {{ name: first, {{all}}, hours: \"daily {first} UTC\", action: allow, {{ports}} }}\n  \
                   - {{ name: second, {{all}}, hours: \"daily {second} UTC\", action: allow, {{ports}}, read_only: true }}\n"
            ),
        );
        let morning = jiff::Timestamp::now().to_string().get(11..13).unwrap().parse::<u32>().unwrap() < 12;
        let holds = if morning == first.starts_with("00") { "first" } else { "second" };
        assert_eq!(stage.curl("", "hello.txt"), DONE);
        stage.logged(&["event=\"session_started\"", &format!("rule=\"{holds}\"")]);
    }
}

#[test]
fn nothing_is_written_where_a_rule_is_read_only() {
    let stage = Stage::new(Server::Proftpd, "  - { name: mirror, {all}, action: allow, {ports}, read_only: true }\n");
    assert_eq!(stage.curl("", "hello.txt"), DONE);
    assert_eq!(stage.curl("-T out/small/00.txt", "inbox/"), NOT_STORED);
    assert_eq!(stage.curl("-Q DELE\u{20}doomed.txt", ""), COMMAND_FAILED);
    stage.refused("read_only");
    assert!(stage.server.home().join("doomed.txt").exists());
    assert!(!stage.server.home().join("inbox/00.txt").exists());
}

#[test]
fn commands_on_a_list_are_refused() {
    let stage = Stage::new(
        Server::PureFtpd,
        "  - { name: some, {all}, action: allow, {ports}, commands: { deny: [DELE, \"SITE CHMOD\"] } }\n",
    );
    assert_eq!(stage.curl("-T out/small/00.txt", "inbox/"), DONE);
    assert_eq!(stage.curl("-Q DELE\u{20}doomed.txt", ""), COMMAND_FAILED);
    stage.refused("command_not_allowed");
    assert!(stage.server.home().join("doomed.txt").exists());
}

#[test]
fn each_path_is_for_what_the_rule_says() {
    for server in Server::ALL {
        let stage = Stage::new(server, "  - { name: all, {all}, action: allow, {ports} }\n");
        let home = stage.home();
        let (home, inside) = (home.as_str(), home.trim_end_matches('/'));
        stage.reload(&format!(
            "  - name: drop-box\n    from: any\n    to: any\n    action: allow\n    inbound: \"10001-10020\"\n    paths:\n      \
               - {{ path: \"{inside}/inbox/**\", allow: upload }}\n      \
               - {{ path: \"{inside}/shelf/**\", allow: [download, list] }}\n      \
               - {{ path: \"{inside}/hello.txt\", allow: none }}\n      - {{ path: \"{home}\", allow: list }}\n"
        ));
        let at = format!("{server}, home {home}");
        assert_eq!(stage.curl("-T out/small/00.txt", "inbox/"), DONE, "{at}\n{}", stage.gate.tail());
        assert!(stage.server.home().join("inbox/00.txt").exists(), "{at}");
        assert_eq!(stage.curl("-o x", "shelf/small/00.txt"), DONE, "{at}\n{}", stage.gate.tail());
        for (words, path, codes) in [
            ("-o x", "inbox/00.txt", [NO_FILE, NOT_RETRIEVED]),
            ("-o x", "hello.txt", [NO_FILE, NOT_RETRIEVED]),
            ("--path-as-is -o x", "shelf/../hello.txt", [NO_FILE, NOT_RETRIEVED]),
            ("--path-as-is --ftp-method nocwd -o x", "shelf/../hello.txt", [NO_FILE, NOT_RETRIEVED]),
            ("-T out/small/01.txt", "shelf/", [NOT_STORED, NOT_STORED]),
            ("-T out/small/01.txt", "", [NOT_STORED, NOT_STORED]),
            ("-o x", "/etc/", [NO_ACCESS, NOT_RETRIEVED]),
        ] {
            let code = stage.curl(words, path);
            assert!(codes.contains(&code), "{at}: curl {words} {path} ends with {code}\n{}", stage.gate.tail());
        }
        stage.refused("path_not_allowed");
    }
}

/// A rule that denies commands lets only known ones pass: clients must do with those.
#[test]
fn clients_need_no_command_that_is_not_known() {
    for (server, client) in [
        (Server::Proftpd, Client::Curl),
        (Server::Proftpd, Client::Lftp),
        (Server::PureFtpd, Client::Tnftp),
        (Server::PureFtpd, Client::Ncftp),
        (Server::Vsftpd, Client::Wget),
        (Server::Inetutils, Client::Ftplib),
    ] {
        let rules = "  - { name: some, {all}, action: allow, {ports}, commands: { deny: [\"SITE EXEC\", SMNT] } }\n";
        let stage = Stage::new(server, rules);
        stage.is_visited_by(client, Mode::Passive);
        let refused = stage.gate.log().lines().filter(|line| line.contains("event=\"refused\"")).count();
        assert_eq!(refused, 0, "{client} at {server}\n{}", stage.gate.log());
    }
}

/// What a server makes of a line that hides a command, and that the server does not hear of it where the command is denied.
#[track_caller]
fn is_hidden(stage: &Stage, line: &str, direct: &str, through: &str) {
    let mut talk = stage.direct();
    talk.say(line);
    talk.expect_code(direct);
    let mut talk = stage.through();
    talk.say(line);
    talk.expect_code(through);
}

#[test]
fn quotation_marks_hide_no_word_from_a_rule() {
    let stage = Stage::new(
        Server::Proftpd,
        "  - { name: some, {all}, action: allow, {ports}, \
           commands: { deny: [\"SITE CHMOD\", \"SITE CPFR\", \"SITE CPTO\", \"SITE COPY\"] } }\n",
    );
    for line in ["SITE CHMOD 601 doomed.txt", "SITE \"CHMOD\"701 doomed.txt"] {
        is_hidden(&stage, line, "200", "502");
    }
    for line in ["SITE CPFR /etc/hostname", "SITE \"CPFR\"/etc/hostname"] {
        is_hidden(&stage, line, "350", "502");
    }
    stage.refused("command_not_allowed");
    for line in ["\"DELE\"doomed.txt", "\"SITE\" CHMOD 703 doomed.txt", "\"PORT\" 10,1,0,2,78,32"] {
        let mut talk = stage.through();
        talk.say(line);
        talk.expect_code("500");
    }
    stage.refused("garbage");
    assert!(stage.server.home().join("doomed.txt").exists());
}

#[test]
fn what_ends_in_a_denied_command_is_refused() {
    let stage = Stage::new(
        Server::Pyftpdlib,
        "  - { name: some, {all}, action: allow, {ports}, commands: { deny: [STAT] } }\n",
    );
    is_hidden(&stage, "XSTAT .", "213", "502");
    is_hidden(&stage, "SITE STAT .", "213", "502");
    is_hidden(&stage, "SITE XSTAT .", "213", "502");
    // The server is told NOOP with an argument, which it does not take.
    is_hidden(&stage, "NOOP\tSTAT .", "213", "501");
    stage.refused("unknown_command");
    stage.refused("command_not_allowed");
}
