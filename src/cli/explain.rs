//! `ftpgate explain`: which rule decides and why, and what becomes of each FTP line.

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Context as _;
use jiff::Timestamp;
use serde::Serialize;

use super::{DONE, no, read_untested};
use crate::addr::{ClientAddr, ServerAddr};
use crate::policy::{Listener, Policy, Stand};
use crate::rules;
use crate::trial::{Answer, OwnAddresses, Question, Verdict};

/// Say which rule decides for a client and a server, and what becomes of FTP lines between them.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The rules file.
    file: PathBuf,
    /// Where the client comes from.
    #[arg(long, value_name = "IP[:PORT]", value_parser = client)]
    client: SocketAddr,
    /// The server that it wants to reach.
    #[arg(long, value_name = "IP[:PORT]", value_parser = server)]
    server: SocketAddr,
    /// The listener that it comes to; the first that leads to the server, if left out.
    #[arg(long, value_name = "NAME")]
    listener: Option<String>,
    /// The user that it logs in as, for rules that ask for it.
    #[arg(long, value_name = "NAME")]
    user: Option<OsString>,
    /// When: a time such as "2026-01-12 09:00 Europe/Berlin" or 2026-01-12T09:00+01:00, for rules with hours; now, if left
    /// out.
    #[arg(long, value_name = "TIME", value_parser = rules::moment)]
    at: Option<Timestamp>,
    /// The directory that the server puts the user in, for rules with paths.
    #[arg(long, value_name = "PATH", default_value = "/")]
    home: OsString,
    /// The gate's own address on both sides, for lines where the rules file does not tell it. May be repeated, for each
    /// family.
    #[arg(long, value_name = "IP")]
    gate: Vec<IpAddr>,
    /// Its address on the clients' side, where it has another on the servers'. May be repeated.
    #[arg(long, value_name = "IP")]
    gate_client_side: Vec<IpAddr>,
    /// Its address on the servers' side. May be repeated.
    #[arg(long, value_name = "IP")]
    gate_server_side: Vec<IpAddr>,
    /// For programs.
    #[arg(long)]
    json: bool,
    /// FTP lines: what the client says, or the server where a line begins with a code. Answers of the server that are
    /// not given are made up.
    #[arg(value_name = "LINE")]
    lines: Vec<OsString>,
}

/// Everything that was found out.
#[derive(Debug, Serialize)]
struct Explanation {
    client: String,
    server: String,
    listener: String,
    #[serde(flatten)]
    answer: Answer,
}

/// Explains.
///
/// # Errors
/// Where standard output is gone.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let policy = match read_untested(&args.file) {
        Ok(written) => written.policy,
        Err(why) => {
            super::complain(&why);
            return Ok(no());
        }
    };
    let explanation = match explain(args, &policy) {
        Ok(explanation) => explanation,
        Err(why) => {
            super::complain(&why);
            return Ok(no());
        }
    };
    let mut out = std::io::stdout().lock();
    if args.json {
        serde_json::to_writer_pretty(&mut out, &explanation)?;
        writeln!(out).context("cannot write")?;
    } else {
        write!(out, "{}", text(&explanation)).context("cannot write")?;
    }
    let refused = explanation.answer.lines.iter().any(|said| said.refused.is_some());
    Ok(if explanation.answer.decision == Verdict::Allow && !refused { DONE } else { no() })
}

/// Asks the rules; the error says why there is nothing to ask.
fn explain(args: &Args, policy: &Policy) -> Result<Explanation, String> {
    let (client, server) = (ClientAddr::new(args.client), ServerAddr::new(args.server));
    let Some(listener) = Question::listener(policy, args.listener.as_deref(), client, server) else {
        return Err(format!(
            "ftpgate: {}; listeners: {}",
            args.listener.as_ref().map_or_else(
                || format!("no listener leads from {} to {}", args.client.ip(), args.server),
                |name| {
                    format!(
                        "there is no listener `{name}`, or it leads not from {} to {}",
                        args.client.ip(),
                        args.server
                    )
                }
            ),
            policy.listeners.iter().map(where_to).collect::<Vec<_>>().join(", ")
        ));
    };
    let [client_side, server_side] =
        [&args.gate_client_side, &args.gate_server_side].map(|side| [side.as_slice(), args.gate.as_slice()].concat());
    let question = Question {
        policy,
        listener,
        client,
        server,
        user: args.user.as_deref().map(OsStr::as_bytes),
        gate: OwnAddresses { client_side: &client_side, server_side: &server_side },
        at: args.at.unwrap_or_else(Timestamp::now),
        now: Instant::now(),
        home: args.home.as_bytes(),
    };
    let lines: Vec<&[u8]> = args.lines.iter().map(|line| line.as_bytes()).collect();
    let answer = question.ask(&lines);
    Ok(Explanation { client: client.to_string(), server: server.to_string(), listener: listener.name.clone(), answer })
}

/// A listener, and where it leads.
fn where_to(listener: &Listener) -> String {
    let at = listener.bind;
    match listener.stand {
        Stand::Reverse { server } => format!("{} (from {at} to {server})", listener.name),
        Stand::Transparent { .. } | Stand::Explicit => format!("{} (at {at})", listener.name),
    }
}

