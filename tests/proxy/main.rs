//! The PROXY protocol with the real HAProxy, in front of the gate and behind it.
//!
//! Each arrangement runs **without the gate first**, one balancer after the other: what works so must work with it.

// Shared with other test binaries; each uses a part.
#![allow(dead_code, missing_docs, unreachable_pub, clippy::unwrap_used)]

#[path = "../lab/mod.rs"]
mod lab;

mod balancer;

use std::io::{BufRead as _, Write as _};
use std::process::Command;

use balancer::{Balancer, Header};
use lab::client::{Client, Visit};
use lab::gate::Gate;
use lab::host::Host;
use lab::job::tail;
use lab::net::{Net, PATH};
use lab::scratch::Scratch;
use lab::server::{Running, Server, USER};
use lab::{Family, Leg, Mode, goods};

/// The networks of the balancer in front of the gate and of the one behind it.
const FRONT: u8 = 3;
const BEHIND: u8 = 4;
const GATE_PORTS: &str = "10001-10020";
const SERVER_PORTS: &str = "30000-30999";

/// One arrangement of machines with an FTP server at its end.
struct Stage {
    net: Net,
    front: Host,
    behind: Host,
    server: Running,
    family: Family,
}

impl Stage {
    fn new(server: Server, family: Family) -> Self {
        let net = Net::new().unwrap();
        let (front, behind) = (net.spur("front", FRONT).unwrap(), net.spur("behind", BEHIND).unwrap());
        let server = server.or_without_users().start(&net.server, family).unwrap();
        close(&net.gate);
        Self { net, front, behind, server, family }
    }

    fn in_front(&self, header: Header, to: std::net::IpAddr, ports: &str) -> Balancer {
        Balancer::start(&self.front, Net::spur_address(FRONT, self.family), ports, false, to, header)
    }

    fn behind(&self) -> Balancer {
        let (at, to) = (Net::spur_address(BEHIND, self.family), Net::server_address(self.family));
        Balancer::start(&self.behind, at, SERVER_PORTS, true, to, Header::None)
    }

    /// A gate for the balancer in front, or for clients themselves.
    fn gate(&self, listener: &str, server: std::net::IpAddr, rule: &str) -> Gate {
        let at =
            if listener.is_empty() { Net::gate_address(self.family) } else { Net::gate_to_spur(FRONT, self.family) };
        let (bind, server) = (std::net::SocketAddr::new(at, 21), std::net::SocketAddr::new(server, 21));
        let rules = format!(
            "version: 1\nlisteners:\n  - name: front\n    bind: \"{bind}\"\n    server: \"{server}\"\n{listener}\
             rules:\n  - name: lab\n    from: [\"10.1.0.0/24\", \"2001:db8:1::/64\"]\n    to: any\n    action: allow\n    \
             inbound: \"{GATE_PORTS}\"\n    outbound: \"40000-40099\"\n{rule}"
        );
        Gate::start_with(&self.net, &rules, 21).unwrap()
    }

    fn proxy_from(&self) -> String {
        format!("    proxy_from: \"{}\"\n", Net::spur_address(FRONT, self.family))
    }

    /// The client's visit to a server at `to`, and whether every file is whole on both sides.
    #[track_caller]
    fn visit(&self, client: Client, mode: Mode, to: std::net::IpAddr, witnesses: &[&dyn Fn() -> String]) {
        let folder = Scratch::new("client").unwrap();
        goods::stock_client(folder.path()).unwrap();
        let log = folder.join("log");
        let visit = Visit { server: to, leg: Leg::new(mode, self.family), user: USER, folder: folder.path() };
        let made = client.visit(&self.net.client, &visit).and_then(|()| {
            let said = std::fs::read(&log)?;
            goods::inspect(&self.server.home(), folder.path(), &said, client.abilities())
        });
        if let Err(fault) = made {
            let witnesses: String = witnesses.iter().map(|witness| format!("\n---\n{}", witness())).collect();
            panic!("{fault}\n--- {client}\n{}\n--- server\n{}{witnesses}", tail(&log), self.server.tail());
        }
    }
}

/// Nothing is forwarded but to and from the balancers, so that no connection finds its way past them.
fn close(gate: &Host) {
    let mut nft = Command::new("nft");
    nft.args(["-f", "-"]).env("PATH", PATH);
    let balancers = ["ip", "ip6"].map(|family| {
        let of = |number: u8| if family == "ip" { format!("10.{number}.0.2") } else { format!("2001:db8:{number}::2") };
        let both = format!("{{ {}, {} }}", of(FRONT), of(BEHIND));
        format!("{family} saddr {both} accept\n{family} daddr {both} accept\n")
    });
    let rules = format!(
        "table inet lab {{\nchain forward {{\ntype filter hook forward priority filter + 10; policy drop;\n\
         meta l4proto ipv6-icmp accept\n{}}}\n}}\n",
        balancers.concat()
    );
    gate.feed(nft, &rules).unwrap();
}

