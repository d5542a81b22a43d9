//! Moving the bytes of one direction.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::io::Errno;
use rustix::net::{Shutdown, shutdown};
use rustix::pipe::{SpliceFlags, splice};
use tokio::io::Interest;
use tokio::net::TcpStream;

use super::pipes::{Lease, PipePool};

/// What is copied at a time where no pipe can be had.
const COPIED_BYTES: usize = 64 << 10;
/// How many times in a row bytes are moved before others have their turn.
const TURNS: u32 = 8;

/// Which end of a direction failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Broken {
    /// The one that bytes come from.
    Source,
    /// The one that they go to.
    Sink,
}

/// Moves bytes until `from` ends in order, and passes the end on; counts what `to` has taken in `moved`.
///
/// Nothing is held between two reads: an idle connection costs no pipe and no buffer.
pub(super) async fn pump(from: &TcpStream, to: &TcpStream, pipes: &PipePool, moved: &AtomicU64) -> Result<(), Broken> {
    let mut turns = 0;
    loop {
        from.readable().await.map_err(|_| Broken::Source)?;
        let mut load = Load::new(pipes);
        loop {
            match load.fill(from) {
                Ok(true) => {}
                Ok(false) => return pass_end_to(to, moved),
                // The load is empty here, so that it is the socket which has nothing more.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => return Err(Broken::Source),
            }
            load.empty_into(to, moved).await.map_err(|_| Broken::Sink)?;
            turns += 1;
            if turns % TURNS == 0 {
                tokio::task::yield_now().await;
            }
        }
    }
}

fn pass_end_to(to: &TcpStream, moved: &AtomicU64) -> Result<(), Broken> {
    match shutdown(to, Shutdown::Write) {
        Ok(()) => Ok(()),
        // It is gone, and has missed nothing. Whether that matters is seen in the other direction.
        Err(Errno::NOTCONN) if moved.load(Ordering::Relaxed) == 0 => Ok(()),
        Err(_) => Err(Broken::Sink),
    }
}

/// Bytes in flight.
enum Load {
    Pipe(Lease),
    Buffer { bytes: Vec<u8>, start: usize, end: usize },
}

impl Load {
    fn new(pipes: &PipePool) -> Self {
        pipes.take().map_or_else(|| Self::Buffer { bytes: vec![0; COPIED_BYTES], start: 0, end: 0 }, Self::Pipe)
    }

    /// Takes bytes from a socket into the empty load; `false`: it has ended.
    fn fill(&mut self, from: &TcpStream) -> io::Result<bool> {
        match self {
            Self::Pipe(lease) => {
                let (write, size) = (&lease.pipe().write, lease.pipe().size);
                lease.filled = from.try_io(Interest::READABLE, || {
                    Ok(splice(from, None, write, None, size, SpliceFlags::MOVE | SpliceFlags::NONBLOCK)?)
                })?;
                Ok(lease.filled > 0)
            }
            Self::Buffer { bytes, start, end } => {
                (*start, *end) = (0, from.try_read(bytes)?);
                Ok(*end > 0)
            }
        }
    }

    async fn empty_into(&mut self, to: &TcpStream, moved: &AtomicU64) -> io::Result<()> {
        while !self.is_empty() {
            match self.pour(to) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(poured) => _ = moved.fetch_add(poured as u64, Ordering::Relaxed),
                // There are bytes in the load, so that it is the socket which takes no more.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => to.writable().await?,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn is_empty(&self) -> bool {
        match self {
            Self::Pipe(lease) => lease.filled == 0,
            Self::Buffer { start, end, .. } => start == end,
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
            Self::Buffer { bytes, start, end } => {
                let poured = to.try_write(bytes.get(*start..*end).unwrap_or_default())?;
                *start += poured;
                Ok(poured)
            }
        }
    }
}
