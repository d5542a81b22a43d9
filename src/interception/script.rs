//! The interception as a POSIX shell script, for an operator who reads it first.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::Arc;

use super::table::{Family, Table};
use super::{Bridged, FILTERS, Interception, MARK, ROUTES, TABLE};
use crate::pinhole::{CONNECTION_MARK, CONNECTION_MASK};
use crate::policy::{Datapath, Interception as By, Listener, Permission, Policy, Rule, Source, Stand};

/// A script that makes the kernel hand over connections; it may be run again.
#[must_use]
pub fn script(interception: Option<&Interception>, policy: &Policy) -> String {
    let Some(interception) = interception else {
        return "#!/bin/sh\n# No listener is transparent: clients connect to ftpgate itself, and nothing has to be \
                intercepted.\n"
            .to_owned()
            + &needs(policy);
    };
    let mut out = String::from(
        "#!/bin/sh\n# Hands FTP connections to ftpgate. May be run again; `ftpgate intercept --undo` prints how to undo \
         it.\nset -e\n",
    );
    if let Some(Bridged { bridges, settings }) = interception.bridged() {
        let _ = writeln!(
            out,
            "# Clients that come over a bridge ({}) time out: its packets go through iptables, where tproxy cannot deliver\n\
             # them. Write `transparent: redirect`, or: sysctl -w {}=0",
            bridges.join(", "),
            settings.join("=0 ")
        );
    }
    // First, so that nothing gets past the gate whatever becomes of the rest.
    out += "\n# One transaction: the old table is replaced, or stays.\nnft -f - <<'EOF'\n";
    out += &text(&interception.table);
    out += "EOF\n\n# Marked packets are delivered here, whatever their destination. With src_valid_mark=1, rp_filter looks up the way\n\
            # back as if from lo: this rule uses the table main; change it if clients are routed by another table.\n";
    for family in &interception.families {
        let ip = ip(*family);
        let commands = remove_rules(*family)
            + &format!(
                "{ip} rule add iif lo fwmark {MARK:#x} lookup main priority {FILTERS}\n\
                 {ip} rule add fwmark {MARK:#x} lookup {ROUTES} priority {ROUTES}\n\
                 {ip} route replace local default dev lo table {ROUTES}\n"
            );
        out += &match family {
            Family::V4 => commands,
            Family::V6 => format!(
                "if [ \"$(cat /proc/sys/net/ipv6/conf/lo/disable_ipv6 2>/dev/null)\" = 0 ]; then\n{commands}fi\n"
            ),
        };
    }
    out + &needs(policy)
}

/// A script that takes back all that [`script`] does, of whatever rules file.
#[must_use]
pub fn undo() -> String {
    let mut out = String::from("#!/bin/sh\n# Connections are no longer handed to ftpgate.\nset -e\n");
    let _ = write!(out, "nft -f - <<'EOF'\ntable inet {TABLE}\ndelete table inet {TABLE}\nEOF\n");
    for family in Family::BOTH {
        out += &remove_rules(family);
        let _ = writeln!(out, "{} route flush table {ROUTES} 2>/dev/null || :", ip(family));
    }
    out
}

const fn ip(family: Family) -> &'static str {
    match family {
        Family::V4 => "ip",
        Family::V6 => "ip -6",
    }
}

/// More than one may be there: `ip rule add` does not mind doubles.
fn remove_rules(family: Family) -> String {
    let ip = ip(family);
    let remove = |rule: String| format!("while {ip} rule del {rule} 2>/dev/null; do :; done\n");
    remove(format!("iif lo fwmark {MARK:#x} lookup main priority {FILTERS}"))
        + &remove(format!("fwmark {MARK:#x} lookup {ROUTES}"))
}

/// The table as `nft -f` reads it.
pub(super) fn text(table: &Table) -> String {
    let mut out = format!("table inet {TABLE}\ndelete table inet {TABLE}\ntable inet {TABLE} {{\n");
    let _ = writeln!(out, "\tcomment \"{}\"", table.comment());
    for counter in table.counters() {
        let _ = writeln!(out, "\tcounter {} {{ }}", counter.name());
    }
    for chain in &table.0 {
        let _ = writeln!(out, "\tchain {} {{\n\t\t{}", chain.hook.name(), chain.hook.text());
        let mut said = "";
        for rule in &chain.rules {
            if rule.comment != said {
                let _ = writeln!(out, "\t\t# {}", rule.comment);
            }
            said = &rule.comment;
            let _ = writeln!(out, "\t\t{rule}");
        }
        out += "\t}\n";
    }
    out + "}\n"
}

/// What other firewalls of this machine have to let through. Comments only: they belong to the machine's operator.
fn needs(policy: &Policy) -> String {
    let allowed = || policy.rules.iter().filter(|rule| rule.permission == Permission::Allow);
    let by_kernel = |rule: &&Arc<Rule>| rule.datapath != Datapath::Relay;
    let mut out = String::new();
    let input = into_this_machine(policy, &allowed().collect::<Vec<_>>());
    if !input.is_empty() {
        out += "\n# A firewall of this machine that drops what it does not know must accept these (`ip filter INPUT` where \
                iptables\n# made it):\n";
        for rule in input {
            let _ = writeln!(out, "#   nft insert rule inet filter input {rule} accept");
        }
    }
    if allowed().any(|rule| by_kernel(&rule)) {
        let (mark, mask) = (CONNECTION_MARK, CONNECTION_MASK);
        let _ = write!(
            out,
            "\n# Data connections go through the kernel where packets are forwarded:\n\
             #   sysctl -w net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1\n\
             # and where no firewall of this machine drops them. They, and no others, have this mark:\n\
             #   nft insert rule inet filter forward ct mark and {mask:#x} == {mark:#x} accept\n\
             #   iptables -I FORWARD -m connmark --mark {mark:#x}/{mask:#x} -j ACCEPT     # DOCKER-USER beside Docker\n\
             # Otherwise the relay moves the data.\n"
        );
    }
    out
}

/// What comes to the gate itself: control connections, and data connections that are relayed.
fn into_this_machine(policy: &Policy, allowed: &[&Arc<Rule>]) -> BTreeSet<String> {
    let mut rules = BTreeSet::new();
    let ports = |ports: &dyn std::fmt::Display| format!("tcp dport {{ {ports} }}");
    for listener in &policy.listeners {
        match listener.stand {
            Stand::Transparent { interception: By::Tproxy, .. } => {
                rules.insert(format!("meta mark {MARK:#x}"));
            }
            Stand::Transparent { interception: By::Redirect, .. } => {
                rules.insert("ct status dnat".to_owned());
            }
            Stand::Reverse { .. } | Stand::Explicit => {
                rules.insert(ports(&listener.bind.port()));
                rules.extend(allowed.iter().filter_map(|rule| Some(ports(&rule.inbound.as_ref()?.gate_ports))));
            }
        }
    }
    // With `source: client` servers connect to the client's address: that is marked, too.
    let as_client = |listener: &Listener| matches!(listener.stand, Stand::Transparent { source: Source::Client, .. });
    if !policy.listeners.iter().all(as_client) {
        rules.extend(allowed.iter().filter_map(|rule| Some(ports(rule.ports_for_servers()?))));
    }
    rules
}
