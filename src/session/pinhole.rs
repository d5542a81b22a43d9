//! A pinhole as the session asks for it: two legs, each dialled or listened for.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::addr::{PortRanges, Side};
use crate::policy::Datapath;

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

/// One leg of a data connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Leg {
    /// The peer connects to us.
    Listen {
        /// The address of ours that it connects to. It may be another's address in transparent mode.
        at: IpAddr,
        /// The ports that may be chosen from.
        ports: PortRanges,
        /// The only address that may connect.
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
    /// We ended it: both sides were reset.
    Aborted,
}
