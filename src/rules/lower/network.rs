//! Addresses, networks and destinations.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use ipnet::{IpNet, Ipv4Net};

use super::super::place::{At, Fault, quoted};
use super::super::schema::{Client, Host, Many};
use super::ports::port;
use super::{super::schema, fault};
use crate::addr::{Network, link_of};
use crate::policy::{Destination, Networks, Proxies};

/// The clients of a rule.
pub(super) fn clients(Many(list): &Many<Client>, at: &At<'_>) -> Option<Vec<Network>> {
    each(list, at, |Client(text)| client(text))
}

/// The servers of a rule.
pub(super) fn destinations(Many(list): &Many<schema::Destination>, at: &At<'_>) -> Option<Vec<Destination>> {
    each(list, at, |schema::Destination(text)| destination(text))
}

/// The balancers of a listener.
pub(super) fn proxies(Many(list): &Many<Host>, at: &At<'_>) -> Option<Proxies> {
    hosts(list, at, &BALANCERS).map(Proxies::new)
}

/// Where a listener's health checks come from.
pub(super) fn checkers(Many(list): &Many<Host>, at: &At<'_>) -> Option<Vec<Network>> {
    hosts(list, at, &CHECKERS)
}

/// Further addresses of the clients or servers of a rule.
pub(super) fn data_peers(Many(list): &Many<Host>, at: &At<'_>) -> Option<Networks> {
    hosts(list, at, &DATA_PEERS).map(Networks::new)
}

/// What a list of hosts is not to be, and what to write instead.
struct Words {
    /// Why they have no port.
    portless: &'static str,
    /// What it would mean if they were everybody.
    everybody: &'static str,
    help: &'static str,
}

const BALANCERS: Words = Words {
    portless: "balancers come from any",
    everybody: "every client could say that it is another",
    help: "name the balancers, such as \"10.0.0.5\"",
};
const CHECKERS: Words = Words {
    portless: "health checks come from any",
    everybody: "no client would get a session",
    help: "name the hosts that send health checks, such as \"10.0.0.5\"",
};

const DATA_PEERS: Words = Words {
    portless: "ports are for `inbound` and `outbound` to say",
    everybody: "anybody could take a peer's data",
    help: "name the peers' other networks, such as \"10.0.2.0/28\"",
};

/// Networks that are not everybody's.
fn hosts(list: &[Host], at: &At<'_>, words: &Words) -> Option<Vec<Network>> {
    if list.is_empty() {
        at.mistake("this list is empty, which would be nobody", words.help);
        return None;
    }
    let read: Vec<_> =
        list.iter().enumerate().map(|(index, Host(text))| at.index(index).take(host(text, words))).collect();
    read.into_iter().collect()
}

fn host(text: &str, words: &Words) -> Result<Network, Fault> {
    // What helps with clients leads astray here.
    let network = portless(text, words.portless).map_err(|fault| match fault.help.contains("`any`") {
        true => Fault::new(fault.message, words.help),
        false => fault,
    })?;
    match network {
        Network::Net(net) if net.prefix_len() > 0 => Ok(network),
        Network::Net(_) | Network::Any => fault(format!("with {} {}", quoted(text), words.everybody), words.help),
    }
}

fn each<W, T>(list: &[W], at: &At<'_>, read: impl Fn(&W) -> Result<T, Fault>) -> Option<Vec<T>> {
    if list.is_empty() {
        at.mistake("this list is empty, which would be nobody", "write `any` for everybody, or name networks");
        return None;
    }
    let read: Vec<_> = list.iter().enumerate().map(|(index, one)| at.index(index).take(read(one))).collect();
    read.into_iter().collect()
}

fn client(text: &str) -> Result<Network, Fault> {
    portless(text, "clients come from any")
}

fn portless(text: &str, why: &str) -> Result<Network, Fault> {
    match split(text) {
        (address, None) => network(text, address, &|network| network.to_string()),
        (address, Some(_)) => {
            let network = network(text, address, &|network| network.to_string())?;
            fault(format!("{} has a port, and {why}", quoted(text)), format!("write \"{network}\""))
        }
    }
}

fn destination(text: &str) -> Result<Destination, Fault> {
    let (address, written) = split(text);
    let given = written.and_then(port).and_then(|port| u16::try_from(port).ok());
    let network = network(text, address, &|network| Destination { network, port: given }.to_string())?;
    let port = match written.map(|written| (written, port(written))) {
        None => None,
        Some((_, Some(number @ 1..=65535))) => u16::try_from(number).ok(),
        Some((written, _)) => {
            let message = format!("{} is not a port", quoted(written));
            let example = Destination { network, port: Some(21) };
            return fault(message, format!("write a port from 1 to 65535, such as \"{example}\""));
        }
    };
    Ok(Destination { network, port })
}

