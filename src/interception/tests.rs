use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::Arc;

use super::*;
use crate::addr::{Network, PortRange, PortRanges, ServerAddr};
use crate::policy::{
    Datapath, Destination, Inbound, Interception as By, Listener, Permission, Proxies, Rule, Source, Stand, Timeouts,
};

fn listener(name: &str, bind: &str, by: Option<By>) -> Listener {
    let stand = by.map_or_else(
        || Stand::Reverse { server: ServerAddr::new("10.0.2.2:21".parse().unwrap()) },
        |interception| Stand::Transparent { interception, source: Source::Client },
    );
    Listener {
        name: name.to_owned(),
        bind: bind.parse().unwrap(),
        stand,
        advertise: Vec::new(),
        proxies: Proxies::default(),
        health_checks: Vec::new(),
    }
}

fn network(text: &str) -> Network {
    if text == "any" { Network::Any } else { Network::Net(text.parse().unwrap()) }
}

fn rule(name: &str, permission: Permission, from: &[&str], to: &[(&str, Option<u16>)]) -> Arc<Rule> {
    let ports = |first, last| PortRanges::new(vec![PortRange::new(first, last).unwrap()]).unwrap();
    Arc::new(Rule {
        from: from.iter().map(|text| network(text)).collect(),
        to: to.iter().map(|&(text, port)| Destination { network: network(text), port }).collect(),
        inbound: Some(Inbound { gate_ports: ports(10001, 10005), server_ports: PortRanges::unreserved() }),
        ..Rule::new(name, permission)
    })
}

/// Every kind of listener and rule.
fn policy() -> Policy {
    use By::{Redirect, Tproxy};
    use Permission::{Allow, Deny};
    let nested = [("10.0.0.0/8", None), ("10.1.0.0/16", None), ("10.2.0.0/16", Some(2100)), ("2001:db8::/32", None)];
    Policy {
        listeners: vec![
            listener("plain", "0.0.0.0:21", None),
            listener("lan\nEOF\nreboot", "0.0.0.0:2121", Some(Tproxy)),
            listener("lan6", "[::]:2121", Some(Tproxy)),
            listener("one", "192.0.2.1:2122", Some(Tproxy)),
            listener("one6", "[2001:db8::1]:2122", Some(Tproxy)),
            listener("nat", "0.0.0.0:2123", Some(Redirect)),
            listener("nat6", "[::]:2123", Some(Redirect)),
            listener("natone", "192.0.2.1:2124", Some(Redirect)),
            listener("natone6", "[2001:db8::1]:2124", Some(Redirect)),
        ],
        rules: vec![
            rule("never", Deny, &["198.51.100.0/24"], &[("172.16.0.0/12", None)]),
            rule("some", Allow, &["198.51.100.0/24", "2001:db8:40::/48"], &nested),
            rule("four", Allow, &["192.0.2.0/24", "0.0.0.0/0"], &[("203.0.113.5/32", Some(2121))]),
        ]
        .into(),
        timeouts: Timeouts::default(),
        limits: crate::policy::GateLimits::default(),
    }
}

fn only(names: &[&str]) -> Policy {
    let mut policy = policy();
    policy.listeners.retain(|listener| names.contains(&listener.name.as_str()));
    policy
}

fn script_of(policy: &Policy) -> String {
    script(Interception::of(policy, Otherwise::Closed).as_ref(), policy)
}

/// What it does, without what it counts.
fn uncounted(script: &str) -> String {
    ["handed_over", "dropped"].iter().fold(script.to_owned(), |script, name| {
        script.replace(&format!("counter name {name} "), "").replace(&format!("counter name \"{name}\" "), "")
    })
}

#[test]
fn a_reverse_listener_needs_nothing() {
    assert_eq!(Interception::of(&only(&["plain"]), Otherwise::Closed), None);
    let script = script_of(&only(&["plain"]));
    assert!(script.lines().all(|line| line.is_empty() || line.starts_with('#')), "{script}");
}

#[test]
fn what_a_firewall_has_to_accept_is_told_where_it_matters() {
    let accept = "nft insert rule inet filter forward ct mark and 0xffe0 == 0x2140 accept";
    let (plain, lan) = (script_of(&only(&["plain"])), script_of(&only(&["lan6"])));
    assert!(plain.contains(accept) && lan.contains(accept));
    assert!(
        plain.contains("input tcp dport { 21 } accept\n") && plain.contains("input tcp dport { 10001-10005 } accept")
    );
    assert!(lan.contains("input meta mark 0x2121 accept\n") && !lan.contains("10001-10005 } accept"), "{lan}");
    assert!(script_of(&only(&["nat"])).contains("input ct status dnat accept\n"));
    let mut relayed = only(&["plain", "nat"]);
    let rules = relayed.rules.iter().map(|rule| Arc::new(Rule { datapath: Datapath::Relay, ..(**rule).clone() }));
    relayed.rules = rules.collect::<Vec<_>>().into();
    // Without pinholes in the kernel nothing makes it track connections.
    assert!(!script_of(&relayed).contains("0x2140"));
}

