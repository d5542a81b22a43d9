//! ICMP errors about a transfer are no part of it: what they look like changes neither its outcome nor its count.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use crate::lab::Family;
use crate::raw::{ACK, FIN, PSH, RST, SYN, icmp_errors};
use crate::stage::*;

const LOOKS: [u8; 6] = [RST, FIN, SYN, FIN | PSH | ACK, RST | ACK, 0xff];

/// Errors about both directions, from the ends.
fn disturb(stage: &Stage, ours: &TcpStream, theirs: &TcpStream) {
    for looks in LOOKS {
        icmp_errors(&stage.net.client, ours.peer_addr().unwrap(), ours.local_addr().unwrap(), looks);
        icmp_errors(&stage.net.server, theirs.peer_addr().unwrap(), theirs.local_addr().unwrap(), looks);
    }
}

fn stages() -> [Stage; 2] {
    [Family::V4, Family::V6].map(|family| Stage::with(&Wish { family, ..Wish::default() }))
}

#[test]
fn errors_about_a_transfer_do_not_change_what_is_told_of_it() {
    for stage in stages() {
        let (mut client, mut server) = stage.session();
        let (mut ours, mut theirs) = stage.transfer(&mut client, &mut server, "RETR file");
        disturb(&stage, &ours, &theirs);
        theirs.write_all(&goods(100_000)).unwrap();
        ours.read_exact(&mut vec![0; 100_000]).unwrap();
        disturb(&stage, &ours, &theirs);
        carries(theirs, ours, &goods(100_000));
        complete(&mut client, &mut server);
        let line = stage.logged(&["event=\"transfer\"", "RETR file"]);
        assert!(line.contains("bytes=200000 ") && line.contains("outcome=\"ended\""), "{line}");
        assert!(!line.contains("estimated"), "{line}");
    }
}

#[test]
fn errors_about_a_transfer_do_not_change_who_is_told_to_have_reset_it() {
    for stage in stages() {
        let (mut client, mut server) = stage.session();
        let (ours, mut theirs) = stage.transfer(&mut client, &mut server, "RETR file");
        theirs.write_all(b"some of it").unwrap();
        ours.peek(&mut [0]).unwrap();
        disturb(&stage, &ours, &theirs);
        reset(theirs);
        assert_reset(ours);
        server.say("426 Broken");
        client.expect("426 Broken");
        stage.logged(&["event=\"transfer\"", "RETR file", "outcome=\"cut_by_server\""]);
    }
}
