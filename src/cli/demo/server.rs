//! The demo's own FTP server: files in memory, and an address in its 227 that nobody can reach.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::commands::{self, Asked};
use crate::ftp::line::LineReader;

/// The address that the server believes to have, as one behind NAT does.
pub(super) const UNREACHABLE: Ipv4Addr = Ipv4Addr::new(10, 99, 99, 99);

/// What the server keeps at most: files, and bytes in each.
const MAX_FILES: usize = 100;
const MAX_BYTES: u64 = 64 * 1024 * 1024;
/// How long a data connection may take to come.
const PATIENCE: Duration = Duration::from_secs(30);

/// The files, by name.
#[derive(Clone, Debug)]
pub(super) struct Files(Arc<Mutex<BTreeMap<String, Arc<Vec<u8>>>>>);

impl Files {
    fn new() -> Self {
        let hello = b"Hello from a server that does not know its own address.\n".to_vec();
        let mib = (0..=255).cycle().take(1024 * 1024).collect();
        let files = [("hello.txt".to_owned(), Arc::new(hello)), ("one-mib.bin".to_owned(), Arc::new(mib))];
        Self(Arc::new(Mutex::new(files.into())))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Vec<u8>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn store(&self, name: String, bytes: Vec<u8>) -> bool {
        let mut files = self.lock();
        let room = files.len() < MAX_FILES || files.contains_key(&name);
        if room {
            files.insert(name, Arc::new(bytes));
        }
        room
    }
}

/// Where the next data connection comes from.
#[derive(Debug, Default)]
pub(super) enum Data {
    /// Nothing was negotiated.
    #[default]
    None,
    /// The client connects to us.
    Passive(TcpListener),
    /// We connect to the client.
    Active(SocketAddr),
}

/// Starts the server on a free port of 127.0.0.1; it runs as long as the runtime.
///
/// # Errors
/// Where no port can be had.
pub(super) async fn start() -> io::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let at = listener.local_addr()?;
    let files = Files::new();
    tokio::spawn(async move {
        loop {
            match listener.accept().await {
                Ok((client, _)) => drop(tokio::spawn(serve(client, files.clone()))),
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    });
    Ok(at)
}

async fn serve(mut client: TcpStream, files: Files) -> io::Result<()> {
    client.set_nodelay(true)?;
    let mut session = commands::Session::new(files);
    let mut reader = LineReader::commands();
    client.write_all(b"220 The demo's server is ready.\r\n").await?;
    let mut buffer = vec![0; 4096];
    loop {
        let count = client.read(&mut buffer).await?;
        if count == 0 {
            return Ok(());
        }
        reader.push(buffer.get(..count).unwrap_or_default());
        while let Some(line) = reader.next_line() {
            let Ok(line) = line else {
                client.write_all(b"500 This is no line.\r\n").await?;
                continue;
            };
            match session.command(&line.bytes).await? {
                Asked::Reply(reply) => client.write_all(format!("{reply}\r\n").as_bytes()).await?,
                Asked::Quit => return client.write_all(b"221 Bye.\r\n").await,
                Asked::Send(bytes) => transfer(&mut client, &mut session, Some(bytes), None).await?,
                Asked::Receive { name, before } => {
                    transfer(&mut client, &mut session, None, Some((name, before))).await?;
                }
            }
        }
    }
}

/// One transfer: the data connection, the bytes, the replies around it.
async fn transfer(
    client: &mut TcpStream,
    session: &mut commands::Session,
    send: Option<Vec<u8>>,
    receive: Option<(String, Vec<u8>)>,
) -> io::Result<()> {
    if matches!(session.data, Data::None) {
        return client.write_all(b"425 Use PASV, EPSV, PORT or EPRT first.\r\n").await;
    }
    client.write_all(b"150 Here it comes.\r\n").await?;
    let connected = tokio::time::timeout(PATIENCE, connect(std::mem::take(&mut session.data))).await;
    let Ok(Ok(mut data)) = connected else {
        return client.write_all(b"425 Can't open data connection.\r\n").await;
    };
    let moved = match (send, receive) {
        (Some(bytes), _) => send_all(&mut data, &bytes).await,
        (None, Some((name, mut bytes))) => {
            (&mut data).take(MAX_BYTES).read_to_end(&mut bytes).await.map(|_| session.files.store(name, bytes))
        }
        (None, None) => Ok(true),
    };
    let reply: &[u8] = match moved {
        Ok(true) => b"226 Done.\r\n",
        Ok(false) => b"452 No room for more files.\r\n",
        Err(_) => b"426 The data connection broke.\r\n",
    };
    client.write_all(reply).await
}

async fn send_all(data: &mut TcpStream, bytes: &[u8]) -> io::Result<bool> {
    data.write_all(bytes).await?;
    data.shutdown().await?;
    Ok(true)
}

async fn connect(data: Data) -> io::Result<TcpStream> {
    match data {
        Data::None => Err(io::ErrorKind::NotConnected.into()),
        Data::Passive(listener) => listener.accept().await.map(|(stream, _)| stream),
        Data::Active(to) => TcpStream::connect(to).await,
    }
}
