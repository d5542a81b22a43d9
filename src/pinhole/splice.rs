//! Moving the bytes of one direction.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{SendFlags, Shutdown, send, shutdown};
use rustix::pipe::{SpliceFlags, splice};
use tokio::io::Interest;
use tokio::net::TcpStream;

use super::pipes::{Lease, PipePool};
use crate::limits::{Meter, Pace, Reserved};

/// What is copied at a time where no pipe can be had.
const COPIED_BYTES: usize = 64 << 10;
/// What is copied before there is a pipe: a small file is done then, at less cost than a splice has.
pub(super) const FIRST_BYTES: usize = 8 << 10;
/// How many times in a row bytes are moved before others have their turn.
const TURNS: u32 = 2;
/// What is asked for at a time, at most: no pipe is larger.
const MOST_AT_ONCE: u64 = 1 << 20;
/// A wait that is longer is done in parts.
const LONG: Duration = Duration::from_millis(100);

/// Which end of a direction failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Broken {
    /// The one that bytes come from.
    Source,
    /// The one that they go to.
    Sink,
    /// Neither: there is more than may move.
    TooLarge,
}

/// What one direction has moved.
#[derive(Debug, Default)]
pub(super) struct Pumped {
    moved: AtomicU64,
    /// Times that something moved, or would have but for its pace.
    stirs: AtomicU64,
    /// There are bytes that the sink does not take.
    blocked: AtomicBool,
}

impl Pumped {
    /// Bytes that the sink has taken.
    pub(super) fn moved(&self) -> u64 {
        self.moved.load(Ordering::Relaxed)
    }

    pub(super) fn stirs(&self) -> u64 {
        self.stirs.load(Ordering::Relaxed)
    }

    /// Whether there are bytes that the sink has not taken.
    pub(super) fn is_blocked(&self) -> bool {
        self.blocked.load(Ordering::Relaxed)
    }

    /// Notes whether the sink takes what there is.
    pub(super) fn set_blocked(&self, blocked: bool) {
        self.blocked.store(blocked, Ordering::Relaxed);
    }

    fn add(&self, bytes: u64) {
        self.moved.fetch_add(bytes, Ordering::Relaxed);
        self.stir();
    }

    /// Notes that it is not stalled.
    pub(super) fn stir(&self) {
        self.stirs.fetch_add(1, Ordering::Relaxed);
    }
}

/// What one direction has to keep to.
pub(super) struct WayTerms<'a> {
    pace: &'a Pace,
    /// Bytes that may move at all.
    most: u64,
    held_back: Box<dyn Fn(&Meter) + Send + Sync + 'a>,
    was_held_back: AtomicBool,
}

impl<'a> WayTerms<'a> {
    /// `held_back` is called once, when the pace first holds something back.
    pub(super) fn new(pace: &'a Pace, most: u64, held_back: Box<dyn Fn(&Meter) + Send + Sync + 'a>) -> Self {
        Self { pace, most, held_back, was_held_back: AtomicBool::new(false) }
    }

    /// How many bytes may be taken, once this returns; one more than may move at all shows whether there are any.
    async fn allowed(&self, pumped: &Pumped) -> u64 {
        let wanted = self.most.saturating_sub(pumped.moved()).saturating_add(1).min(MOST_AT_ONCE);
        if self.pace.is_none() {
            return wanted;
        }
        let Reserved { amount, slowest } = self.pace.reserve(Instant::now(), wanted);
        if let Some((wait, meter)) = slowest {
            if !self.was_held_back.swap(true, Ordering::Relaxed) {
                (self.held_back)(meter);
            }
            let end = Instant::now() + wait;
            while let Some(left) = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
                // It is not stalled, but kept waiting.
                pumped.stir();
                tokio::time::sleep(left.min(LONG)).await;
            }
        }
        amount
    }
}

/// Moves bytes until `from` ends in order; counts what `to` has taken.
///
/// Nothing is held between two reads, nor while the pace has it wait: an idle connection costs no pipe and no buffer.
pub(super) async fn pump(
    from: &TcpStream,
    to: &TcpStream,
    pipes: &PipePool,
    pumped: &Pumped,
    terms: &WayTerms<'_>,
) -> Result<(), Broken> {
    let mut turns = 0;
    loop {
        from.readable().await.map_err(|_| Broken::Source)?;
        let mut allowed = terms.allowed(pumped).await;
        let mut load = if turns == 0 { Load::first() } else { Load::new(pipes) };
        loop {
            let filled = load.fill(from, allowed);
            terms.pace.give_back(allowed - filled.as_ref().map_or(0, |filled| *filled));
            match filled {
                Ok(0) => return Ok(()),
                Ok(filled) if filled > terms.most.saturating_sub(pumped.moved()) => return Err(Broken::TooLarge),
                Ok(_) => {}
                // The load is empty here, so that it is the socket which has nothing more.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => return Err(Broken::Source),
            }
            load.empty_into(to, pumped).await.map_err(|_| Broken::Sink)?;
            turns += 1;
            match load.after() {
                After::Unknown => {}
                After::End => return Ok(()),
                After::Failure => return Err(Broken::Source),
            }
            if turns == 1 {
                break;
            }
            // Also where a pace holds nothing back: waiting for a socket that is ready lets nobody else run.
            if turns % TURNS == 0 {
                tokio::task::yield_now().await;
            }
            if !terms.pace.is_none() {
                break;
            }
            allowed = terms.allowed(pumped).await;
        }
    }
}

