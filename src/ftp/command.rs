//! Commands: what the gate must know of a line that a client sends.

use super::effect::{Deed, Effect};

/// A command line taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Command<'a> {
    /// What it is.
    pub verb: Verb,
    /// The verb as it was written.
    pub written: &'a [u8],
    /// What follows the verb, without the blanks around it.
    pub argument: &'a [u8],
}

/// The commands that the gate acts on or must recognise; all others are [`Verb::Other`] and pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verb {
    /// Active mode, IPv4 (RFC 959 section 4.1.2).
    Port,
    /// Active mode, either family (RFC 2428 section 2).
    Eprt,
    /// Passive mode, IPv4 (RFC 959 section 4.1.2).
    Pasv,
    /// Passive mode, either family (RFC 2428 section 3).
    Epsv,
    /// A way to negotiate a data connection that the gate does not speak: LPRT, LPSV, SPSV, APSV, CPSV, SSCN, ESTA,
    /// ESTP, and SPOR and SPAS of GridFTP.
    OtherNegotiation,
    /// A command that moves data.
    Transfer(Way),
    /// ABOR.
    Abor,
    /// STAT, which may be asked in the middle of a transfer.
    Stat,
    /// QUIT.
    Quit,
    /// REIN: the session starts anew on the same connection.
    Rein,
    /// FEAT (RFC 2389).
    Feat,
    /// ALGS: a client asks the gate, and not the server, what it translates (RFC 6384 section 11).
    Algs,
    /// AUTH and the other commands of RFC 2228 and 4217 that lead to encryption.
    Security,
    /// PASS or ACCT: the argument is a secret.
    Secret,
    /// USER.
    User,
    /// OPEN, which names a server to an FTP proxy.
    Open,
    /// SITE: what a server can do beyond the standard; to an FTP proxy it names a server.
    Site,
    /// NOOP.
    Noop,
    /// CWD, CDUP and their old forms, and SMNT: another directory.
    Change,
    /// Anything else.
    Other,
}

/// Which way the bytes of a transfer go, and what they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Way {
    /// RETR; ERET of GridFTP; THMB.
    Download,
    /// STOR, STOU, APPE; ESTO of GridFTP.
    Upload,
    /// LIST, NLST, MLSD; MLSR of GridFTP.
    Listing,
}

/// Why a line is no command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NotACommand {
    /// Nothing but blanks.
    Empty,
    /// A request of HTTP: a browser that was lured here, or a scanner.
    Http,
    /// A command of SMTP: somebody wants to reach a mail server through the gate.
    Smtp,
    /// A header of the PROXY protocol, of a balancer that is not known as one, or of a client that would be another.
    ProxyHeader,
    /// A verb with other bytes than letters and digits, or too long, or something else than a blank behind it.
    Garbage,
}

/// The longest verb that is looked at; RFC 959 has four letters, extensions a few more.
const MAX_VERB: usize = 16;

impl<'a> Command<'a> {
    /// Takes a line apart.
    ///
    /// A verb is letters and digits. Servers differ in what they make of anything else: ProFTPD took `"DELE"` for DELE
    /// up to 1.3.8, others end a verb at a control character. A line with such a verb could mean one thing here and
    /// another there, so it is not a command. Blanks before the verb are skipped, as some servers do.
    ///
    /// # Errors
    /// Where the line is not a command.
    pub fn parse(line: &'a [u8]) -> Result<Self, NotACommand> {
        let line = trim_blanks(line);
        if line.is_empty() {
            return Err(NotACommand::Empty);
        }
        let end = line.iter().position(|byte| !byte.is_ascii_alphanumeric()).unwrap_or(line.len());
        let (written, rest) = line.split_at(end);
        if written.is_empty() || written.len() > MAX_VERB || !rest.first().is_none_or(is_blank) {
            return Err(NotACommand::Garbage);
        }
        let (name, argument) = (written.to_ascii_uppercase(), trim_blanks(rest));
        if let Some(other) = other_protocol(&name, argument) {
            return Err(other);
        }
        Ok(Self { verb: Verb::of(&name), written, argument })
    }
}

impl Command<'_> {
    /// The verb in capitals.
    #[must_use]
    pub fn name(&self) -> Vec<u8> {
        self.written.to_ascii_uppercase()
    }
}

