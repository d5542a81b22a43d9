//! Beside settings and firewalls that keep marked packets from the gate.

use crate::lab::Family;
use crate::lab::scratch::Scratch;
use crate::stage::{GREETING, Stage, logged, nft, output, sh};

/// As firewalld writes it.
const STRICT: &str = "table inet firewalld {\nchain filter_PREROUTING { type filter hook prerouting priority -140;\n\
    icmpv6 type { nd-router-advert, nd-neighbor-solicit } accept\n\
    meta nfproto ipv6 fib saddr . mark . iif oif missing drop\n}\n}\n";

#[test]
fn filters_of_reverse_paths_let_handed_over_packets_in() {
    let v4 = Stage::new(Family::V4);
    // As wg-quick sets it.
    v4.net
        .gate
        .sysctl(&[
            ("net/ipv4/conf/all/src_valid_mark", "1"),
            ("net/ipv4/conf/lan/src_valid_mark", "1"),
            ("net/ipv4/conf/lan/rp_filter", "1"),
            ("net/ipv4/conf/wan/rp_filter", "1"),
        ])
        .unwrap();
    let v6 = Stage::new(Family::V6);
    nft(&v6.net.gate, STRICT);
    for stage in [v4, v6] {
        assert_eq!(stage.client(), GREETING);
        stage.packets();
        let gate = stage.gate("tproxy", &[]);
        stage.works(&gate);
        // It is this rule that lets them in, and it is seen when it is gone.
        sh(&stage.net.gate, "ip rule del priority 2120 2>/dev/null || ip -6 rule del priority 2120");
        stage.is_closed("without the rule for filters");
        logged(&gate, &["WARN", "event=\"interception_missing\"", "routing rule for reverse-path filters"]);
    }
}

/// Rules beside the gate's that keep all clients away, each with the listener that it matters for.
const WALLS: [(&str, &str, &str); 6] = [
    (
        "tproxy",
        "interception_without_arrivals",
        "chain x { type filter hook input priority 0; iifname lan tcp dport 21 drop; }",
    ),
    (
        "tproxy",
        "interception_without_arrivals",
        "chain x { type filter hook input priority 0; ip saddr 10.1.0.0/24 drop; }",
    ),
    (
        "redirect",
        "interception_without_arrivals",
        "chain x { type filter hook input priority 0; iifname lan tcp dport 2121 drop; }",
    ),
    (
        "redirect",
        "interception_without_arrivals",
        "chain x { type filter hook output priority 0; tcp sport 2121 drop; }",
    ),
    // As routers with several uplinks do: what is no connection of theirs has no mark.
    (
        "tproxy",
        "interception_without_arrivals",
        "chain x { type filter hook prerouting priority mangle + 1; meta mark set ct mark; }",
    ),
    ("redirect", "bypass_dropped", "chain x { type filter hook prerouting priority raw; tcp dport 21 notrack; }"),
];

#[test]
fn what_keeps_all_clients_away_is_told() {
    std::thread::scope(|scope| {
        for (by, event, chain) in WALLS {
            scope.spawn(move || {
                let stage = Stage::new(Family::V4);
                assert_eq!(stage.client(), GREETING);
                stage.packets();
                nft(
                    &stage.net.gate,
                    &format!("table inet wall {{\n{}\n}}\n", chain.replace("; }", "\n}").replace("0; ", "0\n")),
                );
                let gate = stage.gate(by, &[]);
                for _ in 0..3 {
                    stage.is_closed(chain);
                }
                logged(&gate, &["WARN", &format!("event=\"{event}\"")]);
                sh(&stage.net.gate, "nft delete table inet wall");
                stage.works(&gate);
                if event == "interception_without_arrivals" {
                    logged(&gate, &["event=\"interception_arrives\""]);
                }
            });
        }
    });
}

#[test]
fn a_bridge_whose_packets_go_through_iptables_is_named() {
    for family in [Family::V4, Family::V6] {
        let stage = Stage::new(family);
        // The gate's address on the clients' side is now the bridge's.
        sh(
            &stage.net.gate,
            "ip link add br0 type bridge\nip addr flush dev lan\nip link set lan master br0\nip link set br0 up\n\
             ip addr add 10.1.0.1/24 dev br0\nip addr add 2001:db8:1::1/64 dev br0 nodad\n",
        );
        let setting = if family == Family::V4 { "bridge-nf-call-iptables" } else { "bridge-nf-call-ip6tables" };
        let file = format!("/proc/sys/net/bridge/{setting}");
        let set = |value: &'static str| {
            let file = file.clone();
            stage.net.gate.run(move || std::fs::write(file, value)).unwrap();
        };
        set("1");
        assert_eq!(stage.client(), GREETING);
        stage.packets();
        let gate = stage.gate("tproxy", &[]);
        let said = logged(&gate, &["event=\"bridge_obstacle\"", "bridges=\"br0\""]);
        assert!(!stage.stranger().starts_with("220"));
        assert_eq!(stage.packets(), 0);
        let folder = Scratch::new("bridge").unwrap();
        let file = folder.join("rules.yaml");
        std::fs::write(&file, stage.rules("tproxy", 2121, &stage.allowing())).unwrap();
        let program = crate::lab::gate::program();
        let printed = output(&stage.net.gate, program.to_str().unwrap(), &["intercept", file.to_str().unwrap()]);
        assert!(
            printed.contains("over a bridge (br0)") && printed.contains(&format!("net.bridge.{setting}=0")),
            "{printed}"
        );
        // What the gate says to do is done, word for word.
        let advice = said.split('`').find(|part| part.starts_with("sysctl -w")).unwrap();
        assert_eq!(advice, format!("sysctl -w net.bridge.{setting}=0"));
        set("0");
        stage.works(&gate);
        drop(gate);
        set("1");
        let gate = stage.gate("redirect", &[]);
        stage.works(&gate);
        assert!(!gate.log().contains("bridge_obstacle"));
    }
}
