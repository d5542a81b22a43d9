//! A gate between a client and a server that say just what the test wants them to say.

use std::fmt::Write as _;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, Type};

use crate::lab::gate::Gate;
use crate::lab::host::Host;
use crate::lab::net::{Net, PATH};
use crate::lab::{Family, poll};
use crate::talk::{IO, Talk, bounded};

/// How long anything may take before the test fails.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// How long a connection is tried that must not come about: the kernel sends its first packet again after a second.
const IN_VAIN: Duration = Duration::from_millis(2500);

/// A gate that the server takes for the client.
pub const AS_CLIENT: &str = "tproxy\n    source: client";

/// What a test wants of the gate.
#[derive(Clone, Copy)]
pub struct Wish {
    pub family: Family,
    pub listener: &'static str,
    /// How connections to the server are intercepted; `None`: the gate answers at its own address.
    pub transparent: Option<&'static str>,
    pub inbound: &'static str,
    pub outbound: &'static str,
    pub source_port: Option<u16>,
    pub timeout: &'static str,
    pub datapath: &'static str,
    /// More lines of the rule, each indented by four.
    pub rule: &'static str,
    /// Whether everything that is not the gate's is dropped.
    pub closed: bool,
}

/// What most tests want.
pub const WISH: Wish = Wish {
    family: Family::V4,
    listener: "",
    transparent: None,
    inbound: "10001-10002",
    outbound: "40001-40002",
    source_port: None,
    timeout: "30s",
    datapath: "kernel",
    rule: "",
    closed: true,
};

impl Default for Wish {
    fn default() -> Self {
        WISH
    }
}

impl Wish {
    pub fn yaml(&self) -> String {
        let (bind, stand) = match self.transparent {
            Some(how) => (SocketAddr::new(self.any(), self.port()), format!("transparent: {how}")),
            None => {
                let server = SocketAddr::new(Net::server_address(self.family), 21);
                (SocketAddr::new(Net::gate_address(self.family), self.port()), format!("server: \"{server}\""))
            }
        };
        let Self { listener, inbound, outbound, timeout, datapath, rule, .. } = self;
        let mut text = format!(
            "version: 1\nlisteners:\n  - name: front\n    bind: \"{bind}\"\n    {stand}\n{listener}\
             rules:\n  - name: tested\n    from: any\n    to: any\n    action: allow\n    datapath: {datapath}\n    \
             pinhole_timeout: {timeout}\n{rule}    inbound: \"{inbound}\"\n    outbound:\n      gate_ports: \"{outbound}\"\n"
        );
        if let Some(port) = self.source_port {
            let _ = writeln!(text, "      source_port: {port}");
        }
        text
    }
}

impl Wish {
    /// Where the gate listens.
    fn port(&self) -> u16 {
        if self.transparent.is_some() { 2121 } else { 21 }
    }

    fn any(&self) -> IpAddr {
        match self.family {
            Family::V4 => std::net::Ipv4Addr::UNSPECIFIED.into(),
            Family::V6 => std::net::Ipv6Addr::UNSPECIFIED.into(),
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Some(gate) = self.gate.as_ref().filter(|_| std::thread::panicking()) {
            eprintln!("the gate's log:\n{}", gate.tail());
        }
    }
}

/// Three machines, the server's control port, and the gate.
pub struct Stage {
    pub net: Net,
    pub gate: Option<Gate>,
    pub family: Family,
    /// The address at which clients find the server.
    front: IpAddr,
    /// Where the server is told to connect to.
    back: IpAddr,
    server: TcpListener,
}

impl Stage {
    pub fn new() -> Self {
        Self::with(&Wish::default())
    }

    pub fn with(wish: &Wish) -> Self {
        let net = Net::new().unwrap();
        if wish.closed {
            net.close().unwrap();
        }
        Self::on(net, wish)
    }

