//! The client of an explicit listener, until it has named its server: there is no session before that.
//!
//! The forms are those that FTP clients have for proxies: `USER name@host[:port]`; or `OPEN host[:port]`,
//! `SITE host[:port]`, with or without logging in to the proxy first. The gate has no users of its own, so any such
//! login is taken, and gains nothing: the rules decide by addresses. `USER name@proxyuser@host` and `USER proxyuser@host`
//! cannot be told from the names of users at the server, which says what it thinks of them.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use super::refusal::Refusal;
use super::{CloseReason, MAX_FAULTS};
use crate::addr::is_host_name;
use crate::ftp::buffer::hidden_command;
use crate::ftp::command::{Command, NotACommand, Verb};
use crate::ftp::line::LineFault;

/// The port of a server that is named without one.
const FTP: u16 = 21;

/// What the client is greeted with, in place of a server's own greeting.
pub const WELCOME: &str = "220 Log in as name@host or name@host:port.";
const HOW: &str = "Name a server first: USER name@host[:port], OPEN host or SITE host.";

/// A server as a client names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// The host.
    pub host: Host,
    /// Its control port.
    pub port: u16,
    /// How the session with it begins.
    pub called: Called,
}

/// A host as a client names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// By its address.
    Address(IpAddr),
    /// By a name that is to be looked up: letters, digits, hyphens, dots and underscores.
    Name(String),
}

/// How a session begins whose client has named its server itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Called {
    /// What the client called the server: taken off the end of each further USER.
    pub server: Vec<u8>,
    /// The USER line to send once the server has greeted; its reply is the client's answer. Without one, the
    /// greeting is.
    pub login: Option<Vec<u8>>,
}

/// What is to be done about a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Answer, and read on.
    Answer(String),
    /// Refuse, and read on.
    Refuse(Refusal),
    /// The server is named.
    Connect(Named),
    /// Say this and close.
    Leave(&'static str),
}

/// Reads a client's lines until it has named its server.
#[derive(Debug, Default)]
pub struct Naming {
    faults: u8,
    /// USER came without a host: a login to the gate itself.
    at_login: bool,
}

impl Naming {
    /// Takes a line.
    pub fn line(&mut self, line: &[u8]) -> Step {
        match Command::parse(line) {
            Ok(command) => match hidden_command(line) {
                Some(hidden) => Step::Refuse(Refusal::HiddenCommand(hidden)),
                None => self.command(command),
            },
            Err(NotACommand::Empty) => self.fault(Refusal::EmptyLine),
            Err(NotACommand::Garbage) => self.fault(Refusal::Garbage),
            Err(NotACommand::Http) => Step::Leave(CloseReason::HttpClient.reply()),
            Err(NotACommand::Smtp) => Step::Leave(CloseReason::SmtpClient.reply()),
            Err(NotACommand::ProxyHeader) => Step::Leave(CloseReason::ProxyHeader.reply()),
        }
    }

    /// Takes what is no line.
    pub fn bad_line(&mut self, fault: LineFault) -> Step {
        match fault {
            LineFault::TooLong => self.fault(Refusal::LineTooLong),
            LineFault::Nul | LineFault::BareCr => self.fault(Refusal::Garbage),
            LineFault::Endless => Step::Leave(CloseReason::BadClient.reply()),
            LineFault::ProxyHeader => Step::Leave(CloseReason::ProxyHeader.reply()),
            LineFault::Tls => Step::Leave(CloseReason::TlsClient.reply()),
        }
    }

