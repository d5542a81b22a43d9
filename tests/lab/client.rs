//! The real clients: what each runs for one visit to a server.

mod steps;

use std::fmt;
use std::net::IpAddr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use super::goods::Abilities;
use super::host::Host;
use super::job::Job;
use super::{Family, Fault, Leg, Mode, Notation};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Client {
    Curl,
    Lftp,
    Tnftp,
    Ncftp,
    Wget,
    Ftplib,
}

/// One client at one server: list, download, resume, and where it can upload and delete.
pub struct Visit<'a> {
    /// Where the client believes the server to be.
    pub server: IpAddr,
    pub leg: Leg,
    /// The name that it logs in with.
    pub user: &'a str,
    /// The client's folder, stocked by [`super::goods::stock_client`].
    pub folder: &'a Path,
}

impl Client {
    pub const ALL: [Self; 6] = [Self::Curl, Self::Lftp, Self::Tnftp, Self::Ncftp, Self::Wget, Self::Ftplib];

    /// Why this client cannot be brought to this leg at all, if it cannot.
    pub fn cannot(self, leg: Leg) -> Option<&'static str> {
        match (self, leg.mode, leg.family, leg.notation) {
            (Self::Ncftp, _, Family::V6, _) => Some("ncftp knows IPv4 only"),
            (Self::Ncftp, _, _, Notation::Extended) => Some("ncftp knows PASV and PORT only"),
            (Self::Wget, _, Family::V4, Notation::Extended) => Some("wget uses PASV and PORT on IPv4"),
            (Self::Ftplib, _, Family::V4, Notation::Extended) => Some("ftplib uses PASV and PORT on IPv4"),
            (Self::Lftp, Mode::Active, Family::V4, Notation::Extended) => Some("lftp uses PORT on IPv4"),
            (Self::Curl | Self::Lftp | Self::Tnftp | Self::Ncftp | Self::Wget | Self::Ftplib, ..) => None,
        }
    }

    /// wget only fetches; the others do everything.
    pub fn abilities(self) -> Abilities {
        let writes = self != Self::Wget;
        Abilities { upload: writes, delete: writes }
    }

    /// Whether the machine has it.
    pub fn is_present(self) -> bool {
        let shown = Command::new("sh").args(["-c", "command -v \"$1\" >/dev/null", "sh", self.program()]).status();
        shown.is_ok_and(|status| status.success())
    }

    /// Makes the visit, all of it within a minute; the output goes to `log` in the folder.
    pub fn visit(self, host: &Host, visit: &Visit<'_>) -> Result<(), Fault> {
        let end = Instant::now() + Duration::from_secs(60);
        let log = visit.folder.join("log");
        for step in steps::steps(self, visit) {
            let shown = step.words.join(" ");
            let words: Vec<&str> = step.words.iter().map(String::as_str).collect();
            let script = visit.folder.join("script");
            std::fs::write(&script, step.input)?;
            let input = std::fs::File::open(&script)?;
            let mut job = Job::start(host, &log, &words, |command| {
                command.current_dir(visit.folder).env("HOME", visit.folder.join("home")).stdin(input);
            })?;
            match job.wait(end.saturating_duration_since(Instant::now())) {
                Some(status) if status.success() => {}
                Some(status) => return Err(format!("`{shown}` ended with {status}").into()),
                None => return Err(format!("`{shown}` took too long").into()),
            }
        }
        Ok(())
    }

    fn program(self) -> &'static str {
        match self {
            Self::Curl => "curl",
            Self::Lftp => "lftp",
            Self::Tnftp => "tnftp",
            Self::Ncftp => "ncftpput",
            Self::Wget => "wget",
            Self::Ftplib => steps::PYTHON,
        }
    }
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Curl => "curl",
            Self::Lftp => "lftp",
            Self::Tnftp => "tnftp",
            Self::Ncftp => "ncftp",
            Self::Wget => "wget",
            Self::Ftplib => "ftplib",
        })
    }
}
