//! A transparent gate on a router: nobody gets to a server past it, whatever state it is in and whatever firewall is there.
//!
//! Each test sees first that clients reach the server without the gate.

// Shared with other test binaries; each uses a part.
#![allow(dead_code, missing_docs, unreachable_pub, clippy::unwrap_used)]

#[path = "../lab/mod.rs"]
mod lab;

mod beside;
mod firewalls;
mod stage;

use lab::Family;
use lab::gate::Gate;
use rustix::process::Signal;
use stage::{GREETING, Stage, logged, sh};

const WAYS: [&str; 2] = ["tproxy", "redirect"];

/// Runs a test for both families and both ways to hand over; the server can be reached when it begins.
fn everywhere(test: impl Fn(&Stage, &str) + Sync) {
    let one = |family, by| {
        let stage = Stage::new(family);
        assert_eq!(stage.client(), GREETING);
        assert!(stage.packets() > 0);
        test(&stage, by);
    };
    let one = &one;
    std::thread::scope(|scope| {
        for family in [Family::V4, Family::V6] {
            for by in WAYS {
                scope.spawn(move || one(family, by));
            }
        }
    });
}

#[test]
fn who_is_denied_hears_so() {
    everywhere(|stage, by| {
        let gate = stage.gate(by, &[]);
        stage.works(&gate);
        logged(&gate, &["event=\"session_denied\"", "client=", "reason=\"denied\""]);
        assert_eq!(gate.log().matches("WARN").count(), 1, "{}", gate.log());
        logged(&gate, &["event=\"intercepting\"", "others=\"dropped\""]);
    });
}

#[test]
fn nothing_passes_a_gate_that_is_gone() {
    everywhere(|stage, by| {
        for words in [[].as_slice(), &["--intercept"]] {
            for signal in [Signal::TERM, Signal::KILL] {
                let mut gate = stage.gate(by, words);
                stage.works(&gate);
                gate.signal(signal);
                assert!(gate.ends());
                stage.is_closed(&format!("after {signal:?}, {words:?}"));
            }
        }
    });
}

#[test]
fn nothing_passes_when_the_rules_are_flushed() {
    everywhere(|stage, by| {
        let gate = stage.gate(by, &[]);
        stage.works(&gate);
        sh(&stage.net.gate, "nft flush ruleset");
        stage.is_closed("flushed");
        let said =
            logged(&gate, &["WARN", "event=\"interception_missing\"", "there is no table inet ftpgate_intercept"]);
        // What the gate says to do is done, word for word.
        let command = said.split("command=\"").nth(1).unwrap().split('"').next().unwrap();
        let program = lab::gate::program();
        let command = command.replacen("ftpgate", program.to_str().unwrap(), 1).replace("sudo ", "");
        sh(&stage.net.gate, &command);
        stage.works(&gate);
        sh(&stage.net.gate, "ip rule del priority 2121 2>/dev/null || ip -6 rule del priority 2121");
        if by == "tproxy" {
            stage.is_closed("without the route");
        }
        logged(&gate, &["WARN", "event=\"interception_missing\"", "routing rule for marked packets is missing"]);
    });
}

#[test]
fn nothing_passes_when_the_listener_moves() {
    everywhere(|stage, by| {
        let gate = stage.gate(by, &[]);
        stage.works(&gate);
        gate.reload(&stage.rules(by, 2125, &stage.allowing()));
        logged(&gate, &["WARN", "event=\"interception_missing\"", "is not the one for these rules"]);
        stage.is_closed("another port");
    });
}

/// Rules that speak of more servers than those for which the interception was made.
#[test]
fn new_servers_are_closed_until_they_are_handed_over() {
    let stage = Stage::new(Family::V4);
    let other =
        "  - name: other\n    from: any\n    to: \"10.9.0.1\"\n    action: allow\n    inbound: \"10001-10005\"\n";
    let gate = Gate::start_as(&stage.net, &stage.rules("tproxy", 2121, other), 2121, &[], &[]).unwrap();
    assert_eq!(stage.client(), GREETING);
    assert!(stage.packets() > 0);
    gate.reload(&stage.rules("tproxy", 2121, &stage.allowing()));
    logged(&gate, &["event=\"interception_missing\"", "is not the one for these rules"]);
    stage.is_closed("new rules");
}

