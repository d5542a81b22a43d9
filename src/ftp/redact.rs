//! What a log may show of what peers say: no secrets, no control characters, a bounded length.

use super::command::{Command, Verb, is_blank, trim_blanks};
use super::effect::{Deed, Effect};
use super::telnet::readings;

/// Stands for what is not shown.
const HIDDEN: &str = "****";

/// Commands of SITE whose arguments are not secret. Any other may be one that sets a password, under whatever name.
const PLAIN_SITE: [&[u8]; 20] = [
    b"CHGRP",
    b"CHMOD",
    b"CHOWN",
    b"COPY",
    b"CPFR",
    b"CPTO",
    b"DIRSTYLE",
    b"EXEC",
    b"HELP",
    b"IDLE",
    b"INDEX",
    b"MKDIR",
    b"MODE",
    b"RMDIR",
    b"SYMLINK",
    b"TIME",
    b"TOUCH",
    b"UMASK",
    b"UTIME",
    b"ZONE",
];

/// A client's line as a log may show it.
///
/// The argument is hidden where it is or may be a secret: that of PASS and ACCT, of the commands of RFC 2228 that carry
/// tokens, of commands that are not known here, and of a SITE command that might set a password.
#[must_use]
pub fn loggable(line: &[u8]) -> String {
    let Ok(command) = Command::parse(line) else { return without_verb(line) };
    let name = command.name();
    let hidden = || format!("{} {HIDDEN}", escaped(command.written));
    match (command.verb, name.as_slice()) {
        (Verb::Secret, _) | (Verb::Security, b"ADAT" | b"MIC" | b"CONF" | b"ENC") => hidden(),
        // `AUTH PLAIN` with its response, as in other protocols.
        (Verb::Security, b"AUTH") => first_words(&command, 1),
        (Verb::User | Verb::Open, _) => format!("{} {}", escaped(command.written), without_password(&command)),
        (Verb::Site, _) => {
            let word = word_of(command.argument);
            let is_plain = word.is_some_and(|word| PLAIN_SITE.contains(&word.to_ascii_uppercase().as_slice()));
            match (is_plain, word) {
                (true, _) => escaped(line),
                (false, Some(_)) => first_words(&command, 1),
                (false, None) => first_words(&command, 0),
            }
        }
        _ if Deed::of(&name, command.argument).effect == Effect::Unknown => first_words(&command, 0),
        _ => escaped(line),
    }
}

/// A server's line as a log may show it: it may repeat what the client said.
#[must_use]
pub fn loggable_reply(line: &[u8]) -> String {
    const VERBS: [&[u8]; 3] = [b"PASS", b"ACCT", b"ADAT"];
    let repeats = |at: &usize| {
        let begins =
            at.checked_sub(1).and_then(|before| line.get(before)).is_none_or(|byte| !byte.is_ascii_alphabetic());
        let word = line.get(*at..at + 4).filter(|_| begins);
        word.is_some_and(|word| VERBS.iter().any(|verb| verb.eq_ignore_ascii_case(word)))
            && line.get(at + 4).is_some_and(is_blank)
    };
    match (0..line.len()).find(repeats) {
        Some(at) => format!("{} {HIDDEN}", escaped(line.get(..at + 4).unwrap_or(line))),
        None => escaped(line),
    }
}

/// A line that is not a command may still be a password, of a client that has other bytes in or around the verb.
fn without_verb(line: &[u8]) -> String {
    let line = trim_blanks(line);
    let secret = may_have_secret(line) || readings(line).iter().any(|read| may_have_secret(read));
    if secret {
        return HIDDEN.to_owned();
    }
    let end = line.iter().position(is_blank).unwrap_or(line.len());
    let (first, rest) = line.split_at(end);
    if rest.is_empty() { escaped(first) } else { format!("{} {HIDDEN}", escaped(first)) }
}

fn may_have_secret(line: &[u8]) -> bool {
    const WITHIN: [&[u8]; 4] = [b"PASS", b"ACCT", b"ADAT", b"PSWD"];
    const FIRST: [&[u8]; 5] = [b"MIC", b"ENC", b"CONF", b"USER", b"OPEN"];
    let letters: Vec<u8> =
        line.iter().filter(|byte| byte.is_ascii_alphanumeric()).map(u8::to_ascii_uppercase).collect();
    WITHIN.iter().any(|word| letters.windows(word.len()).any(|part| part == *word))
        || FIRST.iter().any(|word| letters.starts_with(word))
}

/// The verb and that many words behind it.
fn first_words(command: &Command<'_>, count: usize) -> String {
    let mut shown = escaped(command.written);
    let mut words = command.argument.split(is_blank).filter(|word| !word.is_empty());
    for word in words.by_ref().take(count) {
        shown.push(' ');
        shown.push_str(&escaped(word));
    }
    if words.next().is_some() {
        shown.push(' ');
        shown.push_str(HIDDEN);
    }
    shown
}

/// The first word of an argument, where that is letters and digits alone.
fn word_of(argument: &[u8]) -> Option<&[u8]> {
    let word = argument.split(is_blank).next().unwrap_or_default();
    (!word.is_empty() && word.iter().all(u8::is_ascii_alphanumeric)).then_some(word)
}

/// `user:password@host` without the password. What follows the last @ may be `host:port` or an IPv6 address.
fn without_password(command: &Command<'_>) -> String {
    let argument = command.argument;
    let at = memchr::memrchr(b'@', argument);
    let (user, host) = argument.split_at(at.unwrap_or(argument.len()));
    let shown_user = match memchr::memchr(b':', user) {
        // OPEN names a host without a user.
        Some(_) if command.verb == Verb::Open && at.is_none() && is_host(user) => escaped(user),
        Some(colon) => format!("{}:{HIDDEN}", escaped(user.get(..colon).unwrap_or_default())),
        None => escaped(user),
    };
    let shown_host = match memchr::memchr(b':', host) {
        Some(colon) if !is_host(host.get(1..).unwrap_or_default()) => {
            format!("{}:{HIDDEN}", escaped(host.get(..colon).unwrap_or_default()))
        }
        Some(_) | None => escaped(host),
    };
    shown_user + &shown_host
}

