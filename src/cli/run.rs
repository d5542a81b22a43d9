//! `ftpgate run`: serve.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use tracing::Level;

use super::trust::Trusted;
use super::{DONE, not_started, privileges, read_trusted};
use crate::report::{self, LogFormat};
use crate::server::Gate;

/// Serve. SIGHUP reloads the rules, SIGTERM lets transfers end and leaves.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The rules file.
    file: PathBuf,
    /// The form of log lines, which go to standard error.
    #[arg(long, value_enum, default_value = "text")]
    log_format: LogFormat,
    /// The least important lines to log; `debug` shows each rewritten line.
    #[arg(long, default_value = "info", value_parser = ["error", "warn", "info", "debug", "trace"])]
    log_level: String,
}

/// Serves until the gate is told to end.
///
/// # Errors
/// Where the runtime cannot be had. A gate that cannot start says so itself.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    report::init(args.log_format, args.log_level.parse().unwrap_or(Level::INFO));
    let trusted = Trusted::of_this_process();
    let policy = match read_trusted(&args.file, &trusted) {
        Ok(policy) => policy,
        Err(why) => {
            super::complain(&why);
            return Ok(not_started());
        }
    };
    // Before there are other threads, which would keep theirs.
    if let Err(error) = privileges::give_up() {
        report::system("privileges that are not needed cannot be given up", &error);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the threads that the gate runs on cannot be started")?;
    runtime.block_on(async {
        let file = args.file;
        Ok(match Gate::start(policy) {
            Ok(gate) => {
                gate.run(Arc::new(move || read_trusted(&file, &trusted))).await;
                DONE
            }
            Err(why) => {
                super::complain(&format!("ftpgate: cannot start: {why}"));
                not_started()
            }
        })
    })
}
