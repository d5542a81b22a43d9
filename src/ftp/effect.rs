//! What a command does at the server, as far as its verb tells.

use super::command::{Verb, is_blank, trim_blanks};

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

/// The path that a command names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named<'a> {
    /// None, or the current directory.
    Nothing,
    /// This one.
    Path(&'a [u8]),
    /// One or several, and servers may differ in which bytes of the argument they are.
    Unclear,
}

/// What a command does, and the path that it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deed<'a> {
    /// What it does.
    pub effect: Effect,
    /// The path that it names.
    pub path: Named<'a>,
}

impl<'a> Deed<'a> {
    /// Looks a command up: its verb, in capitals, and its argument.
    #[must_use]
    pub fn of(verb: &[u8], argument: &'a [u8]) -> Self {
        let whole = Named::of(argument);
        let (effect, path) = match verb {
            b"USER" | b"PASS" | b"ACCT" | b"QUIT" | b"REIN" | b"NOOP" | b"TYPE" | b"MODE" | b"STRU" | b"REST"
            | b"RANG" | b"ALLO" | b"PASV" | b"EPSV" | b"PORT" | b"EPRT" | b"FEAT" | b"HELP" | b"SYST" | b"OPTS"
            | b"HOST" | b"CLNT" | b"CSID" | b"LANG" | b"MACB" | b"ABOR" | b"AUTH" | b"ADAT" | b"PBSZ" | b"PROT"
            | b"CCC" | b"MIC" | b"CONF" | b"ENC" | b"ALGS" | b"LPRT" | b"LPSV" | b"SPSV" | b"APSV" | b"CPSV"
            | b"SSCN" | b"ESTA" | b"ESTP" | b"SPOR" | b"SPAS" => (Effect::Session, Named::Nothing),
            b"STAT" if argument.is_empty() => (Effect::Session, Named::Nothing),
            b"PWD" | b"XPWD" | b"CDUP" | b"XCUP" => (Effect::Navigate, Named::Nothing),
            b"CWD" | b"XCWD" | b"SMNT" => (Effect::Navigate, whole),
            b"LIST" | b"NLST" | b"STAT" => (Effect::List, without_options(argument)),
            b"MDTM" => timestamp_and_path(argument),
            b"MLSD" | b"MLST" | b"MLSC" | b"SIZE" | b"AVBL" | b"DSIZ" => (Effect::List, whole),
            b"HASH" | b"XCRC" | b"XMD5" | b"XSHA" | b"XSHA1" | b"XSHA256" | b"XSHA512" | b"MD5" => {
                (Effect::List, unquoted(whole))
            }
            b"RETR" => (Effect::Download, whole),
            // `THMB format width height path`.
            b"THMB" => (Effect::Download, behind_words(argument, 3)),
            // GridFTP: `ERET P offset size path`, `ESTO A offset path`. What else a mode means is for the server to say.
            b"ERET" => in_mode(argument, b'P', 2, Effect::Download),
            b"ESTO" => in_mode(argument, b'A', 1, Effect::Upload),
            // GridFTP: a directory with all below it.
            b"MLSR" => (Effect::List, Named::Unclear),
            b"STOR" | b"APPE" | b"STOU" | b"MKD" | b"XMKD" | b"RNTO" => (Effect::Upload, whole),
            b"MFMT" | b"MFCT" | b"MFF" => (Effect::Upload, behind_words(argument, 1)),
            // The file to be made, and the parts of it that are there.
            b"COMB" => (Effect::Upload, Named::Unclear),
            b"DELE" | b"RMD" | b"XRMD" | b"RMDA" | b"RNFR" => (Effect::Delete, whole),
            _ => (Effect::Unknown, whole),
        };
        Self { effect, path }
    }

    /// Whether it names no path because it means the current directory.
    #[must_use]
    pub fn is_here(&self) -> bool {
        self.path == Named::Nothing && self.effect == Effect::List
    }
}

impl<'a> Named<'a> {
    fn of(text: &'a [u8]) -> Self {
        if text.is_empty() { Self::Nothing } else { Self::Path(text) }
    }
}

/// Commands of GridFTP that do what RETR, STOR, MLSD and MLST do.
const GRIDFTP: [&[u8]; 4] = [b"ERET", b"ESTO", b"MLSR", b"MLSC"];

