//! From YAML values to what was written, with every mistake in the keys and kinds of values.

use std::fmt::Write as _;

use serde::de::DeserializeOwned;
use serde_path_to_error::{Path, Segment};
use serde_yaml::Value;

use super::near::nearest;
use super::place::{At, Fault, quoted};

/// Reads what stands here. What cannot be read is put on the list and taken out, until the rest can be read; what still
/// stands in the file but not in the result is therefore not missing but wrong.
pub(super) fn read<T: DeserializeOwned>(at: &At<'_>) -> Option<T> {
    if at.enough() {
        return None;
    }
    let node = at.node()?;
    if let Ok(read) = T::deserialize(node) {
        return Some(read);
    }
    // Slower, but it knows where it stopped.
    let mut value = node.value();
    while !at.enough() {
        let error = match serde_path_to_error::deserialize::<_, T>(&value) {
            Ok(read) => return Some(read),
            Err(error) => error,
        };
        let message = error.inner().to_string();
        let unknown = message.strip_prefix("unknown field `").and_then(|rest| rest.split_once('`'));
        let steps = steps(error.path(), unknown.map(|(key, _)| key));
        let place = steps.iter().fold(at.clone(), |at, step| match step {
            Step::Key(key) => at.key(key),
            Step::Index(index) => at.index(*index),
        });
        match (unknown, steps.split_last()) {
            (Some((key, rest)), Some((_, map))) => {
                let map = map.iter().fold(at.clone(), |at, step| match step {
                    Step::Key(key) => at.key(key),
                    Step::Index(index) => at.index(*index),
                });
                map.key_itself(key).fault(unknown_key(key, rest));
            }
            _ => place.fault(wrong_kind(&message, &subject(&steps))),
        }
        if !take_out(&mut value, &steps) {
            return None;
        }
    }
    None
}

/// One step on the way to a value.
enum Step {
    Key(String),
    Index(usize),
}

/// The way to a value; to the unknown key itself, where there is one.
fn steps(path: &Path, unknown: Option<&str>) -> Vec<Step> {
    let mut steps: Vec<Step> = path
        .iter()
        .filter_map(|segment| match segment {
            Segment::Seq { index } => Some(Step::Index(*index)),
            Segment::Map { key } => Some(Step::Key(key.clone())),
            // The variant of an enum is the value itself and no step further.
            Segment::Enum { .. } | Segment::Unknown => None,
        })
        .collect();
    if let Some(unknown) = unknown
        && !matches!(steps.last(), Some(Step::Key(key)) if key == unknown)
    {
        steps.push(Step::Key(unknown.to_owned()));
    }
    steps
}

/// Takes out the key that the way leads to. An entry of a list goes with the whole list: the places of the entries
/// behind it would no longer be right.
fn take_out(value: &mut Value, steps: &[Step]) -> bool {
    let keys: Vec<&str> = steps
        .iter()
        .map_while(|step| match step {
            Step::Key(key) => Some(key.as_str()),
            Step::Index(_) => None,
        })
        .collect();
    let Some((last, way)) = keys.split_last() else { return false };
    let map = way.iter().try_fold(value, |value, key| value.get_mut(*key));
    map.and_then(Value::as_mapping_mut).is_some_and(|map| map.remove(*last).is_some())
}

/// What a message is about: the last key, or an entry of its list.
fn subject(steps: &[Step]) -> String {
    match steps {
        [.., Step::Key(key), Step::Index(_)] => format!("this entry of `{key}`"),
        [.., Step::Key(key)] => format!("`{key}`"),
        _ => "this".to_owned(),
    }
}

/// `rest` is what the message says behind the key: the keys that are known.
fn unknown_key(key: &str, rest: &str) -> Fault {
    let known: Vec<&str> = rest.split('`').skip(1).step_by(2).collect();
    Fault::new(format!("{} is not a key here", quoted(key)), choice("the keys here are", "and", key, &known))
}

/// Says what was meant, perhaps, and what there is.
fn choice(there_are: &str, last: &str, written: &str, words: &[&str]) -> String {
    let mut help = String::new();
    if let Some(near) = nearest(written, words) {
        // Writing to a string cannot fail.
        let _ = write!(help, "did you mean `{near}`? ");
    }
    let _ = write!(help, "{there_are} ");
    for (index, word) in words.iter().enumerate() {
        let between = match index {
            0 => String::new(),
            _ if index + 1 == words.len() => format!(" {last} "),
            _ => ", ".to_owned(),
        };
        let _ = write!(help, "{between}`{word}`");
    }
    help
}

/// The fault behind a message such as "invalid type: sequence, expected ...".
fn wrong_kind(message: &str, subject: &str) -> Fault {
    if let Some((written, rest)) = message.strip_prefix("unknown variant `").and_then(|rest| rest.split_once('`')) {
        let known: Vec<&str> = rest.split('`').skip(1).step_by(2).collect();
        return Fault::new(format!("{subject} cannot be {}", quoted(written)), choice("write", "or", written, &known));
    }
    let parts = message.split_once(": ").and_then(|(_, rest)| rest.split_once(", expected "));
    let Some((written, expected)) = parts else {
        return Fault::new(format!("{subject} cannot be read: {}", quoted(message)), "compare it with the reference");
    };
    let expected = if expected == "a boolean" { "`true` or `false`" } else { expected };
    Fault::new(format!("{subject} {}", kind(written)), format!("write {expected}"))
}

/// What stands there, from serde's words for it.
fn kind(written: &str) -> String {
    match written.split_once(' ') {
        Some(("integer" | "floating", number)) => {
            format!("is the number {}", number.trim_start_matches("point "))
        }
        Some(("boolean", value)) => format!("is the truth value {value}"),
        Some(("string", text)) => format!("is the text {text}"),
        _ => match written {
            "sequence" => "is a list".to_owned(),
            "map" => "is a map".to_owned(),
            "unit value" | "null" => "is empty".to_owned(),
            other => format!("is of another kind: {other}"),
        },
    }
}
