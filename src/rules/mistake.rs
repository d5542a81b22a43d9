//! Mistakes as they are shown: each with its place, its line and what to write instead.

use std::fmt;
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Level, Origin, Renderer, Snippet};
use serde::Serialize;

use super::place::{MOST, Placed};

/// Lines longer than this are made by programs and are not shown.
const LONGEST: usize = 2000;

/// One mistake in a rules file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Mistake {
    /// The line, from 1.
    pub line: usize,
    /// The character in the line, from 1.
    pub column: usize,
    /// The keys that lead there, as `rules[0].from`; empty for the whole file.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub help: String,
    /// The line itself, unless it is too long to be of any use.
    #[serde(skip)]
    source: Option<String>,
    /// The bytes of it that are wrong.
    #[serde(skip)]
    span: Range<usize>,
}

/// Every mistake of a rules file, in its order. Shown as text, each comes with its place and its line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Mistakes {
    #[serde(skip)]
    file: String,
    #[serde(skip)]
    warnings: bool,
    mistakes: Vec<Mistake>,
}

impl std::error::Error for Mistakes {}

impl Mistakes {
    pub(super) fn new(file: &str, text: &str, mut places: Vec<Placed>) -> Self {
        places.sort_by_key(|placed| (placed.span.start, placed.span.end));
        let mut reader = Reader { text, chars: 0, bytes: 0, line: 1 };
        let mistakes = places.into_iter().map(|placed| Mistake::new(&mut reader, placed)).collect();
        Self { file: file.to_owned(), warnings: false, mistakes }
    }

    /// The same as warnings.
    #[must_use]
    pub(super) fn into_warnings(self) -> Self {
        Self { warnings: true, ..self }
    }

    /// The mistakes, in the order of the file.
    #[must_use]
    pub fn list(&self) -> &[Mistake] {
        &self.mistakes
    }

    /// The text for a terminal that shows colours.
    #[must_use]
    pub fn coloured(&self) -> String {
        self.render(&Renderer::styled())
    }

    fn render(&self, renderer: &Renderer) -> String {
        let mut text = String::new();
        for mistake in &self.mistakes {
            text.push_str(&mistake.render(&self.file, self.warnings, renderer));
            text.push_str("\n\n");
        }
        let what = if self.warnings { "warning" } else { "mistake" };
        let count = match self.mistakes.len() {
            1 => format!("1 {what}"),
            count if count < MOST => format!("{count} {what}s"),
            count => format!("{count} {what}s, and perhaps more"),
        };
        text.push_str(&format!("{}: {count}", self.file));
        text
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(&Renderer::plain()))
    }
}

/// A place in a text that only goes on: a large file is not read again for each mistake.
struct Reader<'a> {
    text: &'a str,
    chars: usize,
    bytes: usize,
    line: usize,
}

impl Reader<'_> {
    /// Goes to a character, which must not be before this one; to the end where there is no such.
    fn go_to(&mut self, character: usize) {
        let rest = &self.text[self.bytes..];
        let skipped =
            rest.char_indices().nth(character.saturating_sub(self.chars)).map_or(rest.len(), |(byte, _)| byte);
        self.line += rest[..skipped].matches('\n').count();
        self.chars = self.chars.max(character);
        self.bytes += skipped;
    }
}

impl Mistake {
    fn new(reader: &mut Reader<'_>, Placed { span, path, fault }: Placed) -> Self {
        reader.go_to(span.start);
        let &mut Reader { text, bytes: start, line, .. } = reader;
        let before = &text[..start];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let source = text[line_start..].lines().next().unwrap_or_default();
        let wrong: usize = text[start..].chars().take(span.len().max(1)).map(char::len_utf8).sum();
        // What goes on in the next line is not shown.
        let from = (start - line_start).min(source.len());
        let to = (from + wrong).min(source.trim_end().len()).max(from);
        Self {
            line,
            column: text[line_start..start].chars().count() + 1,
            path,
            message: fault.message,
            help: fault.help,
            span: from..to,
            source: Some(source.to_owned()).filter(|source| source.len() <= LONGEST),
        }
    }

    fn render(&self, file: &str, warning: bool, renderer: &Renderer) -> String {
        let level = if warning { Level::WARNING } else { Level::ERROR };
        let title = level.primary_title(&self.message);
        let placed = match &self.source {
            Some(source) => {
                let annotation = AnnotationKind::Primary.span(self.span.clone());
                title.element(Snippet::source(source).path(file).line_start(self.line).annotation(annotation))
            }
            None => title.element(Origin::path(file).line(self.line).char_column(self.column)),
        };
        let shown = renderer.render(&[placed.element(Level::HELP.message(&self.help))]);
        // The renderer replaces the other controls; some terminals obey these too.
        shown.replace(|c| matches!(c, '\u{80}'..='\u{9f}'), "\u{fffd}")
    }
}
