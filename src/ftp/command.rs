//! Commands: what the gate must know of a line that a client sends.

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
    /// A way to negotiate a data connection that the gate does not speak: LPRT, LPSV, SPSV, APSV, CPSV, SSCN.
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
    /// CWD, CDUP and their old forms: another directory.
    Change,
    /// Anything else.
    Other,
}

/// Which way the bytes of a transfer go, and what they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Way {
    /// RETR.
    Download,
    /// STOR, STOU, APPE.
    Upload,
    /// LIST, NLST, MLSD.
    Listing,
}

/// Why a line is no command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NotACommand {
    /// Nothing but blanks.
    Empty,
    /// A request of HTTP: a browser that was lured here, or a scanner.
    Http,
    /// A header of the PROXY protocol, of a balancer that is not known as one, or of a client that would be another.
    ProxyHeader,
    /// A verb with bytes that no verb has.
    Garbage,
}

/// The longest verb that is looked at; RFC 959 has four letters, extensions a few more.
const MAX_VERB: usize = 16;

impl<'a> Command<'a> {
    /// Takes a line apart.
    ///
    /// Blanks before the verb are skipped, as some servers do: what they would take for a PORT must not pass here as
    /// something else.
    ///
    /// # Errors
    /// Where the line is no command at all.
    pub fn parse(line: &'a [u8]) -> Result<Self, NotACommand> {
        let line = line.trim_ascii();
        if line.is_empty() {
            return Err(NotACommand::Empty);
        }
        let end = line.iter().position(u8::is_ascii_whitespace).unwrap_or(line.len());
        let (verb, argument) = line.split_at(end);
        if is_http(verb, argument) {
            return Err(NotACommand::Http);
        }
        if verb.eq_ignore_ascii_case(b"PROXY") {
            return Err(NotACommand::ProxyHeader);
        }
        if verb.len() > MAX_VERB || !verb.iter().all(u8::is_ascii_graphic) {
            return Err(NotACommand::Garbage);
        }
        Ok(Self { verb: Verb::of(&verb.to_ascii_uppercase()), written: verb, argument: argument.trim_ascii() })
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
    pub(super) fn of(upper: &[u8]) -> Self {
        match upper {
            b"PORT" => Self::Port,
            b"EPRT" => Self::Eprt,
            b"PASV" => Self::Pasv,
            b"EPSV" => Self::Epsv,
            b"LPRT" | b"LPSV" | b"SPSV" | b"APSV" | b"CPSV" | b"SSCN" => Self::OtherNegotiation,
            b"RETR" => Self::Transfer(Way::Download),
            b"STOR" | b"STOU" | b"APPE" => Self::Transfer(Way::Upload),
            b"LIST" | b"NLST" | b"MLSD" => Self::Transfer(Way::Listing),
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
            b"CWD" | b"CDUP" | b"XCWD" | b"XCUP" => Self::Change,
            _ => Self::Other,
        }
    }
}

/// No FTP command has one of these verbs, or ends with the version of HTTP.
fn is_http(verb: &[u8], argument: &[u8]) -> bool {
    const METHODS: [&[u8]; 9] =
        [b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"CONNECT", b"OPTIONS", b"TRACE", b"PATCH"];
    METHODS.contains(&verb)
        || Verb::of(&verb.to_ascii_uppercase()) == Verb::Other
            && argument.rsplit(|byte| *byte == b' ').next().is_some_and(|last| {
                [&b"HTTP/1.0"[..], b"HTTP/1.1", b"HTTP/2.0"].contains(&last) && verb.iter().all(u8::is_ascii_uppercase)
            })
}

/// A line as a log may show it: a secret's argument hidden, other bytes escaped, length bounded.
#[must_use]
pub fn loggable(line: &[u8]) -> String {
    let secret = match Command::parse(line) {
        Ok(command) => command.verb == Verb::Secret,
        // What is no command may still be a password, of a client that puts other bytes around the verb.
        Err(_) if has_secret_verb(line) => return "****".to_owned(),
        Err(_) => false,
    };
    let trimmed = line.trim_ascii_start();
    if secret {
        let end = trimmed.iter().position(u8::is_ascii_whitespace).unwrap_or(trimmed.len());
        return format!("{} ****", String::from_utf8_lossy(trimmed.get(..end).unwrap_or_default()));
    }
    escaped(line)
}

fn has_secret_verb(line: &[u8]) -> bool {
    line.windows(4).any(|word| word.eq_ignore_ascii_case(b"PASS") || word.eq_ignore_ascii_case(b"ACCT"))
}

/// How much of a line a log shows, in bytes.
const MAX_LOGGED: usize = 256;
/// The longest that [`excerpt`] gives.
pub const MAX_EXCERPT: usize = MAX_LOGGED + 1;

/// As much of a line as [`loggable`] shows: what is kept to be logged later.
#[must_use]
pub fn excerpt(line: &[u8]) -> Box<[u8]> {
    line.get(..MAX_EXCERPT).unwrap_or(line).into()
}

/// What a peer said as a log may show it: UTF-8 text as it is, controls and other bytes escaped, length bounded.
#[must_use]
pub fn escaped(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.get(..MAX_LOGGED).unwrap_or(bytes).utf8_chunks() {
        for character in chunk.valid().chars() {
            if character.is_control() || is_deceptive(character) || character == '\\' {
                text.extend(character.escape_unicode().filter(|_| character != '\\'));
                if character == '\\' {
                    text.push_str("\\\\");
                }
            } else {
                text.push(character);
            }
        }
        text.extend(chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}")));
    }
    if bytes.len() > MAX_LOGGED {
        text.push_str("...");
    }
    text
}

/// Characters that make a terminal show a line as something that it is not.
const fn is_deceptive(character: char) -> bool {
    matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
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
    fn a_verb_has_no_other_bytes() {
        assert_eq!(verb(b"\xff\xffPORT 1,2"), Err(NotACommand::Garbage));
        assert_eq!(verb(b"PO\x01RT 1,2"), Err(NotACommand::Garbage));
        assert_eq!(verb(b"   "), Err(NotACommand::Empty));
    }

    #[test]
    fn http_is_told_from_ftp() {
        assert_eq!(verb(b"GET / HTTP/1.1"), Err(NotACommand::Http));
        assert_eq!(verb(b"PROPFIND / HTTP/1.1"), Err(NotACommand::Http));
        assert_eq!(verb(b"RETR notes about HTTP/1.1"), Ok(Verb::Transfer(Way::Download)));
    }

    #[test]
    fn a_proxy_header_is_no_command() {
        for line in [&b"PROXY TCP4 192.0.2.7 203.0.113.5 49152 21"[..], b"PROXY", b" proxy unknown"] {
            assert_eq!(verb(line), Err(NotACommand::ProxyHeader));
        }
        assert_eq!(verb(b"PROXYING x"), Ok(Verb::Other));
    }

    #[test]
    fn secrets_and_controls_reach_no_log() {
        assert_eq!(loggable(b"pass geheim"), "pass ****");
        assert_eq!(loggable(b"  ACCT x"), "ACCT ****");
        assert_eq!(loggable(b"RETR a\x1b[2Jb\xe9\\"), "RETR a\\u{1b}[2Jb\\xe9\\\\");
        assert_eq!(escaped("gr\u{fc}n \u{202e}".as_bytes()), "gr\u{fc}n \\u{202e}");
        assert!(escaped(&[b'a'; 5000]).len() < 300);
    }
}
