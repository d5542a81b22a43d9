//! The forms in which a value may be written: one or many, a word, a short form or a map.

use std::any::TypeId;
use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{
    Deserialize, Deserializer, Error, IgnoredAny, IntoDeserializer, MapAccess, SeqAccess, Unexpected, Visitor,
};

use super::text::{Phrase, Ports};

/// A key that may be left out, but not left empty: `server:` alone is a mistake and not the same as no key.
#[derive(Clone, Copy, Debug)]
pub struct Written<T>(pub Option<T>);

impl<T> Default for Written<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Written<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        T::deserialize(from).map(|written| Self(Some(written)))
    }
}

impl<T: JsonSchema> JsonSchema for Written<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

/// One word of a few.
#[derive(Clone, Copy, Debug)]
pub struct Word<T>(pub T);

impl<'de, T: Deserialize<'de> + Phrase> Deserialize<'de> for Word<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Words<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de> + Phrase> Visitor<'de> for Words<T> {
            type Value = Word<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(T::PHRASE)
            }

            fn visit_str<E: Error>(self, word: &str) -> Result<Word<T>, E> {
                T::deserialize(word.into_deserializer()).map(Word)
            }
        }
        from.deserialize_any(Words(PhantomData))
    }
}

impl<T: JsonSchema> JsonSchema for Word<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

/// A list of items that are maps, each beginning with a dash.
#[derive(Debug)]
pub struct List<T>(pub Vec<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for List<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Items<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Items<T> {
            type Value = List<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list, each entry of which begins with `- name:`")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<List<T>, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(list)).map(List)
            }
        }
        from.deserialize_any(Items(PhantomData))
    }
}

impl<T: JsonSchema> JsonSchema for List<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("List_{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "array", "minItems": 1, "items": generator.subschema_for::<T>() })
    }
}

/// One text, or a list of them.
#[derive(Debug)]
pub struct Many<T>(pub Vec<T>);

impl<T: JsonSchema> JsonSchema for Many<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("Many_{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let one = generator.subschema_for::<T>();
        json_schema!({ "anyOf": [one, { "type": "array", "minItems": 1, "items": one }] })
    }
}

/// The short form, ports alone, or a map with more.
#[derive(Debug)]
pub enum PortsOr<F> {
    /// Ports alone.
    Ports(Many<Ports>),
    /// The map.
    Full(F),
}

impl<F: JsonSchema> JsonSchema for PortsOr<F> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("PortsOr_{}", F::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let (short, full) = (generator.subschema_for::<Many<Ports>>(), generator.subschema_for::<F>());
        json_schema!({ "anyOf": [short, full] })
    }
}

/// The short form, one text, or what says more: a map, or where `LIST`, a list.
#[derive(Debug)]
pub enum ShortOr<S, F, const LIST: bool = false> {
    /// The text alone.
    Short(S),
    /// The map, or the list.
    Full(F),
}

impl<S: JsonSchema, F: JsonSchema, const LIST: bool> JsonSchema for ShortOr<S, F, LIST> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("{}Or_{}", S::schema_name(), F::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let (short, full) = (generator.subschema_for::<S>(), generator.subschema_for::<F>());
        json_schema!({ "anyOf": [short, full] })
    }
}

impl<'de, S, F, const LIST: bool> Deserialize<'de> for ShortOr<S, F, LIST>
where
    S: Deserialize<'de> + Phrase,
    F: Deserialize<'de>,
{
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Either(PhantomData))
    }
}

/// Reads one text, a map, or where `LIST`, a list in place of the map: serde's structs would take a list for a map.
struct Either<S, F, const LIST: bool>(PhantomData<(S, F)>);

impl<'de, S, F, const LIST: bool> Visitor<'de> for Either<S, F, LIST>
where
    S: Deserialize<'de> + Phrase,
    F: Deserialize<'de>,
{
    type Value = ShortOr<S, F, LIST>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(S::PHRASE)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        S::deserialize(text.into_deserializer()).map(ShortOr::Short)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Self::Value, A::Error> {
        if !LIST {
            return Err(A::Error::invalid_type(Unexpected::Seq, &self));
        }
        F::deserialize(SeqAccessDeserializer::new(list)).map(ShortOr::Full)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        if LIST {
            return Err(A::Error::invalid_type(Unexpected::Map, &self));
        }
        F::deserialize(MapAccessDeserializer::new(map)).map(ShortOr::Full)
    }
}

/// Reads one text, a list, or (where `F` is not [`Never`]) a map.
struct Forms<T, F>(PhantomData<(T, F)>);

enum Form<T, F> {
    Many(Vec<T>),
    Full(F),
}

/// A map that cannot be.
enum Never {}

impl<'de> Deserialize<'de> for Never {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_ignored_any(IgnoredAny)?;
        Err(D::Error::custom("no map"))
    }
}

macro_rules! one {
    ($($visit:ident: $type:ty),+) => {$(
        fn $visit<E: Error>(self, one: $type) -> Result<Self::Value, E> {
            T::deserialize(one.into_deserializer()).map(|one| Form::Many(vec![one]))
        }
    )+};
}

impl<'de, T: Deserialize<'de> + Phrase, F: Deserialize<'de> + 'static> Visitor<'de> for Forms<T, F> {
    type Value = Form<T, F>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::PHRASE)
    }

    one!(visit_str: &str, visit_u64: u64, visit_i64: i64, visit_f64: f64);

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Self::Value, A::Error> {
        Vec::deserialize(SeqAccessDeserializer::new(list)).map(Form::Many)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        if TypeId::of::<F>() == TypeId::of::<Never>() {
            return Err(A::Error::invalid_type(Unexpected::Map, &self));
        }
        F::deserialize(MapAccessDeserializer::new(map)).map(Form::Full)
    }
}

impl<'de, T: Deserialize<'de> + Phrase> Deserialize<'de> for Many<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        match from.deserialize_any(Forms::<T, Never>(PhantomData))? {
            Form::Many(list) => Ok(Self(list)),
            Form::Full(never) => match never {},
        }
    }
}

impl<'de, F: Deserialize<'de> + 'static> Deserialize<'de> for PortsOr<F> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Forms::<Ports, F>(PhantomData)).map(|form| match form {
            Form::Many(list) => Self::Ports(Many(list)),
            Form::Full(full) => Self::Full(full),
        })
    }
}
