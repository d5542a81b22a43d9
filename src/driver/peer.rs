//! One side's control connection: reading lines without a standing buffer, writing what waits to be sent.
//!
//! Both directions are bounded. A peer is read only as far as its [`LineReader`] has room, and nothing that would add to
//! its output is done while more than [`HIGH_WATER`] bytes wait for it.

use std::future::poll_fn;
use std::io::{self, Read as _};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustix::net::{SendFlags, send};
use socket2::SockRef;
use tokio::io::{AsyncRead, Interest, ReadBuf};
use tokio::net::TcpStream;

use crate::ftp::line::{Line, LineFault, LineReader};
use crate::ftp::telnet::IAC;
use crate::net;

/// Bytes that one read takes at most.
const READ: usize = 4096;
/// With so many bytes unsent a peer has no room for more: no line is handled that it might be sent something for.
pub(super) const HIGH_WATER: usize = 2048;
/// Telnet IP with its Synch: the first three bytes go as urgent data, the mark follows in the stream.
const INTERRUPT: &[u8] = b"\xff\xf4\xff";
const DATA_MARK: &[u8] = b"\xf2";

/// One control connection.
#[derive(Debug)]
pub(super) struct Peer {
    stream: TcpStream,
    reader: LineReader,
    unsent: Vec<u8>,
    /// The peer may still send.
    open: bool,
    sends_urgent: bool,
    /// The last read may have stopped ahead of urgent bytes.
    may_be_more: bool,
    /// Urgent data came, so an interrupt in the next line is to be sent on as such.
    urgent: bool,
    /// No more will be sent once `unsent` is empty.
    closing: bool,
    /// The connection is lost: nothing is heard from it any more, and nothing is sent.
    lost: bool,
    /// The kernel holds a part back that was sent, for more was to follow at once.
    held_back: bool,
}

/// What came of waiting for a peer.
#[derive(Debug)]
pub(super) enum Heard {
    /// Something was read or sent; look again.
    Progress,
    /// The peer closed its half.
    Closed,
    /// The connection is lost.
    Lost,
}

impl Peer {
    /// A client, who may send urgent bytes.
    pub(super) const fn client(stream: TcpStream) -> Self {
        Self::new(stream, LineReader::commands(), true)
    }

    pub(super) const fn server(stream: TcpStream) -> Self {
        Self::new(stream, LineReader::replies(), false)
    }

    const fn new(stream: TcpStream, reader: LineReader, sends_urgent: bool) -> Self {
        Self {
            stream,
            reader,
            unsent: Vec::new(),
            open: true,
            sends_urgent,
            may_be_more: false,
            urgent: false,
            closing: false,
            lost: false,
            held_back: false,
        }
    }

    /// The connection is lost, and its session goes on without it.
    pub(super) fn lose(&mut self) {
        (self.lost, self.open) = (true, false);
        self.unsent = Vec::new();
    }

    /// The next line that was read already.
    pub(super) fn next_line(&mut self) -> Option<Result<Line, LineFault>> {
        let mut line = self.reader.next_line()?;
        if let Ok(line) = &mut line {
            // An interrupt that came in band goes on as a plain command: only a client that sent urgent data has a
            // server that wants it.
            line.interrupt &= std::mem::take(&mut self.urgent);
        }
        Some(line)
    }

    pub(super) fn queue(&mut self, line: &[u8]) {
        if self.lost {
            return;
        }
        self.unsent.extend_from_slice(line);
        self.unsent.extend_from_slice(b"\r\n");
    }

    /// Whether more can be queued for this peer. One that does not read what it was sent stops being served.
    pub(super) fn has_room(&mut self) -> bool {
        if self.unsent.len() >= HIGH_WATER {
            // An error shows again when the peer is next waited for. More is to be queued now.
            let _ = self.flush_with(true);
        }
        self.unsent.len() < HIGH_WATER
    }

    /// Tells the peer to give its attention to the next line. A peer that takes nothing now gets it in band.
    pub(super) fn interrupt(&mut self) -> io::Result<()> {
        self.flush()?;
        let sent = if self.unsent.is_empty() { net::try_send_urgent(&self.stream, INTERRUPT).unwrap_or(0) } else { 0 };
        self.unsent.extend_from_slice(INTERRUPT.get(sent..).unwrap_or_default());
        self.unsent.extend_from_slice(DATA_MARK);
        Ok(())
    }

    pub(super) fn close_write(&mut self) {
        self.closing = true;
    }

