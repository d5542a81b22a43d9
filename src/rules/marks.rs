//! Where everything stands in a YAML text, and what a rules file does not take of YAML.
//!
//! Anchors, aliases, tags and merge keys are refused: a rules file is read by people who look for the line that
//! lets somebody in, and that line should be where it acts. A doubled key is refused, for only one of the two can hold.

use std::borrow::Cow;
use std::collections::HashSet;
use std::ops::Range;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span, StrInput};

use super::node::{Entry, Kind, Node, Scalar};
use super::place::{Fault, Found, quoted};

/// A rules file is five levels deep; more than this is an attack on the stack.
const DEEPEST: usize = 32;

/// More values than this are an attack on the memory: a hundred thousand rules have two million.
const MOST_VALUES: usize = 4_000_000;
/// A map of more keys than this needs help to see whether one is there twice.
const FEW_KEYS: usize = 16;

/// Marks a text; `None` where the mistakes in it leave nothing that could be read further.
pub(super) fn mark(text: &str, found: &Found) -> Option<Node> {
    let mut marker = Marker { parser: Parser::new_from_str(text), values: 0, found };
    let node = match marker.stream() {
        Ok(node) => node,
        Err(Stop::Syntax(error)) => {
            let (index, fault) = syntax(text, &error);
            // What was odd before it was often the same slip, misread.
            found.clear();
            found.push(index..index + 1, "", fault);
            return None;
        }
        Err(Stop::Told) => return None,
    };
    node.filter(|_| found.is_empty())
}

/// Why there is no reading on.
enum Stop {
    Syntax(ScanError),
    /// The mistake is on the list already.
    Told,
}

impl From<ScanError> for Stop {
    fn from(error: ScanError) -> Self {
        Self::Syntax(error)
    }
}

struct Marker<'a> {
    parser: Parser<'a, StrInput<'a>>,
    values: usize,
    found: &'a Found,
}

impl<'a> Marker<'a> {
    fn stream(&mut self) -> Result<Option<Node>, Stop> {
        let mut root = None;
        while let Some((event, span)) = self.next()? {
            match event {
                Event::Nothing | Event::StreamStart | Event::DocumentEnd => {}
                Event::StreamEnd => break,
                Event::DocumentStart(_) if root.is_some() => {
                    let fault = Fault::new("a second document begins here", "write everything into one, without `---`");
                    self.tell(range(span), fault);
                    return Err(Stop::Told);
                }
                Event::DocumentStart(_) => {}
                Event::Alias(_)
                | Event::Scalar(..)
                | Event::SequenceStart(..)
                | Event::SequenceEnd
                | Event::MappingStart(..)
                | Event::MappingEnd => root = Some(self.node(event, span, 1)?),
            }
        }
        match root {
            Some(Node { kind: Kind::Scalar(_), span }) if span.is_empty() => Err(self.empty()),
            None => Err(self.empty()),
            some => Ok(some),
        }
    }

    fn empty(&self) -> Stop {
        self.tell(
            0..0,
            Fault::new("there is nothing in this file", "begin with `version: 1`, `listeners:` and `rules:`"),
        );
        Stop::Told
    }

    fn next(&mut self) -> Result<Option<(Event<'a>, Span)>, Stop> {
        Ok(self.parser.next_event().transpose()?)
    }

    fn tell(&self, span: Range<usize>, fault: Fault) {
        self.found.push(span, "", fault);
    }

