//! Firewalls of other programs on the gate's machine: with what the gate or `deploy/` says, every notation works beside them.
//!
//! A real server and Python's ftplib: first without gate and firewall, then with both.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::lab::Family;
use crate::lab::gate::{Datapath, Gate, Listener};
use crate::lab::net::{Net, PATH};
use crate::lab::scratch::Scratch;
use crate::lab::server::{PASSWORD, Running, Server, USER};
use crate::stage::{nft, sh};

/// As firewalld 2 writes it, with the ports that `deploy/nftables/firewalld.sh` opens in the zones.
const FIREWALLD: &str = "table inet firewalld {
chain mangle_PREROUTING { type filter hook prerouting priority mangle + 10; policy accept; }
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
chain filter_INPUT_ZONES {
  iifname \"lan\" goto filter_IN_internal
  iifname \"wan\" goto filter_IN_external
  reject with icmpx admin-prohibited
}
chain filter_IN_internal {
  tcp dport 22 accept
  tcp dport 21 accept
  tcp dport 10001-10020 accept
  meta l4proto { icmp, ipv6-icmp } accept
}
chain filter_IN_external {
  tcp dport 40000-40099 accept
  meta l4proto { icmp, ipv6-icmp } accept
}
}
";

/// The chains of Docker, as `iptables-nft` writes them for one family.
fn docker(family: &str) -> String {
    format!(
        "table {family} filter {{
chain DOCKER-USER {{ counter return; }}
chain DOCKER {{ }}
chain FORWARD {{ type filter hook forward priority filter; policy drop;
  counter jump DOCKER-USER
  oifname \"docker0\" ct state related,established counter accept
  oifname \"docker0\" counter jump DOCKER
  iifname \"docker0\" counter accept
}}
}}
table {family} nat {{
chain PREROUTING {{ type nat hook prerouting priority dstnat; policy accept; fib daddr type local counter jump DOCKER; }}
chain DOCKER {{ tcp dport 8080 dnat to {to}; }}
}}
",
        to = if family == "ip" { "172.17.0.2:80" } else { "[fd00::2]:80" }
    )
}

/// fail2ban's table, with somebody in it.
const FAIL2BAN: &str = "table inet f2b-table {
set addr-set-vsftpd { type ipv4_addr; elements = { 10.1.0.77 }; }
set addr6-set-vsftpd { type ipv6_addr; elements = { 2001:db8:1::77 }; }
chain f2b-chain { type filter hook input priority filter - 1; policy accept;
  tcp dport { 21 } ip saddr @addr-set-vsftpd reject with icmp port-unreachable
  tcp dport { 21 } ip6 saddr @addr6-set-vsftpd reject with icmpv6 port-unreachable
}
}
";

/// Everything that is not needed for the machine itself is dropped, on its way in and through.
const CLOSED: &str = "table inet filter {
chain input { type filter hook input priority filter; policy drop;
  ct state established,related accept
  iif lo accept
  meta l4proto { icmp, ipv6-icmp } accept
}
chain forward { type filter hook forward priority filter; policy drop; ct state established,related accept; }
chain output { type filter hook output priority filter; policy drop;
  ct state established,related accept
  meta l4proto { icmp, ipv6-icmp } accept
  meta skuid 0 tcp dport { 21, 1024-65535 } accept
}
}
";

const NOTATIONS: &str = include_str!("notations.py");

/// A server, and a client that tries every notation there.
struct Machines {
    net: Net,
    family: Family,
    _server: Running,
}

impl Machines {
    fn new(family: Family) -> Self {
        let net = Net::new().unwrap();
        let server = Server::Vsftpd.or_without_users().start(&net.server, family).unwrap();
        Self { net, family, _server: server }
    }

    /// Every notation, at this server; what went wrong.
    fn tries(&self, at: std::net::IpAddr) -> Result<(), String> {
        let family = if self.family == Family::V4 { "4" } else { "6" };
        let (at, from) = (at.to_string(), Net::client_address(self.family).to_string());
        let mut python = Command::new("python3");
        python.args(["-c", NOTATIONS, &at, family, &from, USER, PASSWORD]).env("PATH", PATH);
        let output = self.net.client.run(move || python.output()).unwrap();
        if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
    }
}

