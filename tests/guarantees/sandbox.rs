//! What an intruder in the gate's process could do is little: users, capabilities, system calls, files, descriptors.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use rustix::process::Signal;

use super::support::*;

/// CAP_NET_BIND_SERVICE is 10, CAP_NET_ADMIN 12.
const KEPT: u64 = 1 << 10 | 1 << 12;

/// One value of each thread's `status`, which all have.
#[track_caller]
fn of_all_threads(process: u32, key: &str) -> String {
    let mut values: Vec<String> = fs::read_dir(format!("/proc/{process}/task"))
        .unwrap()
        .map(|thread| {
            let status = fs::read_to_string(thread.unwrap().path().join("status")).unwrap();
            let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
            line.unwrap_or_else(|| panic!("no {key}")).split_whitespace().collect::<Vec<_>>().join(" ")
        })
        .collect();
    assert!(values.len() > 1, "a gate has more than one thread");
    values.dedup();
    assert_eq!(values.len(), 1, "{key}: {values:?}");
    values.remove(0)
}

fn core_limit(process: u32) -> String {
    let limits = fs::read_to_string(format!("/proc/{process}/limits")).unwrap();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max core file size")).unwrap();
    line.split_whitespace().take(2).collect::<Vec<_>>().join(" ")
}

/// Who may debug a process owns what `/proc` tells of its memory.
fn owner_of_memory(process: u32) -> u32 {
    fs::metadata(format!("/proc/{process}/environ")).unwrap().uid()
}

#[track_caller]
fn assert_capabilities(process: u32) {
    for set in ["CapPrm", "CapEff", "CapBnd"] {
        assert_eq!(u64::from_str_radix(&of_all_threads(process, set), 16).unwrap(), KEPT, "{set}");
    }
    for set in ["CapInh", "CapAmb"] {
        assert_eq!(u64::from_str_radix(&of_all_threads(process, set), 16).unwrap(), 0, "{set}");
    }
}

#[test]
fn every_thread_is_restricted() {
    let gate = Gate::start();
    let process = gate.process();
    let line = gate.logged(&["event=\"sandbox\"", "seccomp=\"on\"", "uid=0"]);
    assert!(line.contains("landlock=\"ABI ") || line.contains(" WARN "), "{line}");
    assert_eq!(of_all_threads(process, "Seccomp"), "2");
    assert_eq!(of_all_threads(process, "NoNewPrivs"), "1");
    assert_capabilities(process);
    assert_eq!(core_limit(process), "0 0");
    // The filters let a whole session through.
    let (mut client, mut server) = gate.session();
    let (ours, theirs) = client.transfer(&mut server, "RETR file");
    drop(theirs);
    assert_eq!(all_of(ours), b"");
}

#[test]
fn another_user_is_all_of_the_process() {
    let gate = Gate::with_arguments(|_| (), &["--user", "1234:5678"]);
    let process = gate.process();
    gate.logged(&["event=\"sandbox\"", "uid=1234"]);
    assert_eq!(of_all_threads(process, "Uid"), "1234 1234 1234 1234");
    assert_eq!(of_all_threads(process, "Gid"), "5678 5678 5678 5678");
    assert_eq!(of_all_threads(process, "Groups"), "5678");
    assert_capabilities(process);
    assert_eq!(owner_of_memory(process), 0);
    gate.signal(Signal::HUP);
    gate.logged(&["event=\"reloaded\""]);
    let (mut client, mut server) = gate.session();
    client.noop_with(&mut server);
}

#[test]
fn a_user_who_cannot_read_the_rules_is_told_of_at_once() {
    let rules = Rules::new(1);
    let text = rules.yaml();
    let gate = Gate::launch(rules, listen(SERVER), &text, &["--user", "1234:5678"]);
    gate.logged(&["event=\"ready\""]);
    assert!(!gate.log().contains("no reload will be possible"));
    fs::set_permissions(gate.rules_file(), fs::Permissions::from_mode(0o600)).unwrap();
    let again = Command::new(env!("CARGO_BIN_EXE_ftpgate"))
        .args(["run", "--user", "1234:5678"])
        .arg(gate.rules_file())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&again.stderr).into_owned();
    assert!(said.contains("no reload will be possible") && said.contains("Permission denied"), "{said}");
    // The other one has its port.
    assert_eq!(again.status.code(), Some(3), "{said}");
}

