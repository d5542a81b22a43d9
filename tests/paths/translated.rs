//! Source NAT on the gate's own machine, behind the gate: the server is told the address that it sees.

use std::net::IpAddr;

use crate::lab::gate::Datapath;
use crate::lab::net::Net;
use crate::lab::{Family, Mode};
use crate::router::{Router, rules};
use crate::stage::{dial, load};

const CLIENT: &str = "    transparent: tproxy\n    source: client\n";
const REDIRECTED_CLIENT: &str = "    transparent: redirect\n    source: client\n";
const GATE: &str = "    transparent: tproxy\n";

/// Each datapath with each family.
const CELLS: [(Datapath, Family); 4] = [
    (Datapath::Relay, Family::V4),
    (Datapath::Kernel, Family::V4),
    (Datapath::Relay, Family::V6),
    (Datapath::Kernel, Family::V6),
];

/// Three machines; connections that leave the gate's machine towards the server are translated so.
fn translating(to: &str) -> Net {
    let net = Net::new().unwrap();
    let chain = "type nat hook postrouting priority srcnat; oifname \"wan\" counter";
    load(&net.gate, &format!("table inet uplink {{\nchain post {{ {chain} {to}; }}\n}}\n"));
    net
}

/// An address in the server's network.
fn beside_the_server(family: Family, host: u8) -> IpAddr {
    match family {
        Family::V4 => [10, 2, 0, host].into(),
        Family::V6 => [0x2001, 0xdb8, 2, 0, 0, 0, 0, u16::from(host)].into(),
    }
}

/// An address that is nobody's, and that the server finds at the gate.
fn pool(net: &Net, family: Family) -> IpAddr {
    let (ip, gate) = (beside_the_server(family, 77), beside_the_server(family, 1));
    net.server.ip(&format!("route add {ip} via {gate}\n")).unwrap();
    ip
}

fn snat(to: IpAddr) -> String {
    format!("snat {} to {to}", if to.is_ipv4() { "ip" } else { "ip6" })
}

/// Every kind of transfer works, and the server sees `seen` alone.
#[track_caller]
fn works(router: &Router, datapath: Datapath, seen: IpAddr) {
    let mut session = router.session();
    assert_eq!(session.server.stream.peer_addr().unwrap().ip(), seen);
    for mode in [Mode::Active, Mode::Passive, Mode::Active] {
        router.transfer(&mut session, mode);
    }
    session.client.say("QUIT");
    session.server.expect("QUIT");
    session.server.say("221 Bye");
    drop(session.server);
    session.client.expect("221 Bye");
    router.logged(&["event=\"session_ended\"", "transfers=3"]);
    let log = router.log();
    let by = log.lines().filter(|line| line.contains("event=\"transfer\"") && line.contains(&datapath.to_string()));
    assert_eq!(by.count(), 3, "{log}");
    assert!(!log.contains(" WARN "), "{log}");
}

/// Without the gate: a connection to the server works, and its data connections in passive mode.
#[track_caller]
fn works_direct(net: Net, family: Family, seen: IpAddr) {
    let router = Router::on(net, family, None);
    let mut session = router.session();
    assert_eq!(session.server.stream.peer_addr().unwrap().ip(), seen);
    router.transfer(&mut session, Mode::Passive);
}

#[test]
fn a_masqueraded_client_works() {
    for (datapath, family) in CELLS {
        let seen = beside_the_server(family, 1);
        works_direct(translating("masquerade"), family, seen);
        for listener in [CLIENT, REDIRECTED_CLIENT] {
            let rules = rules(listener, datapath, family, "");
            works(&Router::on(translating("masquerade"), family, Some(&rules)), datapath, seen);
        }
    }
}

#[test]
fn a_client_that_is_given_an_address_of_nobody_s_works() {
    for (datapath, family) in CELLS {
        let net = || {
            let net = translating(&snat(beside_the_server(family, 77)));
            pool(&net, family);
            net
        };
        let seen = beside_the_server(family, 77);
        works_direct(net(), family, seen);
        works(&Router::on(net(), family, Some(&rules(CLIENT, datapath, family, ""))), datapath, seen);
    }
}

