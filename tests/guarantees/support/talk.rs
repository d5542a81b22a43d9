//! One end of a control connection, and the steps of a negotiation.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};

use super::{CLIENT, Gate, SERVER, bounded, listen, port_of};

/// Either end of a control connection.
pub struct Talk {
    stream: TcpStream,
    read: Vec<u8>,
}

/// A reply as a client takes it: what lies between the first and the last line is text.
#[derive(Debug)]
pub struct Reply {
    pub code: String,
    pub lines: Vec<String>,
}

impl Talk {
    pub fn new(stream: TcpStream) -> Self {
        bounded(&stream);
        Self { stream, read: Vec::new() }
    }

    #[track_caller]
    pub fn say(&mut self, line: &str) {
        self.send(format!("{line}\r\n").as_bytes());
    }

    #[track_caller]
    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// Sends bytes with the urgent mark on the last of them.
    #[track_caller]
    pub fn send_urgent(&mut self, bytes: &[u8]) {
        assert_eq!(socket2::SockRef::from(&self.stream).send_out_of_band(bytes).unwrap(), bytes.len());
    }

    /// Reads urgent bytes in their place among the others, as FTP servers do.
    pub fn keep_urgent_inline(&mut self) {
        socket2::SockRef::from(&self.stream).set_out_of_band_inline(true).unwrap();
    }

    /// Sends as much as is taken.
    pub fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// The next line with its end, or what there is before the connection ends.
    pub fn try_line(&mut self) -> io::Result<Vec<u8>> {
        loop {
            if let Some(end) = self.read.iter().position(|byte| *byte == b'\n') {
                let rest = self.read.split_off(end + 1);
                return Ok(std::mem::replace(&mut self.read, rest));
            }
            let mut buffer = [0; 4096];
            match self.stream.read(&mut buffer)? {
                0 => return Ok(std::mem::take(&mut self.read)),
                count => self.read.extend_from_slice(&buffer[..count]),
            }
        }
    }

    #[track_caller]
    pub fn raw_line(&mut self) -> Vec<u8> {
        self.try_line().unwrap()
    }

    #[track_caller]
    pub fn line(&mut self) -> String {
        let line = self.raw_line();
        assert!(line.ends_with(b"\r\n"), "no whole line: {}", line.escape_ascii());
        String::from_utf8(line).unwrap().trim_end().to_owned()
    }

    #[track_caller]
    pub fn expect(&mut self, line: &str) {
        assert_eq!(self.line(), line);
    }

    #[track_caller]
    pub fn reply(&mut self) -> Reply {
        let first = self.line();
        let code = first[..3].to_owned();
        let (more, end) = (first[3..].starts_with('-'), format!("{code} "));
        let mut lines = vec![first];
        while more && !lines.last().unwrap().starts_with(&end) {
            lines.push(self.line());
        }
        Reply { code, lines }
    }

    #[track_caller]
    pub fn expect_code(&mut self, code: &str) -> Reply {
        let reply = self.reply();
        assert_eq!(reply.code, code, "{:?}", reply.lines);
        reply
    }

    /// The connection ends without another line; a reset will do.
    #[track_caller]
    pub fn expect_end(&mut self) {
        match self.try_line() {
            Ok(line) => assert!(line.is_empty(), "a line more: {}", line.escape_ascii()),
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset),
        }
    }

    /// Lines up to the connection's end, however it ends.
    #[track_caller]
    pub fn rest(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            match self.try_line() {
                Ok(line) if line.is_empty() => return lines,
                Ok(line) => lines.push(String::from_utf8_lossy(&line).trim_end().to_owned()),
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return lines,
                Err(error) => panic!("the connection does not end: {error}; {lines:?}"),
            }
        }
    }

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
        let data = listen(CLIENT);
        self.say(&format!("PORT {}", host_port(CLIENT, port_of(&data))));
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