#[test]
fn the_gate_hands_over_by_itself() {
    everywhere(|stage, by| {
        let gate = stage.gate(by, &["--intercept"]);
        stage.works(&gate);
        // `nft` can show it, and complains of nothing.
        assert!(stage::output(&stage.net.gate, "nft", &["list", "ruleset"]).contains("ftpgate_intercept"));
        for fault in ["nft flush ruleset", "nft flush chain inet ftpgate_intercept bypassing"] {
            sh(&stage.net.gate, fault);
            let before = gate.log().matches("event=\"interception_loaded\"").count();
            let loaded = || (gate.log().matches("event=\"interception_loaded\"").count() > before).then_some(());
            lab::poll(std::time::Duration::from_secs(10), loaded).unwrap();
            stage.works(&gate);
        }
        gate.reload(&stage.rules(by, 2125, &stage.allowing()));
        logged(&gate, &["event=\"interception_loaded\"", "is not the one for these rules"]);
        stage.works(&gate);
        assert!(!gate.log().contains("interception_missing"), "{}", gate.log());
    });
}

#[test]
fn who_wants_it_open_has_it_open() {
    everywhere(|stage, by| {
        let mut gate = stage.gate(by, &["--intercept", "--fail-open"]);
        stage.works(&gate);
        gate.signal(Signal::TERM);
        assert!(gate.ends());
        assert!(gate.log().contains("event=\"interception_unloaded\""), "{}", gate.log());
        assert_eq!(stage.client(), GREETING);
        assert!(!stage::output(&stage.net.gate, "nft", &["list", "ruleset"]).contains("ftpgate"));
    });
}

#[test]
fn what_no_listener_needs_any_more_is_taken_back() {
    let stage = Stage::new(Family::V4);
    let gate = stage.gate("tproxy", &["--intercept"]);
    stage.works(&gate);
    let reverse =
        "version: 1\nlisteners:\n  - name: front\n    bind: \"10.1.0.1:2122\"\n    server: 10.2.0.2\nrules:\n";
    gate.reload(&format!("{reverse}{}", stage.allowing()));
    logged(&gate, &["event=\"interception_unloaded\""]);
    assert_eq!(stage.client(), GREETING);
    assert!(!stage::output(&stage.net.gate, "nft", &["list", "tables"]).contains("ftpgate_"));
}

/// Listeners of both kinds share a family: each gets its own clients, and clients who are denied are told so.
#[test]
fn tproxy_and_redirect_side_by_side() {
    let stage = Stage::new(Family::V4);
    let listener = |name: &str, port: u16, by: &str| {
        format!("  - name: {name}\n    bind: \"0.0.0.0:{port}\"\n    transparent: {by}\n")
    };
    let rule = |name: &str, from: &str| {
        format!(
            "  - name: to-{name}\n    listener: {name}\n    from: \"{from}\"\n    to: \"10.2.0.2\"\n    action: allow\n    inbound: \"10001-10005\"\n"
        )
    };
    for (first, second) in [("tproxy", "redirect"), ("redirect", "tproxy")] {
        let rules = format!(
            "version: 1\nlisteners:\n{}{}rules:\n{}{}",
            listener("a", 2121, first),
            listener("b", 2122, second),
            rule("a", "10.1.0.2"),
            rule("b", "10.1.0.3"),
        );
        let gate = Gate::start_as(&stage.net, &rules, 2121, &[], &[]).unwrap();
        assert_eq!((stage.client().as_str(), stage.stranger().as_str()), (GREETING, GREETING), "{}", gate.log());
        stage.packets();
        drop(gate);
        let rules = rules.replace("from: \"10.1.0.2\"", "from: \"10.1.0.9\"");
        let gate = Gate::start_as(&stage.net, &rules, 2121, &[], &[]).unwrap();
        assert_eq!(stage.client(), "421 The rules do not allow this session.", "{}", gate.log());
        assert_eq!(stage.stranger(), GREETING, "{}", gate.log());
    }
}

