//! Whether the rule lets the client give a command.

use super::Session;
use super::refusal::Refusal;
use crate::ftp::command::{Command, Verb, trim_blanks};
use crate::ftp::effect::{Deed, Effect, Named};
use crate::ftp::telnet;
use crate::policy::paths;

impl Session {
    /// Whether a command may go on to the server, as far as its verb and its path tell: as it is written, and in each way
    /// that servers may read 0xFF in it.
    pub(super) fn permit(&self, command: &Command<'_>) -> Result<(), Refusal> {
        self.permit_as_read(command)?;
        telnet::readings(command.argument)
            .iter()
            .try_for_each(|read| self.permit_as_read(&Command { argument: trim_blanks(read), ..*command }))
    }

    fn permit_as_read(&self, command: &Command<'_>) -> Result<(), Refusal> {
        let name = command.name();
        let deed = Deed::of(&name, command.argument);
        if self.login.is_due() && !needs_no_login(command.verb, deed.effect) {
            return Err(Refusal::NotLoggedIn);
        }
        let effect = deed.effect;
        self.rule
            .commands
            .check(command.verb, &name, command.argument)
            .map_err(|why| Refusal::CommandNotAllowed { why, effect })?;
        if name == b"MODE" && !has_connection_per_file(command.argument) {
            return Err(Refusal::TransferMode);
        }
        if self.rule.paths.is_empty() { Ok(()) } else { self.permit_path(&name, command.argument, deed) }
    }

    fn permit_path(&self, name: &[u8], argument: &[u8], deed: Deed<'_>) -> Result<(), Refusal> {
        let effect = deed.effect;
        let named = match (effect, deed.path) {
            (Effect::Session, _) => return Ok(()),
            // What nobody knows may name any path in any place.
            (Effect::Unknown, _) => return Err(Refusal::PathNotAllowed { effect }),
            (_, Named::Path(path)) => path,
            (_, Named::Unclear) => return Err(Refusal::PathUnknown { effect }),
            _ if matches!(name, b"CDUP" | b"XCUP") => b"..",
            // The server makes a name up.
            _ if name == b"STOU" => b"ftp.unique",
            _ if deed.is_here() => b"",
            _ => return Ok(()),
        };
        if matches!(name, b"LIST" | b"NLST" | b"STAT") {
            self.permit_words(argument, effect)?;
        }
        if is_checksum(name) {
            self.permit_without_range(named, effect)?;
        }
        self.permit_named(named, effect)
    }

    /// Old servers hand what follows LIST to `ls`: each of its words is a path then, or options.
    fn permit_words(&self, argument: &[u8], effect: Effect) -> Result<(), Refusal> {
        for word in argument.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()) {
            match word.strip_prefix(b"-") {
                // Where R would lead, nobody has looked.
                Some(options) if options.contains(&b'R') || !options.iter().all(u8::is_ascii_alphanumeric) => {
                    return Err(Refusal::PathUnknown { effect });
                }
                Some(_) => {}
                None => self.permit_named(word, effect)?,
            }
        }
        Ok(())
    }

    /// `XCRC path start end`: the numbers may belong to the path or not.
    fn permit_without_range(&self, named: &[u8], effect: Effect) -> Result<(), Refusal> {
        let mut path = named;
        for _ in 0..2 {
            let Some(blank) = path.iter().rposition(|byte| *byte == b' ') else { return Ok(()) };
            let (shorter, number) = path.split_at(blank);
            if !number.iter().all(|byte| byte.is_ascii_digit() || *byte == b' ') {
                return Ok(());
            }
            path = trim_blanks(shorter);
            self.permit_named(path, effect)?;
        }
        Ok(())
    }

    fn permit_named(&self, named: &[u8], effect: Effect) -> Result<(), Refusal> {
        let path = paths::plain(self.directory.known(), named).ok_or(Refusal::PathUnknown { effect })?;
        if paths::may(&self.rule.paths, &path, effect) { Ok(()) } else { Err(Refusal::PathNotAllowed { effect }) }
    }
}

/// Whether in this mode of RFC 959 section 3.4, or of later drafts, the end of a connection is the end of a file: in stream
/// mode and, deflated, in Z. A server may keep the connection for the next file in block (B) and compressed (C) mode, and
/// in E and X of GridFTP, which also has several for one file.
fn has_connection_per_file(mode: &[u8]) -> bool {
    matches!(mode, b"" | b"S" | b"s" | b"Z" | b"z")
}

fn is_checksum(name: &[u8]) -> bool {
    matches!(name, b"HASH" | b"XCRC" | b"XMD5" | b"XSHA" | b"XSHA1" | b"XSHA256" | b"XSHA512" | b"MD5")
}

/// What a client may say before it has logged in, where no rule holds before that.
const fn needs_no_login(verb: Verb, effect: Effect) -> bool {
    match verb {
        Verb::User | Verb::Secret | Verb::Quit | Verb::Rein | Verb::Feat | Verb::Noop | Verb::Algs | Verb::Security => {
            true
        }
        // HELP, SYST, OPTS, HOST, CLNT and their like.
        Verb::Stat | Verb::Other => matches!(effect, Effect::Session),
        Verb::Port
        | Verb::Eprt
        | Verb::Pasv
        | Verb::Epsv
        | Verb::OtherNegotiation
        | Verb::Transfer(_)
        | Verb::Abor
        | Verb::Change
        | Verb::Open
        | Verb::Site => false,
    }
}
