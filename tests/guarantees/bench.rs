//! A gate as a process, a server that says what the test wants, and a client: all on loopback.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

/// How long anything may take before the test fails.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// A gate that runs.
pub struct Gate {
    pub process: Child,
    pub at: SocketAddr,
    pub rules: PathBuf,
    log: Arc<Mutex<String>>,
}

impl Gate {
    /// Starts a gate in front of `server`, whose rule has these lines.
    pub fn start(server: SocketAddr, rule: &str) -> Self {
        let at = SocketAddr::from(([127, 0, 0, 1], free_ports(1)[0]));
        let folder = std::env::temp_dir().join(format!("ftpgate-guarantee-{}-{}", std::process::id(), at.port()));
        std::fs::create_dir_all(&folder).unwrap();
        let rules = folder.join("rules.yaml");
        write_rules(&rules, at, server, rule);
        let mut process = Command::new(env!("CARGO_BIN_EXE_ftpgate"))
            .args(["run", "--log-level", "debug"])
            .arg(&rules)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let (stderr, kept) = (process.stderr.take().unwrap(), Arc::clone(&log));
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                kept.lock().unwrap().push_str(&(line + "\n"));
            }
        });
        let gate = Self { process, at, rules, log };
        gate.wait_for("event=\"ready\"");
        gate
    }

    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Waits until the log has this text.
    pub fn wait_for(&self, text: &str) {
        until(&format!("the log to say {text}: {}", self.log()), || self.log().contains(text));
    }

    pub fn signal(&self, name: &str) {
        let done = Command::new("kill").args([&format!("-{name}"), &self.process.id().to_string()]).status().unwrap();
        assert!(done.success());
    }

    pub fn client(&self) -> Client {
        Client::from([127, 0, 0, 1].into(), self.at)
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if let Some(folder) = self.rules.parent() {
            let _ = std::fs::remove_dir_all(folder);
        }
    }
}

pub fn write_rules(file: &PathBuf, at: SocketAddr, server: SocketAddr, rule: &str) {
    let text = format!(
        "version: 1\nlisteners:\n  - name: test\n    bind: \"{at}\"\n    server: \"{server}\"\n\
         rules:\n  - name: test\n    from: any\n    to: any\n{rule}\n"
    );
    std::fs::write(file, text).unwrap();
}

/// A control connection, of a client or at the server.
pub struct Client {
    pub stream: TcpStream,
    reader: BufReader<TcpStream>,
}

impl Client {
    /// Connects from this address.
    pub fn from(ip: IpAddr, to: SocketAddr) -> Self {
        Self::over(connect_from(ip, to).unwrap())
    }

    pub fn over(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let reader = BufReader::new(stream.try_clone().unwrap());
        Self { stream, reader }
    }

    pub fn send(&mut self, line: &[u8]) {
        self.stream.write_all(&[line, b"\r\n"].concat()).unwrap();
    }

    /// The next line, without its end; empty where the connection was closed.
    pub fn line(&mut self) -> Vec<u8> {
        let mut line = Vec::new();
        let _ = self.reader.read_until(b'\n', &mut line);
        line.truncate(line.trim_ascii_end().len());
        line
    }

    pub fn text(&mut self) -> String {
        String::from_utf8_lossy(&self.line()).into_owned()
    }

    pub fn expect(&mut self, start: &str) -> String {
        let line = self.text();
        assert!(line.starts_with(start), "`{line}` instead of `{start}`");
        line
    }
}

/// A server whose every move is the test's.
pub struct Server {
    pub listener: TcpListener,
}

impl Server {
    pub fn new() -> Self {
        Self { listener: TcpListener::bind("127.0.0.1:0").unwrap() }
    }

    pub fn at(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }

    /// The next session, greeted.
    pub fn session(&self) -> Client {
        let mut session = Client::over(self.listener.accept().unwrap().0);
        session.send(b"220 ready");
        session
    }
}

/// A client and the server's end of its session.
pub fn session(gate: &Gate, server: &Server) -> (Client, Client) {
    let mut client = gate.client();
    let session = server.session();
    client.expect("220");
    (client, session)
}

/// Negotiates passive mode; gives where the client is told to connect, and where the server waits.
pub fn passive(client: &mut Client, session: &mut Client) -> (SocketAddr, TcpListener) {
    let data = TcpListener::bind("127.0.0.1:0").unwrap();
    client.send(b"PASV");
    session.expect("PASV");
    session.send(&tuple(b"227 Entering Passive Mode (", data.local_addr().unwrap(), b")."));
    let told = client.expect("227 Entering Passive Mode (127,0,0,1,");
    let numbers: Vec<u16> =
        told.split(|c: char| !c.is_ascii_digit()).filter_map(|number| number.parse().ok()).collect();
    let &[_, .., high, low] = numbers.as_slice() else { panic!("{told}") };
    (SocketAddr::from(([127, 0, 0, 1], high * 256 + low)), data)
}

pub fn tuple(before: &[u8], at: SocketAddr, after: &[u8]) -> Vec<u8> {
    let SocketAddr::V4(v4) = at else { panic!("IPv4 only") };
    let [a, b, c, d] = v4.ip().octets();
    let [high, low] = at.port().to_be_bytes();
    [before, format!("{a},{b},{c},{d},{high},{low}").as_bytes(), after].concat()
}

pub fn connect_from(ip: IpAddr, to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
    socket.bind(&SocketAddr::new(ip, 0).into())?;
    socket.connect_timeout(&to.into(), PATIENCE)?;
    let stream: TcpStream = socket.into();
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Reads to the end, or to the error that ends it.
pub fn read_all(stream: &mut TcpStream) -> (Vec<u8>, Option<std::io::ErrorKind>) {
    let mut bytes = Vec::new();
    let ended = stream.read_to_end(&mut bytes);
    (bytes, ended.err().map(|error| error.kind()))
}

/// Closes with a reset.
pub fn reset(stream: TcpStream) {
    Socket::from(stream).set_linger(Some(Duration::ZERO)).unwrap();
}

pub fn is_open(at: SocketAddr) -> bool {
    TcpStream::connect_timeout(&at, PATIENCE).is_ok()
}

/// Ports in a row that nobody listens on, below those that the kernel gives out by itself.
pub fn free_ports(count: u16) -> Vec<u16> {
    use std::sync::atomic::{AtomicU16, Ordering};
    static NEXT: AtomicU16 = AtomicU16::new(0);
    loop {
        let step = NEXT.fetch_add(count, Ordering::Relaxed);
        let seed = u16::try_from(std::process::id() % 700).unwrap() * 28;
        let first = 10_000 + (seed + step) % 20_000;
        let ports: Vec<u16> = (first..first + count).collect();
        if ports.iter().all(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()) {
            return ports;
        }
    }
}

/// Waits for something, within bounds.
pub fn until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < end, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
