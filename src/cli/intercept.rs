//! `ftpgate intercept FILE`: the commands that hand connections to transparent listeners.
//!
//! They are printed, not run: the machine's firewall belongs to its operator, who reads them first.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;

use crate::interception::{Interception, Otherwise, script, undo};

/// Print the nftables and routing commands that hand connections to the transparent listeners.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The rules file
    #[arg(required_unless_present = "undo")]
    pub file: Option<PathBuf>,
    /// Print the commands that undo it instead
    #[arg(long)]
    pub undo: bool,
    /// If the gate is down, let clients reach the servers directly, unchecked (with `redirect` only after `--undo`)
    #[arg(long, conflicts_with = "undo")]
    pub fail_open: bool,
}

/// Prints the script.
///
/// # Errors
/// Where standard output is gone.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let text = match &args.file {
        Some(file) if !args.undo => match super::read(file) {
            Ok(policy) => {
                let otherwise = if args.fail_open { Otherwise::Open } else { Otherwise::Closed };
                script(Interception::of(&policy, otherwise).as_ref(), &policy)
            }
            Err(why) => {
                super::complain(&why);
                return Ok(super::no());
            }
        },
        _ => undo(),
    };
    std::io::stdout().lock().write_all(text.as_bytes()).context("cannot write")?;
    Ok(super::DONE)
}
