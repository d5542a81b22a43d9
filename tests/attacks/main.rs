//! Random hostile peers against the real program: `cargo test --test attacks -- --nocapture`.
//!
//! Each attack sends thousands of inputs that are drawn from a seed, and prints how many there were. Whatever they are,
//! the program lives, another session has its answers, no memory grows, and no server hears what its rule forbids.
//! `FTPGATE_ATTACK_INPUTS` multiplies the inputs; `FTPGATE_ATTACK_SEED` draws others.
#![allow(missing_docs, dead_code, clippy::unwrap_used, clippy::print_stdout, unreachable_pub)]

mod inputs;
mod server;
#[path = "../guarantees/support/mod.rs"]
mod support;

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;

use inputs::{destination, negotiation, stream};
use server::Server;
use support::{CLIENT, Gate, OTHER_CLIENT, Rules, SERVER, STRANGER, Talk, dial, listen, nobody_came_to, port_of};

/// No answer to another session takes longer, whatever is going on.
const NOT_FROZEN: Duration = Duration::from_secs(3);
const MAX_GROWTH: u64 = 8 << 20;
/// How long an attacker waits for the next answer. The gate closes when all is answered.
const LINGER: Duration = Duration::from_millis(20);
const ATTACKERS: u64 = 8;

/// One after the other: each looks at how long others wait.
static ALONE: Mutex<()> = Mutex::new(());

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Runs `attack` on several threads, `inputs` times in all, while another session goes on.
fn attacked(name: &str, gate: &Gate, inputs: u64, attack: impl Fn(&mut Rng, u16) + Sync) {
    let mut victim = Talk::new(dial(CLIENT, gate.rules.front()).unwrap());
    victim.expect_code("220");
    let mut longest = Duration::ZERO;
    bounded_attack(name, gate, inputs, attack, || {
        let asked = Instant::now();
        victim.say("NOOP");
        victim.expect_code("200");
        longest = longest.max(asked.elapsed());
    });
    println!("  another session waited {longest:?} at most");
    assert!(longest < NOT_FROZEN, "{name}: another session waited {longest:?}");
}

/// The same; `look` is called again and again meanwhile, and once when it is over.
fn bounded_attack(name: &str, gate: &Gate, inputs: u64, attack: impl Fn(&mut Rng, u16) + Sync, mut look: impl FnMut()) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let (seed, inputs) = (number("FTPGATE_ATTACK_SEED", 1), inputs * number("FTPGATE_ATTACK_INPUTS", 1));
    let front = gate.rules.front();
    let (before, began) = (gate.memory(), Instant::now());
    thread::scope(|scope| {
        let attackers: Vec<_> = (0..ATTACKERS)
            .map(|number| {
                let attack = &attack;
                scope.spawn(move || {
                    let mut rng = Rng::with_seed(seed.wrapping_mul(1_000).wrapping_add(number));
                    (0..inputs / ATTACKERS).for_each(|_| attack(&mut rng, front));
                })
            })
            .collect();
        while !attackers.iter().all(thread::ScopedJoinHandle::is_finished) {
            look();
            thread::sleep(Duration::from_millis(5));
        }
    });
    look();
    let (grown, seconds) = (gate.memory().saturating_sub(before), began.elapsed().as_secs_f64());
    println!("{name}: {inputs} inputs in {seconds:.1} s, {} KiB more", grown >> 10);
    assert!(grown < MAX_GROWTH, "{name}: {grown} bytes more");
    assert!(!gate.log().contains("panicked"), "{name}: {}", gate.log());
}

/// Sends this and nothing more, and gives what comes until the gate closes, or says nothing for a while.
fn exchange(stream: &mut TcpStream, bytes: &[u8]) -> Vec<u8> {
    let _ = stream.set_read_timeout(Some(LINGER));
    let (mut said, mut buffer) = (Vec::new(), [0; 4096]);
    // The gate may have closed already.
    if stream.write_all(bytes).is_ok() && stream.shutdown(Shutdown::Write).is_ok() {
        while let Ok(count @ 1..) = stream.read(&mut buffer) {
            said.extend_from_slice(&buffer[..count]);
        }
    }
    said
}

fn gate(rule: &'static str) -> (Gate, Server) {
    let gate = Gate::with(|rules| rules.rule = rule);
    let server = Server::start(gate.server.try_clone().unwrap());
    (gate, server)
}

/// Streams of commands, Telnet, quotation marks and line ends in any order: the server hears no command that
/// negotiates but the gate's own, and none that the rule denies, in any reading that a server has.
#[test]
fn streams_hide_no_command() {
    let (gate, server) = gate("    commands: { deny: [DELE, \"SITE CHMOD\", \"SITE CPFR\"] }\n");
    attacked("streams", &gate, 8_000, |rng, front| {
        let Ok(mut client) = dial(STRANGER, front) else { return };
        exchange(&mut client, &stream(rng));
    });
    let heard = server.heard();
    println!("  the server heard {} lines", heard.len());
    assert!(heard.len() > 500, "the attack reaches nobody");
    let ours = gate.rules.outbound.clone();
    let bad: Vec<String> = heard.iter().filter_map(|line| server::forbidden(line, &ours)).collect();
    assert!(bad.is_empty(), "{bad:#?}");
}