/// Whether it is known what a verb, in capitals, does, so that a list of what is denied may leave it out. What SITE does is
/// for the word behind it to tell; who denies RETR hardly thinks of ERET.
#[must_use]
pub fn is_known(verb: &[u8]) -> bool {
    verb == b"SITE" || (Deed::of(verb, b"").effect != Effect::Unknown && !GRIDFTP.contains(&verb))
}

/// The verb that some server takes this one for: pyftpdlib looks at the last four letters of those that it does not know,
/// for clients whose Telnet signals stick to the verb. It puts the first word behind SITE into the verb.
#[must_use]
pub fn verb_at_end(verb: &[u8], argument: &[u8]) -> Option<&'static str> {
    let word = if verb == b"SITE" { argument.split(|byte| *byte == b' ').next().unwrap_or_default() } else { verb };
    let end = word.len().checked_sub(4).and_then(|start| word.get(start..))?;
    ["ABOR", "STAT", "QUIT"]
        .into_iter()
        .find(|name| end.eq_ignore_ascii_case(name.as_bytes()) && (verb == b"SITE" || word.len() > name.len()))
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

/// `LIST -la path`: servers take what begins with a hyphen for options.
fn without_options(mut argument: &[u8]) -> Named<'_> {
    while argument.starts_with(b"-") {
        let end = argument.iter().position(is_blank).unwrap_or(argument.len());
        argument = trim_blanks(argument.get(end..).unwrap_or_default());
    }
    Named::of(argument)
}

/// `MDTM 20260101120000 path` sets the time, in the reading of some servers; Serv-U takes `20260101120000+60` too.
fn timestamp_and_path(argument: &[u8]) -> (Effect, Named<'_>) {
    let digits = argument.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let is_stamp = |byte: &u8| byte.is_ascii_digit() || b"+-.".contains(byte);
    let end = argument.iter().position(|byte| !is_stamp(byte));
    match end.and_then(|end| argument.get(end)) {
        Some(byte) if digits >= 8 && ends_word(*byte) => (Effect::Upload, behind_words(argument, 1)),
        Some(_) | None => (Effect::List, Named::of(argument)),
    }
}

/// The path behind a mode of one letter and that many numbers.
fn in_mode(argument: &[u8], mode: u8, numbers: usize, effect: Effect) -> (Effect, Named<'_>) {
    if argument.is_empty() {
        return (effect, Named::Unclear);
    }
    let mut words = argument.split(|byte| *byte == b' ').filter(|word| !word.is_empty());
    let is_mode = words.next().is_some_and(|word| word.eq_ignore_ascii_case(&[mode]));
    let is_plain = words.by_ref().take(numbers).filter(|word| word.iter().all(u8::is_ascii_digit)).count() == numbers;
    if is_mode && is_plain { (effect, behind_words(argument, numbers + 1)) } else { (Effect::Unknown, Named::Unclear) }
}

/// Whether some server may take this byte for the end of a word.
pub(super) const fn ends_word(byte: u8) -> bool {
    byte <= b' ' || matches!(byte, b'"' | 0x7f)
}

/// The path behind that many words. It is clear only where all servers agree on where the words end.
fn behind_words(argument: &[u8], count: usize) -> Named<'_> {
    let mut rest = argument;
    for _ in 0..count {
        let Some(end) = rest.iter().position(|byte| ends_word(*byte)) else { return Named::Unclear };
        let (word, behind) = rest.split_at(end);
        if word.is_empty() || !behind.starts_with(b" ") {
            return Named::Unclear;
        }
        let blanks = behind.iter().take_while(|byte| **byte == b' ').count();
        rest = behind.get(blanks..).unwrap_or_default();
    }
    match unquoted(Named::of(rest)) {
        Named::Nothing => Named::Unclear,
        named @ (Named::Path(_) | Named::Unclear) => named,
    }
}

