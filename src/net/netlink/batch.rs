//! Batches: messages to nftables that take effect together, or not at all.

use std::io;

use super::{Groups, Head, Socket, Writer, messages, number};

/// An answer is a header and the head of what it answers.
const ANSWER: usize = 4096;

/// A socket for batches, and what the next one will say.
#[derive(Debug)]
pub(crate) struct Batches {
    socket: Socket,
    /// Messages are written here, between [`Batches::begin`] and [`Batches::commit`].
    pub(crate) writer: Writer,
    /// The number of the next message.
    pub(crate) sequence: u32,
}

/// The first message of a batch that failed, and why.
#[derive(Debug)]
pub(crate) struct Failed {
    /// Its number; the first one's where the batch as a whole was refused.
    pub(crate) sequence: u32,
    pub(crate) error: io::Error,
}

impl Batches {
    pub(crate) fn open() -> io::Result<Self> {
        Ok(Self { socket: Socket::open(Groups::None)?, writer: Writer::default(), sequence: 1 })
    }

    pub(crate) const fn socket(&self) -> &Socket {
        &self.socket
    }

    /// Begins a batch; the number of its first message.
    pub(crate) fn begin(&mut self) -> u32 {
        // Far from the end, so that no batch wraps.
        if self.sequence > u32::MAX / 2 {
            self.sequence = 1;
        }
        let sequence = self.sequence;
        self.writer.clear();
        self.writer.message(edge(number::BATCH_BEGIN, sequence), |_| ());
        sequence
    }

    /// Sends what was written since `first`. The kernel says which messages are wrong, or the first where all are, and
    /// answers the last one.
    pub(crate) fn commit(&mut self, first: u32) -> Result<(), Failed> {
        let lost = |error| Failed { sequence: first, error };
        let last = self.sequence - 1;
        // One for each message would be more than the socket has room for.
        self.writer.ask_for_answer();
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
