//! Sessions do not wait for the reader of the log.

use std::io::Read as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{fs, thread};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::*;

/// A program that does not outlive its test.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ended = self.0.kill().and_then(|()| self.0.wait());
    }
}

/// Standard error is a pipe that nobody reads: far more sessions than its log lines have room for in it.
#[test]
fn a_log_that_nobody_reads_stops_no_session() {
    const SESSIONS: usize = 600;
    let server = listen(SERVER);
    let rules = Rules::new(port_of(&server));
    let folder = std::env::temp_dir().join(format!("ftpgate-log-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let file = folder.join("rules.yaml");
    fs::write(&file, rules.yaml()).unwrap();
    let gate = Command::new(env!("CARGO_BIN_EXE_ftpgate"))
        .args(["run", "--log-level", "debug"])
        .arg(&file)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut gate = Killed(gate);
    thread::spawn(move || {
        for number in 0..SESSIONS {
            let mut control = Talk::new(accept(&server));
            control.say(&format!("220 {number}"));
        }
    });
    wait_until("the gate listens", || is_open(rules.front()));
    let mut served = 0;
    for number in 0..SESSIONS {
        // Of several addresses, so that the log leaves out few.
        let from = std::net::Ipv4Addr::new(127, 0, 1, u8::try_from(number % 250 + 1).unwrap());
        served += usize::from(Talk::new(dial(from, rules.front()).unwrap()).line().starts_with("220 "));
    }
    assert!(served >= SESSIONS - 1, "{served}");
    let began = Instant::now();
    kill_process(Pid::from_child(&gate.0), Signal::TERM).unwrap();
    thread::sleep(Duration::from_millis(500));
    let mut log = gate.0.stderr.take().unwrap();
    let ended = poll(|| gate.0.try_wait().unwrap());
    assert!(ended.is_some() && began.elapsed() < Duration::from_secs(8), "{ended:?}");
    // What had room is there, from the first line on.
    let mut said = String::new();
    log.read_to_string(&mut said).unwrap();
    assert!(said.contains("event=\"ready\"") && said.contains("event=\"session_started\" session=1 "), "{said}");
    fs::remove_dir_all(folder).unwrap();
}
