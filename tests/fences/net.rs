//! The lab with a firewall on each side of the gate.

use std::process::{Command, Stdio};

use crate::lab::host::Host;
use crate::lab::net::{Net, PATH};
use crate::lab::{Fault, gate};

/// The lab's three hosts at their usual addresses, and two more that only forward.
///
/// ```text
///   client -------- fence -------- gate -------- fence -------- server
///   10.1.0.2                10.1.0.1  10.2.0.1                10.2.0.2
/// ```
///
/// The fences have link-local addresses alone, and all routes lead over those, so that nobody sees but by what is
/// missing that they are there.
pub struct Fenced {
    pub net: Net,
    pub client_side: Host,
    pub server_side: Host,
}

/// What a firewall does with what `openings` printed: everything else is dropped, in both directions.
const FIREWALL: &str = "table inet filter {\n\tchain forward {\n\t\ttype filter hook forward priority filter; policy drop;\n\
                        \t\tct state established,related accept\n\t\tjump CHAIN\n\t}\n}\n";

impl Fenced {
    /// Wired, routed, and with both fences up for these rules.
    pub fn new(rules: &str) -> Result<Self, Fault> {
        let net = Net { client: Host::new("client")?, gate: Host::new("gate")?, server: Host::new("server")? };
        let fenced = Self { net, client_side: Host::new("fence1")?, server_side: Host::new("fence2")? };
        let Net { client, gate, server } = &fenced.net;
        wire(client, "eth0", &["10.1.0.2/32", "2001:db8:1::2/128"], &fenced.client_side, "clients")?;
        wire(gate, "lan", &["10.1.0.1/32", "2001:db8:1::1/128"], &fenced.client_side, "gate")?;
        wire(gate, "wan", &["10.2.0.1/32", "2001:db8:2::1/128"], &fenced.server_side, "gate")?;
        wire(server, "eth0", &["10.2.0.2/32", "2001:db8:2::2/128"], &fenced.server_side, "servers")?;
        for (host, port, side) in [(client, "eth0", 1), (gate, "lan", 1), (gate, "wan", 2), (server, "eth0", 2)] {
            // From a host's own side of the gate its peers are those of the other side too.
            let sides = if port == "eth0" { vec![1, 2] } else { vec![side] };
            for net in sides {
                let host_number = if port == "eth0" { 2 } else { 1 };
                host.ip(&format!(
                    "route add 10.{net}.0.0/24 via inet6 fe80::1 dev {port} src 10.{side}.0.{host_number}\n\
                     route add 2001:db8:{net}::/64 via fe80::1 dev {port} src 2001:db8:{side}::{host_number}\n"
                ))?;
            }
        }
        for (fence, to_peer, peer, far) in
            [(&fenced.client_side, "clients", 1, 2), (&fenced.server_side, "servers", 2, 1)]
        {
            fence.ip(&format!(
                "route add 10.{peer}.0.1/32 via inet6 fe80::2 dev gate\n\
                 route add 10.{peer}.0.0/24 via inet6 fe80::2 dev {to_peer}\n\
                 route add 10.{far}.0.0/24 via inet6 fe80::2 dev gate\n\
                 route add 2001:db8:{peer}::1/128 via fe80::2 dev gate\n\
                 route add 2001:db8:{peer}::/64 via fe80::2 dev {to_peer}\n\
                 route add 2001:db8:{far}::/64 via fe80::2 dev gate\n"
            ))?;
        }
        for host in [gate, &fenced.client_side, &fenced.server_side] {
            host.sysctl(&[("net/ipv4/ip_forward", "1"), ("net/ipv6/conf/all/forwarding", "1")])?;
        }
        fenced.net.close()?;
        fenced.raise(&fenced.client_side, rules, "client")?;
        fenced.raise(&fenced.server_side, rules, "server")?;
        Ok(fenced)
    }

    /// Has one fence let through what is printed for it.
    fn raise(&self, fence: &Host, rules: &str, side: &str) -> Result<(), Fault> {
        let mut command = Command::new(gate::program());
        command.args(["openings", "-", "--format", "nftables", "--side", side]);
        command.args(["--gate-client-side", "10.1.0.1", "--gate-client-side", "2001:db8:1::1"]);
        command.args(["--gate-server-side", "10.2.0.1", "--gate-server-side", "2001:db8:2::1"]);
        command.args(["--name-server", "10.2.0.53"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        std::io::Write::write_all(&mut child.stdin.take().expect("it was asked for"), rules.as_bytes())?;
        let output = child.wait_with_output()?;
        if !output.status.success() {
            return Err(format!("`ftpgate openings` fails for\n{rules}").into());
        }
        let chain = format!("ftpgate_{side}_side");
        load(fence, &(String::from_utf8(output.stdout)? + &FIREWALL.replace("CHAIN", &chain)))
    }

    /// Takes both fences away.
    pub fn open(&self) -> Result<(), Fault> {
        [&self.client_side, &self.server_side]
            .into_iter()
            .try_for_each(|fence| load(fence, "delete table inet filter\n"))
    }
}

fn load(host: &Host, rules: &str) -> Result<(), Fault> {
    let mut nft = Command::new("nft");
    nft.args(["-f", "-"]).env("PATH", PATH);
    host.feed(nft, rules)
}

/// A cable from a host's `port`, with its addresses, to the fence's port of the name `to`.
fn wire(host: &Host, port: &str, addresses: &[&str], fence: &Host, to: &str) -> Result<(), Fault> {
    let there = fence.namespace().display();
    let addresses: String = addresses
        .iter()
        .map(|address| format!("addr add {address} dev {port}{}\n", if address.contains(':') { " nodad" } else { "" }))
        .collect();
    host.ip(&format!(
        "link add {port} type veth peer name {to} netns {there}\nlink set {port} addrgenmode none up\n\
         addr add fe80::2/64 dev {port} nodad\n{addresses}"
    ))?;
    fence.ip(&format!("link set {to} addrgenmode none up\naddr add fe80::1/64 dev {to} nodad\n"))
}
