//! Strangers who take all they can: running sessions go on, others get in, and the log stays readable.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use super::support::*;

/// So few that a few hundred connections are a flood.
const OPEN_FILES: u32 = 256;
const FLOOD: usize = 300;
const FILE: &[u8] = b"what was asked for";

fn gate_with_few_files(change: impl FnOnce(&mut Rules)) -> Gate {
    let gate = Gate::with_open_files(OPEN_FILES, change);
    serve(&gate.server, converse);
    gate
}

/// A server for any number of sessions, until the test ends.
fn serve(listener: &TcpListener, session: fn(TcpStream) -> Option<()>) {
    let listener = listener.try_clone().unwrap();
    thread::spawn(move || {
        loop {
            match listener.accept() {
                Ok((stream, _)) => drop(thread::spawn(move || session(stream))),
                Err(_) => thread::sleep(Duration::from_millis(2)),
            }
        }
    });
}

/// One session with a server that has one file.
fn converse(stream: TcpStream) -> Option<()> {
    stream.set_nonblocking(false).ok()?;
    let mut control = Talk::new(stream);
    control.stream.set_read_timeout(Some(Duration::from_secs(60))).ok()?;
    control.try_send(b"220 Ready\r\n").ok()?;
    let data = TcpListener::bind((SERVER, 0)).ok()?;
    loop {
        let line = control.try_line().ok()?;
        let reply = match line.get(..4)? {
            b"USER" => "331 Password".to_owned(),
            b"PASS" => "230 In".to_owned(),
            b"PASV" => told_227(SERVER, port_of(&data)),
            b"RETR" => {
                control.try_send(b"150 Here it comes\r\n").ok()?;
                data.accept().ok()?.0.write_all(FILE).ok()?;
                "226 Done".to_owned()
            }
            _ => "200 Fine".to_owned(),
        };
        control.try_send(format!("{reply}\r\n").as_bytes()).ok()?;
    }
}

#[track_caller]
fn logged_in(gate: &Gate, from: Ipv4Addr) -> Talk {
    let mut client = Talk::new(dial(from, gate.rules.front()).unwrap());
    client.expect("220 Ready");
    client.say("USER anna");
    client.expect("331 Password");
    client.say("PASS x");
    client.expect("230 In");
    client
}

#[track_caller]
fn download(client: &mut Talk, from: Ipv4Addr) {
    client.say("PASV");
    let port = the_port_in(&client.expect_code("227"));
    client.say("RETR x");
    let mut data = dial(from, port).unwrap();
    let mut bytes = Vec::new();
    data.read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, FILE);
    client.expect("150 Here it comes");
    client.expect("226 Done");
}

/// Connections that say nothing and stay; those that are refused have heard why.
fn flood(gate: &Gate, from: impl Fn(usize) -> Ipv4Addr) -> Vec<TcpStream> {
    (0..FLOOD).map(|number| dial(from(number), gate.rules.front()).unwrap()).collect()
}

/// What each of them is told first.
fn first_lines(connections: &[TcpStream]) -> Vec<String> {
    let first = |stream: &TcpStream| Talk::new(stream.try_clone().unwrap()).try_line().unwrap_or_default();
    connections.iter().map(|stream| String::from_utf8_lossy(&first(stream)).trim_end().to_owned()).collect()
}

fn counted(lines: &[String], start: &str) -> usize {
    lines.iter().filter(|line| line.starts_with(start)).count()
}