/// The address part and the port part. IPv6 has its port behind brackets; without them all of it is address.
fn split(text: &str) -> (&str, Option<&str>) {
    if let Some((address, rest)) = text.strip_prefix('[').and_then(|inner| inner.split_once(']')) {
        return match rest.strip_prefix(':') {
            Some(port) => (address, Some(port)),
            None if rest.is_empty() => (address, None),
            None => (text, None),
        };
    }
    match text.split_once(':') {
        Some((address, port)) if !port.contains(':') => (address, Some(port)),
        _ => (text, None),
    }
}

/// `show` writes out what was meant, with the port that it had.
fn network(text: &str, address: &str, show: &dyn Fn(Network) -> String) -> Result<Network, Fault> {
    if address == "any" {
        return Ok(Network::Any);
    }
    if let Ok(ip) = address.parse::<IpAddr>() {
        return single(text, ip, show);
    }
    let Some((ip, prefix)) = address.split_once('/') else { return fault_in(text, address) };
    let Ok(ip) = ip.parse::<IpAddr>() else { return fault_in(text, address) };
    let most = if ip.is_ipv4() { 32 } else { 128 };
    if let (IpAddr::V4(ip), Ok(mask)) = (ip, prefix.parse::<Ipv4Addr>()) {
        let help = match Ipv4Net::with_netmask(ip, mask) {
            Ok(net) => format!("write \"{}\"", show(Network::Net(net.trunc().into()))),
            Err(_) => "write a prefix from 0 to 32, such as \"10.0.0.0/8\"".to_owned(),
        };
        return fault(format!("{} has a netmask where a prefix belongs", quoted(text)), help);
    }
    let net = port(prefix).and_then(|prefix| u8::try_from(prefix).ok()).and_then(|prefix| IpNet::new(ip, prefix).ok());
    let Some(net) = net else {
        let message = format!("{} has no prefix from 0 to {most}", quoted(text));
        return fault(message, format!("write the number of leading bits behind the `/`, such as \"{ip}/{most}\""));
    };
    if net.trunc() != net {
        return fault(
            format!("{} has bits set after its prefix", quoted(text)),
            format!("write \"{}\"", show(Network::Net(net.trunc()))),
        );
    }
    unmapped(text, net, show)
}

fn single(text: &str, ip: IpAddr, show: &dyn Fn(Network) -> String) -> Result<Network, Fault> {
    if ip.is_unspecified() {
        let message = format!("{} is the address of nobody", quoted(text));
        return fault(message, "write `any` for every address, or a network");
    }
    unmapped(text, IpNet::from(ip), show)
}

/// An IPv4 address in IPv6's clothes would never match: sessions have their addresses without them.
fn unmapped(text: &str, net: IpNet, show: &dyn Fn(Network) -> String) -> Result<Network, Fault> {
    if let IpNet::V6(v6) = net
        && let Some(v4) = v6.addr().to_ipv4_mapped()
        && let Some(plain) = v6.prefix_len().checked_sub(96).and_then(|prefix| Ipv4Net::new(v4, prefix).ok())
    {
        let plain = Network::Net(IpNet::V4(plain));
        return fault(format!("{} is IPv4, written as IPv6", quoted(text)), format!("write \"{}\"", show(plain)));
    }
    Ok(Network::Net(net))
}

fn fault_in<T>(text: &str, address: &str) -> Result<T, Fault> {
    let help = match address.split_once('-') {
        Some((first, last)) if first.trim().parse::<IpAddr>().is_ok() && last.trim().parse::<IpAddr>().is_ok() => {
            "write the networks that it consists of, such as \"10.0.0.0/30\""
        }
        _ if is_name(address) => "names are not looked up here: write its address",
        _ => "write an address such as \"10.0.2.2\", a network such as \"10.0.0.0/8\", or `any`",
    };
    fault(format!("{} is not an address or network", quoted(text)), help)
}

/// Whether somebody wrote a host's name.
fn is_name(text: &str) -> bool {
    let letters = text.chars().any(|c| c.is_ascii_alphabetic() && !c.is_ascii_hexdigit());
    letters && text.chars().all(|c| c.is_ascii_alphanumeric() || ".-_".contains(c))
}

/// An address and port of this machine or of a server. `port`: the one that is meant where none is written.
pub(super) fn socket(text: &str, default_port: Option<u16>) -> Result<SocketAddr, Fault> {
    if let Ok(addr) = text.parse::<SocketAddr>() {
        return if addr.port() == 0 {
            fault("port 0 is not a port", format!("write \"{}\"", SocketAddr::new(addr.ip(), 21)))
        } else if is_link_local(addr.ip()) && link_of(addr) == 0 {
            no_link(text, addr.ip(), addr.port())
        } else {
            Ok(addr)
        };
    }
    let (address, written) = split(text);
    let named = address.trim_matches(['[', ']']).split_once('%').and_then(|(ip, _)| ip.parse().ok());
    if let Some(ip) = named.filter(|ip| is_link_local(*ip)) {
        return no_link(text, ip, written.and_then(port).and_then(|port| port.try_into().ok()).unwrap_or(21));
    }
    match (address.parse::<IpAddr>(), written) {
        (Ok(ip), None) if is_link_local(ip) => no_link(text, ip, default_port.unwrap_or(21)),
        (Ok(ip), None) => match default_port {
            Some(port) => Ok(SocketAddr::new(ip, port)),
            None => fault(format!("{} has no port", quoted(text)), format!("write \"{}\"", SocketAddr::new(ip, 21))),
        },
        (Ok(ip), Some(port)) => {
            let help = format!("write a port from 1 to 65535, such as \"{}\"", SocketAddr::new(ip, 21));
            fault(format!("{} is not a port", quoted(port)), help)
        }
        (Err(_), written) => no_address(text, address, written, default_port.is_some()),
    }
}