#[test]
fn nobody_but_root_becomes_another_user() {
    let file = std::env::temp_dir().join(format!("ftpgate-user-{}.yaml", std::process::id()));
    fs::write(&file, Rules::new(1).yaml()).unwrap();
    let run = |user: &str, uid: u32| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ftpgate"));
        command.args(["run", "--user", user]).arg(&file).uid(uid);
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, said) = run("no-such-user", 0);
    assert!(code == Some(3) && said.contains("there is no user `no-such-user`"), "{said}");
    // Built where others cannot go, it cannot be tried as another.
    if Command::new(env!("CARGO_BIN_EXE_ftpgate")).arg("--version").uid(1234).output().is_ok() {
        let (code, said) = run("2345:2345", 1234);
        assert!(code == Some(3) && said.contains("cannot become user 2345:2345"), "{said}");
    }
    fs::remove_file(&file).unwrap();
}

#[test]
fn a_debugger_can_be_let_in() {
    let gate = Gate::with_arguments(|_| (), &["--no-sandbox", "--user", "1234:5678"]);
    let process = gate.process();
    gate.logged(&["event=\"sandbox\"", "seccomp=\"off\"", "landlock=\"off\""]);
    assert_eq!(of_all_threads(process, "Seccomp"), "0");
    assert_capabilities(process);
    assert_eq!(of_all_threads(process, "Uid"), "1234 1234 1234 1234");
}

#[test]
fn descriptors_of_others_are_closed() {
    let file = std::env::temp_dir().join(format!("ftpgate-inherit-{}.yaml", std::process::id()));
    let server = listen(SERVER);
    let rules = Rules::new(port_of(&server));
    fs::write(&file, rules.yaml()).unwrap();
    let program = env!("CARGO_BIN_EXE_ftpgate");
    let mut child = Command::new("sh")
        .args(["-c", "exec 3</etc/passwd 9</etc/passwd; exec \"$0\" run \"$1\"", program])
        .arg(&file)
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_until("the gate listens", || is_open(rules.front()));
    let open: Vec<PathBuf> = fs::read_dir(format!("/proc/{}/fd", child.id()))
        .unwrap()
        .map(|fd| fs::read_link(fd.unwrap().path()).unwrap())
        .collect();
    child.kill().unwrap();
    child.wait().unwrap();
    fs::remove_file(&file).unwrap();
    assert!(!open.contains(&PathBuf::from("/etc/passwd")), "{open:?}");
}

/// Which directories a gate may read was settled when it started.
#[test]
fn only_where_the_rules_were_can_rules_be_read() {
    let gate = Gate::start();
    let file = gate.rules_file();
    let elsewhere = std::env::temp_dir().join(format!("ftpgate-elsewhere-{}", std::process::id()));
    fs::create_dir_all(&elsewhere).unwrap();
    fs::copy(&file, elsewhere.join("rules.yaml")).unwrap();
    fs::remove_file(&file).unwrap();
    symlink(elsewhere.join("rules.yaml"), &file).unwrap();
    gate.signal(Signal::HUP);
    if gate.log().contains("landlock=\"ABI ") {
        gate.logged(&["event=\"reload_failed\""]);
        wait_until("the reason is logged", || gate.log().contains("Permission denied"));
        assert!(gate.log().contains("restart ftpgate"), "{}", gate.log());
    }
    // A directory beside the file is another matter: links are how versions of rules are switched.
    let version = file.with_file_name("version-2");
    fs::create_dir(&version).unwrap();
    fs::rename(elsewhere.join("rules.yaml"), version.join("rules.yaml")).unwrap();
    fs::remove_file(&file).unwrap();
    symlink("version-2/rules.yaml", &file).unwrap();
    gate.signal(Signal::HUP);
    gate.logged(&["event=\"reloaded\""]);
    fs::remove_dir_all(&elsewhere).unwrap();
}