#[test]
fn one_address_cannot_take_every_descriptor() {
    let gate = gate_with_few_files(|_| {});
    let mut running = logged_in(&gate, OTHER_CLIENT);
    let flooding = flood(&gate, |_| STRANGER);
    let told = first_lines(&flooding);
    let (served, refused) = (counted(&told, "220 "), counted(&told, "421 Too many sessions (sessions)"));
    assert!(served > 10 && served < 40 && served + refused == FLOOD, "{served} {refused} {told:?}");
    // Those who run have their data, and others get in.
    download(&mut running, OTHER_CLIENT);
    let mut fresh = logged_in(&gate, Ipv4Addr::new(127, 0, 0, 9));
    download(&mut fresh, Ipv4Addr::new(127, 0, 0, 9));
    gate.logged(&["event=\"limit\"", "limit=\"sessions\"", "each=\"client\"", "default=true", "LimitNOFILE="]);
    drop(flooding);
    wait_until("the flood is over", || gate.count("event=\"session_ended\"") >= served);
    download(&mut logged_in(&gate, STRANGER), STRANGER);
    download(&mut running, OTHER_CLIENT);
    assert_eq!(gate.count("server_unreachable") + gate.count("accept_failed"), 0, "{}", gate.log());
    assert!(gate.count("event=\"limit\"") < 5);
}

#[test]
fn many_addresses_cannot_take_what_transfers_need() {
    let gate = gate_with_few_files(|_| {});
    let mut running = logged_in(&gate, OTHER_CLIENT);
    let flooding = flood(&gate, |number| Ipv4Addr::new(127, 1, 0, u8::try_from(number % 250).unwrap()));
    let told = first_lines(&flooding);
    let (served, refused) = (counted(&told, "220 "), counted(&told, "421 Too many sessions (sessions)"));
    assert!(served > 40 && served + refused == FLOOD, "{served} {refused} {told:?}");
    download(&mut running, OTHER_CLIENT);
    gate.logged(&["event=\"limit\"", "limit=\"sessions\"", "of=\"gate\"", "default=true"]);
    drop(flooding);
    wait_until("the flood is over", || gate.count("event=\"session_ended\"") >= served);
    download(&mut logged_in(&gate, STRANGER), STRANGER);
    download(&mut running, OTHER_CLIENT);
    assert_eq!(gate.count("server_unreachable") + gate.count("accept_failed"), 0, "{}", gate.log());
}

/// With the limits off there is still no session without descriptors for it.
#[test]
fn without_limits_the_descriptors_are_the_limit() {
    let gate =
        gate_with_few_files(|rules| rules.listener = "limits:\n  sessions: off\n  per_client: { sessions: off }\n");
    let mut running = logged_in(&gate, OTHER_CLIENT);
    let flooding = flood(&gate, |_| STRANGER);
    let told = first_lines(&flooding);
    let (served, refused) = (counted(&told, "220 "), counted(&told, "421 Too busy (no_descriptors); try again later."));
    assert!(served > 40 && served + refused == FLOOD, "{served} {refused} {told:?}");
    download(&mut running, OTHER_CLIENT);
    gate.logged(&["event=\"too_busy\"", "reason=\"no_descriptors\"", "times=1", "LimitNOFILE="]);
    drop(flooding);
    wait_until("the flood is over", || gate.count("event=\"session_ended\"") >= served);
    download(&mut logged_in(&gate, STRANGER), STRANGER);
    assert_eq!(gate.count("server_unreachable") + gate.count("accept_failed"), 0, "{}", gate.log());
    assert!(gate.count("event=\"too_busy\"") < 5, "{}", gate.log());
}

/// A connection counts from the moment when it is accepted: while its PROXY header is waited for, and its server.
#[test]
fn connections_without_a_session_count_too() {
    let gate = Gate::with(|rules| {
        rules.listener = "    proxy_from: \"127.0.0.5\"\nlimits:\n  sessions: 2\n";
    });
    serve(&gate.server, converse);
    let balancer = Ipv4Addr::new(127, 0, 0, 5);
    let be_silent = || {
        let connection = dial(balancer, gate.rules.front()).unwrap();
        connection.set_nonblocking(true).unwrap();
        connection
    };
    let mut silent = [(); 2].map(|()| be_silent());
    let mut served = 0;
    let third = poll(|| {
        let mut client = Talk::new(dial(CLIENT, gate.rules.front()).unwrap());
        let line = client.line();
        if line.starts_with("220 ") {
            // Its session must not be one of those that are counted at the next try, and there must not be many: the log
            // leaves out what is one line too many.
            drop(client);
            thread::sleep(Duration::from_millis(100));
            served += 1;
            wait_until("its session ends", || gate.log().matches("event=\"session_ended\"").count() == served);
            // It may have been accepted before the second silent connection, which was then the one too many.
            for connection in silent.iter_mut().filter(|connection| connection.peek(&mut [0]).is_ok()) {
                *connection = be_silent();
            }
        }
        Some(line).filter(|line| line.starts_with("421 "))
    });
    assert!(third.is_some_and(|line| line.starts_with("421 Too many sessions (sessions)")));
    drop(silent);
}

