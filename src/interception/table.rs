//! An nftables table in terms of what interception needs; [`super::script`] writes it as text, [`super::load`] as netlink.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use super::MARK;
use crate::addr::{Network, PortRanges};
use crate::pinhole::{CONNECTION_MARK, CONNECTION_MASK};

/// All chains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Table(pub(super) Vec<Chain>);

/// The rules at one place of a packet's way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Chain {
    pub(super) hook: Hook,
    pub(super) rules: Vec<Rule>,
}

/// Where a chain stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hook {
    /// Before routing: delivers packets of sockets that have addresses of others, and hands over with tproxy.
    Prerouting,
    /// Before routing, first packets only: hands over by a change of the destination.
    Nat,
    /// What goes on to another machine, and so was not handed over.
    Forward,
}

/// One rule: what all of `matches` hold for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    /// What it is for. Names of the rules file are escaped: they cannot end a comment.
    pub(super) comment: String,
    pub(super) matches: Vec<Match>,
    pub(super) verdict: Verdict,
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Counter {
    /// Control connections that are handed to a listener. With `tproxy` these are their first packets, and any that come
    /// without a connection.
    HandedOver,
    /// Packets that would have got past the listeners.
    Dropped,
}

impl Counter {
    pub(super) const ALL: [Self; 2] = [Self::HandedOver, Self::Dropped];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::HandedOver => "handed_over",
            Self::Dropped => "dropped",
        }
    }
}

/// What a packet must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Match {
    Family(Family),
    /// From one of these networks: of one family, sorted, none inside another, never empty.
    From(Family, Vec<IpNet>),
    /// To one of these.
    To(Family, Vec<IpNet>),
    /// TCP, to one of these ports.
    Ports(PortRanges),
    /// TCP, to any port but these.
    OtherPorts(PortRanges),
    Tcp,
    /// To an address of this machine.
    ToThisMachine,
    /// A socket that may have addresses of others is its end.
    TransparentSocket,
    /// A data connection that is led through a pinhole.
    ThroughPinhole,
    /// It is delivered to this machine already.
    Delivered,
    /// A fragment of IPv6, whose port may be in another one.
    Fragment,
    /// It says by which way it goes on (RFC 791, loose or strict): its destination is not where it goes to in the end.
    SourceRoute(SourceRoute),
}

/// An option of IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SourceRoute {
    Loose = 131,
    Strict = 137,
}

/// What becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is marked, and so delivered to this machine.
    Deliver,
    /// It is handed to a listener, and delivered; `None`: at whatever address the packet came to.
    Tproxy {
        family: Family,
        to: Option<IpAddr>,
        port: u16,
    },
    /// Its destination becomes this machine's address at the port that it came in by; `None`: its port stays.
    Redirect(Option<u16>),
    /// Its destination becomes this one.
    Dnat {
        family: Family,
        to: IpAddr,
        port: Option<u16>,
    },
    /// The rest of the chain is not for it.
    Return,
    Accept,
    Drop,
}

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    pub(super) const BOTH: [Self; 2] = [Self::V4, Self::V6];

    pub(super) const fn of(ip: IpAddr) -> Self {
        if ip.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    /// As nftables calls it.
    pub(super) const fn keyword(self) -> &'static str {
        match self {
            Self::V4 => "ip",
            Self::V6 => "ip6",
        }
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }

    /// Those networks that are of this family, none inside another, as nftables wants them; empty: every address;
    /// `None`: no address.
    pub(super) fn networks<'a>(self, networks: impl Iterator<Item = &'a Network>) -> Option<Vec<IpNet>> {
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

    /// Which addresses a rule is for; empty: every address.
    pub(super) fn matched(self, from: Vec<IpNet>, to: Vec<IpNet>) -> Vec<Match> {
        if from.is_empty() && to.is_empty() {
            return vec![Match::Family(self)];
        }
        let from = (!from.is_empty()).then_some(Match::From(self, from));
        let to = (!to.is_empty()).then_some(Match::To(self, to));
        from.into_iter().chain(to).collect()
    }
}

impl Rule {
    /// What counts the packets that it is for.
    pub(super) const fn counter(&self) -> Option<Counter> {
        match self.verdict {
            Verdict::Tproxy { .. } | Verdict::Redirect(Some(_)) | Verdict::Dnat { port: Some(_), .. } => {
                Some(Counter::HandedOver)
            }
            Verdict::Drop => Some(Counter::Dropped),
            Verdict::Deliver
            | Verdict::Redirect(None)
            | Verdict::Dnat { port: None, .. }
            | Verdict::Return
            | Verdict::Accept => None,
        }
    }
}

impl Table {
    /// The counters that its rules name.
    pub(super) fn counters(&self) -> impl Iterator<Item = Counter> {
        let is_used = |counter: &Counter| {
            self.0.iter().flat_map(|chain| &chain.rules).any(|rule| rule.counter() == Some(*counter))
        };
        Counter::ALL.into_iter().filter(is_used)
    }

