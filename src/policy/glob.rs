//! Patterns with `*`, `?`, `[a-z]` and `{a,b}`, over bytes: names of users and of files need not be UTF-8.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt as _;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

/// A list of patterns, any of which may match.
#[derive(Clone)]
pub struct Globs {
    written: Vec<String>,
    paths: bool,
    /// Those that stand for themselves alone, sorted: in a rules file with a thousand users most do, and a set of patterns
    /// is large. Names without capitals.
    plain: Vec<Box<[u8]>>,
    /// The others.
    set: Option<GlobSet>,
    /// The same without capitals, for paths.
    loose: Option<GlobSet>,
}

impl Globs {
    /// Patterns for names: `*` takes any bytes, and capitals are no different.
    ///
    /// # Errors
    /// What is wrong with the first that is no pattern.
    pub fn for_names(written: Vec<String>) -> Result<Self, globset::Error> {
        Self::new(written, false)
    }

    /// Patterns for paths: `*` stays within one directory, `**` does not.
    ///
    /// # Errors
    /// What is wrong with the first that is no pattern.
    pub fn for_paths(written: Vec<String>) -> Result<Self, globset::Error> {
        Self::new(written, true)
    }

    fn new(written: Vec<String>, paths: bool) -> Result<Self, globset::Error> {
        let (plain, patterns): (Vec<&String>, Vec<&String>) = written.iter().partition(|text| is_plain(text));
        let set = if patterns.is_empty() { None } else { Some(set_of(&patterns, paths, !paths)?) };
        let loose = if paths { Some(set_of(&written, true, true)?) } else { None };
        let mut plain: Vec<Box<[u8]>> = plain.into_iter().map(|text| key(text.as_bytes(), paths).into()).collect();
        plain.sort_unstable();
        Ok(Self { paths, plain, set, loose, written })
    }

    /// Whether any of the patterns matches all of this.
    #[must_use]
    pub fn matches(&self, bytes: &[u8]) -> bool {
        let is_plain = || {
            let key = key(bytes, self.paths);
            self.plain.binary_search_by(|plain| (**plain).cmp(&key)).is_ok()
        };
        (!self.plain.is_empty() && is_plain()) || self.has_pattern(bytes)
    }

    /// The names or paths that stand for themselves alone; names without capitals.
    pub(super) fn plain(&self) -> impl Iterator<Item = &[u8]> {
        self.plain.iter().map(|plain| &**plain)
    }

    /// Whether there are others.
    pub(super) const fn has_patterns(&self) -> bool {
        self.set.is_some()
    }

    fn has_pattern(&self, bytes: &[u8]) -> bool {
        self.set.as_ref().is_some_and(|set| set.is_match(OsStr::from_bytes(bytes)))
    }

    /// Whether any of them matches all of this where capitals are no different.
    #[must_use]
    pub fn matches_loosely(&self, bytes: &[u8]) -> bool {
        self.loose.as_ref().map_or_else(|| self.matches(bytes), |set| set.is_match(OsStr::from_bytes(bytes)))
    }

    /// Whether what they match may have anything in the place of each `*`: then they match all that a pattern stands for
    /// which they match as if it were a name.
    #[must_use]
    pub fn are_wide(&self) -> bool {
        self.written.iter().all(|text| !text.contains(['?', '[', '{', '\\']))
    }

    /// Whether any of them might match something that begins like this.
    #[must_use]
    pub fn may_match_behind(&self, start: &[u8]) -> bool {
        self.written.iter().any(|text| {
            let fixed = text.split(['*', '?', '[', '{', '\\']).next().unwrap_or_default().as_bytes();
            fixed.iter().zip(start).all(|(fixed, start)| fixed.eq_ignore_ascii_case(start))
        })
    }

    /// The patterns as they were written.
    #[must_use]
    pub fn written(&self) -> &[String] {
        &self.written
    }
}

fn set_of<T: AsRef<str>>(patterns: &[T], paths: bool, loose: bool) -> Result<GlobSet, globset::Error> {
    let mut set = GlobSetBuilder::new();
    for text in patterns {
        let mut glob = GlobBuilder::new(text.as_ref());
        set.add(glob.literal_separator(paths).case_insensitive(loose).backslash_escape(true).build()?);
    }
    set.build()
}

/// Whether a pattern has nothing that could stand for something else.
fn is_plain(text: &str) -> bool {
    !text.bytes().any(|byte| b"*?[]{}\\".contains(&byte))
}

/// What two that are the same have in common.
fn key(bytes: &[u8], paths: bool) -> Cow<'_, [u8]> {
    if paths { Cow::Borrowed(bytes) } else { Cow::Owned(bytes.to_ascii_lowercase()) }
}

impl PartialEq for Globs {
    fn eq(&self, other: &Self) -> bool {
        self.written == other.written
    }
}

impl Eq for Globs {}

impl fmt::Debug for Globs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.written.fmt(f)
    }
}

impl fmt::Display for Globs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_bytes_without_capitals() {
        let globs = Globs::for_names(vec!["edi-*".into(), "anna".into(), "b?b".into()]).unwrap();
        for name in [&b"edi-"[..], b"EDI-x/y", b"edi-\xe9", b"Anna", b"b\xe9b", b"bob"] {
            assert!(globs.matches(name), "{name:?}");
        }
        for name in [&b""[..], b"edi", b"annab", b"bb"] {
            assert!(!globs.matches(name), "{name:?}");
        }
    }

    #[test]
    fn paths_keep_to_their_directory() {
        let globs = Globs::for_paths(vec!["/out/*".into(), "/in/**".into()]).unwrap();
        for path in [&b"/out/a"[..], b"/out/\xe9\xff", b"/in/a/b/c", b"/in/.hidden"] {
            assert!(globs.matches(path), "{path:?}");
        }
        for path in [&b"/out"[..], b"/out/a/b", b"/OUT/a", b"/other", b"in/a"] {
            assert!(!globs.matches(path), "{path:?}");
        }
        assert!(Globs::for_paths(vec!["/out/[".into()]).is_err());
    }
}
