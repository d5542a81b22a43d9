//! Which directory of the server the session is in, where its rule speaks of paths.
//!
//! The server is asked by a PWD of our own, after each login and each change of directory: what a name leads to, only the
//! server knows. Until it has answered, the client is not read.

use std::time::Instant;

use super::Session;
use super::negotiation::ANSWER;
use super::pending::Expected;
use crate::addr::Side;
use crate::ftp::reply::{self, Code};

/// The current directory.
#[derive(Debug, Default)]
pub(super) struct Directory {
    known: Option<Box<[u8]>>,
    /// An answer is awaited on which it depends what the client may do, until then at most.
    settling: Option<Instant>,
}

impl Directory {
    pub(super) fn known(&self) -> Option<&[u8]> {
        self.known.as_deref()
    }

    pub(super) const fn deadline(&self) -> Option<Instant> {
        self.settling
    }

    pub(super) fn settle(&mut self, now: Instant) {
        self.settling = Some(now + ANSWER);
    }

    pub(super) const fn settled(&mut self) {
        self.settling = None;
    }

    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }
}

impl Session {
    /// Asks the server which directory it is in, where that matters and can be asked now.
    pub(super) fn find_directory(&mut self, now: Instant) {
        if self.rule.paths.is_empty() || self.login.is_due() || self.data.is_busy() {
            return self.directory.forget();
        }
        self.directory.forget();
        self.directory.settle(now);
        self.expect(now, Expected::Directory);
        self.forward(Side::Server, b"PWD".to_vec());
    }

    /// The server answered CWD or CDUP.
    pub(super) fn moved(&mut self, now: Instant, code: Code) {
        self.directory.settled();
        if code.is_success() {
            self.find_directory(now);
        }
    }

    /// The server answered our PWD.
    pub(super) fn directory_told(&mut self, code: Code, lines: &[Vec<u8>]) {
        self.directory.settled();
        let quoted = lines.first().map(|line| reply::text(line, code)).and_then(quoted);
        self.directory.known = quoted.filter(|_| code.number() == 257).map(Vec::into_boxed_slice);
    }
}

/// The path in the text of a 257 reply: between quotation marks, with those within doubled (RFC 959 appendix II).
fn quoted(text: &[u8]) -> Option<Vec<u8>> {
    let start = memchr::memchr(b'"', text)? + 1;
    let mut path = Vec::new();
    let mut rest = text.get(start..)?;
    loop {
        let end = memchr::memchr(b'"', rest)?;
        path.extend_from_slice(rest.get(..end)?);
        rest = rest.get(end + 1..)?;
        match rest.strip_prefix(b"\"") {
            Some(more) => {
                path.push(b'"');
                rest = more;
            }
            None => return Some(path),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_is_what_is_quoted() {
        for (text, path) in [
            (&b"\"/home/anna\" is the current directory"[..], Some(&b"/home/anna"[..])),
            (b"\"/a \"\"b\"\"\" is cwd", Some(b"/a \"b\"")),
            (b"\"\"", Some(b"")),
            (b"\"/cut", None),
            (b"/home", None),
        ] {
            assert_eq!(quoted(text).as_deref(), path);
        }
    }
}
