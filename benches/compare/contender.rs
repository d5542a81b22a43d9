//! What stands between the clients and the server.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::process::Command;

use super::ftp_server::PROXY_PORTS;
use super::lab::gate::Gate;
use super::lab::job::Job;
use super::lab::net::{Net, PATH};
use super::lab::scratch::Scratch;
use super::lab::{Family, Fault};
use super::rivals;

/// One way from a client to its server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contender {
    /// Nothing but a router.
    Routed,
    /// The kernel's FTP helper, with NAT on both sides.
    Helper,
    /// ftpgate, which leads data connections in the kernel.
    Kernel,
    /// The same with very many rules.
    KernelRules,
    /// ftpgate, which moves the bytes itself.
    Relay,
    /// The same with very many rules.
    RelayRules,
    /// HAProxy, which knows nothing of FTP: each passive port leads to the server's of the same number.
    Haproxy,
    /// ProFTPD's mod_proxy, as a reverse proxy.
    ModProxy,
    /// SUSE's ftp-proxy.
    FtpProxy,
}

/// The words in which a client asks for a data connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notation {
    /// PASV and PORT.
    Plain,
    /// EPSV and EPRT.
    Extended,
}

/// How many rules are very many.
const RULES: usize = 100_000;

impl Contender {
    pub const ALL: [Self; 9] = [
        Self::Routed,
        Self::Helper,
        Self::Kernel,
        Self::KernelRules,
        Self::Relay,
        Self::RelayRules,
        Self::Haproxy,
        Self::ModProxy,
        Self::FtpProxy,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Routed => "routed",
            Self::Helper => "helper",
            Self::Kernel => "kernel",
            Self::KernelRules => "kernel-100k",
            Self::Relay => "relay",
            Self::RelayRules => "relay-100k",
            Self::Haproxy => "haproxy",
            Self::ModProxy => "mod_proxy",
            Self::FtpProxy => "ftp-proxy",
        }
    }

    pub const fn notation(self) -> Notation {
        match self {
            Self::FtpProxy => Notation::Plain,
            _ => Notation::Extended,
        }
    }

    /// Whether it takes active mode through.
    pub const fn is_active_too(self) -> bool {
        !matches!(self, Self::Haproxy)
    }

    /// Whether it has a process for each session.
    pub const fn forks(self) -> bool {
        matches!(self, Self::ModProxy | Self::FtpProxy)
    }

    /// Whether it is a variant, of which only what rules may slow down is measured.
    pub const fn has_many_rules(self) -> bool {
        matches!(self, Self::KernelRules | Self::RelayRules)
    }

    /// The most sessions that it holds at once, of those that are asked for.
    pub const fn holds(self) -> usize {
        match self {
            Self::ModProxy => rivals::MOD_PROXY_SESSIONS,
            Self::FtpProxy => rivals::FTP_PROXY_SESSIONS,
            _ => usize::MAX,
        }
    }

    /// Whether clients have to bear with it: at thousands of new sessions in a second the kernel's helper does not
    /// follow one or the other, whose data connections are then refused.
    pub const fn takes_patience(self) -> bool {
        matches!(self, Self::Helper)
    }

    /// Where clients find the server.
    pub fn at(self) -> SocketAddr {
        let ip: IpAddr = match self {
            Self::Routed => Net::server_address(Family::V4),
            _ => Net::gate_address(Family::V4),
        };
        SocketAddr::new(ip, 21)
    }

    /// Sets it up on the gate's host.
    pub fn start(self, net: &Net, folder: &Scratch) -> Result<Running, Fault> {
        Ok(match self {
            Self::Routed => Running::Host,
            Self::Helper => {
                let mut nft = Command::new("nft");
                nft.args(["-f", "-"]).env("PATH", PATH);
                net.gate.feed(nft, HELPER)?;
                Running::Host
            }
            Self::Kernel => Running::Gate(Gate::start_with(net, &rules("kernel", 0), 21)?),
            Self::KernelRules => Running::Gate(Gate::start_with(net, &rules("kernel", RULES), 21)?),
            Self::Relay => Running::Gate(Gate::start_with(net, &rules("relay", 0), 21)?),
            Self::RelayRules => Running::Gate(Gate::start_with(net, &rules("relay", RULES), 21)?),
            Self::Haproxy => Running::Job(rivals::haproxy(net, folder)?),
            Self::ModProxy => Running::Job(rivals::mod_proxy(net, folder)?),
            Self::FtpProxy => Running::Job(rivals::ftp_proxy(net, folder)?),
        })
    }
}

/// A contender that has been set up; it ends when dropped.
pub enum Running {
    /// The host's kernel does it all.
    Host,
    Gate(Gate),
    Job(Job),
}

impl Running {
    /// The process that does it, the parent of all others.
    pub fn process(&self) -> Result<Option<i32>, Fault> {
        Ok(match self {
            Self::Host => None,
            Self::Gate(gate) => Some(gate.process()),
            Self::Job(job) => Some(job.process()?),
        })
    }

    /// What it said last.
    pub fn said(&self) -> String {
        match self {
            Self::Host => String::new(),
            Self::Gate(gate) => gate.tail(),
            Self::Job(job) => job.tail(),
        }
    }
}

const HELPER: &str = "table inet nat {
ct helper ftp { type \"ftp\" protocol tcp; }
chain first { type filter hook prerouting priority filter; tcp dport 21 ct helper set \"ftp\"; }
chain pre { type nat hook prerouting priority dstnat; ip daddr 10.1.0.1 tcp dport 21 dnat ip to 10.2.0.2; }
chain post { type nat hook postrouting priority srcnat; oifname \"wan\" masquerade; }
chain forward { type filter hook forward priority filter; policy drop; ct state established,related accept
 ip daddr 10.2.0.2 tcp dport 21 accept; }
}
";

/// The rules of the bench, behind `others` that are about other clients.
fn rules(datapath: &str, others: usize) -> String {
    let mut text = "version: 1
listeners:
  - name: front
    bind: \"10.1.0.1:21\"
    server: \"10.2.0.2:21\"
limits: { sessions: off, per_client: { sessions: off } }
rules:
"
    .to_owned();
    for other in 0..others {
        let [_, a, b, c] = u32::try_from(other).expect("there are not that many").to_be_bytes();
        let from = format!("  - name: other-{other}\n    from: \"100.{}.{b}.{c}\"\n", 64 + a);
        text.push_str(&from);
        text.push_str("    to: \"10.2.0.2:21\"\n    action: allow\n    inbound: \"10001-10020\"\n");
        // Any rule that may take the kernel has conntrack look at every packet.
        let _infallible = writeln!(text, "    datapath: {datapath}");
    }
    let _infallible = write!(
        text,
        "  - name: bench
    from: \"10.1.0.0/24\"
    to: \"10.2.0.2:21\"
    action: allow
    inbound: \"{}-{}\"
    outbound: \"40000-41999\"
    datapath: {datapath}
",
        PROXY_PORTS.start(),
        PROXY_PORTS.end()
    );
    text
}
