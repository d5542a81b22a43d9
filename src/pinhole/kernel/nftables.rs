//! The table's life, and the changes of its sets: each batch is one transaction.

use std::fmt;
use std::io;
use std::time::Duration;

use super::element::{Change, Elements, Entrance, Passage, Removal};
use super::netlink::{Groups, Head, Socket, Writer, messages, number};
use super::table;

/// An answer is a header and the head of what it answers.
const ANSWER: usize = 4096;
/// How many changes one transaction takes.
pub(super) const BATCH: usize = 256;
/// How many gates one machine may have, before one says that it found no name.
const NAMES: u32 = 64;

/// The table, and the socket that owns it: both go together.
#[derive(Debug)]
pub(super) struct Nftables {
    socket: Socket,
    writer: Writer,
    table: String,
    sequence: u32,
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

/// The first message of a batch that failed, and why.
#[derive(Debug)]
struct Failed {
    sequence: u32,
    error: io::Error,
}

impl Nftables {
    /// Makes the table, under a name that no other gate on this machine has.
    pub(super) fn start() -> Result<Self, Lacking> {
        let socket = Socket::open(Groups::None)?;
        let mut nftables =
            Self { socket, writer: Writer::default(), table: String::new(), sequence: 1, removal: Removal::Delete };
        let pid = std::process::id();
        let names = std::iter::once(format!("ftpgate-{pid}")).chain((2..=NAMES).map(|n| format!("ftpgate-{pid}-{n}")));
        let mut taken = None;
        for name in names {
            nftables.table = name;
            match nftables.make() {
                Ok(()) => {
                    nftables.removal = nftables.find_removal();
                    return Ok(nftables);
                }
                Err(lacking) if lacking.is_taken() => taken = Some(lacking),
                Err(lacking) => return Err(lacking),
            }
        }
        Err(taken.unwrap_or_else(|| io::Error::from(io::ErrorKind::AlreadyExists).into()))
    }

    /// The table's name.
    pub(super) fn name(&self) -> &str {
        &self.table
    }

    fn make(&mut self) -> Result<(), Lacking> {
        let first = self.begin();
        let parts = table::write(&self.table, &mut self.writer, first + 1);
        self.sequence = first + 1 + u32::try_from(parts.len()).unwrap_or(u32::MAX);
        self.commit(first).map_err(|failed| {
            let part = parts.iter().find(|(sequence, _)| *sequence == failed.sequence).map(|(_, part)| part.clone());
            Lacking { part, error: failed.error }
        })
    }

    /// Whether a lifetime can be changed, found out by trying.
    fn find_removal(&mut self) -> Removal {
        const LONG: Duration = Duration::from_secs(1);
        let nowhere = std::net::SocketAddr::from(([0, 0, 0, 0], 0));
        let passage = Passage { entrance: Entrance { from: nowhere.ip(), at: nowhere }, to: nowhere, seen_as: None };
        self.removal = Removal::Shorten;
        let tried = self.apply(&[Change::Open(passage, LONG), Change::Close(passage)]);
        // Generously more than a tick of the kernel's clock. What is still there can be deleted.
        std::thread::sleep(Duration::from_millis(20));
        let set = table::pinholes(passage.family());
        let is_there = self.transact(|elements| elements.delete(set, &passage)).is_ok();
        if is_there || tried.iter().any(Result::is_err) { Removal::Delete } else { Removal::Shorten }
    }

    /// Makes all changes, or those that can be made: one result for each.
    pub(super) fn apply(&mut self, changes: &[Change]) -> Vec<io::Result<()>> {
        let mut results = Vec::with_capacity(changes.len());
        for batch in changes.chunks(BATCH) {
            // A deletion is never part of a batch.
            let together = self.removal == Removal::Shorten;
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
            // An earlier pinhole at the same entrance is going, but not gone yet.
            (Err(error), Change::Open(passage, _)) if error.kind() == io::ErrorKind::AlreadyExists => {
                self.delete(table::pinholes(passage.family()), passage)?;
                self.transact(|elements| elements.change(change))
            }
            (Ok(()), Change::Close(passage) | Change::Withdraw(passage)) if self.removal == Removal::Delete => {
                let family = passage.family();
                [table::pinholes(family), table::unused(family), table::guarded(family)]
                    .into_iter()
                    .try_for_each(|set| self.delete(set, passage))
            }
            (result, _) => result,
        }
    }

    /// Whether the set of unused pinholes has this one.
    pub(super) fn is_unused(&mut self, passage: &Passage) -> io::Result<bool> {
        self.writer.clear();
        let asked = self.sequence;
        self.elements().look(table::unused(passage.family()), passage);
        self.socket.send(self.writer.as_bytes())?;
        let mut buffer = [0; ANSWER];
        loop {
            let answers = self.socket.receive(&mut buffer)?;
            let ack = messages(answers).find(|answer| answer.kind == number::ERROR && answer.sequence == asked);
            if let Some(ack) = ack {
                return Ok(ack.error() == 0);
            }
        }
    }

    fn elements(&mut self) -> Elements<'_> {
        Elements { table: &self.table, writer: &mut self.writer, sequence: &mut self.sequence, removal: self.removal }
    }

    /// It may have gone by itself.
    fn delete(&mut self, set: &str, passage: &Passage) -> io::Result<()> {
        match self.transact(|elements| elements.delete(set, passage)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        }
    }

    fn transact(&mut self, write: impl FnOnce(&mut Elements<'_>)) -> io::Result<()> {
        let first = self.begin();
        self.sequence = first + 1;
        write(&mut self.elements());
        if self.sequence == first + 1 {
            return Ok(());
        }
        self.commit(first).map_err(|failed| failed.error)
    }

    fn begin(&mut self) -> u32 {
        // Far from the end, so that no batch wraps.
        if self.sequence > u32::MAX / 2 {
            self.sequence = 1;
        }
        let sequence = self.sequence;
        self.writer.clear();
        self.writer.message(edge(number::BATCH_BEGIN, sequence), |_| ());
        sequence
    }

    /// Sends what was written since `first`. The kernel answers message by message, or the first for all.
    fn commit(&mut self, first: u32) -> Result<(), Failed> {
        let lost = |error| Failed { sequence: first, error };
        let last = self.sequence - 1;
        self.writer.message(edge(number::BATCH_END, self.sequence), |_| ());
        self.socket.send(self.writer.as_bytes()).map_err(lost)?;
        let mut buffer = [0; ANSWER];
        let mut failed = None;
        loop {
            let answers = self.socket.receive(&mut buffer).map_err(lost)?;
            for answer in messages(answers).filter(|answer| answer.kind == number::ERROR && answer.sequence >= first) {
                if answer.error() != 0 {
                    let error = io::Error::from_raw_os_error(answer.error());
                    failed.get_or_insert(Failed { sequence: answer.sequence, error });
                }
                if answer.sequence == last || answer.sequence == first {
                    return failed.map_or(Ok(()), Err);
                }
            }
        }
    }
}

fn edge(kind: u16, sequence: u32) -> Head {
    Head { kind, flags: 0, sequence, family: number::UNSPECIFIED, resource: number::NFTABLES >> 8 }
}