/// The gate knew the client, and says why its process moved the bytes.
#[track_caller]
fn assert_knew_the_client(gate: &Gate, family: Family, via_balancer: bool) {
    let log = gate.log();
    let client = std::net::SocketAddr::new(Net::client_address(family), 0).to_string();
    let client = format!("client={}", client.trim_end_matches('0'));
    let sessions: Vec<&str> = log.lines().filter(|line| line.contains("event=\"session_started\"")).collect();
    let transfers: Vec<&str> = log.lines().filter(|line| line.contains("event=\"transfer\"")).collect();
    assert!(!sessions.is_empty() && transfers.len() > 50, "{log}");
    for line in sessions {
        assert!(line.contains(&client) && line.contains(" via=") == via_balancer, "{line}");
    }
    for line in transfers {
        assert!(line.contains("why=\"proxy_header\"") && line.contains("outcome=\"ended\""), "{line}");
    }
    for word in ["panicked", "event=\"stranger\"", "event=\"bad_proxy_header\""] {
        assert!(!log.contains(word), "{log}");
    }
}

/// A client, a balancer, and the server; then with the gate behind the balancer.
fn in_front(server: Server, client: Client, family: Family, headers: &[Header]) {
    let stage = Stage::new(server, family);
    let balancer = stage.in_front(Header::None, Net::server_address(family), SERVER_PORTS);
    stage.visit(client, Mode::Passive, Net::spur_address(FRONT, family), &[&|| balancer.log()]);
    for &header in headers {
        let stage = Stage::new(server, family);
        let gate = stage.gate(&stage.proxy_from(), Net::server_address(family), "");
        let balancer = stage.in_front(header, Net::gate_to_spur(FRONT, family), GATE_PORTS);
        let witnesses: [&dyn Fn() -> String; 2] = [&|| gate.tail(), &|| balancer.log()];
        stage.visit(client, Mode::Passive, Net::spur_address(FRONT, family), &witnesses);
        assert_knew_the_client(&gate, family, true);
    }
}

#[test]
fn haproxy_in_front_v4() {
    in_front(Server::Vsftpd, Client::Curl, Family::V4, &[Header::V1, Header::V2, Header::V2Checked]);
}

#[test]
fn haproxy_in_front_v6() {
    in_front(Server::Pyftpdlib, Client::Lftp, Family::V6, &[Header::V1, Header::V2]);
}

/// A client, a balancer that sends headers, one that takes them, and the server; then with the gate in the first one's
/// place.
fn behind(server: Server, client: Client, family: Family) {
    let stage = Stage::new(server, family);
    let second = stage.behind();
    let first = stage.in_front(Header::V2, Net::spur_address(BEHIND, family), SERVER_PORTS);
    let witnesses: [&dyn Fn() -> String; 2] = [&|| first.log(), &|| second.log()];
    stage.visit(client, Mode::Passive, Net::spur_address(FRONT, family), &witnesses);
    second.assert_all_from(Net::client_address(family));
    for version in ["v1", "v2"] {
        let stage = Stage::new(server, family);
        let balancer = stage.behind();
        let gate = stage.gate("", Net::spur_address(BEHIND, family), &format!("    send_proxy: {version}\n"));
        let witnesses: [&dyn Fn() -> String; 2] = [&|| gate.tail(), &|| balancer.log()];
        stage.visit(client, Mode::Passive, Net::gate_address(family), &witnesses);
        assert_knew_the_client(&gate, family, false);
        balancer.assert_all_from(Net::client_address(family));
    }
}

#[test]
fn haproxy_behind_v4() {
    behind(Server::Proftpd, Client::Curl, Family::V4);
}

#[test]
fn haproxy_behind_v6() {
    behind(Server::Vsftpd, Client::Ftplib, Family::V6);
}

/// The server is told what the client connected to, which is not the address that nftables redirected it to.
#[test]
fn haproxy_behind_a_transparent_gate() {
    let family = Family::V4;
    for interception in ["tproxy", "redirect"] {
        let stage = Stage::new(Server::Vsftpd, family);
        let balancer = stage.behind();
        let at = Net::spur_address(BEHIND, family);
        let rules = format!(
            "version: 1\nlisteners:\n  - name: lan\n    bind: \"0.0.0.0:2121\"\n    transparent: {interception}\nrules:\n  \
             - name: lab\n    from: any\n    to: \"{at}\"\n    action: allow\n    inbound: \"{GATE_PORTS}\"\n    \
             send_proxy: v2\n"
        );
        let gate = Gate::start_with(&stage.net, &rules, 2121).unwrap();
        let witnesses: [&dyn Fn() -> String; 2] = [&|| gate.tail(), &|| balancer.log()];
        stage.visit(Client::Curl, Mode::Passive, at, &witnesses);
        assert_knew_the_client(&gate, family, false);
        balancer.assert_all_from(Net::client_address(family));
        let log = balancer.log();
        for line in log.lines().filter(|line| line.starts_with("from ")) {
            assert!(line.contains(&format!(" at {at}:")), "{interception}: {line}");
        }
    }
}

