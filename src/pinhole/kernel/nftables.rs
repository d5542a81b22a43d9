//! The table's life, and the changes of its sets: each batch is one transaction.

use std::fmt;
use std::io;
use std::time::Duration;

use super::element::{Change, Elements, Entrance, Guarded, Passage, Removal};
use super::mark::Own;
use super::set::Set;
use super::table;
use crate::net::netlink::{Batches, messages, number};

/// An answer is a header and the head of what it answers.
const ANSWER: usize = 4096;
/// How many changes one transaction takes.
pub(super) const BATCH: usize = 256;
/// How the names of all gates' tables begin.
pub(super) const NAME: &str = "ftpgate-";
/// How many gates one machine may have, before one says that it found no name.
const GATES: u16 = 64;

/// The table, and the socket that owns it: both go together.
#[derive(Debug)]
pub(super) struct Nftables {
    own: Own,
    batches: Batches,
    table: String,
    removal: Removal,
}

/// What the kernel does not do for us.
#[derive(Debug)]
pub(crate) struct Lacking {
    /// What was asked of it; nothing where no socket could be had.
    pub(super) part: Option<String>,
    pub(super) error: io::Error,
}

impl fmt::Display for Lacking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.part {
            Some(part) => write!(f, "the kernel does not take the {part}: {}", self.error),
            None => write!(f, "no socket to nftables: {}", self.error),
        }
    }
}

impl Lacking {
    /// Another socket owns a table of this name: the kernel says no to the message about the table, and where the
    /// privilege is missing to the batch as a whole.
    fn is_taken(&self) -> bool {
        let kind = self.error.kind();
        self.part.is_some() && matches!(kind, io::ErrorKind::PermissionDenied | io::ErrorKind::AlreadyExists)
    }
}

impl From<io::Error> for Lacking {
    fn from(error: io::Error) -> Self {
        Self { part: None, error }
    }
}

impl Nftables {
    /// Makes the table, under a name that no other gate on this machine has.
    pub(super) fn start() -> Result<Self, Lacking> {
        let batches = Batches::open()?;
        let mut nftables = Self { own: Own::nth(0), batches, table: String::new(), removal: Removal::Delete };
        let mut taken = None;
        for n in 0..GATES {
            nftables.own = Own::nth(n);
            nftables.table = format!("{NAME}{}", n + 1);
            match nftables.make() {
                Ok(()) => {
                    nftables.removal = nftables.find_removal()?;
                    return Ok(nftables);
                }
                Err(lacking) if lacking.is_taken() => taken = Some(lacking),
                Err(lacking) => return Err(lacking),
            }
        }
        Err(taken.unwrap_or_else(|| io::Error::from(io::ErrorKind::AlreadyExists).into()))
    }

    /// Which gate this is: no other one on this machine is the same while the table stands.
    pub(super) const fn own(&self) -> Own {
        self.own
    }

    /// The table's name.
    pub(super) fn name(&self) -> &str {
        &self.table
    }

    fn make(&mut self) -> Result<(), Lacking> {
        let first = self.batches.begin();
        let parts = table::write(self.own, &self.table, &mut self.batches.writer, first + 1);
        self.batches.sequence = first + 1 + u32::try_from(parts.len()).unwrap_or(u32::MAX);
        self.batches.commit(first).map_err(|failed| {
            let part = parts.iter().find(|(sequence, _)| *sequence == failed.sequence).map(|(_, part)| part.clone());
            Lacking { part, error: failed.error }
        })
    }

    /// How elements can be taken away, and whether they can be made at all, found out by trying.
    fn find_removal(&mut self) -> Result<Removal, Lacking> {
        let nowhere = std::net::SocketAddr::from(([0, 0, 0, 0], 0));
        let entrance = Entrance { from: nowhere.ip(), at: nowhere };
        let passage = Passage { entrance, to: nowhere, seen_as: None, guard: Guarded::FromPeer };
        self.transact(|elements| elements.change(&Change::Open(passage, Duration::from_secs(1)))).map_err(|error| {
            Lacking { part: Some("elements of sets with a `limit` of their own (nft_limit)".to_owned()), error }
        })?;
        self.removal = Removal::Destroy;
        let tried = self.transact(|elements| elements.change(&Change::Close(passage)));
        if tried.is_ok() {
            return Ok(Removal::Destroy);
        }
        self.delete_all(&passage).map_err(|error| Lacking { part: Some("deletion of elements".to_owned()), error })?;
        Ok(Removal::Delete)
    }

