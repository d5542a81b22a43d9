//! Address cases that the matrix of real programs does not have.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::lab::gate::Gate;
use crate::lab::net::Net;
use crate::lab::{Family, poll};
use crate::stage::*;
use crate::talk::Talk;

#[test]
fn a_server_without_a_route_to_the_client_is_served() {
    for family in [Family::V4, Family::V6] {
        let net = Net::new().unwrap();
        net.close().unwrap();
        let route = if family == Family::V4 { "route del 10.1.0.0/24" } else { "-6 route del 2001:db8:1::/64" };
        net.server.ip(&format!("{}\n", route.trim_start_matches("-6 "))).unwrap();
        let stage = Stage::on(net, &Wish { family, ..Wish::default() });
        let (mut client, mut server) = stage.session();
        let (ours, theirs) = stage.transfer(&mut client, &mut server, "RETR file");
        let gate_at_server: IpAddr =
            if family == Family::V4 { "10.2.0.1".parse().unwrap() } else { "2001:db8:2::1".parse().unwrap() };
        assert_eq!(theirs.peer_addr().unwrap().ip(), gate_at_server);
        carries(theirs, ours, &goods(100_000));
        complete(&mut client, &mut server);
        let (at, data) = stage.active(&mut client, &mut server);
        assert_eq!(at.ip(), gate_at_server);
        let theirs = stage.dial_back(at).unwrap();
        begin(&mut client, &mut server, "STOR file");
        let ours = accept(&data);
        assert_eq!(ours.peer_addr().unwrap().ip(), Net::gate_address(family));
        carries(ours, theirs, &goods(100_000));
        complete(&mut client, &mut server);
    }
}

/// Another NAT stands in front: clients are told its address, and their connections arrive at ours.
#[test]
fn an_advertised_address_is_told_and_ours_is_open() {
    let stage = Stage::with(&Wish { listener: "    advertise: \"192.0.2.10\"\n", ..Wish::default() });
    let (mut client, mut server) = stage.session();
    let data = listen(&stage.net.server, SocketAddr::new(stage.server_ip(), 0));
    let [high, low] = data.local_addr().unwrap().port().to_be_bytes();
    client.say("PASV");
    server.expect("PASV");
    server.say(&format!("227 Here (10,2,0,2,{high},{low})"));
    let told = client.expect_code("227").lines.concat();
    let (start, end) = (told.find("192,0,2,10,").unwrap() + 11, told.rfind(')').unwrap());
    let (high, low) = told[start..end].split_once(',').unwrap();
    let port = high.parse::<u16>().unwrap() * 256 + low.parse::<u16>().unwrap();
    let ours = stage.dial(stage.front(port)).unwrap();
    begin(&mut client, &mut server, "RETR file");
    carries(accept(&data), ours, b"through both");
    complete(&mut client, &mut server);
    stage.logged(&["event=\"transfer\"", "datapath=\"kernel\"", "bytes=12"]);
}

/// Neither side hears of the other's family, in either mode.
#[test]
fn families_are_bridged() {
    for (outside, inside) in [(Family::V6, Family::V4), (Family::V4, Family::V6)] {
        let net = Net::new().unwrap();
        net.close().unwrap();
        let front = SocketAddr::new(Net::gate_address(outside), 21);
        let back = SocketAddr::new(Net::server_address(inside), 21);
        let rules = format!(
            "version: 1\nlisteners:\n  - name: front\n    bind: \"{front}\"\n    server: \"{back}\"\nrules:\n  - name: all\n    \
             from: any\n    to: any\n    action: allow\n    inbound: \"10001-10002\"\n    outbound: \"40001-40002\"\n"
        );
        let control = listen(&net.server, back);
        let gate = Gate::start_with(&net, &rules, 21).unwrap();
        let soon = Duration::from_secs(5);
        let from = Net::client_address(outside);
        let mut client = Talk::new(dial(&net.client, from, 0, front, soon).unwrap());
        let mut server = Talk::new(accept(&control));
        server.say("220 Ready");
        client.expect("220 Ready");

        let data = listen(&net.server, SocketAddr::new(back.ip(), 0));
        client.say("EPSV");
        server.expect("EPSV");
        server.say(&format!("229 Here (|||{}|)", data.local_addr().unwrap().port()));
        let told = client.expect_code("229").lines.concat();
        let at = SocketAddr::new(front.ip(), told.split('|').nth(3).unwrap().parse().unwrap());
        let ours = dial(&net.client, from, 0, at, soon).unwrap();
        begin(&mut client, &mut server, "RETR file");
        carries(accept(&data), ours, &goods(100_000));
        complete(&mut client, &mut server);

        let waits = listen(&net.client, SocketAddr::new(from, 0));
        let number = if outside == Family::V4 { 1 } else { 2 };
        client.say(&format!("EPRT |{number}|{from}|{}|", waits.local_addr().unwrap().port()));
        let told = server.line();
        let fields: Vec<&str> = told.split('|').collect();
        assert_eq!(fields[1], if inside == Family::V4 { "1" } else { "2" }, "{told}");
        server.say("200 Fine");
        client.expect("200 Fine");
        let at = SocketAddr::new(fields[2].parse().unwrap(), fields[3].parse().unwrap());
        let theirs = dial(&net.server, back.ip(), 0, at, soon).unwrap();
        begin(&mut client, &mut server, "STOR file");
        carries(accept(&waits), theirs, &goods(100_000));
        complete(&mut client, &mut server);
        let both = || (gate.log().matches("why=\"bridged_family\"").count() == 2).then_some(());
        assert!(poll(soon, both).is_some(), "{}", gate.log());
    }
}
