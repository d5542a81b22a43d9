//! `ftpgate explain`: which rule decides and why, and what becomes of each FTP line.

mod lines;
mod walk;

use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use serde::Serialize;

use super::{DONE, no, read};
use crate::addr::{ClientAddr, ServerAddr};
use crate::policy::{Decision, Listener, Policy, Source, Stand};

/// Say which rule decides for a client and a server, and what becomes of FTP lines between them.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The rules file.
    file: PathBuf,
    /// Where the client comes from.
    #[arg(long, value_name = "IP[:PORT]", value_parser = client)]
    client: SocketAddr,
    /// The server that it wants to reach.
    #[arg(long, value_name = "IP[:PORT]", value_parser = server)]
    server: SocketAddr,
    /// The listener that it comes to; the first that leads to the server, if left out.
    #[arg(long, value_name = "NAME")]
    listener: Option<String>,
    /// The user that it logs in as. No rule of this version asks for it.
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// The gate's own address, for lines where the rules file does not tell it.
    #[arg(long, value_name = "IP")]
    gate: Option<IpAddr>,
    /// For programs.
    #[arg(long)]
    json: bool,
    /// FTP lines: what the client says, or the server where a line begins with a code.
    #[arg(value_name = "LINE")]
    lines: Vec<String>,
}

/// Everything that was found out.
#[derive(Debug, Serialize)]
struct Explanation {
    client: String,
    server: String,
    listener: String,
    /// Each rule that was looked at, in order.
    rules: Vec<walk::Looked>,
    /// `allow` or `deny`.
    decision: &'static str,
    /// The rule that decided; none where no rule matches.
    rule: Option<String>,
    /// What the rule allows, in words.
    ports: Vec<String>,
    /// What becomes of each line.
    lines: Vec<lines::Said>,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

/// Explains.
///
/// # Errors
/// Where standard output is gone.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let policy = match read(&args.file) {
        Ok(policy) => policy,
        Err(why) => {
            super::complain(&why);
            return Ok(no());
        }
    };
    let Some(listener) = listener(&policy, args) else {
        super::complain(&format!(
            "ftpgate: {}; listeners: {}",
            args.listener.as_ref().map_or_else(
                || format!("no listener leads to {}", args.server),
                |name| format!("there is no listener `{name}`, or it does not lead to {}", args.server)
            ),
            policy.listeners.iter().map(|listener| listener.name.as_str()).collect::<Vec<_>>().join(", ")
        ));
        return Ok(no());
    };
    let explanation = explain(&policy, listener, args);
    let mut out = std::io::stdout().lock();
    if args.json {
        serde_json::to_writer_pretty(&mut out, &explanation)?;
        writeln!(out).context("cannot write")?;
    } else {
        write!(out, "{}", walk::text(&explanation)).context("cannot write")?;
    }
    let refused = explanation.lines.iter().any(|said| said.refused.is_some());
    Ok(if explanation.decision == "allow" && !refused { DONE } else { no() })
}

/// The listener that a client of this server comes to.
fn listener<'a>(policy: &'a Policy, args: &Args) -> Option<&'a Listener> {
    let leads = |listener: &&Listener| match listener.stand {
        Stand::Reverse { server } => server.socket() == args.server,
        Stand::Transparent { .. } => listener.bind.is_ipv6() == args.server.is_ipv6(),
    };
    let named = |listener: &&Listener| args.listener.as_ref().is_none_or(|name| *name == listener.name);
    policy.listeners.iter().filter(leads).find(named)
}

fn explain(policy: &Policy, listener: &Listener, args: &Args) -> Explanation {
    let (client, server) = (ClientAddr::new(args.client), ServerAddr::new(args.server));
    let rules = walk::rules(policy, client, server);
    let decision = policy.decide(client, server);
    let (ends, announced, example) = lines::ends(listener, client, server, args.gate);
    let (name, rule, lines) = match &decision {
        Decision::Allow(rule) => {
            ("allow", Some(rule), lines::follow(rule, policy.timeouts, ends, announced, &args.lines))
        }
        Decision::Deny(crate::policy::Denied::ByRule(rule)) => ("deny", Some(rule), Vec::new()),
        Decision::Deny(crate::policy::Denied::NoRule) => ("deny", None, Vec::new()),
    };
    let balancer = listener.proxies.contains(client.ip()).then(|| {
        let ip = client.ip();
        format!("{ip} is a balancer in `proxy_from`; give --client the one that its PROXY header names")
    });
    let made_up = || {
        (example && !lines.is_empty()).then(|| {
            format!("{announced} stands for the gate's own address, which the file does not tell; give --gate IP")
        })
    };
    Explanation {
        client: client.to_string(),
        server: server.to_string(),
        listener: listener.name.clone(),
        rules,
        decision: name,
        rule: rule.map(|rule| rule.name.clone()),
        ports: rule.filter(|_| name == "allow").map(|rule| walk::ports(rule)).unwrap_or_default(),
        note: balancer.or_else(made_up),
        lines,
    }
}

/// Whether the server sees the client's own address.
const fn as_client(listener: &Listener) -> bool {
    matches!(listener.stand, Stand::Transparent { source: Source::Client, .. })
}

fn client(text: &str) -> Result<SocketAddr, String> {
    address(text, 50_000)
}

fn server(text: &str) -> Result<SocketAddr, String> {
    address(text, 21)
}

fn address(text: &str, port: u16) -> Result<SocketAddr, String> {
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    text.parse()
        .or_else(|_| bare.parse().map(|ip: IpAddr| SocketAddr::new(ip, port)))
        .map_err(|_| "write an address like 192.0.2.7, 192.0.2.7:21 or [2001:db8::7]:21".to_owned())
}
