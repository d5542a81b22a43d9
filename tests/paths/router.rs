//! A transparent gate on a router, between a client and a server that are strict about addresses.

use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};

use crate::lab::gate::{Datapath, Gate};
use crate::lab::host::Host;
use crate::lab::net::Net;
use crate::lab::{Family, Mode, poll};
use crate::stage::{PATIENCE, accept, begin, carries, complete, dial, goods, listen};
use crate::talk::Talk;

/// A gate with this in its listeners; `None`: the router forwards and nothing else.
pub struct Router {
    pub net: Net,
    pub gate: Option<Gate>,
    pub family: Family,
    server: TcpListener,
    /// Where the client is, in place of the lab's.
    client: Option<(Host, IpAddr)>,
}

/// Both control connections.
pub struct Session {
    pub client: Talk,
    pub server: Talk,
}

/// The rules file of a transparent gate of one family; `more` are lines of the rule, indented by four.
pub fn rules(listener: &str, datapath: Datapath, family: Family, more: &str) -> String {
    let bind = if family == Family::V4 { "0.0.0.0:2121" } else { "[::]:2121" };
    format!(
        "version: 1\nlisteners:\n  - name: router\n    bind: \"{bind}\"\n{listener}rules:\n  - name: tested\n    \
         from: [\"10.1.0.0/24\", \"2001:db8:1::/64\"]\n    to: [\"10.2.0.0/24\", \"2001:db8:2::/64\"]\n    \
         action: allow\n    datapath: {datapath}\n    inbound: \"10001-10020\"\n    outbound: \"40000-40019\"\n{more}\
         timeouts: {{ connect: 2s }}\n"
    )
}

impl Router {
    pub fn on(net: Net, family: Family, rules: Option<&str>) -> Self {
        let server = listen(&net.server, SocketAddr::new(Net::server_address(family), 21));
        let gate = rules.map(|rules| Gate::start_with(&net, rules, 2121).unwrap());
        Self { net, gate, family, server, client: None }
    }

    /// The client is another host, at this address.
    pub fn with_client(mut self, client: (Host, IpAddr)) -> Self {
        self.client = Some(client);
        self
    }

    /// A gate that another program starts.
    pub fn started_by(net: Net, family: Family, rules: &str, by: &[&str]) -> Self {
        let server = listen(&net.server, SocketAddr::new(Net::server_address(family), 21));
        let gate = Some(Gate::start_by(&net, rules, 2121, &[], by).unwrap());
        Self { net, gate, family, server, client: None }
    }

    pub fn client_ip(&self) -> IpAddr {
        self.client.as_ref().map_or_else(|| Net::client_address(self.family), |(_, ip)| *ip)
    }

    fn client(&self) -> &Host {
        self.client.as_ref().map_or(&self.net.client, |(host, _)| host)
    }

    pub fn server_ip(&self) -> IpAddr {
        Net::server_address(self.family)
    }

    /// A client that was greeted.
    #[track_caller]
    pub fn session(&self) -> Session {
        let client = self.dial_server(21).expect("the client does not reach the server");
        let (mut client, mut server) = (Talk::new(client), Talk::new(accept(&self.server)));
        server.say("220 Ready");
        client.expect("220 Ready");
        Session { client, server }
    }

    /// The client connects to a port of the server's, or to who stands for it.
    pub fn dial_server(&self, port: u16) -> Result<TcpStream, std::io::ErrorKind> {
        dial(self.client(), self.client_ip(), 0, SocketAddr::new(self.server_ip(), port), PATIENCE)
    }

    /// A download in this mode. The server takes no other address than the one that it sees the client at, and no
    /// connection from elsewhere.
    #[track_caller]
    pub fn transfer(&self, session: &mut Session, mode: Mode) {
        let (ours, theirs) = match mode {
            Mode::Passive => self.passive(session),
            Mode::Active => self.active(session),
        };
        begin(&mut session.client, &mut session.server, "RETR file");
        carries(theirs, ours, &goods(100_000));
        complete(&mut session.client, &mut session.server);
    }

    #[track_caller]
    pub fn passive(&self, Session { client, server }: &mut Session) -> (TcpStream, TcpStream) {
        let data = listen(&self.net.server, SocketAddr::new(self.server_ip(), 0));
        client.say("EPSV");
        server.expect("EPSV");
        server.say(&format!("229 Here (|||{}|)", data.local_addr().unwrap().port()));
        let told = client.expect_code("229").lines.concat();
        let ours = self.dial_server(told.split('|').nth(3).unwrap().parse().unwrap()).unwrap();
        let theirs = accept(&data);
        assert_eq!(theirs.peer_addr().unwrap().ip(), server.stream.peer_addr().unwrap().ip(), "from elsewhere");
        (ours, theirs)
    }

    #[track_caller]
    pub fn active(&self, Session { client, server }: &mut Session) -> (TcpStream, TcpStream) {
        let data = listen(self.client(), SocketAddr::new(self.client_ip(), 0));
        let number = if self.family == Family::V4 { 1 } else { 2 };
        client.say(&format!("EPRT |{number}|{}|{}|", self.client_ip(), data.local_addr().unwrap().port()));
        let told = server.line();
        let mut fields = told.split('|').skip(2);
        let ip: IpAddr = fields.next().unwrap().parse().unwrap();
        let at = SocketAddr::new(ip, fields.next().unwrap().parse().unwrap());
        // As vsftpd, proftpd and IIS do: data goes nowhere but to the host that the control connection comes from.
        assert_eq!(ip, server.stream.peer_addr().unwrap().ip(), "501 Illegal EPRT: {told}");
        server.say("200 Fine");
        client.expect("200 Fine");
        let theirs = dial(&self.net.server, self.server_ip(), 0, at, PATIENCE).expect("no data connection");
        (accept(&data), theirs)
    }

    pub fn log(&self) -> String {
        self.gate.as_ref().map_or_else(String::new, Gate::log)
    }

    /// The line of the gate's log that has all of these; waits for it.
    #[track_caller]
    pub fn logged(&self, words: &[&str]) -> String {
        let find = || self.log().lines().find(|line| words.iter().all(|word| line.contains(word))).map(str::to_owned);
        poll(PATIENCE, find).unwrap_or_else(|| panic!("no line has all of {words:?}:\n{}", self.log()))
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the gate's log:\n{}", self.log());
        }
    }
}
