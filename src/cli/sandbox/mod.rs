//! What the process gives up before it serves anybody, so that a fault in it is of little use.
//!
//! Everything here holds for the calling thread and those that it starts afterwards, so it must be done while there is no
//! other: before the runtime, and before the log has a thread of its own.

mod capabilities;
mod files;
mod seccomp;
mod user;

use std::io;
use std::path::Path;

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

pub(super) use user::User;

use super::rules_file::{self, ReadError};
use crate::report;

/// What `run` was asked to do about its own privileges.
#[derive(Debug)]
pub(super) struct Sandbox<'a> {
    /// The user to become; unchanged if left out.
    pub(super) user: Option<&'a User>,
    /// Whether system calls and files are restricted, and memory is kept from debuggers and core dumps.
    pub(super) restrict: bool,
    /// What a reload must still be able to read.
    pub(super) rules_file: &'a Path,
}

/// What has become of the process.
#[derive(Debug)]
pub(super) struct Entered {
    capabilities: io::Result<String>,
    seccomp: Protection,
    landlock: Protection,
    rules_file: Result<(), ReadError>,
}

/// Whether one of the kernel's protections is on.
#[derive(Debug)]
enum Protection {
    /// In the words of the log.
    On(String),
    /// The kernel, or the container that this runs in, does not have it.
    Missing(String),
    /// Nobody wants it.
    Off,
}

/// Why the process cannot go on as it was asked to.
#[derive(Debug, thiserror::Error)]
pub(super) enum SandboxError {
    /// The user cannot be changed.
    #[error("ftpgate: cannot become user {user}: {error}; start ftpgate as root, or leave out `--user`")]
    User {
        /// Whom to become.
        user: String,
        /// Why not.
        error: io::Error,
    },
    /// A protection that the kernel has cannot be had.
    #[error("ftpgate: cannot restrict itself: {what}: {error}; `--no-sandbox` starts it without")]
    Restrict {
        /// What failed.
        what: &'static str,
        /// Why.
        error: String,
    },
}

impl Sandbox<'_> {
    /// Gives up for good what serving does not need. What the kernel does not have is left out, and said by
    /// [`Entered::report`].
    pub(super) fn enter(&self) -> Result<Entered, SandboxError> {
        // As long as the way to the rules file can be looked at.
        let readable = files::readable(self.rules_file);
        if let Some(user) = self.user {
            let error = |error| SandboxError::User { user: user.to_string(), error };
            user.become_them(capabilities::kept).map_err(error)?;
        }
        let capabilities = capabilities::give_up();
        let (mut seccomp, mut landlock) = (Protection::Off, Protection::Off);
        if self.restrict {
            hide_memory().map_err(|error| restrict("core dumps cannot be switched off", &error))?;
            landlock = files::restrict(&readable).map_err(|error| restrict("Landlock", &error))?;
            seccomp = seccomp::restrict().map_err(|error| restrict("seccomp", &error))?;
        }
        Ok(Entered { capabilities, seccomp, landlock, rules_file: rules_file::try_open(self.rules_file) })
    }
}

fn restrict(what: &'static str, error: &dyn std::fmt::Display) -> SandboxError {
    SandboxError::Restrict { what, error: error.to_string() }
}

/// Passwords pass through this memory: no core dump, no debugger of the same user, no reading through `/proc`.
fn hide_memory() -> io::Result<()> {
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

impl Entered {
    /// Says so in the log.
    pub(super) fn report(&self) {
        if let Err(error) = &self.capabilities {
            report::system("privileges that are not needed cannot be given up", error);
        }
        let capabilities = self.capabilities.as_ref().map_or("unchanged", String::as_str);
        let uid = rustix::process::geteuid().as_raw();
        let complete = ![&self.seccomp, &self.landlock].iter().any(|one| matches!(one, Protection::Missing(_)));
        report::sandbox(uid, capabilities, self.seccomp.as_str(), self.landlock.as_str(), complete);
        if let Err(error) = &self.rules_file {
            report::system("no reload will be possible, because the user of ftpgate cannot read the rules file", error);
        }
    }
}

impl Protection {
    fn as_str(&self) -> &str {
        match self {
            Self::On(how) | Self::Missing(how) => how,
            Self::Off => "off",
        }
    }
}
