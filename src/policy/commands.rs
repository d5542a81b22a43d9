//! Which commands a rule lets clients give.

use std::collections::BTreeSet;
use std::fmt;

use crate::ftp::command::{Verb, trim_blanks};
use crate::ftp::effect::{Deed, Effect, is_basic, is_known, other_name, verb_at_end};

/// Which commands clients may give.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Commands {
    /// The list.
    pub list: CommandList,
    /// Verbs that are not known here and pass where commands are denied by a list.
    pub allow_unknown: BTreeSet<String>,
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
    /// All that are known, but these.
    Without(BTreeSet<String>),
}

/// Why a command may not be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotAllowed {
    /// The list of commands.
    List,
    /// A list denies commands, and this one is not known: it may be another name for one of them.
    Unknown,
    /// The list has two-word commands of this verb, and the word behind the verb is not one: servers may read another.
    Word,
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
        self.check_list(verb, name, argument, effect)?;
        if let Some(end) = verb_at_end(name, argument) {
            let argument = if verb == Verb::Site { behind_word(argument) } else { argument };
            let effect = Deed::of(end.as_bytes(), argument).effect;
            self.check_list(Verb::of(end.as_bytes()), end.as_bytes(), argument, effect)?;
        }
        let reads = match effect {
            Effect::Session | Effect::Navigate | Effect::List | Effect::Download => true,
            Effect::Unknown => {
                name == b"SITE" && has_plain_word(argument) && first_word(argument).eq_ignore_ascii_case(b"HELP")
            }
            Effect::Upload | Effect::Delete => false,
        };
        if self.read_only && !reads { Err(NotAllowed::ReadOnly) } else { Ok(()) }
    }

    fn check_list(&self, verb: Verb, name: &[u8], argument: &[u8], effect: Effect) -> Result<(), NotAllowed> {
        match &self.list {
            CommandList::Any => Ok(()),
            CommandList::Only(list) => match listed(list, name, argument) {
                Listed::Verb => Ok(()),
                _ if is_basic(verb, effect) => Ok(()),
                Listed::TwoWords => Ok(()),
                Listed::Unclear => Err(NotAllowed::Word),
                Listed::Not => Err(NotAllowed::List),
            },
            CommandList::Without(list) => match listed(list, name, argument) {
                Listed::Verb | Listed::TwoWords => Err(NotAllowed::List),
                Listed::Unclear => Err(NotAllowed::Word),
                Listed::Not if is_known(name) => Ok(()),
                Listed::Not if str::from_utf8(name).is_ok_and(|name| self.allow_unknown.contains(name)) => Ok(()),
                Listed::Not => Err(NotAllowed::Unknown),
            },
        }
    }

    /// Verbs on a list of what is denied that are not known here. They are refused anyway: one is probably misspelt.
    pub(super) fn denied_and_unknown(&self) -> impl Iterator<Item = &str> {
        let list = match &self.list {
            CommandList::Without(list) => Some(list),
            CommandList::Any | CommandList::Only(_) => None,
        };
        let verbs = list.into_iter().flatten().filter_map(|entry| entry.split(' ').next());
        verbs.filter(|verb| !is_known(verb.as_bytes()))
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
        if !self.allow_unknown.is_empty() {
            write!(f, ", {} too", list(&self.allow_unknown))?;
        }
        if self.read_only { f.write_str(", none that writes") } else { Ok(()) }
    }
}

/// How a command is listed.
enum Listed {
    /// By its verb, or the verb's other name.
    Verb,
    /// With the word behind its verb.
    TwoWords,
    /// Its verb is listed with other words, and servers may differ in which word stands behind it here.
    Unclear,
    Not,
}

fn listed(list: &BTreeSet<String>, name: &[u8], argument: &[u8]) -> Listed {
    let verb = String::from_utf8_lossy(name);
    if list.contains(&*verb) || other_name(name).is_some_and(|name| list.contains(name)) {
        return Listed::Verb;
    }
    let mut words =
        list.iter().filter_map(|entry| entry.split_once(' ')).filter(|(first, _)| *first == verb).peekable();
    if words.peek().is_some() && !has_plain_word(argument) {
        return Listed::Unclear;
    }
    let word = first_word(argument).to_ascii_uppercase();
    if words.any(|(_, second)| second.as_bytes() == word) { Listed::TwoWords } else { Listed::Not }
}

/// The first word of an argument: letters and digits.
fn first_word(argument: &[u8]) -> &[u8] {
    let end = argument.iter().position(|byte| !byte.is_ascii_alphanumeric()).unwrap_or(argument.len());
    argument.get(..end).unwrap_or_default()
}

fn behind_word(argument: &[u8]) -> &[u8] {
    let end = argument.iter().position(|byte| *byte == b' ').unwrap_or(argument.len());
    trim_blanks(argument.get(end..).unwrap_or_default())
}

