//! The rules file as a tree whose nodes know their places. It is what points mistakes out, and what finds those that
//! YAML readers pass over: doubled keys, aliases, tags, a second document.

use saphyr_parser::{Event, Parser, Span};

use super::mistake::{Mistake, Place};

/// How deep lists and maps may be nested; the reference file needs five.
const MAX_DEPTH: usize = 32;

/// One node of the file.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) place: Place,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Scalar(String),
    List(Vec<Node>),
    Map(Vec<(Node, Node)>),
}

/// One step down the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The value of a key.
    Key(String),
    /// An item of a list.
    Item(usize),
}

impl Node {
    /// Reads the whole file.
    ///
    /// # Errors
    /// Everything that is wrong with it as YAML, as far as this version takes it.
    pub(super) fn read(text: &str) -> Result<Self, Vec<Mistake>> {
        let mut builder = Builder { open: Vec::new(), root: None, mistakes: Vec::new(), documents: 0 };
        for event in Parser::new_from_str(text) {
            match event {
                Ok((event, span)) => builder.take(event, &span),
                Err(error) => {
                    let marker = error.marker();
                    let place = Place { line: marker.line().max(1), column: marker.col() + 1 };
                    builder.mistakes.push(Mistake::new(
                        place,
                        format!("this is not YAML: {}", error.info()),
                        "indent with blanks, and quote what has `:`, `#` or brackets in it".into(),
                    ));
                    return Err(builder.mistakes);
                }
            }
        }
        match builder.root {
            _ if !builder.mistakes.is_empty() => Err(builder.mistakes),
            Some(root) => Ok(root),
            None => Err(vec![Mistake::new(
                Place { line: 1, column: 1 },
                "the file is empty".into(),
                "start with `version: 1`, then `listeners:` and `rules:`; see rules/minimal.yaml".into(),
            )]),
        }
    }

    /// The place of what stands at the end of `path`, or of the last step that there is. With `key`, the place of
    /// the key rather than of its value.
    pub(super) fn find(&self, path: &[Step], key: bool) -> Place {
        let Some((step, rest)) = path.split_first() else { return self.place };
        match (&self.kind, step) {
            (Kind::List(items), Step::Item(index)) => items.get(*index).map_or(self.place, |item| item.find(rest, key)),
            (Kind::Map(entries), Step::Key(name)) => {
                match entries.iter().find(|(entry, _)| entry.scalar() == Some(name)) {
                    Some((entry, _)) if rest.is_empty() && key => entry.place,
                    Some((_, value)) => value.find(rest, key),
                    None => self.place,
                }
            }
            (Kind::Scalar(_) | Kind::List(_) | Kind::Map(_), _) => self.place,
        }
    }

    fn scalar(&self) -> Option<&str> {
        match &self.kind {
            Kind::Scalar(text) => Some(text),
            Kind::List(_) | Kind::Map(_) => None,
        }
    }
}

struct Builder {
    open: Vec<(Node, Option<Node>)>,
    root: Option<Node>,
    mistakes: Vec<Mistake>,
    documents: usize,
}

impl Builder {
    fn take(&mut self, event: Event<'_>, span: &Span) {
        let place = Place { line: span.start.line().max(1), column: span.start.col() + 1 };
        match event {
            Event::Scalar(text, _, anchor, tag) => {
                self.check_plain(place, anchor, tag.is_some());
                self.add(Node { place, kind: Kind::Scalar(text.into_owned()) });
            }
            Event::SequenceStart(anchor, tag) => {
                self.check_plain(place, anchor, tag.is_some());
                self.open(Node { place, kind: Kind::List(Vec::new()) });
            }
            Event::MappingStart(anchor, tag) => {
                self.check_plain(place, anchor, tag.is_some());
                self.open(Node { place, kind: Kind::Map(Vec::new()) });
            }
            Event::SequenceEnd | Event::MappingEnd => {
                if let Some((node, _)) = self.open.pop() {
                    self.add(node);
                }
            }
            Event::Alias(_) => {
                self.wrong(place, "an alias (`*name`)", "write the value out");
                self.add(Node { place, kind: Kind::Scalar(String::new()) });
            }
            Event::DocumentStart(_) => {
                self.documents += 1;
                if self.documents == 2 {
                    self.wrong(place, "a second document (`---`)", "keep everything in one");
                }
            }
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
        }
    }

    fn wrong(&mut self, place: Place, what: &str, help: &str) {
        let message = format!("a rules file has no place for {what}");
        self.mistakes.push(Mistake::new(place, message, help.to_owned()));
    }

    fn check_plain(&mut self, place: Place, anchor: usize, tagged: bool) {
        if anchor != 0 {
            self.wrong(place, "an anchor (`&name`)", "write the value out where it is needed");
        }
        if tagged {
            self.wrong(place, "a tag (`!name`)", "leave it away");
        }
    }

    fn open(&mut self, node: Node) {
        if self.open.len() == MAX_DEPTH {
            self.wrong(node.place, "so many levels", "see rules/reference.yaml");
        }
        self.open.push((node, None));
    }

    fn add(&mut self, node: Node) {
        let Some((parent, key)) = self.open.last_mut() else {
            self.root.get_or_insert(node);
            return;
        };
        match &mut parent.kind {
            Kind::Scalar(_) => {}
            Kind::List(items) => items.push(node),
            Kind::Map(entries) => match key.take() {
                None => {
                    let doubled =
                        node.scalar().is_some_and(|name| entries.iter().any(|(old, _)| old.scalar() == Some(name)));
                    if doubled || node.scalar() == Some("<<") {
                        let what = if doubled { "the same key twice" } else { "a merge key (`<<`)" };
                        let place = node.place;
                        *key = Some(node);
                        return self.wrong(
                            place,
                            what,
                            if doubled { "remove one of them" } else { "write the keys out" },
                        );
                    }
                    *key = Some(node);
                }
                Some(key) => entries.push((key, node)),
            },
        }
    }
}
