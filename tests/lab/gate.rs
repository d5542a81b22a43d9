//! The program under test, on the router between clients and servers.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;

use super::job::{Job, tail};
use super::net::{Net, PATH};
use super::scratch::Scratch;
use super::{Family, Fault, Leg, poll};

/// How the gate comes between: by its own address, or by nftables on the way to the server's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Listener {
    Reverse,
    Tproxy,
    Redirect,
    /// Tproxy, and the server sees the client's address.
    ClientSource,
}

/// Who moves the bytes of data connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Datapath {
    Relay,
    Kernel,
}

/// A running gate; it ends when dropped.
pub struct Gate {
    job: Job,
    folder: Scratch,
}

impl Listener {
    pub const ALL: [Self; 4] = [Self::Reverse, Self::Tproxy, Self::Redirect, Self::ClientSource];

    /// Where a client finds the server.
    pub fn server_as_seen(self, family: Family) -> IpAddr {
        match self {
            Self::Reverse => Net::gate_address(family),
            Self::Tproxy | Self::Redirect | Self::ClientSource => Net::server_address(family),
        }
    }

    fn port(self) -> u16 {
        if self == Self::Reverse { 21 } else { 2121 }
    }

    /// The `listeners` of a rules file.
    fn yaml(self, family: Family) -> String {
        let transparent = |kind: &str| {
            let one = |name: &str, bind: &str| format!("  - name: {name}\n    bind: \"{bind}:2121\"\n    {kind}\n");
            one("lan4", "0.0.0.0") + &one("lan6", "[::]")
        };
        match self {
            Self::Reverse => reverse(family, family),
            Self::Tproxy => transparent("transparent: tproxy"),
            Self::Redirect => transparent("transparent: redirect"),
            Self::ClientSource => transparent("transparent: tproxy\n    source: client"),
        }
    }
}

/// A listener of one family for a server of the same or the other.
fn reverse(front: Family, back: Family) -> String {
    let bind = SocketAddr::new(Net::gate_address(front), 21);
    let server = SocketAddr::new(Net::server_address(back), 21);
    format!("  - name: front\n    bind: \"{bind}\"\n    server: \"{server}\"\n")
}

/// Clients may reach servers in both modes, within ranges that the test can tell apart.
const RULES: &str = r#"rules:
  - name: lab
    from: ["10.1.0.0/24", "2001:db8:1::/64"]
    to: ["10.2.0.0/24", "2001:db8:2::/64"]
    action: allow
    inbound:
      gate_ports: "10001-10020"
    outbound:
      gate_ports: "40000-40099"
      source_port: 20
"#;

impl Datapath {
    pub const ALL: [Self; 2] = [Self::Relay, Self::Kernel];
}

impl Gate {
    /// Starts the gate with the lab's usual rules, intercepts where the listener wants it, and
    /// waits until it listens.
    pub fn start(net: &Net, listener: Listener, datapath: Datapath, family: Family) -> Result<Self, Fault> {
        let rules = format!("version: 1\n\nlisteners:\n{}\n{RULES}    datapath: {datapath}\n", listener.yaml(family));
        Self::start_with(net, &rules, listener.port())
    }

    /// A gate at an address of the client's family, in front of a server that is asked in a mode of its own.
    pub fn bridge(net: &Net, ours: Leg, theirs: Leg) -> Result<Self, Fault> {
        let mode = if ours.mode == theirs.mode { "same".to_owned() } else { theirs.mode.to_string() };
        let listener = reverse(ours.family, theirs.family);
        let rules = format!("version: 1\n\nlisteners:\n{listener}\n{RULES}    server_mode: {mode}\n");
        Self::start_with(net, &rules, Listener::Reverse.port())
    }

    /// Starts the gate with a rules file of the test's own and waits until it listens on `port`.
    pub fn start_with(net: &Net, rules: &str, port: u16) -> Result<Self, Fault> {
        Self::start_in_place(net, rules, port, &[])
    }

    /// The same with files of the test's own in place of the system's: each with the path that it is seen at.
    pub fn start_in_place(net: &Net, rules: &str, port: u16, files: &[(&Path, &str)]) -> Result<Self, Fault> {
        Self::launch(net, rules, port, files, [&[], &[]])
    }

    /// The same by a program, with its arguments, that runs it.
    pub fn start_by(net: &Net, rules: &str, port: u16, files: &[(&Path, &str)], by: &[&str]) -> Result<Self, Fault> {
        Self::launch(net, rules, port, files, [by, &[]])
    }

