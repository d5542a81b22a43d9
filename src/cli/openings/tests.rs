//! What is derived, from rules as operators write them, each line in short.

use jiff::Timestamp;
use proptest::prelude::*;

use super::derive::{Told, derive};
use super::opening::{End, Opening, Purpose};
use super::words;
use crate::addr::{ClientAddr, ServerAddr, Side};
use crate::policy::{Asker, Decision, Policy};

const REVERSE: &str = "{ name: front, bind: '192.0.2.1:21', server: '10.0.2.2:2100' }";

/// The lines of a rules file with these listeners and rules, in flow style, and the notes.
fn derived_with(listeners: &str, rules: &str, told: &Told) -> (Vec<String>, Vec<String>) {
    let openings = derive(&policy(listeners, rules), told);
    (openings.lines.iter().map(short).collect(), openings.notes)
}

fn policy(listeners: &str, rules: &str) -> Policy {
    let list = |items: &str| items.lines().map(|item| format!("  - {}\n", item.trim())).collect::<String>();
    let yaml = format!("version: 1\nlisteners:\n{}rules:\n{}", list(listeners), list(rules));
    crate::rules::parse(&yaml, "test").unwrap_or_else(|mistakes| panic!("{mistakes}"))
}

fn told() -> Told {
    let ips = |list: &[&str]| list.iter().map(|ip| ip.parse().unwrap()).collect();
    Told {
        client_side: ips(&["192.0.2.9"]),
        server_side: ips(&["10.0.2.1", "2001:db8:2::1"]),
        name_servers: ips(&["10.0.2.53"]),
    }
}

#[track_caller]
fn assert_derived(listeners: &str, rules: &str, expected: &[&str]) {
    let (lines, notes) = derived_with(listeners, rules, &told());
    assert_eq!(lines, expected, "{notes:?}");
}

fn short(line: &Opening) -> String {
    let end = |end| words::list(words::addresses(end));
    let ports = |ports: &Option<_>| ports.as_ref().map(|ports| format!(":{ports}")).unwrap_or_default();
    format!(
        "{} {}{} > {}{} {} ({})",
        line.side,
        end(&line.from),
        ports(&line.from.ports),
        end(&line.to),
        ports(&line.to.ports),
        words::purpose(line.purpose),
        line.rules.join(", ")
    )
}

#[test]
fn each_mode_has_a_line_on_each_side() {
    assert_derived(
        REVERSE,
        "{ name: a, from: 198.51.100.0/24, to: any, action: allow, inbound: { gate_ports: '10001-10005', \
         server_ports: [30000-30999, 31500] }, outbound: { gate_ports: '40000-40099', client_ports: 5000-6000, \
         source_port: 20 } }",
        &[
            "client 198.51.100.0/24 > 192.0.2.1:21 control (a)",
            "client 198.51.100.0/24 > 192.0.2.1:10001-10005 passive data (a)",
            "client 192.0.2.1:20 > 198.51.100.0/24:5000-6000 active data (a)",
            "server 10.0.2.1 > 10.0.2.2:2100 control (a)",
            "server 10.0.2.1 > 10.0.2.2:30000-30999, 31500 passive data (a)",
            "server 10.0.2.2 > 10.0.2.1:40000-40099 active data (a)",
        ],
    );
}

#[test]
fn a_mode_that_is_refused_opens_nothing() {
    assert_derived(
        REVERSE,
        "{ name: a, from: any, to: any, action: allow, inbound: '10001' }",
        &[
            "client any IPv4 > 192.0.2.1:21 control (a)",
            "client any IPv4 > 192.0.2.1:10001 passive data (a)",
            "server 10.0.2.1 > 10.0.2.2:2100 control (a)",
            "server 10.0.2.1 > 10.0.2.2:1024-65535 passive data (a)",
        ],
    );
    let both = "from: any, to: any, action: allow, inbound: '10001', outbound: '40000'";
    let only_active = format!("{{ name: a, {both}, commands: {{ deny: [PASV, EPSV] }} }}");
    let (lines, _) = derived_with(REVERSE, &only_active, &told());
    assert!(lines.len() == 4 && !lines.concat().contains("passive"), "{lines:?}");
}

