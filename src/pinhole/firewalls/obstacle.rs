//! What of other firewalls is in the gate's way, and what takes it away.

use std::collections::BTreeMap;

use super::accept::{Accept, ChainName};
use super::judge::Judge;
use super::needs::{Need, Needs};
use super::packet::{DNAT, Packet};
use super::xtables;
use crate::net::netlink::{Chain, Expression, Hook, Rule, Ruleset, Table, number};
use crate::pinhole::kernel::CONNECTION_MARK;

/// What kind of thing it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Data connections through the kernel would be dropped, or not tracked.
    Kernel,
    /// A helper of conntrack's reads control connections.
    Helper,
    /// What comes to the gate, or what the gate sends, is dropped.
    Gate,
}

/// One thing in the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Obstacle {
    pub(super) kind: Kind,
    /// The address family that it concerns, by netfilter's number.
    pub(super) family: u8,
    /// Where it is.
    pub(super) place: String,
    /// In words for the operator.
    pub(super) text: String,
}

impl Obstacle {
    pub(super) const fn concerns(&self, family: u8) -> bool {
        self.family == number::INET || self.family == family
    }
}

const UNTIL_THEN: &str = "(until then the relay moves the data)";

/// All that there is. `by_setting` is what no rule says.
pub(super) fn find(rules: &Ruleset, needs: &Needs, by_setting: Option<Obstacle>) -> Vec<Obstacle> {
    let mut chains = Vec::new();
    for ((family, name), table) in &rules.0 {
        for (chain_name, chain) in table.chains.iter().filter(|(_, chain)| chain.base.is_some()) {
            let name = ChainName { family: *family, table: name.clone(), chain: chain_name.clone() };
            chains.push(Look { table, chain, name, needs });
        }
    }
    // A rule may be met from several chains.
    let mut found: Vec<Obstacle> = Vec::new();
    let of_chains = chains.iter().flat_map(|look| look.closed().into_iter().chain(look.notable()));
    for obstacle in by_setting.into_iter().chain(of_chains).filter(|_| needs.uses_kernel) {
        if !found.contains(&obstacle) {
            found.push(obstacle);
        }
    }
    let needed = if found.is_empty() { &needs.needs } else { &needs.without_kernel };
    found.extend(chains.iter().filter_map(|look| look.unmet(needed)));
    found
}

/// One chain, and what there is around it.
struct Look<'a> {
    table: &'a Table,
    chain: &'a Chain,
    name: ChainName,
    needs: &'a Needs,
}