    /// The same with more words for `run`; where they have `--intercept` it is left to the gate.
    pub fn start_as(net: &Net, rules: &str, port: u16, files: &[(&Path, &str)], words: &[&str]) -> Result<Self, Fault> {
        Self::launch(net, rules, port, files, [&[], words])
    }

    fn launch(
        net: &Net,
        rules: &str,
        port: u16,
        files: &[(&Path, &str)],
        [by, words]: [&[&str]; 2],
    ) -> Result<Self, Fault> {
        let folder = Scratch::new("gate")?;
        let (file, log) = (folder.join("rules.yaml"), folder.join("log"));
        std::fs::write(&file, rules)?;
        if rules.contains("transparent:") && !words.contains(&"--intercept") {
            intercept(net, &file)?;
        }
        let program = program();
        let program = program.to_str().ok_or("the gate's path is not text")?;
        let file = file.to_str().ok_or("the temporary folder's name is not text")?;
        let binds: String = files.iter().map(|(own, at)| format!("mount --bind {} {at}\n", own.display())).collect();
        let script = format!("{binds}exec \"$@\"");
        // One that was killed a moment ago may not have ended.
        poll(Duration::from_secs(5), || (!net.gate.listens_on(port)).then_some(()));
        let run = [&["sh", "-euc", &script, "sh"], by, &[program, "run", file], words].concat();
        let mut job = Job::start(&net.gate, &log, &run, |_| ())?;
        let listens = poll(Duration::from_secs(10), || {
            // It looks about itself before it says that it is ready.
            let is_ready = || std::fs::read_to_string(&log).is_ok_and(|said| said.contains("event=\"ready\""));
            if net.gate.listens_on(port) && is_ready() { Some(true) } else { job.has_ended().then_some(false) }
        });
        match listens {
            Some(true) => Ok(Self { job, folder }),
            Some(false) => Err(format!("the gate ended at once:\n{}", tail(&log)).into()),
            None => Err(format!("the gate does not listen on port {port}:\n{}", tail(&log)).into()),
        }
    }

    /// It stands still, and does nothing that was not done before.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// Gives it a new rules file and has it read.
    pub fn reload(&self, rules: &str) {
        std::fs::write(self.folder.join("rules.yaml"), rules).expect("the rules file can be written");
        self.signal(Signal::HUP);
    }

    pub fn signal(&self, signal: Signal) {
        self.job.signal(signal).expect("the gate runs");
    }

    /// What `ftpgate intercept` prints for its rules.
    pub fn intercept_script(&self) -> String {
        let file = self.folder.join("rules.yaml");
        let output = Command::new(program()).arg("intercept").arg(file).output().expect("the program is there");
        String::from_utf8(output.stdout).expect("the script is text")
    }

    /// The number of its process.
    pub fn process(&self) -> i32 {
        self.job.process().expect("the gate runs")
    }

    /// Waits for its end.
    pub fn ends(&mut self) -> bool {
        self.job.wait(Duration::from_secs(10)).is_some()
    }

    /// Everything that the gate wrote. It writes a moment later than it acts.
    pub fn log(&self) -> String {
        let read = || std::fs::read_to_string(self.folder.join("log")).unwrap_or_default();
        let mut log = read();
        loop {
            std::thread::sleep(Duration::from_millis(10));
            let now = read();
            if now.len() == log.len() {
                return now;
            }
            log = now;
        }
    }

    /// Its last lines, behind all in which it complained.
    pub fn tail(&self) -> String {
        let log = self.log();
        let complaints = log.lines().filter(|line| line.contains(" WARN ") || line.contains(" ERROR "));
        complaints.chain(["...", &self.job.tail()]).collect::<Vec<_>>().join("\n")
    }
}

/// The gate to test: another build where `FTPGATE_BIN` says so.
pub fn program() -> PathBuf {
    std::env::var_os("FTPGATE_BIN").map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_ftpgate")), PathBuf::from)
}

/// Does in the gate's namespace exactly what `ftpgate intercept` tells an operator to do.
fn intercept(net: &Net, file: &Path) -> Result<(), Fault> {
    let output = Command::new(program()).arg("intercept").arg(file).output()?;
    if !output.status.success() {
        return Err(format!("`ftpgate intercept` failed:\n{}", String::from_utf8_lossy(&output.stderr)).into());
    }
    let mut shell = Command::new("sh");
    shell.args(["-eu"]).env("PATH", PATH);
    net.gate.feed(shell, &String::from_utf8(output.stdout)?)
}

impl fmt::Display for Datapath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Relay => "relay",
            Self::Kernel => "kernel",
        })
    }
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Reverse => "reverse",
            Self::Tproxy => "tproxy",
            Self::Redirect => "redirect",
            Self::ClientSource => "client-source",
        })
    }
}
