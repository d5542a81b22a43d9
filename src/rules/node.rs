//! What was read of a YAML text: values, each with its place.

use std::ops::Range;

use serde::de::value::{Error, MapDeserializer, SeqDeserializer};
use serde::de::{Deserializer, Error as _, IntoDeserializer, Visitor};
use serde::forward_to_deserialize_any;
use serde_yaml::Value;

/// A value and where it stands, counted in characters from the start of the text.
#[derive(Debug)]
pub(super) struct Node {
    /// From its first character to the one behind its last; only the first of a block.
    pub(super) span: Range<usize>,
    /// What it is.
    pub(super) kind: Kind,
}

/// What a value is.
#[derive(Debug)]
pub(super) enum Kind {
    /// Text, a number, nothing.
    Scalar(Scalar),
    /// A list.
    List(Vec<Node>),
    /// Keys and values.
    Map(Vec<Entry>),
}

/// Text, and what YAML takes for something else.
#[derive(Debug)]
pub(super) enum Scalar {
    /// Text.
    Text(Box<str>),
    /// A number, a truth value, nothing.
    Other(Box<Value>),
}

/// A key and its value.
#[derive(Debug)]
pub(super) struct Entry {
    /// The key.
    pub(super) key: Box<str>,
    /// Where the key stands.
    pub(super) span: Range<usize>,
    /// Its value.
    pub(super) value: Node,
}

impl Node {
    /// The entry of a key, where this is a map that has it.
    pub(super) fn entry(&self, key: &str) -> Option<&Entry> {
        match &self.kind {
            Kind::Map(entries) => entries.iter().find(|entry| &*entry.key == key),
            Kind::Scalar(_) | Kind::List(_) => None,
        }
    }

    /// The keys of a map, as they were written.
    pub(super) fn keys(&self) -> impl Iterator<Item = &str> {
        let entries = match &self.kind {
            Kind::Map(entries) => &entries[..],
            Kind::Scalar(_) | Kind::List(_) => &[],
        };
        entries.iter().map(|entry| &*entry.key)
    }

    /// The value without its places, for those who want to change it.
    pub(super) fn value(&self) -> Value {
        match &self.kind {
            Kind::Scalar(Scalar::Text(text)) => Value::String(text.to_string()),
            Kind::Scalar(Scalar::Other(value)) => (**value).clone(),
            Kind::List(list) => Value::Sequence(list.iter().map(Self::value).collect()),
            Kind::Map(map) => {
                let entries = map.iter().map(|entry| (Value::String(entry.key.to_string()), entry.value.value()));
                Value::Mapping(entries.collect())
            }
        }
    }
}

impl Scalar {
    /// What a text without quotes says is left to serde_yaml, but for what no number looks like.
    pub(super) fn new(text: Box<str>, is_plain: bool) -> Self {
        match is_plain.then(|| resolved(&text)).flatten() {
            Some(value) => Self::Other(Box::new(value)),
            None => Self::Text(text),
        }
    }
}

/// What YAML takes a text without quotes for, where that is not text.
fn resolved(text: &str) -> Option<Value> {
    let word = ["", "~", "null", "true", "false"].iter().any(|word| text.eq_ignore_ascii_case(word));
    if !word && !may_be_number(text) {
        return None;
    }
    match serde_yaml::from_str(text).ok()? {
        Value::String(_) | Value::Sequence(_) | Value::Mapping(_) | Value::Tagged(_) => None,
        other @ (Value::Null | Value::Bool(_) | Value::Number(_)) => Some(other),
    }
}

/// Whether a text could be a number: most that begin like one are addresses, networks and ranges.
fn may_be_number(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_hexdigit() || b"+-._xobinfINFAN".contains(&byte);
    text.starts_with(|first: char| first.is_ascii_digit() || "+-.".contains(first))
        // These would end and begin documents.
        && !text.starts_with("---")
        && !text.starts_with("...")
        && text.bytes().all(fits)
        && text.bytes().filter(|byte| *byte == b'.').count() < 2
}

/// Reads as [`Node::value`] does, without making one.
impl<'de> Deserializer<'de> for &'de Node {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match &self.kind {
            Kind::Scalar(Scalar::Text(text)) => visitor.visit_str(text),
            Kind::Scalar(Scalar::Other(value)) => value.as_ref().deserialize_any(visitor).map_err(Error::custom),
            Kind::List(list) => visitor.visit_seq(SeqDeserializer::new(list.iter())),
            Kind::Map(map) => {
                let entries = map.iter().map(|entry| (&*entry.key, &entry.value));
                visitor.visit_map(MapDeserializer::new(entries))
            }
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier
    }
}

impl<'de> IntoDeserializer<'de> for &'de Node {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_without_quotes_is_what_yaml_says() {
        for text in [
            "a",
            "10001",
            "10001-10005",
            "0x1F",
            "0o17",
            "0b1",
            "017",
            "-5",
            "+5",
            "1.5",
            "1e3",
            ".5",
            "-.inf",
            ".NaN",
            "1_000",
            "10.0.0.1",
            "10.0.0.0/8",
            "::1",
            "2001:db8::1",
            "+",
            ".",
            "e5",
            "true",
            "True",
            "tRUE",
            "FALSE",
            "null",
            "~",
            "",
            "yes",
            "infinity",
            "nan",
            "18446744073709551615",
            "99999999999999999999999999999999999999999",
        ] {
            let whole: Value = serde_yaml::from_str(&format!("a: {text}")).unwrap();
            let expected = whole.get("a").unwrap();
            let scalar = Scalar::new(text.into(), true);
            let node = Node { span: 0..0, kind: Kind::Scalar(scalar) };
            assert_eq!(node.value(), *expected, "{text}");
        }
    }
}
