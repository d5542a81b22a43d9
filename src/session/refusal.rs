//! Refusals: each has a name to look up, a reply for the client, and advice for the operator.

use std::net::IpAddr;

use super::pinhole::WhyRelay;
use crate::addr::PortRanges;
use crate::ftp::host_port::Malformed;

/// Why one request was refused. The session goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The rule has no `inbound`.
    PassiveNotAllowed,
    /// The rule has no `outbound`.
    ActiveNotAllowed,
    /// The client names a port of its own that the rule does not allow.
    ClientPort {
        /// What it named.
        port: u16,
        /// What the rule allows.
        allowed: PortRanges,
    },
    /// The server names a port of its own that the rule does not allow.
    ServerPort {
        /// What it named.
        port: u16,
        /// What the rule allows.
        allowed: PortRanges,
    },
    /// The client names another host's address (FTP bounce).
    ForeignAddress {
        /// What it named.
        named: IpAddr,
        /// Where its control connection comes from.
        peer: IpAddr,
    },
    /// PORT, EPRT or EPSV with an argument that cannot be read.
    MalformedRequest(Malformed),
    /// 227 or 229 that cannot be read.
    MalformedReply(Malformed),
    /// PASV or PORT on a connection of IPv6, or a family that the connection does not have.
    WrongFamily {
        /// What the client can use instead.
        v6: bool,
    },
    /// LPRT, LPSV and their like.
    UnknownNegotiation,
    /// Something else than EPSV after EPSV ALL.
    EpsvAll,
    /// A transfer with no PORT or PASV before it.
    NothingNegotiated,
    /// AUTH and what belongs to it.
    Encryption,
    /// Each port of the range is in use for this peer.
    RangeFull,
    /// The session's earlier data connections have not ended.
    TooManyConnections,
    /// Each port of the range is taken by other programs.
    PortsTaken,
    /// The kernel does not let us use the address or port.
    NoPrivilege,
    /// The address that we should listen on is no longer ours.
    AddressGone,
    /// No file descriptors are left.
    NoDescriptors,
    /// The kernel refused for another reason.
    System(std::io::ErrorKind),
    /// The kernel did not take the pinhole.
    KernelRefused(std::io::ErrorKind),
    /// The rule wants the kernel's datapath, which cannot carry this connection.
    NotByKernel(WhyRelay),
    /// A line that is too long.
    LineTooLong,
    /// A line with NUL, a CR within, or a verb with bytes that no verb has.
    Garbage,
    /// An empty line.
    EmptyLine,
    /// The server answered another command with 227 or 229.
    UnaskedPassiveReply,
    /// The server sent a reply to which there is no command: a second final for one transfer, mostly.
    UnaskedReply,
}