    /// The chain there, if it is needed.
    pub(super) fn chain(&self, hook: Hook) -> Option<&Chain> {
        self.0.iter().find(|chain| chain.hook == hook)
    }

    /// Whether anything of this family is dropped that was not handed over.
    pub(super) fn guards(&self, family: Family) -> bool {
        let is_of = |condition: &Match| matches!(condition, Match::Family(of) | Match::To(of, _) if *of == family);
        self.chain(Hook::Forward).is_some_and(|chain| chain.rules.iter().any(|rule| rule.matches.iter().any(is_of)))
    }

    /// Tells one table from another, on every machine and in every version alike.
    pub(super) fn fingerprint(&self) -> u64 {
        let mut all = Fnv::default();
        for chain in &self.0 {
            all.add(format!("{}\n", chain.hook.text()).as_bytes());
            chain.rules.iter().for_each(|rule| all.add(format!("{rule}\n").as_bytes()));
        }
        all.finish()
    }

    /// The comment of the table in the kernel, by which it is known again.
    pub(super) fn comment(&self) -> String {
        format!("ftpgate {:016x}", self.fingerprint())
    }
}

/// FNV-1a, 64 bits: nobody has a reason to forge one.
pub(super) struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    pub(super) fn add(&mut self, bytes: &[u8]) {
        const PRIME: u64 = 0x0100_0000_01b3;
        self.0 = bytes.iter().fold(self.0, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(PRIME));
    }

    pub(super) const fn finish(&self) -> u64 {
        self.0
    }
}

impl Hook {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Prerouting => "diverted",
            Self::Nat => "redirected",
            Self::Forward => "bypassing",
        }
    }

    /// In nftables' words.
    pub(super) const fn text(self) -> &'static str {
        match self {
            Self::Prerouting => "type filter hook prerouting priority mangle; policy accept;",
            Self::Nat => "type nat hook prerouting priority dstnat; policy accept;",
            Self::Forward => "type filter hook forward priority filter - 20; policy accept;",
        }
    }
}

/// In nftables' words.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.matches.iter().try_for_each(|condition| write!(f, "{condition} "))?;
        if let Some(counter) = self.counter() {
            write!(f, "counter name {} ", counter.name())?;
        }
        write!(f, "{}", self.verdict)
    }
}

impl fmt::Display for Match {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Family(Family::V4) => f.write_str("meta nfproto ipv4"),
            Self::Family(Family::V6) => f.write_str("meta nfproto ipv6"),
            Self::From(family, nets) => write!(f, "{} saddr {{ {} }}", family.keyword(), listed(nets)),
            Self::To(family, nets) => write!(f, "{} daddr {{ {} }}", family.keyword(), listed(nets)),
            Self::Ports(ports) => write!(f, "tcp dport {{ {ports} }}"),
            Self::OtherPorts(ports) => write!(f, "tcp dport != {{ {ports} }}"),
            Self::Tcp => f.write_str("meta l4proto tcp"),
            Self::ToThisMachine => f.write_str("fib daddr type local"),
            Self::TransparentSocket => f.write_str("socket transparent 1"),
            Self::Delivered => write!(f, "meta mark {MARK:#x}"),
            Self::Fragment => f.write_str("exthdr frag exists"),
            Self::SourceRoute(SourceRoute::Loose) => f.write_str("ip option lsrr exists"),
            Self::SourceRoute(SourceRoute::Strict) => f.write_str("ip option ssrr exists"),
            Self::ThroughPinhole => write!(f, "ct mark and {CONNECTION_MASK:#x} == {CONNECTION_MARK:#x}"),
        }
    }
}

fn listed(nets: &[IpNet]) -> String {
    let nets: Vec<String> = nets.iter().map(|net| Network::Net(*net).to_string()).collect();
    nets.join(", ")
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Deliver => write!(f, "meta mark set {MARK:#x} accept"),
            Self::Tproxy { family, to, port } => {
                let to = to.map_or_else(String::new, bracketed);
                write!(f, "tproxy {} to {to}:{port} meta mark set {MARK:#x} accept", family.keyword())
            }
            Self::Redirect(None) => f.write_str("redirect"),
            Self::Redirect(Some(port)) => write!(f, "redirect to :{port}"),
            Self::Dnat { family, to, port: None } => write!(f, "dnat {} to {}", family.keyword(), bracketed(*to)),
            Self::Dnat { family, to, port: Some(port) } => {
                write!(f, "dnat {} to {}:{port}", family.keyword(), bracketed(*to))
            }
            Self::Return => f.write_str("return"),
            Self::Accept => f.write_str("accept"),
            Self::Drop => f.write_str("drop"),
        }
    }
}

/// As in front of a port.
fn bracketed(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    }
}
