//! That the fences are there: what is not printed does not pass them, and would if they were not.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use rustix::io::Errno;
use socket2::{Domain, Socket, Type};

use crate::cells::{Way, rules};
use crate::lab::Family;
use crate::lab::host::Host;
use crate::lab::net::Net;
use crate::net::Fenced;

/// How long connections are waited for that must not come about.
const IN_VAIN: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(5);

fn dial(host: &Host, to: SocketAddr) -> Result<(), ErrorKind> {
    host.run(move || TcpStream::connect_timeout(&to, PATIENCE)).map(drop).map_err(|error| error.kind())
}

/// Begins to connect, and does not wait for it.
fn knock(host: &Host, to: SocketAddr) -> Socket {
    host.run(move || {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM.nonblocking(), None).unwrap();
        let begun = socket.connect(&to.into()).unwrap_err();
        assert_eq!(begun.raw_os_error(), Some(Errno::INPROGRESS.raw_os_error()), "{begun}");
        socket
    })
}

fn listen(host: &Host, at: SocketAddr) -> TcpListener {
    host.run(move || TcpListener::bind(at)).unwrap()
}

/// Connections that no line is for: from whom, to whom, and which port.
fn stray(net: &Net, family: Family) -> Vec<(&Host, &Host, SocketAddr)> {
    let Net { client, gate, server } = net;
    let back: IpAddr = match family {
        Family::V4 => "10.2.0.1".parse().unwrap(),
        Family::V6 => "2001:db8:2::1".parse().unwrap(),
    };
    let at = |ip, ports: &[u16]| ports.iter().map(move |port| SocketAddr::new(ip, *port)).collect::<Vec<_>>();
    let mut stray = Vec::new();
    // Just below and above what is open, and what is open only on the other side.
    for to in at(Net::gate_address(family), &[20, 22, 10000, 10021, 30000, 40000]) {
        stray.push((client, gate, to));
    }
    for to in at(Net::server_address(family), &[22, 29999, 31000, 10001]) {
        stray.push((gate, server, to));
    }
    for to in at(back, &[21, 39999, 40100, 10001]) {
        stray.push((server, gate, to));
    }
    // Active data comes from port 20, and this does not.
    for to in at(Net::client_address(family), &[21, 1023, 5000]) {
        stray.push((gate, client, to));
    }
    stray
}

#[test]
fn nothing_else_passes() {
    let fenced = Fenced::new(&rules(Way::Reverse, Family::V4, Family::V4, "")).unwrap();
    for family in [Family::V4, Family::V6] {
        let stray = stray(&fenced.net, family);
        let _listeners: Vec<TcpListener> = stray.iter().map(|(_, to, at)| listen(to, *at)).collect();
        let knocks: Vec<Socket> = stray.iter().map(|(from, _, to)| knock(from, *to)).collect();
        std::thread::sleep(IN_VAIN);
        for (knock, (_, _, to)) in knocks.iter().zip(&stray) {
            // Neither let in nor turned away: dropped.
            let error = knock.take_error().unwrap();
            assert!(knock.peer_addr().is_err() && error.is_none(), "{to}: {error:?}");
        }
    }
    // The fences are all that stopped them.
    fenced.open().unwrap();
    for family in [Family::V4, Family::V6] {
        let stray = stray(&fenced.net, family);
        let _listeners: Vec<TcpListener> = stray.iter().map(|(_, to, at)| listen(to, *at)).collect();
        for (from, _, to) in &stray {
            assert_eq!(dial(from, *to), Ok(()), "{to}");
        }
    }
}

/// Each range to its edges, and no further.
#[test]
fn every_line_is_open_to_its_edges() {
    let fenced = Fenced::new(&rules(Way::Reverse, Family::V4, Family::V4, "")).unwrap();
    let Net { client, gate, server } = &fenced.net;
    let (front, back) = (Net::gate_address(Family::V4), "10.2.0.1".parse().unwrap());
    let theirs = Net::server_address(Family::V4);
    for (from, to, ip, ports) in [
        (client, gate, front, &[21, 10001, 10020]),
        (gate, server, theirs, &[21, 30000, 30999]),
        (server, gate, back, &[40000, 40050, 40099]),
    ] {
        for port in ports {
            let at = SocketAddr::new(ip, *port);
            let _listener = listen(to, at);
            assert_eq!(dial(from, at), Ok(()), "{at}");
        }
    }
}