#[test]
fn haproxy_on_both_sides() {
    let family = Family::V4;
    let stage = Stage::new(Server::Vsftpd, family);
    let last = stage.behind();
    let gate = stage.gate(&stage.proxy_from(), Net::spur_address(BEHIND, family), "    send_proxy: v2\n");
    let first = stage.in_front(Header::V1, Net::gate_to_spur(FRONT, family), GATE_PORTS);
    let witnesses: [&dyn Fn() -> String; 3] = [&|| gate.tail(), &|| first.log(), &|| last.log()];
    stage.visit(Client::Tnftp, Mode::Passive, Net::spur_address(FRONT, family), &witnesses);
    assert_knew_the_client(&gate, family, true);
    last.assert_all_from(Net::client_address(family));
}

/// The balancer has the control connections alone; the client is told the gate's own address for data. lftp goes where
/// the 227 says.
#[test]
fn data_past_the_balancer() {
    let family = Family::V4;
    let stage = Stage::new(Server::Vsftpd, family);
    let at = Net::gate_to_spur(FRONT, family);
    let listener = format!("{}    advertise: \"{at}\"\n", stage.proxy_from());
    let gate = stage.gate(&listener, Net::server_address(family), "");
    let balancer = stage.in_front(Header::V2, at, "9999");
    let witnesses: [&dyn Fn() -> String; 2] = [&|| gate.tail(), &|| balancer.log()];
    stage.visit(Client::Lftp, Mode::Passive, Net::spur_address(FRONT, family), &witnesses);
    assert_knew_the_client(&gate, family, true);
}

/// Without the gate there is no active mode through a balancer: the server would call the client by another way than
/// it was called, and most refuse the client's address. The gate calls the client itself.
#[test]
fn active_mode_past_the_balancer() {
    let family = Family::V4;
    let stage = Stage::new(Server::Vsftpd, family);
    let gate = stage.gate(&stage.proxy_from(), Net::server_address(family), "");
    let balancer = stage.in_front(Header::V2, Net::gate_to_spur(FRONT, family), GATE_PORTS);
    let witnesses: [&dyn Fn() -> String; 2] = [&|| gate.tail(), &|| balancer.log()];
    stage.visit(Client::Curl, Mode::Active, Net::spur_address(FRONT, family), &witnesses);
    assert_knew_the_client(&gate, family, true);
}

/// Active mode dials the client, so a balancer elsewhere cannot have it be this machine or on a link of its own.
#[test]
fn a_client_that_would_be_the_gate_is_refused() {
    let family = Family::V4;
    let stage = Stage::new(Server::Pyftpdlib, family);
    let gate = stage.gate(&stage.proxy_from(), Net::server_address(family), "");
    let at = std::net::SocketAddr::new(Net::gate_to_spur(FRONT, family), 21);
    let said = |client: &str| {
        let header = format!("PROXY TCP4 {client} 10.3.0.2 40000 21\r\n");
        stage.front.run(move || {
            let mut stream = std::net::TcpStream::connect(at).unwrap();
            stream.set_read_timeout(Some(std::time::Duration::from_secs(10))).unwrap();
            stream.write_all(header.as_bytes()).unwrap();
            let mut line = String::new();
            // Its end may be a reset.
            let _ = std::io::BufReader::new(stream).read_line(&mut line);
            line
        })
    };
    assert!(said("10.1.0.2").starts_with("220 "));
    for client in ["127.0.0.1", "10.2.0.1", "10.3.0.1", "169.254.0.1"] {
        assert_eq!(said(client), "", "{client}");
    }
    assert_eq!(gate.log().matches("reason=\"proxy_header_address\"").count(), 4, "{}", gate.log());
}

/// What the kernel cannot carry it is not given, whatever the rule says.
#[test]
fn the_kernels_datapath_is_refused() {
    let family = Family::V4;
    let stage = Stage::new(Server::Vsftpd, family);
    let gate = stage.gate(&stage.proxy_from(), Net::server_address(family), "    datapath: kernel\n");
    let _balancer = stage.in_front(Header::V2, Net::gate_to_spur(FRONT, family), GATE_PORTS);
    let folder = Scratch::new("client").unwrap();
    goods::stock_client(folder.path()).unwrap();
    let visit = Visit {
        server: Net::spur_address(FRONT, family),
        leg: Leg::new(Mode::Passive, family),
        user: USER,
        folder: folder.path(),
    };
    assert!(Client::Curl.visit(&stage.net.client, &visit).is_err());
    let log = gate.log();
    let refused = log.lines().find(|line| line.contains("reason=\"not_by_kernel\"")).expect(&log);
    assert!(refused.contains("a PROXY header comes first"), "{refused}");
    assert!(!log.contains("outcome=\"ended\""), "{log}");
}
