//! The commands of the demo's FTP server.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use tokio::net::TcpListener;

use super::server::{Data, Files, UNREACHABLE};
use crate::ftp::host_port;

/// What a command asks for.
pub(super) enum Asked {
    /// A reply, without its end.
    Reply(String),
    /// These bytes over the data connection.
    Send(Vec<u8>),
    /// A file from the data connection, after these bytes.
    Receive {
        /// Its name.
        name: String,
        /// What it begins with.
        before: Vec<u8>,
    },
    /// The end.
    Quit,
}

/// One client.
pub(super) struct Session {
    pub(super) files: Files,
    pub(super) data: Data,
    offset: usize,
}

impl Session {
    pub(super) const fn new(files: Files) -> Self {
        Self { files, data: Data::None, offset: 0 }
    }

    /// Does one command.
    pub(super) async fn command(&mut self, line: &[u8]) -> io::Result<Asked> {
        let text = String::from_utf8_lossy(line).into_owned();
        let (verb, argument) = text.split_once(' ').unwrap_or((&text, ""));
        let offset = std::mem::take(&mut self.offset);
        let name = argument.trim_start_matches('/').to_owned();
        Ok(match verb.to_ascii_uppercase().as_str() {
            "PASV" => self.passive(false).await?,
            "EPSV" => self.passive(true).await?,
            "PORT" => self.active(host_port::parse_port(argument.as_bytes()).map(SocketAddr::from)),
            "EPRT" => self.active(host_port::parse_eprt(argument.as_bytes())),
            "RETR" => match self.files.lock().get(&name) {
                Some(bytes) => Asked::Send(bytes.get(offset..).unwrap_or_default().to_vec()),
                None => reply("550 There is no such file."),
            },
            "STOR" | "APPE" if !name.is_empty() => {
                let old = self.files.lock().get(&name).map(|bytes| bytes.to_vec()).unwrap_or_default();
                let keep = if verb.eq_ignore_ascii_case("APPE") { old.len() } else { offset.min(old.len()) };
                Asked::Receive { name, before: old.get(..keep).unwrap_or_default().to_vec() }
            }
            "LIST" => Asked::Send(self.listing(true)),
            "NLST" => Asked::Send(self.listing(false)),
            "REST" => {
                self.offset = argument.parse().unwrap_or_default();
                reply(format!("350 From {}.", self.offset))
            }
            "QUIT" => Asked::Quit,
            verb => self.plain(verb, &name),
        })
    }

    fn plain(&self, verb: &str, name: &str) -> Asked {
        match verb {
            "USER" => reply("331 Any password will do."),
            "PASS" => reply("230 Welcome."),
            "SYST" => reply("215 UNIX Type: L8"),
            "FEAT" => reply("211-Features:\r\n EPRT\r\n EPSV\r\n REST STREAM\r\n SIZE\r\n211 End"),
            "PWD" | "XPWD" => reply("257 \"/\""),
            "CWD" if name.is_empty() => reply("250 There is one folder only."),
            "CWD" => reply("550 There is one folder only."),
            "CDUP" | "NOOP" | "TYPE" | "MODE" | "STRU" | "OPTS" | "ALLO" => reply("200 Fine."),
            "ABOR" => reply("226 Nothing to abort."),
            "SIZE" => match self.files.lock().get(name) {
                Some(bytes) => reply(format!("213 {}", bytes.len())),
                None => reply("550 There is no such file."),
            },
            "DELE" => match self.files.lock().remove(name) {
                Some(_) => reply("250 Gone."),
                None => reply("550 There is no such file."),
            },
            _ => reply("502 Not in this server."),
        }
    }

    async fn passive(&mut self, extended: bool) -> io::Result<Asked> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        self.data = Data::Passive(listener);
        Ok(reply(if extended {
            format!("229 {}", host_port::write_229(port))
        } else {
            format!("227 {}", host_port::write_227(SocketAddrV4::new(UNREACHABLE, port)))
        }))
    }

    fn active(&mut self, to: Result<SocketAddr, host_port::Malformed>) -> Asked {
        match to {
            Ok(to) => {
                self.data = Data::Active(to);
                reply("200 Fine.")
            }
            Err(_) => reply("501 That is no address and port."),
        }
    }

    fn listing(&self, long: bool) -> Vec<u8> {
        let files = self.files.lock();
        let lines = files.iter().map(|(name, bytes)| {
            if long {
                format!("-rw-r--r--   1 demo     demo     {:>10} Jan  1  2026 {name}\r\n", bytes.len())
            } else {
                format!("{name}\r\n")
            }
        });
        lines.collect::<String>().into_bytes()
    }
}

fn reply(text: impl Into<String>) -> Asked {
    Asked::Reply(text.into())
}
