//! Many pinholes, at once and in a row.

use std::time::Duration;

use crate::lab::poll;
use crate::stage::*;

#[test]
fn a_thousand_at_once() {
    let stage = Stage::with(&Wish { inbound: "10001-11000", timeout: "120s", ..Wish::default() });
    let mut open: Vec<_> = (0..1000)
        .map(|_| {
            let (mut client, mut server) = stage.session();
            let (at, data) = stage.passive(&mut client, &mut server);
            (client, server, at, data)
        })
        .collect();
    // The permission, who may send a SYN, where to (in a map and in a set), seen as whom, and what is guarded.
    assert_eq!(stage.elements(), 6000);
    for (number, (client, server, at, data)) in open.iter_mut().enumerate() {
        let ours = stage.dial(*at).unwrap();
        begin(client, server, "RETR file");
        carries(accept(data), ours, number.to_string().as_bytes());
    }
    drop(open);
    nothing_is_left(&stage);
}

#[test]
fn ten_thousand_in_a_row_leave_nothing() {
    let stage = Stage::with(&Wish { inbound: "10001-10100", timeout: "600s", ..Wish::default() });
    let (mut client, mut server) = stage.session();
    for _ in 0..10_000 {
        stage.passive_at(&mut client, &mut server, 50_000);
    }
    assert!(stage.elements() < 10_000);
    client.say("QUIT");
    server.expect("QUIT");
    server.say("221 Bye");
    client.expect("221 Bye");
    nothing_is_left(&stage);
}

#[track_caller]
fn nothing_is_left(stage: &Stage) {
    let gone = poll(Duration::from_secs(10), || (stage.elements() == 0).then_some(()));
    assert!(gone.is_some(), "{} elements are left", stage.elements());
}

/// Two ports, and more sessions of the client: each waits for a moment.
#[test]
fn more_sessions_of_a_client_than_ports_wait_for_each_other() {
    let stage = Stage::new();
    let sessions: Vec<_> = (0..6).map(|_| stage.session()).collect();
    std::thread::scope(|scope| {
        for (mut client, mut server) in sessions {
            let stage = &stage;
            scope.spawn(move || {
                for _ in 0..20 {
                    let (ours, theirs) = stage.transfer(&mut client, &mut server, "RETR file");
                    carries(theirs, ours, b"a small file");
                    complete(&mut client, &mut server);
                }
            });
        }
    });
    stage.logged(&["event=\"transfer\"", "datapath=\"kernel\""]);
    assert!(!stage.gate().log().contains("range_full"));
}
