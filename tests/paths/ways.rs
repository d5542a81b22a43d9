//! Ways that differ from the usual: a VLAN, answers that come back over another link, a router or a box in front that
//! translates.

use std::net::IpAddr;

use crate::lab::gate::Datapath;
use crate::lab::host::Host;
use crate::lab::net::Net;
use crate::lab::{Family, Fault, Mode};
use crate::router::{Router, rules};
use crate::stage::load;

const TPROXY: &str = "    transparent: tproxy\n";
const REDIRECT: &str = "    transparent: redirect\n";
const CLIENT: &str = "    transparent: tproxy\n    source: client\n";
const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

/// Both modes work without a gate, and with one of each kind and datapath.
#[track_caller]
fn works(net: impl Fn() -> Net) {
    for family in FAMILIES {
        transfers(&Router::on(net(), family, None));
        for datapath in Datapath::ALL {
            for listener in [TPROXY, REDIRECT, CLIENT] {
                let router = Router::on(net(), family, Some(&rules(listener, datapath, family, "")));
                transfers(&router);
                let log = router.log();
                assert_eq!(log.matches(&format!("datapath=\"{datapath}\"")).count(), 3, "{listener}{log}");
                assert!(!log.contains(" WARN "), "{listener}{log}");
            }
        }
    }
}

#[track_caller]
fn transfers(router: &Router) {
    let mut session = router.session();
    for mode in [Mode::Passive, Mode::Active, Mode::Passive] {
        router.transfer(&mut session, mode);
    }
    session.client.say("QUIT");
    session.server.expect("QUIT");
    session.server.say("221 Bye");
    drop(session.server);
    session.client.expect("221 Bye");
    if router.gate.is_some() {
        router.logged(&["event=\"session_ended\"", "transfers=3"]);
    }
}

/// A cable more from the gate's machine, from its `port` to the host's `eth1`: `10.N.0.1` and `10.N.0.2`.
fn second_cable(net: &Net, port: &str, host: &Host, number: u8) {
    let peer = host.namespace().display();
    net.gate
        .ip(&format!(
            "link add {port} type veth peer name eth1 netns {peer}\nlink set {port} addrgenmode none up\n\
             addr add 10.{number}.0.1/24 dev {port}\naddr add 2001:db8:{number}::1/64 dev {port} nodad\n\
             addr add fe80::1/64 dev {port} nodad\n"
        ))
        .unwrap();
    host.ip(&format!(
        "link set eth1 addrgenmode none up\naddr add 10.{number}.0.2/24 dev eth1\n\
         addr add 2001:db8:{number}::2/64 dev eth1 nodad\naddr add fe80::2/64 dev eth1 nodad\n"
    ))
    .unwrap();
    host.sysctl(&[("net/ipv4/conf/all/rp_filter", "0"), ("net/ipv4/conf/eth1/rp_filter", "0")]).unwrap();
    host.sysctl(&[("net/ipv4/conf/eth0/rp_filter", "0")]).unwrap();
    let name: &'static str =
        if port == "wan2" { "net/ipv4/conf/wan2/rp_filter" } else { "net/ipv4/conf/lan2/rp_filter" };
    net.gate.sysctl(&[(name, "0")]).unwrap();
}

