//! A pinhole as the session asks for it: two legs, each dialled or listened for.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::addr::{PortRanges, Side};
use crate::policy::{DataPeers, Datapath, Limit, ProxyVersion};

/// Names one pinhole within its session; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PinholeId(pub u64);

/// Permission for one data connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pinhole {
    /// Comes back in every input that is about it.
    pub id: PinholeId,
    /// The leg between the client and us.
    pub client: Leg,
    /// The leg between us and the server.
    pub server: Leg,
    /// Who moves the bytes.
    pub datapath: Datapath,
    /// How long it waits for its connection; the session closes it then, and a datapath in the kernel does by itself.
    pub timeout: Duration,
    /// The PROXY header that the server is sent ahead of everything else, where we dial it.
    pub introduction: Option<Introduction>,
    /// Whether the server can be asked for another port where this one is closed. A relay that has not found this kind of
    /// port open before is to connect to it first, and to answer when it has: see [`Refusal::ServerPortClosed`].
    ///
    /// [`Refusal::ServerPortClosed`]: super::Refusal::ServerPortClosed
    pub has_other: bool,
    /// Who may connect beside the one address that each leg is listened for.
    pub data_peers: DataPeers,
}

impl Pinhole {
    /// The leg on this side.
    #[must_use]
    pub const fn leg(&self, side: Side) -> &Leg {
        match side {
            Side::Client => &self.client,
            Side::Server => &self.server,
        }
    }
}

/// What a PROXY header tells the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Introduction {
    /// The form of the header.
    pub version: ProxyVersion,
    /// Where the client is; where it connects to us for data, the port that it comes from stands in place of this one.
    pub client: SocketAddr,
    /// What the client connected to; for data, the port that it connects to stands in place of this one.
    pub front: SocketAddr,
}

/// One leg of a data connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Leg {
    /// The peer connects to us.
    Listen {
        /// The gate's address that it connects to. It may be another's address in transparent mode.
        at: IpAddr,
        /// The ports that may be chosen from.
        ports: PortRanges,
        /// The only address that may connect, but for the pinhole's `data_peers`.
        from: IpAddr,
    },
    /// We connect to the peer.
    Dial {
        /// Where the peer waits.
        to: SocketAddr,
        /// The address that it sees us come from, the one that its control connection has.
        from: IpAddr,
        /// The port that it sees us come from; `None`: any.
        from_port: Option<u16>,
    },
}

/// What became of a data connection, told once by the datapath.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataEnd {
    /// Bytes that went from the client to the server.
    pub to_server: u64,
    /// Bytes that went from the server to the client.
    pub to_client: u64,
    /// Whether one of these is not known exactly.
    pub is_estimate: bool,
    /// How it ended.
    pub how: HowEnded,
}

/// How a data connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HowEnded {
    /// Both sides closed it in order.
    Complete,
    /// This side reset it; the other side was reset too.
    CutBy(Side),
    /// This side could not be connected to; the other side was reset.
    NotReached {
        /// The side that was dialled.
        side: Side,
        /// What the kernel said.
        error: std::io::ErrorKind,
    },
    /// It reached this limit: both sides were reset.
    Limited(Limit),
    /// We ended it: both sides were reset.
    Aborted,
}

/// Who moves the bytes of a data connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// The kernel.
    Kernel,
    /// Our process.
    Relay(WhyRelay),
}

impl Carrier {
    /// The name of the datapath in logs, and of the reason why it is not the kernel.
    #[must_use]
    pub const fn names(self) -> (&'static str, Option<&'static str>) {
        match self {
            Self::Kernel => ("kernel", None),
            Self::Relay(why) => ("relay", Some(why.name())),
        }
    }
}

/// How it is known that a connection's handshake will not be completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhyHalfOpen {
    /// The address that the first packet came from answered the SYN-ACK with a reset.
    Reset,
    /// It did not acknowledge the SYN-ACK in time, or before another connection was complete.
    Silent,
}

/// Why our process moves the bytes and not the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhyRelay {
    /// The rule says so.
    Rule,
    /// There is no kernel datapath here; what is missing was said when the gate started.
    NoKernel,
    /// Both legs are dialled, or both are listened for.
    TwoOfAKind,
    /// One leg is IPv4 and the other IPv6.
    TwoFamilies,
    /// The client or the server is this machine, and nothing would be forwarded.
    PeerIsHere,
    /// This machine does not forward packets of the family.
    NoForwarding,
    /// A firewall on this machine would drop what is forwarded, or not track it.
    Firewall,
    /// A helper of conntrack's reads control connections too.
    Helper,
    /// Data may come from several addresses.
    DataPeers,
    /// A PROXY header comes first, on one side or the other.
    ProxyHeader,
    /// A limit is to be kept to that the kernel cannot.
    Limited,
}

impl WhyRelay {
    /// The name that logs use.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rule => "rule",
            Self::NoKernel => "no_kernel_datapath",
            Self::TwoOfAKind => "bridged_mode",
            Self::TwoFamilies => "bridged_family",
            Self::PeerIsHere => "peer_is_gate",
            Self::NoForwarding => "forwarding_off",
            Self::Firewall => "firewall",
            Self::Helper => "conntrack_helper",
            Self::DataPeers => "data_peers",
            Self::ProxyHeader => "proxy_header",
            Self::Limited => "limited",
        }
    }

    /// What it means.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Rule => "the rule says `datapath: relay`",
            Self::NoKernel => "there is no kernel datapath here",
            Self::TwoOfAKind => "both sides connect to the gate, or the gate to both",
            Self::TwoFamilies => "one side is IPv4 and the other IPv6",
            Self::PeerIsHere => "the client or the server is this machine, or an address is link-local",
            Self::NoForwarding => "this machine does not forward packets of this family",
            Self::Firewall => "a firewall on this machine drops what is forwarded, or leaves it untracked",
            Self::Helper => "a firewall on this machine sets conntrack's helper for FTP",
            Self::DataPeers => "the rule has `data_peers`, and the kernel takes data from one address alone",
            Self::ProxyHeader => "a PROXY header comes first, which takes the relay",
            Self::Limited => "there are limits on bytes or on stalls, which take the relay",
        }
    }
}
