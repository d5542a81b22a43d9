//! Firewalls of the gate's own machine, at every hook: what they drop of what the gate needs is named with the command that
//! lets it through, and those that are right are not complained about.

use std::path::Path;

use crate::lab::Family;
use crate::lab::net::Net;
use crate::stage::*;

/// A gate beside these rules.
#[track_caller]
fn beside(rules: &str, wish: &Wish) -> Stage {
    let net = Net::new().unwrap();
    shell(&net.gate, rules);
    Stage::on(net, wish)
}

fn nft(rules: &str) -> String {
    format!("nft -f - <<'EOF'\n{rules}\nEOF\n")
}

/// A listing by a data connection each way; whether they come about.
fn moves(stage: &Stage) {
    let (mut client, mut server) = stage.session();
    let (at, data) = stage.passive(&mut client, &mut server);
    let ours = stage.dial(at).unwrap();
    begin(&mut client, &mut server, "RETR file");
    carries(accept(&data), ours, b"passive");
    complete(&mut client, &mut server);
    let (at, data) = stage.active(&mut client, &mut server);
    let theirs = stage.dial_back(at).unwrap();
    begin(&mut client, &mut server, "STOR file");
    carries(accept(&data), theirs, b"active");
    complete(&mut client, &mut server);
}

/// One gate beside these rules, and the commands that it should print.
type Case<'a> = (&'a str, Wish, Vec<&'a str>);

/// It is said at the start what these rules drop; when all of it is done as it is said, both modes work. All at once, for
/// each waits for the gate to look again.
fn are_mended_by_what_is_said(cases: &[Case<'_>]) {
    std::thread::scope(|scope| {
        let run = |(rules, wish, expected): &Case<'_>| is_mended_by_what_is_said(rules, wish, expected);
        cases.iter().for_each(|case| {
            scope.spawn(move || run(case));
        });
    });
}

fn is_mended_by_what_is_said(rules: &str, wish: &Wish, expected: &[&str]) {
    let stage = beside(rules, wish);
    let case = format!("{:?} {}", wish.transparent, wish.datapath);
    let said = stage.logged(&["event=\"firewall_obstacle\""]);
    let commands: Vec<&str> = said.split('`').skip(3).step_by(2).collect();
    assert_eq!(commands, expected, "{case}: {said}");
    commands.iter().for_each(|command| shell(&stage.net.gate, command));
    stage.logged(&["event=\"firewall_free\""]);
    moves(&stage);
}

fn quiet(stage: &Stage) {
    moves(stage);
    assert!(!stage.gate().log().contains("WARN"), "{}", stage.gate().log());
}

/// What most people write first.
const INPUT: &str = "table inet filter {
    chain input { type filter hook input priority filter; policy drop;
        iif \"lo\" accept
        ct state vmap { established : accept, related : accept, invalid : drop }
        meta l4proto { icmp, ipv6-icmp } accept
        tcp dport { 22, 80 } accept
        udp dport 53 accept
        counter log prefix \"dropped \" drop
    }
}";

const RELAY: Wish = Wish { datapath: "relay", closed: false, ..WISH };

#[test]
fn a_closed_input_chain_is_named_with_what_it_has_to_accept() {
    let rules = nft(INPUT);
    let insert = |what: &str| format!("nft insert rule inet filter input {what} accept");
    let (front, back, listener) =
        (insert("tcp dport 10001-10002"), insert("tcp dport 40001-40002"), insert("tcp dport 21"));
    let (marked, translated) = (insert("meta mark 0x2121"), insert("ct status dnat"));
    let tproxy = Wish { transparent: Some("tproxy"), ..RELAY };
    let redirect = Wish { transparent: Some("redirect"), ..RELAY };
    let client = Wish { listener: "    source: client\n", ..tproxy };
    // The kernel's connections never come in here.
    let kernel = Wish { datapath: "kernel", ..RELAY };
    let kernel6 = Wish { family: Family::V6, datapath: "kernel", ..redirect };
    are_mended_by_what_is_said(&[
        (&rules, RELAY, vec![&front, &listener, &back]),
        (&rules, tproxy, vec![&marked, &back]),
        (&rules, redirect, vec![&translated, &back]),
        (&rules, client, vec![&marked]),
        (&rules, kernel, vec![&listener]),
        (&rules, kernel6, vec![&translated]),
    ]);
}

