//! What a firewall has to accept, in the words of nftables and of iptables.

use std::fmt;

use crate::addr::PortRange;
use crate::net::netlink::number;
use crate::pinhole::kernel::{CONNECTION_MARK, CONNECTION_MASK, INTERCEPTED};

/// What is to be accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Accept {
    /// Data connections through the kernel.
    Marked,
    /// What `tproxy` hands over, which is to these ports.
    Intercepted(PortRange),
    /// What `redirect` hands over.
    Redirected,
    /// Connections that stand.
    Established,
    /// Connections to these ports.
    To(PortRange),
    /// Connections from this port.
    From(u16),
}

/// A chain of another firewall.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ChainName {
    pub(super) family: u8,
    pub(super) table: String,
    pub(super) chain: String,
}

impl fmt::Display for ChainName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let family = match self.family {
            number::IPV4 => "ip",
            number::IPV6 => "ip6",
            _ => "inet",
        };
        write!(f, "{family} {} {}", self.table, self.chain)
    }
}

impl ChainName {
    /// The command of iptables that this chain is made by, where it is one of its own.
    pub(super) fn iptables(&self) -> Option<String> {
        const TABLES: [&str; 5] = ["filter", "nat", "mangle", "raw", "security"];
        let program = match self.family {
            number::IPV4 => "iptables",
            number::IPV6 => "ip6tables",
            _ => return None,
        };
        // nftables' own customs are lower case.
        let is_its_own = TABLES.contains(&self.table.as_str()) && !self.chain.chars().any(char::is_lowercase);
        let table = if self.table == "filter" { String::new() } else { format!(" -t {}", self.table) };
        is_its_own.then(|| format!("{program}{table}"))
    }

    /// Whether firewalld makes it.
    pub(super) fn is_of_firewalld(&self) -> bool {
        self.table == "firewalld"
    }

    /// The command that has this chain accept something, before its other rules, as a part of a sentence.
    pub(super) fn command(&self, accept: Accept) -> String {
        if let Some(iptables) = self.iptables() {
            return format!("`{iptables} -I {} {} -j ACCEPT`", self.chain, accept.for_iptables());
        }
        if !self.is_of_firewalld() {
            return format!("`nft insert rule {self} {} accept`", accept.for_nftables());
        }
        match accept {
            Accept::To(ports) | Accept::Intercepted(ports) => {
                format!("`firewall-cmd --permanent --add-port={ports}/tcp && firewall-cmd --reload`")
            }
            Accept::Marked | Accept::Redirected | Accept::Established | Accept::From(_) => {
                format!(
                    "`nft insert rule {self} {} accept`, again whenever firewalld has loaded its own, which has no words \
                     for it",
                    accept.for_nftables()
                )
            }
        }
    }
}

impl Accept {
    fn for_nftables(self) -> String {
        match self {
            Self::Marked => format!("ct mark and {CONNECTION_MASK:#x} == {CONNECTION_MARK:#x}"),
            Self::Intercepted(_) => format!("meta mark {INTERCEPTED:#x}"),
            Self::Redirected => "ct status dnat".to_owned(),
            Self::Established => "ct state established,related".to_owned(),
            Self::To(ports) => format!("tcp dport {ports}"),
            Self::From(port) => format!("tcp sport {port}"),
        }
    }

    fn for_iptables(self) -> String {
        match self {
            Self::Marked => format!("-m connmark --mark {CONNECTION_MARK:#x}/{CONNECTION_MASK:#x}"),
            Self::Intercepted(_) => format!("-m mark --mark {INTERCEPTED:#x}"),
            Self::Redirected => "-m conntrack --ctstate DNAT".to_owned(),
            Self::Established => "-m conntrack --ctstate ESTABLISHED,RELATED".to_owned(),
            Self::To(ports) => format!("-p tcp --dport {}", ports.to_string().replace('-', ":")),
            Self::From(port) => format!("-p tcp --sport {port}"),
        }
    }
}