/// PORT, EPRT, EPSV and their arguments in every form.
#[test]
fn no_port_leads_elsewhere() {
    let (gate, server) = gate("");
    attacked("negotiations", &gate, 4_000, |rng, front| {
        let Ok(mut client) = dial(OTHER_CLIENT, front) else { return };
        exchange(&mut client, &negotiation(rng));
    });
    let heard = server.heard();
    println!("  the server heard {} lines", heard.len());
    let ours = gate.rules.outbound.clone();
    let bad: Vec<String> = heard.iter().filter_map(|line| server::forbidden(line, &ours)).collect();
    assert!(bad.is_empty(), "{bad:#?}");
}

/// Bytes that are no FTP at all.
#[test]
fn noise_does_no_harm() {
    let (gate, _server) = gate("");
    attacked("noise", &gate, 4_000, |rng, front| {
        let Ok(mut client) = dial(STRANGER, front) else { return };
        let count = rng.usize(1..6_000);
        let bytes: Vec<u8> = (0..count).map(|_| if rng.u8(..20) == 0 { b'\n' } else { rng.u8(..) }).collect();
        exchange(&mut client, &bytes);
    });
}

/// A server that answers with anything: the client is told no address but the gate's.
#[test]
fn replies_lead_nowhere_else() {
    let (gate, _server) = gate("");
    let told = Mutex::new(Vec::new());
    attacked("replies", &gate, 2_000, |_, front| {
        let Ok(mut client) = dial(STRANGER, front) else { return };
        let asked = b"USER odd\r\nPASV\r\nLIST\r\nNOOP\r\nEPSV\r\nRETR a\r\nSTAT\r\nQUIT\r\n";
        told.lock().unwrap().extend(replies(&exchange(&mut client, asked)).into_iter().filter(|line| is_passive(line)));
    });
    let told = told.into_inner().unwrap();
    println!("  clients were told {} ports", told.len());
    let ports = gate.rules.inbound.clone();
    let elsewhere = |line: &&Vec<u8>| !port_in(line).is_some_and(|port| ports.contains(&port));
    let bad: Vec<String> = told.iter().filter(elsewhere).map(|line| line.escape_ascii().to_string()).collect();
    assert!(bad.is_empty(), "{bad:#?}");
}

/// The first and the last line of each reply (RFC 959 section 4.2); what is between them is text.
fn replies(said: &[u8]) -> Vec<Vec<u8>> {
    let mut inside: Option<Vec<u8>> = None;
    let mut replies = Vec::new();
    for line in said.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii_end) {
        let (code, mark) = (line.get(..3).unwrap_or_default(), line.get(3));
        match &inside {
            Some(open) if open == code && mark != Some(&b'-') => inside = None,
            Some(_) => continue,
            None if mark == Some(&b'-') && code.iter().all(u8::is_ascii_digit) => inside = Some(code.to_vec()),
            None => {}
        }
        replies.push(line.to_vec());
    }
    replies
}

fn is_passive(line: &[u8]) -> bool {
    line.starts_with(b"227") || line.starts_with(b"229")
}

/// The port of the gate's own address that a 227 or 229 names.
fn port_in(line: &[u8]) -> Option<u16> {
    let text = std::str::from_utf8(line).ok()?;
    if let Some(port) = text.strip_prefix("229 Entering Extended Passive Mode (|||") {
        return port.strip_suffix("|)")?.parse().ok();
    }
    let numbers = text.strip_prefix("227 Entering Passive Mode (127,0,0,1,")?.strip_suffix(").")?;
    let (high, low) = numbers.split_once(',')?;
    Some(u16::from_be_bytes([high.parse().ok()?, low.parse().ok()?]))
}

/// Hosts and ports of every form: the gate dials neither itself nor what is no host of the network.
#[test]
fn no_destination_is_the_gate_itself() {
    let server = listen(SERVER);
    let rules = Rules::new(port_of(&server));
    let text = rules.yaml().replace(&format!("server: \"127.0.0.1:{}\"", rules.server), "explicit: user-at-host");
    let gate = Gate::launch(rules, server, &text, &[]);
    gate.logged(&["event=\"ready\""]);
    let sessions = Mutex::new(0);
    bounded_attack(
        "destinations",
        &gate,
        2_000,
        |rng, front| {
            let Ok(mut client) = dial(STRANGER, front) else { return };
            let said = exchange(&mut client, &destination(rng));
            // The greeting of the gate is the only one: nobody was connected to.
            let greetings = said.split(|byte| *byte == b'\n').filter(|line| line.starts_with(b"220")).count();
            *sessions.lock().unwrap() += usize::from(greetings > 1);
        },
        || {},
    );
    assert_eq!(sessions.into_inner().unwrap(), 0);
    nobody_came_to(&gate.server);
}
