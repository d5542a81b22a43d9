//! How connections to servers get to transparent listeners: nftables rules and routes, and that nothing gets past them.
//!
//! What a rules file needs is one [`Interception`]. `ftpgate intercept` prints it as a script, `run --intercept` loads it
//! itself, and every gate with a transparent listener compares it with what the kernel has. It is closed when in doubt:
//! what is not handed to a listener is dropped on its way to a server's control port, whether
//! the gate runs or not.

mod bridges;
mod guard;
mod load;
mod plan;
mod routes;
mod script;
mod state;
mod table;
#[cfg(test)]
mod tests;

pub use bridges::Bridged;
pub use guard::Guard;
pub use script::{script, undo};
pub use state::{Missing, Seen};

use crate::policy::Policy;
use table::{Family, Table};

/// The packet mark of what must be delivered to this machine though it is not addressed to it.
const MARK: u32 = crate::pinhole::INTERCEPTED;
/// The routing table that delivers marked packets, and the priority of the rule that leads to it: before the main table's.
const ROUTES: u32 = 2121;
/// The priority of the rule by which reverse-path filters, which look from `lo`, find the way back in the main table.
const FILTERS: u32 = 2120;
/// The nftables table; all of it is replaced, and nothing else is touched.
const TABLE: &str = "ftpgate_intercept";

/// What happens to connections that do not get to the gate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Otherwise {
    /// They are dropped.
    #[default]
    Closed,
    /// They go to the server, past the gate and its rules.
    Open,
}

/// What the transparent listeners of a rules file need of the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interception {
    table: Table,
    /// Those that have a listener, and so need a rule and a route.
    families: Vec<Family>,
}

/// Packets that rules of the interception were for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// First packets of control connections that were handed to a listener, each as often as it came.
    pub handed_over: u64,
    /// What was dropped on its way past the listeners.
    pub dropped: u64,
}

/// Something that is not as it has to be, or could not be made so.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// nftables or routes cannot be asked or changed.
    #[error("{what}: {error}")]
    Kernel {
        /// What was wanted.
        what: &'static str,
        /// What the kernel says.
        error: std::io::Error,
    },
}

impl Fault {
    /// Whether this process may not ask at all.
    #[must_use]
    pub fn is_privilege(&self) -> bool {
        let Self::Kernel { error, .. } = self;
        error.kind() == std::io::ErrorKind::PermissionDenied
    }
}

impl Interception {
    /// What this policy needs; `None` where no listener is transparent.
    #[must_use]
    pub fn of(policy: &Policy, otherwise: Otherwise) -> Option<Self> {
        plan::of(policy, otherwise)
    }

    /// What happens to connections that do not get to the gate.
    #[must_use]
    pub fn otherwise(&self) -> Otherwise {
        if self.table.chain(table::Hook::Forward).is_some() { Otherwise::Closed } else { Otherwise::Open }
    }

    /// The families of servers that no listener takes, though rules name them: what goes there is dropped.
    pub fn without_listener(&self) -> impl Iterator<Item = &'static str> {
        let has = |family: &Family| !self.families.contains(family) && self.table.guards(*family);
        [Family::V4, Family::V6].into_iter().filter(has).map(Family::name)
    }

    /// Makes the kernel have it, in place of the table that was there, and the routes.
    ///
    /// # Errors
    /// What could not be done; the old table is still there where it was nftables.
    pub fn load(&self) -> Result<(), Fault> {
        let nft = |error| Fault::Kernel { what: "nftables does not take the interception", error };
        let route = |error| Fault::Kernel { what: "the routes of marked packets cannot be set", error };
        // Whatever becomes of the one, the other is worth having: what is marked and not delivered is dropped.
        let (table, routes) = (load::replace(&self.table), routes::add(&self.families));
        table.map_err(nft)?;
        routes.map_err(route)
    }

    /// Takes away all that [`Interception::load`] made, of whatever rules file.
    ///
    /// # Errors
    /// What could not be done.
    pub fn unload() -> Result<(), Fault> {
        let nft = |error| Fault::Kernel { what: "the interception cannot be taken out of nftables", error };
        let route = |error| Fault::Kernel { what: "the routes of marked packets cannot be removed", error };
        load::remove().map_err(nft)?;
        routes::remove().map_err(route)
    }

    /// What it has counted since it was loaded.
    ///
    /// # Errors
    /// The kernel cannot be asked.
    pub fn counts() -> Result<Counts, Fault> {
        state::counts(TABLE).map_err(|error| Fault::Kernel { what: "the kernel does not tell its counters", error })
    }

    /// What of it the kernel does not have. `seen` is what it was when it was complete, by which changes are found that leave
    /// the number of rules as it was.
    ///
    /// # Errors
    /// The kernel cannot be asked.
    pub fn missing(&self, seen: &mut Option<Seen>) -> Result<Vec<Missing>, Fault> {
        let ask = |error| Fault::Kernel { what: "the kernel does not tell its rules", error };
        state::missing(self, seen).map_err(ask)
    }
}
