//! `ftpgate check`: is the rules file right?

use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use serde::Serialize;

use super::{DONE, complain, no};
use crate::rules::{self, Mistake};

/// Check a rules file: 0 where it is valid, 1 and every mistake where it is not.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The rules file; `-` is standard input.
    file: PathBuf,
    /// For programs.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Checked<'a> {
    file: &'a str,
    valid: bool,
    mistakes: &'a [Mistake],
}

/// Checks.
///
/// # Errors
/// Where standard output is gone.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let name = args.file.display().to_string();
    let bytes = match read(&args.file) {
        Ok(bytes) => bytes,
        Err(error) => {
            complain(&format!("ftpgate: cannot read {name}: {error}"));
            return Ok(no());
        }
    };
    warn_if_open(&args.file);
    let read = rules::parse_bytes(&bytes, &name);
    let mut out = std::io::stdout().lock();
    if args.json {
        let mistakes = read.as_ref().err().map_or(&[][..], rules::Mistakes::list);
        serde_json::to_writer(&mut out, &Checked { file: &name, valid: read.is_ok(), mistakes })?;
        writeln!(out).context("cannot write")?;
    }
    match read {
        Ok(policy) => {
            if !args.json {
                let (listeners, rules) = (policy.listeners.len(), policy.rules.len());
                writeln!(out, "{name}: valid ({listeners} listeners, {rules} rules)").context("cannot write")?;
            }
            Ok(DONE)
        }
        Err(mistakes) => {
            if !args.json {
                complain(&mistakes.to_string());
            }
            Ok(no())
        }
    }
}

fn read(file: &Path) -> std::io::Result<Vec<u8>> {
    if file.as_os_str() != "-" {
        return std::fs::read(file);
    }
    let mut bytes = Vec::new();
    std::io::stdin().lock().read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Whoever can write the rules decides who gets in.
fn warn_if_open(file: &Path) {
    if std::fs::metadata(file).is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o002 != 0) {
        complain(&format!("warning: everybody can write {0}; run `chmod o-w {0}`", file.display()));
    }
}