/// `host:port`, `[address]:port` or an IPv6 address, with a port of digits.
fn is_host(text: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(text) else { return false };
    text.parse::<std::net::Ipv6Addr>().is_ok()
        || text.rsplit_once(':').is_some_and(|(host, port)| {
            let bare = host.trim_start_matches('[').trim_end_matches(']');
            port.len() <= 5
                && port.bytes().all(|byte| byte.is_ascii_digit())
                && (!host.contains(':') || bare.parse::<std::net::Ipv6Addr>().is_ok())
        })
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

    #[test]
    fn secrets_and_controls_reach_no_log() {
        for (line, shown) in [
            (&b"pass geheim"[..], "pass ****"),
            (b"  ACCT x", "ACCT ****"),
            (b"PASS", "PASS ****"),
            (b"ADAT Z2VoZWlt", "ADAT ****"),
            (b"ENC Z2VoZWlt", "ENC ****"),
            (b"AUTH TLS", "AUTH TLS"),
            (b"AUTH PLAIN Z2VoZWlt", "AUTH PLAIN ****"),
            (b"RETR a\x1b[2Jb\xe9\\", "RETR a\\u{1b}[2Jb\\xe9\\\\"),
            (b"SITE CHMOD 640 passwords", "SITE CHMOD 640 passwords"),
            (b"SITE PSWD alt geheim", "SITE PSWD ****"),
            (b"site\tgroupadd geheim", "site groupadd ****"),
            (b"SITE \"PSWD\" geheim", "SITE ****"),
            (b"SITE", "SITE"),
            (b"XYZ geheim", "XYZ ****"),
            (b"XYZ", "XYZ"),
            (b"\"PORT\" 10,0,2,1,78,32", "\"PORT\" ****"),
            (b"\x16\x02", "\\u{16}\\u{2}"),
        ] {
            assert_eq!(loggable(line), shown, "{}", line.escape_ascii());
        }
        assert_eq!(escaped("gr\u{fc}n \u{202e}".as_bytes()), "gr\u{fc}n \\u{202e}");
        assert!(escaped(&[b'a'; 5000]).len() < 300);
    }

    #[test]
    fn a_user_is_shown_without_a_password() {
        for (line, shown) in [
            (&b"USER anna"[..], "USER anna"),
            (b"USER anna@ftp.example", "USER anna@ftp.example"),
            (b"USER anna@ftp.example:2121", "USER anna@ftp.example:2121"),
            (b"USER anna@[2001:db8::1]:2121", "USER anna@[2001:db8::1]:2121"),
            (b"USER anna@2001:db8::1", "USER anna@2001:db8::1"),
            (b"USER anna:geheim@ftp.example", "USER anna:****@ftp.example"),
            (b"USER anna:geheim", "USER anna:****"),
            (b"USER anna:12345", "USER anna:****"),
            (b"USER anna@ftp.example:geheim", "USER anna@ftp.example:****"),
            (b"USER anna:ge@heim@ftp.example:21", "USER anna:****@ftp.example:21"),
            (b"OPEN ftp.example:2121", "OPEN ftp.example:2121"),
            (b"OPEN ftp://anna:geheim@ftp.example", "OPEN ftp:****@ftp.example"),
        ] {
            assert_eq!(loggable(line), shown);
        }
    }

    /// However the verb of a secret is split or wrapped, whatever is said about the secret.
    #[test]
    fn no_form_of_a_secret_is_shown() {
        let verbs = [
            "PASS",
            "ACCT",
            "ADAT",
            "MIC",
            "CONF",
            "ENC",
            "SITE PSWD alt",
            "SITE PASSWD",
            "SITE ADDUSER u",
            "SITE GPASS g",
        ];
        let splits: [&[u8]; 14] = [
            b"",
            b"\xff",
            b"\xffx",
            b"\xff\xff",
            b"\xf4",
            b"\"",
            b"'",
            b"\\",
            b"\x01",
            b"\x0b",
            b"\xc3\xa9",
            b".",
            b"-",
            b"\x7f",
        ];
        for verb in verbs {
            for split in splits {
                for at in 0..=verb.len() {
                    let (head, tail) = verb.split_at(at);
                    for (before, behind) in
                        [(&b""[..], &b" "[..]), (b" ", b"\t"), (b"\t", b"  "), (b"\"", b"\" "), (b"", b"\"")]
                    {
                        for head in [head.to_owned(), head.to_lowercase()] {
                            let line = [before, head.as_bytes(), split, tail.as_bytes(), behind, b"ge-heim"].concat();
                            assert!(!loggable(&line).contains("heim"), "{}", line.escape_ascii());
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_reply_that_repeats_a_secret_is_cut() {
        for (line, shown) in [
            (&b"230 welcome"[..], "230 welcome"),
            (b"227 Entering Passive Mode (10,0,2,2,195,80)", "227 Entering Passive Mode (10,0,2,2,195,80)"),
            (b"500 'PASS geheim': command not understood", "500 'PASS ****"),
            (b"530 Please login with USER and PASS.", "530 Please login with USER and PASS."),
            (b"331 Password required", "331 Password required"),
            (b"200 bypass on", "200 bypass on"),
        ] {
            assert_eq!(loggable_reply(line), shown);
        }
    }
}