#[test]
fn whoever_names_no_server_is_sent_away() {
    let gate = Gate::with(|rules| {
        rules.stand = "    explicit: user-at-host\n";
        rules.rule = "    limits: { login_timeout: 2s }\n";
    });
    let began = Instant::now();
    let mut client = Talk::new(dial(CLIENT, gate.rules.front()).unwrap());
    client.expect_code("220");
    client.expect("421 Nobody has logged in for too long (login_timeout).");
    client.expect_end();
    assert!(began.elapsed() >= Duration::from_secs(2));
    gate.logged(&["event=\"limit\"", "limit=\"login_timeout\"", "value=\"2s\""]);
}

/// A listener whose server is the gate would make a session of each session.
#[test]
fn a_gate_that_leads_to_itself_does_not_start() {
    let server = listen(SERVER);
    let rules = Rules::new(port_of(&server));
    let text = rules
        .yaml()
        .replace(&format!("bind: \"127.0.0.1:{}\"", rules.front()), &format!("bind: \"0.0.0.0:{}\"", rules.front()));
    let text = text.replace(
        &format!("server: \"127.0.0.1:{}\"", rules.server),
        &format!("server: \"127.0.0.1:{}\"", rules.front()),
    );
    let mut gate = Gate::launch(rules, server, &text, &[]);
    assert_eq!(gate.exit().code(), Some(3));
    assert!(gate.log().contains("this gate itself listens"), "{}", gate.log());
}

/// A process on the way that connects back makes a connection of its own: that is not taken for a loop.
#[test]
fn a_relay_on_the_way_is_no_loop() {
    let gate = Gate::with(|_| {});
    let relay = thread::spawn({
        let (server, front) = (gate.server.try_clone().unwrap(), gate.rules.front());
        move || {
            let inner = accept(&server);
            let outer = dial(CLIENT, front).unwrap();
            (inner, outer)
        }
    });
    let mut client = Talk::new(dial(OTHER_CLIENT, gate.rules.front()).unwrap());
    let (inner, _outer) = relay.join().unwrap();
    let mut server = Talk::new(inner);
    server.say("220 Ready");
    client.expect("220 Ready");
    client.noop_with(&mut server);
    assert_eq!(gate.count("reason=\"loop\""), 0);
}

/// Faults of one address fill no disk, and how many lines there would have been is told.
#[test]
fn a_flood_of_faults_is_a_few_lines_and_their_number() {
    let gate = Gate::with(|rules| rules.listener = "limits:\n  per_client: { sessions: off }\n");
    let _sessions: Vec<_> = (0..20)
        .map(|_| {
            let (mut client, server) = gate.session_from(STRANGER);
            // The gate itself refuses each.
            client.send("LIST\r\n".repeat(50).as_bytes());
            for _ in 0..50 {
                client.expect_code("425");
            }
            (client, server)
        })
        .collect();
    let left_out = gate.logged(&["event=\"lines_left_out\"", "client=127.0.0.2"]);
    let times: usize = left_out.split("times=").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    let refused = gate.count("event=\"refused\"");
    assert!((100..200).contains(&refused) && refused + times >= 500, "{refused} {times}");
    // Others have their lines.
    let (mut client, _server) = gate.session_from(OTHER_CLIENT);
    client.say("LIST");
    client.expect_code("425");
    gate.logged(&["event=\"refused\"", "client=127.0.0.3"]);
}

