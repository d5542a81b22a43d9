//! What differs between two policies, in words.

use std::collections::HashMap;
use std::sync::Arc;

use crate::addr::ServerAddr;
use crate::policy::{GateLimits, Interception, Listener, Policy, Rule, Source, Stand, Timeouts};

/// More changes than this are counted and not named: nobody reads them in one line of a log.
const MOST: usize = 100;

/// One phrase for each listener and rule that came, went or changed, with the keys that did.
pub(super) fn between(old: &Policy, new: &Policy) -> Vec<String> {
    let mut changes = Changes::default();
    named("listener", listeners(old), listeners(new), listener_keys, &mut changes);
    named("rule", rules(old), rules(new), rule_keys, &mut changes);
    if order(old, new) != order(new, old) {
        changes.add(|| "the order of the rules changed".to_owned());
    }
    let timeouts = timeout_keys(&old.timeouts, &new.timeouts);
    if !timeouts.is_empty() {
        changes.add(|| format!("timeouts changed: {}", timeouts.join(", ")));
    }
    let limits = limit_keys(&old.limits, &new.limits);
    if !limits.is_empty() {
        changes.add(|| format!("limits changed: {}", limits.join(", ")));
    }
    changes.into_phrases()
}

#[derive(Default)]
struct Changes {
    phrases: Vec<String>,
    more: usize,
}

impl Changes {
    fn add(&mut self, phrase: impl FnOnce() -> String) {
        if self.phrases.len() < MOST { self.phrases.push(phrase()) } else { self.more += 1 }
    }

    fn into_phrases(mut self) -> Vec<String> {
        if self.more > 0 {
            self.phrases.push(format!("and {} more", self.more));
        }
        self.phrases
    }
}

fn listeners(policy: &Policy) -> Vec<(&str, &Listener)> {
    policy.listeners.iter().map(|listener| (listener.name.as_str(), listener)).collect()
}

fn rules(policy: &Policy) -> Vec<(&str, &Rule)> {
    policy.rules.iter().map(|rule| (rule.name.as_str(), &**rule)).collect()
}

/// The rules of one that the other has too.
fn order<'a>(policy: &'a Policy, other: &Policy) -> Vec<&'a str> {
    let others: HashMap<&str, &Rule> = rules(other).into_iter().collect();
    policy.rules.iter().map(|rule: &Arc<Rule>| rule.name.as_str()).filter(|name| others.contains_key(name)).collect()
}

fn named<T>(
    kind: &str,
    old: Vec<(&str, &T)>,
    new: Vec<(&str, &T)>,
    keys: impl Fn(&T, &T) -> Vec<&'static str>,
    changes: &mut Changes,
) {
    let mut gone: HashMap<&str, &T> = old.iter().copied().collect();
    for (name, item) in new {
        match gone.remove(name) {
            None => changes.add(|| format!("{kind} {name} added")),
            Some(before) => {
                let keys = keys(before, item);
                if !keys.is_empty() {
                    changes.add(|| format!("{kind} {name} changed: {}", keys.join(", ")));
                }
            }
        }
    }
    for (name, _) in old.into_iter().filter(|(name, _)| gone.contains_key(name)) {
        changes.add(|| format!("{kind} {name} removed"));
    }
}

/// Those whose values differ.
fn differing<const N: usize>(keys: [(&'static str, bool); N]) -> Vec<&'static str> {
    keys.into_iter().filter_map(|(key, same)| (!same).then_some(key)).collect()
}

fn rule_keys(old: &Rule, new: &Rule) -> Vec<&'static str> {
    // Whole, so that no key of tomorrow is forgotten here.
    let Rule {
        name: _,
        listeners,
        from,
        to,
        users,
        hours,
        permission,
        commands,
        paths,
        inbound,
        outbound,
        server_mode,
        datapath,
        pinhole_timeout,
        at_session_end,
        foreign_address,
        data_peers,
        send_proxy,
        limits,
    } = new;
    differing([
        ("listener", old.listeners == *listeners),
        ("from", old.from == *from),
        ("to", old.to == *to),
        ("users", old.users == *users),
        ("hours", old.hours == *hours),
        ("action", old.permission == *permission),
        ("commands", old.commands.list == commands.list),
        ("read_only", old.commands.read_only == commands.read_only),
        ("paths", old.paths == *paths),
        ("inbound", old.inbound == *inbound),
        ("outbound", old.outbound == *outbound),
        ("server_mode", old.server_mode == *server_mode),
        ("datapath", old.datapath == *datapath),
        ("pinhole_timeout", old.pinhole_timeout == *pinhole_timeout),
        ("at_session_end", old.at_session_end == *at_session_end),
        ("foreign_address", old.foreign_address == *foreign_address),
        ("data_peers", old.data_peers == *data_peers),
        ("send_proxy", old.send_proxy == *send_proxy),
        ("limits", old.limits == *limits),
    ])
}

fn listener_keys(old: &Listener, new: &Listener) -> Vec<&'static str> {
    let Listener { name: _, bind, stand, advertise, proxies, health_checks } = new;
    differing([
        ("bind", old.bind == *bind),
        ("server", server(old.stand) == server(*stand)),
        ("explicit", (old.stand == Stand::Explicit) == (*stand == Stand::Explicit)),
        ("transparent", transparent(old.stand).map(|it| it.0) == transparent(*stand).map(|it| it.0)),
        // Without `transparent` there is none.
        ("source", source(old.stand) == source(*stand)),
        ("advertise", old.advertise == *advertise),
        ("proxy_from", old.proxies == *proxies),
        ("health_checks_from", old.health_checks == *health_checks),
    ])
}

/// The values of the keys that say how a listener stands.
const fn server(stand: Stand) -> Option<ServerAddr> {
    if let Stand::Reverse { server } = stand { Some(server) } else { None }
}

const fn transparent(stand: Stand) -> Option<(Interception, Source)> {
    if let Stand::Transparent { interception, source } = stand { Some((interception, source)) } else { None }
}

fn source(stand: Stand) -> Source {
    transparent(stand).map_or(Source::Gate, |(_, source)| source)
}

fn timeout_keys(old: &Timeouts, new: &Timeouts) -> Vec<&'static str> {
    let Timeouts { connect, greeting, drain } = new;
    differing([
        ("connect", old.connect == *connect),
        ("greeting", old.greeting == *greeting),
        ("drain", old.drain == *drain),
    ])
}

