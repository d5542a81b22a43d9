//! A server that is only made up: it knows every command, and lets everybody in.

use std::net::IpAddr;

use crate::addr::PortRanges;
use crate::ftp::command::{Command, Verb};
use crate::ftp::host_port;
use crate::policy::paths;

/// A port that servers like to name, where the rule allows it.
const USUAL: u16 = 50_000;

/// Where the server stands.
#[derive(Debug)]
pub(super) struct Server {
    directory: Vec<u8>,
    home: Vec<u8>,
}

impl Server {
    pub(super) fn new(home: &[u8]) -> Self {
        Self { directory: home.to_vec(), home: home.to_vec() }
    }

    /// Its replies to a line, in order; `ports` are those that the rule lets it name.
    pub(super) fn replies(&mut self, line: &[u8], address: IpAddr, ports: &PortRanges) -> Vec<Vec<u8>> {
        let Ok(command) = Command::parse(line) else { return vec![b"500 Unknown command.".to_vec()] };
        let port = if ports.contains(USUAL) { USUAL } else { ports.nth(0).unwrap_or(USUAL) };
        let one = |reply: &str| vec![reply.as_bytes().to_vec()];
        match (command.verb, command.name().as_slice()) {
            (Verb::User, _) => one("331 Password."),
            (Verb::Secret, _) => {
                self.directory.clone_from(&self.home);
                one("230 Logged in.")
            }
            (Verb::Pasv, _) => match address {
                IpAddr::V4(ip) => one(&format!("227 {}", host_port::write_227(std::net::SocketAddrV4::new(ip, port)))),
                IpAddr::V6(_) => one("522 Use EPSV."),
            },
            (Verb::Epsv, _) if command.argument.eq_ignore_ascii_case(b"ALL") => one("200 EPSV only."),
            (Verb::Epsv, _) => one(&format!("229 {}", host_port::write_229(port))),
            (Verb::Transfer(_), _) => vec![b"150 Here it comes.".to_vec(), b"226 Done.".to_vec()],
            (Verb::Change, name) => {
                let to = if name.ends_with(b"CUP") || name == b"CDUP" { b"..".as_slice() } else { command.argument };
                if let Some(directory) = paths::plain(Some(&self.directory), to) {
                    self.directory = directory;
                }
                one("250 Changed.")
            }
            (_, b"PWD" | b"XPWD") => vec![[b"257 \"", self.directory.as_slice(), b"\""].concat()],
            (_, b"RNFR" | b"REST") => one("350 Go on."),
            (Verb::Quit, _) => one("221 Goodbye."),
            (Verb::Rein, _) => one("220 Ready."),
            (Verb::Feat, _) => vec![b"211-Features:".to_vec(), b" UTF8".to_vec(), b"211 End".to_vec()],
            _ => one("200 Fine."),
        }
    }
}
