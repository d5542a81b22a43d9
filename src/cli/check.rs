//! `ftpgate check`: whether a rules file is valid, and what is wrong in it.

use std::fmt;
use std::io::{self, IsTerminal as _, Write};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Context as _;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::json;

use super::rules_file::{self, ReadError};
use super::trust::Trusted;
use crate::addr::{PortRange, PortRanges};
use crate::net;
use crate::policy::{About, Doubt, Permission, Policy, SessionLimits};
use crate::rules::{self, Mistakes, Remark, RulesFile, Subject};
use crate::server::{self, OwnServer};
use crate::trial::{self, Failure};

/// Check a rules file: 0 where it is valid, else 1 and every mistake in it.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The rules file; `-` for standard input.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Print the answer as JSON.
    #[arg(long)]
    pub json: bool,
    /// Answer 1 where there is a warning.
    #[arg(long)]
    pub deny_warnings: bool,
    /// The ports that the gate's machine gives to its outgoing connections, such as 32768-60999 or a list with commas,
    /// where the check runs on another one. This machine's own, if left out.
    #[arg(long, value_name = "PORTS", value_parser = ephemeral)]
    pub ephemeral_ports: Option<PortRanges>,
}

/// Checks one file.
///
/// # Errors
///
/// The answer could not be printed. A file that cannot be read is an answer: it is not valid.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let valid = check(&args, &mut io::stdout(), &mut io::stderr()).context("the answer could not be printed")?;
    Ok(if valid { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn check(args: &Args, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<bool> {
    let name = if args.file == Path::new("-") { "<stdin>".to_owned() } else { args.file.display().to_string() };
    let bytes = match read(&args.file) {
        Ok(bytes) => bytes,
        Err(error) => {
            writeln!(err, "{}", error.replacen("ftpgate: ", "error: ", 1))?;
            if args.json {
                writeln!(out, "{:#}", json!({ "valid": false, "mistakes": [], "warnings": [], "error": error }))?;
            }
            return Ok(false);
        }
    };
    let answer = rules::written_bytes(&bytes, &name).and_then(|written| {
        match own_servers(&written).or_else(|| failed_tests(&written)) {
            Some(mistakes) => Err(mistakes),
            None => Ok(written),
        }
    });
    let ephemeral = args.ephemeral_ports.clone().or_else(net::ephemeral_ports);
    let warnings = answer
        .as_ref()
        .ok()
        .map(|file| warnings(file, ephemeral.as_ref()))
        .filter(|warnings| !warnings.list().is_empty());
    let list = |mistakes: Option<&Mistakes>| mistakes.map_or(Vec::new(), |mistakes| mistakes.list().to_vec());
    match &answer {
        answer if args.json => {
            let (mistakes, warnings) = (list(answer.as_ref().err()), list(warnings.as_ref()));
            let defaults = answer.as_ref().ok().map(|file| Defaults::of(&file.policy));
            let mut answer = json!({ "valid": answer.is_ok(), "mistakes": mistakes, "warnings": warnings });
            if let Some(defaults) = defaults {
                answer["defaults"] = json!(defaults);
            }
            writeln!(out, "{answer:#}")?;
        }
        Ok(RulesFile { policy, cases, .. }) => {
            let mut counts = vec![counted(policy.listeners.len(), "listener"), counted(policy.rules.len(), "rule")];
            if !cases.is_empty() {
                counts.push(format!("{} passed", counted(cases.len(), "test")));
            }
            match &warnings {
                Some(warnings) if colours() => writeln!(err, "{}", warnings.coloured())?,
                Some(warnings) => writeln!(err, "{warnings}")?,
                None => {}
            }
            writeln!(out, "{}", Defaults::of(policy))?;
            writeln!(out, "{name}: {}: valid", counts.join(", "))?;
        }
        Err(mistakes) if colours() => writeln!(err, "{}", mistakes.coloured())?,
        Err(mistakes) => writeln!(err, "{mistakes}")?,
    }
    Ok(answer.is_ok() && !(args.deny_warnings && warnings.is_some()))
}

/// The limits that nobody wrote and that hold on this machine, and what they follow from.
#[derive(Debug, Serialize)]
struct Defaults {
    /// Of the gate; left out where it is written.
    #[serde(skip_serializing_if = "Option::is_none")]
    sessions: Option<NonZeroU32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    per_client_sessions: Option<NonZeroU32>,
    /// Left out where every rule has its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    login_timeout_seconds: Option<u64>,
    open_files: u64,
    open_files_kept_for_data: u64,
    lookups: u32,
}

impl Defaults {
    fn of(policy: &Policy) -> Self {
        let (capacity, unwritten) = (server::capacity(policy), policy.limits.unwritten);
        Self {
            sessions: capacity.sessions.filter(|_| unwritten.all),
            per_client_sessions: capacity.sessions_per_client.filter(|_| unwritten.client),
            login_timeout_seconds: policy
                .rules
                .iter()
                .any(|rule| rule.permission == Permission::Allow && rule.limits.session.login_timeout.is_none())
                .then_some(SessionLimits::LOGIN_TIMEOUT.as_secs()),
            open_files: capacity.descriptors,
            open_files_kept_for_data: capacity.reserve,
            lookups: capacity.lookups,
        }
    }
}

impl fmt::Display for Defaults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sessions = self.sessions.map(|most| format!("sessions {most}"));
        let per_client = self.per_client_sessions.map(|most| format!("per_client sessions {most}"));
        let login = self.login_timeout_seconds.map(|seconds| format!("login_timeout {seconds}s"));
        let all: Vec<String> = [sessions, per_client, login].into_iter().flatten().collect();
        let all = if all.is_empty() { "none".to_owned() } else { all.join(", ") };
        let Self { open_files, open_files_kept_for_data: kept, .. } = self;
        write!(
            f,
            "defaults on this machine: {all} (this process may open {open_files} files, {kept} are kept for data)"
        )
    }
}

/// Listeners whose server is the gate itself, with their places.
pub(crate) fn own_servers(file: &RulesFile) -> Option<Mistakes> {
    let remark = |own: OwnServer| Remark {
        subject: Subject::Listener(own.listener, "server"),
        message: format!(
            "the gate itself listens there (listener `{}`): each connection would make the next",
            own.leads_to
        ),
        help: "write the server's own address".to_owned(),
    };
    let remarks: Vec<Remark> = server::own_servers(&file.policy.listeners).into_iter().map(remark).collect();
    if remarks.is_empty() { None } else { Some(file.errors(remarks)) }
}

/// What is legal but hardly meant, with its places.
fn warnings(file: &RulesFile, ephemeral: Option<&PortRanges>) -> Mistakes {
    let doubts = file.policy.doubts(ephemeral);
    let remark = |Doubt { about, key, message, help }: Doubt| {
        let subject = match about {
            About::Listener(listener) => Subject::Listener(listener, key),
            About::Rule(rule) => Subject::Rule(rule, key),
        };
        Remark { subject, message, help }
    };
    file.warnings(doubts.into_iter().map(remark).collect())
}

/// The tests of a file that fail, with their places.
pub(crate) fn failed_tests(written: &RulesFile) -> Option<Mistakes> {
    let failures = trial::failures(&written.policy, &written.cases, Timestamp::now(), Instant::now());
    let remark =
        |Failure { case, line, message, help }: Failure| Remark { subject: Subject::Test(case, line), message, help };
    let remarks: Vec<Remark> = failures.into_iter().map(remark).collect();
    if remarks.is_empty() { None } else { Some(written.errors(remarks)) }
}

/// Reads what `run` would read, and fails where it would. Standard input is checked as text, without looking at its owner.
fn read(file: &Path) -> Result<Vec<u8>, String> {
    if file == Path::new("-") {
        return rules_file::read_stdin().map_err(|error| format!("ftpgate: cannot read standard input: {error}"));
    }
    rules_file::read_trusted(file, &Trusted::of_this_process()).map_err(|error| {
        let mut said = error.to_string();
        if matches!(error, ReadError::Untrusted { .. }) {
            said.push_str(&format!("\n  = help: to check the text alone: ftpgate check - < {}", file.display()));
        }
        said
    })
}

/// Ranges as `ip_local_port_range` is read and written: `32768-60999`, or with a blank between; a list has commas.
fn ephemeral(text: &str) -> Result<PortRanges, String> {
    let port = |text: &str| text.trim().parse::<u16>().ok().filter(|port| *port > 0);
    let range = |text: &str| {
        let text = text.trim();
        let (first, last) = text.split_once(['-', ' ', '\t']).unwrap_or((text, text));
        PortRange::new(port(first)?, port(last)?)
    };
    let ranges: Option<Vec<PortRange>> = text.split(',').map(range).collect();
    ranges.and_then(PortRanges::new).ok_or_else(|| "write a range such as 32768-60999".to_owned())
}

/// Colours are for a terminal whose user has not declined them (no-color.org).
fn colours() -> bool {
    io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

fn counted(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn args(file: &Path, json: bool) -> Args {
        Args { file: file.to_owned(), json, deny_warnings: false, ephemeral_ports: None }
    }

    /// The answer, standard output and standard error.
    fn checked(file: &Path, json: bool) -> (bool, String, String) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let valid = check(&args(file, json), &mut out, &mut err).unwrap();
        (valid, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
    }

    #[test]
    fn a_valid_file_is_one_line_with_the_limits_that_hold() {
        let (valid, out, err) = checked(Path::new("rules/minimal.yaml"), false);
        assert_eq!((valid, err.as_str()), (true, ""));
        let [defaults, verdict] = out.lines().collect::<Vec<_>>()[..] else { panic!("{out}") };
        assert_eq!(verdict, "rules/minimal.yaml: 1 listener, 1 rule, 1 test passed: valid");
        assert!(defaults.starts_with("defaults on this machine: sessions "), "{defaults}");
        assert!(defaults.contains(", login_timeout 60s ("), "{defaults}");
        // What is written is no default.
        let (_, out, _) = checked(Path::new("rules/reference.yaml"), true);
        let out: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert!(out["defaults"].get("sessions").is_none() && out["defaults"]["login_timeout_seconds"] == 60, "{out}");
    }

    #[test]
    fn a_server_that_is_the_gate_itself_is_a_mistake() {
        let file = std::env::temp_dir().join(format!("ftpgate-check-loop-{}.yaml", std::process::id()));
        let text = fs::read_to_string("rules/minimal.yaml").unwrap().replace("10.0.2.2:21", "127.0.0.1:21");
        fs::write(&file, text).unwrap();
        let (valid, out, _) = checked(&file, true);
        fs::remove_file(&file).unwrap();
        let out: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert!(!valid && out["mistakes"][0]["path"] == "listeners[0].server", "{out}");
        assert!(out["mistakes"][0]["message"].as_str().unwrap().starts_with("the gate itself listens there"), "{out}");
    }

    #[test]
    fn json_says_whether_and_where() {
        let (valid, out, err) = checked(Path::new("tests/rules/invalid/rule-from-host-bits.yaml"), true);
        let out: serde_json::Value = serde_json::from_str(&out).unwrap();
        let mistake = json!({
            "line": 8, "column": 28, "path": "rules[0].from[1]",
            "message": "`10.1.2.3/8` has bits set after its prefix", "help": "write \"10.0.0.0/8\"",
        });
        assert_eq!(
            (valid, out, err.as_str()),
            (false, json!({ "valid": false, "mistakes": [mistake], "warnings": [] }), "")
        );
    }

    #[test]
    fn a_file_that_is_not_there_is_not_valid() {
        let (valid, out, err) = checked(Path::new("no/such.yaml"), true);
        assert!(!valid && err.starts_with("error: cannot read no/such.yaml: "), "{err}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&out).unwrap()["valid"], json!(false));
        let (valid, out, _) = checked(Path::new("rules"), false);
        assert!(!valid && out.is_empty());
    }

    #[test]
    fn a_file_that_anybody_can_change_is_not_valid() {
        let file = std::env::temp_dir().join(format!("ftpgate-check-{}.yaml", std::process::id()));
        fs::copy("rules/minimal.yaml", &file).unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o666)).unwrap();
        let (valid, out, err) = checked(&file, true);
        fs::remove_file(&file).unwrap();
        let start = format!("error: will not use {0}: anybody on this machine can change {0}", file.display());
        assert!(!valid && err.starts_with(&start) && err.contains("= help: chmod o-w "), "{err}");
        let out: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert!(out["error"].as_str().unwrap().contains("anybody on this machine"), "{out}");
    }

    #[test]
    fn warnings_are_shown_and_may_be_denied() {
        let file = std::env::temp_dir().join(format!("ftpgate-check-warned-{}.yaml", std::process::id()));
        let text = fs::read_to_string("rules/minimal.yaml").unwrap().replace("10001-10005", "1024-65535");
        fs::write(&file, text).unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
        let (valid, out, err) = checked(&file, false);
        assert!(valid && out.ends_with("valid\n"), "{out}");
        assert!(err.starts_with("warning: 64512 ports of the gate may be opened"), "{err}");
        let args = Args { deny_warnings: true, ..args(&file, true) };
        let mut out = Vec::new();
        let valid = check(&args, &mut out, &mut Vec::new()).unwrap();
        fs::remove_file(&file).unwrap();
        let out: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert!(!valid && out["valid"] == json!(true) && out["warnings"][0]["path"] == "rules[0].inbound", "{out}");
    }

    /// Where CI runs is not where the gate will run.
    #[test]
    fn ports_are_held_against_the_range_that_is_given() {
        let path = |given: &str| {
            let args = Args {
                ephemeral_ports: Some(ephemeral(given).unwrap()),
                ..args(Path::new("rules/minimal.yaml"), true)
            };
            let mut out = Vec::new();
            check(&args, &mut out, &mut Vec::new()).unwrap();
            let out: serde_json::Value = serde_json::from_slice(&out).unwrap();
            out["warnings"][0]["path"].as_str().map(str::to_owned)
        };
        assert_eq!(path("32768-60999"), None);
        for given in ["1024-65535", "10005", "32768-60999,10002-10003", "1024\t65535"] {
            assert_eq!(path(given).as_deref(), Some("rules[0].inbound"), "{given}");
        }
        for wrong in ["", "any", "0-10", "60999-32768", "1-2,", "1-70000"] {
            assert!(ephemeral(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_doubt_about_a_listener_has_its_place() {
        let file = std::env::temp_dir().join(format!("ftpgate-check-closed-{}.yaml", std::process::id()));
        let text = fs::read_to_string("rules/minimal.yaml").unwrap();
        let rules = "rules: [{ name: none, from: any, to: any, action: deny }]\n";
        fs::write(&file, format!("{}{rules}", text.split_once("rules:").unwrap().0)).unwrap();
        let (valid, out, _) = checked(&file, true);
        fs::remove_file(&file).unwrap();
        let out: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert!(valid && out["warnings"][0]["path"] == "listeners[0].server", "{out}");
    }
}