/// Every kind of gate works beside what `firewall` loads, once `opened` has done what is advised.
fn works_beside(firewall: impl Fn(&Net) + Sync, opened: impl Fn(&Net, &Gate) + Sync) {
    let one = |family: Family, listener: Listener| {
        let machines = Machines::new(family);
        machines.tries(Net::server_address(family)).unwrap();
        firewall(&machines.net);
        for datapath in Datapath::ALL {
            let start = || Gate::start(&machines.net, listener, datapath, family).unwrap();
            let gate = start();
            opened(&machines.net, &gate);
            drop(gate);
            let gate = start();
            let tried = machines.tries(listener.server_as_seen(family));
            tried.unwrap_or_else(|fault| panic!("{listener} {datapath} {family}: {fault}\n{}", gate.log()));
            assert!(!gate.log().contains("obstacle"), "{}", gate.log());
            assert!(gate.log().contains(&format!("datapath=\"{datapath}\"")), "{}", gate.log());
        }
    };
    let one = &one;
    std::thread::scope(|scope| {
        for family in [Family::V4, Family::V6] {
            for listener in Listener::ALL {
                scope.spawn(move || one(family, listener));
            }
        }
    });
}

#[test]
fn firewalld() {
    works_beside(
        |net| nft(&net.gate, FIREWALLD),
        |net, _| nft(&net.gate, "insert rule inet firewalld filter_FORWARD ct mark and 0xffe0 == 0x2140 accept\n"),
    );
}

/// `deploy/nftables/docker.sh`, twice, by iptables itself.
#[test]
fn docker_and_its_chains() {
    let script = deployed("docker.sh");
    let tools = iptables();
    works_beside(
        |net| {
            nft(&net.gate, &docker("ip"));
            nft(&net.gate, &docker("ip6"));
        },
        |net, _| sh(&net.gate, &format!("PATH={}:$PATH\n{script}{script}", tools.path().display())),
    );
}

#[test]
fn fail2ban() {
    works_beside(|net| nft(&net.gate, FAIL2BAN), |_, _| ());
}

/// What `intercept` prints for the operator's own chains, word for word.
#[test]
fn a_firewall_that_drops_everything_else() {
    works_beside(
        |net| nft(&net.gate, CLOSED),
        |net, gate| {
            let mut said = String::new();
            for line in gate.intercept_script().lines().filter_map(|line| line.strip_prefix("#   nft ")) {
                let _ = writeln!(said, "{line}");
            }
            assert!(said.contains("insert rule inet filter input"), "{said}");
            nft(&net.gate, &said);
        },
    );
}

#[test]
fn masquerading() {
    let nat = |net: &Net| {
        nft(
            &net.gate,
            "table inet nat { chain out { type nat hook postrouting priority srcnat; oifname wan masquerade; }\n}\n",
        );
    };
    works_beside(nat, |_, _| ());
}

fn deployed(name: &str) -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/nftables").join(name);
    std::fs::read_to_string(file).unwrap()
}

/// A folder with `iptables` and `ip6tables` as tests/lab/packages unpacked them.
fn iptables() -> Scratch {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
    let unpacked = Path::new(env!("CARGO_MANIFEST_DIR")).join(target).join("lab/root/usr");
    let libraries = std::fs::read_dir(unpacked.join("lib")).unwrap().map(|entry| entry.unwrap().path());
    let libraries = libraries.into_iter().find(|path| path.join("xtables").exists()).expect("tests/lab/packages");
    let folder = Scratch::new("iptables").unwrap();
    for name in ["iptables", "ip6tables"] {
        let text = format!(
            "#!/bin/sh\nexport LD_LIBRARY_PATH={0} XTABLES_LIBDIR={0}/xtables\nexec {1}/sbin/xtables-nft-multi {name} \"$@\"\n",
            libraries.display(),
            unpacked.display()
        );
        let file = folder.join(name);
        std::fs::write(&file, text).unwrap();
        std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }
    folder
}