/// ProFTPD takes the argument of some commands apart into words, and quotation marks away.
fn unquoted(named: Named<'_>) -> Named<'_> {
    match named {
        Named::Path(path) if path.contains(&b'"') => Named::Unclear,
        Named::Nothing | Named::Path(_) | Named::Unclear => named,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_found() {
        use Named::{Nothing, Path, Unclear};
        for (verb, argument, effect, path) in [
            (&b"RETR"[..], &b"a b"[..], Effect::Download, Path(b"a b")),
            (b"LIST", b"", Effect::List, Nothing),
            (b"LIST", b"-la", Effect::List, Nothing),
            (b"LIST", b"-l -a /x y", Effect::List, Path(b"/x y")),
            (b"LIST", b"-l\t/x", Effect::List, Path(b"/x")),
            (b"STAT", b"", Effect::Session, Nothing),
            (b"STAT", b"-l /x", Effect::List, Path(b"/x")),
            (b"MDTM", b"x", Effect::List, Path(b"x")),
            (b"MDTM", b"20260101120000 x", Effect::Upload, Path(b"x")),
            (b"MDTM", b"20260101120000+60 x", Effect::Upload, Path(b"x")),
            (b"MDTM", b"20260101120000\tx", Effect::Upload, Unclear),
            (b"MDTM", b"20260101120000\x0bx", Effect::Upload, Unclear),
            (b"MDTM", b"20260101120000\" \"x", Effect::Upload, Unclear),
            (b"MDTM", b"20260101120000", Effect::List, Path(b"20260101120000")),
            (b"MDTM", b"20260101.csv", Effect::List, Path(b"20260101.csv")),
            (b"MDTM", b"2026 x", Effect::List, Path(b"2026 x")),
            (b"MFMT", b"20260101120000 a b", Effect::Upload, Path(b"a b")),
            (b"MFMT", b"20260101120000  a", Effect::Upload, Path(b"a")),
            (b"MFMT", b"20260101120000\t/etc/passwd", Effect::Upload, Unclear),
            (b"MFMT", b"20260101120000 \"a\"/b", Effect::Upload, Unclear),
            (b"MFMT", b"\"20260101120000\" /b", Effect::Upload, Unclear),
            (b"MFMT", b"20260101120000", Effect::Upload, Unclear),
            (b"MFMT", b"", Effect::Upload, Unclear),
            (b"MFCT", b"20260101120000\x0b/etc/passwd", Effect::Upload, Unclear),
            (b"MFF", b"modify=20260101120000; a", Effect::Upload, Path(b"a")),
            (b"MFF", b"modify=20260101120000;\ta", Effect::Upload, Unclear),
            (b"THMB", b"JPG 100 100 a b", Effect::Download, Path(b"a b")),
            (b"THMB", b"JPG 100\t100 a", Effect::Download, Unclear),
            (b"COMB", b"a b", Effect::Upload, Unclear),
            (b"ERET", b"P 0 100 /a b", Effect::Download, Path(b"/a b")),
            (b"ERET", b"p 0  100 a", Effect::Download, Path(b"a")),
            (b"ERET", b"P 0 100", Effect::Download, Unclear),
            (b"ERET", b"P 0 x /a", Effect::Unknown, Unclear),
            (b"ERET", b"P\t0 100 /a", Effect::Unknown, Unclear),
            (b"ERET", b"POPEN:/bin/sh 0 100 /a", Effect::Unknown, Unclear),
            (b"ERET", b"", Effect::Download, Unclear),
            (b"ESTO", b"A 0 /a b", Effect::Upload, Path(b"/a b")),
            (b"ESTO", b"A 0\t/a", Effect::Unknown, Unclear),
            (b"ESTO", b"X 0 /a", Effect::Unknown, Unclear),
            (b"MLSR", b"/a", Effect::List, Unclear),
            (b"SPAS", b"", Effect::Session, Nothing),
            (b"XCRC", b"a 0 10", Effect::List, Path(b"a 0 10")),
            (b"XCRC", b"\"a\" 0 10", Effect::List, Unclear),
            (b"SITE", b"CHMOD 644 x", Effect::Unknown, Path(b"CHMOD 644 x")),
            (b"XYZ", b"", Effect::Unknown, Nothing),
        ] {
            assert_eq!(Deed::of(verb, argument), Deed { effect, path }, "{verb:?} {}", argument.escape_ascii());
        }
    }

    #[test]
    fn the_end_of_a_verb_may_be_a_command() {
        for (verb, argument, taken) in [
            (&b"XSTAT"[..], &b"."[..], Some("STAT")),
            (b"XQUIT", b"", Some("QUIT")),
            (b"STAT", b".", None),
            (b"SITE", b"stat .", Some("STAT")),
            (b"SITE", b"x\tABOR .", Some("ABOR")),
            (b"SITE", b"CHMOD 644 STAT", None),
            (b"SITE", b"", None),
            (b"NOOP", b"STAT", None),
        ] {
            assert_eq!(verb_at_end(verb, argument), taken);
        }
    }
}
