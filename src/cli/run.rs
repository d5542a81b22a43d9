//! `ftpgate run`: serve.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use tracing::Level;

use super::sandbox::{Sandbox, User};
use super::trust::Trusted;
use super::{DONE, complain, not_started, read_trusted};
use crate::interception::Otherwise;
use crate::net;
use crate::policy::Policy;
use crate::report::{self, LogFormat};
use crate::server::{Gate, Intercept};

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
    /// Become this user, and keep only the capabilities that serving needs. For a start as root; the systemd unit does
    /// not need it.
    #[arg(long, value_name = "NAME|UID:GID")]
    user: Option<String>,
    /// Hand connections to the transparent listeners: do what `ftpgate intercept` prints, and do it again when it is gone.
    #[arg(long)]
    intercept: bool,
    /// If the gate is down, let clients reach the servers directly, unchecked (with `redirect` not after a crash).
    #[arg(long)]
    fail_open: bool,
    /// Do not restrict system calls and files, and allow debuggers and core dumps: for strace, gdb, perf.
    #[arg(long)]
    no_sandbox: bool,
}

/// Serves until the gate is told to end.
///
/// # Errors
/// Where the runtime cannot be had. A gate that cannot start says so itself.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    net::close_inherited();
    let (policy, trusted) = match prepare(&args) {
        Ok(prepared) => prepared,
        Err(why) => {
            complain(&why);
            return Ok(not_started());
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the threads that the gate runs on cannot be started")?;
    runtime.block_on(async {
        let file = args.file;
        let otherwise = if args.fail_open { Otherwise::Open } else { Otherwise::Closed };
        let intercept = Intercept { load: args.intercept, otherwise, rules_file: file.clone() };
        Ok(match Gate::start(policy, intercept) {
            Ok(gate) => {
                gate.run(Arc::new(move || read_trusted(&file, &trusted))).await;
                DONE
            }
            Err(why) => {
                complain(&format!("ftpgate: cannot start: {why}"));
                not_started()
            }
        })
    })
}

/// Reads the rules, gives up what serving does not need, and opens the log. No thread may have been started yet: it would
/// keep its privileges.
fn prepare(args: &Args) -> Result<(Policy, Trusted), String> {
    let user = args.user.as_deref().map(User::find).transpose().map_err(|why| format!("ftpgate: --user: {why}"))?;
    let mut trusted = Trusted::of_this_process();
    if let Some(user) = &user {
        trusted = trusted.and(user.uid(), user.gid());
    }
    let policy = read_trusted(&args.file, &trusted)?;
    let sandbox = Sandbox { user: user.as_ref(), restrict: !args.no_sandbox, rules_file: &args.file };
    let entered = sandbox.enter().map_err(|error| error.to_string())?;
    let level = args.log_level.parse().unwrap_or(Level::INFO);
    report::init(args.log_format, level).map_err(|error| format!("ftpgate: no thread for the log: {error}"))?;
    entered.report();
    Ok((policy, trusted))
}
