//! One end of a control connection, for a test that says every line itself.

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

/// How long one read or write may take.
pub const IO: Duration = Duration::from_secs(5);

/// Either end of a control connection.
pub struct Talk {
    pub stream: TcpStream,
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

    /// Exactly these bytes come next.
    #[track_caller]
    pub fn expect_bytes(&mut self, bytes: &[u8]) {
        while self.read.len() < bytes.len() {
            let mut buffer = [0; 4096];
            let count = self.stream.read(&mut buffer).unwrap();
            assert!(count > 0, "the end after: {}", self.read.escape_ascii());
            self.read.extend_from_slice(&buffer[..count]);
        }
        let rest = self.read.split_off(bytes.len());
        let came = std::mem::replace(&mut self.read, rest);
        assert!(came == bytes, "not {}, but: {}", bytes.escape_ascii(), came.escape_ascii());
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
}

/// No read or write waits for ever.
pub fn bounded(stream: &TcpStream) {
    stream.set_read_timeout(Some(IO)).unwrap();
    stream.set_write_timeout(Some(IO)).unwrap();
    stream.set_nodelay(true).unwrap();
}
