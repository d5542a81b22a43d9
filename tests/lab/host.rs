//! One machine of the lab: a network namespace that lives as long as its thread.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;

use super::Fault;

type Task = Box<dyn FnOnce() + Send>;

/// A network namespace of its own. Sockets made in [`Host::run`] belong to it wherever they
/// are used afterwards; programs started by [`Host::spawn`] live in it and die with it.
pub struct Host {
    tasks: mpsc::Sender<Task>,
    namespace: PathBuf,
}

impl Host {
    /// Starts the thread; the namespace is empty but for its loopback, which is up.
    pub fn new(name: &str) -> Result<Self, Fault> {
        let (tasks, inbox) = mpsc::channel::<Task>();
        let (ready, unshared) = mpsc::channel();
        thread::Builder::new().name(name.to_owned()).spawn(move || {
            let entered = nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET);
            let _ = ready.send(entered.map(|()| nix::unistd::gettid()));
            for task in inbox {
                task();
            }
        })?;
        let thread = unshared.recv()?.map_err(|e| format!("no network namespace: {e} (tests/run makes one)"))?;
        let namespace = PathBuf::from(format!("/proc/{}/task/{thread}/ns/net", std::process::id()));
        let host = Self { tasks, namespace };
        host.ip("link set lo up")?;
        Ok(host)
    }

    /// A path that names the namespace, for as long as the host lives.
    pub fn namespace(&self) -> &Path {
        &self.namespace
    }

    /// Runs a closure inside the namespace and gives its result back; a panic goes on here.
    pub fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let (answer, result) = mpsc::channel::<Result<T, Box<dyn Any + Send>>>();
        let task = move || {
            let _ = answer.send(catch_unwind(AssertUnwindSafe(work)));
        };
        self.tasks.send(Box::new(task)).expect("the host's thread ends only with the host");
        match result.recv().expect("every task answers") {
            Ok(value) => value,
            Err(panic) => resume_unwind(panic),
        }
    }

    /// Starts a program inside the namespace.
    pub fn spawn(&self, mut command: Command) -> Result<Child, Fault> {
        let shown = format!("{command:?}");
        self.run(move || command.spawn()).map_err(|e| format!("cannot start {shown}: {e}").into())
    }

    /// Runs `ip` commands, one for each line.
    pub fn ip(&self, lines: &str) -> Result<(), Fault> {
        let mut ip = Command::new("ip");
        ip.args(["-batch", "-"]);
        self.feed(ip, lines)
    }

    /// Runs a program with `input` on its standard input and waits for it.
    pub fn feed(&self, mut command: Command, input: &str) -> Result<(), Fault> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let shown = format!("{command:?}");
        let mut child = self.spawn(command)?;
        std::io::Write::write_all(&mut child.stdin.take().expect("it was asked for"), input.as_bytes())?;
        let output = child.wait_with_output()?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(format!("{shown} failed:\n{said}with this input:\n{input}").into())
    }

    /// Sets kernel parameters of the namespace, by their path below `/proc/sys`.
    pub fn sysctl(&self, settings: &[(&'static str, &'static str)]) -> Result<(), Fault> {
        for &(path, value) in settings {
            self.run(move || std::fs::write(Path::new("/proc/sys").join(path), value))
                .map_err(|e| format!("/proc/sys/{path}: {e}"))?;
        }
        Ok(())
    }

    /// Whether anything listens on this TCP port, asked without connecting to it.
    pub fn listens_on(&self, port: u16) -> bool {
        const LISTENING: &str = "0A";
        let wanted = format!(":{port:04X}");
        let tables = self.run(|| {
            ["tcp", "tcp6"].map(|t| std::fs::read_to_string(format!("/proc/thread-self/net/{t}")).unwrap_or_default())
        });
        tables.iter().flat_map(|table| table.lines().skip(1)).any(|line| {
            let mut fields = line.split_whitespace().skip(1);
            fields.next().is_some_and(|local| local.ends_with(&wanted)) && fields.nth(1) == Some(LISTENING)
        })
    }
}
