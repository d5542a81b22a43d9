//! Beside other firewalls, without privilege, without forwarding: what `run` says, and who moves the data then.

use std::process::Command;
use std::time::Duration;

use crate::lab::Family;
use crate::lab::gate::{Gate, program};
use crate::lab::job::Job;
use crate::lab::net::{Net, PATH};
use crate::lab::scratch::Scratch;
use crate::stage::*;

const AUTO: Wish = Wish { datapath: "auto", closed: false, ..WISH };

/// A transfer works, and goes this way.
#[track_caller]
fn goes(stage: &Stage, words: &[&str]) {
    let (mut client, mut server) = stage.session();
    let (ours, theirs) = stage.transfer(&mut client, &mut server, "RETR file");
    carries(theirs, ours, &goods(10_000));
    complete(&mut client, &mut server);
    stage.logged(&[&["event=\"transfer\"", "bytes=10000"], words].concat());
}

#[test]
fn auto_takes_the_kernel_where_it_can() {
    let stage = Stage::with(&AUTO);
    stage.logged(&["event=\"kernel_datapath\"", "table=\"ftpgate-"]);
    goes(&stage, &["datapath=\"kernel\""]);
    assert!(!stage.gate().log().contains("WARN"), "{}", stage.gate().log());
}

#[test]
fn without_forwarding_the_relay_moves_the_data() {
    let net = Net::new().unwrap();
    net.gate.sysctl(&[("net/ipv4/ip_forward", "0")]).unwrap();
    let stage = Stage::on(net, &AUTO);
    stage.logged(&["event=\"kernel_datapath_obstacle\"", "net.ipv4.ip_forward=1"]);
    goes(&stage, &["datapath=\"relay\"", "why=\"forwarding_off\""]);
    stage.net.gate.sysctl(&[("net/ipv4/ip_forward", "1")]).unwrap();
    goes(&stage, &["datapath=\"kernel\""]);
}

#[test]
fn a_family_that_nobody_uses_need_not_be_forwarded() {
    for (family, unused) in [(Family::V4, "net/ipv6/conf/all/forwarding"), (Family::V6, "net/ipv4/ip_forward")] {
        let net = Net::new().unwrap();
        net.gate.sysctl(&[(unused, "0")]).unwrap();
        let stage = Stage::on(net, &Wish { family, ..AUTO });
        goes(&stage, &["datapath=\"kernel\""]);
        assert!(!stage.gate().log().contains("WARN"), "{}", stage.gate().log());
    }
}

