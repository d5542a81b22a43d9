//! Which paths a rule lets clients name, and for what.

use super::glob::Globs;
use crate::ftp::effect::Effect;

/// One entry of `paths`: the first whose patterns match a path decides about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathRule {
    /// The paths.
    pub paths: Globs,
    /// What may be done with them.
    pub uses: Uses,
}

/// What may be done with a path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Uses {
    /// Fetch it.
    pub download: bool,
    /// Write it, make it, change its times.
    pub upload: bool,
    /// Take it away, or its name.
    pub delete: bool,
    /// See it: names, sizes, checksums.
    pub list: bool,
}

impl Uses {
    /// Everything.
    pub const ALL: Self = Self { download: true, upload: true, delete: true, list: true };

    const fn has(self, effect: Effect) -> bool {
        match effect {
            Effect::Download => self.download,
            Effect::Upload => self.upload,
            Effect::Delete => self.delete,
            // Whoever may do anything there may go there.
            Effect::Navigate => self.download || self.upload || self.delete || self.list,
            Effect::List => self.list,
            Effect::Session => true,
            Effect::Unknown => false,
        }
    }
}

/// Whether this may be done with an absolute, plain path: what no entry matches may not.
#[must_use]
pub fn may(rules: &[PathRule], path: &[u8], effect: Effect) -> bool {
    // A directory is in the reach of `/out/**` too: clients go there first, and list it.
    let inside = [path.trim_ascii_end(), b"/"].concat();
    let reaches = |rule: &&PathRule| {
        rule.paths.matches(path) || matches!(effect, Effect::Navigate | Effect::List) && rule.paths.matches(&inside)
    };
    rules.iter().find(reaches).is_some_and(|rule| rule.uses.has(effect))
}

/// The plain absolute form of a path that is named in a directory: no `.`, no `..`, no doubled or trailing slash.
///
/// `None` where that cannot be told without knowing the server: a relative path in a directory that is not known, a
/// backslash, a home directory, or wildcards that a server might unfold into something else.
#[must_use]
pub fn plain(directory: Option<&[u8]>, named: &[u8]) -> Option<Vec<u8>> {
    if named.contains(&b'\\') || named.contains(&b'{') || named.contains(&b'}') || named.starts_with(b"~") {
        return None;
    }
    let base: &[u8] = if named.starts_with(b"/") { b"" } else { directory.filter(|base| base.starts_with(b"/"))? };
    let mut parts: Vec<&[u8]> = Vec::new();
    let wild = |part: &[u8]| part.iter().any(|byte| matches!(byte, b'*' | b'?' | b'['));
    for part in base.split(|byte| *byte == b'/').chain(named.split(|byte| *byte == b'/')) {
        if parts.last().is_some_and(|last| wild(last)) && !part.is_empty() {
            return None;
        }
        match part {
            b"" | b"." => {}
            b".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    Some([b"/", parts.join(&b'/').as_slice()].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_made_plain() {
        let cwd = Some(&b"/home/anna"[..]);
        for (named, plain_path) in [
            (&b"x"[..], Some(&b"/home/anna/x"[..])),
            (b"/x//y/", Some(b"/x/y")),
            (b"../../../etc", Some(b"/etc")),
            (b"a/./b/../c", Some(b"/home/anna/a/c")),
            (b"", Some(b"/home/anna")),
            (b"..", Some(b"/home")),
            (b"/", Some(b"/")),
            (b"*.txt", Some(b"/home/anna/*.txt")),
            (b"*/x", None),
            (b"*/..", None),
            (b"{a,..}", None),
            (b"~root", None),
            (b"a\\..\\b", None),
        ] {
            assert_eq!(plain(cwd, named).as_deref(), plain_path, "{:?}", String::from_utf8_lossy(named));
        }
        assert_eq!(plain(None, b"x"), None);
        assert_eq!(plain(None, b"/x").as_deref(), Some(&b"/x"[..]));
        assert_eq!(plain(Some(b"A.DATASET"), b"x"), None);
    }

    #[test]
    fn the_first_entry_decides() {
        let entry = |path: &str, uses| PathRule { paths: Globs::for_paths(vec![path.into()]).unwrap(), uses };
        let list = Uses { list: true, ..Uses::default() };
        let rules = [
            entry("/in/secret/**", Uses::default()),
            entry("/in/**", Uses { upload: true, ..list }),
            entry("/out/*.csv", Uses { download: true, ..Uses::default() }),
        ];
        for (path, effect, allowed) in [
            ("/in/a", Effect::Upload, true),
            ("/in/a", Effect::Download, false),
            ("/in/a", Effect::Delete, false),
            ("/in", Effect::Navigate, true),
            ("/in", Effect::List, true),
            ("/in", Effect::Upload, false),
            ("/in/secret/x", Effect::Upload, false),
            ("/in/secret", Effect::Navigate, false),
            ("/out/a.csv", Effect::Download, true),
            ("/out/a.txt", Effect::Download, false),
            ("/out", Effect::List, false),
            ("/elsewhere", Effect::List, false),
        ] {
            assert_eq!(may(&rules, path.as_bytes(), effect), allowed, "{path} {effect:?}");
        }
    }
}
