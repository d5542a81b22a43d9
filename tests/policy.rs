//! The compiled rules against the plain way to ask them: one after the other.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::Arc;

use ftpgate::addr::{ClientAddr, Network, ServerAddr};
use ftpgate::policy::{
    Asker, Decision, Denied, Destination, GateLimits, Globs, Hours, Permission, Policy, Rule, RuleLimits,
    SessionLimits, Span, Timeouts,
};
use jiff::civil::time;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

/// Few networks, so that rules meet: within each other, beside each other, of both families.
const NETWORKS: [&str; 13] = [
    "0.0.0.0/0",
    "10.0.0.0/8",
    "10.0.0.0/9",
    "10.0.0.0/31",
    "10.0.0.0/32",
    "10.0.0.1/32",
    "10.128.0.0/9",
    "192.0.2.0/24",
    "::/0",
    "2001:db8::/32",
    "2001:db8::/128",
    "2001:db8::1/128",
    "::ffff:0:0/96",
];
const ADDRESSES: [&str; 10] = [
    "10.0.0.0",
    "10.0.0.1",
    "10.0.0.2",
    "10.200.0.1",
    "192.0.2.255",
    "203.0.113.1",
    "2001:db8::",
    "2001:db8::1",
    "2001:db9::",
    "::ffff:10.0.0.1",
];
const LISTENERS: [&str; 3] = ["public", "lan", "third"];
const PATTERNS: [&str; 8] = ["anna", "BOB", "edi-1", "a*", "*", "edi-?", "{bob,eve}", "e[dv]*"];
const NAMES: [&str; 7] = ["anna", "Anna", "bob", "eve", "edi-1", "edi-", ""];
const SPANS: [(u8, i8, i8); 5] =
    [(0b111_1111, 8, 18), (0b001_1111, 22, 6), (0b000_0001, 0, 0), (0b100_0000, 0, 12), (2, 18, 8)];
/// A Sunday, before the clocks of Berlin go forward.
const SUNDAY: &str = "2026-03-29T00:00:00Z";

fn network() -> impl Strategy<Value = Network> {
    prop_oneof![1 => Just(Network::Any), 4 => select(&NETWORKS).prop_map(|net| Network::Net(net.parse().unwrap()))]
}

fn destination() -> impl Strategy<Value = Destination> {
    let port = prop_oneof![3 => Just(None), 1 => Just(Some(21)), 1 => Just(Some(2121))];
    (network(), port).prop_map(|(network, port)| Destination { network, port })
}

/// Short lists mostly; a rule with long ones on both sides is compiled in another way.
fn lists() -> impl Strategy<Value = (Vec<Network>, Vec<Destination>)> {
    let short = (prop::collection::vec(network(), 1..3), prop::collection::vec(destination(), 1..3));
    let one_long = (prop::collection::vec(network(), 1..3), prop::collection::vec(destination(), 12..40));
    let both_long = (prop::collection::vec(network(), 60), prop::collection::vec(destination(), 100));
    prop_oneof![6 => short, 1 => one_long, 1 => both_long].prop_map(|(mut from, mut to)| {
        // But for one or two, so that not everybody is in.
        if to.len() == 100 {
            let (gone, gone_too) = (from[1], to[1].network);
            from.retain(|network| *network != gone && *network != Network::Any);
            to.retain(|destination| destination.network != gone_too && destination.network != Network::Any);
        }
        (once(from), once(to))
    })
}

/// Each once: easier to read where a case fails.
fn once<T: PartialEq>(list: Vec<T>) -> Vec<T> {
    list.into_iter().fold(Vec::new(), |mut once, one| {
        if !once.contains(&one) {
            once.push(one);
        }
        once
    })
}

fn owned(list: Vec<&str>) -> Vec<String> {
    list.into_iter().map(str::to_owned).collect()
}

fn hours() -> impl Strategy<Value = Option<Hours>> {
    let span = (select(&SPANS), select(&["Europe/Berlin", "UTC", "Asia/Kathmandu"])).prop_map(
        |((days, from, until), zone)| Span {
            days: std::array::from_fn(|day| days & 1 << day != 0),
            from: time(from, 0, 0, 0),
            until: time(until, 0, 0, 0),
            zone: TimeZone::get(zone).unwrap(),
            // Spans that differ may be written alike: here all are.
            written: String::new(),
        },
    );
    prop::option::weighted(0.3, prop::collection::vec(span, 1..3).prop_map(Hours))
}