#[test]
fn the_chain_of_iptables_is_spoken_of_in_its_words() {
    let rules = "iptables -P INPUT DROP
        iptables -A INPUT -i lo -j ACCEPT
        iptables -A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
        iptables -A INPUT -p tcp -m multiport --dports 22,80 -m comment --comment x -j ACCEPT
        iptables -A INPUT -p tcp -m state --state NEW -m tcp --dport 8080 -j ACCEPT
        iptables -A INPUT -p icmp -j ACCEPT
        iptables -A INPUT -p udp --dport 53 -j ACCEPT
        iptables -A INPUT -j LOG
        iptables -A INPUT -j REJECT";
    let insert = |what: &str| format!("iptables -I INPUT {what} -j ACCEPT");
    let (front, back) = (insert("-p tcp --dport 10001:10002"), insert("-p tcp --dport 40001:40002"));
    let (listener, marked) = (insert("-p tcp --dport 21"), insert("-m mark --mark 0x2121"));
    let translated = insert("-m conntrack --ctstate DNAT");
    are_mended_by_what_is_said(&[
        (rules, RELAY, vec![&front, &listener, &back]),
        (rules, Wish { transparent: Some("tproxy"), ..RELAY }, vec![&marked, &back]),
        (rules, Wish { transparent: Some("redirect"), ..RELAY }, vec![&translated, &back]),
    ]);
}

/// The chains of ufw, whose user's rules have what `PORTS` stands for; and Docker's.
const UFW: &str = "iptables -P INPUT DROP
    iptables -P FORWARD DROP
    for chain in ufw-before-input ufw-user-input ufw-not-local ufw-skip ufw-after-input ufw-limit; do
        iptables -N $chain; done
    iptables -A INPUT -j ufw-before-input
    iptables -A INPUT -j ufw-after-input
    iptables -A ufw-before-input -i lo -j ACCEPT
    iptables -A ufw-before-input -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
    iptables -A ufw-before-input -m conntrack --ctstate INVALID -j DROP
    iptables -A ufw-before-input -p icmp --icmp-type 8 -j ACCEPT
    iptables -A ufw-before-input -p udp --sport 67 --dport 68 -j ACCEPT
    iptables -A ufw-before-input -j ufw-not-local
    iptables -A ufw-before-input -d 224.0.0.251 -p udp --dport 5353 -j ACCEPT
    iptables -A ufw-before-input -j ufw-user-input
    iptables -A ufw-not-local -m addrtype --dst-type LOCAL -j RETURN
    iptables -A ufw-not-local -m limit --limit 3/min -j LOG
    iptables -A ufw-not-local -j DROP
    iptables -A ufw-user-input -p tcp --dport 22 -m conntrack --ctstate NEW -m recent --set
    iptables -A ufw-user-input -p tcp -m multiport --dports 80,443,PORTS -j ACCEPT
    iptables -A ufw-user-input -p tcp --dport 8022 -j ufw-limit
    iptables -A ufw-limit -j ACCEPT
    iptables -A ufw-after-input -p udp --dport 137 -j ufw-skip
    iptables -A ufw-skip -j DROP
    iptables -N DOCKER-USER
    iptables -N DOCKER
    iptables -A FORWARD -j DOCKER-USER
    iptables -A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
    iptables -A FORWARD -o docker0 -j DOCKER
    iptables -A FORWARD -i docker0 ! -o docker0 -j ACCEPT
    iptables -A DOCKER-USER -j RETURN";

