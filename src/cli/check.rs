//! `ftpgate check`: whether a rules file is valid, and what is wrong in it.

use std::fs::File;
use std::io::{self, IsTerminal as _, Read, Write};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Context as _;
use jiff::Timestamp;
use serde_json::json;

use crate::net;
use crate::policy::Doubt;
use crate::rules::{self, Mistakes, Remark, RulesFile, Subject};
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
    let contents = match read(&args.file) {
        Ok(contents) => contents,
        Err(error) => {
            writeln!(err, "error: {name} cannot be read: {error}")?;
            if args.json {
                writeln!(
                    out,
                    "{:#}",
                    json!({ "valid": false, "mistakes": [], "warnings": [], "error": error.to_string() })
                )?;
            }
            return Ok(false);
        }
    };
    if let Some(who) = contents.writable_by {
        writeln!(err, "warning: {who} on this machine may change {name}, and with it who gets in")?;
        writeln!(err, "  = help: chmod go-w {name}")?;
    }
    let answer = rules::written_bytes(&contents.bytes, &name).and_then(|written| match failed_tests(&written) {
        Some(failures) => Err(failures),
        None => Ok(written),
    });
    let warnings = answer.as_ref().ok().map(warnings).filter(|warnings| !warnings.list().is_empty());
    let list = |mistakes: Option<&Mistakes>| mistakes.map_or(Vec::new(), |mistakes| mistakes.list().to_vec());
    match &answer {
        answer if args.json => {
            let (mistakes, warnings) = (list(answer.as_ref().err()), list(warnings.as_ref()));
            let answer = json!({ "valid": answer.is_ok(), "mistakes": mistakes, "warnings": warnings });
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
            writeln!(out, "{name}: {}: valid", counts.join(", "))?;
        }
        Err(mistakes) if colours() => writeln!(err, "{}", mistakes.coloured())?,
        Err(mistakes) => writeln!(err, "{mistakes}")?,
    }
    let warned = warnings.is_some() || contents.writable_by.is_some();
    Ok(answer.is_ok() && !(args.deny_warnings && warned))
}

/// What is legal but hardly meant, with its places.
fn warnings(file: &RulesFile) -> Mistakes {
    let doubts = file.policy.doubts(net::ephemeral_ports().as_ref());
    let remark =
        |Doubt { rule, key, message, help }: Doubt| Remark { subject: Subject::Rule(rule, key), message, help };
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

struct Contents {
    bytes: Vec<u8>,
    /// Who else may write to it.
    writable_by: Option<&'static str>,
}

fn read(file: &Path) -> io::Result<Contents> {
    if file == Path::new("-") {
        return Ok(Contents { bytes: start(io::stdin())?, writable_by: None });
    }
    let file = File::open(file)?;
    let metadata = file.metadata()?;
    let writable_by = match metadata.permissions().mode() {
        _ if !metadata.is_file() => None,
        mode if mode & 0o002 != 0 => Some("anybody"),
        mode if mode & 0o020 != 0 && metadata.gid() != 0 => Some("its group"),
        _ => None,
    };
    Ok(Contents { bytes: start(file)?, writable_by })
}

/// As much as rules may have and a byte more, so that what is too large is seen and not held.
fn start(from: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(rules::MAX_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
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

    use super::*;

    /// The answer, standard output and standard error.
    fn checked(file: &Path, json: bool) -> (bool, String, String) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let valid = check(&Args { file: file.to_owned(), json, deny_warnings: false }, &mut out, &mut err).unwrap();
        (valid, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
    }

    #[test]
    fn a_valid_file_is_one_line() {
        let (valid, out, err) = checked(Path::new("rules/minimal.yaml"), false);
        assert_eq!(
            (valid, out.as_str(), err.as_str()),
            (true, "rules/minimal.yaml: 1 listener, 1 rule, 1 test passed: valid\n", "")
        );
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
        assert!(!valid && err.starts_with("error: no/such.yaml cannot be read: "), "{err}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&out).unwrap()["valid"], json!(false));
        let (valid, out, _) = checked(Path::new("rules"), false);
        assert!(!valid && out.is_empty());
    }

    #[test]
    fn a_file_that_anybody_may_change_is_warned_of() {
        let file = std::env::temp_dir().join(format!("ftpgate-check-{}.yaml", std::process::id()));
        fs::copy("rules/minimal.yaml", &file).unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o666)).unwrap();
        let (valid, _, err) = checked(&file, false);
        fs::remove_file(&file).unwrap();
        assert!(valid && err.starts_with("warning: anybody"), "{err}");
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
        let args = Args { file: file.clone(), json: true, deny_warnings: true };
        let mut out = Vec::new();
        let valid = check(&args, &mut out, &mut Vec::new()).unwrap();
        fs::remove_file(&file).unwrap();
        let out: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert!(!valid && out["valid"] == json!(true) && out["warnings"][0]["path"] == "rules[0].inbound", "{out}");
    }
}