#[test]
fn a_bridge_opens_each_leg_in_its_own_mode() {
    assert_derived(
        REVERSE,
        "{ name: a, from: any, to: any, action: allow, inbound: '10001', outbound: '40000', server_mode: active }",
        &[
            "client any IPv4 > 192.0.2.1:21 control (a)",
            "client any IPv4 > 192.0.2.1:10001 passive data (a)",
            "client 192.0.2.1 > any IPv4:1024-65535 active data (a)",
            "server 10.0.2.1 > 10.0.2.2:2100 control (a)",
            "server 10.0.2.2 > 10.0.2.1:40000 active data (a)",
        ],
    );
    // No `inbound`, and the server is asked for a port all the same.
    for outbound in ["'40000'", "{}"] {
        assert_derived(
            REVERSE,
            &format!("{{ name: a, from: any, to: any, action: allow, outbound: {outbound}, server_mode: passive }}"),
            &[
                "client any IPv4 > 192.0.2.1:21 control (a)",
                "client 192.0.2.1 > any IPv4:1024-65535 active data (a)",
                "server 10.0.2.1 > 10.0.2.2:2100 control (a)",
                "server 10.0.2.1 > 10.0.2.2:1024-65535 passive data (a)",
            ],
        );
    }
}

#[test]
fn balancers_bring_clients() {
    assert_derived(
        "{ name: front, bind: '192.0.2.1:21', server: '10.0.2.2', advertise: 203.0.113.5, proxy_from: [10.0.0.5] }",
        "{ name: a, from: 198.51.100.0/24, to: any, action: allow, inbound: '10001', outbound: '40000' }",
        &[
            "client 10.0.0.5 > 192.0.2.1:21 control (a)",
            "client 10.0.0.5 > 192.0.2.1:10001 passive data (a)",
            "client 198.51.100.0/24 > 203.0.113.5 (NAT), 192.0.2.1:21 control (a)",
            "client 198.51.100.0/24 > 203.0.113.5 (NAT), 192.0.2.1:10001 passive data (a)",
            "client 203.0.113.5 (NAT), 192.0.2.1 > 198.51.100.0/24:1024-65535 active data (a)",
            "server 10.0.2.1 > 10.0.2.2:21 control (a)",
            "server 10.0.2.1 > 10.0.2.2:1024-65535 passive data (a)",
            "server 10.0.2.2 > 10.0.2.1:40000 active data (a)",
        ],
    );
}

#[test]
fn health_checks_come_whatever_the_rules_say() {
    assert_derived(
        "{ name: front, bind: '192.0.2.1:21', server: '10.0.2.2', health_checks_from: [10.0.0.8/31, '2001:db8::1'] }",
        "{ name: a, from: 198.51.100.0/24, to: any, action: allow, inbound: '10001' }",
        &[
            "client 198.51.100.0/24 > 192.0.2.1:21 control (a)",
            "client 198.51.100.0/24 > 192.0.2.1:10001 passive data (a)",
            "client 10.0.0.8/31 > 192.0.2.1:21 control ()",
            "server 10.0.2.1 > 10.0.2.2:21 control (a)",
            "server 10.0.2.1 > 10.0.2.2:1024-65535 passive data (a)",
        ],
    );
}

#[test]
fn data_may_come_from_other_addresses_of_the_peers() {
    assert_derived(
        REVERSE,
        "{ name: a, from: 198.51.100.0/25, to: any, action: allow, inbound: '10001', outbound: '40000', \
         data_peers: { client: [198.51.100.128/25, '2001:db8::/64'], server: 10.0.2.16/29 } }",
        &[
            "client 198.51.100.0/25 > 192.0.2.1:21 control (a)",
            "client 198.51.100.0/24 > 192.0.2.1:10001 passive data (a)",
            "client 192.0.2.1 > 198.51.100.0/24:1024-65535 active data (a)",
            "server 10.0.2.1 > 10.0.2.2:2100 control (a)",
            "server 10.0.2.1 > 10.0.2.2, 10.0.2.16/29:1024-65535 passive data (a)",
            "server 10.0.2.2, 10.0.2.16/29 > 10.0.2.1:40000 active data (a)",
        ],
    );
}

#[test]
fn what_several_rules_want_is_one_line() {
    let rules =
        "{ name: bridged, from: 198.51.100.0/25, to: any, action: allow, outbound: '40000', server_mode: passive }
         { name: plain, from: 198.51.100.0/24, to: any, action: allow, inbound: '10001' }";
    assert_derived(
        REVERSE,
        rules,
        &[
            "client 198.51.100.0/24 > 192.0.2.1:21 control (bridged, plain)",
            "client 192.0.2.1 > 198.51.100.0/25:1024-65535 active data (bridged)",
            "client 198.51.100.128/25 > 192.0.2.1:10001 passive data (plain)",
            "server 10.0.2.1 > 10.0.2.2:2100 control (bridged, plain)",
            "server 10.0.2.1 > 10.0.2.2:1024-65535 passive data (bridged, plain)",
        ],
    );
}

