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
fn with_helper(family: Family, transparent: Option<&'static str>, listener: &'static str) -> Stage {
    let stage = Stage::with(&Wish { family, transparent, listener, closed: false, ..WISH });
    load(&stage.net.gate, HELPER);
    stage
}

#[test]
fn a_helper_takes_no_connection_from_its_pinhole() {
    for family in [Family::V4, Family::V6] {
        for (transparent, listener) in [(None, ""), (Some("tproxy"), ""), (Some("tproxy"), "    source: client\n")] {
            let stage = with_helper(family, transparent, listener);
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

const AUTO: Wish = Wish { datapath: "auto", closed: false, ..WISH };

/// Starts a gate beside these rules; the command that its log has for what is in the way.
#[track_caller]
fn told(rules: &str, transparent: Option<&'static str>) -> (Stage, String) {
    let net = Net::new().unwrap();
    shell(&net.gate, rules);
    let stage = Stage::on(net, &Wish { transparent, ..AUTO });
    let said = stage.logged(&["event=\"kernel_datapath_obstacle\""]);
    let command = said.split('`').nth(3).unwrap().to_owned();
    (stage, command)
}

/// A file each way arrives, by this datapath.
#[track_caller]
fn goes(stage: &Stage, words: &[&str]) {
    let (mut client, mut server) = stage.session();
    let (ours, theirs) = stage.transfer(&mut client, &mut server, "RETR file");
    carries(theirs, ours, &goods(10_000));
    complete(&mut client, &mut server);
    stage.logged(&[&["event=\"transfer\"", "RETR file"], words].concat());
    let (at, data) = stage.active(&mut client, &mut server);
    let theirs = stage.dial_back(at).unwrap();
    begin(&mut client, &mut server, "STOR file");
    carries(accept(&data), theirs, &goods(10_000));
    complete(&mut client, &mut server);
    stage.logged(&[&["event=\"transfer\"", "STOR file"], words].concat());
}

fn nft(rules: &str) -> String {
    format!("nft -f - <<'EOF'\n{rules}EOF\n")
}

/// What the gate says to do is done, word for word, and the kernel moves the data.
#[track_caller]
fn is_mended(stage: &Stage, command: &str) {
    shell(&stage.net.gate, command);
    stage.logged(&["event=\"kernel_datapath_free\""]);
    goes(stage, &["datapath=\"kernel\""]);
}

#[test]
fn beside_a_helper_the_relay_moves_the_data() {
    for transparent in [None, Some("tproxy"), Some("redirect")] {
        let rules = nft(&HELPER.replace("firewalld", "mine").replace("filter + 10", "mangle"));
        let (stage, command) = told(&rules, transparent);
        assert!(command.starts_with("nft delete rule inet mine filter_PRE_public_allow handle "), "{command}");
        goes(&stage, &["datapath=\"relay\"", "why=\"conntrack_helper\""]);
        is_mended(&stage, &command);
    }
}

#[test]
fn a_helper_of_firewalld_or_iptables_is_named_in_their_words() {
    let (stage, command) = told(&nft(HELPER), None);
    assert_eq!(
        command,
        "firewall-cmd --permanent --zone=public --remove-service=ftp --add-port=21/tcp && firewall-cmd --reload"
    );
    drop(stage);
    let rules = "iptables -t raw -A PREROUTING -p tcp --dport 80 -j CT --notrack
        iptables -t raw -A PREROUTING -p tcp --dport 21 -j CT --helper ftp";
    let (stage, command) = told(rules, None);
    assert_eq!(command, "iptables -t raw -D PREROUTING 2");
    goes(&stage, &["datapath=\"relay\"", "why=\"conntrack_helper\""]);
    is_mended(&stage, &command);
}

#[test]
fn where_data_is_not_tracked_the_relay_moves_it() {
    let table = "table inet fast {
        set fast { type inet_service; flags interval; elements = { 80, 10000-10100, 443 } }
        chain untracked { notrack; }
        chain prerouting { type filter hook prerouting priority raw; tcp dport @fast jump untracked; }
    }\n";
    let (stage, command) = told(&nft(table), None);
    assert!(command.starts_with("nft delete rule inet fast untracked handle "), "{command}");
    goes(&stage, &["datapath=\"relay\"", "why=\"firewall\""]);
    is_mended(&stage, &command);
    let (stage, command) =
        told("iptables -t raw -A PREROUTING -p tcp -m multiport --dports 1,10002 -j CT --notrack", None);
    assert_eq!(command, "iptables -t raw -D PREROUTING 1");
    goes(&stage, &["datapath=\"relay\"", "why=\"firewall\""]);
    is_mended(&stage, &command);
}

/// Rules for other ports and protocols, and helpers for others, are nobody's business here.
#[test]
fn what_concerns_others_is_no_obstacle() {
    let net = Net::new().unwrap();
    let table = "table inet fast {
        ct helper tftp { type \"tftp\" protocol udp; }
        ct helper ftp { type \"ftp\" protocol tcp; }
        chain dns { notrack; }
        chain prerouting { type filter hook prerouting priority -150; udp dport 53 jump dns
            tcp dport { 80, 443 } notrack
            tcp dport vmap { 80 : jump dns, 8000-9000 : jump dns }
            iifname \"lo\" notrack
            udp dport 69 ct helper set \"tftp\"
            tcp dport 2100 ct helper set \"ftp\"
            tcp sport 21 tcp dport 10001 accept
        }
    }\n";
    shell(&net.gate, &nft(table));
    shell(&net.gate, "iptables -t raw -A PREROUTING -p udp --dport 69 -j CT --helper tftp");
    let stage = Stage::on(net, &AUTO);
    goes(&stage, &["datapath=\"kernel\""]);
    assert!(!stage.gate().log().contains("WARN"), "{}", stage.gate().log());
}