    /// The server that was named cannot be. What to say last, where that was tried often enough.
    pub const fn failed(&mut self) -> Option<&'static str> {
        self.faults += 1;
        if self.faults >= MAX_FAULTS { Some("421 Too many attempts.") } else { None }
    }

    fn command(&mut self, command: Command<'_>) -> Step {
        let at_login = std::mem::take(&mut self.at_login);
        match command.verb {
            Verb::User => self.user(command.argument),
            Verb::Secret if at_login => Step::Answer(format!("230 {HOW}")),
            Verb::Secret => Step::Answer(format!("503 {HOW}")),
            Verb::Open | Verb::Site => match destination(command.argument) {
                Some((host, port)) => Step::Connect(Named {
                    host,
                    port,
                    called: Called { server: command.argument.to_vec(), login: None },
                }),
                None => self.fault(Refusal::DestinationMalformed),
            },
            Verb::Quit => Step::Leave("221 Goodbye."),
            Verb::Security => Step::Refuse(Refusal::Encryption),
            Verb::Noop => Step::Answer("200 Nothing done.".to_owned()),
            Verb::Port
            | Verb::Eprt
            | Verb::Pasv
            | Verb::Epsv
            | Verb::OtherNegotiation
            | Verb::Transfer(_)
            | Verb::Abor
            | Verb::Stat
            | Verb::Rein
            | Verb::Feat
            | Verb::Algs
            | Verb::Change
            | Verb::Other => Step::Answer(format!("530 {HOW}")),
        }
    }

    fn user(&mut self, argument: &[u8]) -> Step {
        let Some(at) = memchr::memrchr(b'@', argument) else {
            self.at_login = true;
            return Step::Answer(format!("331 Send any password. {HOW}"));
        };
        let (name, called) = (&argument[..at], &argument[at + 1..]);
        match destination(called).or_else(|| destination(without_proxy_user(called)?)) {
            Some((host, port)) if !name.is_empty() => Step::Connect(Named {
                host,
                port,
                called: Called { server: called.to_vec(), login: Some([b"USER ", name.trim_ascii_end()].concat()) },
            }),
            _ => self.fault(Refusal::DestinationMalformed),
        }
    }

    /// A few faults are borne: a gate must not be a tool to try one server after the other.
    fn fault(&mut self, refusal: Refusal) -> Step {
        self.failed().map_or(Step::Refuse(refusal), Step::Leave)
    }
}

impl Called {
    /// A later USER's argument, without the server's name behind the last @ where that is this server.
    pub(super) fn without_server<'a>(&self, argument: &'a [u8]) -> &'a [u8] {
        let at = memchr::memrchr(b'@', argument).filter(|at| argument[at + 1..].eq_ignore_ascii_case(&self.server));
        at.map_or(argument, |at| &argument[..at])
    }
}

/// `USER name@host proxyuser`, as ncftp says it (its firewall-type 7): the gate has no users of its own.
fn without_proxy_user(called: &[u8]) -> Option<&[u8]> {
    let mut words = called.split(|byte| *byte == b' ').filter(|word| !word.is_empty());
    let (host, user, more) = (words.next()?, words.next()?, words.next());
    (more.is_none() && !user.iter().all(u8::is_ascii_digit)).then_some(host)
}

/// `host`, `host:port`, `host port`, `[address]`, `[address]:port`, or an IPv6 address alone.
fn destination(text: &[u8]) -> Option<(Host, u16)> {
    let text = std::str::from_utf8(text).ok()?.trim();
    if let Ok(ip) = text.parse::<Ipv6Addr>() {
        return Some((Host::Address(IpAddr::V6(ip).to_canonical()), FTP));
    }
    if text.starts_with('[') {
        if let Some(ip) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            return Some((Host::Address(IpAddr::V6(ip.parse().ok()?).to_canonical()), FTP));
        }
        let at: SocketAddr = text.parse().ok().filter(|at: &SocketAddr| at.port() != 0)?;
        return Some((Host::Address(at.ip().to_canonical()), at.port()));
    }
    let (host, port) = match text.split_once([':', ' ']) {
        Some((host, port)) => (host, port_of(port)?),
        None => (text, FTP),
    };
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Some((Host::Address(ip), port));
    }
    is_host_name(host).then(|| (Host::Name(host.to_ascii_lowercase()), port))
}

