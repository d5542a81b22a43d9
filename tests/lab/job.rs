//! Programs that run inside a host and never outlive it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::host::Host;
use super::net::PATH;
use super::{Fault, poll};

/// A running program; its output goes to a file, and dropping it kills it and its children.
pub struct Job {
    child: Child,
    log: PathBuf,
}

impl Job {
    /// Starts `words` inside the host, with `setup` to add to the command.
    ///
    /// The program gets process and mount namespaces of its own: the kernel kills all that it
    /// ever started when it is killed, and kills it when the host's thread ends.
    pub fn start(host: &Host, log: &Path, words: &[&str], setup: impl FnOnce(&mut Command)) -> Result<Self, Fault> {
        let output = File::options().create(true).append(true).open(log)?;
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork", "--kill-child=KILL", "--"]);
        command.args(words).env("PATH", PATH).env("LC_ALL", "C");
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        setup(&mut command);
        Ok(Self { child: host.spawn(command)?, log: log.to_owned() })
    }

    /// Waits for the end; `None` when it does not come in time.
    pub fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        poll(limit, || self.child.try_wait().ok().flatten())
    }

    /// Sends a signal to the program itself.
    pub fn signal(&self, signal: Signal) -> Result<(), Fault> {
        let program = Pid::from_raw(self.process()?).ok_or("the program has no number")?;
        Ok(kill_process(program, signal)?)
    }

    /// The number of the program's process.
    pub fn process(&self) -> Result<i32, Fault> {
        // The command became `unshare`, whose only child is the program.
        let children = format!("/proc/{0}/task/{0}/children", self.child.id());
        Ok(std::fs::read_to_string(&children)?.trim().parse().map_err(|e| format!("{children}: {e}"))?)
    }

    pub fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// The last lines that it wrote.
    pub fn tail(&self) -> String {
        tail(&self.log)
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        // By name too: a program that has changed its user no longer ends with its parent.
        let _ = self.signal(Signal::KILL);
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The last lines of a file, as text.
pub fn tail(log: &Path) -> String {
    const LINES: usize = 40;
    let bytes = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}
