//! What a rule lets clients do: commands and paths.

use std::collections::BTreeSet;

use super::super::place::{At, Fault, quoted};
use super::super::schema::{self, List, Many, Written};
use super::who::{all, pattern};
use super::{fault, required};
use crate::ftp::effect::is_known;
use crate::policy::paths::{PathRule, Uses};
use crate::policy::{CommandList, Commands, Globs};

/// Commands that a list cannot take away, for without them nobody has a session.
const INDISPENSABLE: [&str; 3] = ["USER", "PASS", "QUIT"];

/// The commands of a rule.
pub(super) fn commands(written: Written<schema::Commands>, read_only: Written<bool>, at: &At<'_>) -> Option<Commands> {
    let read_only = read_only.0.unwrap_or(false);
    let Some(schema::Commands { allow, deny, allow_unknown }) = written.0 else {
        return Some(Commands { read_only, ..Commands::default() });
    };
    let at = at.key("commands");
    let names = |written: Written<_>, key| written.0.map(|list: Many<_>| names(&list, &at.key(key)));
    let unknown = allow_unknown.0.map(|list| unknown_names(&list, &at.key("allow_unknown")));
    let list = match (names(allow, "allow"), names(deny, "deny")) {
        (Some(_), Some(_)) => {
            at.key_itself("deny").mistake("`commands` has either `allow` or `deny`", "take one of the two away");
            return None;
        }
        (Some(_), None) if unknown.is_some() => {
            at.key_itself("allow_unknown")
                .mistake("`allow_unknown` belongs to `deny`", "add these commands to `allow`: it takes any verb");
            return None;
        }
        (Some(names), None) => CommandList::Only(names?),
        (None, Some(names)) => {
            let names = names?;
            if let Some(name) = INDISPENSABLE.into_iter().find(|name| names.contains(*name)) {
                at.key("deny")
                    .mistake(format!("without {name} there is no session"), "write `action: deny` to let nobody in");
                return None;
            }
            CommandList::Without(names)
        }
        (None, None) => {
            if at.lacks("allow") && at.lacks("deny") {
                at.mistake(
                    "`commands` says neither what is allowed nor what is denied",
                    "add `allow:` or `deny:` with a list such as [DELE, \"SITE CHMOD\"]",
                );
            }
            return None;
        }
    };
    let allow_unknown = unknown.unwrap_or_else(|| Some(BTreeSet::new()))?;
    Some(Commands { list, allow_unknown, read_only })
}

/// The verbs that are not known and pass all the same.
fn unknown_names(Many(list): &Many<schema::CommandName>, at: &At<'_>) -> Option<BTreeSet<String>> {
    if list.is_empty() {
        at.mistake("this list is empty", "name verbs, such as [PRET], or leave `allow_unknown` out");
        return None;
    }
    let one = |schema::CommandName(text): &schema::CommandName| {
        let name = command(text)?;
        if name.contains(' ') {
            return fault(format!("{} is more than a verb", quoted(text)), "write the verb alone");
        }
        if is_known(name.as_bytes()) {
            return fault(
                format!("`{name}` is a command that the gate knows: `deny` alone decides about it"),
                "remove it here",
            );
        }
        Ok(name)
    };
    all(list, at, one).map(|names| names.into_iter().collect())
}

fn names(Many(list): &Many<schema::CommandName>, at: &At<'_>) -> Option<BTreeSet<String>> {
    if list.is_empty() {
        at.mistake("this list is empty", "name commands, such as [DELE, \"SITE CHMOD\"]");
        return None;
    }
    all(list, at, |schema::CommandName(name)| command(name)).map(|names| names.into_iter().collect())
}

fn command(text: &str) -> Result<String, Fault> {
    let words: Vec<String> = text.split_whitespace().map(str::to_ascii_uppercase).collect();
    let fits = |word: &String| word.bytes().all(|byte| byte.is_ascii_alphanumeric()) && word.len() <= 16;
    if (1..=2).contains(&words.len()) && words.iter().all(fits) {
        return Ok(words.join(" "));
    }
    fault(
        format!("{} is no command", quoted(text)),
        "write a verb such as \"DELE\", or two words such as \"SITE CHMOD\"",
    )
}

/// The paths of a rule.
pub(super) fn paths(written: Written<List<schema::PathRule>>, at: &At<'_>) -> Option<Vec<PathRule>> {
    let Some(List(list)) = written.0 else { return Some(Vec::new()) };
    if list.is_empty() {
        at.mistake("this list is empty, which would be no path", "leave `paths` out for every path");
        return None;
    }
    let read: Vec<_> = list.into_iter().enumerate().map(|(index, entry)| path_rule(entry, &at.index(index))).collect();
    read.into_iter().collect()
}

fn path_rule(written: schema::PathRule, at: &At<'_>) -> Option<PathRule> {
    let path = required(written.path, "path", at, "say which paths, such as `path: \"/out/**\"`");
    let allow =
        required(written.allow, "allow", at, "say what may be done: download, upload, delete, list; any or none");
    let paths = path.and_then(|path| patterns(&path, &at.key("path")));
    let uses = allow.and_then(|allow| uses(&allow, &at.key("allow")));
    Some(PathRule { paths: paths?, uses: uses? })
}

fn patterns(Many(list): &Many<schema::PathPattern>, at: &At<'_>) -> Option<Globs> {
    if list.is_empty() {
        at.mistake("this list is empty", "write a path such as \"/out/**\"");
        return None;
    }
    let written = all(list, at, |schema::PathPattern(text)| {
        if !text.starts_with('/') {
            let message = format!("{} does not begin at the root", quoted(text));
            return fault(message, format!("write \"/{text}\": patterns are held against whole paths"));
        }
        if text.len() > 1 && text.ends_with('/') {
            let plain = text.trim_end_matches('/');
            return fault(
                format!("{} ends with a slash", quoted(text)),
                format!("write \"{plain}/**\" for all that is in it"),
            );
        }
        if text.split('/').any(|part| [".", ".."].contains(&part)) || text.contains("//") {
            return fault(format!("{} is not plain", quoted(text)), "write it without `.`, `..` and doubled slashes");
        }
        pattern(text, Globs::for_paths)
    })?;
    Globs::for_paths(written).ok()
}

fn uses(Many(list): &Many<schema::Use>, at: &At<'_>) -> Option<Uses> {
    if list.is_empty() {
        at.mistake("this list is empty", "write `none` where nothing may be done");
        return None;
    }
    let words = all(list, at, |schema::Use(word)| match word.as_str() {
        "download" => Ok(Uses { download: true, ..Uses::default() }),
        "upload" => Ok(Uses { upload: true, ..Uses::default() }),
        "delete" => Ok(Uses { delete: true, ..Uses::default() }),
        "list" => Ok(Uses { list: true, ..Uses::default() }),
        "any" if list.len() == 1 => Ok(Uses::ALL),
        "none" if list.len() == 1 => Ok(Uses::default()),
        "any" | "none" => fault(format!("`{word}` stands alone"), "take it or the others away"),
        other => {
            let help = "write `download`, `upload`, `delete`, `list`, `any` or `none`";
            fault(format!("{} is nothing that can be done with a path", quoted(other)), help)
        }
    })?;
    Some(words.into_iter().fold(Uses::default(), |all, one| Uses {
        download: all.download || one.download,
        upload: all.upload || one.upload,
        delete: all.delete || one.delete,
        list: all.list || one.list,
    }))
}