#[test]
fn the_gate_is_translated_into_another_of_its_addresses() {
    for (datapath, family) in CELLS {
        let seen = beside_the_server(family, 9);
        let net = || {
            let net = translating(&snat(seen));
            let rest = if seen.is_ipv4() { "/32 dev wan" } else { "/128 dev wan nodad" };
            net.gate.ip(&format!("addr add {seen}{rest}\n")).unwrap();
            net
        };
        works_direct(net(), family, seen);
        works(&Router::on(net(), family, Some(&rules(GATE, datapath, family, ""))), datapath, seen);
    }
}

#[test]
fn the_gate_is_translated_into_an_address_that_it_does_not_have() {
    let family = Family::V4;
    let net = translating(&snat(beside_the_server(family, 77)));
    pool(&net, family);
    let router = Router::on(net, family, Some(&rules(GATE, Datapath::Relay, family, "")));
    let mut session = router.session();
    router.transfer(&mut session, Mode::Passive);
    router.logged(&["WARN", "event=\"source_translated\"", "from=10.2.0.1", "to=10.2.0.77", "server_mode: passive"]);
    let _second = router.session();
    assert_eq!(router.log().matches("source_translated").count(), 1, "{}", router.log());
}

#[test]
fn a_server_that_answers_elsewhere_is_told_from_one_that_is_down() {
    for family in [Family::V4, Family::V6] {
        let net = Net::new().unwrap();
        let client = Net::client_address(family);
        net.server.ip(&format!("route add blackhole {client}\n")).unwrap();
        let router = Router::on(net, family, Some(&rules(CLIENT, Datapath::Relay, family, "")));
        turned_away(&router);
        let advice = format!("the server's route to {client} must lead through this machine");
        router.logged(&["WARN", "event=\"server_unreachable\"", "reason=\"server_unreachable\"", &advice]);

        // With the gate's own address it is the server that may be down.
        let net = Net::new().unwrap();
        let gate = beside_the_server(family, 1);
        net.server.ip(&format!("route add blackhole {gate}\n")).unwrap();
        let router = Router::on(net, family, Some(&rules(GATE, Datapath::Relay, family, "")));
        turned_away(&router);
        router.logged(&["event=\"server_unreachable\"", "advice=\"is the server up, and is there a route to it?\""]);
    }
}

#[test]
fn an_answer_that_does_not_reach_the_gate_is_told_from_one_that_went_elsewhere() {
    for family in [Family::V4, Family::V6] {
        let net = Net::new().unwrap();
        load(
            &net.gate,
            "table inet strict {\nchain pre {\ntype filter hook prerouting priority mangle + 10;\n\
             iifname wan meta mark 0x2121 ct state established drop\n}\n}\n",
        );
        let router = Router::on(net, family, Some(&rules(CLIENT, Datapath::Relay, family, "")));
        turned_away(&router);
        router.logged(&["event=\"server_unreachable\"", "came to this machine and was not handed to the gate"]);
    }
}

/// The client hears that the server cannot be reached.
#[track_caller]
fn turned_away(router: &Router) {
    let client =
        dial(&router.net.client, router.client_ip(), 0, (router.server_ip(), 21).into(), crate::stage::PATIENCE);
    crate::talk::Talk::new(client.unwrap()).expect_code("421");
}

/// With CAP_NET_RAW alone the gate may have clients' addresses, and may not ask who translates them.
#[test]
fn a_gate_that_cannot_ask_conntrack_says_so_once() {
    let net = translating("masquerade");
    let only_raw = ["setpriv", "--bounding-set", "-net_admin", "--inh-caps", "-net_admin", "--"];
    let router = Router::started_by(net, Family::V4, &rules(CLIENT, Datapath::Relay, Family::V4, ""), &only_raw);
    let mut session = router.session();
    router.transfer(&mut session, Mode::Passive);
    let said = router.logged(&["WARN", "event=\"translation_unknown\"", "run with CAP_NET_ADMIN"]);
    assert!(said.contains("listener=\"router\""), "{said}");
    assert_eq!(router.log().matches("translation_unknown").count(), 1, "{}", router.log());
}
