//! More clients at once than a server takes: its queue of new connections overflows, and its kernel answers with SYN
//! cookies. Some of those connections exist for one side only: without the gate their clients wait for a greeting, or are
//! reset by the server when they say something.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use crate::lab::Family;
use crate::lab::gate::{Datapath, Gate};
use crate::lab::host::Host;
use crate::lab::net::Net;
use crate::router::rules;

const CLIENTS: usize = 150;
const QUEUE: i32 = 8;
/// For so long the server does nothing but queue.
const BUSY: Duration = Duration::from_secs(2);
/// How long a client waits for its greeting: longer than the gate.
const PATIENCE: Duration = Duration::from_secs(12);

/// What becomes of the clients.
#[derive(Debug, Default)]
struct Outcomes {
    greeted: usize,
    told: usize,
    /// Not connected, or nothing was said.
    unanswered: usize,
    reset: usize,
}

fn listen(host: &Host, at: SocketAddr) -> TcpListener {
    let listener = host.run(move || {
        let socket = Socket::new(Domain::for_address(at), Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.bind(&at.into())?;
        socket.listen(QUEUE)?;
        Ok::<_, std::io::Error>(TcpListener::from(socket))
    });
    let listener = listener.unwrap();
    listener.set_nonblocking(true).unwrap();
    listener
}

/// One process that greets one client after the other.
fn serve(listener: &TcpListener, ended: &AtomicBool) {
    std::thread::sleep(BUSY);
    let mut clients = Vec::new();
    while !ended.load(Ordering::Relaxed) {
        match listener.accept() {
            Ok((mut client, _)) => {
                // One that is gone needs no greeting.
                let _ = client.write_all(b"220 Ready\r\n");
                clients.push(client);
            }
            Err(_) => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}

fn visit(connected: Result<TcpStream, std::io::Error>) -> Result<String, ErrorKind> {
    let mut stream = connected.map_err(|error| error.kind())?;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut said = [0; 128];
    let count = stream.read(&mut said).map_err(|error| error.kind())?;
    Ok(String::from_utf8_lossy(&said[..count]).into_owned())
}

/// All clients come at once.
fn storm(by: Option<Datapath>) -> (Outcomes, u64, String) {
    let net = Net::new().unwrap();
    let to = SocketAddr::new(Net::server_address(Family::V4), 21);
    let (listener, ended) = (listen(&net.server, to), AtomicBool::new(false));
    let gate = by.map(|datapath| {
        let rules = rules("    transparent: tproxy\n", datapath, Family::V4, "")
            .replace("connect: 2s", "connect: 4s, greeting: 4s");
        Gate::start_with(&net, &rules, 2121).unwrap()
    });
    let mut outcomes = Outcomes::default();
    std::thread::scope(|scope| {
        scope.spawn(|| serve(&listener, &ended));
        let sockets: Vec<Socket> =
            net.client.run(|| (0..CLIENTS).map(|_| Socket::new(Domain::IPV4, Type::STREAM, None).unwrap()).collect());
        let visits: Vec<_> = sockets
            .into_iter()
            .map(|socket| {
                let connect = move || socket.connect_timeout(&to.into(), PATIENCE).map(|()| TcpStream::from(socket));
                scope.spawn(move || visit(connect()))
            })
            .collect();
        for visit in visits {
            match visit.join().unwrap() {
                Ok(said) if said.starts_with("220 ") => outcomes.greeted += 1,
                Ok(said) if said.starts_with("421 ") => outcomes.told += 1,
                Ok(said) => panic!("the client was told {said:?}"),
                Err(ErrorKind::ConnectionReset) => outcomes.reset += 1,
                Err(_) => outcomes.unanswered += 1,
            }
        }
        ended.store(true, Ordering::Relaxed);
    });
    (outcomes, overflows(&net.server), gate.map_or_else(String::new, |gate| gate.log()))
}

/// How often a listener of this machine had no room.
fn overflows(host: &Host) -> u64 {
    let table = host.run(|| std::fs::read_to_string("/proc/thread-self/net/netstat").unwrap());
    let mut lines = table.lines().filter(|line| line.starts_with("TcpExt:")).map(str::split_whitespace);
    let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
    names.zip(values).find(|(name, _)| *name == "ListenOverflows").unwrap().1.parse().unwrap()
}

#[test]
fn clients_of_an_overloaded_server_are_greeted_or_told() {
    let (direct, lost, _) = storm(None);
    println!("direct: {direct:?}, {lost} overflows");
    assert!(lost > 0, "the server was not overloaded");
    for datapath in Datapath::ALL {
        let (outcomes, lost, log) = storm(Some(datapath));
        println!("{datapath}: {outcomes:?}, {lost} overflows");
        assert!(lost > 0, "the server was not overloaded");
        assert_eq!(outcomes.greeted + outcomes.told, CLIENTS, "{outcomes:?}\n{log}");
        // Who was told is in the log too, or in the number of lines that were left out.
        let lines =
            log.matches("reason=\"server_unreachable\"").count() + log.matches("reason=\"no_greeting\"").count();
        assert!(outcomes.told == 0 || lines > 0 || log.contains("lines_left_out"), "{outcomes:?}\n{log}");
    }
}
