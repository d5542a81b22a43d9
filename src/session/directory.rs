//! Which directory of the server the session is in, where its rule speaks of paths.
//!
//! The server is asked by a PWD of our own, after each login and each change of directory: what a name leads to, only the
//! server knows. Until it has answered, the client is not read.

use std::time::Instant;

use super::negotiation::ANSWER;
use super::pending::Expected;
use super::{Control, Session};
use crate::addr::Side;
use crate::ftp::line::MAX_COMMAND;
use crate::ftp::reply::{self, Code};

/// The current directory.
#[derive(Debug, Default)]
pub(super) struct Directory {
    known: Option<Box<[u8]>>,
    /// An answer is awaited on which it depends what the client may do, until then at most.
    settling: Option<Instant>,
    /// The server is to be asked when it is its turn; see `ask.rs`.
    is_queued: bool,
}

impl Directory {
    pub(super) fn known(&self) -> Option<&[u8]> {
        self.known.as_deref()
    }

    /// Bytes on the heap.
    pub(super) fn held(&self) -> usize {
        self.known.as_ref().map_or(0, |path| path.len())
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

    pub(super) const fn is_queued(&self) -> bool {
        self.is_queued
    }

    /// The server is not to be asked any more.
    pub(super) const fn drop_queued(&mut self) {
        if self.is_queued {
            self.is_queued = false;
            self.settling = None;
        }
    }

    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }
}

impl Session {
    /// Has the server asked which directory it is in, where that matters.
    pub(super) fn find_directory(&mut self, now: Instant) {
        self.directory.forget();
        if self.rule.paths.is_empty() || self.login.is_due() || self.control != Control::Relaying {
            return;
        }
        self.directory.is_queued = true;
        self.queue_directory(now);
    }

    /// The client is not read before the question that waits is answered, unless a transfer has to end first: the client
    /// could not even abort that.
    pub(super) fn queue_directory(&mut self, now: Instant) {
        if self.directory.is_queued && self.directory.settling.is_none() && !self.pending.awaits_transfer() {
            self.directory.settle(now);
        }
    }

    /// Asks the server, where that waits for its turn, which has come.
    pub(super) fn ask_directory(&mut self, now: Instant) {
        if !self.directory.is_queued {
            return;
        }
        self.directory.is_queued = false;
        self.directory.settle(now);
        self.expect(now, Expected::Directory);
        self.forward(Side::Server, b"PWD".to_vec());
    }

    /// The rules changed: the server is where it was, and is not asked in the midst of RNFR or REST where that is known.
    pub(super) fn keep_directory(&mut self, now: Instant) {
        if self.directory.known.is_none() && self.is_logged_in() && !self.pending.awaits_directory() {
            self.find_directory(now);
        }
    }

    /// The server answered CWD or CDUP. Where replies came out of order, that may have been another's answer.
    pub(super) fn moved(&mut self, now: Instant, code: Code, unordered: bool) {
        self.directory.settled();
        if code.is_success() || unordered {
            self.find_directory(now);
        }
    }

    /// The server answered our PWD.
    pub(super) fn directory_told(&mut self, code: Code, lines: &[Vec<u8>]) {
        self.directory.settled();
        let quoted = lines.first().map(|line| reply::text(line, code)).and_then(quoted);
        // A longer one could not be named by the client either.
        let usable = quoted.filter(|path| code.number() == 257 && path.len() <= MAX_COMMAND);
        self.directory.known = usable.map(Vec::into_boxed_slice);
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
            // A server that does not double them has a name with one in it.
            None => return (!rest.contains(&b'"')).then_some(path),
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
            (b"\"/a\"b\" is cwd", None),
            (b"\"/a\" b\" is cwd", None),
            (b"\"/a\" is cwd.", Some(b"/a")),
            (b"/home", None),
        ] {
            assert_eq!(quoted(text).as_deref(), path);
        }
    }
}
