//! `ftpgate intercept FILE`: the commands that hand connections to transparent listeners.
//!
//! They are printed, not run: the machine's firewall belongs to its operator, who reads them first.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use ipnet::IpNet;

use crate::addr::Network;
use crate::pinhole::{CONNECTION_MARK, CONNECTION_MASK};
use crate::policy::{Datapath, Destination, Interception, Permission, Policy, Rule, Stand};

/// Marks packets that must be delivered to this machine though they are not addressed to it.
const MARK: &str = "0x2121";
/// The routing table that delivers them, and the priority of the rule that leads to it: before the main table's.
const ROUTES: u16 = 2121;
/// The nftables table; all of it is replaced, and nothing else is touched.
const TABLE: &str = "inet ftpgate_intercept";
/// The control port where a rule names none.
const CONTROL_PORT: u16 = 21;

/// Print the nftables and routing commands that hand connections to the transparent listeners.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The rules file
    pub file: PathBuf,
    /// Print the commands that undo it instead
    #[arg(long)]
    pub undo: bool,
}

/// Prints the script.
///
/// # Errors
/// Where standard output is gone.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let text = if args.undo {
        undo()
    } else {
        match super::read(&args.file) {
            Ok(policy) => script(&policy),
            Err(why) => {
                super::complain(&why);
                return Ok(super::no());
            }
        }
    };
    std::io::stdout().lock().write_all(text.as_bytes()).context("cannot write")?;
    Ok(super::DONE)
}

/// A listener to which connections are handed.
struct Target<'a> {
    name: &'a str,
    bind: SocketAddr,
    interception: Interception,
}

/// A POSIX shell script that makes the kernel hand over the connections which the rules allow. It may be run again.
#[must_use]
pub fn script(policy: &Policy) -> String {
    let targets: Vec<_> = policy
        .listeners
        .iter()
        .filter_map(|listener| match listener.stand {
            Stand::Transparent { interception, .. } => {
                Some(Target { name: &listener.name, bind: listener.bind, interception })
            }
            Stand::Reverse { .. } | Stand::Explicit => None,
        })
        .collect();
    if targets.is_empty() {
        return "#!/bin/sh\n# No listener is transparent: clients connect to ftpgate itself, and nothing has to be \
                intercepted.\n"
            .to_owned()
            + &firewall(policy);
    }
    let mut out = String::from(
        "#!/bin/sh\n# Hands FTP connections to ftpgate. May be run again; `ftpgate intercept --undo` prints how to undo \
         it.\nset -e\n\n# Marked packets are delivered here, whatever their destination.\n",
    );
    for (family, flag) in [(Family::V4, ""), (Family::V6, "-6 ")] {
        if targets.iter().any(|target| Family::of(target.bind.ip()) == family) {
            out += &remove_rule(flag);
            out += &format!("ip {flag}rule add fwmark {MARK} lookup {ROUTES} priority {ROUTES}\n");
            out += &format!("ip {flag}route replace local default dev lo table {ROUTES}\n");
        }
    }
    out += "\n# One transaction: the old table is replaced, or stays.\nnft -f - <<'EOF'\n";
    out += &format!("table {TABLE}\ndelete table {TABLE}\ntable {TABLE} {{\n");
    out += &divert_chain(policy, &targets);
    if targets.iter().any(|target| target.interception == Interception::Redirect) {
        out += &redirect_chain(policy, &targets);
    }
    out + "}\nEOF\n" + &firewall(policy)
}

/// What else data connections through the kernel need of this machine. Comments only: that is its operator's to decide.
fn firewall(policy: &Policy) -> String {
    let by_kernel = |rule: &Arc<Rule>| rule.permission == Permission::Allow && rule.datapath != Datapath::Relay;
    if !policy.rules.iter().any(by_kernel) {
        return String::new();
    }
    let (mark, mask) = (CONNECTION_MARK, CONNECTION_MASK);
    format!(
        "\n# Data connections go through the kernel where packets are forwarded:\n\
         #   sysctl -w net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1\n\
         # and where no firewall of this machine drops them. They, and no others, have this mark:\n\
         #   nft insert rule inet filter forward ct mark and {mask:#x} == {mark:#x} accept\n\
         #   iptables -I FORWARD -m connmark --mark {mark:#x}/{mask:#x} -j ACCEPT     # DOCKER-USER beside Docker\n\
         # Otherwise the relay moves the data.\n"
    )
}

