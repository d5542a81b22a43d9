//! Where in the file something stands, and the list that mistakes are put on.

use std::cell::RefCell;
use std::fmt;
use std::ops::Range;
use std::rc::Rc;

use super::near::nearest;
use super::node::{Kind, Node};

/// More mistakes than this are not looked for: nobody reads them, and each one costs another look at the file.
pub(super) const MOST: usize = 100;

/// What is wrong, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// What is wrong.
    pub(super) message: String,
    /// What to write instead.
    pub(super) help: String,
}

impl Fault {
    /// A fault in these words.
    pub(super) fn new(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { message: message.into(), help: help.into() }
    }
}

/// A fault and its place, which is counted in characters from the start of the text.
#[derive(Debug)]
pub(super) struct Placed {
    /// From its first character to the one behind its last.
    pub(super) span: Range<usize>,
    /// The keys that lead there: `rules[0].from`.
    pub(super) path: String,
    /// What is wrong there.
    pub(super) fault: Fault,
}

/// The mistakes so far. Shared by everything that reads one file, so that all of them are collected.
#[derive(Debug, Default)]
pub(super) struct Found(RefCell<Vec<Placed>>);

impl Found {
    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.0.borrow().is_empty()
    }

    /// Whether looking for more is no use.
    pub(super) fn is_full(&self) -> bool {
        self.0.borrow().len() >= MOST
    }

    /// Adds one.
    pub(super) fn push(&self, span: Range<usize>, path: &str, fault: Fault) {
        if !self.is_full() {
            self.0.borrow_mut().push(Placed { span, path: path.to_owned(), fault });
        }
    }

    /// Forgets them, for one that explains them all.
    pub(super) fn clear(&self) {
        self.0.borrow_mut().clear();
    }

    /// All of them.
    pub(super) fn into_places(self) -> Vec<Placed> {
        self.0.into_inner()
    }
}

/// A place in the file: a value, the keys that led to it, and where its mistakes go.
#[derive(Clone, Debug)]
pub(super) struct At<'a> {
    node: Option<&'a Node>,
    span: Range<usize>,
    path: Option<Rc<Path>>,
    found: &'a Found,
}

/// The keys that led to a place. Only a mistake needs it as text, so it is not made into one before.
#[derive(Debug)]
struct Path {
    before: Option<Rc<Self>>,
    last: Step,
}

#[derive(Debug)]
enum Step {
    Key(Box<str>),
    Index(usize),
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(before) = &self.before {
            before.fmt(f)?;
        }
        match &self.last {
            Step::Key(key) if self.before.is_none() => f.write_str(key),
            Step::Key(key) => write!(f, ".{key}"),
            Step::Index(index) => write!(f, "[{index}]"),
        }
    }
}

impl<'a> At<'a> {
    /// The whole file.
    pub(super) fn root(node: &'a Node, found: &'a Found) -> Self {
        Self { node: Some(node), span: node.span.clone(), path: None, found }
    }

    /// What stands here.
    pub(super) const fn node(&self) -> Option<&'a Node> {
        self.node
    }

    fn then(&self, last: Step) -> Option<Rc<Path>> {
        Some(Rc::new(Path { before: self.path.clone(), last }))
    }

    /// The value of a key; where that is empty or not there, the key or the map.
    pub(super) fn key(&self, key: &str) -> Self {
        let at = self.key_itself(key);
        match at.node {
            Some(node) if !node.span.is_empty() => Self { span: node.span.clone(), ..at },
            _ => at,
        }
    }

    /// A key, for mistakes that are not about its value.
    pub(super) fn key_itself(&self, key: &str) -> Self {
        let path = self.then(Step::Key(key.into()));
        match self.node.and_then(|node| node.entry(key)) {
            Some(entry) => Self { node: Some(&entry.value), span: entry.span.clone(), path, found: self.found },
            None => Self { node: None, path, ..self.clone() },
        }
    }

    /// An entry of a list; the value itself where that is no list.
    pub(super) fn index(&self, index: usize) -> Self {
        match self.node.map(|node| &node.kind) {
            Some(Kind::List(list)) => {
                let path = self.then(Step::Index(index));
                let node = list.get(index);
                let span = node.map_or_else(|| self.span.clone(), |node| node.span.clone());
                Self { node, span, path, found: self.found }
            }
            _ => self.clone(),
        }
    }

    /// Whether a key was written here, right or wrong.
    pub(super) fn has(&self, key: &str) -> bool {
        self.node.is_some_and(|node| node.entry(key).is_some())
    }

    /// Whether a key was not written here, not even with a slip of the pen: that one has its own message.
    pub(super) fn lacks(&self, key: &str) -> bool {
        !self.has(key) && !self.node.is_some_and(|node| node.keys().any(|written| nearest(written, &[key]).is_some()))
    }

    /// Puts a mistake on the list.
    pub(super) fn mistake(&self, message: impl Into<String>, help: impl Into<String>) {
        self.fault(Fault::new(message, help));
    }

    /// Puts a mistake on the list.
    pub(super) fn fault(&self, fault: Fault) {
        let path = self.path.as_ref().map(ToString::to_string).unwrap_or_default();
        self.found.push(self.span.clone(), &path, fault);
    }

    /// What was read here; a fault goes on the list.
    pub(super) fn take<T>(&self, read: Result<T, Fault>) -> Option<T> {
        read.map_err(|fault| self.fault(fault)).ok()
    }

    /// Whether looking for more mistakes is no use.
    pub(super) fn enough(&self) -> bool {
        self.found.is_full()
    }
}

/// A value as messages show it: not longer than a line takes.
pub(super) fn quoted(text: &str) -> String {
    const LONGEST: usize = 60;
    let start: String = text.chars().take(LONGEST).collect();
    if start.len() < text.len() { format!("`{start}...`") } else { format!("`{start}`") }
}
