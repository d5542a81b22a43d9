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
///
/// An entry that forbids is taken widely: for servers that know no capitals, leave dots and blanks at the end of a name
/// away, or open the stream of a file that `name:stream` names. Where the last name has wildcards, it may be done with whatever they may stand for, or not at all.
#[must_use]
pub fn may(rules: &[PathRule], path: &[u8], effect: Effect) -> bool {
    // A directory is in the reach of `/out/**` too: clients go there first, and list it.
    let is_reach = matches!(effect, Effect::Navigate | Effect::List);
    let with_inside = |path: &[u8]| {
        let inside = is_reach.then(|| [path.trim_ascii_end(), b"/"].concat());
        [Some(path.to_vec()), inside].into_iter().flatten().collect::<Vec<_>>()
    };
    let exact = with_inside(path);
    let loose = [with_inside(&without_ends(path)), with_inside(&without_ends(&without_streams(path)))].concat();
    // Only the last name may have wildcards: what comes ahead of them is sure.
    let unfolded = path.iter().position(|byte| is_wildcard(*byte)).and_then(|at| path.get(..at));
    for rule in rules {
        let may = rule.uses.has(effect);
        if exact.iter().any(|path| rule.paths.matches(path)) {
            return may && (unfolded.is_none() || rule.paths.are_wide());
        }
        let forbids = loose.iter().any(|path| rule.paths.matches_loosely(path))
            || unfolded.is_some_and(|start| rule.paths.may_match_behind(start));
        if forbids && !may {
            return false;
        }
    }
    false
}

/// A path without the dots and blanks at the end of each name.
fn without_ends(path: &[u8]) -> Vec<u8> {
    let end = |name: &[u8]| name.iter().rposition(|byte| !matches!(byte, b'.' | b' ')).map_or(0, |last| last + 1);
    let names = path.split(|byte| *byte == b'/').map(|name| name.get(..end(name)).unwrap_or_default());
    names.collect::<Vec<_>>().join(&b'/')
}

/// A path with each name up to its first colon: NTFS opens `name::$DATA` and `name:stream:$DATA` in the file, and
/// `name::$INDEX_ALLOCATION` as the directory, that is called `name`.
fn without_streams(path: &[u8]) -> Vec<u8> {
    let names =
        path.split(|byte| *byte == b'/').map(|name| name.split(|byte| *byte == b':').next().unwrap_or_default());
    names.collect::<Vec<_>>().join(&b'/')
}

const fn is_wildcard(byte: u8) -> bool {
    matches!(byte, b'*' | b'?' | b'[')
}

/// The plain absolute form of a path that is named in a directory: no `.`, no `..`, no doubled or trailing slash.
///
/// `None` where that cannot be told without knowing the server: a relative path in a directory that is not known, a
/// `..` behind a name, which may be a link to elsewhere, a backslash, a home directory, a drive or data set, wildcards that
/// a server might unfold into something else, or a control character, which some servers take for a blank ahead of the path.
#[must_use]
pub fn plain(directory: Option<&[u8]>, named: &[u8]) -> Option<Vec<u8>> {
    let is_wild = |name: &[u8]| name.iter().any(|byte| is_wildcard(*byte));
    let is_foreign = |byte: &u8| matches!(byte, b'\\' | b'{' | b'}') || byte.is_ascii_control();
    if named.iter().any(is_foreign) || matches!(named.first(), Some(b'~' | b'\'' | b'"')) {
        return None;
    }
    let base: &[u8] = if named.starts_with(b"/") {
        b""
    } else {
        directory.filter(|base| base.starts_with(b"/") && !begins_with_drive(named))?
    };
    let mut parts: Vec<&[u8]> = base.split(|byte| *byte == b'/').filter(|part| !part.is_empty()).collect();
    let mut name: Option<&[u8]> = None;
    for part in named.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => continue,
            b".." if name.is_none() => drop(parts.pop()),
            part if name.is_some_and(is_wild) || part.iter().all(|byte| matches!(byte, b'.' | b' ')) => return None,
            part => {
                name = Some(part);
                parts.push(part);
            }
        }
    }
    Some([b"/", parts.join(&b'/').as_slice()].concat())
}

/// `C:x`, `C:/x`, `ata0:/x`, `DISK:[x]`: where that leads has nothing to do with the current directory.
fn begins_with_drive(named: &[u8]) -> bool {
    let first = named.split(|byte| *byte == b'/').next().unwrap_or_default();
    let is_letter = first.first().is_some_and(u8::is_ascii_alphabetic) && first.get(1) == Some(&b':');
    is_letter || first.ends_with(b":") || first.windows(2).any(|two| two == b":[")
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
            (b"a/./b//c", Some(b"/home/anna/a/b/c")),
            (b"./../b", Some(b"/home/b")),
            (b"", Some(b"/home/anna")),
            (b"..", Some(b"/home")),
            (b"/", Some(b"/")),
            (b"*.txt", Some(b"/home/anna/*.txt")),
            (b"*/x", None),
            (b"*/..", None),
            (b"{a,..}", None),
            (b"~root", None),
            (b"a\\..\\b", None),
            // A link may lead elsewhere, and there `..` too.
            (b"a/../b", None),
            (b"/a/..", None),
            (b"a/.. /b", None),
            (b"...", None),
            // z/OS, Windows, VxWorks, VMS.
            (b"'SYS1.PARMLIB'", None),
            (b"C:/x", None),
            (b"c:x", None),
            (b"ata0:/x", None),
            (b"DKA0:[SYS]X.Y", None),
            (b"12:30.csv", Some(b"/home/anna/12:30.csv")),
            // Pure-FTPd skips these ahead of a path.
            (b"\x0b/etc/passwd", None),
            (b"\t/etc/passwd", None),
            (b"a\x7fb", None),
        ] {
            assert_eq!(plain(cwd, named).as_deref(), plain_path, "{:?}", String::from_utf8_lossy(named));
        }
        assert_eq!(plain(None, b"x"), None);
        assert_eq!(plain(None, b"/x").as_deref(), Some(&b"/x"[..]));
        assert_eq!(plain(Some(b"A.DATASET"), b"x"), None);
        assert_eq!(plain(Some(b"/a[1]"), b"b/c").as_deref(), Some(&b"/a[1]/b/c"[..]));
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
            // What an entry forbids, under the names that Windows has for it.
            ("/in/SECRET/x", Effect::Upload, false),
            ("/in/secret./x", Effect::Upload, false),
            ("/in/secret /x", Effect::Upload, false),
            ("/in/secret::$INDEX_ALLOCATION/x", Effect::Upload, false),
            ("/in/Secret::$INDEX_ALLOCATION", Effect::Navigate, false),
            ("/in/secret.:x/x", Effect::Upload, false),
            ("/in/secret:x/x", Effect::Upload, false),
            ("/in/secret/x:stream", Effect::Upload, false),
            ("/in/Secrets/x", Effect::Upload, true),
            ("/in/12:30.csv", Effect::Upload, true),
            ("/IN/a", Effect::Upload, false),
            // What the wildcards may stand for.
            ("/in/s*", Effect::List, false),
            ("/in/secrets/*", Effect::List, true),
            ("/in/report[1]", Effect::Upload, true),
            ("/out/2026[01].csv", Effect::Download, true),
            ("/out/*", Effect::Download, false),
            ("/elsewhere", Effect::List, false),
        ] {
            assert_eq!(may(&rules, path.as_bytes(), effect), allowed, "{path} {effect:?}");
        }
    }
}