/// A POSIX shell script that takes back all that [`script`] does, of whatever rules file.
#[must_use]
pub fn undo() -> String {
    let mut out = String::from("#!/bin/sh\n# Connections are no longer handed to ftpgate.\nset -e\n");
    out += &format!("nft -f - <<'EOF'\ntable {TABLE}\ndelete table {TABLE}\nEOF\n");
    for flag in ["", "-6 "] {
        out += &remove_rule(flag);
        out += &format!("ip {flag}route flush table {ROUTES} 2>/dev/null || :\n");
    }
    out
}

/// More than one may be there: `ip rule add` does not mind doubles.
fn remove_rule(flag: &str) -> String {
    format!("while ip {flag}rule del fwmark {MARK} lookup {ROUTES} 2>/dev/null; do :; done\n")
}

/// What has a socket of ours goes to it; what is meant for a server goes to the listener.
fn divert_chain(policy: &Policy, targets: &[Target<'_>]) -> String {
    // `socket wildcard 0` would say it better, but the kernel asks it of full sockets only: it fails for the last packet
    // of a handshake, and for a port whose last connection has just ended.
    let listening: Vec<String> = targets
        .iter()
        .filter(|target| target.interception == Interception::Tproxy)
        .map(|target| target.bind.port().to_string())
        .collect();
    let ports = if listening.is_empty() {
        "meta l4proto tcp ".to_owned()
    } else {
        format!("tcp dport != {{ {} }} ", listening.join(", "))
    };
    let mut out = format!(
        "\tchain diverted {{\n\
         \t\ttype filter hook prerouting priority mangle; policy accept;\n\
         \t\t# Connections that stand, data ports that wait, and answers to connections made in another's name. Not\n\
         \t\t# the ports of the listeners below: those are bound to every address, and what is sent to another\n\
         \t\t# machine's port of that number is not for us.\n\
         \t\t{ports}socket transparent 1 meta mark set {MARK} accept\n"
    );
    if targets.iter().any(|target| target.interception == Interception::Tproxy) {
        out += "\t\tfib daddr type local return\n";
    }
    for target in targets.iter().filter(|target| target.interception == Interception::Tproxy) {
        let family = Family::of(target.bind.ip());
        let to = match (target.bind.ip().is_unspecified(), target.bind) {
            (true, bind) => format!(":{}", bind.port()),
            (false, bind) => bind.to_string(),
        };
        let action = format!("tproxy {} to {to} meta mark set {MARK} accept", family.keyword());
        out += &intercepted(policy, target, family, &action, None);
    }
    out + "\t}\n"
}

/// The destination is rewritten: of control connections to the listener, of data connections to the same port here.
fn redirect_chain(policy: &Policy, targets: &[Target<'_>]) -> String {
    let mut out = String::from(
        "\tchain redirected {\n\
         \t\ttype nat hook prerouting priority dstnat; policy accept;\n\
         \t\tfib daddr type local return\n",
    );
    for target in targets.iter().filter(|target| target.interception == Interception::Redirect) {
        let family = Family::of(target.bind.ip());
        let (control, data) = if target.bind.ip().is_unspecified() {
            (format!("redirect to :{}", target.bind.port()), "redirect".to_owned())
        } else {
            let (keyword, bind) = (family.keyword(), target.bind);
            let ip = SocketAddr::new(bind.ip(), 0).to_string();
            let ip = ip.trim_end_matches(":0");
            (format!("dnat {keyword} to {bind}"), format!("dnat {keyword} to {ip}"))
        };
        out += &intercepted(policy, target, family, &control, Some(&data));
    }
    out + "\t}\n"
}

/// The nftables rules of one listener: `control` for control connections; `data`, where it is needed, for inbound data
/// connections.
fn intercepted(policy: &Policy, target: &Target<'_>, family: Family, control: &str, data: Option<&str>) -> String {
    let mut out = String::new();
    // The names come from the rules file: escaped, they cannot end the comment.
    let _ = writeln!(out, "\t\t# listener {} at {}", target.name.escape_debug(), target.bind);
    // What is for other listeners would be denied here.
    let here = |rule: &Rule| rule.listeners.is_empty() || rule.listeners.iter().any(|name| name == target.name);
    let allowed = || policy.rules.iter().filter(|rule| rule.permission == Permission::Allow && here(rule));
    for rule in allowed() {
        let Some(from) = family.networks(rule.from.iter()) else { continue };
        for (networks, ports) in control_ports(rule, family) {
            let matched = family.matched(&from, &networks);
            let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
            let _ = writeln!(out, "\t\t# rule {}", rule.name.escape_debug());
            let _ = writeln!(out, "\t\t{matched}tcp dport {{ {} }} {control}", ports.join(", "));
        }
    }
    // After every control port: a wide range of data ports may include some.
    for rule in data.iter().flat_map(|_| allowed()) {
        let (Some(inbound), Some(data)) = (&rule.inbound, data) else { continue };
        let from = family.networks(rule.from.iter());
        let to = family.networks(rule.to.iter().map(|destination| &destination.network));
        let (Some(from), Some(to)) = (from, to) else { continue };
        let _ = writeln!(out, "\t\t# rule {}: inbound data connections", rule.name.escape_debug());
        let _ = writeln!(out, "\t\t{}tcp dport {{ {} }} {data}", family.matched(&from, &to), inbound.gate_ports);
    }
    out
}

/// The control ports of a rule, with the networks that each is for; ports for the same networks stand together.
fn control_ports(rule: &Rule, family: Family) -> BTreeMap<Vec<IpNet>, Vec<u16>> {
    let mut by_port: BTreeMap<u16, Vec<&Destination>> = BTreeMap::new();
    for destination in &rule.to {
        by_port.entry(destination.port.unwrap_or(CONTROL_PORT)).or_default().push(destination);
    }
    let mut by_networks: BTreeMap<Vec<IpNet>, Vec<u16>> = BTreeMap::new();
    for (port, destinations) in by_port {
        if let Some(networks) = family.networks(destinations.iter().map(|destination| &destination.network)) {
            by_networks.entry(networks).or_default().push(port);
        }
    }
    by_networks
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    V4,
    V6,
}

impl Family {
    fn of(ip: IpAddr) -> Self {
        if ip.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    const fn keyword(self) -> &'static str {
        match self {
            Self::V4 => "ip",
            Self::V6 => "ip6",
        }
    }

    /// Those networks that are of this family, none inside another, as nftables wants them; empty: every address;
    /// `None`: no address.
    fn networks<'a>(self, networks: impl Iterator<Item = &'a Network>) -> Option<Vec<IpNet>> {
        let mut nets = Vec::new();
        for network in networks {
            match network {
                Network::Any => return Some(Vec::new()),
                Network::Net(net) if Self::of(net.addr()) == self => nets.push(net.trunc()),
                Network::Net(_) => {}
            }
        }
        let mut nets = IpNet::aggregate(&nets);
        nets.sort();
        match nets.first() {
            None => None,
            Some(whole) if whole.prefix_len() == 0 => Some(Vec::new()),
            Some(_) => Some(nets),
        }
    }

    /// The first half of an nftables rule: which addresses it is for.
    fn matched(self, from: &[IpNet], to: &[IpNet]) -> String {
        let keyword = self.keyword();
        let mut out = String::new();
        for (field, nets) in [("saddr", from), ("daddr", to)] {
            if !nets.is_empty() {
                let nets: Vec<String> = nets.iter().map(|net| Network::Net(*net).to_string()).collect();
                out += &format!("{keyword} {field} {{ {} }} ", nets.join(", "));
            }
        }
        if out.is_empty() {
            out += match self {
                Self::V4 => "meta nfproto ipv4 ",
                Self::V6 => "meta nfproto ipv6 ",
            };
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    use super::*;
    use crate::addr::{PortRange, PortRanges, ServerAddr};
    use crate::policy::{Inbound, Listener, Proxies, Source, Timeouts};

    fn listener(name: &str, bind: &str, interception: Option<Interception>) -> Listener {
        let stand = interception.map_or_else(
            || Stand::Reverse { server: ServerAddr::new("10.0.2.2:21".parse().unwrap()) },
            |interception| Stand::Transparent { interception, source: Source::Client },
        );
        Listener {
            name: name.to_owned(),
            bind: bind.parse().unwrap(),
            stand,
            advertise: Vec::new(),
            proxies: Proxies::default(),
            health_checks: Vec::new(),
        }
    }

    fn network(text: &str) -> Network {
        if text == "any" { Network::Any } else { Network::Net(text.parse().unwrap()) }
    }

    fn rule(name: &str, permission: Permission, from: &[&str], to: &[(&str, Option<u16>)]) -> Arc<Rule> {
        let ports = |first, last| PortRanges::new(vec![PortRange::new(first, last).unwrap()]).unwrap();
        Arc::new(Rule {
            from: from.iter().map(|text| network(text)).collect(),
            to: to.iter().map(|&(text, port)| Destination { network: network(text), port }).collect(),
            inbound: Some(Inbound { gate_ports: ports(10001, 10005), server_ports: PortRanges::unreserved() }),
            ..Rule::new(name, permission)
        })
    }

    /// Every kind of listener and rule.
    fn policy() -> Policy {
        use Interception::{Redirect, Tproxy};
        use Permission::{Allow, Deny};
        let nested =
            [("10.0.0.0/8", None), ("10.1.0.0/16", None), ("10.2.0.0/16", Some(2100)), ("2001:db8::/32", None)];
        Policy {
            listeners: vec![
                listener("plain", "0.0.0.0:21", None),
                listener("lan\nEOF\nreboot", "0.0.0.0:2121", Some(Tproxy)),
                listener("lan6", "[::]:2121", Some(Tproxy)),
                listener("one", "192.0.2.1:2122", Some(Tproxy)),
                listener("one6", "[2001:db8::1]:2122", Some(Tproxy)),
                listener("nat", "0.0.0.0:2123", Some(Redirect)),
                listener("nat6", "[::]:2123", Some(Redirect)),
                listener("natone", "192.0.2.1:2124", Some(Redirect)),
                listener("natone6", "[2001:db8::1]:2124", Some(Redirect)),
            ],
            rules: vec![
                rule("never", Deny, &["198.51.100.0/24"], &[("any", None)]),
                rule("some", Allow, &["198.51.100.0/24", "2001:db8:40::/48"], &nested),
                rule("four", Allow, &["192.0.2.0/24", "0.0.0.0/0"], &[("203.0.113.5/32", Some(2121))]),
                rule("all", Allow, &["any"], &[("any", None)]),
            ]
            .into(),
            timeouts: Timeouts::default(),
            limits: crate::policy::GateLimits::default(),
        }
    }

    fn only(name: &str) -> String {
        let mut policy = policy();
        policy.listeners.retain(|listener| listener.name == name);
        script(&policy)
    }

    #[test]
    fn a_reverse_listener_needs_nothing() {
        assert!(only("plain").lines().all(|line| line.is_empty() || line.starts_with('#')));
    }

    #[test]
    fn what_a_firewall_has_to_accept_is_told_where_it_matters() {
        let accept = "nft insert rule inet filter forward ct mark and 0xffffffe0 == 0x2140 accept";
        assert!(only("plain").contains(accept) && only("lan6").contains(accept));
        let mut policy = policy();
        let relayed = policy.rules.iter().map(|rule| Arc::new(Rule { datapath: Datapath::Relay, ..(**rule).clone() }));
        policy.rules = relayed.collect::<Vec<_>>().into();
        assert!(!script(&policy).contains("0x2140"));
    }

    #[test]
    fn rules_become_matches_in_their_family() {
        let lan6 = only("lan6");
        assert!(lan6.contains(
            "ip6 saddr { 2001:db8:40::/48 } ip6 daddr { 2001:db8::/32 } tcp dport { 21 } \
             tproxy ip6 to :2121 meta mark set 0x2121 accept\n"
        ));
        assert!(lan6.contains("meta nfproto ipv6 tcp dport { 21 } tproxy ip6 to :2121"));
        assert!(!lan6.contains("203.0.113.5") && !lan6.contains("ip rule add") && !lan6.contains("type nat"));
        let nat = only("nat");
        assert!(nat.contains("ip daddr { 203.0.113.5 } tcp dport { 2121 } redirect to :2123\n"));
        assert!(
            nat.contains("ip saddr { 198.51.100.0/24 } ip daddr { 10.0.0.0/8 } tcp dport { 10001-10005 } redirect\n")
        );
        assert!(nat.contains("ip saddr { 198.51.100.0/24 } ip daddr { 10.2.0.0/16 } tcp dport { 2100 } redirect to"));
        assert!(!nat.contains("ip -6") && nat.contains("socket transparent 1") && !nat.contains("never"));
    }

    #[test]
    fn a_rule_for_another_listener_hands_nothing_over() {
        let mut policy = policy();
        let mut rules = policy.rules.to_vec();
        Arc::make_mut(&mut rules[3]).listeners = vec!["nat".to_owned()];
        policy.rules = rules.into();
        policy.listeners.retain(|listener| ["nat", "one"].contains(&listener.name.as_str()));
        let script = script(&policy);
        assert_eq!(script.matches("# rule all\n").count(), 1, "{script}");
        assert!(script.contains("meta nfproto ipv4 tcp dport { 21 } redirect to :2123\n"), "{script}");
    }

    #[test]
    fn a_name_cannot_leave_its_comment() {
        let script = script(&policy());
        assert!(!script.lines().any(|line| line == "reboot"));
        assert_eq!(script.lines().filter(|line| *line == "EOF").count(), 1);
    }

    /// Runs a script in a network namespace of its own; `None` where that is not permitted here.
    fn run_alone(script: &str) -> Option<(bool, String)> {
        let root = ["-n"].as_slice();
        let user = ["-Urn"].as_slice();
        let can = |options: &&&[&str]| {
            let tried = Command::new("unshare").args(**options).args(["nft", "list", "ruleset"]).output();
            tried.is_ok_and(|output| output.status.success())
        };
        let Some(options) = [user, root].iter().find(can).copied() else {
            println!("skipped: unshare or nft is missing, or not permitted here");
            return None;
        };
        let mut child = Command::new("unshare")
            .args(options)
            .args(["sh", "-s"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        Some((output.status.success(), text.into_owned()))
    }

    #[test]
    fn the_kernel_takes_it_twice_and_undo_leaves_nothing() {
        const SHOW: &str =
            "nft list ruleset; ip rule; ip -6 rule; ip route show table 2121; ip -6 route show table 2121\n";
        let (script, undo) = (script(&policy()), undo());
        let all = format!(
            "set -e\nip link set lo up\n{{ {SHOW} }} >/dev/null 2>&1 || :\n{script}{script}{SHOW}echo ====\n{undo}{undo}\
             nft list ruleset; ip rule; ip -6 rule; ip route show table all | grep 'table 2121' || :\n"
        );
        let Some((success, output)) = run_alone(&all) else { return };
        assert!(success, "{output}\n{all}");
        let (with, without) = output.split_once("====").unwrap();
        assert_eq!(with.matches("fwmark 0x2121 lookup 2121").count(), 2, "{with}");
        assert_eq!(with.matches("local default dev lo").count(), 2, "{with}");
        assert_eq!(with.matches("table inet ftpgate_intercept").count(), 1, "{with}");
        assert_eq!(with.matches("socket transparent 1").count(), 1, "{with}");
        assert!(!without.contains("2121") && !without.contains("ftpgate"), "{without}");
    }

    #[test]
    fn each_listener_alone_is_taken() {
        for listener in policy().listeners {
            let script = only(&listener.name);
            let Some((success, output)) = run_alone(&format!("ip link set lo up\n{script}")) else { return };
            assert!(success, "{output}\n{script}");
        }
    }
}
