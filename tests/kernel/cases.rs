//! Address cases that the matrix of real programs does not have.

use std::net::{IpAddr, SocketAddr};

use crate::lab::Family;
use crate::lab::net::Net;
use crate::stage::*;

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
