//! What would become of a client, a server, a user and FTP lines: a session without a network.
//!
//! `explain` shows the answer, and the tests in a rules file are held against it. The policy and the session are the
//! ones that serve; only the server's answers and the data connections are made up, where none are given.

mod cases;
mod lines;
mod naming;
mod server;
mod walk;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;
use serde::Serialize;

pub use cases::{Failure, failures};
pub use lines::Said;
pub use walk::{Looked, ports};

use crate::addr::{BackAddr, ClientAddr, Ends, FrontAddr, ServerAddr};
use crate::policy::{
    Advertised, Asker, Candidates, Decision, Denied, Listener, NotDialled, Policy, Proxies, Rule, Source, Stand,
};
use crate::session::{Notations, Setting};

/// Who wants to do what.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// The rules.
    pub policy: &'a Policy,
    /// Where the client comes to.
    pub listener: &'a Listener,
    /// Where it comes from.
    pub client: ClientAddr,
    /// What it wants to reach.
    pub server: ServerAddr,
    /// Whom it logs in as.
    pub user: Option<&'a [u8]>,
    /// The gate's own addresses, where the rules do not tell them.
    pub gate: OwnAddresses<'a>,
    /// When that is.
    pub at: Timestamp,
    /// The same moment, for what is measured from it.
    pub now: Instant,
    /// The directory that the server puts the user in.
    pub home: &'a [u8],
}

/// The gate's own addresses, for each of its sides: the first of a family counts.
#[derive(Clone, Copy, Debug, Default)]
pub struct OwnAddresses<'a> {
    /// Where clients reach it.
    pub client_side: &'a [IpAddr],
    /// Where it reaches servers from.
    pub server_side: &'a [IpAddr],
}

/// What becomes of it.
#[derive(Debug, Serialize)]
pub struct Answer {
    /// Each rule that was looked at, in order.
    pub rules: Vec<Looked>,
    /// What the rules say.
    pub decision: Verdict,
    /// The rule that decided; none where no rule matches, or the user has yet to be named.
    pub rule: Option<String>,
    /// What the rule allows, in words.
    pub ports: Vec<String>,
    /// What becomes of each line.
    pub lines: Vec<Said>,
    /// What stands for what nobody told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// What the rules say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The session may be.
    Allow,
    /// It may not.
    Deny,
    /// The user decides, and none was named.
    AtLogin,
    /// No rule is asked: the gate answers a health check itself.
    HealthCheck,
}

