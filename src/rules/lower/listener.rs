//! What a listener means.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::super::place::{At, Fault, quoted};
use super::super::schema;
use super::ip::{nobodys, unmapped};
use super::network::{checkers, proxies, socket};
use super::{advertise, fault, required};
use crate::addr::ServerAddr;
use crate::policy::{Interception, Listener, Proxies, Source, Stand};

/// What one listener means; `binds` are those before it.
pub(super) fn listener(written: schema::Listener, binds: &mut Binds, at: &At<'_>) -> Option<Listener> {
    let name = required(written.name, "name", at, "begin the listener with `- name:` and a name of its own");
    let bind = required(written.bind, "bind", at, "write where to listen, such as `bind: \"0.0.0.0:21\"`");
    let bind = bind.and_then(|schema::Bind(text)| at.key("bind").take(bind_address(&text)));
    if let Some(bind) = bind {
        binds.check(bind, name.as_ref().map_or("(no name)", |name| &name.0), &at.key("bind"));
    }
    one_stand(at);
    let server = written.server.0.and_then(|server| reverse(&server, bind, &at.key("server")));
    let transparent = written.transparent.0.map(|schema::Word(by)| Stand::Transparent {
        interception: match by {
            schema::Interception::Tproxy => Interception::Tproxy,
            schema::Interception::Redirect => Interception::Redirect,
        },
        source: match written.source.0 {
            Some(schema::Word(schema::Source::Client)) => Source::Client,
            Some(schema::Word(schema::Source::Gate)) | None => Source::Gate,
        },
    });
    let explicit = written.explicit.0.map(|schema::Word(schema::Explicit::UserAtHost)| Stand::Explicit);
    let advertise = match written.advertise.0 {
        None => Some(Vec::new()),
        Some(written) => advertise::advertise(written, bind, &at.key("advertise")),
    };
    let proxy_from = written.proxy_from.0.map(|list| proxies(&list, &at.key("proxy_from")));
    let proxies = proxy_from.unwrap_or_else(|| Some(Proxies::default()));
    let health_checks = match written.health_checks_from.0 {
        None => Some(Vec::new()),
        Some(list) => checkers(&list, &at.key("health_checks_from")),
    };
    let stand = server.or(transparent).or(explicit);
    Some(Listener {
        name: name?.0,
        bind: bind?,
        stand: stand?,
        advertise: advertise?,
        proxies: proxies?,
        health_checks: health_checks?,
    })
}

/// The keys that say how a listener stands in front of its servers.
const STANDS: [&str; 3] = ["server", "transparent", "explicit"];

/// Checks that the keys say one way to stand in front of servers, and only what belongs to it.
fn one_stand(at: &At<'_>) {
    let (server, transparent) = (at.has("server"), at.has("transparent"));
    let mut written = STANDS.into_iter().filter(|key| at.has(key));
    match (written.next(), written.next()) {
        (Some(_), Some(second)) => at.key_itself(second).mistake(
            "a listener has one of `server`, `transparent` and `explicit`",
            "take the others away, or make a listener for each",
        ),
        (None, _) if STANDS.into_iter().all(|key| at.lacks(key)) => at.mistake(
            "this listener has neither `server` nor `transparent` nor `explicit`",
            "add `server: \"10.0.2.2:21\"` for one server, `transparent: tproxy` on a router, or `explicit: user-at-host` \
             for clients that name their server",
        ),
        _ => {}
    }
    if at.has("source") && !transparent {
        let help = "take it away, or write `transparent:` in place of `server:`";
        at.key_itself("source").mistake("`source` goes only with `transparent`", help);
    }
    if at.has("advertise") && transparent && !server {
        let help = "take it away: clients are told the address that they connected to";
        at.key_itself("advertise").mistake("`advertise` does not go with `transparent`", help);
    }
    if at.has("proxy_from") && transparent && !server {
        let help = "take it away: a connection that is intercepted comes from the client itself";
        at.key_itself("proxy_from").mistake("`proxy_from` does not go with `transparent`", help);
    }
    if at.has("health_checks_from") && transparent && !server {
        let help = "take it away: a check that is intercepted asks for the server itself";
        at.key_itself("health_checks_from").mistake("`health_checks_from` does not go with `transparent`", help);
    }
}

fn bind_address(text: &str) -> Result<SocketAddr, Fault> {
    let bind = socket(text, None)?;
    if let Some(plain) = unmapped(bind.ip()) {
        let help = format!("write \"{}\"", SocketAddr::new(plain, bind.port()));
        return fault(format!("{} is IPv4, written as IPv6", quoted(text)), help);
    }
    if nobodys(bind.ip()) {
        let help = format!("write an address of this machine, or \"0.0.0.0:{}\" for every one", bind.port());
        return fault(format!("{} is not the address of one machine", bind.ip()), help);
    }
    Ok(bind)
}

fn reverse(schema::Server(text): &schema::Server, bind: Option<SocketAddr>, at: &At<'_>) -> Option<Stand> {
    let server = ServerAddr::new(at.take(socket(text, Some(21)))?);
    if server.ip().is_unspecified() || nobodys(server.ip()) {
        at.mistake(format!("{} is not the address of one machine", server.ip()), "write the server's own address");
        return None;
    }
    if bind == Some(server.socket()) {
        at.mistake("the server is this listener itself", "write the server's own address");
        return None;
    }
    Some(Stand::Reverse { server })
}

/// The addresses that listeners took so far.
#[derive(Default)]
pub(super) struct Binds {
    taken: HashMap<SocketAddr, String>,
    /// By family and port: any one of them, for a wildcard that would cover it.
    ports: HashMap<(bool, u16), String>,
}

impl Binds {
    /// Puts a mistake on the list where a listener before this one has the same address or covers it.
    fn check(&mut self, bind: SocketAddr, name: &str, at: &At<'_>) {
        let wildcard = match bind.ip() {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        let family = (bind.is_ipv4(), bind.port());
        let covered = self.taken.get(&SocketAddr::new(wildcard, bind.port()));
        let covers = self.ports.get(&family).filter(|_| bind.ip().is_unspecified());
        if let Some(other) = self.taken.get(&bind).or(covered).or(covers) {
            at.mistake(
                format!("listener {} has port {} of this address already", quoted(other), bind.port()),
                "give one of them another port, or an address that the other does not have",
            );
        }
        self.taken.entry(bind).or_insert_with(|| name.to_owned());
        self.ports.entry(family).or_insert_with(|| name.to_owned());
    }
}
