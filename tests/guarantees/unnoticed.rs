//! A reload is noticed only by those whom it is about.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::process::Signal;

use super::support::*;

const RELOADS: usize = 1_000;

#[test]
fn a_thousand_reloads_under_load_lose_no_session() {
    // Nobody logs in, and a busy machine may need more than a minute for this.
    let gate = Gate::with(|rules| rules.rule = "    limits: { login_timeout: 600s }\n");
    let more = format!(
        "  - name: more\n    bind: \"127.0.0.1:{}\"\n    server: \"127.0.0.1:1\"\nrules:\n  - name: nobody\n    \
         from: 192.0.2.1\n    to: any\n    action: deny\n",
        gate.rules.spare().start()
    );
    let texts = [gate.rules.yaml().replace("rules:\n", &more).replace("60s", "50s"), gate.rules.yaml()];
    // Three that last, one of them in the midst of a transfer.
    let mut lasting: Vec<_> = (0..3).map(|_| gate.session()).collect();
    let first = &mut lasting[0];
    let (mut taken, mut given) = first.0.transfer(&mut first.1, "RETR file");
    // The control port of the lasting sessions' server is the short ones' too, from now on.
    let server = gate.server.try_clone().unwrap();
    // The server serves whoever came before the end, and so ends after the clients.
    let (over, all_served, served) = (AtomicBool::new(false), AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            while !all_served.load(Ordering::Relaxed) {
                match server.accept() {
                    Ok((control, _)) => {
                        control.set_nonblocking(false).unwrap();
                        scope.spawn(move || serve(Talk::new(control)));
                    }
                    Err(_) => thread::sleep(Duration::from_millis(1)),
                }
            }
        });
        let clients: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    while !over.load(Ordering::Relaxed) {
                        visit(gate.rules.front());
                        served.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        // Also when this thread fails, the others end.
        let _end = (End(&over), End(&all_served));
        for round in 0..RELOADS {
            gate.write_rules(&texts[round % 2]);
            gate.signal(Signal::HUP);
            wait_until("the reload is logged", || gate.count("event=\"reloaded\"") == round + 1);
            let (client, server) = &mut lasting[round % 3];
            if round % 3 > 0 && round % 50 < 3 {
                client.noop_with(server);
            }
            given.write_all(&goods(1_000)).unwrap();
            let mut block = [0; 1_000];
            taken.read_exact(&mut block).unwrap();
            assert_eq!(block[..], goods(1_000));
        }
        over.store(true, Ordering::Relaxed);
        clients.into_iter().for_each(|client| client.join().unwrap());
    });
    drop(given);
    assert!(all_of(taken).is_empty());
    lasting[0].1.say("226 Done");
    lasting[0].0.expect("226 Done");
    lasting.iter_mut().for_each(|(client, server)| client.noop_with(server));
    assert!(served.load(Ordering::Relaxed) > 10);
    assert_eq!(gate.count("event=\"session_denied\"") + gate.count("event=\"reload_failed\""), 0);
}

struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

const FILE: usize = 20_000;

/// A server for one session: it gives one file.
fn serve(mut control: Talk) {
    control.say("220 Ready");
    let data = listen(SERVER);
    loop {
        match control.line().as_str() {
            "PASV" => control.say(&told_227(SERVER, port_of(&data))),
            "RETR file" => {
                control.say("150 Here it comes");
                accept(&data).write_all(&goods(FILE)).unwrap();
                control.say("226 Done");
            }
            "QUIT" => {
                control.say("221 Bye");
                return;
            }
            other => panic!("{other}"),
        }
    }
}

/// A client that takes the file and goes.
fn visit(front: u16) {
    let mut control = Talk::new(dial(OTHER_CLIENT, front).unwrap());
    control.expect_code("220");
    control.say("PASV");
    let port = the_port_in(&control.expect_code("227"));
    let data = dial(OTHER_CLIENT, port).unwrap();
    control.say("RETR file");
    control.expect_code("150");
    assert_eq!(all_of(data).len(), FILE);
    control.expect_code("226");
    control.say("QUIT");
    control.expect_code("221");
    control.expect_end();
}