impl Verb {
    /// The command with this name, in capitals.
    #[must_use]
    pub fn of(upper: &[u8]) -> Self {
        match upper {
            b"PORT" => Self::Port,
            b"EPRT" => Self::Eprt,
            b"PASV" => Self::Pasv,
            b"EPSV" => Self::Epsv,
            b"LPRT" | b"LPSV" | b"SPSV" | b"APSV" | b"CPSV" | b"SSCN" | b"ESTA" | b"ESTP" | b"SPOR" | b"SPAS" => {
                Self::OtherNegotiation
            }
            b"RETR" | b"ERET" | b"THMB" => Self::Transfer(Way::Download),
            b"STOR" | b"STOU" | b"APPE" | b"ESTO" => Self::Transfer(Way::Upload),
            b"LIST" | b"NLST" | b"MLSD" | b"MLSR" => Self::Transfer(Way::Listing),
            b"ABOR" => Self::Abor,
            b"STAT" => Self::Stat,
            b"QUIT" => Self::Quit,
            b"REIN" => Self::Rein,
            b"FEAT" => Self::Feat,
            b"ALGS" => Self::Algs,
            b"AUTH" | b"ADAT" | b"PBSZ" | b"PROT" | b"CCC" | b"MIC" | b"CONF" | b"ENC" => Self::Security,
            b"PASS" | b"ACCT" => Self::Secret,
            b"USER" => Self::User,
            b"OPEN" => Self::Open,
            b"SITE" => Self::Site,
            b"NOOP" => Self::Noop,
            b"CWD" | b"CDUP" | b"XCWD" | b"XCUP" | b"SMNT" => Self::Change,
            _ => Self::Other,
        }
    }
}

/// Whether a line is of another protocol: HTTP, SMTP, or the PROXY protocol.
fn other_protocol(name: &[u8], argument: &[u8]) -> Option<NotACommand> {
    match name {
        b"PROXY" => Some(NotACommand::ProxyHeader),
        b"GET" | b"HEAD" | b"POST" | b"PUT" | b"DELETE" | b"CONNECT" | b"OPTIONS" | b"TRACE" | b"PATCH"
        | b"PROPFIND" => Some(NotACommand::Http),
        // RFC 765 had a MAIL too; no FTP server has it today.
        b"HELO" | b"EHLO" | b"LHLO" | b"MAIL" | b"RCPT" | b"DATA" | b"VRFY" | b"EXPN" | b"BDAT" | b"STARTTLS" => {
            Some(NotACommand::Smtp)
        }
        // Any other method: `METHOD target HTTP/1.1`. A file may be called so, and commands name files.
        _ => (Verb::of(name) == Verb::Other
            && Deed::of(name, argument).effect == Effect::Unknown
            && is_target_and_version(argument))
        .then_some(NotACommand::Http),
    }
}

/// What a request of HTTP names (RFC 9112 section 3.2), unlike `PRET RETR HTTP/1.1`.
fn is_target(word: &[u8]) -> bool {
    word.starts_with(b"/") || word == b"*" || word.windows(3).any(|three| three == b"://")
}

fn is_target_and_version(argument: &[u8]) -> bool {
    let mut words = argument.split(is_blank).filter(|word| !word.is_empty());
    let (target, version, more) = (words.next(), words.next(), words.next());
    let is_version = |word: &[u8]| {
        word.strip_prefix(b"HTTP/").is_some_and(|version| version.first().is_some_and(u8::is_ascii_digit))
    };
    target.is_some_and(is_target) && version.is_some_and(is_version) && more.is_none()
}

