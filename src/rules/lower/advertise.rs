//! What clients are told as the gate's address.

use std::net::{IpAddr, SocketAddr};

use super::super::place::{At, Fault, quoted};
use super::super::schema::{self, List, ShortOr};
use super::ip::{nobodys, unmapped};
use super::network::{clients, socket};
use super::{fault, required};
use crate::addr::{Network, is_host_name};
use crate::policy::{Advertise, Advertised};

/// What `advertise` means at a listener that is bound to this address.
pub(super) fn advertise(
    written: ShortOr<schema::Advertise, List<schema::AdvertiseTo>, true>,
    bind: Option<SocketAddr>,
    at: &At<'_>,
) -> Option<Vec<Advertise>> {
    let List(list) = match written {
        ShortOr::Short(schema::Advertise(text)) => {
            let advertised = at.take(advertised(&text, bind))?;
            return Some(vec![Advertise { from: vec![Network::Any], advertised }]);
        }
        ShortOr::Full(list) => list,
    };
    if list.is_empty() {
        at.mistake("this list is empty", "take it away: clients are told the address that they connected to");
        return None;
    }
    let read: Vec<_> = list.into_iter().enumerate().map(|(index, to)| entry(to, bind, &at.index(index))).collect();
    let read: Vec<Advertise> = read.into_iter().collect::<Option<_>>()?;
    let last = read.iter().position(|entry| entry.from.contains(&Network::Any));
    if let Some(after) = last.map(|last| last + 1).filter(|after| *after < read.len()) {
        let help = "put the entry with `from: any` at the end";
        at.index(after).mistake("this entry is never asked: the one before it is for everybody", help);
        return None;
    }
    Some(read)
}

fn entry(written: schema::AdvertiseTo, bind: Option<SocketAddr>, at: &At<'_>) -> Option<Advertise> {
    let from = required(written.from, "from", at, "say which clients: `from: any`, or networks");
    let from = from.and_then(|from| clients(&from, &at.key("from")));
    let address =
        required(written.address, "address", at, "say what they are told, such as `address: \"203.0.113.5\"`");
    let advertised = address.and_then(|schema::Advertise(text)| at.key("address").take(advertised(&text, bind)));
    Some(Advertise { from: from?, advertised: advertised? })
}

fn advertised(text: &str, bind: Option<SocketAddr>) -> Result<Advertised, Fault> {
    let Ok(ip) = text.parse::<IpAddr>() else {
        if is_host_name(text) {
            return Ok(Advertised::Name(text.to_ascii_lowercase()));
        }
        let help = match socket(text, Some(21)) {
            Ok(addr) => format!("write it without its port: \"{}\"", addr.ip()),
            Err(_) => "write the address that clients connect to, such as \"203.0.113.5\", or a host's name".to_owned(),
        };
        return fault(format!("{} is not an address", quoted(text)), help);
    };
    if ip.is_unspecified() || nobodys(ip) || unmapped(ip).is_some() {
        let message = format!("{} is no address that a client could connect to", quoted(text));
        return fault(message, "write the address that clients connect to, such as \"203.0.113.5\"");
    }
    let family = |ipv4| if ipv4 { "IPv4" } else { "IPv6" };
    match bind {
        Some(bind) if bind.is_ipv4() != ip.is_ipv4() => fault(
            format!("{} is {}, and `bind` is {}", quoted(text), family(ip.is_ipv4()), family(bind.is_ipv4())),
            format!("write an {} address, or make a second listener", family(bind.is_ipv4())),
        ),
        _ => Ok(Advertised::Address(ip)),
    }
}
