//! Client libraries that people build on, at every server: names in an 8-bit charset, a NOOP in the middle of a transfer, and
//! a transfer that is given up.
//!
//! A case runs **direct first**, routed past the gate, and then through the gate by each datapath: what works direct must
//! work through it. What does not work direct is left out, and the reason is shown.

#![allow(dead_code, missing_docs, unreachable_pub, clippy::print_stdout, clippy::unwrap_used)]

#[path = "../lab/mod.rs"]
mod lab;

use std::fmt;
use std::net::IpAddr;
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Duration;

use lab::gate::{Datapath, Gate, Listener};
use lab::job::{Job, tail};
use lab::net::Net;
use lab::scratch::Scratch;
use lab::server::{PASSWORD, Server, USER};
use lab::{Family, Fault, unpacked};
use libtest_mimic::{Arguments, Failed, Trial};

/// All of a scenario.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Library {
    Ftplib,
    Aioftp,
    NetFtp,
    Php,
    BasicFtp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scenario {
    /// A file whose name has the byte 0xFF is stored, fetched and renamed, another one deleted.
    Names,
    /// A listing shows such a name.
    Listing,
    /// A download during which the server is asked for nothing, again and again.
    Keepalive,
    /// A download that is given up in the middle, in the library's own way.
    Abort,
}

