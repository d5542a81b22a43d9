//! `ftpgate schema`: the JSON Schema of the rules file.

use std::io::{self, Write as _};
use std::process::ExitCode;

use anyhow::Context as _;

use crate::rules;

/// Print the JSON Schema of the rules file, for editors that check YAML as it is written.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Prints it.
///
/// # Errors
///
/// Standard output takes no more.
pub fn run(Args {}: Args) -> anyhow::Result<ExitCode> {
    io::stdout().write_all(rules::json_schema().as_bytes()).context("the schema could not be printed")?;
    Ok(ExitCode::SUCCESS)
}
