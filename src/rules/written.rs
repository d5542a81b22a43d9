//! Values as people write them: each type knows its form, and says what to write where it is not met.

use std::fmt;
use std::marker::PhantomData;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;
use serde::Deserialize;
use serde::de::{self, Deserializer, SeqAccess, Visitor};

use super::read::HELP;
use crate::addr::{Network, PortRange};
use crate::policy::Destination;

/// A value that is written as one word.
pub(super) trait Written: Sized {
    /// An example, quoted as it would be written.
    const EXAMPLE: &'static str;
    /// Reads the word; the error says what is wrong, and what to write.
    fn read(text: &str) -> Result<Self, String>;
}

pub(super) fn wrong(what: impl fmt::Display, help: impl fmt::Display) -> String {
    format!("{what}{HELP}{help}")
}

fn write_like<T: Written>(text: &str, what: &str) -> String {
    wrong(format_args!("`{text}` is not {what}"), format_args!("write it like {}", T::EXAMPLE))
}

/// One value.
#[derive(Clone, Debug)]
pub(super) struct One<T>(pub(super) T);

/// One value or a list of them; the list is not empty.
#[derive(Clone, Debug)]
pub(super) struct Many<T>(pub(super) Vec<T>);

struct OneVisitor<T>(PhantomData<T>);

macro_rules! words {
    ($read:path) => {
        fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
            $read(text).map_err(E::custom)
        }

        fn visit_u64<E: de::Error>(self, number: u64) -> Result<Self::Value, E> {
            $read(&number.to_string()).map_err(E::custom)
        }

        fn visit_i64<E: de::Error>(self, number: i64) -> Result<Self::Value, E> {
            $read(&number.to_string()).map_err(E::custom)
        }

        fn visit_f64<E: de::Error>(self, number: f64) -> Result<Self::Value, E> {
            $read(&number.to_string()).map_err(E::custom)
        }

        fn visit_bool<E: de::Error>(self, value: bool) -> Result<Self::Value, E> {
            $read(&value.to_string()).map_err(E::custom)
        }

        fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
            Err(E::custom(wrong("there is no value", format_args!("write it like {}", T::EXAMPLE))))
        }
    };
}

impl<T: Written> Visitor<'_> for OneVisitor<T> {
    type Value = One<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "one value like {}", T::EXAMPLE)
    }

    words!(Self::word);
}

impl<T: Written> OneVisitor<T> {
    fn word(text: &str) -> Result<One<T>, String> {
        T::read(text).map(One)
    }
}

impl<'de, T: Written> Deserialize<'de> for One<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OneVisitor(PhantomData))
    }
}

struct ManyVisitor<T>(PhantomData<T>);

impl<'de, T: Written> Visitor<'de> for ManyVisitor<T> {
    type Value = Many<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a value like {}, or a list of them", T::EXAMPLE)
    }

    words!(Self::word);

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut values = Vec::new();
        while let Some(One(value)) = list.next_element()? {
            values.push(value);
        }
        if values.is_empty() {
            let help = format!("write `any` for everything, or a value like {}", T::EXAMPLE);
            return Err(de::Error::custom(wrong("an empty list could mean all or nothing", help)));
        }
        Ok(Many(values))
    }
}

impl<T: Written> ManyVisitor<T> {
    fn word(text: &str) -> Result<Many<T>, String> {
        T::read(text).map(|value| Many(vec![value]))
    }
}

impl<'de, T: Written> Deserialize<'de> for Many<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ManyVisitor(PhantomData))
    }
}

/// A name for logs.
#[derive(Clone, Debug)]
pub(super) struct Name(pub(super) String);

impl Written for Name {
    const EXAMPLE: &'static str = "\"partners\"";

    fn read(text: &str) -> Result<Self, String> {
        let fits = |character: char| character.is_ascii_alphanumeric() || "_.-".contains(character);
        if text.is_empty() || text.len() > 64 || !text.chars().all(fits) {
            return Err(wrong(
                format_args!("`{text}` is not a name"),
                "use up to 64 letters, digits, `-`, `_` and `.`",
            ));
        }
        Ok(Self(text.to_owned()))
    }
}

impl Written for SocketAddr {
    const EXAMPLE: &'static str = "\"0.0.0.0:21\" or \"[::]:21\"";

    fn read(text: &str) -> Result<Self, String> {
        if let Ok(port) = text.parse::<u16>() {
            return Err(wrong("the address is missing", format_args!("write \"0.0.0.0:{port}\" or \"[::]:{port}\"")));
        }
        if let Ok(ip) = text.parse::<IpAddr>() {
            let at = Self::new(ip, 21);
            return Err(wrong("the port is missing", format_args!("write \"{at}\"")));
        }
        text.parse().map_err(|_| write_like::<Self>(text, "an address and port"))
    }
}

/// The address of a server; its port is 21 if left out.
#[derive(Clone, Copy, Debug)]
pub(super) struct ServerAt(pub(super) SocketAddr);

impl Written for ServerAt {
    const EXAMPLE: &'static str = "\"10.0.2.2:21\"";