#[derive(Clone, Copy)]
struct Case {
    library: Library,
    server: Server,
    scenario: Scenario,
}

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // A case waits more than it works.
    arguments.test_threads.get_or_insert(4);
    let mut trials = Vec::new();
    for library in Library::ALL {
        for server in [Server::Vsftpd, Server::Proftpd, Server::PureFtpd, Server::Pyftpdlib] {
            for scenario in Scenario::ALL {
                let case = Case { library, server, scenario };
                trials.push(Trial::test(case.to_string(), move || run(case)));
            }
        }
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn run(case: Case) -> Result<(), Failed> {
    case.library.is_present()?;
    let left_direct = match attempt(case, None).or_else(|_| attempt(case, None)) {
        Ok(left) => left,
        Err(direct) => {
            println!("{case} is left out, for it does not work direct:\n{direct}");
            return Ok(());
        }
    };
    for way in case.ways() {
        let (listener, datapath) = way;
        let same = |left: Vec<Vec<u8>>| {
            if left == left_direct { Ok(()) } else { Err(format!("{left:?} was left, and not {left_direct:?}").into()) }
        };
        if let Err(fault) = attempt(case, Some(way)).and_then(same) {
            // Some fail direct too, now and then, when the machine has much to do.
            if let Some(direct) = (0..3).find_map(|_| attempt(case, None).err()) {
                println!("{case} is left out, for it fails direct too, now and then:\n{direct}");
                return Ok(());
            }
            return Err(format!("{listener}/{datapath}: {fault}").into());
        }
    }
    Ok(())
}

/// One run in a lab of its own: the names of the files that are in the server's `inbox` then. The error holds what everyone
/// wrote.
fn attempt(case: Case, by: Option<(Listener, Datapath)>) -> Result<Vec<Vec<u8>>, Fault> {
    let net = Net::new()?;
    let family = Family::V4;
    let serving = case.server.start(&net.server, family)?;
    let gate = match by {
        Some((listener, datapath)) => {
            net.close()?;
            Some(Gate::start(&net, listener, datapath, family)?)
        }
        None => None,
    };
    let address = by.map_or_else(|| Net::server_address(family), |(listener, _)| listener.server_as_seen(family));
    let folder = Scratch::new("library")?;
    let log = folder.join("log");
    let words = case.library.command(address, case.scenario)?;
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let mut job = Job::start(&net.client, &log, &words, |command| {
        command.current_dir(folder.path());
        case.library.environment(command);
    })?;
    let said = || {
        let gate = gate.as_ref().map_or_else(String::new, |gate| format!("\n--- gate\n{}", gate.tail()));
        format!("--- {}\n{}\n--- {}\n{}{gate}", case.library, tail(&log), case.server, serving.tail())
    };
    match job.wait(PATIENCE) {
        Some(status) if status.success() => {}
        Some(status) => return Err(format!("it ended with {status}\n{}", said()).into()),
        None => return Err(format!("it took too long\n{}", said()).into()),
    }
    match gate.as_ref().map(Gate::log) {
        Some(log) if log.contains("panicked at") => Err(format!("the gate panicked\n{}", said()).into()),
        Some(log)
            if !log.contains(&format!("datapath=\"{}\"", by.map_or(Datapath::Relay, |(_, datapath)| datapath))) =>
        {
            Err(format!("another datapath\n{}", said()).into())
        }
        Some(_) | None => {
            let files: Result<Vec<_>, _> = std::fs::read_dir(serving.home().join("inbox"))?.collect();
            let mut names: Vec<_> = files?.into_iter().map(|file| file.file_name().into_vec()).collect();
            names.sort();
            Ok(names)
        }
    }
}

impl Case {
    /// Through the gate by each datapath; at one server also where it stands between unseen.
    fn ways(self) -> Vec<(Listener, Datapath)> {
        let listeners: &[Listener] = match self.server {
            Server::Vsftpd => &[Listener::Reverse, Listener::Redirect],
            Server::Proftpd | Server::PureFtpd | Server::Inetutils | Server::Pyftpdlib => &[Listener::Reverse],
        };
        listeners.iter().flat_map(|listener| Datapath::ALL.map(|datapath| (*listener, datapath))).collect()
    }
}

impl Library {
    const ALL: [Self; 5] = [Self::Ftplib, Self::Aioftp, Self::NetFtp, Self::Php, Self::BasicFtp];

    /// The program that runs it, and the script.
    const fn program(self) -> (&'static str, &'static str) {
        match self {
            // Debian's own: its packages are no use to another version.
            Self::Ftplib => ("/usr/bin/python3", "ftplib_client.py"),
            Self::Aioftp => ("/usr/bin/python3", "aioftp_client.py"),
            Self::NetFtp => ("perl", "net_ftp.pl"),
            Self::Php => ("php", "php_ftp.php"),
            Self::BasicFtp => ("node", "basic_ftp.js"),
        }
    }

    fn is_present(self) -> Result<(), Fault> {
        let words = match self {
            Self::Ftplib => vec!["-c", "import ftplib"],
            Self::Aioftp => vec!["-c", "import aioftp"],
            Self::NetFtp => vec!["-MNet::FTP", "-e", "1"],
            Self::Php => vec!["-r", "exit(function_exists('ftp_connect') ? 0 : 1);"],
            Self::BasicFtp => vec!["-e", "require(process.env.BASIC_FTP)"],
        };
        let mut command = Command::new(self.program().0);
        command.args(words);
        self.environment(&mut command);
        match command.output() {
            Ok(output) if output.status.success() => Ok(()),
            _ => Err(format!("{self} is not here; run tests/lab/packages").into()),
        }
    }

    fn environment(self, command: &mut Command) {
        match self {
            Self::Aioftp => command.env("PYTHONPATH", unpacked().join("usr/lib/python3/dist-packages")),
            Self::BasicFtp => command.env("BASIC_FTP", unpacked().join("basic-ftp/package")),
            Self::Ftplib | Self::NetFtp | Self::Php => command,
        };
    }

    fn command(self, server: IpAddr, scenario: Scenario) -> Result<Vec<String>, Fault> {
        let (program, script) = self.program();
        let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/libraries").join(script);
        let script = script.to_str().ok_or("the project's path is not text")?;
        Ok([program, script, &server.to_string(), USER, PASSWORD, &scenario.to_string()].map(str::to_owned).into())
    }
}

impl Scenario {
    const ALL: [Self; 4] = [Self::Names, Self::Listing, Self::Keepalive, Self::Abort];
}

/// `vsftpd/net-ftp/names`
impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.server, self.library, self.scenario)
    }
}

impl fmt::Display for Library {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ftplib => "ftplib",
            Self::Aioftp => "aioftp",
            Self::NetFtp => "net-ftp",
            Self::Php => "php",
            Self::BasicFtp => "basic-ftp",
        })
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Names => "names",
            Self::Listing => "listing",
            Self::Keepalive => "keepalive",
            Self::Abort => "abort",
        })
    }
}