/// Sessions without a login cause a few lines in all; each session with one has both of its own.
#[test]
fn a_flood_of_sessions_is_a_few_lines_and_their_number() {
    let gate = Gate::with(|rules| rules.listener = "limits:\n  per_client: { sessions: off }\n");
    serve(&gate.server, converse);
    for _ in 0..200 {
        let mut client = Talk::new(dial(STRANGER, gate.rules.front()).unwrap());
        client.expect("220 Ready");
    }
    gate.logged(&["event=\"lines_left_out\"", "client=127.0.0.2"]);
    let started = gate.count("event=\"session_started\"");
    assert!((100..180).contains(&started), "{started}");
    drop(logged_in(&gate, STRANGER));
    wait_until("the end of the session is told", || gate.count("event=\"session_ended\"") == started + 1);
    assert_eq!(gate.count("event=\"session_started\""), started + 1);
}

/// One session with a server that sends a large file as far as it is taken, and says that it is done.
fn give_large_files(stream: TcpStream) -> Option<()> {
    stream.set_nonblocking(false).ok()?;
    let mut control = Talk::new(stream);
    control.stream.set_read_timeout(Some(Duration::from_secs(60))).ok()?;
    control.try_send(b"220 Ready\r\n").ok()?;
    let data = TcpListener::bind((SERVER, 0)).ok()?;
    // What is not taken stays open.
    let mut stuck = Vec::new();
    loop {
        let line = control.try_line().ok()?;
        let reply = match line.get(..4)? {
            b"USER" => "331 Password".to_owned(),
            b"PASS" => "230 In".to_owned(),
            b"PASV" => told_227(SERVER, port_of(&data)),
            b"RETR" => {
                control.try_send(b"150 Here it comes\r\n").ok()?;
                let (mut to, _) = data.accept().ok()?;
                to.set_write_timeout(Some(Duration::from_millis(20))).ok()?;
                let _not_all_of_it = to.write_all(&goods(8 << 20));
                stuck.push(to);
                "226 Done".to_owned()
            }
            _ => "200 Fine".to_owned(),
        };
        control.try_send(format!("{reply}\r\n").as_bytes()).ok()?;
    }
}

/// Clients that ask for files and do not read them keep few connections besides the first of each session.
#[test]
fn files_that_nobody_reads_do_not_take_what_others_need() {
    let gate = Gate::with_open_files(OPEN_FILES, |_| {});
    serve(&gate.server, give_large_files);
    let mut running = logged_in(&gate, OTHER_CLIENT);
    let mut stuck = Vec::new();
    let mut refused = 0;
    let mut sessions: Vec<Talk> = (0..25).map(|_| logged_in(&gate, STRANGER)).collect();
    // All servers make their files at once.
    sessions.iter().for_each(|session| session.stream.set_read_timeout(Some(4 * IO)).unwrap());
    for _ in 0..3 {
        let mut asked = Vec::new();
        for session in &mut sessions {
            session.say("PASV");
            let reply = session.reply();
            if reply.code != "227" {
                refused += 1;
                continue;
            }
            stuck.push(dial(STRANGER, the_port_in(&reply)).unwrap());
            session.say("RETR large");
            session.expect("150 Here it comes");
            asked.push(session);
        }
        // It is held for a moment, for all of them at once: the relay has bytes that they do not take.
        asked.into_iter().for_each(|session| session.expect("226 Done"));
    }
    assert!(stuck.len() < 40 && stuck.len() + refused == 75, "{} stuck, {refused} refused", stuck.len());
    gate.logged(&["reason=\"too_many_connections\"", "client=127.0.0.2"]);
    // Others have their first connection.
    for from in [OTHER_CLIENT, Ipv4Addr::new(127, 0, 0, 9)] {
        let mut other = if from == OTHER_CLIENT { None } else { Some(logged_in(&gate, from)) };
        let client = other.as_mut().unwrap_or(&mut running);
        client.say("PASV");
        let port = the_port_in(&client.expect_code("227"));
        client.say("RETR large");
        let mut data = dial(from, port).unwrap();
        data.read_exact(&mut [0; 100_000]).unwrap();
    }
}
