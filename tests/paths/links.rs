//! Link-local IPv6 addresses: each is one machine's on one link, and another's on the next.

use std::io::ErrorKind;
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6, TcpListener, TcpStream};

use socket2::{Domain, Socket, Type};

use crate::lab::gate::Gate;
use crate::lab::host::Host;
use crate::lab::net::Net;
use crate::lab::poll;
use crate::stage::{PATIENCE, accept, begin, carries, complete, goods};
use crate::talk::{Talk, bounded};

const GATE: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
const OTHER: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2);
/// The gate's own on the client's side, and on the server's.
const GLOBAL: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1);
const WAN: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 1);

/// An address and port on the link of a host's interface.
fn on(host: &Host, interface: &'static str, ip: Ipv6Addr, port: u16) -> SocketAddr {
    let index = host.run(move || nix::net::if_::if_nametoindex(interface)).unwrap();
    SocketAddrV6::new(ip, port, 0, index).into()
}

fn dial(host: &Host, from: SocketAddr, to: SocketAddr) -> Result<TcpStream, ErrorKind> {
    let stream = host.run(move || {
        let socket = Socket::new(Domain::IPV6, Type::STREAM, None)?;
        socket.bind(&from.into())?;
        socket.connect_timeout(&to.into(), PATIENCE)?;
        Ok::<_, std::io::Error>(TcpStream::from(socket))
    });
    stream.inspect(bounded).map_err(|error| error.kind())
}

fn listen(host: &Host, at: SocketAddr) -> TcpListener {
    let listener = host.run(move || TcpListener::bind(at)).unwrap();
    listener.set_nonblocking(true).unwrap();
    listener
}

struct Link {
    net: Net,
    gate: Gate,
    server: TcpListener,
}

/// A gate in front of the server's `address`, for clients of `from`.
fn link(from: &str, address: &str, listens: impl FnOnce(&Net) -> SocketAddr) -> Link {
    let net = Net::new().unwrap();
    let server = listen(&net.server, listens(&net));
    let rules = format!(
        "version: 1\nlisteners:\n  - name: front\n    bind: \"[::]:21\"\n    server: \"{address}\"\nrules:\n  \
         - name: tested\n    from: {from}\n    to: any\n    action: allow\n    inbound: \"10001-10003\"\n    \
         outbound: \"40001-40003\"\n"
    );
    let gate = Gate::start_with(&net, &rules, 21).unwrap();
    Link { net, gate, server }
}

fn with_global_server(from: &str) -> Link {
    link(from, "[2001:db8:2::2]:21", |_| "[2001:db8:2::2]:21".parse().unwrap())
}

impl Link {
    /// A client at its link-local address that came to this one of the gate's.
    #[track_caller]
    fn session(&self, gate: Ipv6Addr) -> (Talk, Talk) {
        let client = self.dial(gate, 21).unwrap();
        let (mut client, mut server) = (Talk::new(client), Talk::new(accept(&self.server)));
        server.say("220 Ready");
        client.expect("220 Ready");
        (client, server)
    }

    fn dial(&self, to: Ipv6Addr, port: u16) -> Result<TcpStream, ErrorKind> {
        let Net { client, .. } = &self.net;
        dial(client, on(client, "eth0", OTHER, 0), on(client, "eth0", to, port))
    }

    /// EPSV to its end: the port of the gate's, and the server's listener behind it.
    #[track_caller]
    fn passive(&self, client: &mut Talk, server: &mut Talk) -> (u16, TcpListener) {
        let mut at = server.stream.local_addr().unwrap();
        at.set_port(0);
        let data = listen(&self.net.server, at);
        client.say("EPSV");
        server.expect("EPSV");
        server.say(&format!("229 Here (|||{}|)", data.local_addr().unwrap().port()));
        let told = client.expect_code("229").lines.concat();
        (told.split('|').nth(3).unwrap().parse().unwrap(), data)
    }

    #[track_caller]
    fn transfers_passive(&self, client: &mut Talk, server: &mut Talk, gate: Ipv6Addr) {
        let (port, data) = self.passive(client, server);
        let ours = self.dial(gate, port).unwrap();
        let theirs = accept(&data);
        begin(client, server, "RETR file");
        carries(theirs, ours, &goods(10_000));
        complete(client, server);
    }

    #[track_caller]
    fn transfers_active(&self, client: &mut Talk, server: &mut Talk, told: Ipv6Addr) {
        let data = listen(&self.net.client, on(&self.net.client, "eth0", OTHER, 0));
        client.say(&format!("EPRT |2|{OTHER}|{}|", data.local_addr().unwrap().port()));
        let line = server.line();
        assert!(line.starts_with(&format!("EPRT |2|{told}|")), "{line}");
        let port = line.split('|').nth(3).unwrap().parse().unwrap();
        server.say("200 Fine");
        client.expect("200 Fine");
        let mut from = server.stream.local_addr().unwrap();
        from.set_port(0);
        let mut to = server.stream.peer_addr().unwrap();
        to.set_port(port);
        let theirs = dial(&self.net.server, from, to).unwrap();
        let ours = accept(&data);
        assert_eq!(ours.peer_addr().unwrap().ip(), client.stream.peer_addr().unwrap().ip());
        begin(client, server, "RETR file");
        carries(theirs, ours, &goods(10_000));
        complete(client, server);
    }