/// The explanation for people.
fn text(explanation: &Explanation) -> String {
    let mut text = String::new();
    let mut line = |what: std::fmt::Arguments<'_>| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{what}");
    };
    let Explanation { client, server, listener, answer } = explanation;
    let Answer { rules, decision, rule, ports, lines, note } = answer;
    if let (Verdict::HealthCheck, Some(why)) = (decision, note) {
        line(format_args!("health check: {why}"));
        return text;
    }
    line(format_args!("client {client} at listener {listener}, to server {server}"));
    for looked in rules {
        let sign = if looked.matches { "=>" } else { "  " };
        line(format_args!("{sign} rule {}: {}", looked.rule, looked.why));
    }
    match (decision, rule) {
        (Verdict::Allow, Some(rule)) => line(format_args!("allow by rule {rule}")),
        (Verdict::Deny | Verdict::HealthCheck, Some(rule)) => line(format_args!("deny by rule {rule}")),
        (Verdict::AtLogin, _) => line(format_args!("the user decides: give --user NAME")),
        (Verdict::Allow | Verdict::Deny | Verdict::HealthCheck, None) => {
            line(format_args!("deny: no rule matches, and what no rule matches is denied"));
        }
    }
    ports.iter().for_each(|sentence| line(format_args!("   {sentence}")));
    for said in lines {
        line(format_args!("{}: {}", said.by, said.line));
        said.then.iter().for_each(|then| line(format_args!("   {then}")));
    }
    if let Some(note) = note {
        line(format_args!("({note})"));
    }
    text
}

fn client(text: &str) -> Result<SocketAddr, String> {
    address(text, 50_000)
}

fn server(text: &str) -> Result<SocketAddr, String> {
    address(text, 21)
}

fn address(text: &str, port: u16) -> Result<SocketAddr, String> {
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    text.parse()
        .or_else(|_| bare.parse().map(|ip: IpAddr| SocketAddr::new(ip, port)))
        .map_err(|_| "write an address like 192.0.2.7, 192.0.2.7:21 or [2001:db8::7]:21".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    /// What is printed for a command line, and whether it was understood.
    fn explained(rules: &str, words: &[&[u8]]) -> String {
        let policy = rules::written_bytes(rules.as_bytes(), "test").unwrap().policy;
        let fixed: [&[u8]; 4] = [b"explain", b"FILE", b"--server", b"10.0.2.2"];
        let words = fixed.iter().chain(words).map(|word| OsStr::from_bytes(word));
        let Line { args } = Line::try_parse_from(words).unwrap();
        text(&explain(&args, &policy).unwrap())
    }

    const RULES: &str = r#"
version: 1
listeners:
  - { name: public, bind: "0.0.0.0:21", server: "10.0.2.2:21", health_checks_from: 192.0.2.8/29 }
rules:
  - name: papers
    from: any
    to: any
    users: "*a"
    action: allow
    inbound: any
    paths: [{ path: "/in/**", allow: [download] }]
"#;

    #[test]
    fn a_health_check_is_called_one_and_asks_no_rule() {
        let text = explained(RULES, &[b"--client", b"192.0.2.9", b"NOOP"]);
        assert!(text.starts_with("health check: 192.0.2.9 is in `health_checks_from` of listener public"), "{text}");
        assert!(!text.contains("rule papers") && text.lines().count() == 1, "{text}");
        let text = explained(RULES, &[b"--client", b"192.0.2.7", b"--user", b"anna"]);
        assert!(text.contains("allow by rule papers"), "{text}");
    }

    /// Users and paths are bytes: a terminal in CP1251 gives no UTF-8.
    #[test]
    fn users_and_paths_need_not_be_utf_8() {
        let text = explained(
            RULES,
            &[
                b"--client",
                b"192.0.2.7",
                b"--user",
                b"\xc0\xeda",
                b"--home",
                b"/in/\xcf",
                b"RETR \xff\xf0.txt",
                b"RETR /\xff",
            ],
        );
        assert!(text.contains("user \\xc0\\xeda: allow"), "{text}");
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines.contains(&"client: RETR \\xff\\xf0.txt"), "{text}");
        let refused = lines.iter().filter(|line| line.contains("refused (path_not_allowed)")).count();
        assert_eq!(refused, 1, "{text}");
    }

    /// A gate has an address of its own towards either side.
    #[test]
    fn each_side_is_told_the_address_of_its_own_side() {
        let rules = RULES.replace("    inbound: any", "    inbound: \"10001\"\n    outbound: \"20000\"");
        let rules = rules
            .replace("    users: \"*a\"\n", "")
            .replace("    paths: [{ path: \"/in/**\", allow: [download] }]\n", "");
        let lines: [&[u8]; 2] = [b"PASV", b"PORT 198,51,100,7,4,1"];
        let told = |more: &[&[u8]]| {
            let client: [&[u8]; 2] = [b"--client", b"198.51.100.7"];
            let words: Vec<&[u8]> = [&client, more, &lines].concat();
            explained(&rules, &words)
        };
        let sides: &[&[u8]] = &[b"--gate-client-side", b"203.0.113.5", b"--gate-server-side", b"10.0.2.1"];
        let both = told(sides);
        assert!(both.contains("(203,0,113,5,39,17)") && both.contains("PORT 10,0,2,1,78,32"), "{both}");
        assert!(!both.contains("stands for"), "{both}");
        let one = told(&[b"--gate", b"2001:db8::9", b"--gate", b"10.0.0.9"]);
        assert!(one.contains("(10,0,0,9,39,17)") && one.contains("PORT 10,0,0,9,78,32"), "{one}");
        assert!(told(&sides[..2]).contains("give --gate-client-side IP and --gate-server-side IP"), "{both}");
    }
}
