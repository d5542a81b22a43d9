//! What a command does at the server, as far as its verb tells.

use super::command::Verb;
use super::line::without_telnet;

/// What a command does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// It is about the session: login, negotiation, types, questions that name no file.
    Session,
    /// It moves the session to another directory, or tells which it is in.
    Navigate,
    /// It tells something of what is there: names, sizes, times, checksums.
    List,
    /// It fetches a file.
    Download,
    /// It writes a file, makes a directory, or changes what is known of either.
    Upload,
    /// It takes a file or directory away, or its name.
    Delete,
    /// Nobody here knows.
    Unknown,
}

/// What a command does, and the path that it names, where it names one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deed<'a> {
    /// What it does.
    pub effect: Effect,
    /// The path that it names; `None`: none, or the current directory.
    pub path: Option<&'a [u8]>,
}

impl<'a> Deed<'a> {
    /// Looks a command up: its verb, in capitals, and its argument.
    #[must_use]
    pub fn of(verb: &[u8], argument: &'a [u8]) -> Self {
        let whole = Some(argument).filter(|argument| !argument.is_empty());
        let (effect, path) = match verb {
            b"USER" | b"PASS" | b"ACCT" | b"QUIT" | b"REIN" | b"NOOP" | b"TYPE" | b"MODE" | b"STRU" | b"REST"
            | b"ALLO" | b"PASV" | b"EPSV" | b"PORT" | b"EPRT" | b"FEAT" | b"HELP" | b"SYST" | b"OPTS" | b"HOST"
            | b"CLNT" | b"CSID" | b"LANG" | b"ABOR" | b"AUTH" | b"ADAT" | b"PBSZ" | b"PROT" | b"CCC" | b"ALGS" => {
                (Effect::Session, None)
            }
            b"STAT" if argument.is_empty() => (Effect::Session, None),
            b"PWD" | b"XPWD" | b"CDUP" | b"XCUP" => (Effect::Navigate, None),
            b"CWD" | b"XCWD" => (Effect::Navigate, whole),
            b"LIST" | b"NLST" | b"STAT" => (Effect::List, without_options(argument)),
            b"MDTM" => match timestamp_and_path(argument) {
                Some(path) => (Effect::Upload, Some(path)),
                None => (Effect::List, whole),
            },
            b"MLSD" | b"MLST" | b"SIZE" | b"AVBL" | b"DSIZ" | b"HASH" | b"XCRC" | b"XMD5" | b"XSHA" | b"XSHA1"
            | b"XSHA256" | b"XSHA512" | b"MD5" => (Effect::List, whole),
            b"RETR" => (Effect::Download, whole),
            b"STOR" | b"APPE" | b"STOU" | b"MKD" | b"XMKD" | b"RNTO" => (Effect::Upload, whole),
            b"MFMT" | b"MFCT" | b"MFF" => (Effect::Upload, after_blank(argument)),
            b"DELE" | b"RMD" | b"XRMD" | b"RMDA" | b"RNFR" => (Effect::Delete, whole),
            _ => (Effect::Unknown, whole),
        };
        Self { effect, path }
    }

    /// Whether it names no path because it means the current directory.
    #[must_use]
    pub fn is_here(&self) -> bool {
        self.path.is_none() && self.effect == Effect::List
    }
}

/// The other name of a command that has two (RFC 775, RFC 1123 section 4.1.3.1): servers take them for the same.
#[must_use]
pub fn other_name(verb: &[u8]) -> Option<&'static str> {
    const TWO_NAMES: [[&str; 2]; 5] =
        [["MKD", "XMKD"], ["RMD", "XRMD"], ["PWD", "XPWD"], ["CWD", "XCWD"], ["CDUP", "XCUP"]];
    TWO_NAMES.iter().find_map(|[new, old]| match verb {
        _ if verb == new.as_bytes() => Some(*old),
        _ if verb == old.as_bytes() => Some(*new),
        _ => None,
    })
}

/// Whether refusing a command of this kind is the business of a list of commands: those of the session itself are what
/// every client needs.
#[must_use]
pub const fn is_basic(verb: Verb, effect: Effect) -> bool {
    matches!(effect, Effect::Session | Effect::Navigate) || matches!(verb, Verb::Security)
}

/// No server is known that reads less of a line at a time.
const SHORTEST_BUFFER: usize = 255;

