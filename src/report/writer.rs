//! Writes log lines on a thread of its own: logging never waits for the reader of the log.
//!
//! The queue is bounded. While it is full, lines are dropped and counted, and their number is logged once lines move again.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender, TrySendError};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// The most lines that wait, and the most bytes: a line may have a few KiB of a client's words.
const MOST_LINES: usize = 8192;
const MOST_BYTES: usize = 4 << 20;

/// About as many bytes as are written at a time.
const MOST_AT_ONCE: usize = 64 << 10;

static WRITER: OnceLock<Writer> = OnceLock::new();

/// One end of the queue.
#[derive(Clone, Debug)]
pub(super) struct Writer {
    queue: SyncSender<Message>,
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Bytes in the queue.
    bytes: AtomicUsize,
    dropped: AtomicU64,
}

#[derive(Debug)]
enum Message {
    Line(Vec<u8>),
    /// Everything in front of it is written.
    Flush(SyncSender<()>),
}

impl Writer {
    /// Starts the thread that writes to standard error. Call it once, after privileges are given up: a thread keeps those
    /// that it was started with.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub(super) fn start() -> io::Result<Self> {
        let writer = Self::to(io::stderr())?;
        Ok(WRITER.get_or_init(|| writer).clone())
    }

    fn to(out: impl Write + Send + 'static) -> io::Result<Self> {
        let (queue, lines) = mpsc::sync_channel(MOST_LINES);
        let state = Arc::new(State::default());
        let own = Arc::clone(&state);
        std::thread::Builder::new().name("log".to_owned()).spawn(move || write(&lines, out, &own))?;
        Ok(Self { queue, state })
    }

    fn put(&self, line: Vec<u8>) {
        let State { bytes, dropped } = &*self.state;
        let length = line.len();
        if bytes.fetch_add(length, Ordering::Relaxed) + length > MOST_BYTES
            || self.queue.try_send(Message::Line(line)).is_err()
        {
            bytes.fetch_sub(length, Ordering::Relaxed);
            dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until what was logged so far is written, but no longer than this.
    fn flush(&self, limit: Duration) {
        let end = std::time::Instant::now() + limit;
        let (done, written) = mpsc::sync_channel(1);
        let mut message = Message::Flush(done);
        loop {
            match self.queue.try_send(message) {
                Ok(()) => break,
                Err(TrySendError::Full(unsent)) if std::time::Instant::now() < end => {
                    message = unsent;
                    std::thread::sleep(Duration::from_millis(10));
                }
                // The log is not read, or the thread is gone.
                Err(_) => return,
            }
        }
        let _too_slow = written.recv_timeout(end.saturating_duration_since(std::time::Instant::now()));
    }
}

/// A line comes in one piece, so that lines of two threads do not mix.
impl Write for Writer {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.put(line.to_vec());
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Waits until the log is written, two seconds at most: before the process ends.
pub fn flush() {
    if let Some(writer) = WRITER.get() {
        writer.flush(Duration::from_secs(2));
    }
}

/// Writes everything. Somebody else who has this file open may have it never wait: then it is waited here.
fn write_all(out: &mut impl Write, mut text: &[u8]) -> io::Result<()> {
    while !text.is_empty() {
        match out.write(text) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => text = text.get(count..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::sleep(Duration::from_millis(10)),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn write(lines: &Receiver<Message>, mut out: impl Write, state: &State) {
    while let Ok(first) = lines.recv() {
        let mut flushed = Vec::new();
        let (mut text, mut count) = (Vec::new(), 0);
        // What came meanwhile goes out in the same write.
        let mut next = Some(first);
        while let Some(message) = next {
            match message {
                Message::Line(line) => {
                    text.extend_from_slice(&line);
                    count += 1;
                }
                Message::Flush(done) => flushed.push(done),
            }
            next = if text.len() < MOST_AT_ONCE { lines.try_recv().ok() } else { None };
        }
        // Faults of standard error are nobody's: a full disk under the log must not end a session.
        let written = write_all(&mut out, &text);
        state.bytes.fetch_sub(text.len(), Ordering::Relaxed);
        match written {
            Ok(()) => match state.dropped.swap(0, Ordering::Relaxed) {
                0 => {}
                dropped => super::lines_dropped(dropped),
            },
            Err(_) => {
                state.dropped.fetch_add(count, Ordering::Relaxed);
            }
        }
        for done in flushed {
            let _gave_up = done.send(());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// Takes nothing until it is opened.
    #[derive(Clone, Default)]
    struct Gate(Arc<(Mutex<bool>, std::sync::Condvar)>, Arc<Mutex<Vec<u8>>>);

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let (open, opened) = &*self.0;
            drop(opened.wait_while(open.lock().unwrap(), |open| !*open).unwrap());
            self.1.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn nobody_waits_for_a_reader_and_what_is_too_much_is_counted() {
        let gate = Gate::default();
        let writer = Writer::to(gate.clone()).unwrap();
        let count = 2 * MOST_LINES;
        for number in 0..count {
            writer.put(format!("{number:>63}\n").into_bytes());
        }
        let began = std::time::Instant::now();
        writer.flush(Duration::from_millis(200));
        assert!(began.elapsed() < Duration::from_secs(2));
        let dropped = usize::try_from(writer.state.dropped.load(Ordering::Relaxed)).unwrap();
        // The thread holds a few.
        let fewest = count - MOST_LINES - MOST_AT_ONCE / 64 - 1;
        assert!((fewest..=count - MOST_LINES).contains(&dropped), "{dropped}");
        *gate.0.0.lock().unwrap() = true;
        gate.0.1.notify_all();
        writer.flush(Duration::from_secs(5));
        let written = String::from_utf8(gate.1.lock().unwrap().clone()).unwrap();
        assert_eq!(written.lines().count(), count - dropped);
        assert!(written.lines().take(3).map(str::trim).eq(["0", "1", "2"]));
        assert_eq!(writer.state.bytes.load(Ordering::Relaxed), 0);
        assert_eq!(writer.state.dropped.load(Ordering::Relaxed), 0);
    }

    /// Takes a byte at a time, and every other time nothing.
    #[derive(Clone, Default)]
    struct Reluctant(Arc<Mutex<(bool, Vec<u8>)>>);

    impl Write for Reluctant {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let (refuses, written) = &mut *self.0.lock().unwrap();
            *refuses = !*refuses;
            if *refuses {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            written.push(bytes[0]);
            Ok(1)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_would_block_is_written_later() {
        let out = Reluctant::default();
        let writer = Writer::to(out.clone()).unwrap();
        (0..5).for_each(|number| writer.put(format!("{number}\n").into_bytes()));
        writer.flush(Duration::from_secs(5));
        assert_eq!(out.0.lock().unwrap().1, b"0\n1\n2\n3\n4\n");
        assert_eq!(writer.state.dropped.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn large_lines_fill_the_queue_by_their_bytes() {
        let gate = Gate::default();
        let writer = Writer::to(gate).unwrap();
        (0..100).for_each(|_| writer.put(vec![b'x'; 1 << 20]));
        assert!(writer.state.bytes.load(Ordering::Relaxed) <= MOST_BYTES);
        assert!(writer.state.dropped.load(Ordering::Relaxed) >= 95);
    }
}
