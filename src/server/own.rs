//! Reverse listeners whose server is the gate itself: each connection would make the next.

use std::net::SocketAddr;

use crate::net;
use crate::policy::{Advertised, Listener, Stand};

/// A listener whose server is a listener of the same gate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnServer {
    /// The listener, by its place in the file.
    pub listener: usize,
    /// Its name.
    pub name: String,
    /// Its server.
    pub server: SocketAddr,
    /// The listener that answers there.
    pub leads_to: String,
}

/// The first listener for each whose server is one of these listeners, at any address of this machine.
#[must_use]
pub fn own_servers(listeners: &[Listener]) -> Vec<OwnServer> {
    own_servers_of(listeners, net::is_local)
}

fn own_servers_of(listeners: &[Listener], is_local: impl Fn(std::net::IpAddr) -> bool) -> Vec<OwnServer> {
    let one = |(place, listener): (usize, &Listener)| {
        let Stand::Reverse { server } = listener.stand else { return None };
        let server = server.socket();
        let leads_to = listeners.iter().find(|other| answers(other, server, &is_local))?;
        let (name, leads_to) = (listener.name.clone(), leads_to.name.clone());
        Some(OwnServer { listener: place, name, server, leads_to })
    };
    listeners.iter().enumerate().filter_map(one).collect()
}

/// Whether who connects to this address comes to this listener.
fn answers(listener: &Listener, at: SocketAddr, is_local: impl Fn(std::net::IpAddr) -> bool) -> bool {
    let bind = listener.bind;
    if bind.port() != at.port() || bind.is_ipv4() != at.is_ipv4() {
        return false;
    }
    // A NAT in front of the gate leads there what clients send to that address.
    let told = listener.advertise.iter().any(|advertise| advertise.advertised == Advertised::Address(at.ip()));
    bind == at || told || (bind.ip().is_unspecified() && is_local(at.ip()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::parse;

    fn own(listeners: &str) -> Vec<(String, String)> {
        let rules = "rules: [{ name: r, from: any, to: any, action: allow, inbound: 10001 }]\n";
        let policy = parse(&format!("version: 1\nlisteners:\n{listeners}{rules}"), "test").unwrap();
        let is_local = |ip: std::net::IpAddr| ip.is_loopback() || ip == std::net::IpAddr::from([192, 0, 2, 1]);
        own_servers_of(&policy.listeners, is_local).into_iter().map(|own| (own.name, own.leads_to)).collect()
    }

    #[test]
    fn every_address_of_the_machine_leads_to_a_wildcard() {
        for server in ["192.0.2.1", "127.0.0.1", "127.9.9.9"] {
            let listeners = format!("  - {{ name: a, bind: \"0.0.0.0:21\", server: \"{server}\" }}\n");
            assert_eq!(own(&listeners), [("a".into(), "a".into())], "{server}");
        }
        assert_eq!(own("  - { name: a, bind: \"[::]:21\", server: \"[::1]:21\" }\n"), [("a".into(), "a".into())]);
        // Another host, another port, another family.
        for server in ["192.0.2.2:21", "192.0.2.1:2121", "[::1]:21"] {
            let listeners = format!("  - {{ name: a, bind: \"0.0.0.0:21\", server: \"{server}\" }}\n");
            assert_eq!(own(&listeners), [], "{server}");
        }
    }

    #[test]
    fn two_listeners_may_not_lead_to_each_other() {
        let listeners = "  - { name: a, bind: \"192.0.2.1:21\", server: \"127.0.0.1:2121\" }\n  \
                           - { name: b, bind: \"127.0.0.1:2121\", server: \"192.0.2.1:21\" }\n";
        assert_eq!(own(listeners), [("a".into(), "b".into()), ("b".into(), "a".into())]);
    }

    #[test]
    fn an_address_that_a_nat_leads_here_is_the_gate() {
        let told = "advertise: \"203.0.113.5\"";
        let listeners = format!("  - {{ name: a, bind: \"10.0.0.1:21\", server: \"203.0.113.5:21\", {told} }}\n");
        assert_eq!(own(&listeners), [("a".into(), "a".into())]);
    }
}
