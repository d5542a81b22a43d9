//! What a policy says that is legal but hardly meant.

mod listeners;

use std::num::NonZeroU32;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{Destination, Interception, Listener, Permission, Policy, Proxies, Rule, Stand};
use crate::addr::{Network, PortRanges, is_dialable};

/// More ports than this are hardly meant.
const MANY_PORTS: u32 = 10_000;
/// How many pairs of rules are compared at most: beyond that nobody would wait for the answer.
const MOST_PAIRS: usize = 20_000_000;

/// What a doubt is about, by its place in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About {
    /// A listener.
    Listener(usize),
    /// A rule.
    Rule(usize),
}

/// A doubt about one listener or rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Doubt {
    /// Which one.
    pub about: About,
    /// The key that it is about.
    pub key: &'static str,
    /// What is doubted.
    pub message: String,
    /// What to do about it.
    pub help: String,
}

impl Policy {
    /// Every doubt: about the listeners, then in the order of the rules. `ephemeral` are the ports that this host gives to its own outgoing
    /// connections.
    #[must_use]
    pub fn doubts(&self, ephemeral: Option<&PortRanges>) -> Vec<Doubt> {
        let mut doubts: Vec<Doubt> = listeners::doubts(self).collect();
        for (index, rule) in self.rules.iter().enumerate() {
            let about = About::Rule(index);
            let mut doubt = |key, message: String, help: String| doubts.push(Doubt { about, key, message, help });
            if let Some(earlier) =
                self.rules.iter().take(self.compared(index)).find(|earlier| self.covers(earlier, rule))
            {
                doubt(
                    "name",
                    format!("this rule is never asked: rule {} before it matches all that it would", earlier.name),
                    "take one of the two away, or put this one first".to_owned(),
                );
            }
            if rule.permission == Permission::Deny {
                continue;
            }
            for verb in rule.commands.denied_and_unknown() {
                doubt(
                    "commands",
                    format!("`{verb}` is not a command that the gate knows, and unknown commands are refused anyway"),
                    "write the command as FTP clients send it: `DELE` deletes a file, `RMD` a directory".to_owned(),
                );
            }
            self.doubt_everybody(rule, &mut doubt);
            self.doubt_checks(rule, &mut doubt);
            doubt_local_peers(rule, &mut doubt);
            self.doubt_room(rule, &mut doubt);
            let inbound = rule.inbound.as_ref().map(|inbound| ("inbound", &inbound.gate_ports));
            let outbound = rule.ports_for_servers().map(|ports| ("outbound", ports));
            for (key, ports) in inbound.into_iter().chain(outbound) {
                self.doubt_ports(rule, ports, ephemeral, &mut |message, help| doubt(key, message, help));
            }
        }
        doubts
    }

    fn covers(&self, earlier: &Rule, later: &Rule) -> bool {
        let is_explicit = |listener: &Listener| {
            listener.stand == Stand::Explicit
                && (later.listeners.is_empty() || later.listeners.contains(&listener.name))
        };
        covers(earlier, later, self.listeners.iter().any(is_explicit))
    }

    /// With how many of the rules before it a rule is compared.
    fn compared(&self, index: usize) -> usize {
        if self.rules.len().saturating_mul(self.rules.len()) / 2 <= MOST_PAIRS { index } else { 0 }
    }