impl Question<'_> {
    /// The listener that this client comes to for this server: the one with this name, or the first that leads there.
    #[must_use]
    pub fn listener<'a>(
        policy: &'a Policy,
        name: Option<&str>,
        client: ClientAddr,
        server: ServerAddr,
    ) -> Option<&'a Listener> {
        let leads = |listener: &&Listener| match listener.stand {
            Stand::Reverse { server: behind } => behind == server,
            Stand::Explicit => true,
            Stand::Transparent { .. } => listener.bind.is_ipv6() == server.ip().is_ipv6(),
        };
        let fits = |listener: &&Listener| takes(listener, client) && name.is_none_or(|name| name == listener.name);
        policy.listeners.iter().filter(leads).find(fits)
    }

    /// Asks the rules, and what becomes of these lines: the client's, and the server's where they begin with a code.
    #[must_use]
    pub fn ask(&self, lines: &[&[u8]]) -> Answer {
        if let Some(why) = self.health_check() {
            return Answer {
                rules: Vec::new(),
                decision: Verdict::HealthCheck,
                rule: None,
                ports: Vec::new(),
                lines: Vec::new(),
                note: Some(why),
            };
        }
        let asker = Asker::new(self.listener, self.client, self.server, self.at);
        let rules = walk::rules(self.policy, &asker, self.user);
        let (decision, rule, candidates) = self.decide(&asker);
        let (ends, announced, made_up) = self.ends();
        let setting = |rule: &Arc<Rule>| Setting {
            ends,
            client_is_gate: self.client_is_gate(),
            announced: Some(announced),
            rule: Arc::clone(rule),
            candidates: candidates.clone(),
            timeouts: self.policy.timeouts,
            notations: Notations::default(),
            called: self.called(lines),
            waited: std::time::Duration::ZERO,
        };
        let said = match (decision, &rule) {
            (Verdict::Deny | Verdict::HealthCheck, _) => Vec::new(),
            (Verdict::Allow, Some(rule)) if candidates.is_none() => {
                lines::follow(setting(rule), Some(rule), self, lines)
            }
            (Verdict::Allow | Verdict::AtLogin, rule) => {
                lines::follow(setting(&Candidates::nobody()), rule.as_deref(), self, lines)
            }
        };
        Answer {
            rules,
            decision,
            ports: rule.as_ref().filter(|_| decision == Verdict::Allow).map_or_else(Vec::new, |rule| {
                let active = self.not_dialled(rule).into_iter();
                ports(rule).into_iter().chain(active).chain(walk::of_gate(&self.policy.limits)).collect()
            }),
            rule: rule.map(|rule| rule.name.clone()),
            note: self.note(announced, &made_up, said.is_empty()),
            lines: said,
        }
    }

    /// Whether the client is the gate's own machine, as far as the file and the question tell.
    fn client_is_gate(&self) -> bool {
        let ip = self.client.ip();
        let is_own = |listener: &Listener| {
            listener.bind.ip() == ip
                || listener.advertise.iter().any(|entry| entry.advertised == Advertised::Address(ip))
        };
        let told = self.gate.client_side.iter().chain(self.gate.server_side).any(|own| *own == ip);
        ip.is_loopback() || told || self.policy.listeners.iter().any(is_own)
    }

    /// What there is to say where active mode is allowed, but not for this client.
    fn not_dialled(&self, rule: &Rule) -> Option<String> {
        let ip = self.client.ip();
        let why = rule.may_dial(ip, self.client_is_gate()).err().filter(|_| rule.outbound.is_some())?;
        Some(match why {
            NotDialled::Gate => format!("active mode is refused for {ip}, which is the gate itself"),
            NotDialled::NoHost => format!("active mode is refused for {ip}, which no host elsewhere has"),
        })
    }

    fn decide(&self, asker: &Asker<'_>) -> (Verdict, Option<Arc<Rule>>, Option<Candidates>) {
        let denied = |denied| match denied {
            Denied::ByRule(rule) => (Verdict::Deny, Some(rule), None),
            Denied::NoRule => (Verdict::Deny, None, None),
        };
        match self.policy.decide(asker) {
            Decision::Allow(rule) => (Verdict::Allow, Some(rule), None),
            Decision::Deny(why) => denied(why),
            Decision::AtLogin(candidates) => match self.user.map(|user| candidates.choose(user)) {
                None => (Verdict::AtLogin, None, Some(candidates)),
                Some(Ok(rule)) => (Verdict::Allow, Some(rule), Some(candidates)),
                Some(Err(why)) => denied(why),
            },
        }
    }

    /// The addresses of the session, the one that the client is told, and those that had to be made up.
    fn ends(&self) -> (Ends, IpAddr, Vec<IpAddr>) {
        let example = |v6| match v6 {
            true => IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
            false => IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
        };
        let own = |side: &[IpAddr], v6: bool| side.iter().copied().find(|own| own.is_ipv6() == v6);
        let bound = Some(self.listener.bind.ip()).filter(|ip| !ip.is_unspecified());
        let mut made_up = Vec::new();
        let mut known = |known: Option<IpAddr>, v6: bool| {
            known.unwrap_or_else(|| {
                made_up.push(example(v6));
                example(v6)
            })
        };
        let advertised = match self.listener.advertised_to(self.client) {
            Some(Advertised::Address(ip)) => Some(*ip),
            Some(Advertised::Name(_)) | None => None,
        };
        let v6 = self.client.ip().is_ipv6();
        let (front, as_client) = match self.listener.stand {
            Stand::Transparent { source, .. } => (self.server.ip(), source == Source::Client),
            Stand::Reverse { .. } | Stand::Explicit => {
                (known(bound.or_else(|| own(self.gate.client_side, v6)).or(advertised), v6), false)
            }
        };
        let v6 = self.server.ip().is_ipv6();
        let back = if as_client { self.client.ip() } else { known(own(self.gate.server_side, v6), v6) };
        let ends = Ends {
            client: self.client,
            front: FrontAddr::new(SocketAddr::new(front, 21)),
            back: BackAddr::new(SocketAddr::new(back, 40_000)),
            server: self.server,
        };
        (ends, advertised.unwrap_or(front), made_up)
    }

    /// Whether the gate answers this client itself, and why. A balancer is only meant where it asks for itself.
    pub(super) fn health_check(&self) -> Option<String> {
        let (ip, listener) = (self.client.ip(), self.listener);
        if !listener.is_checked_by(self.client) || listener.proxies.contains(ip) {
            return None;
        }
        let brought =
            if listener.proxies == Proxies::default() { "" } else { ", unless a balancer brings the connection" };
        Some(format!(
            "{ip} is in `health_checks_from` of listener {}: the gate answers QUIT and NOOP itself, no rule is asked, and there \
             is no session at a server{brought}",
            listener.name
        ))
    }

    fn note(&self, announced: IpAddr, made_up: &[IpAddr], silent: bool) -> Option<String> {
        let ip = self.client.ip();
        if self.listener.proxies.contains(ip) {
            return Some(format!(
                "{ip} is a balancer in `proxy_from`; give --client the one that its PROXY header names"
            ));
        }
        match self.listener.advertised_to(self.client) {
            _ if silent => None,
            Some(Advertised::Name(name)) => Some(format!("{announced} stands for the address of {name}")),
            _ => made_up.first().map(|example| {
                format!(
                    "{example} stands for the gate's own address, which the file does not tell; give --gate-client-side IP \
                     and --gate-server-side IP, or --gate IP where both are one"
                )
            }),
        }
    }
}