fn port_of(text: &str) -> Option<u16> {
    let text = text.trim();
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|port| digits && *port != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ftp::buffer::Hidden;

    fn connects(line: &[u8]) -> Option<(String, u16, Option<String>)> {
        match Naming::default().line(line) {
            Step::Connect(Named { host, port, called }) => {
                let host = match host {
                    Host::Address(ip) => ip.to_string(),
                    Host::Name(name) => name,
                };
                let login = called.login.map(|login| String::from_utf8(login).unwrap());
                Some((host, port, login))
            }
            Step::Answer(_) | Step::Refuse(_) | Step::Leave(_) => None,
        }
    }

    #[test]
    fn every_form_names_a_server() {
        for (line, host, port, login) in [
            (&b"USER anna@ftp.example.com"[..], "ftp.example.com", 21, Some("USER anna")),
            (b"user anna@FTP.example.com:2121", "ftp.example.com", 2121, Some("USER anna")),
            (b"USER anna@example.com@10.0.2.2", "10.0.2.2", 21, Some("USER anna@example.com")),
            (b"USER anna@10.0.2.2 gatekeeper", "10.0.2.2", 21, Some("USER anna")),
            (b"USER anna@ftp.example:2121  gatekeeper", "ftp.example", 2121, Some("USER anna")),
            (b"USER anna@gatekeeper@10.0.2.2", "10.0.2.2", 21, Some("USER anna@gatekeeper")),
            (b"USER anna@10.0.2.2:2121", "10.0.2.2", 2121, Some("USER anna")),
            (b"USER anna@[2001:db8::1]:2121", "2001:db8::1", 2121, Some("USER anna")),
            (b"USER anna@[2001:db8::1]", "2001:db8::1", 21, Some("USER anna")),
            (b"USER anna@2001:db8::1", "2001:db8::1", 21, Some("USER anna")),
            (b"USER anna@::ffff:10.0.2.2", "10.0.2.2", 21, Some("USER anna")),
            (b"USER an na@host", "host", 21, Some("USER an na")),
            (b"OPEN ftp.example.com", "ftp.example.com", 21, None),
            (b"open ftp.example.com 2121", "ftp.example.com", 2121, None),
            (b"SITE ftp.example.com:2121", "ftp.example.com", 2121, None),
        ] {
            assert_eq!(connects(line), Some((host.to_owned(), port, login.map(str::to_owned))), "{line:?}");
        }
    }

    #[test]
    fn what_is_no_server_is_refused() {
        for server in [
            "",
            "@",
            "host:",
            "host:0",
            "host:65536",
            "host:+21",
            "host:ftp",
            "ho st x",
            "host:21 21",
            "-:21:21",
            "127.1",
            "0x7f000001",
            "2130706433",
            "1.2.3",
            "host..name",
            ".",
            "a/b",
            "gr\u{fc}n",
            "fe80::1%eth0",
            "[::1",
            "[host]",
            "[10.0.2.2]",
        ] {
            let line = format!("USER anna@{server}");
            assert_eq!(Naming::default().line(line.as_bytes()), Step::Refuse(Refusal::DestinationMalformed), "{line}");
        }
        assert_eq!(Naming::default().line(b"USER @host"), Step::Refuse(Refusal::DestinationMalformed));
        // A user of the proxy's has no place there.
        assert_eq!(Naming::default().line(b"OPEN host x"), Step::Refuse(Refusal::DestinationMalformed));
        assert_eq!(Naming::default().line(b"SITE CHMOD 644 x"), Step::Refuse(Refusal::DestinationMalformed));
        assert_eq!(Naming::default().line(b"OPEN"), Step::Refuse(Refusal::DestinationMalformed));
    }

    #[test]
    fn a_login_to_the_gate_is_taken_and_names_no_server() {
        let mut naming = Naming::default();
        let answer = |step: Step| match &step {
            Step::Answer(reply) => reply.get(..3).unwrap().to_owned(),
            Step::Refuse(_) | Step::Connect(_) | Step::Leave(_) => panic!("{step:?}"),
        };
        assert_eq!(answer(naming.line(b"PASS early")), "503");
        assert_eq!(answer(naming.line(b"USER gatekeeper")), "331");
        assert_eq!(answer(naming.line(b"PASS secret")), "230");
        assert_eq!(answer(naming.line(b"PASV")), "530");
        assert_eq!(answer(naming.line(b"FEAT")), "530");
        assert!(matches!(naming.line(b"USER anna@host"), Step::Connect(_)));
        assert_eq!(naming.line(b"AUTH TLS"), Step::Refuse(Refusal::Encryption));
        assert_eq!(naming.line(b"QUIT"), Step::Leave("221 Goodbye."));
    }

    #[test]
    fn a_few_faults_are_borne() {
        let mut naming = Naming::default();
        assert_eq!(naming.line(b"\x01\x02"), Step::Refuse(Refusal::Garbage));
        assert_eq!(naming.failed(), None);
        assert_eq!(naming.bad_line(LineFault::Nul), Step::Leave("421 Too many attempts."));
        let long = [b"USER ".as_slice(), &[b'a'; 506], b"DELE x@host"].concat();
        let hidden = Hidden { at: 511, verb: "DELE".to_owned() };
        assert_eq!(Naming::default().line(&long), Step::Refuse(Refusal::HiddenCommand(hidden)));
        assert!(matches!(Naming::default().line(b"GET / HTTP/1.1"), Step::Leave(_)));
        assert!(matches!(Naming::default().line(b"ehlo example.com"), Step::Leave(_)));
        assert_eq!(Naming::default().line(b"\"OPEN\" host"), Step::Refuse(Refusal::Garbage));
        assert!(matches!(Naming::default().bad_line(LineFault::Tls), Step::Leave(_)));
    }

    #[test]
    fn the_server_is_taken_off_later_logins() {
        let called = Called { server: b"Host:2121".to_vec(), login: None };
        assert_eq!(called.without_server(b"anna@host:2121"), b"anna");
        assert_eq!(called.without_server(b"anna@b@HOST:2121"), b"anna@b");
        assert_eq!(called.without_server(b"anna@host"), b"anna@host");
        assert_eq!(called.without_server(b"anna"), b"anna");
    }
}