    /// Sends what can be sent without waiting.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.flush_with(false)
    }

    /// The same; where there is `more` to follow at once, the kernel waits for that to fill a segment: 200 ms at most. Many
    /// small clients take what one read gives them for the whole of a reply.
    pub(super) fn flush_with(&mut self, more: bool) -> io::Result<()> {
        let flags = SendFlags::NOSIGNAL | if more { SendFlags::MORE } else { SendFlags::empty() };
        if self.unsent.is_empty() && !more && std::mem::take(&mut self.held_back) {
            // Sets nothing that is not set, and sends what is held back.
            SockRef::from(&self.stream).set_tcp_nodelay(true)?;
        }
        while !self.unsent.is_empty() {
            let sent = self.stream.try_io(Interest::WRITABLE, || Ok(send(&self.stream, &self.unsent, flags)?));
            self.held_back = more;
            match sent {
                Ok(sent) => drop(self.unsent.drain(..sent)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    // The peer may not read for long.
                    self.unsent.shrink_to_fit();
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
        self.unsent = Vec::new();
        if std::mem::take(&mut self.closing) {
            SockRef::from(&self.stream).shutdown(std::net::Shutdown::Write)?;
        }
        Ok(())
    }

    /// Waits until the peer has sent something, where that is `wanted`, or until more can be sent to it.
    pub(super) async fn hear(&mut self, wanted: bool) -> Heard {
        if self.lost {
            return std::future::pending().await;
        }
        let reading = wanted && self.open;
        if reading && self.unsent.is_empty() {
            return poll_fn(|context| self.poll_read(context)).await;
        }
        let interest = match (reading, self.unsent.is_empty()) {
            (true, _) => Interest::READABLE | Interest::WRITABLE,
            (false, false) => Interest::WRITABLE,
            // A peer that vanishes is noticed although nothing is wanted of it.
            (false, true) => Interest::ERROR,
        };
        let Ok(ready) = self.stream.ready(interest).await else { return Heard::Lost };
        if self.flush().is_err() || (!reading && ready.is_error()) {
            return Heard::Lost;
        }
        if reading { self.read().unwrap_or(Heard::Progress) } else { Heard::Progress }
    }

    /// Reads what has come, with no system call more than that takes.
    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<Heard> {
        if std::mem::take(&mut self.may_be_more) {
            // The runtime takes it that there is nothing: the socket itself is asked.
            let heard = self.read_by(|stream, buffer| (&*SockRef::from(stream)).read(buffer));
            if let Some(heard) = heard {
                self.may_be_more = true;
                return Poll::Ready(heard);
            }
        }
        let mut buffer = [MaybeUninit::uninit(); READ];
        let size = READ.min(self.reader.room());
        let mut buffer = ReadBuf::uninit(buffer.get_mut(..size).unwrap_or_default());
        if ready!(Pin::new(&mut self.stream).poll_read(context, &mut buffer)).is_err() {
            return Poll::Ready(Heard::Lost);
        }
        let bytes = buffer.filled();
        if bytes.is_empty() {
            self.open = false;
            return Poll::Ready(Heard::Closed);
        }
        // What comes short is all there was, and the next read waits for more; but a read stops ahead of urgent bytes
        // too, which clients send, and what follows those would not be told of again.
        self.may_be_more = self.sends_urgent && bytes.len() < size;
        self.take(bytes);
        Poll::Ready(Heard::Progress)
    }

    /// Reads what is there now; `None` where nothing is.
    fn read(&mut self) -> Option<Heard> {
        self.read_by(TcpStream::try_read)
    }

    fn read_by(&mut self, read: impl FnOnce(&TcpStream, &mut [u8]) -> io::Result<usize>) -> Option<Heard> {
        let mut buffer = [0; READ];
        let room = buffer.get_mut(..READ.min(self.reader.room())).unwrap_or_default();
        Some(match read(&self.stream, room) {
            Ok(0) => {
                self.open = false;
                Heard::Closed
            }
            Ok(count) => {
                self.take(buffer.get(..count).unwrap_or_default());
                Heard::Progress
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
            Err(_) => Heard::Lost,
        })
    }

    fn take(&mut self, bytes: &[u8]) {
        self.urgent |= memchr::memchr(IAC, bytes).is_some() && net::has_urgent(&self.stream);
        self.reader.push(bytes);
        self.unsent.extend(self.reader.take_refusals());
    }

    /// Reads and drops what is there. The buffer must not be part of a future: thousands of those may wait at once.
    fn discard(&self) -> io::Result<usize> {
        self.stream.try_read(&mut [0; READ])
    }

    /// Sends what waits, says that it was all, and reads on until the peer has closed too: a close with bytes unread
    /// would be a reset, and could destroy the last line on its way. The caller bounds the time.
    pub(super) async fn finish(mut self) -> io::Result<()> {
        if self.lost {
            return Ok(());
        }
        // Where the peer has closed already, the close that follows says it.
        self.closing = self.open;
        loop {
            self.flush()?;
            if self.unsent.is_empty() {
                break;
            }
            self.stream.writable().await?;
        }
        if !self.open {
            return Ok(());
        }
        loop {
            self.stream.readable().await?;
            match self.discard() {
                Ok(0) => return Ok(()),
                // A peer that goes on sending is always readable, and must not keep the thread.
                Ok(_) => tokio::task::yield_now().await,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// The next line, where it comes in time.
    async fn line(peer: &mut Peer) -> Vec<u8> {
        loop {
            if let Some(line) = peer.next_line() {
                return line.unwrap().bytes;
            }
            let heard = tokio::time::timeout(Duration::from_secs(2), peer.hear(true)).await;
            assert!(matches!(heard, Ok(Heard::Progress)), "{heard:?}");
        }
    }

    #[tokio::test]
    async fn what_follows_urgent_bytes_is_read_although_it_came_before() {
        let listener = net::listen("127.0.0.1:0".parse().unwrap(), false, 8).unwrap();
        net::prepare_control(&listener).unwrap();
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let mut peer = Peer::client(listener.accept().await.unwrap().0);
        let socket = SockRef::from(&client);
        for round in 0..20 {
            socket.send(b"NOOP\r\n").unwrap();
            socket.send_out_of_band(b"A").unwrap();
            socket.send(b"BOR\r\n").unwrap();
            socket.send_out_of_band(b"\xff\xf4\xff").unwrap();
            socket.send(b"\xf2STAT\r\n").unwrap();
            // All of it is there before the first read.
            tokio::time::sleep(Duration::from_millis(5)).await;
            for expected in [&b"NOOP"[..], b"ABOR", b"STAT"] {
                assert_eq!(line(&mut peer).await, expected, "round {round}");
            }
        }
    }
}