#[test]
fn every_client_of_the_servers_is_handed_over() {
    let lan6 = uncounted(&script_of(&only(&["lan6"])));
    assert!(lan6.contains(
        "\t\tip6 daddr { 2001:db8::/32 } tcp dport { 21 } tproxy ip6 to :2121 meta mark set 0x2121 accept\n"
    ));
    assert!(!lan6.contains("saddr") && !lan6.contains("ip rule add") && !lan6.contains("type nat"));
    let nat = uncounted(&script_of(&only(&["nat"])));
    // Also of those that no rule allows.
    assert!(nat.contains("\t\tip daddr { 10.0.0.0/8, 172.16.0.0/12 } tcp dport { 21 } redirect to :2123\n"), "{nat}");
    assert!(nat.contains("\t\tip daddr { 203.0.113.5 } tcp dport { 2121 } redirect to :2123\n"));
    assert!(nat.contains("\t\tip daddr { 10.2.0.0/16 } tcp dport { 2100 } redirect to"));
    // A data connection is one of a client that is allowed.
    assert!(nat.contains("ip saddr { 198.51.100.0/24 } ip daddr { 10.0.0.0/8 } tcp dport { 10001-10005 } redirect\n"));
    assert!(!nat.contains("ip -6") && nat.contains("socket transparent 1"));
}

#[test]
fn what_is_not_handed_over_is_dropped() {
    let lan6 = only(&["lan6"]);
    let script = uncounted(&script_of(&lan6));
    assert!(script.contains("\t\tip6 daddr { 2001:db8::/32 } tcp dport { 21 } drop\n"));
    // By a family without a listener too.
    assert!(script.contains("\t\tip daddr { 10.0.0.0/8, 172.16.0.0/12 } tcp dport { 21 } drop\n"), "{script}");
    let interception = Interception::of(&lan6, Otherwise::Closed).unwrap();
    assert_eq!(interception.without_listener().collect::<Vec<_>>(), ["IPv4"]);
    let open = Interception::of(&lan6, Otherwise::Open).unwrap();
    assert!(!uncounted(&super::script(Some(&open), &lan6)).contains(" drop\n"));
    assert_eq!(open.without_listener().count(), 0);
}

#[test]
fn listeners_that_share_a_family_get_whom_their_rules_allow() {
    let mut policy = only(&["nat", "one"]);
    policy.rules = vec![
        Arc::new(Rule {
            listeners: vec!["nat".to_owned()],
            ..(*rule("lan", Permission::Allow, &["10.1.0.0/16"], &[("10.9.0.0/16", None)])).clone()
        }),
        Arc::new(Rule {
            listeners: vec!["one".to_owned()],
            ..(*rule("guests", Permission::Allow, &["10.5.0.0/16"], &[("10.9.0.0/16", None)])).clone()
        }),
    ]
    .into();
    let script = uncounted(&script_of(&policy));
    let handed: Vec<&str> = script.lines().map(str::trim).filter(|line| line.contains("dport { 21 }")).collect();
    assert_eq!(
        handed,
        [
            "ip saddr { 10.5.0.0/16 } ip daddr { 10.9.0.0/16 } tcp dport { 21 } tproxy ip to 192.0.2.1:2122 meta mark \
             set 0x2121 accept",
            "ip saddr { 10.1.0.0/16 } ip daddr { 10.9.0.0/16 } tcp dport { 21 } redirect to :2123",
            // All other clients, to the listener with redirect.
            "ip daddr { 10.9.0.0/16 } tcp dport { 21 } redirect to :2123",
            "ip option lsrr exists tcp dport { 21 } drop",
            "ip option ssrr exists tcp dport { 21 } drop",
            "ip daddr { 10.9.0.0/16 } tcp dport { 21 } drop",
        ],
        "{script}"
    );
}

#[test]
fn rules_for_other_listeners_name_no_servers_here() {
    let mut policy = only(&["plain", "lan6"]);
    let mut rules = policy.rules.to_vec();
    Arc::make_mut(&mut rules[1]).listeners = vec!["plain".to_owned()];
    policy.rules = rules.into();
    assert!(!script_of(&policy).contains("2001:db8::/32"));
}

#[test]
fn a_name_cannot_leave_its_comment() {
    let script = script_of(&policy());
    assert!(!script.lines().any(|line| line == "reboot"));
    assert_eq!(script.lines().filter(|line| *line == "EOF").count(), 1);
}