impl Look<'_> {
    /// It drops what is forwarded unless one of its rules accepts it; and no rule of its table looks at marks of
    /// connections.
    fn closed(&self) -> Option<Obstacle> {
        let base = self.chain.base.as_ref().filter(|base| base.hook == Hook::Forward)?;
        let is_last_word = |rule: &Rule| rule.expressions.iter().all(|e| e.name == "counter" || refuses(e));
        // Rules come in their order: the last of them decides, where it is for everything.
        let drops = base.drops || self.chain.rules.iter().any(is_last_word);
        let all_rules = || self.table.chains.values().flat_map(|chain| &chain.rules);
        if !drops || all_rules().flat_map(|rule| &rule.expressions).any(reads_ct_mark) || self.accepts_all() {
            return None;
        }
        let docker = ChainName { chain: "DOCKER-USER".to_owned(), ..self.name.clone() };
        let has_docker = self.name.iptables().is_some() && self.table.chains.contains_key(&docker.chain);
        let at = if has_docker { &docker } else { &self.name };
        let name = &self.name;
        Some(Obstacle {
            kind: Kind::Kernel,
            family: name.family,
            place: name.to_string(),
            text: format!(
                "chain `{name}` drops what is forwarded and asks for no mark: {} {UNTIL_THEN}",
                at.command(Accept::Marked)
            ),
        })
    }

    /// Its rules accept every data connection without asking for the mark, as firewalld's do what is translated.
    fn accepts_all(&self) -> bool {
        let drops = self.chain.base.as_ref().is_some_and(|base| base.drops);
        let families = [number::IPV4, number::IPV6].into_iter();
        let mut families = families.filter(|family| self.name.family == number::INET || self.name.family == *family);
        families.all(|family| {
            let packet = Packet {
                to_port: None,
                mark: None,
                ct_mark: Some(CONNECTION_MARK),
                ct_status: self.needs.all_translated.then_some(DNAT),
                ..Packet::to(family, 0)
            };
            Judge::new(self.table, &packet, |_, _| ()).base(&self.name.chain, drops).is_certain_accept()
        })
    }

    /// Its rules, or those that it leads to, that set a helper for control connections or leave data connections
    /// untracked.
    fn notable(&self) -> Vec<Obstacle> {
        let Some(base) = &self.chain.base else { return Vec::new() };
        let mut found = Vec::new();
        let control = self.needs.control.iter().filter(|(hook, _)| *hook == base.hook).map(|(_, packet)| packet);
        for packet in control.filter(|packet| packet.is_seen_in(self.name.family)) {
            self.met(packet, |chain, rule| {
                if rule.expressions.iter().any(|e| self.sets_helper(e)) {
                    found.push(self.rule_obstacle(Kind::Helper, chain, rule));
                }
            });
        }
        let data = self.needs.data.iter().filter(|_| base.hook == Hook::Prerouting);
        for packet in data.filter(|packet| packet.is_seen_in(self.name.family)) {
            self.met(packet, |chain, rule| {
                let is_untracked = |e: &Expression| match e.name.as_str() {
                    "notrack" => true,
                    "target" => xtables::conntrack_target(e).0,
                    _ => false,
                };
                if rule.expressions.iter().any(is_untracked) {
                    found.push(self.rule_obstacle(Kind::Kernel, chain, rule));
                }
            });
        }
        found
    }

    fn met<'r>(&'r self, packet: &'r Packet, met: impl FnMut(&'r str, &'r Rule)) {
        let drops = self.chain.base.as_ref().is_some_and(|base| base.drops);
        Judge::new(self.table, packet, met).base(&self.name.chain, drops);
    }

    fn sets_helper(&self, e: &Expression) -> bool {
        const HELPER: u32 = 3;
        match e.name.as_str() {
            "objref" if e.number(&[1]) == Some(HELPER) => {
                e.text(&[2]).is_some_and(|name| self.table.ftp_helpers.contains(&name))
            }
            // A map that leads to objects.
            "objref" => e.find(&[4]).is_some() && !self.table.ftp_helpers.is_empty(),
            "target" => xtables::conntrack_target(e).1,
            _ => false,
        }
    }

    fn rule_obstacle(&self, kind: Kind, chain: &str, rule: &Rule) -> Obstacle {
        let name = ChainName { chain: chain.to_owned(), ..self.name.clone() };
        let does = match kind {
            Kind::Helper => "sets conntrack's helper for FTP, which takes data connections from their pinholes",
            Kind::Kernel | Kind::Gate => "leaves data connections untracked, so that no pinhole can lead them",
        };
        let command = self.remove(&name, rule);
        Obstacle {
            kind,
            family: name.family,
            place: format!("{name} handle {}", rule.handle),
            text: format!("a rule of chain `{name}` {does}: {command} {UNTIL_THEN}"),
        }
    }

    /// The command that takes a rule away.
    fn remove(&self, name: &ChainName, rule: &Rule) -> String {
        if name.is_of_firewalld() {
            let zone = name.chain.strip_prefix("filter_PRE_").and_then(|chain| chain.strip_suffix("_allow"));
            let zone = zone.map(|zone| format!(" --zone={zone}")).unwrap_or_default();
            return format!(
                "`firewall-cmd --permanent{zone} --remove-service=ftp --add-port=21/tcp && firewall-cmd --reload`"
            );
        }
        let number = |chain: &Chain| chain.rules.iter().position(|other| other.handle == rule.handle);
        match (name.iptables(), self.table.chains.get(&name.chain).and_then(number)) {
            (Some(iptables), Some(number)) => format!("`{iptables} -D {} {}`", name.chain, number + 1),
            _ => format!("`nft delete rule {name} handle {}`", rule.handle),
        }
    }

    /// It drops what the gate needs, whatever else may be true of that.
    fn unmet(&self, needed: &[Need]) -> Option<Obstacle> {
        let base = self.chain.base.as_ref()?;
        let mut commands: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        let needed = needed.iter().filter(|need| need.hook == base.hook);
        for need in needed.filter(|need| need.packet.is_seen_in(self.name.family)) {
            let outcome = Judge::new(self.table, &need.packet, |_, _| ()).base(&self.name.chain, base.drops);
            if outcome.is_certain_drop() {
                let what = commands.entry(self.name.command(need.accept)).or_default();
                if !what.contains(&need.what.as_str()) {
                    what.push(&need.what);
                }
            }
        }
        if commands.is_empty() {
            return None;
        }
        let words: Vec<String> =
            commands.iter().map(|(command, what)| format!("{command} ({})", what.join(", "))).collect();
        let name = &self.name;
        Some(Obstacle {
            kind: Kind::Gate,
            family: name.family,
            place: name.to_string(),
            text: format!("chain `{name}` drops what the gate needs: {}", words.join("; ")),
        })
    }
}

/// Whether an expression asks for the mark of a connection, in the words of nftables or of iptables.
fn reads_ct_mark(e: &Expression) -> bool {
    const CT_MARK: u32 = 3;
    match e.name.as_str() {
        "ct" => e.number(&[2]) == Some(CT_MARK) && e.find(&[1]).is_some(),
        "match" => e.text(&[1]).as_deref() == Some("connmark"),
        _ => false,
    }
}

/// Whether an expression ends a packet's way.
fn refuses(e: &Expression) -> bool {
    const VERDICT: [u16; 3] = [2, 2, 1];
    const DROP: u32 = 0;
    match e.name.as_str() {
        "immediate" => e.number(&VERDICT) == Some(DROP),
        "reject" => true,
        "target" => e.text(&[1]).as_deref() == Some("REJECT"),
        _ => false,
    }
}