#[test]
fn ufw_and_docker_are_read_rightly() {
    let lacking = UFW.replace("PORTS", "2121").replace("-P FORWARD DROP", "-P FORWARD ACCEPT");
    let commands = vec!["iptables -I INPUT -p tcp --dport 21 -j ACCEPT"];
    are_mended_by_what_is_said(&[(&lacking, Wish { datapath: "auto", ..RELAY }, commands)]);
    let right = UFW.replace("PORTS", "21,10001:10002,40001:40002");
    let stage = beside(&right, &Wish { datapath: "auto", ..RELAY });
    moves(&stage);
    stage.logged(&["event=\"transfer\"", "datapath=\"relay\"", "why=\"firewall\""]);
    let said = stage.logged(&["event=\"kernel_datapath_obstacle\""]);
    let command = said.split('`').nth(3).unwrap();
    assert_eq!(command, "iptables -I DOCKER-USER -m connmark --mark 0x2140/0xffe0 -j ACCEPT");
    shell(&stage.net.gate, command);
    stage.logged(&["event=\"kernel_datapath_free\""]);
    moves(&stage);
    stage.logged(&["event=\"transfer\"", "datapath=\"kernel\""]);
    assert!(!stage.gate().log().contains("firewall_obstacle"), "{}", stage.gate().log());
}

#[test]
fn what_the_gate_sends_is_looked_at_too() {
    let rules = nft("table inet filter {
        chain output { type filter hook output priority filter; policy drop;
            oif lo accept
            ct state established,related accept
            tcp dport { 53, 443 } accept
            udp dport { 53, 123 } accept
        }
    }");
    let insert = |what: &str| format!("nft insert rule inet filter output {what} accept");
    let (any, control, data) = (insert("tcp dport 1024-65535"), insert("tcp dport 21"), insert("tcp sport 20"));
    are_mended_by_what_is_said(&[
        (&rules, RELAY, vec![&any, &control]),
        (&rules, Wish { source_port: Some(20), ..RELAY }, vec![&any, &control, &data]),
        (&rules, Wish { datapath: "kernel", ..RELAY }, vec![&control]),
    ]);
}

#[test]
fn chains_before_and_behind_routing_are_looked_at_too() {
    for (hook, commands) in [
        ("prerouting", &["tcp dport 10001-10002", "tcp dport 21", "tcp dport 40001-40002"][..]),
        ("postrouting", &["ct mark and 0xffe0 == 0x2140", "tcp dport 21"]),
    ] {
        let rules = nft(&format!(
            "table inet strict {{
                chain wall {{ type filter hook {hook} priority mangle + 20; policy drop;
                    ct state established,related accept
                    meta l4proto ipv6-icmp accept
                    tcp dport 22 accept
                }}
            }}"
        ));
        let commands: Vec<String> =
            commands.iter().map(|what| format!("nft insert rule inet strict wall {what} accept")).collect();
        let commands: Vec<&str> = commands.iter().map(String::as_str).collect();
        is_mended_by_what_is_said(&rules, &Wish { closed: false, ..WISH }, &commands);
    }
}

