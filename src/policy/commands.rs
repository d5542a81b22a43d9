//! Which commands a rule lets clients give.

use std::collections::BTreeSet;
use std::fmt;

use crate::ftp::command::Verb;
use crate::ftp::effect::{Deed, Effect, is_basic, other_name};

/// Which commands clients may give.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Commands {
    /// The list.
    pub list: CommandList,
    /// Nothing that changes the server's files, and nothing that nobody knows.
    pub read_only: bool,
}

/// A list of commands: verbs such as `DELE`, or two words such as `SITE CHMOD`, in capitals.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum CommandList {
    /// Every command.
    #[default]
    Any,
    /// These, and what every session needs: login, negotiation, types, changing the directory.
    Only(BTreeSet<String>),
    /// All but these.
    Without(BTreeSet<String>),
}

/// Why a command may not be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotAllowed {
    /// The list of commands.
    List,
    /// The rule is `read_only`.
    ReadOnly,
}

impl Commands {
    /// Whether this command may be given: `name` is its verb in capitals.
    ///
    /// # Errors
    /// What forbids it.
    pub fn check(&self, verb: Verb, name: &[u8], argument: &[u8]) -> Result<(), NotAllowed> {
        let effect = Deed::of(name, argument).effect;
        let listed = |list: &BTreeSet<String>| {
            names(name, argument).iter().any(|name| list.contains(name))
                || other_name(name).is_some_and(|name| list.contains(name))
        };
        match &self.list {
            CommandList::Any => {}
            CommandList::Only(list) if is_basic(verb, effect) || listed(list) => {}
            CommandList::Without(list) if !listed(list) => {}
            CommandList::Only(_) | CommandList::Without(_) => return Err(NotAllowed::List),
        }
        let reads = match effect {
            Effect::Session | Effect::Navigate | Effect::List | Effect::Download => true,
            Effect::Unknown => name == b"SITE" && first_word(argument).eq_ignore_ascii_case(b"HELP"),
            Effect::Upload | Effect::Delete => false,
        };
        if self.read_only && !reads { Err(NotAllowed::ReadOnly) } else { Ok(()) }
    }

    /// Whether there is nothing that may not be given.
    #[must_use]
    pub fn is_any(&self) -> bool {
        *self == Self::default()
    }
}

impl fmt::Display for Commands {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |list: &BTreeSet<String>| list.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        match &self.list {
            CommandList::Any => f.write_str("any")?,
            CommandList::Only(names) => write!(f, "only {}", list(names))?,
            CommandList::Without(names) => write!(f, "any but {}", list(names))?,
        }
        if self.read_only { f.write_str(", none that writes") } else { Ok(()) }
    }
}

/// The names under which a command may be listed: its verb, and its verb with the next word.
fn names(name: &[u8], argument: &[u8]) -> [String; 2] {
    let verb = String::from_utf8_lossy(name).into_owned();
    let both = format!("{verb} {}", String::from_utf8_lossy(first_word(argument)).to_ascii_uppercase());
    [verb, both]
}

fn first_word(argument: &[u8]) -> &[u8] {
    argument.split(u8::is_ascii_whitespace).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ftp::command::Command;

    fn check(commands: &Commands, line: &str) -> Result<(), NotAllowed> {
        let command = Command::parse(line.as_bytes()).unwrap();
        commands.check(command.verb, &command.name(), command.argument)
    }

    fn list(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn a_list_of_the_allowed_has_what_every_session_needs() {
        let commands = Commands { list: CommandList::Only(list(&["RETR", "SITE CHMOD"])), read_only: false };
        for line in
            ["USER x", "PASS y", "PASV", "EPSV 1", "TYPE I", "CWD /x", "PWD", "QUIT", "retr x", "site chmod 644 x"]
        {
            assert_eq!(check(&commands, line), Ok(()), "{line}");
        }
        for line in ["STOR x", "DELE x", "LIST", "SITE EXEC x", "SITE", "SITE CHMODX", "XYZ"] {
            assert_eq!(check(&commands, line), Err(NotAllowed::List), "{line}");
        }
    }

    #[test]
    fn a_list_of_the_denied_leaves_the_rest() {
        let commands = Commands { list: CommandList::Without(list(&["SITE", "DELE", "MODE Z"])), read_only: false };
        for line in ["STOR x", "MODE S", "XYZ"] {
            assert_eq!(check(&commands, line), Ok(()), "{line}");
        }
        for line in ["SITE HELP", "site  exec /bin/sh", "\tDeLe x", "MODE z"] {
            assert_eq!(check(&commands, line), Err(NotAllowed::List), "{line}");
        }
    }

    /// RFC 775: servers still take the names that these commands had first.
    #[test]
    fn a_command_with_two_names_is_listed_by_either() {
        for (listed, said) in
            [("MKD", "xmkd /x"), ("XRMD", "RMD x"), ("CWD", "XCWD x"), ("CDUP", "XCUP"), ("PWD", "XPWD")]
        {
            let denied = Commands { list: CommandList::Without(list(&[listed])), read_only: false };
            assert_eq!(check(&denied, said), Err(NotAllowed::List), "{listed} {said}");
            let allowed = Commands { list: CommandList::Only(list(&[listed])), read_only: false };
            assert_eq!(check(&allowed, said), Ok(()), "{listed} {said}");
        }
        let denied = Commands { list: CommandList::Without(list(&["MKD"])), read_only: false };
        assert_eq!(check(&denied, "RMD x"), Ok(()));
    }

    #[test]
    fn read_only_takes_nothing_that_is_not_known_to_read() {
        let commands = Commands { list: CommandList::Any, read_only: true };
        for line in ["RETR x", "LIST", "MLSD", "SIZE x", "MDTM x", "CWD x", "PASV", "SITE HELP", "NOOP", "REST 5"] {
            assert_eq!(check(&commands, line), Ok(()), "{line}");
        }
        for line in [
            "STOR x",
            "STOU",
            "APPE x",
            "DELE x",
            "RNFR x",
            "RNTO y",
            "MKD x",
            "RMD x",
            "MFMT 20260101000000 x",
            "MDTM 20260101000000 x",
            "SITE CHMOD 777 x",
            "SITE",
            "XYZ x",
        ] {
            assert_eq!(check(&commands, line), Err(NotAllowed::ReadOnly), "{line}");
        }
    }
}