    /// On machines that the test has changed.
    pub fn on(net: Net, wish: &Wish) -> Self {
        let server = listen(&net.server, SocketAddr::new(Net::server_address(wish.family), 21));
        let gate = Some(Gate::start_with(&net, &wish.yaml(), wish.port()).unwrap());
        let (server_ip, gate_ip) = (Net::server_address(wish.family), Net::gate_address(wish.family));
        let front = if wish.transparent.is_some() { server_ip } else { gate_ip };
        let back = match (wish.transparent == Some(AS_CLIENT), wish.family) {
            (true, _) => Net::client_address(wish.family),
            (false, Family::V4) => IpAddr::from([10, 2, 0, 1]),
            (false, Family::V6) => IpAddr::from([0x2001, 0xdb8, 2, 0, 0, 0, 0, 1]),
        };
        Self { net, gate, family: wish.family, front, back, server }
    }

    /// Starts another gate in place of one that is gone.
    pub fn restart(&mut self, wish: &Wish) {
        drop(self.gate.take());
        self.gate = Some(Gate::start_with(&self.net, &wish.yaml(), wish.port()).unwrap());
    }

    pub fn client_ip(&self) -> IpAddr {
        Net::client_address(self.family)
    }

    pub fn stranger_ip(&self) -> IpAddr {
        Net::stranger_address(self.family)
    }

    pub fn server_ip(&self) -> IpAddr {
        Net::server_address(self.family)
    }

    /// Where the server is told to connect to.
    pub const fn back_ip(&self) -> IpAddr {
        self.back
    }

    /// The gate as the client sees it.
    pub fn front(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.front, port)
    }

    /// A client that has been greeted, and its server's end.
    #[track_caller]
    pub fn session(&self) -> (Talk, Talk) {
        let client = self.dial(self.front(21)).expect("the gate does not listen");
        let (mut client, mut server) = (Talk::new(client), Talk::new(accept(&self.server)));
        server.say("220 Ready");
        client.expect("220 Ready");
        (client, server)
    }

    /// The next control connection that comes to the server.
    pub fn next_control_soon(&self) -> TcpStream {
        poll(PATIENCE, || self.next_control()).expect("no control connection comes to the server")
    }

    /// A control connection that has come to the server, where there is one.
    pub fn next_control(&self) -> Option<TcpStream> {
        let stream = self.server.accept().ok()?.0;
        stream.set_nonblocking(false).unwrap();
        bounded(&stream);
        Some(stream)
    }

    /// The client connects.
    pub fn dial(&self, to: SocketAddr) -> Result<TcpStream, ErrorKind> {
        dial(&self.net.client, self.client_ip(), 0, to, PATIENCE)
    }

    /// EPSV to its end: where the client is told to connect, and the server's listener behind it.
    #[track_caller]
    pub fn passive(&self, client: &mut Talk, server: &mut Talk) -> (SocketAddr, TcpListener) {
        let data = listen(&self.net.server, SocketAddr::new(self.server_ip(), 0));
        let at = self.passive_at(client, server, data.local_addr().unwrap().port());
        (at, data)
    }

    /// The same, with a port of the server's that the test chooses.
    #[track_caller]
    pub fn passive_at(&self, client: &mut Talk, server: &mut Talk, port: u16) -> SocketAddr {
        client.say("EPSV");
        server.expect("EPSV");
        server.say(&format!("229 Here (|||{port}|)"));
        let told = client.expect_code("229").lines.concat();
        self.front(told.split('|').nth(3).unwrap().parse().unwrap())
    }

    /// EPRT to its end: where the server is told to connect, and the client's listener behind it.
    #[track_caller]
    pub fn active(&self, client: &mut Talk, server: &mut Talk) -> (SocketAddr, TcpListener) {
        let data = listen(&self.net.client, SocketAddr::new(self.client_ip(), 0));
        let at = self.active_at(client, server, data.local_addr().unwrap());
        (at, data)
    }

    /// The same, with a port of the client's that the test chooses.
    #[track_caller]
    pub fn active_at(&self, client: &mut Talk, server: &mut Talk, at: SocketAddr) -> SocketAddr {
        let number = if at.is_ipv4() { 1 } else { 2 };
        client.say(&format!("EPRT |{number}|{}|{}|", at.ip(), at.port()));
        let told = server.line();
        server.say("200 Fine");
        client.expect("200 Fine");
        let mut fields = told.split('|').skip(2);
        let (ip, port) = (fields.next().unwrap(), fields.next().unwrap());
        SocketAddr::new(ip.parse().unwrap(), port.parse().unwrap())
    }

