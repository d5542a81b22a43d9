//! The real servers: how each is configured and started.

mod config;

use std::fmt;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use super::host::Host;
use super::job::{Job, tail};
use super::net::Net;
use super::scratch::Scratch;
use super::{Family, Fault, Leg, Mode, Notation, goods, poll, unpacked};

#[allow(unused_imports, reason = "not every test logs in, or has a ProFTPD of its own")]
pub use config::{PASSWORD, PROFTPD_ALONE, USER};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Server {
    Vsftpd,
    Proftpd,
    PureFtpd,
    Inetutils,
    Pyftpdlib,
}

/// A server that answers on port 21 of its host until it is dropped.
pub struct Running {
    job: Job,
    folder: Scratch,
}

impl Server {
    pub const ALL: [Self; 5] = [Self::Vsftpd, Self::Proftpd, Self::PureFtpd, Self::Inetutils, Self::Pyftpdlib];

    /// Whether `tests/lab/packages` brought it.
    pub fn is_present(self) -> bool {
        unpacked().join(self.program()).exists()
    }

    /// Why it cannot be brought to know only the words of this leg, if it cannot.
    pub fn cannot(self, leg: Leg) -> Option<&'static str> {
        match (self, leg.mode, leg.notation) {
            (_, _, Notation::Either) | (Self::PureFtpd, Mode::Passive, Notation::Plain) => None,
            (Self::PureFtpd, ..) => Some("of one mode's two commands Pure-FTPd refuses EPSV at most"),
            (Self::Inetutils, ..) => Some("inetutils' ftpd refuses neither of one mode's two commands"),
            (Self::Vsftpd | Self::Proftpd | Self::Pyftpdlib, ..) => None,
        }
    }

    /// The commands that it refuses where it is limited to a leg.
    pub fn refused(self, leg: Leg) -> Vec<&'static str> {
        let refuses = |verb: &&str| match self {
            Self::Vsftpd | Self::Proftpd | Self::Pyftpdlib => true,
            Self::PureFtpd => matches!(*verb, "PASV" | "EPSV"),
            Self::Inetutils => false,
        };
        leg.foreign_verbs().into_iter().filter(refuses).collect()
    }

    /// This one, or one that can do without users where there is none but root.
    pub fn or_without_users(self) -> Self {
        if config::has_users() { self } else { Self::Pyftpdlib }
    }

    /// Starts it with a stocked home and waits for its greeting.
    pub fn start(self, host: &Host, family: Family) -> Result<Running, Fault> {
        self.start_knowing(host, family, &[])
    }

    /// Starts it so that it refuses all ways to negotiate but this one, as far as it can be brought to.
    pub fn start_limited(self, host: &Host, leg: Leg) -> Result<Running, Fault> {
        self.start_knowing(host, leg.family, &self.refused(leg))
    }

    fn start_knowing(self, host: &Host, family: Family, refused: &[&str]) -> Result<Running, Fault> {
        if !self.is_present() {
            return Err(format!("{self} is not here; run tests/lab/packages").into());
        }
        let folder = Scratch::new("server")?;
        let home = folder.join("home");
        goods::stock_server(&home)?;
        let script = config::write(self, family, refused, &folder)?;
        let log = folder.join("log");
        let script = script.to_str().ok_or("the temporary folder's name is not text")?;
        let mut job = Job::start(host, &log, &["sh", "-eu", script], |_| ())?;
        let address = SocketAddr::new(Net::server_address(family), 21);
        let greeted = poll(Duration::from_secs(10), || {
            if job.has_ended() { Some(false) } else { host.run(move || greets(address)).then_some(true) }
        });
        match greeted {
            Some(true) => Ok(Running { job, folder }),
            Some(false) => Err(format!("{self} ended at once:\n{}", tail(&log)).into()),
            None => Err(format!("{self} does not answer at {address}:\n{}", tail(&log)).into()),
        }
    }

    fn program(self) -> &'static str {
        match self {
            Self::Vsftpd => "usr/sbin/vsftpd",
            Self::Proftpd => "usr/sbin/proftpd",
            Self::PureFtpd => "usr/sbin/pure-ftpd",
            Self::Inetutils => "usr/sbin/ftpd",
            Self::Pyftpdlib => "usr/lib/python3/dist-packages/pyftpdlib",
        }
    }
}

impl Running {
    /// The user's home, as the disk has it.
    pub fn home(&self) -> std::path::PathBuf {
        self.folder.join("home")
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn tail(&self) -> String {
        self.job.tail()
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Vsftpd => "vsftpd",
            Self::Proftpd => "proftpd",
            Self::PureFtpd => "pure-ftpd",
            Self::Inetutils => "inetutils",
            Self::Pyftpdlib => "pyftpdlib",
        })
    }
}

/// Whether a server says 220 here.
fn greets(address: SocketAddr) -> bool {
    const PATIENCE: Duration = Duration::from_secs(5);
    let Ok(stream) = TcpStream::connect_timeout(&address, PATIENCE) else { return false };
    let mut line = String::new();
    let _ = stream.set_read_timeout(Some(PATIENCE));
    BufReader::new(stream).read_line(&mut line).is_ok() && line.starts_with("220")
}
