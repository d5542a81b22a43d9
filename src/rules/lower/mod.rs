//! What a rules file means: from what was written to a [`Policy`], complete and checked.

mod advertise;
mod case;
mod ip;
mod limits;
mod listener;
mod network;
mod ports;
mod rule;
mod wait;
mod what;
mod who;

pub(super) use case::moment;
use std::collections::HashSet;
use std::sync::Arc;

use serde::de::IgnoredAny;

use super::place::{At, Fault, quoted};
use super::read::read;
use super::schema::{File, List, Listener, Name, Rule, Test, Version, Written};
use crate::policy::{Case, Policy};

/// What the whole file means: its rules, and its tests of them.
pub(super) fn file(at: &At<'_>) -> Option<(Policy, Vec<Case>)> {
    // Before anything else: what belongs in another version cannot be judged by the keys of this one.
    let number = at.key("version").node().and_then(|node| node.value().as_u64());
    if let Some(other) = number.filter(|&version| version != 1) {
        at.key("version").fault(version_unknown(&other.to_string()));
        return None;
    }
    // Listeners, rules and tests are read one by one.
    let file: File<IgnoredAny, IgnoredAny, IgnoredAny> = read(at)?;
    version(file.version, at);
    let timeouts = match file.timeouts.0 {
        Some(timeouts) => wait::timeouts(timeouts, &at.key("timeouts")),
        None => Some(crate::policy::Timeouts::default()),
    };
    let listeners = listeners(file.listeners, at);
    let names: Option<Vec<String>> =
        listeners.as_ref().map(|listeners| listeners.iter().map(|listener| listener.name.clone()).collect());
    let limits = limits::gate(file.limits, &at.key("limits"));
    let rules = rules(file.rules, names.as_deref(), at);
    if let (Some(limits), Some(rules)) = (&limits, &rules) {
        rule::kernel_keeps_pace(rules, limits, at)?;
    }
    let policy = Policy { listeners: listeners?, rules: rules?.into(), timeouts: timeouts?, limits: limits? };
    let cases = cases(file.tests, &policy, at)?;
    Some((policy, cases))
}

fn cases(written: Written<List<IgnoredAny>>, policy: &Policy, at: &At<'_>) -> Option<Vec<Case>> {
    let Some(List(list)) = written.0 else { return Some(Vec::new()) };
    let at = at.key("tests");
    let read: Vec<_> = (0..list.len())
        .map(|index| {
            let at = at.index(index);
            case::case(read::<Test>(&at)?, policy, &at)
        })
        .collect();
    read.into_iter().collect()
}

fn version(written: Written<Version>, at: &At<'_>) {
    match required(written, "version", at, "write `version: 1` as the first line") {
        Some(Version(version)) if version != "1" => at.key("version").fault(version_unknown(&version)),
        _ => {}
    }
}

fn version_unknown(version: &str) -> Fault {
    let message = format!("version {} is not known to this ftpgate", quoted(version));
    Fault::new(message, "write `version: 1`, or use an ftpgate that knows it")
}

fn listeners(written: Written<List<IgnoredAny>>, at: &At<'_>) -> Option<Vec<crate::policy::Listener>> {
    let list = items(written, "listeners", at, "add one with `name:`, `bind:` and `server:`")?;
    let mut names = Names::default();
    let mut binds = listener::Binds::default();
    let read: Vec<_> = list
        .into_iter()
        .map(|at| {
            let written = read::<Listener>(&at)?;
            names.check(&written.name, &at);
            listener::listener(written, &mut binds, &at)
        })
        .collect();
    // Only now: one bad listener must not hide the mistakes in the next.
    read.into_iter().collect()
}

fn rules(
    written: Written<List<IgnoredAny>>,
    listeners: Option<&[String]>,
    at: &At<'_>,
) -> Option<Vec<Arc<crate::policy::Rule>>> {
    let list = items(
        written,
        "rules",
        at,
        "add one with `name:`, `from:`, `to:` and `action:`; without a rule nobody gets in",
    )?;
    let mut names = Names::default();
    let read: Vec<_> = list
        .into_iter()
        .map(|at| {
            let written = read::<Rule>(&at)?;
            names.check(&written.name, &at);
            rule::rule(written, listeners, &at).map(Arc::new)
        })
        .collect();
    read.into_iter().collect()
}

/// The places of the entries of a list that must not be empty.
fn items<'a>(
    written: Written<List<IgnoredAny>>,
    key: &str,
    at: &At<'a>,
    help: &str,
) -> Option<impl IntoIterator<Item = At<'a>> + use<'a>> {
    let List(list) = required(written, key, at, help)?;
    let at = at.key(key);
    if list.is_empty() {
        at.mistake(format!("`{key}` is empty"), help);
        return None;
    }
    Some((0..list.len()).map(move |index| at.index(index)))
}

/// What a key says that must be there. One that is there but could not be read is on the list of mistakes already.
fn required<T>(written: Written<T>, key: &str, at: &At<'_>, help: &str) -> Option<T> {
    if written.0.is_none() && at.lacks(key) {
        at.mistake(format!("`{key}` is missing"), help);
    }
    written.0
}

/// The names so far, of listeners or of rules.
#[derive(Default)]
struct Names(HashSet<String>);

impl Names {
    fn check(&mut self, name: &Written<Name>, at: &At<'_>) {
        let Some(Name(name)) = &name.0 else { return };
        let at = at.key("name");
        let fits = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
        if name.is_empty() {
            at.mistake("the name is empty", "write a name of letters, digits, `_`, `.` and `-`");
        } else if let Some(odd) = name.chars().find(|&c| !fits(c)) {
            let odd = if odd == ' ' { "a space".to_owned() } else { format!("`{odd}`") };
            let message = format!("{} has {odd} in it", quoted(name));
            at.mistake(message, "make names of letters, digits, `_`, `.` and `-`");
        } else if !self.0.insert(name.clone()) {
            at.mistake(format!("the name {} is taken already", quoted(name)), "give each a name of its own");
        }
    }
}

/// A fault that is the whole result.
fn fault<T>(message: impl Into<String>, help: impl Into<String>) -> Result<T, Fault> {
    Err(Fault::new(message, help))
}