/// Whether a client of this family can come to a listener: each takes its own, but a balancer may come for any.
pub(super) fn takes(listener: &Listener, client: ClientAddr) -> bool {
    listener.bind.is_ipv6() == client.ip().is_ipv6() || listener.proxies != Proxies::default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_may_name_the_server_of_an_explicit_listener() {
        let text = b"version: 1\n\
            listeners: [{ name: a, bind: \"127.0.0.1:21\", explicit: user-at-host }]\n\
            rules: [{ name: b, from: any, to: [10.0.2.0/30, \"10.0.2.2:2121\"], users: anna, action: allow, inbound: any }]\n";
        let policy = crate::rules::written_bytes(text, "test").unwrap().policy;
        let question = Question {
            policy: &policy,
            listener: &policy.listeners[0],
            client: ClientAddr::new("192.0.2.7:50000".parse().unwrap()),
            server: ServerAddr::new("10.0.2.2:2121".parse().unwrap()),
            user: None,
            gate: OwnAddresses::default(),
            at: Timestamp::UNIX_EPOCH,
            now: Instant::now(),
            home: b"/",
        };
        let refused = |line: &str| question.ask(&[line.as_bytes()]).lines[0].refused;
        assert_eq!(refused("USER anna@10.0.2.2:2121"), None);
        // Another server is asked about as such.
        assert_eq!(refused("USER anna@10.0.2.3"), None);
        assert_eq!(refused("USER bob@10.0.2.3"), Some("user_denied"));
        assert_eq!(refused("USER anna@10.0.2.77"), Some("denied"));
        assert_eq!(refused("USER anna@ftp.example"), None);
        assert_eq!(refused("USER bob@ftp.example"), Some("user_denied"));
    }

    #[test]
    fn a_client_that_chooses_its_server_has_the_ports_that_the_rules_name() {
        let text = b"version: 1\n\
            listeners: [{ name: a, bind: \"127.0.0.1:21\", explicit: user-at-host }]\n\
            rules:\n\
            - { name: not-this, from: any, to: 10.0.2.9, action: deny }\n\
            - { name: others, from: any, to: \"10.0.2.0/30:2121\", action: allow, inbound: any }\n\
            - { name: all, from: any, to: [10.0.2.0/24, \"10.0.2.9:990\"], action: allow, inbound: any }\n";
        let policy = crate::rules::written_bytes(text, "test").unwrap().policy;
        let ask = |server: &str| {
            let question = Question {
                policy: &policy,
                listener: &policy.listeners[0],
                client: ClientAddr::new("192.0.2.7:50000".parse().unwrap()),
                server: ServerAddr::new(server.parse().unwrap()),
                user: None,
                gate: OwnAddresses::default(),
                at: Timestamp::UNIX_EPOCH,
                now: Instant::now(),
                home: b"/",
            };
            let answer = question.ask(&[]);
            let last = answer.rules.last().map(|looked| looked.why.clone()).unwrap_or_default();
            (answer.decision, answer.rule, last)
        };
        for (server, decision, rule) in [
            ("10.0.2.2:21", Verdict::Allow, Some("all")),
            ("10.0.2.2:25", Verdict::Deny, None),
            ("10.0.2.2:2121", Verdict::Allow, Some("others")),
            ("10.0.2.7:2121", Verdict::Deny, None),
            ("10.0.2.9:21", Verdict::Deny, Some("not-this")),
            ("10.0.2.9:990", Verdict::Deny, Some("not-this")),
        ] {
            let (came, by, _) = ask(server);
            assert_eq!((came, by.as_deref()), (decision, rule), "{server}");
        }
        assert!(ask("10.0.2.2:25").2.contains("only port 21"), "{}", ask("10.0.2.2:25").2);
    }
}
