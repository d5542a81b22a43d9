//! Beside conntrack's own FTP helper, and where connections are not tracked: the pinhole decides, or nobody gets in.

use std::net::SocketAddr;
use std::time::Duration;

use crate::lab::Family;
use crate::lab::net::Net;
use crate::stage::*;

/// What firewalld's service `ftp` sets up.
const HELPER: &str = "table inet firewalld {
ct helper helper-ftp-tcp { type \"ftp\" protocol tcp; }
chain filter_PREROUTING { type filter hook prerouting priority filter + 10; policy accept; jump filter_PRE_public_allow; }
chain filter_PRE_public_allow { tcp dport 21 ct helper set \"helper-ftp-tcp\"; }
}
";

/// A gate that has not yet found out about the helper, which its sessions have.
fn with_helper(family: Family, transparent: Option<&'static str>) -> Stage {
    let stage = Stage::with(&Wish { family, transparent, closed: false, ..Wish::default() });
    load(&stage.net.gate, HELPER);
    stage
}

#[test]
fn a_helper_takes_no_connection_from_its_pinhole() {
    for family in [Family::V4, Family::V6] {
        for transparent in [None, Some("tproxy")] {
            let stage = with_helper(family, transparent);
            let (mut client, mut server) = stage.session();
            let (at, data) = stage.passive(&mut client, &mut server);
            let ours = stage.dial(at).unwrap_or_else(|error| panic!("{family} {transparent:?} {error}"));
            let theirs = accept(&data);
            begin(&mut client, &mut server, "RETR file");
            carries(theirs, ours, &goods(10_000));
            complete(&mut client, &mut server);
            let (at, data) = stage.active(&mut client, &mut server);
            let theirs = stage.dial_back(at).unwrap();
            begin(&mut client, &mut server, "STOR file");
            carries(accept(&data), theirs, &goods(10_000));
            complete(&mut client, &mut server);
            stage.logged(&["event=\"transfer\"", "RETR file", "datapath=\"kernel\"", "bytes=10000"]);
            stage.logged(&["event=\"transfer\"", "STOR file", "datapath=\"kernel\"", "bytes=10000"]);
        }
    }
}

/// Where the client's control connection is translated, the helper translates what it expects too, and asks nobody.
#[test]
fn what_a_helper_leads_elsewhere_is_reset() {
    for family in [Family::V4, Family::V6] {
        let stage = Stage::with(&Wish { family, transparent: Some("redirect"), closed: false, ..Wish::default() });
        // As iptables sets one: before the destination is translated.
        load(&stage.net.gate, &HELPER.replace("filter + 10", "mangle"));
        let elsewhere = |port| listen(&stage.net.gate, SocketAddr::new(Net::gate_address(family), port));
        let elsewhere = [10_001, 10_002].map(elsewhere);
        let (mut client, mut server) = stage.session();
        let (at, data) = stage.passive(&mut client, &mut server);
        let refused = stage.dial(at).err();
        assert_eq!(refused, Some(std::io::ErrorKind::ConnectionRefused), "{}", stage.gate().log());
        nobody_came_to(&data);
        elsewhere.iter().for_each(nobody_came_to);
    }
}

/// Loads a rule by which some packets are not tracked.
fn untracked(stage: &Stage, rule: &str) {
    let chain = format!("type filter hook prerouting priority raw; {rule} notrack");
    load(&stage.net.gate, &format!("table inet fast {{ chain prerouting {{ {chain}\n}}\n}}\n"));
}

#[test]
fn what_is_not_tracked_gets_past_no_pinhole() {
    for family in [Family::V4, Family::V6] {
        for transparent in [None, Some("tproxy")] {
            let stage = Stage::with(&Wish { family, transparent, closed: false, ..Wish::default() });
            untracked(&stage, "tcp dport 10001-10002");
            let (mut client, mut server) = stage.session();
            // The port that the client is told is the server's own in transparent mode.
            let data = listen(&stage.net.server, SocketAddr::new(stage.server_ip(), 10_001));
            let at = stage.passive_at(&mut client, &mut server, 10_001);
            stage.assert_shut(&stage.net.client, stage.client_ip(), at);
            stage.assert_shut(&stage.net.client, stage.client_ip(), SocketAddr::new(stage.server_ip(), 10_001));
            std::thread::sleep(Duration::from_millis(100));
            nobody_came_to(&data);
        }
    }
}