/// Passes the end on.
pub(super) fn pass_end_to(to: &TcpStream, pumped: &Pumped) -> Result<(), Broken> {
    match shutdown(to, Shutdown::Write) {
        Ok(()) => Ok(()),
        // It is gone, and has missed nothing. Whether that matters is seen in the other direction.
        Err(Errno::NOTCONN) if pumped.moved() == 0 => Ok(()),
        Err(_) => Err(Broken::Sink),
    }
}

/// Bytes in flight.
enum Load {
    Pipe(Lease),
    Buffer(Buffer),
}

/// Bytes that are copied.
struct Buffer {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
    after: After,
}

/// What the source said behind the bytes in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum After {
    Unknown,
    End,
    /// An error, which a socket tells only once.
    Failure,
}

impl Load {
    fn new(pipes: &PipePool) -> Self {
        pipes.take().map_or_else(|| Self::Buffer(Buffer::new(COPIED_BYTES)), Self::Pipe)
    }

    fn first() -> Self {
        Self::Buffer(Buffer::new(FIRST_BYTES))
    }

    const fn after(&self) -> After {
        match self {
            Self::Pipe(_) => After::Unknown,
            Self::Buffer(buffer) => buffer.after,
        }
    }

    /// Takes bytes from a socket into the empty load, so many at most; 0: it has ended.
    fn fill(&mut self, from: &TcpStream, most: u64) -> io::Result<u64> {
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        match self {
            Self::Pipe(lease) => {
                let (write, size) = (&lease.pipe().write, lease.pipe().size.min(most));
                lease.filled = from.try_io(Interest::READABLE, || {
                    Ok(splice(from, None, write, None, size, SpliceFlags::MOVE | SpliceFlags::NONBLOCK)?)
                })?;
                Ok(lease.filled as u64)
            }
            Self::Buffer(buffer) => buffer.fill(from, most).map(|filled| filled as u64),
        }
    }

    async fn empty_into(&mut self, to: &TcpStream, pumped: &Pumped) -> io::Result<()> {
        while !self.is_empty() {
            match self.pour(to) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(poured) => pumped.add(poured as u64),
                // There are bytes in the load, so that it is the socket which takes no more.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    pumped.set_blocked(true);
                    to.writable().await?;
                }
                Err(error) => return Err(error),
            }
        }
        pumped.set_blocked(false);
        Ok(())
    }

    fn is_empty(&self) -> bool {
        match self {
            Self::Pipe(lease) => lease.filled == 0,
            Self::Buffer(Buffer { start, end, .. }) => start == end,
        }
    }

    fn pour(&mut self, to: &TcpStream) -> io::Result<usize> {
        match self {
            Self::Pipe(lease) => {
                let (read, filled) = (&lease.pipe().read, lease.filled);
                let poured = to.try_io(Interest::WRITABLE, || {
                    Ok(splice(read, None, to, None, filled, SpliceFlags::MOVE | SpliceFlags::NONBLOCK)?)
                })?;
                lease.filled -= poured;
                Ok(poured)
            }
            Self::Buffer(buffer) => buffer.pour(to),
        }
    }
}

impl Buffer {
    fn new(size: usize) -> Self {
        Self { bytes: vec![0; size], start: 0, end: 0, after: After::Unknown }
    }

    fn fill(&mut self, from: &TcpStream, most: usize) -> io::Result<usize> {
        let room = most.min(self.bytes.len());
        let room = self.bytes.get_mut(..room).unwrap_or_default();
        (self.start, self.end) = (0, from.try_read(room)?);
        // Where the end is here already it goes with them.
        let rest = room.get_mut(self.end..).unwrap_or_default();
        if self.end > 0 && !rest.is_empty() {
            match from.try_read(rest) {
                Ok(0) => self.after = After::End,
                Ok(more) => self.end += more,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => self.after = After::Failure,
            }
        }
        Ok(self.end)
    }

    fn pour(&mut self, to: &TcpStream) -> io::Result<usize> {
        let bytes = self.bytes.get(self.start..self.end).unwrap_or_default();
        let flags = SendFlags::NOSIGNAL | if self.after == After::End { SendFlags::MORE } else { SendFlags::empty() };
        let poured = to.try_io(Interest::WRITABLE, || Ok(send(to, bytes, flags)?))?;
        self.start += poured;
        Ok(poured)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::{dial, listen, reset_on_close};

    /// Else a transfer that moves would be taken for one that stands still.
    #[test]
    fn what_moves_stirs() {
        let pumped = Pumped::default();
        pumped.add(5);
        assert_eq!((pumped.moved(), pumped.stirs()), (5, 1));
    }

    #[tokio::test]
    async fn an_error_behind_the_first_bytes_is_kept() {
        for (resets, after) in [(false, After::End), (true, After::Failure)] {
            let listener = listen("127.0.0.1:0".parse().unwrap(), false, 8).unwrap();
            let from = dial(listener.local_addr().unwrap(), None, false, LONG).await.unwrap();
            let peer = listener.accept().await.unwrap().0;
            assert_eq!(peer.try_write(b"half of it").unwrap(), 10);
            reset_on_close(&peer, resets).unwrap();
            drop(peer);
            from.readable().await.unwrap();
            let mut buffer = Buffer::new(FIRST_BYTES);
            assert_eq!(buffer.fill(&from, FIRST_BYTES).unwrap(), 10);
            assert_eq!(buffer.after, after);
        }
    }
}
