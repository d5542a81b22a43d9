//! Reading a part of the file into its type, going on after each mistake.

use serde::de::DeserializeOwned;
use serde_path_to_error::Segment;
use serde_yaml::Value;

use super::mistake::Mistake;
use super::tree::{Node, Step};

/// How many mistakes in one part are pointed out before the rest of it is left.
const MAX_MISTAKES: usize = 40;
/// Stands between what is wrong and what to write, in errors that types of ours make.
pub(super) const HELP: &str = "\u{1f}";

/// Collects mistakes, with their places.
pub(super) struct Reader<'a> {
    tree: &'a Node,
    pub(super) mistakes: Vec<Mistake>,
    /// Keys that are there, but whose values are wrong: they are not missing.
    spoiled: Vec<Vec<Step>>,
}

impl<'a> Reader<'a> {
    pub(super) const fn new(tree: &'a Node) -> Self {
        Self { tree, mistakes: Vec::new(), spoiled: Vec::new() }
    }

    /// Records a mistake in the value at `path`.
    pub(super) fn wrong(&mut self, path: &[Step], message: impl Into<String>, help: impl Into<String>) {
        self.mistakes.push(Mistake::new(self.tree.find(path, false), message.into(), help.into()));
    }

    /// Records a mistake in the key at the end of `path`.
    pub(super) fn wrong_key(&mut self, path: &[Step], message: impl Into<String>, help: impl Into<String>) {
        self.mistakes.push(Mistake::new(self.tree.find(path, true), message.into(), help.into()));
    }

    /// Reads the value at `path`; every key may be left out, for [`Self::need`] to ask for. A key whose value is wrong is taken away and reading goes on without it, so that
    /// every wrong key is pointed out at once.
    pub(super) fn read<T: DeserializeOwned>(&mut self, path: &[Step], mut value: Value) -> Option<T> {
        for _ in 0..MAX_MISTAKES {
            let error = match serde_path_to_error::deserialize::<_, T>(value.clone()) {
                Ok(read) => return Some(read),
                Err(error) => error,
            };
            let steps: Vec<Step> = error.path().iter().filter_map(step).collect();
            let text = error.into_inner().to_string();
            self.explain(path, &steps, &text);
            let gone = take_away(&mut value, steps, quoted(&text, "unknown field "))?;
            self.spoiled.push([path, &gone].concat());
        }
        None
    }

    /// Takes a value that must be there.
    pub(super) fn need<T>(&mut self, path: &[Step], name: &str, value: Option<T>) -> Option<T> {
        let spoiled = [path, &[Step::Key(name.to_owned())]].concat();
        if value.is_none() && !self.spoiled.contains(&spoiled) {
            self.wrong(path, format!("`{name}` is missing"), super::schema::help(name));
        }
        value
    }

    /// One of two keys must be there, and neither is.
    pub(super) fn need_one_of<T>(&mut self, path: &[Step], one: &str, other: &str) -> Option<T> {
        if !self.is_spoiled(path, &[one, other]) {
            let help = format!("{}, or {}", super::schema::help(one), super::schema::help(other));
            self.wrong(path, format!("neither `{one}` nor `{other}` is there"), help);
        }
        None
    }

    /// Whether one of these keys is there, but its value was wrong.
    pub(super) fn is_spoiled(&self, path: &[Step], names: &[&str]) -> bool {
        names.iter().any(|name| self.spoiled.contains(&[path, &[Step::Key((*name).to_owned())]].concat()))
    }

    fn explain(&mut self, path: &[Step], steps: &[Step], text: &str) {
        let at = [path, steps].concat();
        if let Some(name) = quoted(text, "unknown field ") {
            let known: Vec<&str> = text.split('`').skip(3).step_by(2).collect();
            let mut key = at;
            if key.last() != Some(&Step::Key(name.clone())) {
                key.push(Step::Key(name.clone()));
            }
            let near = known.iter().find(|known| is_near(known, &name));
            let help = match near {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("the keys here are {}", known.join(", ")),
            };
            self.wrong_key(&key, format!("`{name}` is no key here"), help);
        } else if let Some((what, help)) = text.split_once(HELP) {
            self.wrong(&at, what, help);
        } else {
            let key = at.iter().rev().find_map(|step| match step {
                Step::Key(name) => Some(name.as_str()),
                Step::Item(_) => None,
            });
            self.wrong(&at, text, super::schema::help(key.unwrap_or_default()));
        }
    }
}

/// Takes away the key whose value is wrong, or an unknown key; tells its path.
fn take_away(value: &mut Value, mut path: Vec<Step>, unknown: Option<String>) -> Option<Vec<Step>> {
    if let Some(name) = unknown
        && path.last() != Some(&Step::Key(name.clone()))
    {
        path.push(Step::Key(name));
    }
    // A list with a wrong item goes as a whole: what is left would not be what was written.
    let last = path.iter().rposition(|step| matches!(step, Step::Key(_)))?;
    path.truncate(last + 1);
    let (Step::Key(name), parents) = path.split_last()? else { return None };
    let mut parent = value;
    for step in parents {
        parent = match step {
            Step::Key(name) => parent.get_mut(name.as_str())?,
            Step::Item(index) => parent.get_mut(*index)?,
        };
    }
    parent.as_mapping_mut()?.remove(name.as_str())?;
    Some(path)
}

fn step(segment: &Segment) -> Option<Step> {
    match segment {
        Segment::Seq { index } => Some(Step::Item(*index)),
        Segment::Map { key } => Some(Step::Key(key.clone())),
        Segment::Enum { .. } | Segment::Unknown => None,
    }
}

/// What stands in backquotes right after `start`.
fn quoted(text: &str, start: &str) -> Option<String> {
    let (_, rest) = text.split_once(start)?;
    rest.strip_prefix('`')?.split('`').next().map(str::to_owned)
}

/// Whether two keys differ by a typing error: at most two letters put in, left out or exchanged.
fn is_near(known: &str, written: &str) -> bool {
    let (known, written): (Vec<char>, Vec<char>) = (known.chars().collect(), written.to_lowercase().chars().collect());
    let mut row: Vec<usize> = (0..=written.len()).collect();
    for (i, a) in known.iter().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, b) in written.iter().enumerate() {
            let cost = (diagonal + usize::from(a != b)).min(row[j] + 1).min(row[j + 1] + 1);
            diagonal = std::mem::replace(&mut row[j + 1], cost);
        }
    }
    row.last().is_some_and(|distance| *distance <= 2) && written.len() > 2
}