    /// Makes all changes, or those that can be made: one result for each.
    pub(super) fn apply(&mut self, changes: &[Change]) -> Vec<io::Result<()>> {
        let mut results = Vec::with_capacity(changes.len());
        for batch in changes.chunks(BATCH) {
            // A deletion is never part of a batch.
            let together = self.removal == Removal::Destroy;
            if together && self.transact(|elements| batch.iter().for_each(|change| elements.change(change))).is_ok() {
                results.extend(batch.iter().map(|_| Ok(())));
            } else {
                // One that fails takes all others with it: each by itself.
                results.extend(batch.iter().map(|change| self.apply_one(change)));
            }
        }
        results
    }

    fn apply_one(&mut self, change: &Change) -> io::Result<()> {
        match (self.transact(|elements| elements.change(change)), change) {
            // What is left of an earlier pinhole at the same entrance, whose peer has come or was not waited for.
            (Err(error), Change::Open(passage, _)) if error.kind() == io::ErrorKind::AlreadyExists => {
                self.delete_all(passage)?;
                self.transact(|elements| elements.change(change))
            }
            (Ok(()), Change::Close(passage)) if self.removal == Removal::Delete => self.delete_all(passage),
            (result, _) => result,
        }
    }

    /// Whether a set has this pinhole.
    pub(super) fn holds(&mut self, set: Set, passage: &Passage) -> io::Result<bool> {
        self.batches.writer.clear();
        let asked = self.batches.sequence;
        self.elements().look(set, passage);
        self.batches.writer.ask_for_answer();
        self.batches.socket().send(self.batches.writer.as_bytes())?;
        let mut buffer = [0; ANSWER];
        loop {
            let answers = self.batches.socket().receive(&mut buffer)?;
            let ack = messages(answers).find(|answer| answer.kind == number::ERROR && answer.sequence == asked);
            if let Some(ack) = ack {
                return match io::Error::from_raw_os_error(ack.error()) {
                    _ if ack.error() == 0 => Ok(true),
                    error if error.kind() == io::ErrorKind::NotFound => Ok(false),
                    error => Err(error),
                };
            }
        }
    }