impl Refusal {
    /// The name that logs use and the README explains.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::PassiveNotAllowed => "passive_not_allowed",
            Self::ActiveNotAllowed => "active_not_allowed",
            Self::ClientPort { .. } => "client_port_outside_range",
            Self::ServerPort { .. } => "server_port_outside_range",
            Self::ForeignAddress { .. } => "foreign_address",
            Self::MalformedRequest(_) => "malformed_request",
            Self::MalformedReply(_) => "malformed_reply",
            Self::WrongFamily { .. } => "wrong_family",
            Self::UnknownNegotiation => "unknown_negotiation",
            Self::EpsvAll => "epsv_all",
            Self::NothingNegotiated => "nothing_negotiated",
            Self::Encryption => "encryption_not_possible",
            Self::RangeFull => "range_full",
            Self::TooManyConnections => "too_many_connections",
            Self::PortsTaken => "ports_taken",
            Self::NoPrivilege => "no_privilege",
            Self::AddressGone => "address_gone",
            Self::NoDescriptors => "no_descriptors",
            Self::System(_) => "system_error",
            Self::KernelRefused(_) => "kernel_refused",
            Self::NotByKernel(_) => "not_by_kernel",
            Self::LineTooLong => "line_too_long",
            Self::Garbage => "garbage",
            Self::EmptyLine => "empty_line",
            Self::UnaskedPassiveReply => "unasked_passive_reply",
            Self::UnaskedReply => "unasked_reply",
        }
    }

    /// The reply that the client gets, without its end. It repeats nothing that a peer said but numbers.
    #[must_use]
    pub fn reply(&self) -> String {
        match self {
            Self::PassiveNotAllowed => "502 Passive mode is not allowed here; use PORT or EPRT.".into(),
            Self::ActiveNotAllowed => "502 Active mode is not allowed here; use PASV or EPSV.".into(),
            Self::ClientPort { port, allowed } => format!("504 Port {port} is not allowed; use one of {allowed}."),
            Self::ServerPort { port, .. } => {
                format!("425 Can't open data connection: the server's port {port} is not allowed.")
            }
            Self::ForeignAddress { named, peer } => {
                format!("504 {named} is not your address; data goes to {peer} only.")
            }
            Self::MalformedRequest(Malformed::UnknownFamily) => {
                "522 Network protocol not supported, use (1,2)".to_owned()
            }
            Self::MalformedRequest(_) => "501 The address or port cannot be read.".into(),
            Self::MalformedReply(_) => "425 Can't open data connection: the server's answer cannot be read.".into(),
            Self::WrongFamily { v6: true } => "522 Network protocol not supported, use (2)".into(),
            Self::WrongFamily { v6: false } => "522 Network protocol not supported, use (1)".into(),
            Self::UnknownNegotiation => "502 Not supported here; use PASV, EPSV, PORT or EPRT.".into(),
            Self::EpsvAll => "503 After EPSV ALL only EPSV is possible.".into(),
            Self::NothingNegotiated => "425 Send PASV, EPSV, PORT or EPRT first.".into(),
            Self::Encryption => "534 Encryption is not possible here.".into(),
            Self::RangeFull | Self::PortsTaken => {
                "425 Can't open data connection: all ports are in use; try again later.".into()
            }
            Self::TooManyConnections => {
                "425 Can't open data connection: earlier ones have not ended; close them first.".into()
            }
            Self::NoPrivilege
            | Self::AddressGone
            | Self::NoDescriptors
            | Self::System(_)
            | Self::KernelRefused(_)
            | Self::NotByKernel(_) => {
                format!("425 Can't open data connection: {}.", self.name())
            }
            Self::LineTooLong => "500 Line too long.".into(),
            Self::Garbage | Self::EmptyLine => "500 This is not a command.".into(),
            Self::UnaskedPassiveReply | Self::UnaskedReply => {
                "451 The server's answer does not fit the command.".into()
            }
        }
    }

    /// What the operator can do about it.
    #[must_use]
    pub fn advice(&self) -> String {
        match self {
            Self::PassiveNotAllowed => "add `inbound:` to the rule to allow passive mode".into(),
            Self::ActiveNotAllowed => "add `outbound:` to the rule to allow active mode".into(),
            Self::ClientPort { port, allowed } => {
                format!("the client listens on {port}; the rule's outbound client_ports are {allowed}")
            }
            Self::ServerPort { port, allowed } => {
                format!("the server listens on {port}; the rule's inbound server_ports are {allowed}")
            }
            Self::ForeignAddress { named, peer } => {
                format!("it named {named} but comes from {peer}: a bounce attempt, or a NAT between it and the gate")
            }
            Self::MalformedRequest(what) => format!("the client's line cannot be read: {what}"),
            Self::MalformedReply(what) => format!("the server's 227 or 229 cannot be read: {what}"),
            Self::WrongFamily { .. } => "the client asks for a family that its connection does not have".into(),
            Self::UnknownNegotiation => "the client should use PASV, EPSV, PORT or EPRT".into(),
            Self::EpsvAll => "the client sent EPSV ALL and then another way to negotiate".into(),
            Self::NothingNegotiated => "the client must negotiate a data connection before each transfer".into(),
            Self::Encryption => "let the client log in without TLS: the gate cannot read what is encrypted".into(),
            Self::RangeFull => "widen the rule's gate_ports, or shorten pinhole_timeout".into(),
            Self::TooManyConnections => "the client leaves its data connections open: it may hang, or mean harm".into(),
            Self::PortsTaken => "other programs listen on every port of gate_ports; choose another range".into(),
            Self::NoPrivilege => "give the gate CAP_NET_ADMIN (foreign addresses) or CAP_NET_BIND_SERVICE".into(),
            Self::AddressGone => "the interface has lost the address that the client connected to".into(),
            Self::NoDescriptors => "raise the limit of open files (LimitNOFILE=)".into(),
            Self::System(kind) => format!("the kernel says: {kind}"),
            Self::KernelRefused(kind) => format!("nftables did not take the pinhole: {kind}; `dmesg` may say more"),
            Self::NotByKernel(why) => format!("{}: `datapath: auto` would relay it", why.text()),
            Self::LineTooLong | Self::Garbage | Self::EmptyLine => "the client does not speak FTP as it should".into(),
            Self::UnaskedPassiveReply => "no PASV or EPSV was outstanding: a faulty or hostile server".into(),
            Self::UnaskedReply => "the server answered a command twice; the client was told once".into(),
        }
    }
}