    fn node(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<Node, Stop> {
        let mut at = range(span);
        self.values += 1;
        if self.values > MOST_VALUES {
            let message = format!("there are more than {MOST_VALUES} values in this file");
            self.tell(at, Fault::new(message, "name whole networks in place of single addresses"));
            return Err(Stop::Told);
        }
        if depth > DEEPEST {
            self.tell(at, Fault::new("this is nested too deeply", format!("stay within {DEEPEST} levels")));
            return Err(Stop::Told);
        }
        let kind = match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.refuse_extras(&at, anchor, tag.is_some());
                Kind::Scalar(Scalar::new(text.into(), style == ScalarStyle::Plain))
            }
            Event::SequenceStart(anchor, tag) => {
                self.refuse_extras(&at, anchor, tag.is_some());
                let (list, end) = self.list(depth)?;
                at = whole(&at, end);
                Kind::List(list)
            }
            Event::MappingStart(anchor, tag) => {
                self.refuse_extras(&at, anchor, tag.is_some());
                let (map, end) = self.map(depth)?;
                at = whole(&at, end);
                Kind::Map(map)
            }
            Event::Alias(_) => {
                self.tell(at.clone(), Fault::new("aliases are not taken here", "write the value itself"));
                Kind::Scalar(Scalar::Text("".into()))
            }
            // Between these there are only values; a parser that says otherwise is not followed further.
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd
            | Event::SequenceEnd
            | Event::MappingEnd => {
                self.tell(at, Fault::new("a value is missing here", "write one, or take the key away"));
                return Err(Stop::Told);
            }
        };
        Ok(Node { span: at, kind })
    }

    fn list(&mut self, depth: usize) -> Result<(Vec<Node>, Span), Stop> {
        let mut list = Vec::new();
        while let Some((event, span)) = self.next()? {
            if event == Event::SequenceEnd {
                return Ok((list, span));
            }
            list.push(self.node(event, span, depth + 1)?);
        }
        Err(Stop::Told)
    }

    fn map(&mut self, depth: usize) -> Result<(Vec<Entry>, Span), Stop> {
        let (mut entries, mut seen): (Vec<Entry>, _) = (Vec::new(), HashSet::new());
        while let Some((event, span)) = self.next()? {
            if event == Event::MappingEnd {
                return Ok((entries, span));
            }
            let name = if let Event::Scalar(text, style, ..) = &event { Some((text.clone(), *style)) } else { None };
            let at = self.node(event, span, depth + 1)?.span;
            let key = self.key(name, &at);
            if let Some(key) = &key {
                let among_many = entries.len() > FEW_KEYS;
                if among_many && seen.is_empty() {
                    seen.extend(entries.iter().map(|entry| Cow::Owned(entry.key.to_string())));
                }
                let twice = match among_many {
                    true => !seen.insert(key.clone()),
                    false => entries.iter().any(|entry| *entry.key == **key),
                };
                if twice {
                    let message = format!("{} is written twice in this map", quoted(key));
                    self.tell(at.clone(), Fault::new(message, "keep one of the two"));
                }
            }
            let Some((event, span)) = self.next()? else { break };
            let value = self.node(event, span, depth + 1)?;
            entries.extend(key.map(|key| Entry { key: key.into(), span: at, value }));
        }
        Err(Stop::Told)
    }

    /// A key as text; what is no text of a key is a mistake.
    fn key(&self, written: Option<(Cow<'a, str>, ScalarStyle)>, at: &Range<usize>) -> Option<Cow<'a, str>> {
        let Some((key, style)) = written else {
            self.tell(
                at.clone(),
                Fault::new("a list or a map cannot be a key", "put values with `{` or `[` in quotes"),
            );
            return None;
        };
        if key == "<<" && style == ScalarStyle::Plain {
            self.tell(at.clone(), Fault::new("merge keys are not taken here", "write the keys themselves"));
            return None;
        }
        // YAML takes these for numbers, booleans and nothing.
        let word = key.starts_with(|c: char| c.is_alphabetic() || c == '_');
        if !word || ["true", "false", "null"].iter().any(|word| key.eq_ignore_ascii_case(word)) {
            self.tell(
                at.clone(),
                Fault::new(format!("{} is not a key", quoted(&key)), "keys are words, such as `name`"),
            );
            return None;
        }
        Some(key)
    }

    fn refuse_extras(&self, at: &Range<usize>, anchor: usize, tag: bool) {
        if anchor != 0 {
            self.tell(at.clone(), Fault::new("anchors are not taken here", "write the value wherever it is needed"));
        }
        if tag {
            self.tell(at.clone(), Fault::new("tags are not taken here", "write the value alone, without the `!`"));
        }
    }
}

fn range(span: Span) -> Range<usize> {
    span.start.index()..span.end.index()
}

/// A list or map in brackets is shown whole; one of several lines by its first character.
fn whole(start: &Range<usize>, end: Span) -> Range<usize> {
    if start.is_empty() { start.start..start.start + 1 } else { start.start..end.end.index().max(start.end) }
}

/// Where a text stops being YAML, and why: in our words for what people do, else in the parser's.
fn syntax(text: &str, error: &ScanError) -> (usize, Fault) {
    let index = error.marker().index();
    let before = index.checked_sub(1).and_then(|before| text.chars().nth(before));
    let fault = match (before, error.info()) {
        (Some('\t'), _) => {
            return (
                index - 1,
                Fault::new("there is a tab in the indentation", "indent with spaces; YAML takes no tabs for that"),
            );
        }
        (_, info) if info.contains("tab") => {
            Fault::new("there is a tab in the indentation", "indent with spaces; YAML takes no tabs for that")
        }
        (_, info) if info.contains("unknown anchor") => {
            Fault::new("aliases are not taken here", "write the value itself; text that begins with `*` needs quotes")
        }
        (Some(']' | '}'), _) => Fault::new(
            "the list or map in brackets has ended, and more follows",
            "put the whole value in quotes, such as \"[::]:21\"",
        ),
        (_, info) if info.contains("mapping values are not allowed") => Fault::new(
            "a second `key: value` stands in this line",
            "begin a new line with the key, or put the whole value in quotes",
        ),
        (_, info) => Fault::new(
            format!("this is not YAML: {info}"),
            "look at the indentation, and for a bracket or quote before this that is not closed",
        ),
    };
    (index, fault)
}
