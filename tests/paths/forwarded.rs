//! A box in front of the gate that has the public address, and forwards the control port and the data ports (DNAT).

use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};

use crate::lab::gate::{Datapath, Gate};
use crate::lab::host::Host;
use crate::lab::net::Net;
use crate::lab::{Family, Mode};
use crate::stage::{PATIENCE, accept, begin, carries, complete, dial, goods, listen, load};
use crate::talk::Talk;
use crate::ways::behind_a_router;

/// The box's public address.
fn public(family: Family) -> IpAddr {
    match family {
        Family::V4 => [10, 9, 0, 1].into(),
        Family::V6 => [0x2001, 0xdb8, 9, 0, 0, 0, 0, 1].into(),
    }
}

/// The lab's client is the box, and the client is behind it; what it sends out has its public address.
fn forwarding(family: Family) -> (Net, Host, IpAddr) {
    let net = Net::new().unwrap();
    let (client, ip) = behind_a_router(&net, family);
    let (public, gate) = (public(family), Net::gate_address(family));
    let keyword = if family == Family::V4 { "ip" } else { "ip6" };
    load(
        &net.client,
        &format!(
            "flush ruleset\ntable inet box {{\nchain pre {{\ntype nat hook prerouting priority dstnat;\n\
             {keyword} daddr {public} tcp dport {{ 21, 10001-10020 }} dnat {keyword} to {gate}\n}}\n\
             chain post {{\ntype nat hook postrouting priority srcnat;\noifname \"home\" masquerade\n}}\n}}\n"
        ),
    );
    net.gate.ip("route add 10.9.0.0/24 via 10.1.0.2\nroute add 2001:db8:9::/64 via 2001:db8:1::2\n").unwrap();
    (net, client, ip)
}

struct Visit<'a> {
    client: (&'a Host, IpAddr),
    server: (&'a Host, IpAddr),
    ours: Talk,
    theirs: Talk,
}

impl Visit<'_> {
    /// The server takes a control connection from the client, through whatever is between.
    #[track_caller]
    fn begin<'a>(
        family: Family,
        client: (&'a Host, IpAddr),
        server: (&'a Host, IpAddr),
        listener: &TcpListener,
    ) -> Visit<'a> {
        let ours = dial(client.0, client.1, 0, SocketAddr::new(public(family), 21), PATIENCE).unwrap();
        let (mut ours, mut theirs) = (Talk::new(ours), Talk::new(accept(listener)));
        theirs.say("220 Ready");
        ours.expect("220 Ready");
        Visit { client, server, ours, theirs }
    }

    /// A download; the client goes where it is told, and nowhere else.
    #[track_caller]
    fn transfer(&mut self, mode: Mode, ports: std::ops::RangeInclusive<u16>) {
        let (ours, theirs) = match mode {
            Mode::Passive => self.passive(ports),
            Mode::Active => self.active(),
        };
        begin(&mut self.ours, &mut self.theirs, "RETR file");
        carries(theirs, ours, &goods(50_000));
        complete(&mut self.ours, &mut self.theirs);
    }

    #[track_caller]
    fn passive(&mut self, mut ports: std::ops::RangeInclusive<u16>) -> (TcpStream, TcpStream) {
        let (host, ip) = self.server;
        let data = listen(host, SocketAddr::new(ip, ports.next().unwrap_or(0)));
        let port = data.local_addr().unwrap().port();
        let IpAddr::V4(public) = self.ours.stream.peer_addr().unwrap().ip() else {
            self.ours.say("EPSV");
            self.theirs.expect("EPSV");
            self.theirs.say(&format!("229 Here (|||{port}|)"));
            let told = self.ours.expect_code("229").lines.concat();
            return self.connect(&data, told.split('|').nth(3).unwrap().parse().unwrap());
        };
        self.ours.say("PASV");
        self.theirs.expect("PASV");
        let [high, low] = port.to_be_bytes();
        self.theirs.say(&format!("227 Here ({},{high},{low})", ip.to_string().replace('.', ",")));
        let told = self.ours.expect_code("227").lines.concat();
        let numbers: Vec<&str> = told.split(['(', ')', ',']).skip(1).take(6).collect();
        assert_eq!(numbers[..4].join("."), public.to_string(), "{told}");
        let port = |number: &str| number.parse::<u16>().unwrap();
        self.connect(&data, port(numbers[4]) * 256 + port(numbers[5]))
    }

    #[track_caller]
    fn connect(&self, data: &TcpListener, port: u16) -> (TcpStream, TcpStream) {
        let to = SocketAddr::new(self.ours.stream.peer_addr().unwrap().ip(), port);
        let ours = dial(self.client.0, self.client.1, 0, to, PATIENCE).unwrap();
        (ours, accept(data))
    }

    #[track_caller]
    fn active(&mut self) -> (TcpStream, TcpStream) {
        let data = listen(self.client.0, SocketAddr::new(self.client.1, 0));
        let number = if self.client.1.is_ipv4() { 1 } else { 2 };
        self.ours.say(&format!("EPRT |{number}|{}|{}|", self.client.1, data.local_addr().unwrap().port()));
        let told = self.theirs.line();
        let mut fields = told.split('|').skip(2);
        let (ip, port) = (fields.next().unwrap().parse().unwrap(), fields.next().unwrap().parse().unwrap());
        self.theirs.say("200 Fine");
        self.ours.expect("200 Fine");
        let theirs = dial(self.server.0, self.server.1, 0, SocketAddr::new(ip, port), PATIENCE).unwrap();
        let ours = accept(&data);
        assert_eq!(ours.peer_addr().unwrap().ip(), self.ours.stream.peer_addr().unwrap().ip(), "from elsewhere");
        (ours, theirs)
    }
}

#[test]
fn a_gate_whose_ports_are_forwarded_to_it() {
    for family in [Family::V4, Family::V6] {
        // A server in the gate's place. Its 227 would name an address that clients cannot reach.
        let (net, host, ip) = forwarding(family);
        let at = Net::gate_address(family);
        let listener = listen(&net.gate, SocketAddr::new(at, 21));
        let mut visit = Visit::begin(family, (&host, ip), (&net.gate, at), &listener);
        if family == Family::V6 {
            visit.transfer(Mode::Passive, 10001..=10001);
        }
        visit.transfer(Mode::Active, 0..=0);
        drop(visit);

        for datapath in Datapath::ALL {
            let (net, host, ip) = forwarding(family);
            let at = Net::server_address(family);
            let listener = listen(&net.server, SocketAddr::new(at, 21));
            let (bind, server) = (SocketAddr::new(Net::gate_address(family), 21), SocketAddr::new(at, 21));
            let gate = Gate::start_with(
                &net,
                &format!(
                    "version: 1\nlisteners:\n  - name: front\n    bind: \"{bind}\"\n    server: \"{server}\"\n    \
                     advertise: \"{}\"\nrules:\n  - name: tested\n    from: any\n    to: any\n    action: allow\n    \
                     datapath: {datapath}\n    inbound: \"10001-10020\"\n    outbound: \"40000-40019\"\n",
                    public(family)
                ),
                21,
            )
            .unwrap();
            let mut visit = Visit::begin(family, (&host, ip), (&net.server, at), &listener);
            for mode in [Mode::Passive, Mode::Active, Mode::Passive] {
                visit.transfer(mode, 0..=0);
            }
            let log = gate.log();
            assert_eq!(log.matches(&format!("datapath=\"{datapath}\"")).count(), 3, "{log}");
            assert!(!log.contains(" WARN "), "{log}");
        }
    }
}