/// What firewalld writes for a zone with ssh and the gate's ports.
const FIREWALLD: &str = "table inet firewalld {
    chain filter_PREROUTING { type filter hook prerouting priority filter + 10; policy accept;
        icmpv6 type { nd-router-advert, nd-neighbor-solicit } accept
        meta nfproto ipv6 fib saddr . mark . iif oif missing drop
    }
    chain filter_INPUT { type filter hook input priority filter + 10; policy accept;
        ct state { established, related } accept
        ct status dnat accept
        iifname \"lo\" accept
        ct state invalid drop
        jump filter_INPUT_ZONES
        reject with icmpx admin-prohibited
    }
    chain filter_INPUT_ZONES { iifname \"eth9\" goto filter_IN_internal
        goto filter_IN_public
    }
    chain filter_IN_internal { tcp dport 22 accept
        reject with icmpx admin-prohibited
    }
    chain filter_IN_public { jump filter_IN_public_allow
        meta l4proto { icmp, ipv6-icmp } accept
        reject with icmpx admin-prohibited
    }
    chain filter_IN_public_allow { tcp dport 22 accept
        PORTS
    }
    chain filter_FORWARD { type filter hook forward priority filter + 10; policy accept;
        ct state { established, related } accept
        ct status dnat accept
        iifname \"lo\" accept
        ct state invalid drop
        reject with icmpx admin-prohibited
    }
    chain filter_OUTPUT { type filter hook output priority filter + 10; policy accept;
        ct state { established, related } accept
        oifname \"lo\" accept
    }
}";

#[test]
fn beside_firewalld_the_kernel_moves_what_is_translated() {
    let stage = beside(&nft(&FIREWALLD.replace("PORTS", "tcp dport 21 accept")), &Wish { datapath: "auto", ..RELAY });
    quiet(&stage);
    stage.logged(&["event=\"transfer\"", "datapath=\"kernel\""]);
    let stage = beside(&nft(&FIREWALLD.replace("PORTS", "")), &Wish { datapath: "auto", ..RELAY });
    let command = "`firewall-cmd --permanent --add-port=21/tcp && firewall-cmd --reload`";
    stage.logged(&["event=\"firewall_obstacle\"", "inet firewalld filter_INPUT", command]);
    let tproxy = Wish { transparent: Some("tproxy"), datapath: "auto", ..RELAY };
    let stage = beside(&nft(&FIREWALLD.replace("PORTS", "")), &tproxy);
    stage.logged(&["event=\"firewall_obstacle\"", "inet firewalld filter_INPUT", command]);
    // What goes to the same port of the same address is not translated.
    stage.logged(&["event=\"kernel_datapath_obstacle\"", "again whenever firewalld has loaded its own"]);
    let ports = "tcp dport { 21, 10001-10002, 40001-40002 } accept";
    let stage = beside(&nft(&FIREWALLD.replace("PORTS", ports)), &tproxy);
    moves(&stage);
    assert!(!stage.gate().log().contains("firewall_obstacle"), "{}", stage.gate().log());
}

/// What is right is not complained about, nor is what cannot be told.
#[test]
fn nothing_is_said_of_a_firewall_that_is_right() {
    let deployed = |name: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/nftables").join(name);
        let rules = std::fs::read_to_string(path).unwrap();
        let rules = rules.replace("{ 10.0.2.0/24 }", "{ 10.2.0.0/24 }").replace("10001-10005", "10001-10002");
        nft(&rules.replace("20000-20099", "40001-40002"))
    };
    for datapath in ["kernel", "relay"] {
        let wish = Wish { datapath, ..RELAY };
        quiet(&beside(&deployed("reverse.nft"), &wish));
        for transparent in [Some("tproxy"), Some("redirect")] {
            quiet(&beside(&deployed("router.nft"), &Wish { transparent, ..wish }));
        }
    }
    let wish = Wish { datapath: "auto", ..RELAY };
    // fail2ban's, with and without somebody in its set; a rule for some networks only; an interface of any name.
    for rules in [
        "table inet f2b-table {
            set addr-set-ftp { type ipv4_addr; elements = { 192.0.2.7 } }
            chain f2b-chain { type filter hook input priority -1; policy accept;
                tcp dport { 20, 21, 990 } ip saddr @addr-set-ftp reject with icmp port-unreachable
            }
        }",
        "table ip filter { chain INPUT { type filter hook input priority 0; policy drop;
            ct state established,related accept
            ip saddr 10.0.0.0/8 accept
        }
        }",
        "table inet filter { chain input { type filter hook input priority 0; policy drop;
            ct state established accept
            iifname \"lan\" accept
            iifname != \"lo\" tcp dport 1-100 accept
        }
        }",
        "table inet filter { chain input { type filter hook input priority 0; policy drop;
            ct state established accept
            tcp dport vmap { 22 : drop, * : accept }
        }
        }",
        "table inet filter { chain input { type filter hook input priority 0; policy drop;
            ct state established accept
            tcp flags syn / fin,syn,rst,ack limit rate 100/second accept
        }
        }",
    ] {
        quiet(&beside(&nft(rules), &wish));
    }
}