    /// The server connects to the port of the gate's that it was told.
    pub fn dial_back(&self, to: SocketAddr) -> Result<TcpStream, ErrorKind> {
        dial(&self.net.server, self.server_ip(), 0, to, PATIENCE)
    }

    /// EPSV, a transfer's command, and the data connection's two ends: the client's and the server's.
    #[track_caller]
    pub fn transfer(&self, client: &mut Talk, server: &mut Talk, command: &str) -> (TcpStream, TcpStream) {
        let (at, data) = self.passive(client, server);
        let ours = self.dial(at).unwrap();
        let theirs = accept(&data);
        begin(client, server, command);
        (ours, theirs)
    }

    pub fn gate(&self) -> &Gate {
        self.gate.as_ref().expect("the gate runs")
    }

    /// The line of the gate's log that has all of these; waits for it: the gate looks at some things every ten seconds.
    #[track_caller]
    pub fn logged(&self, words: &[&str]) -> String {
        let find =
            || self.gate().log().lines().find(|line| words.iter().all(|word| line.contains(word))).map(str::to_owned);
        poll(3 * PATIENCE, find).unwrap_or_else(|| panic!("no line has all of {words:?}:\n{}", self.gate().log()))
    }

    /// Nobody gets in there: the connection is refused, reset, or its packets are dropped.
    #[track_caller]
    pub fn assert_shut(&self, host: &Host, from: IpAddr, to: SocketAddr) {
        match dial(host, from, 0, to, IN_VAIN) {
            // A reset may come behind the handshake.
            Ok(mut stream) => match stream.read(&mut [0]) {
                Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
                other => panic!("{from} got through to {to}: {other:?}"),
            },
            Err(ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset | ErrorKind::TimedOut) => {}
            Err(other) => panic!("{from} to {to}: {other}"),
        }
    }

    /// How many elements the sets of the gate's table have.
    pub fn elements(&self) -> usize {
        self.nft("list ruleset").matches("expires").count()
    }