/// What separates a verb from its argument.
pub(super) const fn is_blank(byte: &u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

/// A line or argument without the blanks around it.
#[must_use]
pub fn trim_blanks(text: &[u8]) -> &[u8] {
    let start = text.iter().position(|byte| !is_blank(byte)).unwrap_or(text.len());
    let end = text.iter().rposition(|byte| !is_blank(byte)).map_or(start, |last| last + 1);
    text.get(start..end).unwrap_or_default()
}

/// A line with one blank behind its verb where there was a tab.
///
/// pyftpdlib ends a verb at a blank only, and takes one that ends in STAT, ABOR or QUIT for that command: `NOOP<TAB>STAT .`
/// is NOOP to other servers, and would list the directory there.
#[must_use]
pub fn with_blank_behind_verb(line: &[u8]) -> Option<Vec<u8>> {
    let begin = line.iter().position(|byte| !is_blank(byte))?;
    let verb = line.get(begin..)?.iter().position(is_blank)?;
    let (head, rest) = line.split_at(begin + verb);
    let blanks = rest.iter().position(|byte| !is_blank(byte)).unwrap_or(rest.len());
    let (between, argument) = rest.split_at(blanks);
    between.contains(&b'\t').then(|| [head, if argument.is_empty() { b"" } else { b" " }, argument].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verb(line: &[u8]) -> Result<Verb, NotACommand> {
        Command::parse(line).map(|command| command.verb)
    }

    #[test]
    fn verbs_are_found_as_the_laxest_server_finds_them() {
        for line in [&b"PORT 1,2"[..], b"port 1,2", b"  PoRt\t1,2", b"\tPORT  1,2  "] {
            let command = Command::parse(line).unwrap();
            assert_eq!((command.verb, command.argument), (Verb::Port, &b"1,2"[..]));
        }
        assert_eq!(verb(b"PORTS 1"), Ok(Verb::Other));
        assert_eq!(verb(b"XCRC a file.txt"), Ok(Verb::Other));
    }

    #[test]
    fn a_verb_is_letters_and_digits() {
        for line in [
            &b"\xff\xffPORT 1,2"[..],
            b"PO\x01RT 1,2",
            b"\"PORT\" 10,0,2,1,78,32",
            b"\"PORT 10,0,2,1,78,32\"",
            b"PORT\"10,0,2,1,78,32\"",
            b"'DELE' f",
            b"DELE/f",
            b"DELE\\ f",
            b"DELE\x0bf",
            b"DELE\x0c f",
            b"\x0bDELE f",
            b"\x0c DELE f",
            b"DELE\xa0f",
            b"D\xc3\x89LE f",
            b"DELE\xfff",
            b"DELE\x7f f",
            b"EPSV-ALL",
            b"SEVENTEENLETTERSX y",
            b"\"\" x",
        ] {
            assert_eq!(verb(line), Err(NotACommand::Garbage), "{}", line.escape_ascii());
        }
        assert_eq!(verb(b"   "), Err(NotACommand::Empty));
        assert_eq!(verb(b"\t"), Err(NotACommand::Empty));
        assert_eq!(Command::parse(b"RETR \x0cx\x0c ").unwrap().argument, b"\x0cx\x0c");
    }

    #[test]
    fn other_protocols_are_told_from_ftp() {
        for line in [
            &b"GET / HTTP/1.1"[..],
            b"get /",
            b"Post x",
            b"PROPFIND / HTTP/1.1",
            b"PRI * HTTP/2.0",
            b"copy /a HTTP/1.1",
            b"FETCH http://x/a HTTP/1.0",
        ] {
            assert_eq!(verb(line), Err(NotACommand::Http), "{}", line.escape_ascii());
        }
        for line in [&b"EHLO example.com"[..], b"helo x", b"MAIL FROM:<a@b>", b"rcpt TO:<a@b>", b"DATA", b"STARTTLS"] {
            assert_eq!(verb(line), Err(NotACommand::Smtp), "{}", line.escape_ascii());
        }
        for line in [
            &b"RETR notes about HTTP/1.1"[..],
            b"SIZE HTTP/1.1",
            b"SIZE / HTTP/1.1",
            b"MKD notes on HTTP/1.1",
            b"MKD on HTTP/1.1",
            b"RNFR EHLO x",
            b"CWD GET",
            b"XYZ HTTP/1.1",
            b"XYZ notes on HTTP/1.1",
            b"PRET RETR HTTP/1.1",
            b"XYZ notes HTTP/1.1",
            b"MLSC /a HTTP/1.1",
            b"SITE MKDIR HTTP/1.1",
            b"GETX / HTTP",
        ] {
            assert!(verb(line).is_ok(), "{}", line.escape_ascii());
        }
    }

    #[test]
    fn a_proxy_header_is_no_command() {
        for line in [&b"PROXY TCP4 192.0.2.7 203.0.113.5 49152 21"[..], b"PROXY", b" proxy unknown"] {
            assert_eq!(verb(line), Err(NotACommand::ProxyHeader));
        }
        assert_eq!(verb(b"PROXYING x"), Ok(Verb::Other));
    }

    #[test]
    fn a_tab_behind_the_verb_becomes_a_blank() {
        for (line, told) in [
            (&b"NOOP\tSTAT ."[..], Some(&b"NOOP STAT ."[..])),
            (b"SITE \t\tCHMOD\t701 m", Some(b"SITE CHMOD\t701 m")),
            (b" NOOP\t", Some(b" NOOP")),
            (b"RETR a\tb", None),
            (b"\tRETR  a", None),
            (b"NOOP", None),
        ] {
            assert_eq!(with_blank_behind_verb(line).as_deref(), told, "{}", line.escape_ascii());
        }
    }
}
