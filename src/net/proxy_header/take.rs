//! Taking a header off the front of a connection.

use std::io;
use std::time::Duration;

use tokio::net::TcpStream;

use super::{BadHeader, HeaderFault, ProxyHeader, parse};

/// How long a header may take to come: a balancer sends it at once.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes that are looked at in one go; no header of a balancer that sends few extras is longer.
const LOOK: usize = 256;
/// Bytes of a bad header that are kept, to be shown: a whole one of version 1 with IPv4 addresses.
const SEEN: usize = 64;

/// Waits for the header that `stream` must begin with, and takes it away but not a byte of what follows: that may be
/// the client's first line, or a file's first bytes, which the kernel is to move.
///
/// # Errors
/// Where there is no valid header in time. What was sent is then partly taken; the connection is of no more use.
pub async fn take(stream: &TcpStream) -> Result<ProxyHeader, BadHeader> {
    let mut taken = Vec::new();
    let header = tokio::time::timeout(PATIENCE, wait(stream, &mut taken)).await.unwrap_or(Err(HeaderFault::Late));
    header.map_err(|fault| BadHeader { fault, seen: taken.get(..SEEN).unwrap_or(&taken).into() })
}

async fn wait(stream: &TcpStream, taken: &mut Vec<u8>) -> Result<ProxyHeader, HeaderFault> {
    loop {
        let mut ahead = [0; LOOK];
        // A connection that fails has ended.
        let ahead = match stream.peek(&mut ahead).await {
            Ok(count) => ahead.get(..count).unwrap_or_default(),
            Err(_) => &[],
        };
        if ahead.is_empty() {
            return Err(if taken.is_empty() { HeaderFault::Nothing } else { HeaderFault::Malformed });
        }
        let before = taken.len();
        taken.extend_from_slice(ahead);
        let (header, length) = match parse(taken)? {
            Some((header, length)) => (Some(header), length),
            None => (None, taken.len()),
        };
        skip(stream, length.saturating_sub(before)).await.map_err(|_| HeaderFault::Malformed)?;
        if let Some(header) = header {
            return Ok(header);
        }
    }
}

/// Reads away bytes that are there.
async fn skip(stream: &TcpStream, mut count: usize) -> io::Result<()> {
    let mut bytes = [0; LOOK];
    while count > 0 {
        stream.readable().await?;
        match stream.try_read(bytes.get_mut(..count.min(LOOK)).unwrap_or_default()) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => count -= read,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
