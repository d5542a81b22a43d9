//! Limits with real clients and servers: what is within them works as ever, and what is not is told in words that clients
//! show.

// Shared with other test binaries; each uses a part.
#![allow(dead_code, missing_docs, unreachable_pub, clippy::unwrap_used)]

#[path = "../lab/mod.rs"]
mod lab;

use std::time::Duration;

use lab::client::{Client, Visit};
use lab::gate::Gate;
use lab::job::{Job, tail};
use lab::net::Net;
use lab::scratch::Scratch;
use lab::server::{PASSWORD, Running, Server, USER};
use lab::{Family, Leg, Mode, goods};

struct Stage {
    net: Net,
    gate: Gate,
    server: Running,
    folder: Scratch,
}

impl Stage {
    fn new(server: Server, gate: &str, rule: &str) -> Self {
        let net = Net::new().unwrap();
        let server = server.or_without_users().start(&net.server, Family::V4).unwrap();
        let rules = format!(
            "version: 1\nlisteners:\n  - name: front\n    bind: \"10.1.0.1:21\"\n    server: \"10.2.0.2:21\"\n{gate}\
             rules:\n  - name: lab\n    from: any\n    to: any\n    action: allow\n    inbound: \"10001-10020\"\n    \
             outbound: \"40000-40099\"\n{rule}"
        );
        let gate = Gate::start_with(&net, &rules, 21).unwrap();
        let folder = Scratch::new("client").unwrap();
        goods::stock_client(folder.path()).unwrap();
        Self { net, gate, server, folder }
    }

    /// Whether curl succeeds; its words are in the log then.
    fn curl(&self, words: &[&str]) -> bool {
        self.runs(&[&["curl", "-q", "-sS", "-v", "--max-time", "30"], words].concat())
    }

    /// Whether lftp does: unlike curl it hears the server out whose data connection was reset.
    fn lftp(&self, command: &str) -> bool {
        let settings = "set cmd:fail-exit yes; set net:max-retries 1; set ftp:ssl-allow no; debug 5";
        self.runs(&["lftp", "-c", &format!("{settings}; open -u {USER},{PASSWORD} 10.1.0.1; {command}")])
    }

    fn runs(&self, words: &[&str]) -> bool {
        let inside = |command: &mut std::process::Command| {
            command.current_dir(self.folder.path()).env("HOME", self.folder.join("home"));
        };
        let mut job = Job::start(&self.net.client, &self.log(), words, inside).unwrap();
        job.wait(Duration::from_secs(40)).unwrap().success()
    }

    fn log(&self) -> std::path::PathBuf {
        self.folder.join("log")
    }

    #[track_caller]
    fn assert_told(&self, to_client: &str, to_operator: &[&str]) {
        let (client, gate) = (std::fs::read_to_string(self.log()).unwrap(), self.gate.log());
        assert!(client.contains(to_client), "{}\n--- gate\n{gate}", tail(&self.log()));
        let told = gate.lines().any(|line| to_operator.iter().all(|word| line.contains(word)));
        assert!(told, "{to_operator:?} is not in\n{gate}");
    }
}

#[test]
fn within_limits_everything_works() {
    let gate = "limits:\n  sessions: 20\n  download: 500MiB/s\n  per_client: { failed_logins: 3, sessions: 10 }\n";
    let rule = "    limits:\n      sessions: 10\n      commands_per_second: 200\n      failed_logins: 2\n      \
                upload: 20MiB/s\n      download: 20MiB/s\n      transfer_size: 1GiB\n      login_timeout: 20s\n      \
                idle_timeout: 20s\n      stall_timeout: 20s\n      per_client: { upload: 10MiB/s }\n";
    for (client, server, mode) in [
        (Client::Curl, Server::Vsftpd, Mode::Passive),
        (Client::Lftp, Server::Proftpd, Mode::Active),
        (Client::Ftplib, Server::Pyftpdlib, Mode::Passive),
    ] {
        let stage = Stage::new(server, gate, rule);
        let leg = Leg::new(mode, Family::V4);
        let visit = Visit { server: Net::gate_address(Family::V4), leg, user: USER, folder: stage.folder.path() };
        client.visit(&stage.net.client, &visit).unwrap_or_else(|fault| {
            panic!("{client}: {fault}\n{}\n--- gate\n{}", tail(&stage.log()), stage.gate.tail());
        });
        let listing = std::fs::read(stage.log()).unwrap();
        goods::inspect(&stage.server.home(), stage.folder.path(), &listing, client.abilities()).unwrap();
        assert!(!stage.gate.log().contains("why=\"rule\""), "{}", stage.gate.log());
    }
}

#[test]
fn a_client_hears_that_its_file_is_too_large() {
    for server in [Server::Vsftpd, Server::PureFtpd, Server::Pyftpdlib] {
        let stage = Stage::new(server, "", "    limits: { transfer_size: 100kB }\n");
        assert!(!stage.lftp("put out/big.bin -o inbox/big.bin"), "{server}");
        stage.assert_told("552 The transfer is larger than is allowed (transfer_size).", &["limit=\"transfer_size\""]);
        let arrived = std::fs::metadata(stage.server.home().join("inbox/big.bin")).map_or(0, |file| file.len());
        assert!(arrived <= 100_000, "{server}: {arrived}");
        // The session before has harmed nobody.
        assert!(stage.lftp("put out/small/00.txt -o inbox/00.txt"), "{server}: {}", tail(&stage.log()));
        assert!(!stage.curl(&[&format!("ftp://{USER}:{PASSWORD}@10.1.0.1/shelf/big.bin"), "-o", "in/big.bin"]));
    }
}

#[test]
fn who_guesses_passwords_is_turned_away() {
    let stage = Stage::new(Server::Pyftpdlib, "limits:\n  per_client: { failed_logins: 2, pause: 1h }\n", "");
    let wrong = format!("ftp://{USER}:wrong@10.1.0.1/");
    assert!(!stage.curl(&[&wrong]));
    assert!(!stage.curl(&[&wrong]));
    assert!(!stage.curl(&[&format!("ftp://{USER}:{PASSWORD}@10.1.0.1/")]));
    stage.assert_told("421 Too many failed logins before this (pause); try again later.", &["limit=\"pause\""]);
}

#[test]
fn one_session_too_many_is_told_so() {
    let stage = Stage::new(Server::Proftpd, "", "    limits: { sessions_per_minute: 1 }\n");
    let list = format!("ftp://{USER}:{PASSWORD}@10.1.0.1/");
    assert!(stage.curl(&[&list]), "{}", tail(&stage.log()));
    assert!(!stage.curl(&[&list]));
    let limit = "limit=\"sessions_per_minute\" value=\"1\" of=\"rule\" rule=\"lab\"";
    stage.assert_told("421 Too many new sessions (sessions_per_minute); try again later.", &[limit]);
}