/// The chains that Docker and `ufw` leave behind, in the words in which `iptables-nft` writes them.
const IPTABLES: &str = "table ip filter {
chain DOCKER-USER { counter return; }
chain DOCKER { }
chain FORWARD {
  type filter hook forward priority filter; policy drop;
  counter jump DOCKER-USER
  oifname \"docker0\" ct state related,established counter accept
  oifname \"docker0\" counter jump DOCKER
  iifname \"docker0\" counter accept
}
}
table ip nat {
chain POSTROUTING { type nat hook postrouting priority srcnat; ip saddr 172.17.0.0/16 oifname != \"docker0\" masquerade; }
chain PREROUTING { type nat hook prerouting priority dstnat; fib daddr type local counter jump DOCKER; }
chain DOCKER { tcp dport 8080 dnat to 172.17.0.2:80; }
}
";

#[test]
fn beside_a_chain_that_drops_the_relay_moves_the_data_until_it_accepts() {
    let net = Net::new().unwrap();
    load(&net.gate, IPTABLES);
    let stage = Stage::on(net, &AUTO);
    let said = stage.logged(&["event=\"kernel_datapath_obstacle\"", "ip filter FORWARD"]);
    goes(&stage, &["datapath=\"relay\"", "why=\"firewall\""]);

    // What the gate says to do is done, word for word.
    let advice = said.split('`').find(|part| part.contains("-I DOCKER-USER")).unwrap();
    shell(&stage.net.gate, advice);
    stage.logged(&["event=\"kernel_datapath_free\""]);
    goes(&stage, &["datapath=\"kernel\""]);
}

#[test]
fn docker_user_is_a_place_to_accept() {
    let net = Net::new().unwrap();
    load(&net.gate, IPTABLES);
    load(&net.gate, "insert rule ip filter DOCKER-USER ct mark and 0xffe0 == 0x2140 accept\n");
    let stage = Stage::on(net, &AUTO);
    goes(&stage, &["datapath=\"kernel\""]);
    assert!(!stage.gate().log().contains("obstacle"), "{}", stage.gate().log());
}

#[test]
fn a_chain_that_ends_in_a_drop_is_closed_too() {
    let net = Net::new().unwrap();
    load(
        &net.gate,
        "table inet wall { chain forward { type filter hook forward priority 0; ct state established accept; \
         counter reject with icmpx admin-prohibited;\n}\n}\n",
    );
    let stage = Stage::on(net, &AUTO);
    stage.logged(&["event=\"kernel_datapath_obstacle\"", "inet wall forward"]);
    goes(&stage, &["datapath=\"relay\"", "why=\"firewall\""]);
}

#[test]
fn a_rule_that_insists_on_the_kernel_is_refused_what_cannot_be() {
    let net = Net::new().unwrap();
    net.gate.sysctl(&[("net/ipv4/ip_forward", "0")]).unwrap();
    let stage = Stage::on(net, &Wish::default());
    let (mut client, mut server) = stage.session();
    client.say("EPSV");
    server.expect("EPSV");
    server.say("229 Here (|||45678|)");
    client.expect_code("425");
    stage.logged(&["event=\"refused\"", "reason=\"not_by_kernel\""]);
}

/// Runs the gate without CAP_NET_ADMIN until it has ended or said `word`; what it wrote.
fn without_privilege(net: &Net, yaml: &str, word: &str) -> String {
    let folder = Scratch::new("unprivileged").unwrap();
    let (file, log) = (folder.join("rules.yaml"), folder.join("log"));
    std::fs::write(&file, yaml).unwrap();
    let program = program();
    let words =
        ["setpriv", "--bounding-set", "-net_admin", "--inh-caps", "-net_admin", "--", program.to_str().unwrap()];
    let words: Vec<&str> = words.into_iter().chain(["run", file.to_str().unwrap()]).collect();
    let mut job = Job::start(&net.gate, &log, &words, |_| ()).unwrap();
    let read = || std::fs::read_to_string(&log).unwrap_or_default();
    crate::lab::poll(Duration::from_secs(10), || (read().contains(word) || job.has_ended()).then_some(()));
    read()
}

#[test]
fn without_the_privilege_auto_is_the_relay_and_kernel_does_not_start() {
    let net = Net::new().unwrap();
    let said = without_privilege(&net, &AUTO.yaml(), "event=\"ready\"");
    assert_eq!(said.matches("event=\"no_kernel_datapath\"").count(), 1, "{said}");
    assert!(said.contains("CAP_NET_ADMIN") && said.contains("event=\"ready\""), "{said}");
    let said = without_privilege(&net, &Wish::default().yaml(), "event=\"ready\"");
    assert!(said.contains("cannot start: rule `tested` has `datapath: kernel`"), "{said}");
    assert!(said.contains("CAP_NET_ADMIN") && !said.contains("event=\"ready\""), "{said}");
}

#[test]
fn a_conntrack_that_tells_nothing_is_named() {
    let net = Net::new().unwrap();
    net.gate.sysctl(&[("net/netfilter/nf_conntrack_events", "0")]).unwrap();
    let failed = Gate::start_with(&net, &Wish::default().yaml(), 21).err().unwrap().to_string();
    assert!(failed.contains("sysctl -w net.netfilter.nf_conntrack_events=1"), "{failed}");
}

/// The table reads as nftables' own words, so that an operator can look at it.
#[test]
fn the_table_can_be_read() {
    let stage = Stage::with(&AUTO);
    let (mut client, mut server) = stage.session();
    let (_at, _data) = stage.passive(&mut client, &mut server);
    let listed = stage.nft("list ruleset");
    for words in ["map pinholes4", "dnat", "snat", "ct mark", "flags owner", "10.1.0.2 . 10.1.0.1"] {
        assert!(listed.contains(words), "no `{words}`:\n{listed}");
    }
    for arguments in [&["list", "ruleset"][..], &["list", "tables"], &["-j", "list", "ruleset"]] {
        let mut nft = Command::new("nft");
        nft.args(arguments).env("PATH", PATH);
        let listed = stage.net.gate.run(move || nft.output()).unwrap();
        let complaints = String::from_utf8_lossy(&listed.stderr);
        assert!(listed.status.success() && complaints.is_empty(), "{arguments:?}: {complaints}");
    }
}

#[test]
fn with_limits_on_bytes_the_relay_moves_the_data() {
    let stage = Stage::with(&Wish { rule: "    limits: { download: 100MiB/s }\n", ..AUTO });
    goes(&stage, &["datapath=\"relay\"", "why=\"limited\""]);
}

#[test]
fn with_other_limits_the_kernel_does() {
    let rule = "    limits: { sessions: 5, commands_per_second: 50, failed_logins: 3, idle_timeout: 5min }\n";
    let stage = Stage::with(&Wish { rule, ..AUTO });
    goes(&stage, &["datapath=\"kernel\""]);
}