#[test]
fn what_rules_before_it_decide_is_not_opened() {
    assert_derived(
        REVERSE,
        "{ name: no, from: [198.51.100.128/25, 192.0.2.7], to: any, action: deny }
         { name: elsewhere, from: any, to: 10.9.9.9, action: deny }
         { name: other-port, from: any, to: '10.0.2.2:21', action: deny }
         { name: some-user, from: any, to: any, action: deny, users: root }
         { name: a, from: [198.51.100.0/24, 192.0.2.7], to: any, action: allow, inbound: '10001' }
         { name: again, from: 198.51.100.0/25, to: any, action: allow, inbound: any }",
        &[
            "client 198.51.100.0/25 > 192.0.2.1:21 control (a)",
            "client 198.51.100.0/25 > 192.0.2.1:10001 passive data (a)",
            "server 10.0.2.1 > 10.0.2.2:2100 control (a)",
            "server 10.0.2.1 > 10.0.2.2:1024-65535 passive data (a)",
        ],
    );
    let (_, notes) = derived_with(
        REVERSE,
        "{ name: a, from: any, to: any, action: allow, inbound: '10001' }
         { name: again, from: any, to: any, action: allow, inbound: any }",
        &told(),
    );
    assert!(notes.len() == 1 && notes[0].starts_with("Rule again opens nothing"), "{notes:?}");
}

#[test]
fn rules_for_users_leave_the_others_to_those_behind_them() {
    let (lines, _) = derived_with(
        REVERSE,
        "{ name: anna, from: any, to: any, action: allow, users: anna, inbound: '10001' }
         { name: rest, from: any, to: any, action: allow, inbound: '10002' }",
        &told(),
    );
    assert_eq!(
        lines,
        [
            "client any IPv4 > 192.0.2.1:21 control (anna, rest)",
            "client any IPv4 > 192.0.2.1:10001 passive data (anna)",
            "client any IPv4 > 192.0.2.1:10002 passive data (rest)",
            "server 10.0.2.1 > 10.0.2.2:2100 control (anna, rest)",
            "server 10.0.2.1 > 10.0.2.2:1024-65535 passive data (anna, rest)",
        ]
    );
}

#[test]
fn a_transparent_gate_is_not_seen() {
    let rule = "{ name: a, from: 10.1.0.0/16, to: ['10.2.0.0/16', '10.3.0.1:2100', '2001:db8::/32'], action: allow, \
                inbound: '10001', outbound: { gate_ports: '40000', source_port: 20 } }";
    let client_side = [
        "client 10.1.0.0/16 > 10.2.0.0/16:21 control (a)",
        "client 10.1.0.0/16 > 10.2.0.0/16, 10.3.0.1:10001 passive data (a)",
        "client 10.2.0.0/16, 10.3.0.1:20 > 10.1.0.0/16:1024-65535 active data (a)",
        "client 10.1.0.0/16 > 10.3.0.1:2100 control (a)",
    ];
    let gate = [
        "server 10.0.2.1 > 10.2.0.0/16:21 control (a)",
        "server 10.0.2.1 > 10.2.0.0/16, 10.3.0.1:1024-65535 passive data (a)",
        "server 10.2.0.0/16, 10.3.0.1 > 10.0.2.1:40000 active data (a)",
        "server 10.0.2.1 > 10.3.0.1:2100 control (a)",
    ];
    for by in ["tproxy", "redirect"] {
        let listener = format!("{{ name: lan, bind: '0.0.0.0:2121', transparent: {by} }}");
        assert_derived(&listener, rule, &[client_side, gate].concat());
    }
    let client = gate.map(|line| line.replace("10.0.2.1", "10.1.0.0/16"));
    let client = client.each_ref().map(String::as_str);
    let listener = "{ name: lan, bind: '0.0.0.0:2121', transparent: tproxy, source: client }";
    assert_derived(listener, rule, &[client_side, client].concat());
}

