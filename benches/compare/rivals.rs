//! The other proxies, each set up for speed by its own manual: `benches/compare/run` brings them.

use std::path::Path;
use std::time::Duration;

use super::ftp_server::{DATA_PORTS, PROXY_PORTS};
use super::lab::job::{Job, tail};
use super::lab::net::Net;
use super::lab::scratch::Scratch;
use super::lab::server::PROFTPD_ALONE;
use super::lab::{Fault, poll, unpacked};

/// Sessions that are asked of mod_proxy at most: each is a process of some MiB.
pub const MOD_PROXY_SESSIONS: usize = 200;
/// Sessions that are asked of ftp-proxy at most: it takes 512, those that are about to end among them.
pub const FTP_PROXY_SESSIONS: usize = 400;

/// HAProxy, which splices control connections and those to each passive port alike.
pub fn haproxy(net: &Net, folder: &Scratch) -> Result<Job, Fault> {
    let config = format!(
        "global
 nbthread 2
 maxconn 7500
defaults
 mode tcp
 option splice-auto
 timeout connect 10s
 timeout client 10m
 timeout server 10m
listen control
 bind 10.1.0.1:21 backlog 16384
 server s 10.2.0.2:21
listen data
 bind 10.1.0.1:{}-{}
 server s 10.2.0.2
",
        DATA_PORTS.start(),
        DATA_PORTS.end()
    );
    let file = folder.join("haproxy.cfg");
    std::fs::write(&file, config)?;
    start(net, folder, "usr/sbin/haproxy", &["-db", "-f"], &file)
}

/// ProFTPD with mod_proxy, as a reverse proxy.
pub fn mod_proxy(net: &Net, folder: &Scratch) -> Result<Job, Fault> {
    let (root, dir) = (unpacked(), folder.path().display().to_string());
    let config = format!(
        "ServerName compare
ServerType standalone
DefaultAddress 10.1.0.1
DefaultServer on
UseIPv6 off
Port 21
SocketBindTight on
TCPBacklog 255
MaxInstances none
ModulePath {root}/usr/lib/proftpd
LoadModule mod_tls.c
LoadModule mod_proxy.c
PidFile {dir}/pid
ScoreboardFile {dir}/scoreboard
{PROFTPD_ALONE}PassivePorts {} {}
TimeoutIdle 0
TimeoutLogin 0
TimeoutNoTransfer 0
ProxyEngine on
ProxyRole reverse
ProxyTables {dir}/tables
ProxyReverseServers ftp://10.2.0.2:21
ProxyReverseConnectPolicy RoundRobin
",
        PROXY_PORTS.start(),
        PROXY_PORTS.end(),
        root = root.display()
    );
    std::fs::create_dir(folder.join("tables"))?;
    let file = folder.join("proftpd.conf");
    std::fs::write(&file, config)?;
    start(net, folder, "usr/sbin/proftpd", &["--nodaemon", "--config"], &file)
}

/// SUSE's ftp-proxy.
pub fn ftp_proxy(net: &Net, folder: &Scratch) -> Result<Job, Fault> {
    let dir = folder.path().display();
    let config = format!(
        "[-Global-]
ServerType standalone
Listen 10.1.0.1
Port 21
DestinationAddress 10.2.0.2
DestinationPort 21
ForkLimit 1000000
MaxClients 512
TimeOut 3600
LogLevel FLT
LogDestination {dir}/ftp-proxy.log
PidFile {dir}/pid
TCPWrapper no
"
    );
    let file = folder.join("ftp-proxy.conf");
    std::fs::write(&file, config)?;
    start(net, folder, "usr/sbin/ftp-proxy", &["-n", "-f"], &file)
}

/// Starts a program of the lab with its file, and waits until it listens.
fn start(net: &Net, folder: &Scratch, program: &str, options: &[&str], file: &Path) -> Result<Job, Fault> {
    let program = unpacked().join(program);
    if !program.exists() {
        return Err(format!("no {}: benches/compare/run brings it", program.display()).into());
    }
    let libraries = unpacked().join(format!("usr/lib/{}-linux-gnu", std::env::consts::ARCH));
    let log = folder.join("log");
    let not_text = "a path is not text";
    let mut words = vec![program.to_str().ok_or(not_text)?];
    words.extend(options);
    words.push(file.to_str().ok_or(not_text)?);
    let mut job = Job::start(&net.gate, &log, &words, |command| {
        command.env("LD_LIBRARY_PATH", libraries);
    })?;
    match poll(Duration::from_secs(10), || (net.gate.listens_on(21) || job.has_ended()).then_some(())) {
        Some(()) if !job.has_ended() => Ok(job),
        _ => Err(format!("{} does not listen:\n{}", program.display(), tail(&log)).into()),
    }
}
