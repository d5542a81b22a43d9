//! `ftpgate openings FILE`: what must be open on the firewalls around the gate.
//!
//! It is derived from the policy that decides, once; each form has a file of its own.

pub mod addresses;
mod asa;
mod aws;
mod csv;
pub mod derive;
mod iptables;
mod json;
mod nftables;
mod notes;
pub mod opening;
mod pf;
mod reach;
mod table;
#[cfg(test)]
mod tests;
mod words;

use std::io::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::ValueEnum;

use crate::addr::Side;
use crate::policy::Policy;
use derive::{Told, derive};
use opening::Openings;

/// Print what must be open on the firewalls between clients and gate and between gate and servers.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The rules file; `-` for standard input.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// As what to print it.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// Only for the firewall between clients and gate, or between gate and servers.
    #[arg(long, value_enum)]
    side: Option<At>,
    /// The gate's own address on the clients' side, for listeners that are bound to every address. May be repeated.
    #[arg(long, value_name = "IP", value_parser = address)]
    gate_client_side: Vec<IpAddr>,
    /// The gate's own address on the servers' side. May be repeated; with none of a family, explicit listeners are taken
    /// not to reach servers of that family.
    #[arg(long, value_name = "IP", value_parser = address)]
    gate_server_side: Vec<IpAddr>,
    /// A name server of the gate's, for explicit listeners and names to advertise. May be repeated.
    #[arg(long, value_name = "IP", value_parser = address)]
    name_server: Vec<IpAddr>,
}

/// A form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people, with a sentence for each line.
    Table,
    /// nft -f
    Nftables,
    /// iptables-restore and ip6tables-restore
    Iptables,
    /// OpenBSD's and FreeBSD's
    Pf,
    /// Cisco ASA access lists
    Asa,
    /// The gate's security group: `ingress` and `egress`, each for --ip-permissions
    Aws,
    /// For a spreadsheet
    Csv,
    /// For programs
    Json,
}

/// A firewall.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum At {
    /// Between clients and gate.
    Client,
    /// Between gate and servers.
    Server,
}

/// Prints it.
///
/// # Errors
/// Where standard output is gone.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let policy = match read(&args.file) {
        Ok(policy) => policy,
        Err(why) => {
            super::complain(&why);
            return Ok(super::no());
        }
    };
    let told = Told {
        client_side: args.gate_client_side.clone(),
        server_side: args.gate_server_side.clone(),
        name_servers: args.name_server.clone(),
    };
    let mut openings = derive(&policy, &told);
    if let Some(at) = args.side {
        let side = match at {
            At::Client => Side::Client,
            At::Server => Side::Server,
        };
        openings.lines.retain(|line| line.side == side);
    }
    for remark in remarks(&openings, args.format) {
        super::complain(&format!("note: {remark}"));
    }
    std::io::stdout().lock().write_all(text(&openings, args.format).as_bytes()).context("cannot write")?;
    Ok(super::DONE)
}

/// The openings in one form.
#[must_use]
pub fn text(openings: &Openings, format: Format) -> String {
    match format {
        Format::Table => table::text(openings),
        Format::Nftables => nftables::text(openings),
        Format::Iptables => iptables::text(openings),
        Format::Pf => pf::text(openings),
        Format::Asa => asa::text(openings),
        Format::Aws => aws::text(openings),
        Format::Csv => csv::text(openings),
        Format::Json => json::text(openings),
    }
}

/// What has no place in a form that has no comments.
fn remarks(openings: &Openings, format: Format) -> Vec<String> {
    match format {
        Format::Aws => aws::remarks(openings),
        Format::Csv => words::remarks(openings),
        Format::Table | Format::Nftables | Format::Iptables | Format::Pf | Format::Asa | Format::Json => Vec::new(),
    }
}

fn read(file: &Path) -> Result<Policy, String> {
    if file != Path::new("-") {
        return super::read(file);
    }
    let bytes = super::rules_file::read_stdin();
    let bytes = bytes.map_err(|error| format!("ftpgate: cannot read standard input: {error}"))?;
    super::parse(&bytes, "<stdin>")
}

fn address(text: &str) -> Result<IpAddr, String> {
    let ip: Option<IpAddr> = text.parse().ok();
    ip.map(|ip| ip.to_canonical())
        .filter(|ip| !ip.is_unspecified() && !ip.is_multicast())
        .ok_or_else(|| "write an address of one machine, like 10.0.1.1 or 2001:db8:1::1".to_owned())
}