    #[track_caller]
    fn logged(&self, words: &[&str]) -> String {
        let log = || self.gate.log();
        let find = || log().lines().find(|line| words.iter().all(|word| line.contains(word))).map(str::to_owned);
        poll(PATIENCE, find).unwrap_or_else(|| panic!("no line has all of {words:?}:\n{}", log()))
    }
}

#[test]
fn a_client_at_a_link_local_address_gets_its_data() {
    let link = with_global_server("[\"fe80::/10\"]");
    for gate in [GATE, GLOBAL] {
        let (mut client, mut server) = link.session(gate);
        link.transfers_passive(&mut client, &mut server, gate);
        link.transfers_active(&mut client, &mut server, WAN);
        link.transfers_passive(&mut client, &mut server, gate);
    }
    // The link is said with it.
    let lan = on(&link.net.gate, "lan", OTHER, 0).to_string();
    link.logged(&["event=\"session_started\"", &format!("client={}", lan.trim_end_matches('0'))]);
}

#[test]
fn a_server_at_a_link_local_address_gets_its_data() {
    let net = Net::new().unwrap();
    let SocketAddr::V6(wan) = on(&net.gate, "wan", OTHER, 21) else { unreachable!() };
    drop(net);
    let link = link("[\"fe80::/10\"]", &wan.to_string(), |net| on(&net.server, "eth0", OTHER, 21));
    let (mut client, mut server) = link.session(GATE);
    link.transfers_passive(&mut client, &mut server, GATE);
    link.transfers_active(&mut client, &mut server, GATE);
}

/// The server's machine has on its link the address that the client has on its own.
#[test]
fn the_same_address_on_another_link_is_a_stranger() {
    let link = with_global_server("[\"fe80::/10\"]");
    let (mut client, mut server) = link.session(GLOBAL);
    let (port, data) = link.passive(&mut client, &mut server);
    let Net { server: machine, .. } = &link.net;
    if let Ok(mut stranger) = dial(machine, on(machine, "eth0", OTHER, 0), (GLOBAL, port).into()) {
        let error = std::io::Read::read(&mut stranger, &mut [0]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }
    let wan = on(&link.net.gate, "wan", OTHER, 0).to_string();
    link.logged(&["event=\"stranger\"", &format!("from={}", wan.trim_end_matches('0'))]);
    let ours = link.dial(GLOBAL, port).unwrap();
    let theirs = accept(&data);
    begin(&mut client, &mut server, "RETR file");
    carries(theirs, ours, &goods(10_000));
    complete(&mut client, &mut server);
}

#[test]
fn a_server_is_not_asked_to_answer_a_link_local_address() {
    for (source, works) in [("gate", true), ("client", false)] {
        let net = Net::new().unwrap();
        let server = listen(&net.server, "[2001:db8:2::2]:21".parse().unwrap());
        let rules = format!(
            "version: 1\nlisteners:\n  - name: router\n    bind: \"[::]:2121\"\n    transparent: tproxy\n    \
             source: {source}\nrules:\n  - name: tested\n    from: any\n    to: any\n    action: allow\n    \
             inbound: \"10001-10003\"\n"
        );
        let gate = Gate::start_with(&net, &rules, 2121).unwrap();
        let client = dial(&net.client, on(&net.client, "eth0", OTHER, 0), "[2001:db8:2::2]:21".parse().unwrap());
        let mut client = Talk::new(client.unwrap());
        if works {
            Talk::new(accept(&server)).say("220 Ready");
            client.expect("220 Ready");
        } else {
            client.expect_code("421");
            let said = poll(PATIENCE, || Some(gate.log()).filter(|log| log.contains("client_is_link_local"))).unwrap();
            assert!(said.contains("write `source: gate`"), "{said}");
        }
    }
}

/// As hosts with privacy addresses (RFC 8981) do: the control connection comes from one address, data from the next.
#[test]
fn another_address_of_the_same_host_is_named_as_the_likely_cause() {
    let link = with_global_server("any");
    let own: SocketAddr = "[2001:db8:1::2]:0".parse().unwrap();
    let control = dial(&link.net.client, own, (GLOBAL, 21).into()).unwrap();
    let (mut client, mut server) = (Talk::new(control), Talk::new(accept(&link.server)));
    server.say("220 Ready");
    client.expect("220 Ready");
    let (port, _data) = link.passive(&mut client, &mut server);
    // Reset at once, if not before it is known to be connected.
    drop(dial(&link.net.client, "[2001:db8:1::3]:0".parse().unwrap(), (GLOBAL, port).into()));
    let words =
        ["event=\"stranger\"", "awaited=2001:db8:1::2", "same /64", "privacy", "client: \\\"2001:db8:1::/64\\\""];
    link.logged(&words);
}