fn limits() -> impl Strategy<Value = SessionLimits> {
    let some = || prop::option::weighted(0.3, (1..5_u32).prop_map(|limit| NonZeroU32::new(limit).unwrap()));
    (some(), some()).prop_map(|(commands_per_second, failed_logins)| SessionLimits {
        commands_per_second,
        failed_logins,
        ..SessionLimits::default()
    })
}

fn rule() -> impl Strategy<Value = Rule> {
    let listeners = prop_oneof![3 => Just(Vec::new()), 1 => subsequence(&LISTENERS, 1..3)];
    let users = prop::option::weighted(0.5, subsequence(&PATTERNS, 1..4));
    let who = (lists(), listeners, users, hours());
    (who, any::<bool>(), limits()).prop_map(|(((from, to), listeners, users, hours), allow, limits)| Rule {
        from,
        to,
        listeners: owned(listeners),
        users: users.map(|users| Globs::for_names(owned(users)).unwrap()),
        hours,
        limits: if allow { RuleLimits { session: limits, ..RuleLimits::default() } } else { RuleLimits::default() },
        ..Rule::new("", if allow { Permission::Allow } else { Permission::Deny })
    })
}

fn policy() -> impl Strategy<Value = Policy> {
    prop::collection::vec(rule(), 0..12).prop_map(|rules| {
        let named = (0..).zip(rules).map(|(place, rule)| Arc::new(Rule { name: format!("{place}"), ..rule }));
        let rules: Vec<_> = named.collect();
        Policy {
            listeners: Vec::new(),
            rules: rules.into(),
            timeouts: Timeouts::default(),
            limits: GateLimits::default(),
        }
    })
}

fn ip() -> impl Strategy<Value = IpAddr> {
    select(&ADDRESSES).prop_map(|ip| ip.parse().unwrap())
}

#[derive(Clone, Debug)]
struct Who {
    listener: &'static str,
    is_explicit: bool,
    client: ClientAddr,
    server: ServerAddr,
    at: Timestamp,
}

impl Who {
    fn asker(&self) -> Asker<'_> {
        Asker {
            listener: self.listener,
            is_explicit: self.is_explicit,
            client: self.client,
            server: self.server,
            at: self.at,
        }
    }
}

fn who() -> impl Strategy<Value = Who> {
    // Half hours around which spans begin, end, and clocks change.
    let at = (0..7 * 48_i64).prop_map(|halves| SUNDAY.parse::<Timestamp>().unwrap() + (30 * halves).minutes());
    (select(&["public", "lan", "unknown"]), any::<bool>(), ip(), ip(), select(&[21, 2121, 2200]), at).prop_map(
        |(listener, is_explicit, client, server, port, at)| Who {
            listener,
            is_explicit,
            client: ClientAddr::new(SocketAddr::new(client, 50_000)),
            server: ServerAddr::new(SocketAddr::new(server, port)),
            at,
        },
    )
}

/// What a session may be, by the names of rules: at once, or for each of some users; and what it may have before.
#[derive(Debug, PartialEq, Eq)]
enum Said {
    AtOnce(Result<String, Option<String>>),
    AtLogin(Vec<Result<String, Option<String>>>, SessionLimits),
}

fn denied(by: &Denied) -> Option<String> {
    match by {
        Denied::ByRule(rule) => Some(rule.name.clone()),
        Denied::NoRule => None,
    }
}

fn said(decision: &Decision) -> Said {
    match decision {
        Decision::Allow(rule) => Said::AtOnce(Ok(rule.name.clone())),
        Decision::Deny(by) => Said::AtOnce(Err(denied(by))),
        Decision::AtLogin(candidates) => Said::AtLogin(
            NAMES
                .iter()
                .map(|name| candidates.choose(name.as_bytes()))
                .map(|chosen| chosen.map(|rule| rule.name.clone()).map_err(|by| denied(&by)))
                .collect(),
            *candidates.limits(),
        ),
    }
}

/// The rules as they were written, asked one after the other.
fn walked(policy: &Policy, asker: &Asker<'_>) -> Said {
    let mut candidates: Vec<&Rule> = Vec::new();
    for rule in policy.rules.iter().filter(|rule| rule.matches(asker)) {
        candidates.push(rule);
        if rule.users.is_none() {
            break;
        }
    }
    let verdict = |rule: Option<&&Rule>| match rule {
        Some(rule) if rule.permission == Permission::Allow => Ok(rule.name.clone()),
        rule => Err(rule.map(|rule| rule.name.clone())),
    };
    let nobody_gets_in = candidates.iter().all(|rule| rule.permission == Permission::Deny);
    if nobody_gets_in || candidates[0].users.is_none() {
        return Said::AtOnce(verdict(candidates.last().filter(|rule| rule.users.is_none())));
    }
    let of_user = |name: &&str| verdict(candidates.iter().find(|rule| rule.is_for_user(name.as_bytes())));
    let allowing = candidates.iter().filter(|rule| rule.permission == Permission::Allow);
    let limits = allowing.fold(SessionLimits::default(), |least, rule| least.and(rule.limits.session));
    Said::AtLogin(NAMES.iter().map(of_user).collect(), limits)
}

