//! Remarks on a file that can be read: tests that fail, and what is legal but hardly meant.

use super::Mistakes;
use super::node::Node;
use super::place::{At, Fault, Found};
use crate::policy::{Case, Policy};

/// A rules file that can be read.
#[derive(Debug)]
pub struct RulesFile {
    /// What it says.
    pub policy: Policy,
    /// Its tests.
    pub cases: Vec<Case>,
    pub(super) file: String,
    pub(super) text: String,
    pub(super) root: Node,
}

/// What a remark is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A listener, by its place in the file, and one of its keys.
    Listener(usize, &'static str),
    /// A rule, and one of its keys.
    Rule(usize, &'static str),
    /// A test, and one of its lines.
    Test(usize, Option<usize>),
}

/// Something to say about a place in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remark {
    /// About what.
    pub subject: Subject,
    /// What is to be said.
    pub message: String,
    /// What to do about it.
    pub help: String,
}

impl RulesFile {
    /// The remarks with their places: errors, for which the file is not loaded.
    #[must_use]
    pub fn errors(&self, remarks: Vec<Remark>) -> Mistakes {
        self.placed(remarks)
    }

    /// The remarks with their places: warnings, for which it is loaded all the same.
    #[must_use]
    pub fn warnings(&self, remarks: Vec<Remark>) -> Mistakes {
        self.placed(remarks).into_warnings()
    }

    fn placed(&self, remarks: Vec<Remark>) -> Mistakes {
        let found = Found::default();
        let root = At::root(&self.root, &found);
        for Remark { subject, message, help } in remarks {
            let at = match subject {
                Subject::Listener(index, key) => root.key("listeners").index(index).key(key),
                Subject::Rule(index, key) => {
                    let at = root.key("rules").index(index).key(key);
                    // The ports of a mode may be written in the short form or the long one.
                    if at.has("gate_ports") { at.key("gate_ports") } else { at }
                }
                Subject::Test(index, None) => root.key("tests").index(index).key("expect"),
                Subject::Test(index, Some(line)) => {
                    root.key("tests").index(index).key("lines").index(line).key("expect")
                }
            };
            at.fault(Fault::new(message, help));
        }
        Mistakes::new(&self.file, &self.text, found.into_places())
    }
}
