//! A gate for clients that name their server, on machines of its own with a name server of their own.

use std::io::{ErrorKind, Read as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;

use crate::lab::gate::Gate;
use crate::lab::net::Net;
use crate::lab::scratch::Scratch;
use crate::lab::{Family, poll};
use crate::names::NameServer;
use crate::talk::{IO, Talk};

/// The rules of the usual explicit gate: everybody may reach the servers' net, but for one address. One server may be
/// reached at another port than 21.
pub const RULES: &str = "rules:
  - name: not-this-one
    from: any
    to: [\"10.2.0.9\", \"2001:db8:2::9\"]
    action: deny
  - name: lab
    from: [\"10.1.0.0/24\", \"2001:db8:1::/64\"]
    to: [\"10.2.0.0/24\", \"2001:db8:2::/64\", \"10.2.0.2:2121\"]
    action: allow
    inbound: \"10001-10020\"
    outbound: \"40000-40099\"
timeouts:
  connect: 2s
";

pub struct Stage {
    pub net: Net,
    pub gate: Gate,
    pub names: NameServer,
    folder: Scratch,
}

impl Stage {
    pub fn new() -> Self {
        Self::with(&listener("explicit: user-at-host", Family::V4), RULES)
    }

    /// With this listener, which is bound to port 21 of the gate, and these rules.
    pub fn with(listener: &str, rules: &str) -> Self {
        let net = Net::new().unwrap();
        net.close().unwrap();
        let names = NameServer::start(&net.gate);
        let folder = Scratch::new("names").unwrap();
        let (resolv, hosts) = (folder.join("resolv.conf"), folder.join("hosts"));
        std::fs::write(&resolv, "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n").unwrap();
        std::fs::write(&hosts, "127.0.0.1 localhost\n10.2.0.2 from-hosts\n").unwrap();
        let files: [(&Path, &str); 2] = [(&resolv, "/etc/resolv.conf"), (&hosts, "/etc/hosts")];
        let rules = format!("version: 1\nlisteners:\n{listener}{rules}");
        let gate = Gate::start_in_place(&net, &rules, 21, &files).unwrap();
        Self { net, gate, names, folder }
    }

    /// A listener of the server's, at its own address.
    pub fn listen(&self, at: &str) -> TcpListener {
        let at: SocketAddr = at.parse().unwrap();
        let listener = self.net.server.run(move || TcpListener::bind(at)).unwrap();
        listener.set_nonblocking(true).unwrap();
        listener
    }

    /// A client that the gate has greeted.
    #[track_caller]
    pub fn client(&self) -> Talk {
        self.client_of(Family::V4)
    }

    #[track_caller]
    pub fn client_of(&self, family: Family) -> Talk {
        let mut client = self.ungreeted(family);
        client.expect_code("220");
        client
    }

    pub fn ungreeted(&self, family: Family) -> Talk {
        let at = SocketAddr::new(Net::gate_address(family), 21);
        Talk::new(self.net.client.run(move || TcpStream::connect_timeout(&at, IO)).unwrap())
    }

    /// The line of the gate's log that has all of these words; waits for it.
    #[track_caller]
    pub fn logged(&self, words: &[&str]) {
        let found =
            poll(IO, || self.gate.log().lines().any(|line| words.iter().all(|w| line.contains(w))).then_some(()));
        assert!(found.is_some(), "no line has all of {words:?}:\n{}", self.gate.log());
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the gate's log:\n{}", self.gate.tail());
        }
    }
}

/// A listener at the gate's address of this family, with more lines of its own.
pub fn listener(more: &str, family: Family) -> String {
    let bind = SocketAddr::new(Net::gate_address(family), 21);
    format!("  - name: front\n    bind: \"{bind}\"\n    {more}\n")
}

/// The next connection to a listener.
#[track_caller]
pub fn accept(listener: &TcpListener) -> Talk {
    let (stream, _) = poll(IO, || listener.accept().ok()).expect("nobody connected");
    stream.set_nonblocking(false).unwrap();
    Talk::new(stream)
}

/// Nobody has connected. Meaningful only after something that would have come later.
#[track_caller]
pub fn nobody_came_to(listener: &TcpListener) {
    assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
}

/// The gate closes the connection.
#[track_caller]
pub fn assert_closed(mut talk: Talk) {
    assert_eq!(talk.stream.read(&mut [0; 64]).unwrap_or(0), 0);
}

pub fn is_ipv6(family: Family) -> bool {
    matches!(Net::gate_address(family), IpAddr::V6(_))
}