#[test]
fn pairs_of_clients_and_servers_stay_pairs() {
    assert_derived(
        "{ name: lan, bind: '0.0.0.0:2121', transparent: tproxy, source: client }",
        "{ name: no, from: 10.1.1.0/24, to: 10.2.1.0/24, action: deny }
         { name: a, from: 10.1.0.0/16, to: 10.2.0.0/16, action: allow, inbound: '10001' }",
        &[
            "client 10.1.0.0/16 except 10.1.1.0/24 > 10.2.0.0/16:21 control (a)",
            "client 10.1.0.0/16 except 10.1.1.0/24 > 10.2.0.0/16:10001 passive data (a)",
            "client 10.1.1.0/24 > 10.2.0.0/16 except 10.2.1.0/24:21 control (a)",
            "client 10.1.1.0/24 > 10.2.0.0/16 except 10.2.1.0/24:10001 passive data (a)",
            "server 10.1.0.0/16 except 10.1.1.0/24 > 10.2.0.0/16:21 control (a)",
            "server 10.1.0.0/16 except 10.1.1.0/24 > 10.2.0.0/16:1024-65535 passive data (a)",
            "server 10.1.1.0/24 > 10.2.0.0/16 except 10.2.1.0/24:21 control (a)",
            "server 10.1.1.0/24 > 10.2.0.0/16 except 10.2.1.0/24:1024-65535 passive data (a)",
        ],
    );
}

#[test]
fn an_explicit_gate_reaches_both_families_and_asks_for_names() {
    let listener = "{ name: out, bind: '10.0.0.1:2121', explicit: user-at-host }";
    let rules = "{ name: inside, from: any, to: [10.0.0.0/8, 'fc00::/7'], action: deny }
         { name: a, from: 10.0.0.0/8, to: any, action: allow, inbound: '10001' }";
    let client =
        ["client 10.0.0.0/8 > 10.0.0.1:2121 control (a)", "client 10.0.0.0/8 > 10.0.0.1:10001 passive data (a)"];
    let names = ["server 10.0.2.1 > 10.0.2.53:53 names ()"; 2];
    let server = [
        "server 10.0.2.1 > any IPv4 except 10.0.0.0/8:21 control (a)",
        "server 10.0.2.1 > any IPv4 except 10.0.0.0/8:1024-65535 passive data (a)",
        "server 2001:db8:2::1 > any IPv6 except fc00::/7:21 control (a)",
        "server 2001:db8:2::1 > any IPv6 except fc00::/7:1024-65535 passive data (a)",
    ];
    assert_derived(listener, rules, &[&client[..], &server, &names].concat());
    // A gate without IPv6 needs none.
    let four = Told { server_side: vec!["10.0.2.1".parse().unwrap()], ..told() };
    let (lines, notes) = derived_with(listener, rules, &four);
    assert_eq!(lines, [&client[..], &server[..2], &names].concat());
    assert_eq!(notes, [""; 0]);
}

#[test]
fn an_explicit_gate_reaches_other_ports_where_a_rule_names_them() {
    let listener = "{ name: out, bind: '10.0.0.1:2121', explicit: user-at-host }";
    let rules = "{ name: a, from: 10.0.0.0/8, to: 10.3.0.0/24, action: allow, inbound: '10001' }
         { name: b, from: 10.0.0.0/8, to: ['10.3.0.0/24', '10.3.0.2:2121'], action: allow, inbound: '10001' }
         { name: c, from: 10.0.0.0/8, to: 10.3.0.2, action: deny }
         { name: d, from: 10.0.0.0/8, to: '10.3.0.2:990', action: allow, inbound: '10001' }";
    let four = Told { server_side: vec!["10.0.2.1".parse().unwrap()], ..told() };
    let (lines, notes) = derived_with(listener, rules, &four);
    let control: Vec<&String> =
        lines.iter().filter(|line| line.starts_with("server") && line.contains("control")).collect();
    assert_eq!(
        control,
        ["server 10.0.2.1 > 10.3.0.0/24:21 control (a)", "server 10.0.2.1 > 10.3.0.2:2121 control (b)"],
        "{lines:?}"
    );
    assert!(notes.iter().any(|note| note.contains("Rule d opens nothing")), "{notes:?}");
}

#[test]
fn families_may_differ_between_the_sides() {
    assert_derived(
        "{ name: six, bind: '[2001:db8:1::1]:21', server: '10.0.2.2' }",
        "{ name: a, from: any, to: any, action: allow, inbound: '10001' }",
        &[
            "client any IPv6 > 2001:db8:1::1:21 control (a)",
            "client any IPv6 > 2001:db8:1::1:10001 passive data (a)",
            "server 10.0.2.1 > 10.0.2.2:21 control (a)",
            "server 10.0.2.1 > 10.0.2.2:1024-65535 passive data (a)",
        ],
    );
}

