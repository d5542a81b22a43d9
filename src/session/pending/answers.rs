//! Which replies a command can have (RFC 959 section 5.4, and what servers say), so that a reply which comes out of order
//! finds its command.

use crate::ftp::command::{Command, Verb};

/// What a command is answered by where it succeeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::session) enum Answers {
    /// Nobody knows: the gate does not know the command, or servers do not agree.
    Any,
    /// By one of these codes.
    Only(&'static [u16]),
    /// As NOOP is; it came in the middle of a transfer, to keep the connection alive, and some servers throw it away then.
    KeepAlive,
    /// By one of these; it names a file, which it may fail for.
    File(&'static [u16]),
}

impl Answers {
    pub(super) const NOOP: Self = Self::Only(&[200]);

    /// The answers to a command that passes as it is.
    pub(in crate::session) fn of(command: &Command<'_>) -> Self {
        if command.verb == Verb::Noop {
            return Self::NOOP;
        }
        match command.name().as_slice() {
            b"TYPE" | b"MODE" | b"STRU" | b"CLNT" | b"LANG" | b"ALLO" => Self::Only(&[200, 202]),
            b"OPTS" => Self::Only(&[200, 202, 501, 451]),
            b"SYST" => Self::Only(&[215]),
            b"HELP" => Self::Only(&[211, 214]),
            b"HOST" => Self::Only(&[220]),
            b"REST" => Self::Only(&[350]),
            b"PWD" | b"XPWD" => Self::File(&[257]),
            b"MKD" | b"XMKD" => Self::File(&[257, 250]),
            b"RMD" | b"XRMD" | b"DELE" | b"RNTO" => Self::File(&[250]),
            b"RNFR" => Self::File(&[350]),
            b"SIZE" => Self::File(&[213]),
            b"MDTM" | b"MFMT" | b"MFCT" | b"MFF" => Self::File(&[213, 250, 253]),
            b"MLST" => Self::File(&[250]),
            _ => Self::Any,
        }
    }

    /// The same command in the middle of a transfer.
    pub(super) fn in_transfer(self) -> Self {
        if self == Self::NOOP { Self::KeepAlive } else { self }
    }

    /// Whether a final reply with this code may be the answer.
    pub(super) fn fits(self, number: u16) -> bool {
        match self {
            _ if is_of_any(number) => true,
            // What ends a transfer belongs to it, and a port to PASV.
            Self::Any => !is_transfers_only(number) && number >= 200 && !matches!(number, 227 | 229),
            Self::KeepAlive => number == 200,
            Self::Only(codes) => codes.contains(&number),
            Self::File(codes) => codes.contains(&number) || is_of_file(number),
        }
    }

    /// Whether this code is what it succeeds by.
    pub(super) fn is_success(self, number: u16) -> bool {
        match self {
            Self::Any => false,
            Self::KeepAlive => number == 200,
            Self::Only(codes) | Self::File(codes) => codes.contains(&number),
        }
    }
}

/// Final replies that only a transfer that has begun has, or its ABOR.
pub(super) const fn is_transfers_only(number: u16) -> bool {
    matches!(number, 225 | 226 | 425 | 426 | 451 | 452 | 551 | 552)
}

/// Final replies that a transfer that has begun may have.
pub(super) const fn is_transfers(number: u16) -> bool {
    is_transfers_only(number) || number == 250 || is_of_file(number)
}

/// What is wrong with the file that a command names.
const fn is_of_file(number: u16) -> bool {
    matches!(number, 450 | 550 | 553)
}

/// What any command may be answered by: it is not known, comes at the wrong time, or nobody is logged in.
const fn is_of_any(number: u16) -> bool {
    matches!(number, 500..=504 | 530 | 532..=537)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(line: &[u8]) -> Answers {
        Answers::of(&Command::parse(line).unwrap())
    }

    #[test]
    fn each_command_knows_its_replies() {
        for (line, fits, other) in [
            (&b"NOOP"[..], 200, 213),
            (b"size x", 213, 200),
            (b"SIZE x", 550, 250),
            (b"PWD", 257, 250),
            (b"TYPE I", 200, 550),
            (b"XFOO", 250, 226),
            (b"SITE x", 550, 426),
        ] {
            assert!(answers(line).fits(fits) && answers(line).fits(500), "{}", line.escape_ascii());
            assert!(!answers(line).fits(other) && !answers(line).fits(226), "{}", line.escape_ascii());
        }
    }
}