/// The client's cable has another interface on top of it at the ends that are named: how it is made, and its name.
fn stacked(ends: &[(&str, &'static str)], name: &str) -> Result<Net, Fault> {
    let net = Net::new()?;
    for (port, made) in ends {
        let (host, number) = if *port == "eth0" { (&net.client, 2) } else { (&net.gate, 1) };
        host.ip(&format!(
            "addr flush dev {port}\nlink set {port} addrgenmode none up\n{made}\nlink set {name} addrgenmode none up\n\
             addr add 10.1.0.{number}/24 dev {name}\naddr add 2001:db8:1::{number}/64 dev {name} nodad\n\
             addr add fe80::{number}/64 dev {name} nodad\n"
        ))?;
    }
    net.client.ip("route replace 10.2.0.0/24 via 10.1.0.1\nroute replace 2001:db8:2::/64 via 2001:db8:1::1\n")?;
    Ok(net)
}

#[test]
fn clients_on_a_vlan() {
    let ends = [
        ("eth0", "link add link eth0 name tagged type vlan id 100"),
        ("lan", "link add link lan name tagged type vlan id 100"),
    ];
    match stacked(&ends, "tagged") {
        Err(fault) if fault.to_string().contains("Unknown device type") => {
            println!("left out: this kernel has no VLANs (CONFIG_VLAN_8021Q)");
        }
        _ => works(|| stacked(&ends, "tagged").unwrap()),
    }
}

/// Without the hooks that have a bridge's packets pass the rules of routed ones first (`bridge-nf-call-iptables`).
#[test]
fn clients_on_a_bridge() {
    works(|| {
        let made = "link add bridge type bridge\nlink set lan master bridge";
        let net = stacked(&[("lan", made)], "bridge").unwrap();
        if std::path::Path::new("/proc/sys/net/bridge").exists() {
            net.gate
                .sysctl(&[("net/bridge/bridge-nf-call-iptables", "0"), ("net/bridge/bridge-nf-call-ip6tables", "0")])
                .unwrap();
        }
        net
    });
}

/// What the server sends comes over its second uplink; what it is sent, over the first.
#[test]
fn a_server_that_answers_over_another_uplink() {
    works(|| {
        let net = Net::new().unwrap();
        second_cable(&net, "wan2", &net.server, 3);
        net.server
            .ip(
                "route replace 10.1.0.0/24 via 10.3.0.1 src 10.2.0.2\nroute add 10.2.0.1/32 via 10.3.0.1 src 10.2.0.2\n\
                 route replace 2001:db8:1::/64 via 2001:db8:3::1 src 2001:db8:2::2\n\
                 route add 2001:db8:2::1/128 via 2001:db8:3::1 src 2001:db8:2::2\n",
            )
            .unwrap();
        net
    });
}

/// What the client is sent comes over a second link; what it sends, over the first.
#[test]
fn a_client_that_is_answered_over_another_link() {
    works(|| {
        let net = Net::new().unwrap();
        second_cable(&net, "lan2", &net.client, 4);
        net.gate.ip("route add 10.1.0.2/32 via 10.4.0.2\nroute add 2001:db8:1::2/128 via 2001:db8:4::2\n").unwrap();
        net
    });
}

/// A router between the clients and the gate gives them all its own address, as at home.
#[test]
fn clients_behind_a_masquerading_router() {
    for family in FAMILIES {
        for listener in [None, Some(TPROXY), Some(REDIRECT), Some(CLIENT)] {
            for datapath in Datapath::ALL {
                let net = Net::new().unwrap();
                let home = behind_a_router(&net, family);
                let rules = listener.map(|listener| rules(listener, datapath, family, ""));
                let router = Router::on(net, family, rules.as_deref()).with_client(home);
                let mut session = router.session();
                router.transfer(&mut session, Mode::Passive);
                let Some(listener) = listener else { continue };
                // Its router has translated what the client says of itself nowhere: that is a foreign address.
                session.client.say(&match family {
                    Family::V4 => "EPRT |1|10.9.0.2|5001|".to_owned(),
                    Family::V6 => "EPRT |2|2001:db8:9::2|5001|".to_owned(),
                });
                session.client.expect_code("504");
                router.logged(&["event=\"refused\"", "reason=\"foreign_address\"", "NAT"]);
                router.transfer(&mut session, Mode::Passive);
                assert_eq!(
                    router.log().matches(&format!("datapath=\"{datapath}\"")).count(),
                    2,
                    "{listener}{}",
                    router.log()
                );
            }
        }
    }
}

/// The client of the lab becomes a router for another host, which has one of its addresses on the way out.
pub fn behind_a_router(net: &Net, family: Family) -> (Host, IpAddr) {
    let home = Host::new("home").unwrap();
    let peer = home.namespace().display();
    net.client
        .ip(&format!(
            "link add home type veth peer name eth0 netns {peer}\nlink set home addrgenmode none up\n\
             addr add 10.9.0.1/24 dev home\naddr add 2001:db8:9::1/64 dev home nodad\naddr add fe80::1/64 dev home nodad\n"
        ))
        .unwrap();
    home.ip(
        "link set eth0 addrgenmode none up\naddr add 10.9.0.2/24 dev eth0\naddr add 2001:db8:9::2/64 dev eth0 nodad\n\
         addr add fe80::2/64 dev eth0 nodad\nroute add default via 10.9.0.1\nroute add default via 2001:db8:9::1\n",
    )
    .unwrap();
    net.client.sysctl(&[("net/ipv4/ip_forward", "1"), ("net/ipv6/conf/all/forwarding", "1")]).unwrap();
    load(
        &net.client,
        "table inet home {\nchain post {\ntype nat hook postrouting priority srcnat; oifname \"eth0\" masquerade;\n}\n}\n",
    );
    let ip = match family {
        Family::V4 => [10, 9, 0, 2].into(),
        Family::V6 => [0x2001, 0xdb8, 9, 0, 0, 0, 0, 2].into(),
    };
    (home, ip)
}
