//! Bytes of a control connection to lines: framing, Telnet, and bounds.
//!
//! What is taken apart here is what goes on to the other side, never the raw bytes. Segments mean nothing: a line is what
//! ends with LF.

use std::mem;

use memchr::memchr;

use super::telnet::{Decoded, Decoder, SE, behind_commands};

/// The longest command that is taken, without its end: file names may be long, and in UTF-8 longer.
pub const MAX_COMMAND: usize = 4096;
/// The longest line of a reply that is taken, without its end.
pub const MAX_REPLY: usize = 8192;
/// How many bytes of an overlong line are skipped before the peer is given up.
const MAX_SKIPPED: usize = 64 * 1024;

/// How each record of a TLS handshake begins, in every version.
const HANDSHAKE: &[u8] = &[0x16, 0x03];

/// How a header of the PROXY protocol, version 2, begins: no FTP client sends a NUL after two empty lines.
const PROXY_HEADER: &[u8] = b"\r\n\r\n\0";

/// One line, without its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Its bytes, without CR LF; a command also without Telnet commands, and what is left of them, in and ahead of its verb.
    pub bytes: Vec<u8>,
    /// Telnet IP or DM came before it, as clients send ahead of ABOR (RFC 959 section 4.1.3).
    pub interrupt: bool,
}

/// What is wrong with a line; its bytes are gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LineFault {
    /// Longer than the bound. The rest, up to its end, is skipped.
    TooLong,
    /// No end within any reason: the peer does not speak in lines.
    Endless,
    /// A NUL byte within.
    Nul,
    /// A TLS handshake where plain text belongs: it has NUL bytes early and a line end late or never.
    Tls,
    /// A header of the PROXY protocol, version 2, whose end another reader would take for QUIT.
    ProxyHeader,
    /// A CR that no LF follows: some peers would take it for the end of a line.
    BareCr,
}

/// Which side's lines are read: commands and replies differ in what is bearable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dialect {
    Commands,
    Replies,
}

/// Takes bytes as they come and gives lines. It holds no memory between lines, and at most the longest line with its end
/// as long as nobody pushes more than there is [`Self::room`] for.
#[derive(Debug)]
pub struct LineReader {
    dialect: Dialect,
    telnet: Decoder,
    bytes: Vec<u8>,
    /// Where the next line begins in `bytes`: what is ahead of it was given out.
    start: usize,
    /// No LF in `bytes` between `start` and here.
    searched: usize,
    /// Bytes of an overlong line that were thrown away so far.
    skipping: Option<usize>,
    /// Ends of lines, as offsets into `bytes`, before which a Telnet interrupt came; at most one is remembered.
    interrupt_at: Option<usize>,
    refusals: Vec<u8>,
}

impl LineReader {
    /// A reader for what a client sends: Telnet is decoded, faults are told.
    #[must_use]
    pub const fn commands() -> Self {
        Self::new(Dialect::Commands)
    }

    /// A reader for what a server sends: bytes stay as they are, but Telnet commands ahead of a code go, and a CR within
    /// a line becomes a blank, because clients with universal line ends would take what follows it for a reply of its own.
    #[must_use]
    pub const fn replies() -> Self {
        Self::new(Dialect::Replies)
    }

    const fn new(dialect: Dialect) -> Self {
        Self {
            dialect,
            telnet: Decoder::new(),
            bytes: Vec::new(),
            start: 0,
            searched: 0,
            skipping: None,
            interrupt_at: None,
            refusals: Vec::new(),
        }
    }

    /// How many bytes [`Self::push`] may be given now. Never 0 once [`Self::next_line`] has given `None`.
    #[must_use]
    pub fn room(&self) -> usize {
        (self.limit() + 2).saturating_sub(self.bytes.len() - self.start)
    }

    /// Takes bytes from the peer, as many as there is [`Self::room`] for.
    pub fn push(&mut self, bytes: &[u8]) {
        self.compact();
        match self.dialect {
            Dialect::Replies => self.bytes.extend_from_slice(bytes),
            Dialect::Commands => {
                let into = &mut Decoded { plain: &mut self.bytes, refusals: &mut self.refusals };
                self.interrupt_at = self.telnet.decode(bytes, into).or(self.interrupt_at);
            }
        }
    }

