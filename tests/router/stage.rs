//! A server that clients may reach by the gate alone, and what of theirs gets to it.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use crate::lab::gate::Gate;
use crate::lab::host::Host;
use crate::lab::net::{Net, PATH};
use crate::lab::{Family, poll};

/// How long a connection is tried: its first packet is sent again after a second.
const PATIENCE: Duration = Duration::from_millis(1500);
/// How long a log line may take.
const SOON: Duration = Duration::from_secs(15);

pub const GREETING: &str = "220 The server itself.";

pub struct Stage {
    pub net: Net,
    pub family: Family,
}

impl Stage {
    /// A server that greets, and counts connections that the clients' networks try with its control port.
    pub fn new(family: Family) -> Self {
        let net = Net::new().unwrap();
        let at = SocketAddr::new(Net::server_address(family), 21);
        let listener = net.server.run(move || TcpListener::bind(at).unwrap());
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let Ok(mut client) = client else { return };
                std::thread::spawn(move || {
                    let _gone = client.write_all(format!("{GREETING}\r\n").as_bytes());
                    let _end = std::io::copy(&mut client, &mut std::io::sink());
                });
            }
        });
        nft(
            &net.server,
            "table inet seen {\ncounter clients { }\nchain arriving { type filter hook prerouting priority -300;\n\
             ip saddr 10.1.0.0/24 tcp dport 21 tcp flags syn / syn,ack counter name clients\nip6 saddr 2001:db8:1::/64 tcp dport 21 tcp flags syn / syn,ack counter name clients\n}\n}\n",
        );
        Self { net, family }
    }

    /// What a client hears first, or why there is nothing.
    pub fn client(&self) -> String {
        hears(&self.net.client, Net::client_address(self.family), self.server())
    }

    /// The same of the other client.
    pub fn stranger(&self) -> String {
        hears(&self.net.client, Net::stranger_address(self.family), self.server())
    }

    fn server(&self) -> SocketAddr {
        SocketAddr::new(Net::server_address(self.family), 21)
    }

    /// How many first packets from clients themselves have got to the server's control port since this was asked.
    pub fn packets(&self) -> u64 {
        let shown = output(&self.net.server, "nft", &["reset", "counters"]);
        shown.split("packets ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap()
    }

    /// The rules file of a gate that hands over as `by` says, with these rules.
    pub fn rules(&self, by: &str, port: u16, rules: &str) -> String {
        let any = if self.family == Family::V4 { "0.0.0.0" } else { "[::]" };
        format!(
            "version: 1\nlisteners:\n  - name: lan\n    bind: \"{any}:{port}\"\n    transparent: {by}\nrules:\n{rules}"
        )
    }

    /// A rule that allows the stranger, and nobody else.
    pub fn allowing(&self) -> String {
        let (from, to) = (Net::stranger_address(self.family), Net::server_address(self.family));
        format!(
            "  - name: partner\n    from: \"{from}\"\n    to: \"{to}\"\n    action: allow\n    inbound: \"10001-10005\"\n"
        )
    }

    pub fn gate(&self, by: &str, words: &[&str]) -> Gate {
        Gate::start_as(&self.net, &self.rules(by, 2121, &self.allowing()), 2121, &[], words).unwrap()
    }

    /// The client that is denied hears so, and the one that is allowed reaches the server by the gate.
    #[track_caller]
    pub fn works(&self, gate: &Gate) {
        assert_eq!(self.client(), "421 The rules do not allow this session.", "{}", gate.log());
        assert_eq!(self.stranger(), GREETING, "{}", gate.log());
        assert_eq!(self.packets(), 0);
    }

    /// No client gets to the server.
    #[track_caller]
    pub fn is_closed(&self, when: &str) {
        for heard in [self.client(), self.stranger()] {
            assert!(!heard.starts_with("220"), "{when}: {heard}");
        }
        assert_eq!(self.packets(), 0, "{when}");
    }
}

/// The gate's log has a line with all of these words, or will soon.
#[track_caller]
pub fn logged(gate: &Gate, words: &[&str]) -> String {
    let find = || gate.log().lines().rev().find(|line| words.iter().all(|word| line.contains(word))).map(str::to_owned);
    poll(SOON, find).unwrap_or_else(|| panic!("no line with {words:?} in\n{}", gate.log()))
}

#[track_caller]
pub fn nft(host: &Host, text: &str) {
    let mut nft = Command::new("nft");
    nft.args(["-f", "-"]).env("PATH", PATH);
    host.feed(nft, text).unwrap();
}

/// Runs a script of a shell.
#[track_caller]
pub fn sh(host: &Host, script: &str) {
    let mut shell = Command::new("sh");
    shell.arg("-eu").env("PATH", PATH);
    host.feed(shell, script).unwrap();
}

#[track_caller]
pub fn output(host: &Host, program: &str, words: &[&str]) -> String {
    let mut command = Command::new(program);
    command.args(words).env("PATH", PATH);
    let output = host.run(move || command.output()).unwrap();
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(complaints.is_empty(), "{program} {words:?}: {complaints}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn hears(host: &Host, from: IpAddr, to: SocketAddr) -> String {
    let connected = host.run(move || {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::new(from, 0).into()).unwrap();
        socket.connect_timeout(&to.into(), PATIENCE).map(|()| TcpStream::from(socket))
    });
    let stream = match connected {
        Ok(stream) => stream,
        Err(error) => return error.to_string(),
    };
    stream.set_read_timeout(Some(2 * PATIENCE)).unwrap();
    let mut line = String::new();
    match BufReader::new(stream).read_line(&mut line) {
        Ok(_) => line.trim_end().to_owned(),
        Err(error) => error.to_string(),
    }
}
