//! Control connections that have nothing to say while a file moves.

use std::net::{IpAddr, SocketAddr};
use std::process::Command;

use crate::lab::net::{Net, PATH};
use crate::lab::{Family, poll};
use crate::stage::*;

/// Both control connections are kept alive while a transfer runs: a firewall between forgets an idle connection, and
/// the 226 at the end would never arrive.
#[test]
fn both_control_connections_are_kept_alive_during_a_transfer() {
    for datapath in ["relay", "kernel"] {
        let stage = Stage::with(&Wish { datapath, ..Wish::default() });
        let (mut client, mut server) = stage.session();
        let (ours, theirs) = stage.transfer(&mut client, &mut server, "RETR file");
        let flood = flood(theirs);
        let gate_to_server: IpAddr = "10.2.0.1".parse().unwrap();
        let ends = [
            (stage.front(21).ip(), client.stream.local_addr().unwrap()),
            (gate_to_server, SocketAddr::new(Net::server_address(Family::V4), 21)),
        ];
        for (own, peer) in ends {
            // The timer stands once what was sent is acknowledged.
            let kept = || timers(&stage, own, peer).contains("timer:(keepalive,").then_some(());
            poll(PATIENCE, kept).unwrap_or_else(|| panic!("{datapath}: {own} {peer}: {}", timers(&stage, own, peer)));
        }
        drop(ours);
        flood.join().unwrap();
        server.say("426 Cut");
        client.expect("426 Cut");
        stage.logged(&["event=\"transfer\"", &format!("datapath=\"{datapath}\"")]);
    }
}

/// What the kernel says of the gate's end of a connection, timers included.
fn timers(stage: &Stage, own: IpAddr, peer: SocketAddr) -> String {
    let mut ss = Command::new("ss");
    ss.args(["-Htno", "state", "established", "src", &own.to_string(), "dst", &peer.to_string()]).env("PATH", PATH);
    let output = stage.net.gate.run(move || ss.output()).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
