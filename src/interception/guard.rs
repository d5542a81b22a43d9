//! A table of the gate's own that drops what was not handed over: `nft flush ruleset` leaves it alone.

use std::io;

use super::load::{self, Owner};
use super::state;
use super::table::{Hook, Table};
use super::{Fault, Interception};
use crate::net::netlink::Batches;

/// How many gates one machine may have, before one says that it found no name.
const NAMES: u32 = 64;

/// The table; it goes with the process.
#[derive(Debug)]
pub struct Guard {
    batches: Batches,
    name: String,
    table: Table,
}

impl Guard {
    /// Drops what is not handed over, for as long as this lives.
    ///
    /// # Errors
    /// The kernel does not take it.
    pub fn start(interception: &Interception) -> Result<Self, Fault> {
        let own = format!("ftpgate_guard-{}", std::process::id());
        // In another container a process may have the same number.
        let names = std::iter::once(own.clone()).chain((2..=NAMES).map(|n| format!("{own}-{n}")));
        let mut taken = None;
        for name in names {
            let batches = Batches::open().map_err(refused)?;
            let mut guard = Self { batches, name, table: Table(Vec::new()) };
            match guard.change(interception) {
                Ok(()) => return Ok(guard),
                Err(fault) if fault.is_privilege() => taken = Some(fault),
                Err(fault) => return Err(fault),
            }
        }
        Err(taken.unwrap_or_else(|| refused(io::ErrorKind::AlreadyExists.into())))
    }

    /// How many packets it has dropped since it was last changed.
    ///
    /// # Errors
    /// The kernel cannot be asked.
    pub fn dropped(&self) -> Result<u64, Fault> {
        state::counts(&self.name).map(|counts| counts.dropped).map_err(refused)
    }

    /// Guards the servers of other rules.
    ///
    /// # Errors
    /// The kernel does not take it; the old ones are still guarded.
    pub fn change(&mut self, interception: &Interception) -> Result<(), Fault> {
        let table = Table(interception.table.chain(Hook::Forward).cloned().into_iter().collect());
        if table != self.table {
            load::replace_as(&mut self.batches, &self.name, Owner::Socket, &table).map_err(refused)?;
            self.table = table;
        }
        Ok(())
    }
}

fn refused(error: io::Error) -> Fault {
    Fault::Kernel { what: "nftables does not take the table that drops what gets past the gate", error }
}