    /// The next line or fault, or `None` until more bytes come.
    pub fn next_line(&mut self) -> Option<Result<Line, LineFault>> {
        let rest = self.bytes.get(self.start..)?;
        if self.dialect == Dialect::Commands && self.skipping.is_none() && rest.starts_with(HANDSHAKE) {
            self.forget();
            return Some(Err(LineFault::Tls));
        }
        if self.dialect == Dialect::Commands && self.skipping.is_none() && rest.starts_with(PROXY_HEADER) {
            self.forget();
            return Some(Err(LineFault::ProxyHeader));
        }
        loop {
            let Some(end) = memchr(b'\n', self.bytes.get(self.searched..)?).map(|at| self.searched + at) else {
                return self.no_end_yet();
            };
            // A copy of its own: a line that is kept must not keep the whole read.
            let bytes = self.bytes.get(self.start..end)?.to_vec();
            let interrupt = self.interrupt_before(end);
            (self.start, self.searched) = (end + 1, end + 1);
            if self.start == self.bytes.len() {
                // An idle session holds no buffer.
                self.forget();
            }
            if self.skipping.take().is_some() {
                continue;
            }
            return Some(self.checked(bytes).map(|bytes| Line { bytes, interrupt }));
        }
    }

    /// Whether bytes of an unfinished line are held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.start == self.bytes.len()
    }

    /// Answers to Telnet option requests that came in: each is refused (RFC 1123 section 4.1.2.12).
    pub fn take_refusals(&mut self) -> Vec<u8> {
        mem::take(&mut self.refusals)
    }

    fn no_end_yet(&mut self) -> Option<Result<Line, LineFault>> {
        self.searched = self.bytes.len();
        let held = self.bytes.len() - self.start;
        if let Some(skipped) = &mut self.skipping {
            if held == 0 {
                // Each fault is told once for what was pushed, or whoever takes lines to the last never ends.
                return None;
            }
            *skipped += held;
            let endless = *skipped > MAX_SKIPPED;
            self.forget();
            return endless.then_some(Err(LineFault::Endless));
        }
        if held > self.limit() + 1 {
            self.skipping = Some(held);
            self.forget();
            return Some(Err(LineFault::TooLong));
        }
        // An unfinished line may wait for long.
        self.compact();
        self.bytes.shrink_to_fit();
        None
    }

    /// Drops the lines that were given out.
    fn compact(&mut self) {
        if self.start > 0 {
            self.bytes.drain(..self.start);
            self.searched -= self.start;
            self.interrupt_at = self.interrupt_at.map(|at| at.saturating_sub(self.start));
            self.start = 0;
        }
    }

    /// Drops everything, and the buffer.
    fn forget(&mut self) {
        self.interrupt_at = self.interrupt_at.map(|at| at.saturating_sub(self.bytes.len()));
        self.bytes = Vec::new();
        (self.start, self.searched) = (0, 0);
    }

    const fn limit(&self) -> usize {
        match self.dialect {
            Dialect::Commands => MAX_COMMAND,
            Dialect::Replies => MAX_REPLY,
        }
    }

    fn checked(&self, mut bytes: Vec<u8>) -> Result<Vec<u8>, LineFault> {
        while bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
        if bytes.len() > self.limit() {
            return Err(LineFault::TooLong);
        }
        match self.dialect {
            Dialect::Commands if memchr(0, &bytes).is_some() => Err(LineFault::Nul),
            Dialect::Commands if memchr(b'\r', &bytes).is_some() => Err(LineFault::BareCr),
            Dialect::Commands => {
                // An urgent byte may be lost on its way: the rest of a Telnet command then stands ahead of the verb, and
                // no verb begins with such a byte.
                let stray = bytes.iter().take_while(|byte| **byte >= SE).count();
                let blanks = bytes.iter().skip(stray).take_while(|byte| **byte == b' ').count();
                bytes.drain(..if stray > 0 { stray + blanks } else { 0 });
                Ok(bytes)
            }
            Dialect::Replies => {
                if let Some(reply) = behind_commands(&bytes) {
                    bytes = reply.to_vec();
                }
                bytes.iter_mut().filter(|byte| **byte == b'\r').for_each(|byte| *byte = b' ');
                Ok(bytes)
            }
        }
    }

    fn interrupt_before(&mut self, end: usize) -> bool {
        match self.interrupt_at {
            Some(at) if at <= end => {
                self.interrupt_at = None;
                true
            }
            Some(_) | None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(reader: &mut LineReader, bytes: &[u8]) -> Vec<Result<String, LineFault>> {
        reader.push(bytes);
        std::iter::from_fn(|| reader.next_line())
            .map(|line| line.map(|line| line.bytes.escape_ascii().to_string()))
            .collect()
    }

    fn ok(text: &str) -> Result<String, LineFault> {
        Ok(text.to_owned())
    }

    #[test]
    fn segments_mean_nothing() {
        let text = b"USER a\r\nPASS b\nNOOP\r\n";
        let mut whole = LineReader::commands();
        assert_eq!(read(&mut whole, text), [ok("USER a"), ok("PASS b"), ok("NOOP")]);
        let mut split = LineReader::commands();
        let lines: Vec<_> = text.iter().flat_map(|byte| read(&mut split, &[*byte])).collect();
        assert_eq!(lines, [ok("USER a"), ok("PASS b"), ok("NOOP")]);
        assert!(split.is_empty() && split.bytes.capacity() == 0, "an idle reader holds memory");
    }

    #[test]
    fn latin_1_and_lone_iac_pass() {
        let mut reader = LineReader::commands();
        assert_eq!(read(&mut reader, b"RETR \xe9\xff\xffb\xffc\r\n"), [ok("RETR \\xe9\\xff\\xffb\\xffc")]);
    }

    #[test]
    fn telnet_commands_vanish_and_options_are_refused() {
        let mut reader = LineReader::commands();
        let sent = b"\xff\xfd\x06P\xff\xf1AS\xff\xfb\x01V\xff\xfa\x18\x00xx\xff\xf0\r\n";
        assert_eq!(read(&mut reader, sent), [ok("PASV")]);
        assert_eq!(reader.take_refusals(), [0xff, 0xfc, 6, 0xff, 0xfe, 1]);
    }

    #[test]
    fn stray_telnet_bytes_ahead_of_a_verb_vanish() {
        let mut reader = LineReader::commands();
        assert_eq!(read(&mut reader, b"\xf2ABOR\r\n"), [ok("ABOR")]);
        assert_eq!(read(&mut reader, b"\xff\xff\xf4PORT 1\r\n"), [ok("PORT 1")]);
        assert_eq!(read(&mut reader, b"\xf4 abor\r\n  abor\r\n"), [ok("abor"), ok("  abor")]);
        assert_eq!(read(&mut reader, b"\xff\xff\r\n \xf2ABOR\r\n"), [ok(""), ok(" \\xf2ABOR")]);
        assert_eq!(read(&mut LineReader::replies(), b"\xff\xff 1\r\n"), [ok("\\xff\\xff 1")]);
    }

    #[test]
    fn an_interrupt_belongs_to_the_line_that_follows_it() {
        let mut reader = LineReader::commands();
        reader.push(b"NOOP\r\n\xff\xf4\xff\xf2ABOR\r\nNOOP\r\n");
        let seen: Vec<bool> = std::iter::from_fn(|| reader.next_line()).map(|line| line.unwrap().interrupt).collect();
        assert_eq!(seen, [false, true, false]);
    }

    #[test]
    fn an_unclosed_negotiation_swallows_no_further_line() {
        let mut reader = LineReader::commands();
        assert_eq!(read(&mut reader, b"\xff\xfaNOOP\r\nQUIT\r\n"), [ok(""), ok("QUIT")]);
    }

    #[test]
    fn lines_are_bounded() {
        let mut reader = LineReader::commands();
        let long = vec![b'a'; MAX_COMMAND + 2];
        assert_eq!(read(&mut reader, &long), [Err(LineFault::TooLong)]);
        assert_eq!(read(&mut reader, b"still\r\nNOOP\r\n"), [ok("NOOP")]);
        let fits = [vec![b'a'; MAX_COMMAND], b"\r\n".to_vec()].concat();
        assert_eq!(read(&mut reader, &fits).len(), 1);
    }

    #[test]
    fn a_stream_without_ends_is_given_up() {
        let mut reader = LineReader::commands();
        let faults: Vec<_> = (0..40).flat_map(|_| read(&mut reader, &[b'x'; 4097])).collect();
        assert_eq!(faults.first(), Some(&Err(LineFault::TooLong)));
        assert_eq!(faults.get(1), Some(&Err(LineFault::Endless)));
        assert!(faults.len() <= 40, "a fault is told again although nothing came");
    }

    #[test]
    fn a_tls_handshake_is_known_before_any_line_ends() {
        let mut reader = LineReader::commands();
        assert_eq!(read(&mut reader, b"AUTH TLS\r\n\x16"), [ok("AUTH TLS")]);
        assert_eq!(read(&mut reader, b"\x03\x01\x02\x00\x01\x00"), [Err(LineFault::Tls)]);
        assert!(read(&mut LineReader::commands(), b"RETR \x16\x03").is_empty());
    }

    #[test]
    fn nul_and_bare_cr_are_faults_of_a_command() {
        let mut reader = LineReader::commands();
        assert_eq!(read(&mut reader, b"RETR a\0b\r\n"), [Err(LineFault::Nul)]);
        assert_eq!(read(&mut reader, b"RETR a\rPORT 1\r\n"), [Err(LineFault::BareCr)]);
        assert_eq!(read(&mut reader, b"NOOP\r\r\n"), [ok("NOOP")]);
    }

    #[test]
    fn a_cr_within_a_reply_starts_no_line() {
        let mut reader = LineReader::replies();
        assert_eq!(read(&mut reader, b"213 a\r227 b\xff\xf1\r\n"), [ok("213 a 227 b\\xff\\xf1")]);
    }
}
