//! Commands within long lines: what a server with a short buffer would make of a line's end.
//!
//! Servers of the BSD family read 511 bytes at a time and take what is left for the next command (CVE-2008-4247), ProFTPD
//! did so behind 1023 (CVE-2008-4242). Nobody but an attacker has a command at just such a place.

use super::command::{Verb, is_blank};
use super::effect::{Deed, Effect, ends_word};
use super::telnet::readings;

/// The sizes of the buffers that FTP servers read lines into. Of each, one or two bytes may be kept for an end.
const SIZES: [usize; 5] = [256, 512, 1024, 2048, 4096];
/// How many bytes of a buffer are not for the line, at most.
const KEPT: usize = 2;
/// No known verb is longer than this.
const LONGEST_KNOWN: usize = 7;

/// A command within a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hidden {
    /// Behind how many bytes.
    pub at: usize,
    /// Its verb, in capitals.
    pub verb: String,
}

/// Where some server may see a command of its own in this line, and which.
#[must_use]
pub fn hidden_command(line: &[u8]) -> Option<Hidden> {
    if line.len() < SIZES[0] - KEPT {
        return None;
    }
    within(line).or_else(|| readings(line).iter().find_map(|read| within(read)))
}

fn within(line: &[u8]) -> Option<Hidden> {
    // What is left over may be longer than the buffer again.
    let ends =
        SIZES.into_iter().flat_map(|size| size - KEPT..=size).flat_map(|taken| (taken..line.len()).step_by(taken));
    let hidden = ends.filter_map(|at| Some(Hidden { at, verb: first_verb(line.get(at..)?)? }));
    hidden.min_by_key(|hidden| hidden.at)
}

/// The known verb that text begins with as a word of its own, as it is or without its quotation marks.
fn first_verb(text: &[u8]) -> Option<String> {
    let start = text.iter().position(|byte| !is_blank(byte)).unwrap_or(text.len());
    let text = text.get(start..).unwrap_or_default();
    let mut plain = [0; LONGEST_KNOWN + 1];
    let bytes = text.iter().filter(|byte| **byte != b'"');
    let count = plain.iter_mut().zip(bytes).map(|(to, from)| *to = *from).count();
    let quoted = text.iter().position(|byte| *byte != b'"').and_then(|start| text.get(start..)).unwrap_or_default();
    known_verb(plain.get(..count).unwrap_or_default()).or_else(|| known_verb(quoted))
}

/// The known verb that text begins with, where the word ends there.
fn known_verb(text: &[u8]) -> Option<String> {
    let end = text.iter().take(LONGEST_KNOWN + 1).position(|byte| !byte.is_ascii_alphanumeric());
    let verb = text.get(..end.unwrap_or(text.len())).filter(|verb| verb.len() <= LONGEST_KNOWN)?;
    let verb = verb.to_ascii_uppercase();
    let is_word = text.get(verb.len()).is_none_or(|byte| ends_word(*byte));
    let is_known = Verb::of(&verb) != Verb::Other || Deed::of(&verb, b"").effect != Effect::Unknown;
    // Letters and digits, so that nothing of them is lost.
    (is_word && is_known).then(|| String::from_utf8_lossy(&verb).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A line with `end` behind that many bytes.
    fn long(length: usize, end: &[u8]) -> Vec<u8> {
        [b"SIZE /", "a".repeat(length - 6).as_bytes(), end].concat()
    }

    #[test]
    fn a_command_where_a_buffer_ends_is_seen() {
        let ends: [&[u8]; 10] = [
            b"PORT 10,0,0,9,4,1",
            b"dele /x",
            b"STOU",
            b"xSITE\tEXEC",
            b"PASV",
            b"\"epsv\" 1",
            b"P\"ASV\"",
            b"DELE\"x\"",
            b"PASV\x0b",
            b"  PASV",
        ];
        for end in ends {
            assert!(hidden_command(&long(511, end)).is_some(), "{}", end.escape_ascii());
        }
        for length in [254, 255, 256, 510, 511, 512, 1022, 1023, 1024, 2048, 3 * 511, 7 * 512, 15 * 255] {
            assert_eq!(hidden_command(&long(length, b"dele /x")), Some(Hidden { at: length, verb: "DELE".to_owned() }));
        }
        assert!(hidden_command(&[long(511, b"DE"), b"\xffZLE /x".to_vec()].concat()).is_some());
        // Where the server leaves two bytes away, the end of its buffer lies behind them.
        let both = [&b"SIZE \xff\xf1"[..], &[b'a'; 506], b"DELE /x"].concat();
        assert_eq!(hidden_command(&both).map(|hidden| hidden.at), Some(511));
    }

    #[test]
    fn everyday_names_behind_long_paths_are_none() {
        for end in [&b"/file.txt"[..], b"STOUT", b"", b"/DELEx", b"PORT-1"] {
            assert_eq!(hidden_command(&long(511, end)), None, "{}", end.escape_ascii());
        }
        for name in ["annual report", "price list", "transport", "user help", "stat", "type", "/site mode"] {
            for length in (257..480).chain(520..740).chain(1100..1250) {
                let line = long(length, format!("/{name}").as_bytes());
                assert_eq!(hidden_command(&line), None, "{name} {length}");
            }
        }
        assert_eq!(hidden_command(b"SIZE DELE x"), None);
    }
}
