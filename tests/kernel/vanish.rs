//! Clients that vanish: nothing says that they are gone.

use std::io::{Read as _, Write as _};
use std::time::{Duration, Instant};

use crate::lab::poll;
use crate::stage::*;

/// As long as the relay takes to find a peer gone, and some looks more.
const MINUTES: Duration = Duration::from_secs(150);

#[test]
fn a_client_that_vanished_in_a_transfer_does_not_keep_its_session() {
    let stage = Stage::with(&Wish { rule: "    at_session_end: finish\n", ..Wish::default() });
    let (mut client, mut server) = stage.session();
    let (mut ours, mut theirs) = stage.transfer(&mut client, &mut server, "STOR file");
    ours.write_all(b"some of it").unwrap();
    theirs.read_exact(&mut [0; 10]).unwrap();
    // Another one goes on.
    let (mut other, mut its) = stage.session();
    let (mut from, mut to) = stage.transfer(&mut other, &mut its, "STOR other");
    let gone = ours.local_addr().unwrap().port();
    load(
        &stage.net.client,
        &format!(
            "table inet gone {{ chain out {{ type filter hook output priority 0; tcp sport {gone} drop\n}}\n\
             chain in {{ type filter hook input priority 0; tcp dport {gone} drop\n}}\n}}\n"
        ),
    );
    drop((server, its));
    client.expect_code("421");
    other.expect_code("421");
    let began = Instant::now();
    let ended = || {
        from.write_all(b"x").unwrap();
        to.read_exact(&mut [0]).unwrap();
        std::thread::sleep(Duration::from_secs(1));
        stage.gate().log().contains("event=\"session_ended\" session=1 ").then_some(())
    };
    assert!(poll(MINUTES, ended).is_some(), "{}", stage.gate().log());
    assert!(began.elapsed() > Duration::from_secs(100));
    stage.logged(&["event=\"transfer\"", "session=1", "outcome=\"cut_by_server\""]);
    drop(from);
    to.read_to_end(&mut Vec::new()).unwrap();
    drop(to);
    stage.logged(&["event=\"session_ended\" session=2 "]);
}
