//! Rules files: YAML text to what was written, and from there to what it means.
//!
//! Reading finds as many mistakes as it can in one go, each with its place and with what to write instead. What comes
//! out is a [`Policy`], complete and checked; nothing else of the program sees YAML.

mod lower;
mod mistake;
mod read;
mod schema;
mod tree;
mod written;

pub use mistake::{Mistake, Mistakes, Place};

use crate::policy::Policy;
use read::Reader;
use tree::Node;

/// The largest file that is read, in bytes.
const MAX_SIZE: usize = 16 * 1024 * 1024;

/// Reads a rules file's bytes; `file` is its name in messages.
///
/// # Errors
/// Everything that is wrong with it.
pub fn parse_bytes(bytes: &[u8], file: &str) -> Result<Policy, Mistakes> {
    match std::str::from_utf8(bytes) {
        Ok(text) => parse(text, file),
        Err(error) => {
            let good = bytes.get(..error.valid_up_to()).unwrap_or_default();
            let text = String::from_utf8_lossy(good).into_owned();
            let line = text.matches('\n').count() + 1;
            let column = text.rsplit('\n').next().map_or(0, |last| last.chars().count()) + 1;
            let mistake =
                Mistake::new(Place { line, column }, "this byte is not UTF-8".into(), "save the file as UTF-8".into());
            Err(Mistakes::new(file, &text, vec![mistake]))
        }
    }
}

/// Reads a rules file's text; `file` is its name in messages.
///
/// # Errors
/// Everything that is wrong with it.
pub fn parse(text: &str, file: &str) -> Result<Policy, Mistakes> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let wrong = |list| Mistakes::new(file, text, list);
    if text.len() > MAX_SIZE {
        let place = Place { line: 1, column: 1 };
        return Err(wrong(vec![Mistake::new(place, "the file is too large".into(), "keep it under 16 MiB".into())]));
    }
    let tree = Node::read(text).map_err(wrong)?;
    let value = serde_yaml::from_str(text).map_err(|error| {
        let place = error
            .location()
            .map_or(Place { line: 1, column: 1 }, |at| Place { line: at.line().max(1), column: at.column().max(1) });
        wrong(vec![Mistake::new(place, format!("this is not YAML: {error}"), "see rules/reference.yaml".into())])
    })?;
    let mut reader = Reader::new(&tree);
    let policy = lower::policy(&mut reader, value);
    match policy {
        Some(policy) if reader.mistakes.is_empty() => Ok(policy),
        _ => Err(wrong(reader.mistakes)),
    }
}

/// The JSON Schema of a rules file, for editors.
#[must_use]
pub fn json_schema() -> String {
    let schema = schemars::schema_for!(schema::File);
    serde_json::to_string_pretty(&schema).unwrap_or_default() + "\n"
}
