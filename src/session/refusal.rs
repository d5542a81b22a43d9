//! Refusals: each has a name to look up, a reply for the client, and advice for the operator.

use std::net::IpAddr;

use super::pinhole::WhyRelay;
use crate::addr::{PortRanges, is_dialable};
use crate::ftp::buffer::Hidden;
use crate::ftp::effect::Effect;
use crate::ftp::host_port::Malformed;
use crate::policy::NotAllowed;

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
    /// Active mode would have the gate connect to itself, and the rule does not name the client for that.
    ClientIsGate(IpAddr),
    /// Active mode would have the gate connect to an address that no host elsewhere has: link-local, multicast.
    ClientNotDialable(IpAddr),
    /// The server names another host's address, and the rule says to refuse that.
    ForeignServerAddress {
        /// What it named.
        named: IpAddr,
        /// Where its control connection leads.
        peer: IpAddr,
    },
    /// 227 would name the address of `advertise`, and no name server knows it.
    AdvertiseUnknown,
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
    /// A transfer mode in which a data connection may serve more than one file: MODE B, C, E or X.
    TransferMode,
    /// AUTH and what belongs to it.
    Encryption,
    /// The server's port cannot be connected to, and the client has not been told of one yet.
    ServerPortClosed(std::io::ErrorKind),
    /// Each port of the range is in use for this peer.
    RangeFull {
        /// The rule has `data_peers`, so that a port that waits for another peer may be closed to this one.
        has_data_peers: bool,
    },
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
    /// A long line whose end some servers would take for a command of its own.
    HiddenCommand(Hidden),
    /// A line with NUL, a CR within, or a verb with other bytes than letters and digits.
    Garbage,
    /// An empty line.
    EmptyLine,
    /// The server answered another command with 227 or 229.
    UnaskedPassiveReply,
    /// The server sent a reply to which there is no command: a second final for one transfer, mostly.
    UnaskedReply,
    /// A reply of several lines ended by another code than it began with.
    ReplyEnd,
    /// The rules deny the user that the client names.
    UserDenied,
    /// The client names a user of another rule while one is logged in: a server may say 230 and change nothing.
    UserChange,
    /// The user decides which rule holds, and nobody is logged in.
    NotLoggedIn,
    /// The rule does not let clients give this command.
    CommandNotAllowed {
        /// What forbids it.
        why: NotAllowed,
        /// What it would do.
        effect: Effect,
    },
    /// The rule does not let clients do this with the path that they name.
    PathNotAllowed {
        /// What they would do.
        effect: Effect,
    },
    /// The path cannot be told, and the rule speaks of paths.
    PathUnknown {
        /// What they would do with it.
        effect: Effect,
    },
    /// A client named a server in a form that cannot be read.
    DestinationMalformed,
    /// No name server knows the server that a client named, or none answers.
    NameUnknown,
    /// A client named an address that no server has: loopback, link-local, multicast.
    DestinationNotDialable(IpAddr),
    /// A client named the gate itself.
    DestinationIsGate(IpAddr),
    /// The rules do not allow the client the server that it named.
    DestinationDenied,
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
            Self::ClientIsGate(_) => "client_is_gate",
            Self::ClientNotDialable(_) => "client_not_dialable",
            Self::ForeignServerAddress { .. } => "foreign_server_address",
            Self::AdvertiseUnknown => "advertise_unknown",
            Self::MalformedRequest(_) => "malformed_request",
            Self::MalformedReply(_) => "malformed_reply",
            Self::WrongFamily { .. } => "wrong_family",
            Self::UnknownNegotiation => "unknown_negotiation",
            Self::EpsvAll => "epsv_all",
            Self::NothingNegotiated => "nothing_negotiated",
            Self::TransferMode => "transfer_mode",
            Self::Encryption => "encryption_not_possible",
            Self::ServerPortClosed(_) => "server_port_closed",
            Self::RangeFull { .. } => "range_full",
            Self::TooManyConnections => "too_many_connections",
            Self::PortsTaken => "ports_taken",
            Self::NoPrivilege => "no_privilege",
            Self::AddressGone => "address_gone",
            Self::NoDescriptors => "no_descriptors",
            Self::System(_) => "system_error",
            Self::KernelRefused(_) => "kernel_refused",
            Self::NotByKernel(_) => "not_by_kernel",
            Self::LineTooLong => "line_too_long",
            Self::HiddenCommand(_) => "hidden_command",
            Self::Garbage => "garbage",
            Self::EmptyLine => "empty_line",
            Self::UnaskedPassiveReply => "unasked_passive_reply",
            Self::UnaskedReply => "unasked_reply",
            Self::ReplyEnd => "reply_end",
            Self::UserDenied => "user_denied",
            Self::UserChange => "user_change",
            Self::NotLoggedIn => "not_logged_in",
            Self::CommandNotAllowed { why: NotAllowed::List | NotAllowed::Word, .. } => "command_not_allowed",
            Self::CommandNotAllowed { why: NotAllowed::Unknown, .. } => "unknown_command",
            Self::CommandNotAllowed { why: NotAllowed::ReadOnly, .. } => "read_only",
            Self::PathNotAllowed { .. } => "path_not_allowed",
            Self::PathUnknown { .. } => "path_unknown",
            Self::DestinationMalformed => "destination_malformed",
            Self::NameUnknown => "name_unknown",
            Self::DestinationNotDialable(_) => "destination_not_dialable",
            Self::DestinationIsGate(_) => "destination_is_gate",
            Self::DestinationDenied => "denied",
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
            Self::ClientIsGate(peer) | Self::ClientNotDialable(peer) => {
                format!("504 Active mode does not lead to {peer}; use PASV or EPSV.")
            }
            Self::ForeignServerAddress { .. } => {
                "425 Can't open data connection: the server names another host's address.".into()
            }
            Self::AdvertiseUnknown => {
                "425 Can't open data connection: use EPSV, for PASV has no address to name.".into()
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
            Self::TransferMode => "504 Only MODE S and MODE Z are possible here.".into(),
            Self::Encryption => "534 Encryption is not possible here.".into(),
            Self::ServerPortClosed(_) => "425 Can't open data connection: the server's port is closed.".into(),
            Self::RangeFull { .. } | Self::PortsTaken => {
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
            Self::HiddenCommand(Hidden { at, .. }) => {
                format!("501 Some servers would begin a new command behind byte {at}; change the directory first.")
            }
            Self::Garbage | Self::EmptyLine => "500 This is not a command.".into(),
            Self::UnaskedPassiveReply | Self::UnaskedReply | Self::ReplyEnd => {
                "451 The server's answer does not fit the command.".into()
            }
            Self::UserDenied => "530 This user is not allowed here.".into(),
            Self::UserChange => "530 Another user is logged in; connect again.".into(),
            Self::NotLoggedIn => "530 Log in first.".into(),
            Self::CommandNotAllowed { why: NotAllowed::ReadOnly, effect } => {
                format!("{} Nothing can be changed here.", refusing(*effect))
            }
            // Not 550: curl takes that, in answer to SIZE, for a file that is missing.
            Self::CommandNotAllowed { effect: Effect::List, .. } => "502 This command is not allowed here.".into(),
            Self::CommandNotAllowed { effect, .. } => {
                format!("{} This command is not allowed here.", refusing(*effect))
            }
            Self::PathNotAllowed { effect } | Self::PathUnknown { effect } => {
                format!("{} This is not allowed with this path.", refusing(*effect))
            }
            Self::DestinationMalformed => {
                "501 The server's name cannot be read; say name@host or name@host:port.".into()
            }
            Self::NameUnknown => "530 No address is known for this server.".into(),
            Self::DestinationNotDialable(_) | Self::DestinationIsGate(_) | Self::DestinationDenied => {
                "530 The rules do not allow this server.".into()
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
            Self::ForeignAddress { named, peer } if !is_dialable(*named) => format!(
                "it named {named} but comes from {peer}: no host elsewhere has that address, and data never goes there (see \
                `foreign_address: {{ client: use_peer }}`)"
            ),
            Self::ForeignAddress { named, peer } => {
                format!(
                    "it named {named} but comes from {peer}: a bounce attempt, or a NAT between it and the gate \
                    (then write `foreign_address: {{ client: use_peer }}`), or another address of its own (then name its network in \
                    `data_peers`)"
                )
            }
            Self::ClientIsGate(ip) if ip.is_loopback() => format!(
                "the client {ip} is on this machine; to let the gate connect to it, add `{ip}` to the rule's `from` \
                beside any wider network"
            ),
            Self::ClientIsGate(ip) => format!(
                "{ip} is this machine, or stands for it; to let the gate connect to it, add `{ip}` to the rule's `from` \
                beside any wider network"
            ),
            Self::ClientNotDialable(ip) => format!(
                "{ip} is no address of a host in the network; a link-local one needs a network such as \
                `169.254.0.0/16` or `fe80::/10` in the rule's `from`"
            ),
            Self::ForeignServerAddress { named, peer } if !is_dialable(*named) => format!(
                "the server named {named} but is {peer}: no host elsewhere has that address, and data never goes there; \
                `foreign_address: use_peer` would use {peer}"
            ),
            Self::ForeignServerAddress { named, peer } => {
                format!(
                    "the server named {named} but is {peer}; `foreign_address: use_peer` would use that, and with its network \
                    in `data_peers` it would be used"
                )
            }
            Self::AdvertiseUnknown => {
                "the name in the listener's `advertise` has no address: is the name server up?".into()
            }
            Self::MalformedRequest(what) => format!("the client's line cannot be read: {what}"),
            Self::MalformedReply(what) => format!("the server's 227 or 229 cannot be read: {what}"),
            Self::WrongFamily { .. } => "the client asks for a family that its connection does not have".into(),
            Self::UnknownNegotiation => "the client should use PASV, EPSV, PORT or EPRT".into(),
            Self::EpsvAll => "the client sent EPSV ALL and then another way to negotiate".into(),
            Self::NothingNegotiated => "the client must negotiate a data connection before each transfer".into(),
            Self::TransferMode => {
                "in this mode one data connection may serve several files, and the gate opens one for each: let the client \
                use stream mode"
                    .into()
            }
            Self::Encryption => "let the client log in without TLS: the gate cannot read what is encrypted".into(),
            Self::ServerPortClosed(error) => format!(
                "the port that the server names by EPSV cannot be connected to ({error}), so that it is asked by PASV: a firewall \
                 or NAT between the gate and the server may know PASV alone"
            ),
            Self::RangeFull { has_data_peers: false } => {
                "widen the rule's gate_ports, or shorten pinhole_timeout".into()
            }
            Self::RangeFull { has_data_peers: true } => "with `data_peers` a port does not wait for two peers of which either \
                may come from the same address: write a port into gate_ports for each transfer at a time, or narrow `data_peers`"
                .into(),
            Self::TooManyConnections => "the client leaves its data connections open: it may hang, or mean harm; one address may use a quarter of the \
                descriptors that are kept for data for more than one connection in each session"
                .into(),
            Self::PortsTaken => "other programs listen on every port of gate_ports; choose another range".into(),
            Self::NoPrivilege => "give the gate CAP_NET_ADMIN (foreign addresses) or CAP_NET_BIND_SERVICE".into(),
            Self::AddressGone => "the interface has lost the address that the client connected to".into(),
            Self::NoDescriptors => "raise the limit of open files (LimitNOFILE=)".into(),
            Self::System(kind) => format!("the kernel says: {kind}"),
            Self::KernelRefused(kind) => format!("nftables did not take the pinhole: {kind}; `dmesg` may say more"),
            Self::NotByKernel(why) => format!("{}: `datapath: auto` would relay it", why.text()),
            Self::LineTooLong | Self::Garbage | Self::EmptyLine => "the client does not speak FTP as it should".into(),
            Self::HiddenCommand(Hidden { at, verb }) => format!(
                "a server that reads {at} bytes at a time would take `{verb}` behind them for a command: an attack, or a path \
                with such a word just there; then let the client change the directory first"
            ),
            Self::UnaskedPassiveReply => "no PASV or EPSV was outstanding: a faulty or hostile server".into(),
            Self::UnaskedReply => "the server sent a reply that no command waits for, mostly a second one: the client was not told".into(),
            Self::ReplyEnd => "the server ended a reply of several lines by another code: it was taken for ended".into(),
            Self::UserDenied => {
                "no rule that allows is for this user; `ftpgate explain --user` shows how they were walked".into()
            }
            Self::UserChange => "a server may say 230 to USER and change nobody; the client should connect anew".into(),
            Self::NotLoggedIn => "rules with `users` decide when the client has logged in".into(),
            Self::CommandNotAllowed { why: NotAllowed::List, .. } => "see `commands` of the rule".into(),
            Self::CommandNotAllowed { why: NotAllowed::Word, .. } => {
                "the rule lists two-word commands, and the word behind this verb is not letters and digits: servers may \
                read another one"
                    .into()
            }
            Self::CommandNotAllowed { why: NotAllowed::Unknown, .. } => {
                "the rule denies commands by name, and a verb that is not known may be another name for one of them: add \
                it to `allow_unknown`, or list what is allowed"
                    .into()
            }
            Self::CommandNotAllowed { why: NotAllowed::ReadOnly, .. } => "the rule has `read_only: true`".into(),
            Self::PathNotAllowed { .. } => "see `paths` of the rule".into(),
            Self::PathUnknown { .. } => {
                "the rule has `paths`, and only the server can tell where this one leads: let the client name it whole"
                    .into()
            }
            Self::DestinationMalformed => "the client should log in as name@host or name@host:port".into(),
            Self::NameUnknown => "is the name right, and does a name server of /etc/resolv.conf answer?".into(),
            Self::DestinationNotDialable(ip) => format!("{ip} is no address of a host in the network"),
            Self::DestinationIsGate(ip) => format!("{ip} is this machine, or stands for it"),
            Self::DestinationDenied => "`ftpgate explain` shows how the rules were walked".into(),
        }
    }
}

/// The code that RFC 959 section 5.4 and RFC 3659 give commands that do this, when they are refused for what they name.
const fn refusing(effect: Effect) -> u16 {
    match effect {
        Effect::Upload => 553,
        Effect::Navigate | Effect::List | Effect::Download | Effect::Delete => 550,
        Effect::Session | Effect::Unknown => 502,
    }
}