#[test]
fn a_change_of_the_rules_is_a_change_of_the_fingerprint() {
    let of = |policy: &Policy, otherwise| Interception::of(policy, otherwise).unwrap().table.fingerprint();
    let one = only(&["lan6"]);
    assert_eq!(of(&one, Otherwise::Closed), of(&one.clone(), Otherwise::Closed));
    assert_ne!(of(&one, Otherwise::Closed), of(&one, Otherwise::Open));
    let mut moved = one.clone();
    moved.listeners[0].bind.set_port(2125);
    assert_ne!(of(&one, Otherwise::Closed), of(&moved, Otherwise::Closed));
    // As `ftpgate intercept` of an earlier run wrote it, on whatever machine.
    assert_eq!(of(&one, Otherwise::Closed), 13059936861994104776);
}

/// Runs a test in a network namespace of its own.
fn apart(test: impl FnOnce() + Send + 'static) {
    let thread = std::thread::spawn(|| {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("tests run as root: see tests/run");
        sh("ip link set lo up");
        test();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Runs a script; what it wrote.
#[track_caller]
fn sh(script: &str) -> String {
    let mut child = Command::new("sh")
        .args(["-e", "-s"])
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}\n{script}");
    text.into_owned()
}

const SHOW: &str = "nft list ruleset; ip rule; ip -6 rule; ip route show table 2121 2>&1 || :; ip -6 route show table 2121 2>&1 || :\n";

/// What the kernel has. `nft` writes a set of one as the one.
fn shown() -> String {
    let mut shown = sh(SHOW);
    for (open, _) in shown.clone().rmatch_indices("{ ") {
        let close = open + shown[open..].find(" }").unwrap();
        if !shown[open..close].contains([',', '\n']) {
            shown.replace_range(close..close + 2, "");
            shown.replace_range(open..open + 2, "");
        }
    }
    shown
}

#[test]
fn the_kernel_takes_it_twice_and_undo_leaves_nothing() {
    apart(|| {
        let (script, undo) = (script_of(&policy()), undo());
        let before = sh("nft list ruleset; ip rule; ip -6 rule");
        sh(&script);
        sh(&script);
        let with = shown();
        assert_eq!(with.matches("fwmark 0x2121 lookup 2121").count(), 2, "{with}");
        assert_eq!(with.matches("fwmark 0x2121 iif lo lookup main").count(), 2, "{with}");
        assert_eq!(with.matches("local default dev lo").count(), 2, "{with}");
        assert_eq!(with.matches("table inet ftpgate_intercept").count(), 1, "{with}");
        assert_eq!(with.matches("socket transparent 1").count(), 1, "{with}");
        let after = sh(&format!("{undo}{undo}nft list ruleset; ip rule; ip -6 rule"));
        assert_eq!(after, before);
        assert_eq!(sh("ip route show table all | grep 'table 2121' || :"), "");
    });
}

/// What the gate loads itself is what it prints.
#[test]
fn what_is_loaded_is_what_is_printed() {
    let policies = policy().listeners.into_iter().map(|listener| only(&[&listener.name])).chain([policy()]);
    for policy in policies {
        let Some(interception) = Interception::of(&policy, Otherwise::Closed) else { continue };
        apart(move || {
            sh(&script_of(&policy));
            let printed = shown();
            assert_eq!(interception.missing(&mut None).unwrap(), []);
            Interception::unload().unwrap();
            assert_eq!(sh("nft list ruleset; ip route show table all | grep 'table 2121' || :"), "");
            interception.load().unwrap();
            interception.load().unwrap();
            assert_eq!(shown(), printed);
            assert_eq!(interception.missing(&mut None).unwrap(), []);
            sh(&undo());
        });
    }
}

#[test]
fn what_is_missing_is_found() {
    let (policy, moved) = (policy(), only(&["lan6", "nat"]));
    let interception = Interception::of(&policy, Otherwise::Closed).unwrap();
    let changes: [(&str, Vec<Missing>); 8] = [
        ("nft flush ruleset", vec![Missing::Table]),
        ("nft add table inet ftpgate_intercept '{ flags dormant; }'", vec![Missing::Dormant]),
        ("nft flush chain inet ftpgate_intercept bypassing", vec![Missing::Rules("bypassing")]),
        ("nft add rule inet ftpgate_intercept diverted accept", vec![Missing::Rules("diverted")]),
        ("ip rule del priority 2121", vec![Missing::RoutingRule("IPv4")]),
        ("ip -6 rule del priority 2120", vec![Missing::FilterRule("IPv6")]),
        ("ip route flush table 2121", vec![Missing::Route("IPv4")]),
        (
            "ip -6 rule del priority 2121; ip -6 route flush table 2121",
            vec![Missing::RoutingRule("IPv6"), Missing::Route("IPv6")],
        ),
    ];
    apart(move || {
        assert!(interception.missing(&mut None).unwrap().contains(&Missing::Table));
        for (change, expected) in changes {
            interception.load().unwrap();
            assert_eq!(interception.missing(&mut None).unwrap(), [], "before {change}");
            sh(change);
            assert_eq!(interception.missing(&mut None).unwrap(), expected, "{change}");
        }
        Interception::of(&moved, Otherwise::Closed).unwrap().load().unwrap();
        assert_eq!(interception.missing(&mut None).unwrap(), [Missing::OtherRules]);
    });
}

#[test]
fn the_guard_outlives_a_flush_and_goes_with_its_owner() {
    let (first, second) = (only(&["lan6"]), only(&["nat"]));
    let of = |policy: &Policy| Interception::of(policy, Otherwise::Closed).unwrap();
    let (first, second) = (of(&first), of(&second));
    apart(move || {
        let mut guard = Guard::start(&first).unwrap();
        sh("nft flush ruleset");
        assert!(uncounted(&shown()).contains("ip6 daddr 2001:db8::/32 tcp dport 21 drop"));
        guard.change(&second).unwrap();
        assert!(uncounted(&shown()).contains("ip daddr 203.0.113.5 tcp dport 2121 drop"));
        drop(guard);
        std::thread::sleep(std::time::Duration::from_millis(100));
        assert_eq!(sh("nft list ruleset"), "");
    });
}

#[test]
fn a_change_that_keeps_the_number_of_rules_is_found() {
    let interception = Interception::of(&policy(), Otherwise::Closed).unwrap();
    apart(move || {
        let mut seen = None;
        interception.load().unwrap();
        assert_eq!(interception.missing(&mut seen).unwrap(), []);
        assert_eq!(interception.missing(&mut seen).unwrap(), []);
        let handle = sh("nft -a list chain inet ftpgate_intercept bypassing");
        let handle = handle.lines().find(|line| line.contains(" drop")).unwrap().rsplit(' ').next().unwrap().to_owned();
        sh(&format!("nft replace rule inet ftpgate_intercept bypassing handle {handle} accept"));
        assert_eq!(interception.missing(&mut seen).unwrap(), [Missing::Changed]);
        // Loaded again it is another table.
        interception.load().unwrap();
        assert_eq!(interception.missing(&mut seen).unwrap(), []);
        for (change, undo, expected) in [
            ("ip rule add not fwmark 51820 table 51820", "ip rule del table 51820", Missing::EarlierRule(2119)),
            (
                "ip route add 10.9.0.0/16 dev lo table 2121",
                "ip route del 10.9.0.0/16 table 2121",
                Missing::OtherRoute("IPv4"),
            ),
        ] {
            sh(change);
            assert_eq!(interception.missing(&mut seen).unwrap(), [expected], "{change}");
            assert!(!expected.can_be_loaded());
            sh(undo);
            assert_eq!(interception.missing(&mut seen).unwrap(), []);
        }
        // Rules of other programs that do not concern the gate's marked packets.
        sh("ip rule add from 10.77.0.0/16 table 100 priority 50; ip rule add fwmark 0x99 table 100 priority 51");
        assert_eq!(interception.missing(&mut seen).unwrap(), []);
    });
}

#[test]
fn thousands_of_networks_are_loaded() {
    let mut policy = only(&["lan6", "nat"]);
    let servers: Vec<Destination> = (0..6000_u32)
        .map(|n| Destination {
            network: network(&format!("10.{}.{}.{}/32", n >> 8, n & 255, 2 * (n % 100))),
            port: None,
        })
        .collect();
    let rules = (0..600).map(|n| {
        rule(
            &format!("rule {n}"),
            Permission::Allow,
            &[&format!("172.16.{}.{}/32", n / 250, n % 250)],
            &[("10.0.0.1/32", None)],
        )
    });
    let wide = Rule { to: servers, ..(*rule("wide", Permission::Allow, &["any"], &[("any", None)])).clone() };
    policy.rules = rules.chain([Arc::new(wide)]).collect::<Vec<_>>().into();
    let interception = Interception::of(&policy, Otherwise::Closed).unwrap();
    apart(move || {
        interception.load().unwrap();
        assert_eq!(interception.missing(&mut None).unwrap(), []);
        let _guard = Guard::start(&interception).unwrap();
    });
}

#[test]
fn a_family_that_is_switched_off_keeps_nothing_from_the_other() {
    let policy = policy();
    let interception = Interception::of(&policy, Otherwise::Closed).unwrap();
    apart(move || {
        sh("echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6; echo 1 > /proc/sys/net/ipv6/conf/lo/disable_ipv6");
        sh(&script_of(&policy));
        assert_eq!(interception.missing(&mut None).unwrap(), []);
        Interception::unload().unwrap();
        interception.load().unwrap();
        assert_eq!(interception.missing(&mut None).unwrap(), []);
        assert!(sh("ip route show table 2121").contains("local default dev lo"));
    });
}