#[test]
fn clients_dial_what_they_are_told() {
    let (lines, notes) = derived_with(
        "{ name: front, bind: '0.0.0.0:21', server: '10.0.2.2', advertise: [{ from: 10.0.0.0/8, address: 10.0.0.1 }, \
         { from: any, address: ftp.example.com }] }",
        "{ name: a, from: any, to: any, action: allow, inbound: '10001' }",
        &Told { client_side: ["192.0.2.9", "10.0.0.1"].map(|ip| ip.parse().unwrap()).to_vec(), ..told() },
    );
    assert_eq!(
        lines,
        [
            // One of the gate's own addresses needs no NAT.
            "client 10.0.0.0/8 > 10.0.0.1:21 control (a)",
            "client 10.0.0.0/8 > 10.0.0.1:10001 passive data (a)",
            "client any IPv4 except 10.0.0.0/8 > ftp.example.com (NAT), 10.0.0.1, 192.0.2.9:21 control (a)",
            "client any IPv4 except 10.0.0.0/8 > ftp.example.com (NAT), 10.0.0.1, 192.0.2.9:10001 passive data (a)",
            "server 10.0.2.1 > 10.0.2.2:21 control (a)",
            "server 10.0.2.1 > 10.0.2.2:1024-65535 passive data (a)",
            "server 10.0.2.1 > 10.0.2.53:53 names ()",
            "server 10.0.2.1 > 10.0.2.53:53 names ()",
        ]
    );
    assert!(notes.iter().any(|note| note.starts_with("ftp.example.com is the NAT")), "{notes:?}");
}

#[test]
fn a_rule_for_a_listener_is_for_no_other() {
    let (lines, _) = derived_with(
        "{ name: one, bind: '192.0.2.1:21', server: '10.0.2.2' }
         { name: two, bind: '192.0.2.1:22', server: '10.0.2.2' }",
        "{ name: a, from: any, to: any, action: allow, inbound: '10001', listener: two }
         { name: b, from: 198.51.100.0/24, to: any, action: allow, inbound: '10002' }",
        &told(),
    );
    assert_eq!(
        lines[..4],
        [
            "client 198.51.100.0/24 > 192.0.2.1:21 control (b)",
            "client 198.51.100.0/24 > 192.0.2.1:10002 passive data (b)",
            "client any IPv4 > 192.0.2.1:22 control (a)",
            "client any IPv4 > 192.0.2.1:10001 passive data (a)",
        ]
    );
}

#[test]
fn what_is_not_known_is_a_placeholder() {
    let (lines, _) = derived_with(
        "{ name: front, bind: '[::]:21', server: '10.0.2.2' }",
        "{ name: a, from: any, to: any, action: allow, inbound: '10001' }",
        &Told::default(),
    );
    assert_eq!(lines[0], "client any IPv6 > gate-client-side-ipv6:21 control (a)");
    assert_eq!(lines[2], "server gate-server-side-ipv4 > 10.0.2.2:21 control (a)");
}

#[test]
fn what_cannot_be_is_said() {
    let (lines, notes) = derived_with(
        REVERSE,
        "{ name: a, from: ['2001:db8::/32', 192.0.2.7], to: any, action: allow, inbound: '10001', hours: 'Mon-Fri 08:00-18:00 UTC' }
         { name: b, from: any, to: 10.9.9.9, action: allow, inbound: '10001' }",
        &told(),
    );
    assert!(!lines.is_empty() && lines.iter().all(|line| line.ends_with("(a)")), "{lines:?}");
    for said in ["always their hour: a.", "Rule a names IPv6 clients", "Rule b opens nothing"] {
        assert!(notes.iter().any(|note| note.contains(said)), "{said}: {notes:?}");
    }
    assert!(
        derived_with(REVERSE, "{ name: a, from: any, to: any, action: deny }", &told()).1[0].contains("nothing has to")
    );
}

