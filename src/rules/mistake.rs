//! Mistakes in a rules file: where, what is wrong, and what to write instead.

use std::fmt;

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};
use serde::Serialize;

/// A place in the file, counted from one; the column in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Place {
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
}

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Mistake {
    /// Where.
    #[serde(flatten)]
    pub place: Place,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub help: String,
}

impl Mistake {
    pub(super) const fn new(place: Place, message: String, help: String) -> Self {
        Self { place, message, help }
    }
}

/// Everything that is wrong with a rules file, in the order of its lines. Never empty.
#[derive(Clone, Debug)]
pub struct Mistakes {
    file: String,
    text: String,
    list: Vec<Mistake>,
}

impl Mistakes {
    pub(super) fn new(file: &str, text: &str, mut list: Vec<Mistake>) -> Self {
        list.sort_by_key(|mistake| mistake.place);
        list.dedup();
        Self { file: file.to_owned(), text: text.to_owned(), list }
    }

    /// The mistakes.
    #[must_use]
    pub fn list(&self) -> &[Mistake] {
        &self.list
    }

    fn shown(&self, mistake: &Mistake) -> String {
        let Place { line, column } = mistake.place;
        let source = self.text.lines().nth(line - 1).unwrap_or_default();
        let start = source.char_indices().nth(column - 1).map_or(source.len(), |(at, _)| at);
        let length = source.get(start..).and_then(|rest| rest.chars().next()).map_or(0, char::len_utf8);
        let report = [Level::ERROR
            .primary_title(mistake.message.as_str())
            .element(
                Snippet::source(source)
                    .path(self.file.as_str())
                    .line_start(line)
                    .annotation(AnnotationKind::Primary.span(start..start + length)),
            )
            .element(Level::HELP.message(mistake.help.as_str()))];
        Renderer::plain().render(&report)
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for mistake in &self.list {
            writeln!(f, "{}\n", self.shown(mistake))?;
        }
        match self.list.len() {
            1 => write!(f, "{}: 1 mistake", self.file),
            count => write!(f, "{}: {count} mistakes", self.file),
        }
    }
}

impl std::error::Error for Mistakes {}
