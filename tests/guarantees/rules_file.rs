//! What stands in place of the rules file never stops the gate, and nobody else decides what is in it.

use std::fs::{self, File, Permissions};
use std::io::{BufWriter, Write as _};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use rustix::fs::{CWD, Mode, mkfifoat};
use rustix::process::Signal;

use super::support::*;

/// Puts something in place of the rules file: the reload fails with these words, and the gate serves on and ends when told to.
#[track_caller]
fn replaced_by(put: impl FnOnce(&Path), words: &str) {
    let mut gate = Gate::start();
    let (mut client, mut server) = gate.session();
    let file = gate.rules_file();
    fs::remove_file(&file).unwrap();
    put(&file);
    gate.signal(Signal::HUP);
    gate.logged(&["event=\"reload_failed\""]);
    wait_until("the reason is logged", || gate.log().contains(words));
    client.noop_with(&mut server);
    let (mut newcomer, mut newcomers_server) = gate.session_from(OTHER_CLIENT);
    newcomer.noop_with(&mut newcomers_server);
    assert!(peak_memory(&gate) < 64 << 10, "{} KiB", peak_memory(&gate));
    if file.is_dir() {
        fs::remove_dir(&file).unwrap();
    } else {
        fs::remove_file(&file).unwrap();
    }
    gate.write_rules(&gate.rules.yaml());
    gate.signal(Signal::HUP);
    gate.logged(&["event=\"reloaded\""]);
    gate.signal(Signal::TERM);
    drop((client, server, newcomer, newcomers_server));
    assert!(gate.exit().success());
}

/// The most memory that the gate has had, in KiB.
fn peak_memory(gate: &Gate) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", gate.process())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse().unwrap()
}

#[test]
fn a_fifo_does_not_stop_the_gate() {
    replaced_by(|file| mkfifoat(CWD, file, Mode::RUSR).unwrap(), "it is a FIFO");
}

#[test]
fn a_directory_does_not_stop_the_gate() {
    replaced_by(|file| fs::create_dir(file).unwrap(), "it is a directory");
}

#[test]
fn a_device_without_end_does_not_stop_the_gate() {
    replaced_by(|file| symlink("/dev/zero", file).unwrap(), "it is a device");
}

#[test]
fn a_huge_file_does_not_stop_the_gate() {
    replaced_by(|file| File::create(file).unwrap().set_len(1 << 30).unwrap(), "it is larger than 64 MiB");
}

/// Rules that take long to read.
fn write_many_rules(file: &Path, gate: &Gate) {
    let mut out = BufWriter::new(File::create(file).unwrap());
    let yaml = gate.rules.yaml();
    let (listeners, _) = yaml.split_once("rules:\n").unwrap();
    writeln!(out, "{listeners}rules:").unwrap();
    for number in 0..400_000 {
        writeln!(out, "  - {{name: r{number}, from: any, to: 10.0.0.1, action: deny}}").unwrap();
    }
    out.flush().unwrap();
}

#[test]
fn the_gate_serves_and_ends_while_it_reads_rules() {
    let mut gate = Gate::start();
    let (mut client, mut server) = gate.session();
    write_many_rules(&gate.rules_file(), &gate);
    gate.signal(Signal::HUP);
    wait_until("the rules are being read", || has_thread(&gate, "reload"));
    gate.signal(Signal::HUP);
    client.noop_with(&mut server);
    drop((client, server));
    gate.signal(Signal::TERM);
    assert!(gate.exit().success());
    assert!(!gate.log().contains("event=\"reload"), "the rules were read before the gate was told to end");
}

fn has_thread(gate: &Gate, name: &str) -> bool {
    let threads = fs::read_dir(format!("/proc/{}/task", gate.process())).unwrap();
    let names = threads.filter_map(|thread| fs::read_to_string(thread.ok()?.path().join("comm")).ok());
    names.into_iter().any(|found| found.trim() == name)
}

/// A directory with a rules file that is valid.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("ftpgate-place-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        fs::set_permissions(&folder, Permissions::from_mode(0o755)).unwrap();
        // Nobody can listen there: where the file is accepted, the gate says so and ends.
        let text = "version: 1\nlisteners: [{ name: a, bind: \"192.0.2.1:2121\", server: \"10.0.2.2\" }]\n\
            rules: [{ name: b, from: any, to: any, action: allow, inbound: \"10001-10005\", datapath: relay }]\n";
        let place = Self(folder);
        fs::write(place.file(), text).unwrap();
        place
    }

    fn file(&self) -> PathBuf {
        self.0.join("rules.yaml")
    }

    fn ask(&self, subcommand: &str) -> Output {
        Command::new(env!("CARGO_BIN_EXE_ftpgate")).arg(subcommand).arg(self.file()).output().unwrap()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn rules_that_others_can_change_are_not_served() {
    let place = Place::new("start");
    let said = |output: &Output| String::from_utf8_lossy(&output.stderr).into_owned();
    for path in [place.file(), place.0.clone()] {
        let fits = fs::metadata(&path).unwrap().permissions();
        fs::set_permissions(&path, Permissions::from_mode(0o777)).unwrap();
        for (subcommand, code) in [("run", 3), ("check", 1)] {
            let output = place.ask(subcommand);
            assert_eq!(output.status.code(), Some(code), "{}", said(&output));
            let who = format!("anybody on this machine can change {}", path.display());
            assert!(said(&output).contains(&who), "{}", said(&output));
        }
        fs::set_permissions(&path, fits).unwrap();
    }
    assert!(place.ask("check").status.success());
    let output = place.ask("run");
    assert!(output.status.code() == Some(3) && said(&output).contains("cannot listen on 192.0.2.1:2121"));
}

#[test]
fn rules_that_others_can_change_are_not_reloaded() {
    let gate = Gate::start();
    let (mut client, mut server) = gate.session();
    gate.write_rules(&gate.rules.yaml().replace("action: allow", "action: deny"));
    fs::set_permissions(gate.rules_file(), Permissions::from_mode(0o646)).unwrap();
    gate.signal(Signal::HUP);
    gate.logged(&["event=\"reload_failed\""]);
    wait_until("the reason is logged", || gate.log().contains("anybody on this machine can change"));
    client.noop_with(&mut server);
    assert!(!gate.log().contains("event=\"reloaded\""));
}