/// Whether any rule lets the client in before one that denies everything.
fn admitted(policy: &Policy, who: &Who) -> bool {
    let rules = policy.rules.iter().filter(|rule| rule.is_from(who.listener, who.client) && rule.holds(who.at));
    let everywhere = Destination { network: Network::Any, port: None };
    let denies_all = |rule: &&Arc<Rule>| {
        rule.permission == Permission::Deny && rule.users.is_none() && rule.to.contains(&everywhere)
    };
    rules.take_while(|rule| !denies_all(rule)).any(|rule| rule.permission == Permission::Allow)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

    #[test]
    fn compiled_rules_decide_as_written_ones(policy in policy(), askers in prop::collection::vec(who(), 1..20)) {
        for who in &askers {
            prop_assert_eq!(said(&policy.decide(&who.asker())), walked(&policy, &who.asker()), "{:?}", who);
            prop_assert_eq!(policy.may_admit(who.listener, who.client, who.at), admitted(&policy, who), "{:?}", who);
        }
    }

    #[test]
    fn between_two_changes_nothing_changes(policy in policy(), who in who(), later in 0..48_i64) {
        let at = who.at + (30 * later).minutes();
        if policy.next_change(who.at).is_none_or(|change| at < change) {
            prop_assert_eq!(said(&policy.decide(&who.asker())), walked(&policy, &Asker { at, ..who.asker() }));
        }
        let each = policy.rules.iter().filter_map(|rule| rule.hours.as_ref()?.next_change(who.at));
        prop_assert_eq!(policy.next_change(who.at), each.min());
    }

    /// Names without a special character are not given to the pattern matcher; with one that changes nothing they are.
    #[test]
    fn plain_names_match_as_patterns_do(
        written in "[a-cA-C\u{e9}\u{c9}/.,!-]{1,3}", name in prop::collection::vec(select(b"abcABC\xc3\xa9\x89/.,!-"), 0..4),
    ) {
        for name in [name.as_slice(), written.as_bytes(), written.to_uppercase().as_bytes()] {
            for build in [Globs::for_names, Globs::for_paths] {
                let plain = build(vec![written.clone()]).unwrap();
                let pattern = build(vec![format!("{{{written}}}").replace(',', "\\,")]).unwrap();
                prop_assert_eq!(plain.matches(name), pattern.matches(name), "{:?}", name);
            }
        }
    }
}

/// A thousand networks towards a thousand servers are no million of entries.
#[test]
fn long_lists_on_both_sides_are_no_trouble() {
    let from = (0..1_000).map(|n| Network::Net(format!("10.0.{}.{}/32", n / 250, n % 250).parse().unwrap()));
    let to = (0..1_000).map(|n| Network::Net(format!("10.1.{}.{}/32", n / 250, n % 250).parse().unwrap()));
    let lists = Rule {
        from: from.collect(),
        to: to.map(|network| Destination { network, port: Some(21) }).collect(),
        ..Rule::new("", Permission::Allow)
    };
    let rules: Vec<_> = (0..200).map(|n| Arc::new(Rule { name: format!("{n}"), ..lists.clone() })).collect();
    let policy = Policy {
        listeners: Vec::new(),
        rules: rules.into(),
        timeouts: Timeouts::default(),
        limits: GateLimits::default(),
    };
    for (client, server, allowed) in
        [("10.0.3.1", "10.1.0.7", true), ("10.0.3.1", "10.0.0.7", false), ("10.1.0.1", "10.1.0.7", false)]
    {
        let who = Who {
            is_explicit: false,
            listener: "public",
            client: ClientAddr::new(SocketAddr::new(client.parse().unwrap(), 1)),
            server: ServerAddr::new(SocketAddr::new(server.parse().unwrap(), 21)),
            at: Timestamp::UNIX_EPOCH,
        };
        let expected = if allowed { Ok("0".to_owned()) } else { Err(None) };
        assert_eq!(said(&policy.decide(&who.asker())), Said::AtOnce(expected), "{client} to {server}");
    }
}
