//! `source: client`: both sides see each other's own addresses, and the gate's ports are ports of theirs. No transfer is lost
//! or misdirected by what is left of an earlier one.

use crate::again::*;
use crate::lab::Family;
use crate::stage::*;

const ENDS: [End; 5] = [End::ResetByComer, End::ResetByOther, End::FinByComer, End::FinByOther, End::CutByGate];

fn wish(family: Family, datapath: &'static str) -> Wish {
    Wish { transparent: Some(AS_CLIENT), datapath, ..narrow(family) }
}

/// Both sides see the other's address, in both modes, and each file goes to its own session.
#[test]
fn each_side_sees_the_others_address() {
    for family in BOTH {
        for datapath in ["kernel", "relay"] {
            let stage = Stage::with(&wish(family, datapath));
            for mode in MODES {
                let Opened { mut client, mut server, at, data } = open(&stage, mode);
                let (comes_from, goes_to) = match mode {
                    Mode::Passive => (stage.client_ip(), stage.server_ip()),
                    Mode::Active => (stage.server_ip(), stage.client_ip()),
                };
                assert_eq!(at.ip(), goes_to, "{family:?} {datapath} {mode:?}");
                let comer = come(&stage, mode, at);
                let other = accept(&data);
                assert_eq!(other.peer_addr().unwrap().ip(), comes_from, "{family:?} {datapath} {mode:?}");
                begin(&mut client, &mut server, "STOR file");
                let (of_server, of_client) = if mode == Mode::Passive { (other, comer) } else { (comer, other) };
                carries(of_client, of_server, &goods(100_000));
                complete(&mut client, &mut server);
            }
            let words = ["event=\"transfer\"", &format!("datapath=\"{datapath}\""), "mode=\"active\""];
            stage.logged(&words);
        }
    }
}

/// The same peer comes from the same port to the same port, in turn in both modes, after each kind of end.
#[test]
fn a_peer_comes_again_after_any_end() {
    for family in BOTH {
        let stage = Stage::with(&wish(family, "kernel"));
        allow_ports_again(&stage);
        for end in ENDS {
            for mode in MODES {
                eprintln!("{family:?} {end:?} {mode:?}");
                comes_again(&stage, mode, end);
            }
        }
    }
}

/// The relay has closed a connection, and its socket is still there: the next one of the same addresses and ports is the kernel's.
#[test]
fn a_socket_of_the_relay_takes_no_connection_of_the_kernels() {
    for family in BOTH {
        let mut stage = Stage::with(&wish(family, "relay"));
        allow_ports_again(&stage);
        for datapath in ["relay", "kernel"] {
            if datapath == "kernel" {
                stage.restart(&wish(family, datapath));
            }
            let Opened { mut client, mut server, at, data } = open(&stage, Mode::Active);
            let of_server = come(&stage, Mode::Active, at);
            let of_client = accept(&data);
            begin(&mut client, &mut server, "STOR file");
            // The client closes first, and so does the gate.
            carries(of_client, of_server, &goods(100_000));
            complete(&mut client, &mut server);
            stage.logged(&["event=\"transfer\"", &format!("datapath=\"{datapath}\"")]);
        }
    }
}

/// Routers with several uplinks keep a mark of theirs for each connection.
#[test]
fn marks_of_other_programs_do_not_replace_the_gates() {
    for family in BOTH {
        for priority in ["mangle", "mangle - 20"] {
            let stage = Stage::with(&wish(family, "kernel"));
            load(
                &stage.net.gate,
                &format!(
                    "table inet uplinks {{\nchain pre {{\ntype filter hook prerouting priority {priority};\n\
                     ct state new ct mark set 0x1\n}}\n}}\n"
                ),
            );
            for mode in MODES {
                let Opened { mut client, mut server, at, data } = open(&stage, mode);
                let comer = come(&stage, mode, at);
                let other = accept(&data);
                begin(&mut client, &mut server, "STOR file");
                let (of_server, of_client) = if mode == Mode::Passive { (other, comer) } else { (comer, other) };
                carries(of_client, of_server, &goods(100_000));
                complete(&mut client, &mut server);
            }
        }
    }
}

/// A download is reset in full flow by either side, again and again, and the next transfer is whole.
#[test]
fn a_reset_in_full_flow_loses_nobody_elses_transfer() {
    for family in BOTH {
        let stage = Stage::with(&wish(family, "kernel"));
        allow_ports_again(&stage);
        for turn in 0..6 {
            for mode in MODES {
                let Opened { mut client, mut server, at, data } = open(&stage, mode);
                let comer = come(&stage, mode, at);
                let other = accept(&data);
                begin(&mut client, &mut server, "RETR big");
                let (of_server, of_client) = if mode == Mode::Passive { (other, comer) } else { (comer, other) };
                if turn % 2 == 0 {
                    let sender = flood(of_server);
                    std::io::Read::read_exact(&mut &of_client, &mut [0; 100_000]).unwrap();
                    reset(of_client);
                    sender.join().unwrap();
                } else {
                    std::io::Write::write_all(&mut &of_server, &[7; 10_000]).unwrap();
                    reset(of_server);
                    assert_reset(of_client);
                }
                server.say("426 Cut");
                client.expect("426 Cut");
                drop((client, server, data));

                let Opened { mut client, mut server, at, data } = open(&stage, mode);
                let comer = come(&stage, mode, at);
                let other = accept(&data);
                begin(&mut client, &mut server, "RETR small");
                let (of_server, of_client) = if mode == Mode::Passive { (other, comer) } else { (comer, other) };
                carries(of_server, of_client, format!("{family:?} {turn} {mode:?}").as_bytes());
                complete(&mut client, &mut server);
            }
        }
        assert!(!stage.gate().log().contains("event=\"stranger\""), "{}", stage.gate().log());
    }
}