#[test]
fn what_is_too_much_to_tell_apart_is_said() {
    let pair = |n: usize| {
        format!("{{ name: r{n}, from: 10.1.{}.{}, to: 10.2.0.{}, action: deny }}", n / 256, n % 256, n % 200)
    };
    let mut rules: Vec<String> = (0..600).map(pair).collect();
    rules.push("{ name: rest, from: any, to: any, action: allow, inbound: '10001' }".to_owned());
    let listener = "{ name: lan, bind: '0.0.0.0:2121', transparent: tproxy, source: client }";
    let (lines, notes) = derived_with(listener, &rules.join("\n"), &told());
    assert_eq!(lines[0], "client any IPv4 > any IPv4:21 control (rest)");
    assert!(notes.len() == 1 && notes[0].starts_with("Rule rest is opened whole"), "{notes:?}");
}

#[test]
fn many_rules_are_derived_in_fair_time() {
    let rules: Vec<String> = (0..1000)
        .map(|n| {
            let (action, net) = if n % 2 == 0 { ("deny", 24) } else { ("allow, inbound: '10001'", 20) };
            let (high, low) = (n / 256, n % 256);
            format!("{{ name: r{n}, from: 10.{high}.{}.0/{net}, to: any, action: {action} }}", low / 16 * 16)
        })
        .collect();
    let listener = "{ name: lan, bind: '0.0.0.0:2121', transparent: tproxy, source: client }";
    let (lines, _) = derived_with(listener, &rules.join("\n"), &told());
    // Whom the rules before it deny is an exception; all of it is one line.
    assert!(lines[0].starts_with("client 10.0.0.0/14 except 10.0.0.0/24, 10.0.16.0/24"), "{:?}", lines.first());
    assert_eq!(lines.len(), 4);
}

/// One of sixteen addresses or a network of some of them.
fn network() -> impl Strategy<Value = (u8, u8)> {
    (0..16u8, 28..=32u8).prop_map(|(host, length)| (host & (0xffu16 << (32 - length)) as u8, length))
}

/// A rule without its name.
fn rule() -> impl Strategy<Value = String> {
    let ports = prop::sample::select(vec!["", ":21", ":2100"]);
    let action = prop::sample::select(vec!["allow, inbound: '10001'", "deny"]);
    let users = prop::sample::select(vec!["", ", users: anna"]);
    (network(), network(), ports, action, users).prop_map(|(from, to, port, action, users)| {
        let (from, to) = (format!("10.1.0.{}/{}", from.0, from.1), format!("10.2.0.{}/{}{port}", to.0, to.1));
        format!("from: {from}, to: '{to}', action: {action}{users}")
    })
}

proptest! {
    /// What may be decided to be is open, and nothing else.
    #[test]
    fn what_is_open_is_what_is_decided(rules in prop::collection::vec(rule(), 1..8)) {
        let named = |(number, rule): (usize, &String)| format!("{{ name: r{number}, {rule} }}");
        let rules: Vec<String> = rules.iter().enumerate().map(named).collect();
        let listener = "{ name: lan, bind: '0.0.0.0:2121', transparent: tproxy, source: client }";
        let policy = policy(listener, &rules.join("\n"));
        let openings = derive(&policy, &told());
        let lines = |side: Side| -> Vec<_> {
            let control = |line: &&Opening| line.side == side && line.purpose == Purpose::Control;
            let nets = |end: &End| end.addresses.own.prefixes();
            openings.lines.iter().filter(control).map(|line| (nets(&line.from), nets(&line.to), line.to.ports.clone())).collect()
        };
        for side in [Side::Client, Side::Server] {
            let lines = lines(side);
            for (client, server, port) in (0..16u8).flat_map(|c| (0..16u8).flat_map(move |s| [(c, s, 21), (c, s, 2100)])) {
                let client = ClientAddr::new(([10, 1, 0, client], 50_000).into());
                let server = ServerAddr::new(([10, 2, 0, server], port).into());
                let open = lines.iter().any(|(from, to, ports)| {
                    from.iter().any(|net| net.contains(&client.ip()))
                        && to.iter().any(|net| net.contains(&server.ip()))
                        && ports.as_ref().is_some_and(|ports| ports.contains(port))
                });
                let decision = policy.decide(&Asker::new(&policy.listeners[0], client, server, Timestamp::UNIX_EPOCH));
                let allowed = !matches!(decision, Decision::Deny(_));
                // A rule that names no port is opened for one of them only.
                let fits = if port == 21 { open == allowed } else { !open || allowed };
                prop_assert!(fits, "{client} to {server}: open {open}, allowed {allowed}\n{}", rules.join("\n"));
            }
        }
    }
}
