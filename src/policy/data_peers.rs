//! Other addresses of the same peers: where data may come from or go to beside the address of the control connection.

use std::net::IpAddr;
use std::sync::Arc;

use crate::addr::{Network, Side};

/// Networks in which clients, and servers, have further addresses for data; often none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DataPeers {
    /// Of clients.
    pub client: Networks,
    /// Of servers.
    pub server: Networks,
}

/// Some networks, often none. Clones share them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks(Arc<[Network]>);

impl DataPeers {
    /// Those of this side.
    #[must_use]
    pub const fn of(&self, side: Side) -> &Networks {
        match side {
            Side::Client => &self.client,
            Side::Server => &self.server,
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.client.is_empty() && self.server.is_empty()
    }
}

impl Networks {
    /// These.
    #[must_use]
    pub fn new(networks: Vec<Network>) -> Self {
        Self(networks.into())
    }

    /// Each of them.
    #[must_use]
    pub fn as_slice(&self) -> &[Network] {
        &self.0
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `ip` is in one of them.
    #[must_use]
    pub fn contains(&self, ip: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(ip))
    }

    /// Whether an address may be in both.
    #[must_use]
    pub fn overlap(&self, other: &Self) -> bool {
        self.0.iter().any(|one| other.0.iter().any(|other| one.covers(other) || other.covers(one)))
    }
}
