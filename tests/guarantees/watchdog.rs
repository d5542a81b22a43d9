//! systemd hears that the gate is alive, and only while each of its threads is.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::sys::ptrace;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use rustix::process::Signal;

use super::support::*;

/// How often systemd wants to hear of the gate.
const LIMIT: Duration = Duration::from_millis(400);

/// The socket of systemd, and a gate that it started.
struct Systemd {
    socket: UnixDatagram,
    path: PathBuf,
    gate: Gate,
}

impl Systemd {
    fn start(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("ftpgate-notify-{name}-{}", std::process::id()));
        let _ = fs::remove_file(&path);
        let socket = UnixDatagram::bind(&path).unwrap();
        let server = listen(SERVER);
        let rules = Rules::new(port_of(&server));
        let text = rules.yaml();
        // Without its own protections it can be held by one thread.
        let gate = Gate::launch_with(rules, server, &text, &["--no-sandbox"], |command| {
            command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", LIMIT.as_micros().to_string());
        });
        let systemd = Self { socket, path, gate };
        assert_eq!(systemd.hears(PATIENCE).as_deref(), Some("READY=1\n"));
        systemd
    }

    /// The next message that comes in time.
    fn hears(&self, patience: Duration) -> Option<String> {
        self.socket.set_read_timeout(Some(patience)).unwrap();
        let mut buffer = [0; 256];
        let length = self.socket.recv(&mut buffer).ok()?;
        Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
    }

    #[track_caller]
    fn assert_alive(&self) {
        for _ in 0..3 {
            assert_eq!(self.hears(PATIENCE).as_deref(), Some("WATCHDOG=1\n"));
        }
    }

    /// Waits until nothing is heard for much longer than systemd waits.
    fn waits_until_it_hears_nothing(&self) {
        let end = Instant::now() + PATIENCE;
        while self.hears(LIMIT * 4).is_some() {
            assert!(Instant::now() < end, "the gate says that it is alive while a thread hangs");
        }
    }
}

impl Drop for Systemd {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// The thread of this name.
fn thread(process: u32, name: &str) -> Pid {
    let threads = fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let found = threads
        .map(|thread| thread.unwrap())
        .find(|thread| fs::read_to_string(thread.path().join("comm")).unwrap().trim() == name);
    let number = found.unwrap_or_else(|| panic!("no thread `{name}`")).file_name();
    Pid::from_raw(number.to_str().unwrap().parse().unwrap())
}

#[test]
fn systemd_hears_nothing_while_a_thread_hangs() {
    let systemd = Systemd::start("hangs");
    systemd.assert_alive();
    let worker = thread(systemd.gate.process(), "worker 0");
    ptrace::seize(worker, ptrace::Options::empty()).unwrap();
    ptrace::interrupt(worker).unwrap();
    waitpid(worker, Some(WaitPidFlag::__WALL)).unwrap();
    systemd.waits_until_it_hears_nothing();
    // The main thread is well: it would go on for ever.
    systemd.gate.signal(Signal::HUP);
    systemd.gate.logged(&["event=\"reloaded\""]);
    assert_eq!(systemd.hears(LIMIT), None);
    ptrace::detach(worker, None).unwrap();
    systemd.assert_alive();
}

#[test]
fn systemd_hears_of_a_gate_that_drains() {
    let mut systemd = Systemd::start("drains");
    let (mut client, mut server) = systemd.gate.session();
    let (ours, theirs) = client.transfer(&mut server, "RETR file");
    systemd.gate.signal(Signal::TERM);
    systemd.gate.logged(&["event=\"draining\""]);
    systemd.assert_alive();
    systemd.assert_alive();
    drop((client, server, ours, theirs));
    assert!(systemd.gate.exit().success());
}
