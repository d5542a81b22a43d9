//! `ftpgate demo`: a gate in front of an FTP server of its own, to try with any client.

mod commands;
mod server;

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::SocketAddr;
use std::process::ExitCode;

use anyhow::Context as _;
use tracing::Level;

use super::{DONE, not_started};
use crate::policy::Policy;
use crate::report::{self, LogFormat};
use crate::server::{Gate, Intercept};

/// Run a gate in front of an FTP server of its own, to try with any client.
///
/// The server announces an address that nobody can reach, as a server behind NAT does. Each line that the gate
/// rewrites is shown as it happens.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The port on 127.0.0.1 that the gate listens on; 0 for any free one.
    #[arg(long, default_value = "2121")]
    port: u16,
    /// The form of log lines, which go to standard error.
    #[arg(long, value_enum, default_value = "text")]
    log_format: LogFormat,
}

/// Runs until it is told to end.
///
/// # Errors
/// Where the runtime or the server's port cannot be had.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    report::init(args.log_format, Level::DEBUG).context("no thread for the log")?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the threads that the gate runs on cannot be started")?;
    runtime.block_on(async {
        let server = server::start().await.context("the demo's FTP server cannot listen on 127.0.0.1")?;
        let rules = rules(if args.port == 0 { free_port().context("no port is free")? } else { args.port }, server);
        let policy = crate::rules::parse(&rules, "demo").map_err(|mistakes| anyhow::anyhow!("{mistakes}"))?;
        let gate = match Gate::start(policy, Intercept::default()) {
            Ok(gate) => gate,
            Err(why) => {
                super::complain(&format!("ftpgate: cannot start: {why}; or choose another with --port"));
                return Ok(not_started());
            }
        };
        let at = gate.addresses().first().copied().context("the gate listens nowhere")?;
        let mut out = std::io::stdout().lock();
        write!(out, "{}", introduction(at, &rules)).and_then(|()| out.flush()).context("cannot write")?;
        drop(out);
        let reread = move || -> Result<Policy, String> {
            crate::rules::parse(&rules, "demo").map_err(|mistakes| mistakes.to_string())
        };
        gate.run(std::sync::Arc::new(reread)).await;
        Ok(DONE)
    })
}

/// A port that is free now.
fn free_port() -> std::io::Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn rules(port: u16, server: SocketAddr) -> String {
    format!(
        "version: 1\n\
         listeners:\n  - name: demo\n    bind: \"127.0.0.1:{port}\"\n    server: \"{server}\"\n\
         rules:\n  - name: demo\n    from: \"127.0.0.0/8\"\n    to: any\n    action: allow\n    \
         datapath: relay\n    inbound: \"10001-10050\"\n    outbound: \"20000-20049\"\n"
    )
}

/// What the person at the terminal reads first.
fn introduction(gate: SocketAddr, rules: &str) -> String {
    let mut text = String::from("These rules hold:\n\n");
    for line in rules.lines() {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "    {line}");
    }
    let port = gate.port();
    let _ = write!(
        text,
        "\nThe server behind the gate says in its 227 that it is at {}, which nobody can reach.\n\
         Try, from another terminal (any user and password will do):\n\n    \
         curl --disable-epsv --no-ftp-skip-pasv-ip -u me:secret ftp://127.0.0.1:{port}/hello.txt\n    \
         lftp -e 'set ftp:prefer-epsv no; set ftp:ssl-allow no; ls; cat hello.txt; bye' -u me,secret ftp://127.0.0.1:{port}\n\n\
         For active mode give curl `--ftp-port -`, and lftp `set ftp:passive-mode off;`.\n\
         Every line that is rewritten shows below. Ctrl-C ends.\n\n",
        server::UNREACHABLE
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::{PortRange, PortRanges};

    #[test]
    fn the_rules_of_the_demo_cause_no_doubts() {
        let text = rules(2121, "127.0.0.1:2122".parse().unwrap());
        let policy = crate::rules::parse(&text, "demo").unwrap();
        let linux = PortRanges::new(PortRange::new(32_768, 60_999).into_iter().collect());
        assert_eq!(policy.doubts(linux.as_ref()), []);
    }
}