/// Where the kernel cannot lead the data the relay moves it, and then its ports have to be open.
#[test]
fn what_the_relay_needs_in_place_of_the_kernel_is_named() {
    let forward = "table inet wall { chain forward { type filter hook forward priority filter; policy drop;
        ct state established accept
        }
    }";
    let stage = beside(&nft(&format!("{INPUT}\n{forward}")), &Wish { datapath: "auto", ..RELAY });
    let said = stage.logged(&["event=\"firewall_obstacle\"", "tcp dport 21"]);
    assert!(said.contains("tcp dport 10001-10002") && said.contains("tcp dport 40001-40002"), "{said}");
    shell(&stage.net.gate, "nft insert rule inet filter input tcp dport 21 accept");
    let said = stage.logged(&["event=\"kernel_datapath_obstacle\"", "inet wall forward"]);
    shell(&stage.net.gate, said.split('`').nth(3).unwrap());
    stage.logged(&["event=\"kernel_datapath_free\""]);
    stage.logged(&["event=\"firewall_free\""]);
    moves(&stage);
}

/// A firewall that is loaded later is found within seconds, and so is its end.
#[test]
fn a_firewall_that_comes_later_is_named_and_so_is_its_end() {
    let stage = Stage::with(&RELAY);
    load(&stage.net.gate, INPUT);
    stage.logged(&["event=\"firewall_obstacle\"", "inet filter input"]);
    load(&stage.net.gate, "delete table inet filter\n");
    stage.logged(&["event=\"firewall_free\"", "inet filter input"]);
    moves(&stage);
}

/// New rules may need what the old ones did not.
#[test]
fn after_a_reload_new_needs_are_named_at_once() {
    let net = Net::new().unwrap();
    load(&net.gate, INPUT);
    load(&net.gate, "insert rule inet filter input tcp dport { 21, 10001-10002, 40001-40002 } accept\n");
    let stage = Stage::on(net, &RELAY);
    quiet(&stage);
    stage.gate().reload(&Wish { inbound: "10003-10004", ..RELAY }.yaml());
    stage.logged(&["event=\"reloaded\""]);
    stage.logged(&["event=\"firewall_obstacle\"", "`nft insert rule inet filter input tcp dport 10003-10004 accept`"]);
}

/// What another table leads elsewhere before the pinhole does comes to the gate's own socket: that is its peer, and no
/// stranger.
#[test]
fn a_peer_that_is_not_led_is_told_from_a_stranger() {
    let rules = "table ip other { chain before { type nat hook prerouting priority dstnat - 20
        tcp dport 10001-10002 redirect
        }
    }";
    let stage = beside(&nft(rules), &Wish { datapath: "kernel", ..RELAY });
    let (mut client, mut server) = stage.session();
    let (at, _data) = stage.passive(&mut client, &mut server);
    stage.assert_shut(&stage.net.client, stage.client_ip(), at);
    let said = stage.logged(&["event=\"stranger\"", "reason=\"awaited_peer\"", "from=10.1.0.2:"]);
    assert!(said.contains("another table of this machine") && said.contains("WARN"), "{said}");
    stage.assert_shut(&stage.net.client, stage.stranger_ip(), at);
    let said = stage.logged(&["event=\"stranger\"", "from=10.1.0.3:"]);
    assert!(!said.contains("awaited_peer"), "{said}");
}