fn limit_keys(old: &GateLimits, new: &GateLimits) -> Vec<&'static str> {
    // A default may come out otherwise because of other listeners, which are told already.
    let (old, new) = (old.as_written(), new.as_written());
    let GateLimits { all, client, unwritten, failed_logins, pause } = &new;
    differing([
        ("gate", old.all == *all && old.unwritten.all == unwritten.all),
        ("client", old.client == *client && old.unwritten.client == unwritten.client),
        ("failed_logins", old.failed_logins == *failed_logins),
        ("pause", old.pause == *pause),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::parse;

    const START: &str =
        "version: 1\nlisteners:\n  - {name: front, bind: \"127.0.0.1:21\", server: \"127.0.0.1:2121\"}\nrules:\n";

    fn policy(rules: &str) -> Policy {
        parse(&format!("{START}{rules}"), "test").unwrap()
    }

    fn rule(name: impl std::fmt::Display, more: &str) -> String {
        format!("  - {{name: {name}, from: any, to: any, action: allow, inbound: 10001{more}}}\n")
    }

    #[test]
    fn each_rule_is_named_with_its_keys() {
        let old = policy(&[rule("a", ""), rule("b", ""), rule("c", ""), rule("d", "")].concat());
        let new = policy(
            &[
                rule("d", ", read_only: true"),
                rule("a", ", users: x, paths: [{path: /x, allow: any}]"),
                rule("e", ""),
                rule("c", ""),
            ]
            .concat(),
        );
        let changes = [
            "rule d changed: read_only",
            "rule a changed: users, paths",
            "rule e added",
            "rule b removed",
            "the order of the rules changed",
        ];
        assert_eq!(between(&old, &new), changes);
        assert_eq!(between(&old, &old), [""; 0]);
    }

    #[test]
    fn listeners_and_timeouts_are_named_too() {
        let old = policy(&rule("a", ""));
        let text = format!("{START}{}timeouts: {{drain: 5s}}\n", rule("a", ""));
        let new = text.replace("front", "back").replace("127.0.0.1:2121", "127.0.0.1:2122");
        let changes = ["listener back added", "listener front removed", "timeouts changed: drain"];
        assert_eq!(between(&old, &parse(&new, "test").unwrap()), changes);
        let moved = START.replace("127.0.0.1:2121", "127.0.0.1:2122");
        let moved = parse(&format!("{moved}{}", rule("a", "")), "test").unwrap();
        assert_eq!(between(&old, &moved), ["listener front changed: server"]);
    }

    #[test]
    fn each_key_of_how_a_listener_stands_is_named() {
        let reverse = "server: \"127.0.0.1:2121\"";
        let with = |stand: &str| parse(&format!("{}{}", START.replace(reverse, stand), rule("a", "")), "test").unwrap();
        for (old, new, keys) in [
            (reverse, "server: \"127.0.0.1:2122\"", "server"),
            (reverse, "explicit: user-at-host", "server, explicit"),
            ("explicit: user-at-host", "transparent: tproxy", "explicit, transparent"),
            ("transparent: tproxy", "transparent: redirect", "transparent"),
            ("transparent: tproxy", "transparent: tproxy, source: client", "source"),
            (reverse, "transparent: tproxy, source: client", "server, transparent, source"),
        ] {
            let expected = format!("listener front changed: {keys}");
            assert_eq!(between(&with(old), &with(new)), [expected], "{old} {new}");
        }
    }

    #[test]
    fn many_changes_are_counted() {
        let rules = |more: &str| policy(&(0..5_000).map(|n| rule(format_args!("r{n}"), more)).collect::<String>());
        let changes = between(&rules(""), &rules(", datapath: relay"));
        assert_eq!((changes.len(), changes[MOST].as_str()), (MOST + 1, "and 4900 more"));
    }
}