    /// Whether a rule lets anybody anywhere, where clients choose their servers.
    fn doubt_everybody(&self, rule: &Rule, doubt: &mut impl FnMut(&'static str, String, String)) {
        let anybody = |v6: bool| rule.from.iter().any(|from| from.covers(&all_of(v6))) && rule.users.is_none();
        let anywhere = |v6: bool| rule.to.iter().any(|to| to.network.covers(&all_of(v6)));
        let applies = |listener: &&Listener| rule.listeners.is_empty() || rule.listeners.contains(&listener.name);
        let of = |stand: fn(Stand) -> bool| self.listeners.iter().filter(applies).find(move |one| stand(one.stand));
        let explicit = of(|stand| stand == Stand::Explicit);
        if let Some(listener) = explicit.filter(|listener| anybody(listener.bind.is_ipv6())) {
            // A server of either family can be named.
            if anywhere(false) || anywhere(true) {
                doubt(
                    "from",
                    format!(
                        "an open proxy: any client that reaches listener {} may name any FTP server, and is let through to it",
                        listener.name
                    ),
                    "name the clients in `from`, or the servers in `to`".to_owned(),
                );
                return;
            }
        }
        let transparent = of(|stand| matches!(stand, Stand::Transparent { .. }));
        let both = rule.inbound.is_some() && rule.outbound.is_some();
        let everybody = |v6| anybody(v6) && rule.to.iter().any(|to| to.port.is_none()) && anywhere(v6);
        if let Some(listener) = transparent.filter(|listener| both && everybody(listener.bind.is_ipv6())) {
            doubt(
                "to",
                format!("anybody may reach any server through listener {}, in both modes", listener.name),
                "name the clients in `from`, or the servers in `to`".to_owned(),
            );
        }
    }

    /// Whether each client that a rule allows is taken for a health check, at some listener.
    fn doubt_checks(&self, rule: &Rule, doubt: &mut impl FnMut(&'static str, String, String)) {
        // Who is brought by a balancer is none.
        let checks =
            |listener: &&Listener| !listener.health_checks.is_empty() && listener.proxies == Proxies::default();
        let applies = |listener: &&Listener| rule.listeners.is_empty() || rule.listeners.contains(&listener.name);
        for listener in self.listeners.iter().filter(checks).filter(applies) {
            let leads = match listener.stand {
                Stand::Reverse { server } => rule.to.iter().any(|to| to.contains(server)),
                Stand::Transparent { .. } | Stand::Explicit => true,
            };
            let all = all_of(listener.bind.is_ipv6());
            // Clients of the other family do not come here.
            let here = |network: &Network| match network {
                Network::Any => Some(all),
                network => all.covers(network).then_some(*network),
            };
            let mut own = rule.from.iter().filter_map(here).peekable();
            let checked = joined(&listener.health_checks);
            if leads && own.peek().is_some() && own.all(|network| checked.iter().any(|wider| wider.covers(&network))) {
                doubt(
                    "from",
                    format!(
                        "no client of this rule gets a session at listener {}: each is in its `health_checks_from`",
                        listener.name
                    ),
                    "name only the hosts that send health checks in `health_checks_from`".to_owned(),
                );
            }
        }
    }

    /// Whether the sessions that a rule allows may find every port waiting for another of them. A port waits for one data
    /// connection of each peer: clients have all of them to themselves, and a server has them once for all its clients.
    fn doubt_room(&self, rule: &Rule, doubt: &mut impl FnMut(&'static str, String, String)) {
        let least = |limits: &[Option<NonZeroU32>]| limits.iter().flatten().min().map(|limit| limit.get());
        let all = [rule.limits.all.sessions, self.limits.all.sessions];
        let client = [rule.limits.client.sessions, self.limits.client.sessions];
        let of_client = least(&client).map(|limit| least(&all).map_or(limit, |all| all.min(limit)));
        // The gate's own limit says nothing of how many are for one server.
        let of_all = rule.limits.all.sessions.and_then(|_| least(&all));
        let inbound =
            rule.inbound.as_ref().map(|inbound| ("inbound", &inbound.gate_ports, of_client, "client address"));
        // One client alone may bring all its sessions to one server.
        let of_server = of_all.max(of_client);
        let outbound = rule.ports_for_servers().map(|ports| ("outbound", ports, of_server, "server"));
        for (key, ports, sessions, peer) in inbound.into_iter().chain(outbound) {
            let Some(sessions) = sessions.filter(|sessions| *sessions > ports.count()) else { continue };
            doubt(
                key,
                format!(
                    "{sessions} sessions with one {peer} may each wait for data, and there are {} ports",
                    ports.count()
                ),
                format!(
                    "a range of {sessions} ports always has one free; with fewer, some may hear 425 (`range_full`)"
                ),
            );
        }
    }

    fn doubt_ports(
        &self,
        rule: &Rule,
        ports: &PortRanges,
        ephemeral: Option<&PortRanges>,
        doubt: &mut impl FnMut(String, String),
    ) {
        if ports.count() > MANY_PORTS {
            doubt(
                format!("{} ports of the gate may be opened: {ports}", ports.count()),
                "a port serves every client at a time, so a hundred go a long way: \"10001-10100\"".to_owned(),
            );
        }
        // Where clients dial the servers' own addresses, so do we listen there, and nobody else does.
        let own = |listener: &&Listener| match listener.stand {
            Stand::Transparent { interception, .. } => interception == Interception::Redirect,
            Stand::Reverse { .. } | Stand::Explicit => true,
        };
        let applies = |listener: &&Listener| rule.listeners.is_empty() || rule.listeners.contains(&listener.name);
        if !self.listeners.iter().filter(applies).any(|listener| own(&listener)) {
            return;
        }
        let listens = |listener: &&Listener| ports.contains(listener.bind.port()) && applies(listener);
        if let Some(listener) = self.listeners.iter().find(listens) {
            doubt(
                format!("port {} of listener {} is among these", listener.bind.port(), listener.name),
                "leave it out of the range: it is taken already".to_owned(),
            );
        }
        if let Some(own) = ephemeral.filter(|own| own.overlaps(ports)) {
            doubt(
                format!("this host gives ports {own} to its own outgoing connections, and {ports} lies among them"),
                format!(
                    "choose ports outside, or keep these free: `sysctl net.ipv4.ip_local_reserved_ports={}`",
                    spans(ports)
                ),
            );
        }
    }
}

/// Whether `data_peers` names addresses that data may come from and never goes to.
fn doubt_local_peers(rule: &Rule, doubt: &mut impl FnMut(&'static str, String, String)) {
    let peers = [&rule.data_peers.client, &rule.data_peers.server];
    for network in peers.into_iter().flat_map(|networks| networks.as_slice()) {
        let Network::Net(net) = network else { continue };
        if !is_dialable(net.network()) && !is_dialable(net.broadcast()) {
            doubt(
                "data_peers",
                format!("data may come from {network}, and never goes there: no host elsewhere has such an address"),
                "name addresses that the peers have in the network".to_owned(),
            );
        }
    }
}

/// Networks, with those joined that make up one.
fn joined(networks: &[Network]) -> Vec<Network> {
    let nets = networks.iter().filter_map(|network| match network {
        Network::Net(net) => Some(*net),
        Network::Any => None,
    });
    IpNet::aggregate(&nets.collect()).into_iter().map(Network::Net).collect()
}

/// Every address of a family.
fn all_of(v6: bool) -> Network {
    Network::Net(if v6 { Ipv6Net::default().into() } else { Ipv4Net::default().into() })
}

/// Ranges as sysctl wants them: without blanks.
fn spans(ports: &PortRanges) -> String {
    ports.to_string().replace(' ', "")
}

/// Whether an earlier rule matches whatever a later one would; `explicit`: where clients choose their servers too.
fn covers(earlier: &Rule, later: &Rule, explicit: bool) -> bool {
    let covers_to = |wider: &Destination, to: &Destination| {
        // A destination without a port allows one port there.
        let is_narrow = explicit && wider.is_for_control_port(earlier.permission);
        let is_no_wider = to.port == Some(21) || to.is_for_control_port(later.permission);
        wider.covers(to) && (!is_narrow || is_no_wider)
    };
    let listeners = earlier.listeners.is_empty()
        || (!later.listeners.is_empty() && later.listeners.iter().all(|name| earlier.listeners.contains(name)));
    let users = earlier.users.is_none() || earlier.users == later.users;
    let hours = earlier.hours.is_none() || earlier.hours == later.hours;
    listeners
        && users
        && hours
        && later.from.iter().all(|network| earlier.from.iter().any(|wider| wider.covers(network)))
        && later.to.iter().all(|destination| earlier.to.iter().any(|wider| covers_to(wider, destination)))
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::rules;

    fn doubts(text: &str) -> Vec<(usize, &'static str, String)> {
        let policy = rules::parse(text, "test").unwrap();
        let own = rules::parse(&MINIMAL.replace("10001-10005", "32768-60999"), "own").unwrap();
        let own = &own.rules[0].inbound.as_ref().unwrap().gate_ports;
        let of_rules = policy.doubts(Some(own)).into_iter().filter_map(|doubt| match doubt.about {
            About::Rule(rule) => Some((rule, doubt.key, doubt.message)),
            About::Listener(_) => None,
        });
        of_rules.collect()
    }

    const MINIMAL: &str = r#"
version: 1
listeners:
  - { name: public, bind: "0.0.0.0:21", server: "10.0.2.2:21" }
rules:
  - { name: all, from: any, to: any, action: allow, inbound: "10001-10005", outbound: "20000-20099" }
"#;

    #[test]
    fn what_most_people_write_is_not_doubted() {
        assert_eq!(doubts(MINIMAL), []);
    }

    #[test]
    fn a_denied_command_that_is_not_known_is_doubted() {
        let deny =
            |list: &str| MINIMAL.replace("action: allow", &format!("action: allow, commands: {{ deny: [{list}] }}"));
        let found = doubts(&deny("DELETE, RMD, 'SITE CHMOD', 'FOO BAR'"));
        assert!(found.iter().all(|(rule, key, _)| (*rule, *key) == (0, "commands")), "{found:?}");
        let verbs: Vec<&str> = found.iter().filter_map(|(_, _, message)| message.split('`').nth(1)).collect();
        assert_eq!(verbs, ["DELETE", "FOO"]);
    }

    #[test]
    fn a_rule_behind_a_wider_one_is_never_asked() {
        let rules = r#"
  - { name: narrow, from: "10.1.0.0/16", to: "10.0.2.2:21", action: deny }
  - { name: later, from: any, to: any, action: deny }
"#;
        let found = doubts(&format!("{MINIMAL}{}", rules.trim_start_matches('\n')));
        let expected = "this rule is never asked: rule all before it matches all that it would";
        assert_eq!(found, [(1, "name", expected.to_owned()), (2, "name", expected.to_owned())]);
        for (earlier, later, covered) in [
            (r#"from: "10.0.0.0/8", to: any"#, r#"from: "10.1.0.0/16", to: any"#, true),
            (r#"from: "10.0.0.0/8", to: any"#, r#"from: ["10.1.0.0/16", "11.0.0.0/8"], to: any"#, false),
            (r#"from: any, to: "10.0.2.2:21""#, r#"from: any, to: "10.0.2.2""#, false),
            (r#"from: any, to: "10.0.2.2""#, r#"from: any, to: "10.0.2.2:21""#, true),
            ("from: any, to: any, users: anna", "from: any, to: any", false),
            ("from: any, to: any, users: anna", "from: any, to: any, users: anna", true),
            ("from: any, to: any, listener: public", "from: any, to: any", false),
            ("from: any, to: any", "from: any, to: any, listener: public", true),
            (r#"from: any, to: any, hours: "daily 08:00-18:00 UTC""#, "from: any, to: any", false),
        ] {
            let rule = |name, what| format!("  - {{ name: {name}, {what}, action: deny }}\n");
            let head = MINIMAL.split("rules:").next().unwrap();
            let text = format!("{head}rules:\n{}{}", rule("a", earlier), rule("b", later));
            assert_eq!(!doubts(&text).is_empty(), covered, "{earlier} before {later}");
        }
    }

    /// Where clients choose their servers, a rule that allows them without a port leaves the other ports to those behind.
    #[test]
    fn a_rule_for_another_port_is_asked_where_clients_choose() {
        let explicit = MINIMAL.replace("server: \"10.0.2.2:21\"", "explicit: user-at-host");
        let head = explicit.split("rules:").next().unwrap();
        for (action, to, later, covered) in [
            ("allow, inbound: 10001", "10.0.2.0/24", "10.0.2.2:2121", false),
            ("allow, inbound: 10001", "10.0.2.0/24", "10.0.2.2:21", true),
            ("allow, inbound: 10001", "10.0.2.0/24", "10.0.2.2", true),
            ("deny", "10.0.2.0/24", "10.0.2.2:2121", true),
        ] {
            let rule = |name, action, to| {
                format!("  - {{ name: {name}, from: 10.1.0.0/16, to: \"{to}\", action: {action} }}\n")
            };
            let text = format!("{head}rules:\n{}{}", rule("a", action, to), rule("b", "allow, inbound: 10001", later));
            let unasked = doubts(&text).iter().any(|(_, key, _)| *key == "name");
            assert_eq!(unasked, covered, "{action} {to} before {later}");
        }
    }

    #[test]
    fn ports_are_doubted() {
        let with =
            |inbound: &str| doubts(&MINIMAL.replace("10001-10005", inbound).replace(", outbound: \"20000-20099\"", ""));
        assert!(
            with("1024-65535").iter().any(|(_, key, message)| *key == "inbound" && message.contains("64512 ports"))
        );
        assert!(with("40000-40099")[0].2.contains("outgoing"));
        let listens = MINIMAL.replace("0.0.0.0:21\"", "0.0.0.0:10003\"");
        assert!(doubts(&listens)[0].2.contains("port 10003 of listener public"));
    }

    #[test]
    fn ranges_are_held_against_the_sessions_that_share_them() {
        let with = |limits: &str, gate: &str| {
            let text = MINIMAL.replace("20000-20099\" }", &format!("20000-20099\", limits: {limits} }}"));
            doubts(&format!("{text}limits: {gate}\n"))
        };
        let of_client = with("{ per_client: { sessions: 6 } }", "{}");
        assert_eq!(of_client[0].1, "inbound");
        assert_eq!(of_client[0].2, "6 sessions with one client address may each wait for data, and there are 5 ports");
        assert_eq!(with("{}", "{ per_client: { sessions: 6 } }"), of_client);
        let of_one_client = with("{ per_client: { sessions: 101 } }", "{}");
        assert_eq!((of_one_client[0].1, of_one_client[1].1), ("inbound", "outbound"));
        assert!(of_one_client[1].2.starts_with("101 sessions with one server may each"), "{of_one_client:?}");
        assert_eq!(with("{ sessions: 101 }", "{}")[0].2.split(" may").next(), Some("101 sessions with one server"));
        for (rule, gate) in [
            ("{ per_client: { sessions: 5 } }", "{}"),
            ("{ per_client: { sessions: 6 } }", "{ per_client: { sessions: 5 } }"),
            ("{ sessions: 5, per_client: { sessions: 6 } }", "{}"),
            ("{ sessions: 101 }", "{ sessions: 100 }"),
            ("{}", "{ sessions: 5000 }"),
        ] {
            assert_eq!(with(rule, gate), [], "{rule} {gate}");
        }
    }

    #[test]
    fn anybody_to_anywhere_is_doubted_where_clients_choose() {
        let explicit = MINIMAL.replace("server: \"10.0.2.2:21\"", "explicit: user-at-host");
        let passive = explicit.replace(", outbound: \"20000-20099\"", "");
        for open in [
            explicit.clone(),
            passive.clone(),
            passive.replace("from: any", "from: 0.0.0.0/0"),
            passive.replace("to: any", "to: [10.0.2.2, \"::/0\"]"),
        ] {
            let found = doubts(&open);
            assert!(
                matches!(&found[..], [(0, "from", what)] if what.starts_with("an open proxy: ")),
                "{open} {found:?}"
            );
        }
        for closed in
            [("from: any", "from: 10.0.0.0/8"), ("to: any", "to: 10.0.0.0/8"), ("to: any", "to: any, users: x")]
        {
            assert_eq!(doubts(&explicit.replace(closed.0, closed.1)), [], "{closed:?}");
        }
        let transparent = MINIMAL.replace("server: \"10.0.2.2:21\"", "transparent: tproxy");
        assert!(doubts(&transparent)[0].2.contains("in both modes"));
        assert!(doubts(&transparent.replace(", outbound: \"20000-20099\"", "")).is_empty());
    }

    #[test]
    fn a_rule_whose_clients_are_all_health_checks_is_doubted() {
        let with = |from: &str, checks: &str, rest: &str| {
            let text = MINIMAL.replace("from: any", &format!("from: {from}"));
            doubts(&text.replace(
                "server: \"10.0.2.2:21\"",
                &format!("server: \"10.0.2.2:21\", health_checks_from: {checks}{rest}"),
            ))
        };
        for (from, checks, rest, doubted) in [
            ("any", "[0.0.0.0/1, 128.0.0.0/1]", "", true),
            ("10.0.0.0/8", "10.0.0.0/8", "", true),
            ("10.1.0.0/16", "[192.0.2.1, 10.0.0.0/9, 10.128.0.0/9]", "", true),
            ("[10.1.0.0/16, \"2001:db8::/32\"]", "10.0.0.0/8", "", true),
            ("[10.1.0.0/16, 192.0.2.7]", "10.0.0.0/8", "", false),
            ("any", "10.0.0.0/8", "", false),
            ("\"2001:db8::/32\"", "10.0.0.0/8", "", false),
            ("10.0.0.0/8", "10.0.0.0/8", ", proxy_from: 10.0.0.5", false),
        ] {
            let found = with(from, checks, rest);
            let is_doubted =
                found.iter().any(|(_, key, what)| *key == "from" && what.contains("no client of this rule"));
            assert_eq!(is_doubted, doubted, "{from} {checks} {rest}: {found:?}");
        }
    }

    #[test]
    fn data_peers_that_data_never_goes_to_are_doubted() {
        let with =
            |peers: &str| doubts(&MINIMAL.replace("action: allow", &format!("action: allow, data_peers: {peers}")));
        for peers in ["{ client: 127.0.3.0/28 }", "{ server: [10.0.2.16/29, \"::1\"] }", "{ server: 169.254.1.0/24 }"] {
            let found = with(peers);
            assert!(matches!(found.as_slice(), [(0, "data_peers", _)]), "{peers}: {found:?}");
        }
        assert_eq!(with("{ client: 198.51.100.0/24, server: \"2001:db8::/64\" }"), []);
    }

    #[test]
    fn networks_cover_their_parts() {
        let ip: IpAddr = "10.0.0.1".parse().unwrap();
        assert!(Network::Any.covers(&Network::Net(ip.into())));
        assert!(!Network::Net(ip.into()).covers(&Network::Any));
    }
}
