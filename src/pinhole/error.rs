//! Why a pinhole could not be opened.

use std::io;
use std::net::{IpAddr, SocketAddr};

use rustix::io::Errno;

use crate::addr::PortRanges;
use crate::session::WhyRelay;

/// Why a pinhole could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Each port of the range waits for this peer already, or is another program's.
    #[error(
        "no port of {ports} is free for {for_peer}: each one waits for it already; widen gate_ports, or let it \
         transfer fewer files at a time"
    )]
    RangeFull {
        /// The range.
        ports: PortRanges,
        /// The peer that would have connected.
        for_peer: IpAddr,
    },
    /// Each port of the range is another program's.
    #[error(
        "every port of {ports} is taken by another program at {at}: `ss -ltnp` shows which; stop it or change gate_ports"
    )]
    InUse {
        /// The range.
        ports: PortRanges,
        /// The gate's address.
        at: IpAddr,
    },
    /// We may not listen there.
    #[error(
        "not permitted to listen at {at}: it takes CAP_NET_ADMIN to stand for an address that is not ours, and \
         CAP_NET_BIND_SERVICE for a port under 1024"
    )]
    Privilege {
        /// The address and port.
        at: SocketAddr,
    },
    /// The address is not one of this machine.
    #[error(
        "cannot listen at {at}: this machine does not have that address (any more); `ip address` shows those it has"
    )]
    AddressGone {
        /// The address and port.
        at: SocketAddr,
    },
    /// No file descriptor is left.
    #[error("no file descriptor left to listen at {at}: raise the limit of open files (LimitNOFILE)")]
    NoDescriptors {
        /// The address and port.
        at: SocketAddr,
    },
    /// The rule wants the kernel's datapath, which cannot carry this connection.
    #[error("the rule says `datapath: kernel`, but {}; `datapath: auto` would relay it", .0.text())]
    NotByKernel(WhyRelay),
    /// Anything else that the kernel says.
    #[error("cannot listen at {at}: {error}")]
    Io {
        /// The address and port.
        at: SocketAddr,
        /// What the kernel says.
        #[source]
        error: io::Error,
    },
}

impl OpenError {
    /// Names what the kernel says about listening at `at`.
    pub(super) fn at(at: SocketAddr, error: io::Error) -> Self {
        match Errno::from_io_error(&error) {
            Some(Errno::PERM | Errno::ACCESS) => Self::Privilege { at },
            Some(Errno::ADDRNOTAVAIL) => Self::AddressGone { at },
            Some(Errno::MFILE | Errno::NFILE) => Self::NoDescriptors { at },
            _ => Self::Io { at, error },
        }
    }
}
