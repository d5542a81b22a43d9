//! Clients that know nothing of the gate, with libraries of their own: rclone (Go, several sessions at a time) and Ruby's
//! Net::FTP, by every way to intercept them.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use crate::lab::gate::{Datapath, Gate, Listener};
use crate::lab::job::{Job, tail};
use crate::lab::net::Net;
use crate::lab::scratch::Scratch;
use crate::lab::server::{PASSWORD, Server, USER};
use crate::lab::{Family, goods, unpacked};

const PATIENCE: Duration = Duration::from_secs(60);
const WAYS: [Listener; 3] = [Listener::Redirect, Listener::Tproxy, Listener::ClientSource];

/// Copies a folder each way and compares every byte.
const RCLONE: &str = r#"
rclone() { "$RCLONE" --config "$HOME/none" --cache-dir "$HOME" --retries 1 --low-level-retries 1 "$@"; }
at=":ftp,host='$1',user='$2',pass='$(rclone obscure "$3")',concurrency=6:"
rclone copy "${at}shelf" in
rclone check --download "${at}shelf" in
rclone copy out "${at}inbox"
rclone check --download --one-way out "${at}inbox"
rclone lsl "${at}inbox"
rclone delete "${at}inbox/small"
"#;

/// Runs a client with this command line in a lab of its own; `by`: through the gate.
fn visit(
    by: Option<(Listener, Datapath)>,
    family: Family,
    words: &[&str],
    environment: &[(&str, String)],
) -> Result<(), String> {
    let net = Net::new().unwrap();
    let server = Server::Vsftpd.or_without_users().start(&net.server, family).unwrap();
    let gate = by.map(|(listener, datapath)| {
        net.close().unwrap();
        Gate::start(&net, listener, datapath, family).unwrap()
    });
    let folder = Scratch::new("hidden").unwrap();
    goods::stock_client(folder.path()).unwrap();
    let log = folder.join("log");
    let mut job = Job::start(&net.client, &log, words, |command| {
        command.current_dir(folder.path()).env("HOME", folder.join("home")).envs(environment.iter().cloned());
    })
    .unwrap();
    let status = job.wait(PATIENCE);
    let said = gate.as_ref().map(Gate::log).unwrap_or_default();
    if let Some((_, datapath)) = by
        && !said.contains(&format!("datapath=\"{datapath}\""))
    {
        return Err(format!("not by the {datapath}\n{}\n{said}", tail(&log)));
    }
    match status {
        Some(status) if status.success() => Ok(()),
        other => Err(format!("{other:?}\n{}\n--- server\n{}\n--- gate\n{said}", tail(&log), server.tail())),
    }
}

/// Direct, then by every way.
#[track_caller]
fn works(family: Family, words: &[&str], environment: &[(&str, String)]) {
    let attempt = |by| visit(by, family, words, environment);
    attempt(None).or_else(|_| attempt(None)).unwrap_or_else(|fault| panic!("direct: {fault}"));
    for listener in WAYS {
        for datapath in Datapath::ALL {
            let Err(fault) = attempt(Some((listener, datapath))) else { continue };
            // Some fail direct too, now and then, when the machine has much to do.
            assert!((0..3).any(|_| attempt(None).is_err()), "{listener}/{datapath}: {fault}");
        }
    }
}

/// A program that `tests/lab/packages` brings.
#[track_caller]
fn brought(program: &str) -> String {
    let program = unpacked().join("usr/bin").join(program);
    assert!(program.exists(), "{} is not here; run tests/lab/packages", program.display());
    program.to_str().unwrap().to_owned()
}

#[test]
fn rclone_copies_both_ways() {
    for family in [Family::V4, Family::V6] {
        let host = match Net::server_address(family) {
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => format!("[{ip}]"),
        };
        works(
            family,
            &["sh", "-euc", RCLONE, "sh", &host, USER, PASSWORD],
            &[("RCLONE", brought("rclone")), ("TMPDIR", "/tmp".to_owned())],
        );
    }
}

#[test]
fn ruby_fetches_and_stores_in_both_modes() {
    if !unpacked().join("usr/bin/ruby3.1").exists() {
        return println!("left out: this release of Debian has no ruby3.1");
    }
    let ruby = brought("ruby3.1");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/paths/net_ftp.rb");
    let machine = format!("{}-linux-gnu", std::env::consts::ARCH);
    let at = |path: &str| unpacked().join(path).to_str().unwrap().to_owned();
    let library = [
        at("usr/lib/ruby/gems/3.1.0/gems/net-ftp-0.1.3/lib"),
        at("usr/lib/ruby/3.1.0"),
        at(&format!("usr/lib/{machine}/ruby/3.1.0")),
    ];
    let environment = [("RUBYLIB", library.join(":")), ("LD_LIBRARY_PATH", at(&format!("usr/lib/{machine}")))];
    for mode in ["passive", "active"] {
        let host = Net::server_address(Family::V4).to_string();
        works(
            Family::V4,
            &[&ruby, "--disable-gems", script.to_str().unwrap(), &host, USER, PASSWORD, mode],
            &environment,
        );
    }
}