#[test]
fn listeners_are_opened_closed_and_led_elsewhere() {
    let gate = Gate::start();
    let (mut client, mut server) = gate.session();
    let listener = |name, port, to: &TcpListener| {
        format!("  - name: {name}\n    bind: \"127.0.0.1:{port}\"\n    server: \"127.0.0.1:{}\"\n", port_of(to))
    };
    let rest = gate.rules.yaml().split_once("rules:").unwrap().1.to_owned();
    let (front, [one, two]) = (gate.rules.front(), [*gate.rules.spare().start(), *gate.rules.spare().end()]);
    let (first, second) = (&gate.server, listen(SERVER));
    let mut reloads = 0;
    let mut reload = |listeners: &[String], changes: &str| {
        gate.write_rules(&format!("version: 1\nlisteners:\n{}rules:{rest}", listeners.concat()));
        gate.signal(Signal::HUP);
        reloads += 1;
        wait_until("the reload is logged", || gate.count("event=\"reloaded\"") == reloads);
        gate.logged(&["event=\"reloaded\"", changes]);
    };
    let greeted = |port: u16, by: &TcpListener| {
        let mut client = Talk::new(dial(CLIENT, port).unwrap());
        let mut server = Talk::new(accept(by));
        server.say("220 Ready");
        client.expect("220 Ready");
    };
    reload(&[listener("front", front, first), listener("more", one, first)], "changes=\"listener more added\"");
    greeted(one, first);
    reload(&[listener("front", front, first), listener("more", two, first)], "changes=\"listener more changed: bind\"");
    greeted(two, first);
    assert!(!is_open(one));
    // The same socket, which leads to another server now.
    reload(
        &[listener("more", two, first), listener("front", front, &second)],
        "changes=\"listener front changed: server\"",
    );
    greeted(front, &second);
    greeted(two, first);
    reload(&[listener("front", front, &second)], "changes=\"listener more removed\"");
    assert!(!is_open(two));
    greeted(front, &second);
    client.noop_with(&mut server);
}

#[test]
fn an_address_may_be_narrowed_and_widened() {
    let gate = Gate::start();
    let (mut client, mut server) = gate.session();
    let (narrow, wide) = (format!("127.0.0.1:{}", gate.rules.front()), format!("0.0.0.0:{}", gate.rules.front()));
    for (reloads, (from, to)) in (1..).zip([(&narrow, &wide), (&narrow, &narrow), (&narrow, &wide)]) {
        gate.write_rules(&gate.rules.yaml().replace(from.as_str(), to));
        gate.signal(Signal::HUP);
        wait_until("the reload is logged", || gate.count("event=\"reloaded\"") == reloads);
        let (mut newcomer, mut newcomers_server) = gate.session_from(OTHER_CLIENT);
        newcomer.noop_with(&mut newcomers_server);
        client.noop_with(&mut server);
    }
}

/// Hours end with a minute: this one waits for one.
#[test]
fn a_session_ends_with_its_hours_without_a_reload() {
    // Nobody logs in for more than a minute.
    let mut gate = Gate::with(|rules| rules.rule = "    limits: { login_timeout: off }\n");
    let (mut client, mut server) = gate.session();
    let (mut other, mut others_server) = gate.session_from(OTHER_CLIENT);
    // Not the minute that is about to end: the reload has to come before.
    let soon = SystemTime::now().duration_since(UNIX_EPOCH).unwrap() + Duration::from_secs(10);
    let minute = soon.as_secs() / 60 + 1;
    let time = |minute: u64| format!("{:02}:{:02}", minute / 60 % 24, minute % 60);
    let hours = format!("    action: allow\n    hours: \"daily {}-{} UTC\"\n", time(minute - 600), time(minute));
    gate.rules.from = "127.0.0.1";
    let ending = gate.rules.yaml().replace("    action: allow\n", &hours);
    let others = "  - name: others\n    from: \"127.0.0.3\"\n    to: any\n    action: allow\n    outbound: 40000\n    \
                  limits: { login_timeout: off }\n";
    gate.write_rules(&format!("{ending}{others}"));
    gate.signal(Signal::HUP);
    gate.logged(&["event=\"reloaded\"", "rule tested changed: from, hours"]);
    client.noop_with(&mut server);
    client.stream.set_read_timeout(Some(Duration::from_secs(90))).unwrap();
    client.expect_code("421");
    client.expect_end();
    server.expect_end();
    gate.logged(&["event=\"session_ended\"", "reason=\"denied\""]);
    other.noop_with(&mut others_server);
    assert_eq!(gate.count("event=\"reloaded\""), 1);
}
