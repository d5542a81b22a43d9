//! What `deploy/` holds works: the firewalls with everything else dropped, the unit's user and privileges.

use std::path::Path;

use crate::lab::client::{Client, Visit};
use crate::lab::gate::{Datapath, Gate, Listener, program};
use crate::lab::job::Job;
use crate::lab::net::Net;
use crate::lab::scratch::Scratch;
use crate::lab::server::{Server, USER};
use crate::lab::{Family, Leg, Mode, goods, poll};
use crate::stage::{Stage, Wish, carries, complete, goods as bytes, load};

/// A file of `deploy/`.
fn deployed(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(name)).unwrap()
}

/// The same with the lab's networks and ranges in place of the example's.
fn firewall(name: &str) -> String {
    let mut rules = deployed(name);
    for (example, lab) in [
        ("define servers = { 10.0.2.0/24 }", "define servers = { 10.2.0.0/24 }"),
        ("define inbound = 10001-10005", "define inbound = 10001-10020"),
        ("define outbound = 20000-20099", "define outbound = 40000-40099"),
    ] {
        assert!(rules.contains(example), "{name} has no `{example}`");
        rules = rules.replace(example, lab);
    }
    rules
}

/// curl lists, fetches, stores and deletes at vsftpd, through a gate beside this firewall.
#[track_caller]
fn works_beside(firewall: &str, listener: Listener, datapath: Datapath, mode: Mode, family: Family) {
    let net = Net::new().unwrap();
    load(&net.gate, firewall);
    let server = Server::Vsftpd.start(&net.server, family).unwrap();
    let gate = Gate::start(&net, listener, datapath, family).unwrap();
    let folder = Scratch::new("client").unwrap();
    goods::stock_client(folder.path()).unwrap();
    let visit = Visit {
        server: listener.server_as_seen(family),
        leg: Leg::new(mode, family),
        user: USER,
        folder: folder.path(),
    };
    let visited = Client::Curl.visit(&net.client, &visit);
    let case = format!("{listener} {datapath} {mode} {family}\n{}", gate.log());
    visited.unwrap_or_else(|fault| panic!("{fault}\n{case}"));
    let said = std::fs::read(folder.join("log")).unwrap();
    let found = goods::inspect(&server.home(), folder.path(), &said, Client::Curl.abilities());
    found.unwrap_or_else(|fault| panic!("{fault}\n{case}"));
    assert!(gate.log().contains(&format!("datapath=\"{datapath}\"")), "{case}");
}

#[test]
fn the_firewall_of_a_reverse_gate_lets_it_work() {
    let firewall = firewall("nftables/reverse.nft");
    for datapath in Datapath::ALL {
        works_beside(&firewall, Listener::Reverse, datapath, Mode::Passive, Family::V4);
        works_beside(&firewall, Listener::Reverse, datapath, Mode::Active, Family::V6);
    }
}

#[test]
fn the_firewall_of_a_router_lets_transparent_gates_work() {
    let firewall = firewall("nftables/router.nft");
    for datapath in Datapath::ALL {
        works_beside(&firewall, Listener::Tproxy, datapath, Mode::Passive, Family::V6);
        works_beside(&firewall, Listener::ClientSource, datapath, Mode::Active, Family::V4);
        works_beside(&firewall, Listener::Redirect, datapath, Mode::Passive, Family::V4);
        works_beside(&firewall, Listener::Redirect, datapath, Mode::Active, Family::V6);
    }
}

/// One setting of the unit.
fn unit(key: &str) -> String {
    let unit = deployed("ftpgate.service");
    let line = unit.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    line.unwrap_or_else(|| panic!("the unit has no {key}")).to_owned()
}

/// All lines of one setting of the unit, in words.
fn unit_words(key: &str) -> Vec<String> {
    let unit = deployed("ftpgate.service");
    let lines = unit.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    lines.flat_map(str::split_whitespace).map(str::to_owned).collect()
}