/// Whether some server may take the end of this long line for a command of its own.
///
/// Those of the BSD family read 511 bytes at a time, and take what is left for the next command (CVE-2008-4247).
#[must_use]
pub fn may_hide_command(line: &[u8]) -> bool {
    let hides = |line: &[u8]| (SHORTEST_BUFFER..line.len()).any(|at| line.get(at..).is_some_and(begins_with_verb));
    line.len() > SHORTEST_BUFFER && (hides(line) || without_telnet(line).is_some_and(|plain| hides(&plain)))
}

fn begins_with_verb(text: &[u8]) -> bool {
    const LONGEST: usize = 7;
    let end = text.iter().take(LONGEST + 1).position(|byte| !byte.is_ascii_alphanumeric());
    let Some(verb) = text.get(..end.unwrap_or(text.len())).filter(|verb| verb.len() <= LONGEST) else { return false };
    let verb = verb.to_ascii_uppercase();
    text.get(verb.len()).is_none_or(|byte| matches!(byte, b' ' | b'\t'))
        && (Verb::of(&verb) != Verb::Other || Deed::of(&verb, b"").effect != Effect::Unknown)
}

/// `LIST -la path`: servers take what begins with a hyphen for options.
fn without_options(mut argument: &[u8]) -> Option<&[u8]> {
    while argument.starts_with(b"-") {
        argument = after_blank(argument).unwrap_or_default();
    }
    Some(argument).filter(|argument| !argument.is_empty())
}

/// `MDTM 20260101120000 path` sets the time, in the reading of some servers; Serv-U takes `20260101120000+60` too.
fn timestamp_and_path(argument: &[u8]) -> Option<&[u8]> {
    let stamp = argument.split(|byte| *byte == b' ').next().unwrap_or_default();
    let digits = stamp.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let is_stamp = digits >= 8 && stamp.iter().all(|byte| byte.is_ascii_digit() || b"+-.".contains(byte));
    if is_stamp { after_blank(argument) } else { None }
}

fn after_blank(argument: &[u8]) -> Option<&[u8]> {
    let blank = argument.iter().position(|byte| *byte == b' ')?;
    Some(argument.get(blank..)?.trim_ascii_start()).filter(|rest| !rest.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_short_buffer_would_make_of_a_line_is_seen() {
        let long = |length: usize, end: &str| format!("SIZE /{}{end}", "a".repeat(length - 6)).into_bytes();
        for end in ["PORT 10,0,0,9,4,1", "dele /x", "STOU", "xSITE\tEXEC", "PASV"] {
            assert!(may_hide_command(&long(511, end)), "{end}");
        }
        assert!(may_hide_command(&[long(511, "DE"), b"\xffZLE /x".to_vec()].concat()));
        for end in ["/file.txt", "STOUT", "", "/DELEx", "PORT-1"] {
            assert!(!may_hide_command(&long(511, end)), "{end}");
        }
        assert!(!may_hide_command(b"SIZE DELE x"));
    }

    #[test]
    fn paths_are_found() {
        for (verb, argument, effect, path) in [
            (&b"RETR"[..], &b"a b"[..], Effect::Download, Some(&b"a b"[..])),
            (b"LIST", b"", Effect::List, None),
            (b"LIST", b"-la", Effect::List, None),
            (b"LIST", b"-l -a /x y", Effect::List, Some(b"/x y")),
            (b"STAT", b"", Effect::Session, None),
            (b"STAT", b"-l /x", Effect::List, Some(b"/x")),
            (b"MDTM", b"x", Effect::List, Some(b"x")),
            (b"MDTM", b"20260101120000 x", Effect::Upload, Some(b"x")),
            (b"MDTM", b"20260101120000+60 x", Effect::Upload, Some(b"x")),
            (b"MDTM", b"20260101.csv", Effect::List, Some(b"20260101.csv")),
            (b"MDTM", b"2026 x", Effect::List, Some(b"2026 x")),
            (b"MFMT", b"20260101120000 a b", Effect::Upload, Some(b"a b")),
            (b"SITE", b"CHMOD 644 x", Effect::Unknown, Some(b"CHMOD 644 x")),
            (b"XYZ", b"", Effect::Unknown, None),
        ] {
            assert_eq!(Deed::of(verb, argument), Deed { effect, path }, "{verb:?} {argument:?}");
        }
    }
}