/// Whether an argument is empty, or begins with a word in which every server sees the same: ProFTPD takes quotation marks
/// away, others end a word at any control character.
fn has_plain_word(argument: &[u8]) -> bool {
    let word = first_word(argument);
    argument.is_empty()
        || (!word.is_empty() && argument.get(word.len()).is_none_or(|byte| matches!(byte, b' ' | b'\t')))
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
        let commands = Commands { list: CommandList::Only(list(&["RETR", "SITE CHMOD"])), ..Commands::default() };
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
        let commands =
            Commands { list: CommandList::Without(list(&["SITE", "DELE", "MODE Z"])), ..Commands::default() };
        for line in ["STOR x", "MODE S", "XCRC x", "RANG 1 2", "AUTH TLS", "MIC x", "LPRT 6,16"] {
            assert_eq!(check(&commands, line), Ok(()), "{line}");
        }
        for line in ["SITE HELP", "site  exec /bin/sh", "\tDeLe x", "MODE z"] {
            assert_eq!(check(&commands, line), Err(NotAllowed::List), "{line}");
        }
    }

    /// A verb that nobody here knows may be another name for a denied one.
    #[test]
    fn a_list_of_the_denied_lets_only_known_commands_pass() {
        let mut commands = Commands { list: CommandList::Without(list(&["STAT", "DELE"])), ..Commands::default() };
        for line in ["XYZ", "XXSTAT .", "OPEN host", "ERET P 0 9 x", "ESTO A 0 x", "MLSR", "MLSC x"] {
            assert_eq!(check(&commands, line), Err(NotAllowed::Unknown), "{line}");
        }
        assert_eq!(check(&commands, "SITE HELP"), Ok(()));
        commands.allow_unknown = list(&["XYZ", "XXSTAT"]);
        assert_eq!(check(&commands, "xyz a"), Ok(()));
        assert_eq!(check(&commands, "XYZA a"), Err(NotAllowed::Unknown));
        // pyftpdlib takes the end of a verb, or of SITE's word, for a command.
        for line in ["XXSTAT .", "SITE STAT .", "SITE xstat ."] {
            assert_eq!(check(&commands, line), Err(NotAllowed::List), "{line}");
        }
        let only = Commands { list: CommandList::Only(list(&["SITE", "RETR"])), ..Commands::default() };
        assert_eq!(check(&only, "SITE STAT ."), Err(NotAllowed::List));
        assert_eq!(check(&only, "SITE CHMOD 644 STAT"), Ok(()));
    }

    #[test]
    fn a_word_that_servers_may_read_otherwise_is_not_passed() {
        let lists =
            [CommandList::Without(list(&["SITE CHMOD", "SITE CPFR"])), CommandList::Only(list(&["SITE CHMOD"]))];
        for list in lists {
            let commands = Commands { list, ..Commands::default() };
            for line in [
                "SITE \"CHMOD\"701 m",
                "SITE \"CHMOD\" 701 m",
                "SITE CH\"MOD\" 701 m",
                "SITE 'CHMOD' 701 m",
                "SITE CHM\\OD 701 m",
                "SITE \"CPFR\"/etc/hostname",
                "SITE CHMOD\u{b}701 m",
                "SITE \u{c}CHMOD 701 m",
                "SITE FILETYPE=JES",
                "SITE -x",
            ] {
                assert_eq!(check(&commands, line), Err(NotAllowed::Word), "{line}");
            }
        }
        // Where all of SITE is allowed, its words are not looked at; nor are those of what every session needs.
        let all = Commands { list: CommandList::Only(list(&["SITE", "SITE CHMOD", "MODE Z"])), ..Commands::default() };
        for line in ["SITE \"CHMOD\"701 m", "MODE \"S\""] {
            assert_eq!(check(&all, line), Ok(()), "{line}");
        }
        let denied = Commands { list: CommandList::Without(list(&["SITE CHMOD"])), ..Commands::default() };
        for line in ["SITE CHMOD 701 m", "SITE\t\tCHMOD\t701 m", "site   chmod 701 m"] {
            assert_eq!(check(&denied, line), Err(NotAllowed::List), "{line}");
        }
        for line in ["SITE", "SITE HELP", "SITE UMASK 022", "STOR \"x\""] {
            assert_eq!(check(&denied, line), Ok(()), "{line}");
        }
        let other = Commands { list: CommandList::Without(list(&["DELE"])), ..Commands::default() };
        assert_eq!(check(&other, "SITE FILETYPE=JES"), Ok(()));
    }

    /// RFC 775: servers still take the names that these commands had first.
    #[test]
    fn a_command_with_two_names_is_listed_by_either() {
        for (listed, said) in
            [("MKD", "xmkd /x"), ("XRMD", "RMD x"), ("CWD", "XCWD x"), ("CDUP", "XCUP"), ("PWD", "XPWD")]
        {
            let denied = Commands { list: CommandList::Without(list(&[listed])), ..Commands::default() };
            assert_eq!(check(&denied, said), Err(NotAllowed::List), "{listed} {said}");
            let allowed = Commands { list: CommandList::Only(list(&[listed])), ..Commands::default() };
            assert_eq!(check(&allowed, said), Ok(()), "{listed} {said}");
        }
        let denied = Commands { list: CommandList::Without(list(&["MKD"])), ..Commands::default() };
        assert_eq!(check(&denied, "RMD x"), Ok(()));
    }

    #[test]
    fn read_only_takes_nothing_that_is_not_known_to_read() {
        let commands = Commands { read_only: true, ..Commands::default() };
        for line in [
            "RETR x",
            "LIST",
            "MLSD",
            "SIZE x",
            "MDTM x",
            "CWD x",
            "PASV",
            "SITE HELP",
            "NOOP",
            "REST 5",
            "ERET P 0 9 x",
        ] {
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
            "MDTM 20260101000000\tx",
            "MFMT 20260101000000\tx",
            "SITE CHMOD 777 x",
            "SITE HELP\"x\"",
            "ESTO A 0 x",
            "ERET POPEN:sh 0 9 x",
            "SITE",
            "XYZ x",
        ] {
            assert_eq!(check(&commands, line), Err(NotAllowed::ReadOnly), "{line}");
        }
    }
}