const fn is_link_local(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local())
}

/// There may be another one like it on each link.
fn no_link(text: &str, ip: IpAddr, port: u16) -> Result<SocketAddr, Fault> {
    fault(
        format!("{} is link-local, and does not say by the number of which interface it is reached", quoted(text)),
        format!(
            "write an address that is not link-local, or the number that `ip link` shows, such as \"[{ip}%2]:{port}\""
        ),
    )
}

fn no_address(text: &str, address: &str, written: Option<&str>, server: bool) -> Result<SocketAddr, Fault> {
    let any = if server { "10.0.2.2" } else { "0.0.0.0" };
    let given = written.or(Some(address)).and_then(port).filter(|port| (1..=65535).contains(port));
    let port = given.unwrap_or(21);
    let end = if server { "of the server" } else { "for every IPv4 address of this machine" };
    if written.is_none() && given.is_some() {
        return fault(
            format!("{} is a port without an address", quoted(text)),
            format!("write \"{any}:{port}\" {end}"),
        );
    }
    if ["", "*", "any"].contains(&address) {
        return fault(format!("{} has no address", quoted(text)), format!("write \"{any}:{port}\" {end}"));
    }
    if is_name(address) {
        let help = format!("names are not looked up here: write an address, such as \"{any}:{port}\"");
        return fault(format!("{} is a name", quoted(address)), help);
    }
    fault(format!("{} is not an address and port", quoted(text)), "write it as \"10.0.2.2:21\" or \"[2001:db8::1]:21\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_and_destinations_are_read() {
        for text in ["any", "10.0.0.0/8", "10.0.0.1", "::/0", "2001:db8::/32", "2001:db8::1"] {
            assert_eq!(client(text).unwrap().to_string(), text);
            assert_eq!(destination(text).unwrap().to_string(), text);
        }
        for text in ["any:21", "10.0.0.0/8:21", "10.0.0.1:2121", "[2001:db8::1]:21", "[2001:db8::/32]:21"] {
            assert_eq!(destination(text).unwrap().to_string(), text);
            assert!(client(text).is_err());
        }
        assert_eq!(client("10.0.0.1/32").unwrap().to_string(), "10.0.0.1");
    }

    #[test]
    fn the_help_names_what_was_meant() {
        for (written, help) in [
            ("10.1.2.3/8", "write \"10.0.0.0/8\""),
            ("2001:db8::1/32", "write \"2001:db8::/32\""),
            ("10.1.2.3/255.0.0.0", "write \"10.0.0.0/8\""),
            ("::ffff:10.0.0.1", "write \"10.0.0.1\""),
            ("::ffff:10.0.0.0/104", "write \"10.0.0.0/8\""),
            ("10.0.0.1:21", "write \"10.0.0.1\""),
            ("ftp.example.com", "names are not looked up here: write its address"),
            ("0.0.0.0", "write `any` for every address, or a network"),
        ] {
            assert_eq!(client(written).unwrap_err().help, help, "{written}");
        }
        for written in ["", "[", "[]", "[::1", "[::1]x", "10.0.0.0/", "/8", "10.0.0.0/-1", ":", "::1%eth0"] {
            assert!(client(written).is_err() && destination(written).is_err(), "{written}");
        }
    }

    #[test]
    fn a_missing_port_is_21_for_servers_only() {
        assert_eq!(socket("10.0.2.2", Some(21)), Ok("10.0.2.2:21".parse().unwrap()));
        assert_eq!(socket("::1", Some(21)), Ok("[::1]:21".parse().unwrap()));
        assert_eq!(socket("[::1]", Some(21)), Ok("[::1]:21".parse().unwrap()));
        for (written, help) in [
            ("10.0.2.2", "write \"10.0.2.2:21\""),
            ("::", "write \"[::]:21\""),
            ("2121", "write \"0.0.0.0:2121\" for every IPv4 address of this machine"),
            (":2121", "write \"0.0.0.0:2121\" for every IPv4 address of this machine"),
            ("*:21", "write \"0.0.0.0:21\" for every IPv4 address of this machine"),
        ] {
            assert_eq!(socket(written, None).unwrap_err().help, help, "{written}");
        }
    }
}
