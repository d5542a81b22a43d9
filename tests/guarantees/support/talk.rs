//! The steps of a negotiation.

use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};

use super::{CLIENT, Gate, Reply, SERVER, Talk, listen, port_of};

impl Talk {
    /// A command and its answer pass as ever, and nothing else comes before them on either side.
    #[track_caller]
    pub fn noop_with(&mut self, server: &mut Self) {
        self.say("NOOP still here");
        server.expect("NOOP still here");
        server.say("200 Still here");
        self.expect("200 Still here");
    }

    /// PASV to its end: the port that the client is told, and the server's listener behind it.
    #[track_caller]
    pub fn passive(&mut self, server: &mut Self) -> (u16, TcpListener) {
        let data = listen(SERVER);
        let port = self.passive_at(server, &data);
        (port, data)
    }

    #[track_caller]
    pub fn passive_at(&mut self, server: &mut Self, data: &TcpListener) -> u16 {
        self.say("PASV");
        server.expect("PASV");
        server.say(&told_227(SERVER, port_of(data)));
        the_port_in(&self.expect_code("227"))
    }

    /// PORT to its end: the port that the server is told, and the client's listener behind it.
    #[track_caller]
    pub fn active(&mut self, server: &mut Self) -> (u16, TcpListener) {
        self.active_from(server, CLIENT)
    }

    #[track_caller]
    pub fn active_from(&mut self, server: &mut Self, client: Ipv4Addr) -> (u16, TcpListener) {
        let data = listen(client);
        self.say(&format!("PORT {}", host_port(client, port_of(&data))));
        let told = server.line();
        assert!(told.starts_with("PORT 127,0,0,1,"), "{told}");
        server.say("200 Fine");
        self.expect("200 Fine");
        (the_port_in(&Reply { code: String::new(), lines: vec![told] }), data)
    }

    /// The server gets a transfer's command and begins; nothing has moved.
    #[track_caller]
    pub fn begin(&mut self, server: &mut Self, command: &str) {
        self.say(command);
        server.expect(command);
        server.say("150 Here it comes");
        self.expect("150 Here it comes");
    }

    /// PASV, a transfer's command, and the data connection's two ends: the client's and the server's.
    #[track_caller]
    pub fn transfer(&mut self, server: &mut Self, command: &str) -> (TcpStream, TcpStream) {
        let from = match self.stream.local_addr().unwrap() {
            std::net::SocketAddr::V4(from) => *from.ip(),
            std::net::SocketAddr::V6(_) => unreachable!("clients here have IPv4"),
        };
        let (port, data) = self.passive(server);
        let ours = super::dial(from, port).unwrap();
        let theirs = super::accept(&data);
        self.begin(server, command);
        (ours, theirs)
    }

    /// The server says that a transfer is complete.
    #[track_caller]
    pub fn complete(&mut self, server: &mut Self) {
        server.say("226 Done");
        self.expect("226 Done");
    }

    /// The client's refused request never comes to the server, and nothing is open.
    #[track_caller]
    pub fn assert_refused(&mut self, server: &mut Self, gate: &Gate, line: &str, code: &str, reason: &str) {
        self.say(line);
        self.expect_code(code);
        self.noop_with(server);
        gate.logged(&["event=\"refused\"", &format!("reason=\"{reason}\"")]);
        gate.assert_all_closed();
    }
}

pub fn host_port(ip: Ipv4Addr, port: u16) -> String {
    let ([a, b, c, d], [high, low]) = (ip.octets(), port.to_be_bytes());
    format!("{a},{b},{c},{d},{high},{low}")
}

pub fn told_227(ip: Ipv4Addr, port: u16) -> String {
    format!("227 Entering Passive Mode ({})", host_port(ip, port))
}

/// The port in a 227 or PORT, whose address must be the gate's.
#[track_caller]
pub fn the_port_in(reply: &Reply) -> u16 {
    let line = reply.lines.last().unwrap();
    let numbers: Vec<u8> = line.split(|c: char| !c.is_ascii_digit()).filter_map(|number| number.parse().ok()).collect();
    let [.., a, b, c, d, high, low] = numbers[..] else { panic!("no address in {line}") };
    let at = SocketAddrV4::new(Ipv4Addr::new(a, b, c, d), u16::from_be_bytes([high, low]));
    assert_eq!(*at.ip(), Ipv4Addr::LOCALHOST, "{line}");
    at.port()
}