    fn read(text: &str) -> Result<Self, String> {
        let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
        let at = bare.parse().map(|ip: IpAddr| SocketAddr::new(ip, 21)).or_else(|_| text.parse());
        let at: SocketAddr = at.map_err(|_| write_like::<Self>(text, "an address; names are not looked up"))?;
        if at.ip().is_unspecified() || at.ip().is_multicast() || at.port() == 0 {
            return Err(wrong(format_args!("`{text}` is no server's address"), "write the address of the FTP server"));
        }
        Ok(Self(at))
    }
}

impl Written for IpAddr {
    const EXAMPLE: &'static str = "\"203.0.113.5\"";

    fn read(text: &str) -> Result<Self, String> {
        match text.parse::<Self>() {
            Ok(ip) if !ip.is_unspecified() && !ip.is_multicast() => Ok(ip),
            _ => Err(write_like::<Self>(text, "an address that clients can reach")),
        }
    }
}

impl Written for Network {
    const EXAMPLE: &'static str = "\"198.51.100.0/24\", \"2001:db8:40::/48\" or any";

    fn read(text: &str) -> Result<Self, String> {
        if text == "any" {
            return Ok(Self::Any);
        }
        if let Ok(ip) = text.parse::<IpAddr>() {
            return Ok(Self::Net(ip.into()));
        }
        let net: IpNet = text.parse().map_err(|_| write_like::<Self>(text, "a network"))?;
        if net.trunc() != net {
            let message = format!("`{text}` has bits set after its prefix");
            return Err(wrong(
                message,
                format_args!("write \"{}\", or \"{}\" for the one address", net.trunc(), net.addr()),
            ));
        }
        Ok(Self::Net(net))
    }
}

impl Written for Destination {
    const EXAMPLE: &'static str = "\"10.0.2.2:21\", \"10.0.2.0/24\" or any";

    fn read(text: &str) -> Result<Self, String> {
        let like = || write_like::<Self>(text, "a server or network");
        let port = |port: &str| match port.parse::<u16>() {
            Ok(port) if port > 0 => Ok(port),
            _ => Err(wrong(format_args!("`{port}` is not a port"), "a port is a number from 1 to 65535")),
        };
        if let Some((network, number)) = text.strip_prefix('[').and_then(|text| text.split_once("]:")) {
            return Ok(Self { network: network_only(network, like)?, port: Some(port(number)?) });
        }
        match text.split_once(':') {
            Some((network, number)) if !number.contains(':') && (network.contains('.') || network == "any") => {
                Ok(Self { network: network_only(network, like)?, port: Some(port(number)?) })
            }
            _ => Ok(Self { network: network_only(text, like)?, port: None }),
        }
    }
}

/// A network; bits after the prefix are told as such, all else as `like` says.
fn network_only(text: &str, like: impl Fn() -> String) -> Result<Network, String> {
    Network::read(text).map_err(|error| if error.contains("bits set") { error } else { like() })
}

/// Ports of a data connection: a range, one port, or `any`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ports(pub(super) PortRange);

impl Written for Ports {
    const EXAMPLE: &'static str = "\"10001-10005\"";

    fn read(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text == "any" {
            return PortRange::new(1024, 65535).map(Self).ok_or_else(String::new);
        }
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let number = |digits: &str| match digits.trim().parse::<u16>() {
            Ok(port) if port >= 1024 => Ok(port),
            Ok(0) => Err(wrong("there is no port 0", "ports of data connections go from 1024 to 65535")),
            Ok(port) => Err(wrong(
                format_args!("port {port} is reserved for services"),
                "ports of data connections go from 1024 to 65535",
            )),
            Err(_) if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                Err(wrong(format_args!("`{digits}` is more than a port can be"), "the highest port is 65535"))
            }
            Err(_) => Err(write_like::<Self>(text, "a range of ports")),
        };
        let (first, last) = (number(first)?, number(last)?);
        let range = PortRange::new(first, last);
        range
            .map(Self)
            .ok_or_else(|| wrong(format_args!("`{text}` runs backwards"), format_args!("write \"{last}-{first}\"")))
    }
}

/// The port that active data connections come from.
#[derive(Clone, Copy, Debug)]
pub(super) struct SourcePort(pub(super) u16);

impl Written for SourcePort {
    const EXAMPLE: &'static str = "20";

    fn read(text: &str) -> Result<Self, String> {
        match text.parse() {
            Ok(port) if port > 0 => Ok(Self(port)),
            _ => Err(write_like::<Self>(text, "a port")),
        }
    }
}

/// A time to wait.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wait(pub(super) Duration);

impl Written for Wait {
    const EXAMPLE: &'static str = "\"30s\"";

    fn read(text: &str) -> Result<Self, String> {
        if text.parse::<f64>().is_ok() {
            return Err(wrong(format_args!("`{text}` has no unit"), format_args!("write \"{text}s\" for seconds")));
        }
        match humantime::parse_duration(text) {
            Ok(wait) if (1..=3600).contains(&wait.as_secs()) => Ok(Self(wait)),
            Ok(_) => Err(wrong(format_args!("`{text}` is out of bounds"), "write a time from \"1s\" to \"1h\"")),
            Err(_) => Err(write_like::<Self>(text, "a time")),
        }
    }
}
