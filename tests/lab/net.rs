//! The lab's wiring: client, gate and server.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::host::Host;
use super::{Family, Fault};

/// Three hosts. The gate is the others' way to each other and to nothing else.
///
/// ```text
///   client            gate               server
///   10.1.0.2 -------- 10.1.0.1
///   10.1.0.3          10.2.0.1 --------- 10.2.0.2
///   2001:db8:1::2 --- 2001:db8:1::1
///   2001:db8:1::3     2001:db8:2::1 ---- 2001:db8:2::2
/// ```
///
/// The `.3` addresses are a stranger's: the client's machine has them, but takes them only
/// for sockets that ask for them.
pub struct Net {
    pub client: Host,
    pub gate: Host,
    pub server: Host,
}

/// One end of a wire.
struct End {
    v4: Ipv4Addr,
    v6: Ipv6Addr,
}

const CLIENT: End = end(1, 2);
const STRANGER: End = end(1, 3);
const GATE_TO_CLIENT: End = end(1, 1);
const GATE_TO_SERVER: End = end(2, 1);
const SERVER: End = end(2, 2);

impl Net {
    /// Three hosts, wired and routed: the gate forwards everything until [`Net::close`].
    pub fn new() -> Result<Self, Fault> {
        let net = Self { client: Host::new("client")?, gate: Host::new("gate")?, server: Host::new("server")? };
        net.wire("lan", &GATE_TO_CLIENT, &net.client, &CLIENT)?;
        net.wire("wan", &GATE_TO_SERVER, &net.server, &SERVER)?;
        // No default route: who asks the machine's name server for a name hears at once that
        // there is none, and does not wait for it.
        route(&net.client, "10.2.0.0/24", "2001:db8:2::/64", &GATE_TO_CLIENT)?;
        route(&net.server, "10.1.0.0/24", "2001:db8:1::/64", &GATE_TO_SERVER)?;
        net.client.ip(&format!(
            "addr add {}/24 dev eth0\naddr add {}/64 dev eth0 nodad preferred_lft 0\n",
            STRANGER.v4, STRANGER.v6
        ))?;
        net.gate.sysctl(&[
            ("net/ipv4/ip_forward", "1"),
            ("net/ipv6/conf/all/forwarding", "1"),
            ("net/ipv4/conf/all/rp_filter", "0"),
            ("net/ipv4/conf/lan/rp_filter", "0"),
            ("net/ipv4/conf/wan/rp_filter", "0"),
        ])?;
        Ok(net)
    }

    /// Lets nothing through the gate's machine but what the gate itself relays or marked, so
    /// that a data connection which found its way around the gate cannot pass for success.
    pub fn close(&self) -> Result<(), Fault> {
        let mut nft = std::process::Command::new("nft");
        nft.args(["-f", "-"]).env("PATH", PATH);
        self.gate.feed(
            nft,
            "table inet lab {\nchain forward {\n\
             type filter hook forward priority filter + 10; policy drop;\n\
             ct mark and 0xffe0 == 0x2140 accept\n}\n}\n",
        )
    }

    /// Takes the other family away from a host.
    pub fn keep_only(host: &Host, family: Family) -> Result<(), Fault> {
        match family {
            Family::V4 => host.sysctl(&[("net/ipv6/conf/all/disable_ipv6", "1")]),
            Family::V6 => host.ip("addr flush dev eth0 to 0.0.0.0/0\naddr flush dev lo to 0.0.0.0/0\n"),
        }
    }

    /// One host more behind the gate's machine, in network `number`: `10.N.0.2`, and the gate is `10.N.0.1` there.
    pub fn spur(&self, name: &str, number: u8) -> Result<Host, Fault> {
        let (ours, theirs) = (end(number, 1), end(number, 2));
        let host = Host::new(name)?;
        self.wire(name, &ours, &host, &theirs)?;
        route(&host, "default", "default", &ours)?;
        let (v4, v6) = (format!("10.{number}.0.0/24"), format!("2001:db8:{number}::/64"));
        route(&self.client, &v4, &v6, &GATE_TO_CLIENT)?;
        route(&self.server, &v4, &v6, &GATE_TO_SERVER)?;
        Ok(host)
    }

    /// The address of a host of [`Net::spur`].
    pub fn spur_address(number: u8, family: Family) -> IpAddr {
        end(number, 2).address(family)
    }

    /// The gate's address where that host is.
    pub fn gate_to_spur(number: u8, family: Family) -> IpAddr {
        end(number, 1).address(family)
    }

    pub fn client_address(family: Family) -> IpAddr {
        CLIENT.address(family)
    }

    pub fn stranger_address(family: Family) -> IpAddr {
        STRANGER.address(family)
    }

    /// The gate's address on the clients' side.
    pub fn gate_address(family: Family) -> IpAddr {
        GATE_TO_CLIENT.address(family)
    }

    pub fn server_address(family: Family) -> IpAddr {
        SERVER.address(family)
    }

    /// A cable from the gate's `port` to the host's `eth0`. No address waits for duplicate
    /// detection; the link-local ones are there because a router asks for neighbours from its own.
    fn wire(&self, port: &str, ours: &End, host: &Host, theirs: &End) -> Result<(), Fault> {
        let peer = host.namespace().display();
        self.gate.ip(&format!(
            "link add {port} type veth peer name eth0 netns {peer}\n\
             link set {port} addrgenmode none up\n\
             addr add {}/24 dev {port}\n\
             addr add {}/64 dev {port} nodad\n\
             addr add fe80::1/64 dev {port} nodad\n",
            ours.v4, ours.v6
        ))?;
        host.ip(&format!(
            "link set eth0 addrgenmode none up\n\
             addr add {}/24 dev eth0\n\
             addr add {}/64 dev eth0 nodad\n\
             addr add fe80::2/64 dev eth0 nodad\n",
            theirs.v4, theirs.v6
        ))
    }
}

fn route(host: &Host, v4: &str, v6: &str, router: &End) -> Result<(), Fault> {
    host.ip(&format!("route add {v4} via {}\nroute add {v6} via {}\n", router.v4, router.v6))
}

/// Where Debian keeps `nft` and `ip`; an ordinary user's PATH leaves it out.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

const fn end(net: u8, host: u8) -> End {
    End { v4: Ipv4Addr::new(10, net, 0, host), v6: Ipv6Addr::new(0x2001, 0xdb8, net as u16, 0, 0, 0, 0, host as u16) }
}

impl End {
    fn address(&self, family: Family) -> IpAddr {
        match family {
            Family::V4 => self.v4.into(),
            Family::V6 => self.v6.into(),
        }
    }
}
