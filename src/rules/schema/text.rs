//! The texts of a rules file, each with what it is called when something else stands in its place.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error, Visitor};

/// What belongs in a place, in the words of a message.
pub trait Phrase {
    /// It goes on after "write".
    const PHRASE: &'static str;
}

/// Takes text, and where `numbers`, numbers as the text that they were written as.
struct Text {
    phrase: &'static str,
    numbers: bool,
}

impl Visitor<'_> for Text {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.phrase)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<String, E> {
        Ok(text.to_owned())
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<String, E> {
        self.number(number, E::invalid_type(serde::de::Unexpected::Unsigned(number), &self))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<String, E> {
        self.number(number, E::invalid_type(serde::de::Unexpected::Signed(number), &self))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<String, E> {
        self.number(number, E::invalid_type(serde::de::Unexpected::Float(number), &self))
    }
}

impl Text {
    fn number<E>(&self, number: impl ToString, error: E) -> Result<String, E> {
        if self.numbers { Ok(number.to_string()) } else { Err(error) }
    }
}

macro_rules! text {
    ($(#[$doc:meta])* $name:ident, numbers: $numbers:literal, $phrase:literal, $schema:tt) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $name(pub String);

        impl Phrase for $name {
            const PHRASE: &'static str = $phrase;
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                from.deserialize_any(Text { phrase: Self::PHRASE, numbers: $numbers }).map(Self)
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        }
    };
}

text! {
    /// The version of the format.
    Version, numbers: true, "`version: 1`", { "const": 1 }
}
text! {
    /// The name of a listener or rule.
    Name, numbers: false, "a name in quotes, such as \"partners\"", {
        "type": "string", "pattern": "^[A-Za-z0-9_.-]+$"
    }
}
text! {
    /// An address and port of ours.
    Bind, numbers: true, "an address and a port, such as \"0.0.0.0:21\"", {
        "type": "string", "description": "An address and a port: \"0.0.0.0:21\" or \"[::]:21\".",
        "pattern": "^([0-9.]+|\\[[0-9A-Fa-f:.]+\\]):[0-9]+$"
    }
}
text! {
    /// An address and port of a server.
    Server, numbers: true, "an address, such as \"10.0.2.2:21\"", {
        "type": "string", "description": "An address, with or without a port: \"10.0.2.2:21\" or \"[2001:db8::1]:21\".",
        "pattern": "^([0-9.]+(:[0-9]+)?|[0-9A-Fa-f:.]+|\\[[0-9A-Fa-f:.]+\\](:[0-9]+)?)$"
    }
}
text! {
    /// An address that clients are told, or a name for it.
    Advertise, numbers: true, "an address without a port, a name, or a list of entries with `from:` and `address:`", {
        "type": "string", "description": "An address without a port, or the name of a host.",
        "pattern": "^([0-9A-Fa-f:.]+|[A-Za-z0-9_.-]+)$"
    }
}
text! {
    /// Clients.
    Client, numbers: true, "a network or an address, a list of them, or `any`", {
        "type": "string", "description": "A network such as \"10.0.0.0/8\", an address, or any.",
        "pattern": "^(any|[0-9A-Fa-f:.]+(/[0-9]+)?)$"
    }
}
text! {
    /// Hosts by their network: balancers, health checkers, further addresses of peers.
    Host, numbers: true, "a network or an address, or a list of them", {
        "type": "string", "description": "A network such as \"10.0.0.0/28\", or an address.",
        "pattern": "^[0-9A-Fa-f:.]+(/[0-9]+)?$"
    }
}
text! {
    /// Servers.
    Destination, numbers: true, "a network or an address, with or without a port, a list of them, or `any`", {
        "type": "string",
        "description": "A network or an address, with or without a port: \"10.0.2.2:21\", \"[2001:db8::1]:21\"; or any.",
        "pattern": "^(any|[0-9.]+(/[0-9]+)?|[0-9A-Fa-f:.]+(/[0-9]+)?|\\[[0-9A-Fa-f:.]+(/[0-9]+)?\\])(:[0-9]+)?$"
    }
}
text! {
    /// A range of ports.
    Ports, numbers: true, "ports such as \"10001-10005\", a list of them, or `any`", {
        "description": "A range such as \"10001-10005\", a port, or any for 1024-65535.",
        "anyOf": [
            { "type": "string", "pattern": "^(any|[0-9]+( *- *[0-9]+)?)$" },
            { "type": "integer", "minimum": 1024, "maximum": 65535 }
        ]
    }
}
text! {
    /// The one port that connections come from.
    SourcePort, numbers: true, "one port, such as 20", {
        "anyOf": [{ "type": "string", "pattern": "^[0-9]+$" }, { "type": "integer", "minimum": 1, "maximum": 65535 }]
    }
}
text! {
    /// How long to wait.
    Duration, numbers: true, "a duration with its unit, such as \"30s\"", {
        "type": "string", "description": "A duration with its unit: 30s, 2min.", "pattern": "^([0-9]+ *[a-z]+ *)+$"
    }
}
text! {
    /// How many.
    Count, numbers: true, "a whole number, such as 20", {
        "anyOf": [{ "type": "integer", "minimum": 1 }, { "type": "string", "pattern": "^[0-9]+$" }]
    }
}
text! {
    /// How long to wait, where that may be for ever.
    TimeLimit, numbers: true, "a duration with its unit, such as \"60s\", or `off`", {
        "type": "string", "description": "A duration with its unit: 60s, 5min; or off.",
        "pattern": "^(off|([0-9]+ *[a-z]+ *)+)$"
    }
}
text! {
    /// How many, where there may be no limit.
    CountLimit, numbers: true, "a whole number, such as 20, or `off`", {
        "description": "A whole number; or off.",
        "anyOf": [{ "type": "integer", "minimum": 1 }, { "type": "string", "pattern": "^(off|[0-9]+)$" }]
    }
}
text! {
    /// How many bytes.
    Size, numbers: true, "a size with its unit, such as \"2GiB\"", {
        "type": "string", "description": "A size with its unit: 500MB, 2GiB.", "pattern": "^[0-9]+ *([KMGT]iB|[kKMGT]?B)$"
    }
}
text! {
    /// How many bytes in a second.
    Pace, numbers: true, "a size and `/s`, such as \"10MiB/s\"", {
        "type": "string", "description": "A size with its unit, for each second: 10MiB/s.",
        "pattern": "^[0-9]+ *([KMGT]iB|[kKMGT]?B) */s$"
    }
}
text! {
    /// A listener, by its name.
    ListenerName, numbers: false, "the name of a listener, or a list of names", {
        "type": "string", "pattern": "^[A-Za-z0-9_.-]+$"
    }
}
text! {
    /// Users.
    User, numbers: true, "a user such as \"anna\", a pattern such as \"edi-*\", or a list of them", {
        "description": "A user's name, or a pattern: * stands for anything, ? for one character.",
        "type": ["string", "number"]
    }
}
text! {
    /// Days and times.
    Hours, numbers: false, "days, times and a time zone, such as \"Mon-Fri 08:00-18:00 Europe/Berlin\"", {
        "type": "string", "description": "Days, times and a time zone: \"Mon-Fri 08:00-18:00 Europe/Berlin\"."
    }
}
text! {
    /// A command.
    CommandName, numbers: false, "a command such as \"DELE\" or \"SITE CHMOD\", or a list of them", {
        "type": "string", "pattern": "^[A-Za-z0-9]+( +[A-Za-z0-9]+)?$"
    }
}
text! {
    /// Paths.
    PathPattern, numbers: false, "a path such as \"/out/**\", or a list of them", {
        "type": "string", "description": "A whole path; * stands for anything within a directory, ** for anything.",
        "pattern": "^/"
    }
}
text! {
    /// What may be done with a path.
    Use, numbers: false, "`download`, `upload`, `delete`, `list`, `any` or `none`, or a list of them", {
        "enum": ["download", "upload", "delete", "list", "any", "none"]
    }
}
text! {
    /// A moment.
    Moment, numbers: false, "a moment such as \"2026-01-12 09:00 Europe/Berlin\"", {
        "type": "string", "description": "A day, a time and a time zone: \"2026-01-12 09:00 Europe/Berlin\"."
    }
}
text! {
    /// A line of FTP.
    FtpLine, numbers: true, "an FTP line, such as \"RETR x\"", { "type": "string" }
}
text! {
    /// What is expected of a line.
    LineExpected, numbers: false, "`allow`, `refuse`, or the name of a reason such as `read_only`", {
        "type": "string", "pattern": "^[a-z_]+$"
    }
}