/// The client says itself by which way its packets go to the server.
#[test]
fn a_source_route_is_no_way_past() {
    const CONNECT: &str = "import socket\ns = socket.socket()\ns.settimeout(1.5)\n\
        s.setsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, bytes([131, 7, 4, 10, 2, 0, 2, 0]))\n\
        try: s.connect(('10.1.0.1', 21))\nexcept OSError: pass\n";
    let stage = Stage::new(Family::V4);
    stage
        .net
        .gate
        .sysctl(&[
            ("net/ipv4/conf/all/accept_source_route", "1"),
            ("net/ipv4/conf/lan/accept_source_route", "1"),
            ("net/ipv4/conf/wan/accept_source_route", "1"),
        ])
        .unwrap();
    let tries = || stage::output(&stage.net.client, "python3", &["-c", CONNECT]);
    tries();
    assert!(stage.packets() > 0);
    let gate = stage.gate("tproxy", &[]);
    tries();
    assert_eq!(stage.packets(), 0);
    stage.works(&gate);
}

/// Nothing puts fragments together where the rules were flushed, and the gate tracks no connections.
#[test]
fn fragments_are_no_way_past() {
    let stage = Stage::new(Family::V6);
    stage::nft(
        &stage.net.server,
        "table ip6 fragments {\nchain arriving { type filter hook prerouting priority -450;\nexthdr frag exists counter\n}\n}\n",
    );
    let sends = || {
        stage::output(&stage.net.client, "python3", &["-c", include_str!("fragments.py")]);
        std::thread::sleep(std::time::Duration::from_millis(200));
        let shown = stage::output(&stage.net.server, "nft", &["list", "table", "ip6", "fragments"]);
        shown.split("packets ").nth(1).unwrap().split(' ').next().unwrap().parse::<u64>().unwrap()
    };
    assert_eq!(sends(), 2);
    let rules = stage.rules("tproxy", 2121, &stage.allowing()) + "    datapath: relay\n";
    let gate = Gate::start_as(&stage.net, &rules, 2121, &[], &[]).unwrap();
    sh(&stage.net.gate, "nft flush ruleset");
    assert_eq!(sends(), 2, "{}", gate.log());
}

/// A family that no listener takes is no way past the gate.
#[test]
fn the_other_family_is_closed_too() {
    for (family, other) in [(Family::V4, Family::V6), (Family::V6, Family::V4)] {
        let mut stage = Stage::new(family);
        assert_eq!(stage.client(), GREETING);
        stage.packets();
        stage.family = other;
        let any = "  - name: all\n    from: any\n    to: any\n    action: allow\n    inbound: \"10001-10005\"\n";
        let rules = stage.rules("tproxy", 2121, any);
        let gate = Gate::start_as(&stage.net, &rules, 2121, &[], &[]).unwrap();
        logged(&gate, &["event=\"family_dropped\"", &format!("family=\"{family:?}\"").replace('V', "IPv")]);
        stage.family = family;
        stage.is_closed("no listener");
    }
}

#[test]
fn without_the_privilege_nothing_is_known_and_that_is_said() {
    let stage = Stage::new(Family::V4);
    let rules = stage.rules("redirect", 2121, &stage.allowing());
    let folder = lab::scratch::Scratch::new("unprivileged").unwrap();
    let (file, log) = (folder.join("rules.yaml"), folder.join("log"));
    std::fs::write(&file, rules + "    datapath: relay\n").unwrap();
    let run = |word: &str| {
        let program = lab::gate::program();
        let words = ["setpriv", "--bounding-set", "-net_admin", "--inh-caps", "-net_admin", "--"];
        let gate = [program.to_str().unwrap(), "run", file.to_str().unwrap()];
        let words = [words.as_slice(), gate.as_slice(), &[word]].concat();
        let words: Vec<&str> = words.into_iter().filter(|word| !word.is_empty()).collect();
        lab::job::Job::start(&stage.net.gate, &log, &words, |_| ()).unwrap()
    };
    let said = |word: &str| std::fs::read_to_string(&log).unwrap_or_default().contains(word).then_some(());
    let seconds = std::time::Duration::from_secs(10);
    let gate = run("");
    lab::poll(seconds, || said("event=\"ready\"")).unwrap();
    assert!(said("event=\"interception_unknown\"").is_some() && said("CAP_NET_ADMIN").is_some());
    drop(gate);
    let mut gate = run("--intercept");
    assert_eq!(gate.wait(seconds).and_then(|status| status.code()), Some(3));
    said("cannot start: --intercept").unwrap();
}
