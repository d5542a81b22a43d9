//! `ftpgate schema`: the JSON Schema of the rules file, for editors.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Context as _;

/// Print the JSON Schema of the rules file.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Prints.
///
/// # Errors
/// Where standard output is gone.
pub fn run(_: &Args) -> anyhow::Result<ExitCode> {
    std::io::stdout().lock().write_all(crate::rules::json_schema().as_bytes()).context("cannot write")?;
    Ok(super::DONE)
}
