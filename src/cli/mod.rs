//! The command line: one file for each subcommand.

pub mod check;
pub mod demo;
pub mod explain;
pub mod intercept;
pub mod openings;
mod rules_file;
pub mod run;
mod sandbox;
pub mod schema;
mod trust;

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;

use crate::policy::Policy;
use crate::report;
use crate::rules::RulesFile;
use trust::Trusted;

/// Done.
pub(crate) const DONE: ExitCode = ExitCode::SUCCESS;

/// An FTP-aware firewall and NAT proxy.
#[derive(Debug, Parser)]
#[command(version, about, max_term_width = 100)]
enum Command {
    Run(run::Args),
    Check(check::Args),
    Explain(explain::Args),
    Intercept(intercept::Args),
    Openings(openings::Args),
    Demo(demo::Args),
    Schema(schema::Args),
}

/// Parses the command line, does what it says and tells how it went: 0 done, 1 the answer is no, 2 wrong usage,
/// 3 could not start.
#[must_use]
pub fn main() -> ExitCode {
    let done = match Command::parse() {
        Command::Run(args) => run::run(args),
        Command::Check(args) => check::run(args),
        Command::Demo(args) => demo::run(&args),
        Command::Schema(args) => schema::run(args),
        Command::Explain(args) => explain::run(&args),
        Command::Intercept(args) => intercept::run(&args),
        Command::Openings(args) => openings::run(&args),
    };
    let code = done.unwrap_or_else(|error| {
        complain(&format!("ftpgate: {error:#}"));
        not_started()
    });
    report::flush();
    code
}

/// The exit code where the answer is no: wrong rules, denied.
pub(crate) fn no() -> ExitCode {
    ExitCode::from(1)
}

/// The exit code of a gate that could not start.
pub(crate) fn not_started() -> ExitCode {
    ExitCode::from(3)
}

/// Reads a rules file and runs its tests; the text says what is wrong with it.
pub(crate) fn read(file: &Path) -> Result<Policy, String> {
    parse(&contents(file)?, &file.display().to_string())
}

/// Reads what is in a rules file and runs its tests; the text says what is wrong with it.
pub(crate) fn parse(bytes: &[u8], name: &str) -> Result<Policy, String> {
    let written = crate::rules::written_bytes(bytes, name).map_err(|mistakes| mistakes.to_string())?;
    match check::failed_tests(&written) {
        Some(mistakes) => Err(mistakes.to_string()),
        None => Ok(written.policy),
    }
}

/// Reads a rules file whose tests may fail, for those who look for the reason.
pub(crate) fn read_untested(file: &Path) -> Result<RulesFile, String> {
    let name = file.display().to_string();
    crate::rules::written_bytes(&contents(file)?, &name).map_err(|mistakes| mistakes.to_string())
}

/// Reads a rules file that nobody but `trusted` can change, and runs its tests; the text says what is wrong with it.
pub(crate) fn read_trusted(file: &Path, trusted: &Trusted) -> Result<Policy, String> {
    let bytes = rules_file::read_trusted(file, trusted).map_err(|error| error.to_string())?;
    parse(&bytes, &file.display().to_string())
}

fn contents(file: &Path) -> Result<Vec<u8>, String> {
    rules_file::read(file).map_err(|error| error.to_string())
}

/// Says on standard error what went wrong. That standard error is gone is nobody's fault.
pub(crate) fn complain(what: &str) {
    // After what was logged before it.
    report::flush();
    let _lost = writeln!(std::io::stderr().lock(), "{what}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_whose_tests_fail_can_be_explained_and_not_loaded() {
        let file = std::env::temp_dir().join(format!("ftpgate-read-{}.yaml", std::process::id()));
        let text = "version: 1\n\
            listeners: [{ name: a, bind: \"127.0.0.1:21\", server: \"10.0.2.2\" }]\n\
            rules: [{ name: b, from: any, to: any, action: allow, inbound: any }]\n\
            tests: [{ client: 192.0.2.7, expect: deny }]\n";
        std::fs::write(&file, text).unwrap();
        let (read, untested) = (read(&file), read_untested(&file));
        std::fs::remove_file(&file).unwrap();
        assert!(read.is_err_and(|why| why.contains("this test expects `deny`")));
        assert_eq!(untested.map(|written| written.cases.len()), Ok(1));
    }
}
