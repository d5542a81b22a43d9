//! The program as a process, with its log.

use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::{env, fs, process};

use rustix::process::{Pid, Signal, kill_process};

use super::{Rules, SERVER, Talk, accept, dial, is_open, listen, poll, port_of, wait_until};

static FOLDERS: AtomicU32 = AtomicU32::new(0);

/// A running gate with the control port of its server; it ends when dropped.
pub struct Gate {
    pub rules: Rules,
    pub server: TcpListener,
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
    reader: Option<JoinHandle<()>>,
    folder: PathBuf,
}

impl Gate {
    pub fn start() -> Self {
        Self::with(|_| {})
    }

    /// Starts with rules that the test has changed.
    pub fn with(change: impl FnOnce(&mut Rules)) -> Self {
        Self::with_arguments(change, &[])
    }

    pub fn with_arguments(change: impl FnOnce(&mut Rules), arguments: &[&str]) -> Self {
        let server = listen(SERVER);
        let mut rules = Rules::new(port_of(&server));
        change(&mut rules);
        let text = rules.yaml();
        let gate = Self::launch(rules, server, &text, arguments);
        gate.logged(&["event=\"ready\""]);
        gate
    }

    /// Starts with rules that the test has changed, and no more open files than this.
    pub fn with_open_files(most: u32, change: impl FnOnce(&mut Rules)) -> Self {
        let server = listen(SERVER);
        let mut rules = Rules::new(port_of(&server));
        change(&mut rules);
        let text = rules.yaml();
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(format!("ulimit -n {most} && exec \"$0\" \"$@\"")).arg(env!("CARGO_BIN_EXE_ftpgate"));
        let gate = Self::launch_by(shell, rules, server, &text, &[], |_| ());
        gate.logged(&["event=\"ready\""]);
        gate
    }

    /// Starts the program and does not wait for it.
    pub fn launch(rules: Rules, server: TcpListener, text: &str, arguments: &[&str]) -> Self {
        Self::launch_with(rules, server, text, arguments, |_| ())
    }

    /// The same with more to say to it.
    pub fn launch_with(
        rules: Rules,
        server: TcpListener,
        text: &str,
        arguments: &[&str],
        setup: impl FnOnce(&mut Command),
    ) -> Self {
        Self::launch_by(Command::new(env!("CARGO_BIN_EXE_ftpgate")), rules, server, text, arguments, setup)
    }

    /// The same by another program, which is given the arguments.
    fn launch_by(
        mut command: Command,
        rules: Rules,
        server: TcpListener,
        text: &str,
        arguments: &[&str],
        setup: impl FnOnce(&mut Command),
    ) -> Self {
        let number = FOLDERS.fetch_add(1, Ordering::Relaxed);
        let folder = env::temp_dir().join(format!("ftpgate-guarantees-{}-{number}", process::id()));
        fs::create_dir_all(&folder).unwrap();
        fs::write(rules_file(&folder), text).unwrap();
        command.arg("run").arg(rules_file(&folder)).args(arguments).stdin(Stdio::null()).stderr(Stdio::piped());
        setup(&mut command);
        let mut child = command.spawn().unwrap();
        let lines: Arc<Mutex<Vec<String>>> = Arc::default();
        let (stderr, sink) = (child.stderr.take().unwrap(), Arc::clone(&lines));
        let reader = thread::spawn(move || {
            for line in BufReader::new(stderr).split(b'\n').map_while(Result::ok) {
                sink.lock().unwrap().push(String::from_utf8_lossy(&line).into_owned());
            }
        });
        Self { rules, server, child, lines, reader: Some(reader), folder }
    }

    /// The line of the log that has all of these; waits for it.
    #[track_caller]
    pub fn logged(&self, words: &[&str]) -> String {
        let fits = |line: &&String| words.iter().all(|word| line.contains(word));
        let line = poll(|| self.lines.lock().unwrap().iter().find(fits).cloned());
        line.unwrap_or_else(|| panic!("no line has all of {words:?}"))
    }

    /// How many lines of the log have this, by now: it is written a moment later than what it tells of.
    pub fn count(&self, word: &str) -> usize {
        thread::sleep(std::time::Duration::from_millis(10));
        self.lines.lock().unwrap().iter().filter(|line| line.contains(word)).count()
    }

    pub fn log(&self) -> String {
        thread::sleep(std::time::Duration::from_millis(10));
        self.lines.lock().unwrap().join("\n")
    }

    /// A client from `from` that has been greeted, and its server's end.
    #[track_caller]
    pub fn session_from(&self, from: Ipv4Addr) -> (Talk, Talk) {
        let (mut client, mut server) = self.ungreeted_from(from);
        server.say("220 Ready");
        client.expect("220 Ready");
        (client, server)
    }

    #[track_caller]
    pub fn session(&self) -> (Talk, Talk) {
        self.session_from(super::CLIENT)
    }

    #[track_caller]
    pub fn ungreeted_from(&self, from: Ipv4Addr) -> (Talk, Talk) {
        let client = Talk::new(dial(from, self.rules.front()).unwrap());
        (client, Talk::new(accept(&self.server)))
    }

    /// Nobody listens at any port that the rules speak of.
    #[track_caller]
    pub fn assert_all_closed(&self) {
        let open: Vec<u16> = self.rules.all().filter(|port| is_open(*port)).collect();
        assert!(open.is_empty(), "open: {open:?}");
    }

    #[track_caller]
    pub fn wait_all_closed(&self) {
        wait_until("all ports are closed", || !self.rules.all().any(is_open));
    }

    pub fn write_rules(&self, text: &str) {
        fs::write(rules_file(&self.folder), text).unwrap();
    }

    /// Where the gate reads its rules.
    pub fn rules_file(&self) -> PathBuf {
        rules_file(&self.folder)
    }

    /// The number of its process.
    pub fn process(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Bytes of memory that the process has in use (`VmRSS`).
    pub fn memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
    }

    /// Waits for the program's end, and for the last line of its log.
    #[track_caller]
    pub fn exit(&mut self) -> ExitStatus {
        let status = poll(|| self.child.try_wait().unwrap()).expect("the gate does not end");
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
        status
    }
}

fn rules_file(folder: &Path) -> PathBuf {
    folder.join("rules.yaml")
}

impl Drop for Gate {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("the gate's log:\n{}", self.log());
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}
