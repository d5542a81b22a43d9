//! What the log says of a transfer that never came near the process.

use std::io::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use crate::lab::Family;
use crate::stage::*;

#[test]
fn every_byte_is_counted_both_ways() {
    for family in [Family::V4, Family::V6] {
        let stage = Stage::with(&Wish { family, ..Wish::default() });
        let (mut client, mut server) = stage.session();
        for (number, size) in [0, 1, 1459, 1460, 1461, 1_000_000, 20_000_000].into_iter().enumerate() {
            let name = format!("RETR {number}");
            let (ours, theirs) = stage.transfer(&mut client, &mut server, &name);
            carries(theirs, ours, &goods(size));
            complete(&mut client, &mut server);
            stage.logged(&[&name, &format!("bytes={size} "), "outcome=\"ended\"", "datapath=\"kernel\""]);
            let name = format!("STOR {number}");
            let (ours, theirs) = stage.transfer(&mut client, &mut server, &name);
            carries(ours, theirs, &goods(size));
            complete(&mut client, &mut server);
            stage.logged(&[&name, &format!("bytes={size} "), "outcome=\"ended\"", "datapath=\"kernel\""]);
        }
    }
}

#[test]
fn active_transfers_are_counted_too() {
    let stage = Stage::new();
    let (mut client, mut server) = stage.session();
    let (at, data) = stage.active(&mut client, &mut server);
    let theirs = stage.dial_back(at).unwrap();
    begin(&mut client, &mut server, "RETR file");
    carries(theirs, accept(&data), &goods(123_456));
    complete(&mut client, &mut server);
    stage.logged(&["event=\"transfer\"", "way=\"download\"", "mode=\"active\"", "bytes=123456", "outcome=\"ended\""]);
}

#[test]
fn a_cut_transfer_is_estimated() {
    let stage = Stage::new();
    let (mut client, mut server) = stage.session();
    let (mut ours, mut theirs) = stage.transfer(&mut client, &mut server, "RETR file");
    theirs.write_all(&goods(500_000)).unwrap();
    std::io::Read::read_exact(&mut ours, &mut vec![0; 500_000]).unwrap();
    reset(theirs);
    assert_reset(ours);
    server.say("426 Broken");
    client.expect("426 Broken");
    let line = stage.logged(&["event=\"transfer\"", "outcome=\"cut_by_server\"", "estimated=true"]);
    let bytes = line.split("bytes=").nth(1).unwrap().split(' ').next().unwrap();
    let bytes: u64 = bytes.parse().unwrap();
    assert!((490_000..=510_000).contains(&bytes), "{line}");
}

#[test]
fn who_did_not_come_is_named() {
    let stage = Stage::with(&Wish { timeout: "1s", ..Wish::default() });
    let (mut client, mut server) = stage.session();
    let (_, data) = stage.passive(&mut client, &mut server);
    stage.logged(&["event=\"pinhole_expired\"", "missing=client"]);
    drop(data);
    let (_, data) = stage.active(&mut client, &mut server);
    stage.logged(&["event=\"pinhole_expired\"", "missing=server"]);
    drop(data);
}

#[test]
fn a_server_that_refuses_its_own_port_is_named() {
    let stage = Stage::new();
    let (mut client, mut server) = stage.session();
    let at = stage.passive_at(&mut client, &mut server, 45_678);
    assert_eq!(stage.dial(at).unwrap_err(), std::io::ErrorKind::ConnectionRefused);
    stage.logged(&["event=\"data_not_reached\"", "side=server", "refused"]);
    client.say("RETR file");
    client.expect_code("425");
    noop(&mut client, &mut server);
}

#[test]
fn a_client_whose_firewall_is_silent_is_named() {
    let stage = Stage::on(crate::lab::net::Net::new().unwrap(), &Wish::default());
    load(
        &stage.net.client,
        "table inet wall { chain in { type filter hook input priority 0; tcp dport 5678 drop;\n}\n}\n",
    );
    let (mut client, mut server) = stage.session();
    let at = stage.active_at(&mut client, &mut server, SocketAddr::new(stage.client_ip(), 5678));
    let dialled = dial(&stage.net.server, stage.server_ip(), 0, at, Duration::from_secs(14));
    assert!(dialled.is_err());
    stage.logged(&["event=\"data_not_reached\"", "side=client", "timed out"]);
}