    /// What `nft` says on the gate's machine.
    pub fn nft(&self, arguments: &str) -> String {
        let mut nft = Command::new("nft");
        nft.args(arguments.split(' ')).env("PATH", PATH);
        let output = self.net.gate.run(move || nft.output()).unwrap();
        assert!(output.status.success(), "nft {arguments}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }
}

/// Loads rules on one of the machines.
pub fn load(host: &Host, rules: &str) {
    let mut nft = Command::new("nft");
    nft.args(["-f", "-"]).env("PATH", PATH);
    host.feed(nft, rules).unwrap();
}

/// What the counter of a table on this machine has counted.
pub fn packets(host: &Host, table: &str) -> u64 {
    let mut nft = Command::new("nft");
    nft.args(["list", "table", "inet", table]).env("PATH", PATH);
    let listed = String::from_utf8(host.run(move || nft.output()).unwrap().stdout).unwrap();
    let counted = listed.split("counter packets ").nth(1).expect("it counts");
    counted.split(' ').next().unwrap().parse().unwrap()
}

pub fn listen(host: &Host, at: SocketAddr) -> TcpListener {
    let listener = host.run(move || {
        let socket = Socket::new(Domain::for_address(at), Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.bind(&at.into())?;
        socket.listen(1024)?;
        Ok::<_, std::io::Error>(socket)
    });
    let listener = TcpListener::from(listener.unwrap());
    listener.set_nonblocking(true).unwrap();
    listener
}

/// Connects from an address and port of the test's choice; 0: any port.
pub fn dial(host: &Host, from: IpAddr, port: u16, to: SocketAddr, patience: Duration) -> Result<TcpStream, ErrorKind> {
    let stream = host.run(move || {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.bind(&SocketAddr::new(from, port).into())?;
        socket.connect_timeout(&to.into(), patience)?;
        Ok::<_, std::io::Error>(TcpStream::from(socket))
    });
    let stream = stream.map_err(|error| error.kind())?;
    bounded(&stream);
    Ok(stream)
}

/// The next connection to a listener of [`listen`].
#[track_caller]
pub fn accept(listener: &TcpListener) -> TcpStream {
    let stream = poll(PATIENCE, || listener.accept().ok()).expect("nobody connected").0;
    stream.set_nonblocking(false).unwrap();
    bounded(&stream);
    stream
}

/// Nobody has connected. Meaningful only after something that would have come later.
#[track_caller]
pub fn nobody_came_to(listener: &TcpListener) {
    match listener.accept() {
        Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        Ok((_, from)) => panic!("{from} connected"),
    }
}

/// The server gets a transfer's command and begins; nothing has moved.
#[track_caller]
pub fn begin(client: &mut Talk, server: &mut Talk, command: &str) {
    client.say(command);
    server.expect(command);
    server.say("150 Here it comes");
    client.expect("150 Here it comes");
}

/// The server says that a transfer is complete.
#[track_caller]
pub fn complete(client: &mut Talk, server: &mut Talk) {
    server.say("226 Done");
    client.expect("226 Done");
}

/// A command and its answer pass as ever, and nothing else comes before them on either side.
#[track_caller]
pub fn noop(client: &mut Talk, server: &mut Talk) {
    client.say("NOOP");
    server.expect("NOOP");
    server.say("200 Still here");
    client.expect("200 Still here");
}

/// Bytes go from one end to the other, and the end after them.
#[track_caller]
pub fn carries(mut from: TcpStream, mut to: TcpStream, bytes: &[u8]) {
    let mut got = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            from.write_all(bytes).unwrap();
            from.shutdown(std::net::Shutdown::Write).unwrap();
        });
        to.read_to_end(&mut got).unwrap();
    });
    assert!(got == bytes, "{} bytes of {}", got.len(), bytes.len());
}

/// The other end resets the connection; what came before does not matter.
#[track_caller]
pub fn assert_reset(mut stream: TcpStream) {
    let mut rest = Vec::new();
    match stream.read_to_end(&mut rest) {
        Ok(count) => panic!("a clean end after {count} bytes where a reset was due"),
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}"),
    }
}

/// Closes a connection with a reset.
pub fn reset(stream: TcpStream) {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    drop(stream);
}

/// Sends without end in a thread of its own, until the connection breaks.
pub fn flood(mut stream: TcpStream) -> std::thread::JoinHandle<ErrorKind> {
    std::thread::spawn(move || {
        stream.set_write_timeout(Some(IO)).unwrap();
        let block = vec![7; 64 * 1024];
        loop {
            if let Err(error) = stream.write_all(&block) {
                return error.kind();
            }
        }
    })
}

pub fn goods(count: usize) -> Vec<u8> {
    (0..count).map(|at| (at ^ (at >> 8) ^ (at >> 16)).to_le_bytes()[0]).collect()
}

/// Runs a command line on one of the machines, with the lab's own iptables.
#[track_caller]
pub fn shell(host: &Host, line: &str) {
    let unpacked = crate::lab::unpacked().join("usr");
    let libraries = std::fs::read_dir(unpacked.join("lib")).unwrap().map(|entry| entry.unwrap().path());
    let libraries =
        libraries.into_iter().find(|path| path.join("xtables").exists()).expect("tests/lab/packages was run");
    let multi = unpacked.join("sbin/xtables-nft-multi").display().to_string();
    let iptables = ["iptables", "ip6tables"].map(|name| format!("{name}() {{ {multi} {name} \"$@\"; }}\n")).concat();
    let mut shell = Command::new("sh");
    shell.args(["-euc", &format!("{iptables}{line}")]).env("PATH", PATH);
    shell.env("LD_LIBRARY_PATH", &libraries).env("XTABLES_LIBDIR", libraries.join("xtables"));
    let output = host.run(move || shell.output()).unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
}
