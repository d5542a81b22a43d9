//! What both ends of the benchmark do with a socket: lines with few system calls, and bulk data without a copy.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::OnceLock;

use nix::sys::socket::sockopt::IpBindAddressNoPort;
use rustix::fs::{MemfdFlags, memfd_create, sendfile};
use rustix::net::{RecvFlags, recv};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, Interest};
use tokio::net::{TcpSocket, TcpStream};

/// Bytes that one sendfile or one discarding read may move.
const BLOCK: usize = 1 << 20;

/// One end of a control connection.
pub struct Wire {
    pub stream: TcpStream,
    buffer: [u8; 512],
    begun: usize,
    filled: usize,
}

impl Wire {
    pub fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: [0; 512], begun: 0, filled: 0 })
    }

    /// The next line, without its end; an error where the peer has closed.
    pub async fn line(&mut self) -> io::Result<&str> {
        let end = loop {
            let unread = &self.buffer[self.begun..self.filled];
            if let Some(length) = memchr::memchr(b'\n', unread) {
                break self.begun + length;
            }
            self.buffer.copy_within(self.begun..self.filled, 0);
            self.filled -= self.begun;
            self.begun = 0;
            match self.stream.read(&mut self.buffer[self.filled..]).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => self.filled += count,
            }
        };
        let line = &self.buffer[self.begun..end];
        self.begun = end + 1;
        std::str::from_utf8(line.strip_suffix(b"\r").unwrap_or(line)).map_err(io::Error::other)
    }

    /// Sends lines, each with its CR LF, in one write.
    pub async fn say(&mut self, lines: &str) -> io::Result<()> {
        self.stream.write_all(lines.as_bytes()).await
    }
}

/// Connects to `to` from the address of `from`; the kernel chooses the port when it knows both ends.
pub async fn dial(from: SocketAddr, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    nix::sys::socket::setsockopt(&socket, IpBindAddressNoPort, &true)?;
    socket.set_reuseaddr(true)?;
    socket.bind(from)?;
    socket
        .connect(to)
        .await
        .map_err(|error| io::Error::new(error.kind(), format!("from {} to {to}: {error}", from.ip())))
}

/// Sends that many bytes as a file server does: the pages of a file, which nobody copies.
pub async fn send(stream: &mut TcpStream, mut count: usize) -> io::Result<()> {
    const SMALL: [u8; 4096] = [7; 4096];
    if let Some(bytes) = SMALL.get(..count) {
        return stream.write_all(bytes).await;
    }
    while count > 0 {
        let once = || Ok(sendfile(&*stream, file(), Some(&mut 0), count.min(BLOCK))?);
        count -= stream.async_io(Interest::WRITABLE, once).await?;
    }
    Ok(())
}

/// Takes all that comes, looks at nothing of it, and tells how much it was.
pub async fn take(stream: &TcpStream) -> io::Result<usize> {
    thread_local! {
        /// Never written to: a TCP read with `MSG_TRUNC` throws the bytes away in the kernel. One for all transfers:
        /// what the allocator does with so much differs from run to run.
        static NOWHERE: RefCell<Box<[u8]>> = RefCell::new(vec![0; BLOCK].into_boxed_slice());
    }
    let discard = || NOWHERE.with_borrow_mut(|nowhere| recv(stream.as_fd(), &mut **nowhere, RecvFlags::TRUNC));
    let mut taken = 0;
    loop {
        let once = || Ok(discard()?.1);
        match stream.async_io(Interest::READABLE, once).await? {
            0 => return Ok(taken),
            count => taken += count,
        }
    }
}

/// What is sent: one block, again and again.
fn file() -> &'static OwnedFd {
    static FILE: OnceLock<OwnedFd> = OnceLock::new();
    FILE.get_or_init(|| {
        let file = memfd_create("bench", MemfdFlags::CLOEXEC).expect("memory for one block");
        rustix::io::write(&file, &vec![7; BLOCK]).expect("memory for one block");
        file
    })
}