    fn elements(&mut self) -> Elements<'_> {
        let Batches { writer, sequence, .. } = &mut self.batches;
        Elements { table: &self.table, writer, sequence, removal: self.removal }
    }

    /// Takes out of every set what is there. Anything of it may go by itself meanwhile, and spoil the batch.
    fn delete_all(&mut self, passage: &Passage) -> io::Result<()> {
        const TRIES: usize = 3;
        let mut result = Ok(());
        for _ in 0..TRIES {
            let mut there = Vec::new();
            for set in Set::ALL {
                if self.holds(set, passage)? {
                    there.push(set);
                }
            }
            result = self.transact(|elements| there.iter().for_each(|set| elements.delete(*set, passage)));
            match &result {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Ok(()) | Err(_) => break,
            }
        }
        result
    }

    fn transact(&mut self, write: impl FnOnce(&mut Elements<'_>)) -> io::Result<()> {
        let first = self.batches.begin();
        self.batches.sequence = first + 1;
        write(&mut self.elements());
        if self.batches.sequence == first + 1 {
            return Ok(());
        }
        self.batches.commit(first).map_err(|failed| failed.error)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, SocketAddr};

    use super::*;
    use crate::pinhole::kernel::family::Family;

    const LONG: Duration = Duration::from_secs(60);

    /// Runs a test in a network namespace of its own.
    fn apart(test: impl FnOnce() + Send + 'static) {
        let thread = std::thread::spawn(|| {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("tests run as root: see tests/run");
            test();
        });
        thread.join().unwrap();
    }

    fn passage(family: Family, port: u16, to: u16) -> Passage {
        let [from, at, server]: [IpAddr; 3] = match family {
            Family::V4 => ["192.0.2.1", "192.0.2.2", "198.51.100.1"],
            Family::V6 => ["2001:db8::1", "2001:db8::2", "2001:db8:1::1"],
        }
        .map(|ip| ip.parse().unwrap());
        Passage {
            entrance: Entrance { from, at: SocketAddr::new(at, port) },
            to: SocketAddr::new(server, to),
            seen_as: Some(SocketAddr::new(at, 20)),
            guard: Guarded::FromAll,
        }
    }

    fn with(removal: Removal) -> Nftables {
        Nftables { removal, ..Nftables::start().unwrap() }
    }

    fn all_well(results: &[io::Result<()>]) {
        assert!(results.iter().all(Result::is_ok), "{results:?}");
    }

    #[test]
    fn what_is_taken_away_is_gone_and_may_come_again_at_once() {
        for removal in [Removal::Destroy, Removal::Delete] {
            for family in [Family::V4, Family::V6] {
                apart(move || {
                    let mut nftables = with(removal);
                    for to in 5000..7000 {
                        let passage = passage(family, 10_001, to);
                        all_well(&nftables.apply(&[Change::Open(passage, LONG)]));
                        assert!(nftables.holds(Set::Unused, &passage).unwrap());
                        all_well(&nftables.apply(&[Change::Close(passage)]));
                        assert!(!nftables.holds(Set::Unused, &passage).unwrap());
                    }
                });
            }
        }
    }

    #[test]
    fn a_used_pinhole_leaves_nothing() {
        for removal in [Removal::Destroy, Removal::Delete] {
            apart(move || {
                let (mut nftables, passage) = (with(removal), passage(Family::V4, 10_001, 5000));
                all_well(&nftables.apply(&[Change::Open(passage, LONG)]));
                // As its first packet does.
                nftables.transact(|elements| elements.delete(Set::Unused, &passage)).unwrap();
                all_well(&nftables.apply(&[Change::Close(passage)]));
                for set in Set::ALL {
                    assert!(!nftables.holds(set, &passage).unwrap(), "{set:?}");
                }
            });
        }
    }

    #[test]
    fn an_unused_pinhole_is_prolonged_and_a_used_one_is_not() {
        for removal in [Removal::Destroy, Removal::Delete] {
            apart(move || {
                let (mut nftables, passage) = (with(removal), passage(Family::V4, 10_001, 5000));
                let short = Duration::from_millis(300);
                all_well(&nftables.apply(&[Change::Open(passage, short)]));
                all_well(&nftables.apply(&[Change::Prolong(passage, LONG)]));
                std::thread::sleep(2 * short);
                assert!(nftables.holds(Set::Unused, &passage).unwrap());
                nftables.transact(|elements| elements.delete(Set::Unused, &passage)).unwrap();
                let results = nftables.apply(&[Change::Prolong(passage, LONG)]);
                assert_eq!(results[0].as_ref().unwrap_err().kind(), io::ErrorKind::NotFound);
                assert!(!nftables.holds(Set::Unused, &passage).unwrap());
                all_well(&nftables.apply(&[Change::Close(passage)]));
            });
        }
    }

    #[test]
    fn many_changes_are_few_transactions() {
        apart(|| {
            let mut nftables = Nftables::start().unwrap();
            let changes = |change: fn(Passage) -> Change| -> Vec<Change> {
                (10_000..12_000).map(|port| change(passage(Family::V6, port, port))).collect()
            };
            all_well(&nftables.apply(&changes(|passage| Change::Open(passage, LONG))));
            let before = nftables.batches.sequence;
            all_well(&nftables.apply(&changes(Change::Close)));
            assert!(nftables.removal == Removal::Delete || nftables.batches.sequence - before < 6 * 2000 + 100);
            assert!(!nftables.holds(Set::Unused, &passage(Family::V6, 11_999, 11_999)).unwrap());
        });
    }

    #[test]
    fn one_wrong_change_does_not_spoil_the_others() {
        apart(|| {
            let mut nftables = Nftables::start().unwrap();
            let (mixed, good) = (passage(Family::V4, 1, 1), passage(Family::V4, 2, 2));
            let mixed = Passage { to: "[2001:db8::1]:1".parse().unwrap(), ..mixed };
            let results = nftables.apply(&[Change::Open(mixed, LONG), Change::Open(good, LONG)]);
            assert!(results[0].is_err() && results[1].is_ok(), "{results:?}");
            assert!(nftables.holds(Set::Unused, &good).unwrap());
        });
    }

    #[test]
    fn two_gates_have_two_tables() {
        apart(|| {
            let (first, second) = (Nftables::start().unwrap(), Nftables::start().unwrap());
            assert_ne!(first.name(), second.name());
            let name = first.name().to_owned();
            drop(first);
            // The kernel takes the table away behind the socket.
            std::thread::sleep(Duration::from_millis(100));
            assert_eq!(Nftables::start().unwrap().name(), name);
        });
    }
}
