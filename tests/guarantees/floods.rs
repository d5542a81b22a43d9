//! A peer that floods, or never reads, costs nobody but itself: no other session waits, no memory grows.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, Scope};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::support::*;

/// What the gate answers itself, so that no server slows it down.
const ANSWERED: [&str; 5] = ["AUTH TLS\r\n", "LPRT 4,4,10,0,0,1,2,4,1\r\n", "ALGS\r\n", "LIST\r\n", "\n"];
/// More than there are threads in the gate on small machines.
const FLOODERS: usize = 10;
const FLOOD: Duration = Duration::from_secs(3);
/// No answer may take longer. A frozen gate answers when the flood is over.
const NOT_FROZEN: Duration = Duration::from_secs(2);
const MAX_GROWTH: u64 = 8 << 20;

struct Flood {
    over: AtomicBool,
    sent: AtomicU64,
}

impl Flood {
    const fn new() -> Self {
        Self { over: AtomicBool::new(false), sent: AtomicU64::new(0) }
    }

    /// Sends `bytes` on `stream` again and again; what comes back is read where `reads`.
    fn send(&self, mut stream: TcpStream, bytes: &[u8], reads: bool) {
        let _ = stream.set_write_timeout(Some(Duration::from_millis(50)));
        let _ = stream.set_read_timeout(Some(Duration::from_millis(1)));
        let mut sink = [0; 1 << 16];
        while !self.over.load(Ordering::Relaxed) {
            match stream.write(bytes) {
                Ok(count) => drop(self.sent.fetch_add(count as u64, Ordering::Relaxed)),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
            // What does not come is not waited for.
            if reads && stream.read(&mut sink).is_ok_and(|count| count == 0) {
                return;
            }
        }
    }

    /// Clients that send one of these lines each before they have logged in, and come again when they are sent away.
    fn clients<'a>(&'a self, scope: &'a Scope<'a, '_>, front: u16, lines: &[&'a str], reads: bool) {
        for &line in lines.iter().cycle().take(FLOODERS) {
            scope.spawn(move || {
                while !self.over.load(Ordering::Relaxed) {
                    let Ok(stream) = dial(STRANGER, front) else { return };
                    self.send(stream, line.repeat(4096 / line.len()).as_bytes(), reads);
                }
            });
        }
    }
}

/// Serves every client: greets, and answers each line.
fn serve(server: TcpListener, over: &AtomicBool) {
    while !over.load(Ordering::Relaxed) {
        match server.accept() {
            Ok((control, _)) => {
                control.set_nonblocking(false).unwrap();
                thread::spawn(move || answer(Talk::new(control)));
            }
            Err(_) => thread::sleep(Duration::from_millis(1)),
        }
    }
}

fn answer(mut control: Talk) {
    let _ = control.try_send(b"220 Ready\r\n");
    answer_lines(control);
}

fn answer_lines(mut control: Talk) {
    while let Ok(line) = control.try_line() {
        if line.is_empty() || control.try_send(b"200 Fine\r\n").is_err() {
            return;
        }
    }
}

/// The longest that a NOOP takes until `end`, and how many there were.
fn longest_noop(client: &mut Talk, end: Instant) -> (Duration, u32) {
    let (mut longest, mut count) = (Duration::ZERO, 0);
    client.stream.set_read_timeout(Some(FLOOD * 4)).unwrap();
    while Instant::now() < end {
        let began = Instant::now();
        client.say("NOOP");
        client.expect("200 Fine");
        longest = longest.max(began.elapsed());
        count += 1;
        thread::sleep(Duration::from_millis(5));
    }
    (longest, count)
}

/// A gate, its server and a session of somebody else's, while `flood` happens.
fn beside(gate: &Gate, flood: impl for<'a> FnOnce(&'a Flood, &'a Scope<'a, '_>, u16)) {
    let state = Flood::new();
    let server = gate.server.try_clone().unwrap();
    thread::scope(|scope| {
        let _end = End(&state.over);
        scope.spawn(|| serve(server, &state.over));
        let mut client = Talk::new(dial(CLIENT, gate.rules.front()).unwrap());
        client.expect("220 Ready");
        let before = gate.memory();
        flood(&state, scope, gate.rules.front());
        let (longest, count) = longest_noop(&mut client, Instant::now() + FLOOD);
        // A client that comes now is served as well.
        let began = Instant::now();
        let mut late = Talk::new(dial(OTHER_CLIENT, gate.rules.front()).unwrap());
        late.stream.set_read_timeout(Some(FLOOD * 4)).unwrap();
        late.expect("220 Ready");
        let greeted = began.elapsed();
        let grown = gate.memory().saturating_sub(before);
        let sent = state.sent.load(Ordering::Relaxed);
        eprintln!(
            "{count} NOOPs, longest {longest:?}, greeting {greeted:?}, {sent} bytes of flood, {grown} bytes more"
        );
        assert!(longest < NOT_FROZEN && greeted < NOT_FROZEN, "another session waited {longest:?}, {greeted:?}");
        assert!(grown < MAX_GROWTH, "{grown} bytes more");
    });
}

struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn lines_that_the_gate_answers_delay_no_other_session() {
    let gate = Gate::start();
    beside(&gate, |flood, scope, front| flood.clients(scope, front, &ANSWERED, true));
}

#[test]
fn a_client_that_does_not_read_its_answers_holds_no_memory() {
    let gate = Gate::start();
    beside(&gate, |flood, scope, front| flood.clients(scope, front, &ANSWERED, false));
}

#[test]
fn commands_that_the_server_answers_delay_no_other_session() {
    let gate = Gate::start();
    beside(&gate, |flood, scope, front| flood.clients(scope, front, &["NOOP\r\n"], true));
}

#[test]
fn telnet_requests_hold_no_memory() {
    let gate = Gate::start();
    beside(&gate, |flood, scope, front| {
        for _ in 0..FLOODERS {
            let stream = dial(STRANGER, front).unwrap();
            scope.spawn(move || flood.send(stream, &b"\xff\xfd\x06".repeat(1365), false));
        }
    });
}

#[test]
fn a_segment_with_many_lines_passes_whole() {
    let gate = Gate::start();
    let (mut client, mut server) = gate.session();
    let lines: Vec<String> = (0..100).map(|number| format!(" line {number}")).collect();
    client.say("HELP");
    server.expect("HELP");
    server.send(format!("214-Help\r\n{}\r\n214 End\r\n", lines.join("\r\n")).as_bytes());
    client.expect("214-Help");
    lines.iter().for_each(|line| client.expect(line));
    client.expect("214 End");
    // More than may wait for their replies at a time.
    client.send("NOOP\r\n".repeat(50).as_bytes());
    for _ in 0..50 {
        server.expect("NOOP");
        server.say("200 Fine");
    }
    (0..50).for_each(|_| client.expect("200 Fine"));
}

#[test]
fn a_deadline_holds_under_a_flood() {
    let gate = Gate::with(|rules| rules.rule = "    limits: { login_timeout: 1s }\n");
    let flood = Flood::new();
    let server = gate.server.try_clone().unwrap();
    thread::scope(|scope| {
        let _end = End(&flood.over);
        scope.spawn(|| serve(server, &flood.over));
        let flooders: Vec<_> = (0..FLOODERS)
            .map(|_| {
                let stream = dial(STRANGER, gate.rules.front()).unwrap();
                scope.spawn(|| flood.send(stream, "ALGS\r\n".repeat(600).as_bytes(), true))
            })
            .collect();
        wait_until("all who flood are sent away", || flooders.iter().all(|flooder| flooder.is_finished()));
    });
    gate.logged(&["event=\"session_ended\"", "reason=\"login_timeout\""]);
}

#[test]
fn the_gate_ends_in_time_under_a_flood() {
    let mut gate = Gate::start();
    let flood = Flood::new();
    let server = gate.server.try_clone().unwrap();
    thread::scope(|scope| {
        let _end = End(&flood.over);
        scope.spawn(|| serve(server, &flood.over));
        flood.clients(scope, gate.rules.front(), &["ALGS\r\n"], false);
        thread::sleep(Duration::from_secs(1));
        gate.signal(Signal::TERM);
        assert_eq!(gate.exit().code(), Some(0));
    });
}

#[test]
fn a_server_that_floods_delays_no_other_session() {
    let lines = ["\r\n", "200 Unasked\r\n", "226-\r\n"];
    let gate = Gate::start();
    let mut victim = gate.session();
    let others: Vec<(Talk, Talk)> = (0..FLOODERS).map(|_| gate.session_from(OTHER_CLIENT)).collect();
    let flood = Flood::new();
    let before = gate.memory();
    // Half of the clients read.
    let mut deaf = Vec::new();
    thread::scope(|scope| {
        let _end = End(&flood.over);
        for (number, (client, server)) in others.into_iter().enumerate() {
            if number % 2 == 0 {
                scope.spawn(|| drain(client, &flood.over));
            } else {
                deaf.push(client);
            }
            let (flood, line) = (&flood, lines[number % lines.len()]);
            scope.spawn(move || flood.send(server.stream, line.repeat(4096 / line.len()).as_bytes(), false));
        }
        let server = victim.1;
        scope.spawn(move || answer_lines(server));
        let (longest, count) = longest_noop(&mut victim.0, Instant::now() + FLOOD);
        let grown = gate.memory().saturating_sub(before);
        eprintln!("{count} NOOPs, longest {longest:?}, {grown} bytes more");
        assert!(longest < NOT_FROZEN, "another session waited {longest:?}");
        assert!(grown < MAX_GROWTH, "{grown} bytes more");
        drop(victim.0);
    });
}

fn drain(mut client: Talk, over: &AtomicBool) {
    let mut sink = [0; 1 << 16];
    client.stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    while !over.load(Ordering::Relaxed) {
        if client.stream.read(&mut sink).is_ok_and(|count| count == 0) {
            return;
        }
    }
}