/// Runs the gate as `words` say, with its rules file last, and moves a file through the kernel's datapath. The log has no
/// warning.
#[track_caller]
fn serves_when_started_by(words: &[&str], more: &[&str]) {
    let net = Net::new().unwrap();
    net.close().unwrap();
    let mut stage = Stage::on(net, &Wish::default());
    stage.gate = None;
    let folder = Scratch::new("unit").unwrap();
    let (file, log) = (folder.join("rules.yaml"), folder.join("log"));
    std::fs::write(&file, Wish::default().yaml()).unwrap();
    let copy = folder.join("ftpgate");
    std::fs::copy(program(), &copy).unwrap();
    let words = [words, &[copy.to_str().unwrap(), "run", file.to_str().unwrap()], more].concat();
    let job = Job::start(&stage.net.gate, &log, &words, |_| ()).unwrap();
    let read = || std::fs::read_to_string(&log).unwrap_or_default();
    let logged = |event: &str| {
        let found = || read().contains(&format!("event=\"{event}\"")).then_some(());
        poll(std::time::Duration::from_secs(10), found).unwrap_or_else(|| panic!("{}", read()));
    };
    logged("ready");
    let status = std::fs::read_to_string(format!("/proc/{}/status", job.process().unwrap())).unwrap();
    let uid = status.lines().find_map(|line| line.strip_prefix("Uid:")).unwrap();
    assert!(uid.split_whitespace().all(|uid| uid == "65534"), "{uid}");
    let (mut client, mut server) = stage.session();
    let (ours, theirs) = stage.transfer(&mut client, &mut server, "RETR file");
    carries(theirs, ours, &bytes(100_000));
    complete(&mut client, &mut server);
    job.signal(rustix::process::Signal::HUP).unwrap();
    logged("reloaded");
    assert!(read().contains("datapath=\"kernel\"") && !read().contains("WARN"), "{}", read());
}

/// As another user, with the unit's capabilities and no others, on the kernel's datapath and a port under 1024.
#[test]
fn the_units_capabilities_are_enough() {
    assert_eq!(unit("AmbientCapabilities"), unit("CapabilityBoundingSet"));
    let words = unit("AmbientCapabilities").to_lowercase().replace("cap_", "+").replace(' ', ",");
    let bounded = format!("-all,{words}");
    let words = [
        &["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "--inh-caps", &words],
        &["--ambient-caps", &words, "--bounding-set", &bounded, "--no-new-privs", "--"][..],
    ]
    .concat();
    serves_when_started_by(&words, &[]);
}

/// The same without a unit: started as root, it becomes another user itself.
#[test]
fn a_gate_that_gave_up_root_has_the_kernels_datapath_and_low_ports() {
    serves_when_started_by(&[], &["--user", "65534:65534"]);
}

/// A setting of the unit that keeps the gate from protecting itself further would be a warning in its log.
#[test]
fn the_unit_lets_the_gate_restrict_itself() {
    let calls = unit_words("SystemCallFilter");
    for call in ["capset", "seccomp", "landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self"] {
        assert!(calls.iter().any(|allowed| allowed == call), "{call}");
    }
    for (key, value) in [("LimitCORE", "0"), ("WatchdogSec", "30"), ("Type", "notify"), ("Restart", "on-failure")] {
        assert_eq!(unit(key), value);
    }
    // Fewer than five starts in ten seconds, or systemd gives up for good.
    assert!(unit("RestartSec").parse::<u32>().unwrap() * 5 > 10);
}

/// Started as root, it keeps two capabilities in every thread, and no program that it started could have more.
#[test]
fn what_is_not_needed_is_given_up() {
    let stage = Stage::new();
    let process = format!("/proc/{}/task", stage.gate().process());
    let mut threads = 0;
    for thread in std::fs::read_dir(process).unwrap() {
        let status = std::fs::read_to_string(thread.unwrap().path().join("status")).unwrap();
        let value = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
            line.unwrap_or_else(|| panic!("no {key}")).trim().to_owned()
        };
        // CAP_NET_BIND_SERVICE is 10, CAP_NET_ADMIN 12.
        for set in ["CapPrm", "CapEff", "CapBnd"] {
            assert_eq!(u64::from_str_radix(&value(set), 16).unwrap(), 1 << 10 | 1 << 12, "{set}");
        }
        for set in ["CapInh", "CapAmb"] {
            assert_eq!(u64::from_str_radix(&value(set), 16).unwrap(), 0, "{set}");
        }
        assert_eq!(value("NoNewPrivs"), "1");
        assert_eq!(value("Seccomp"), "2");
        threads += 1;
    }
    assert!(threads > 1);
}
