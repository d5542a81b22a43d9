//! Servers that are limited to one leg really refuse all others: else a bridge in front of them would show nothing.

use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};

use libtest_mimic::{Failed, Trial};

use crate::choice::{self, LEGS};
use crate::lab::host::Host;
use crate::lab::net::Net;
use crate::lab::server::{PASSWORD, Server, USER};
use crate::lab::{Family, Fault, Leg};
use crate::talk::Talk;

/// The port of the client's that servers are told to connect to.
const WAITING: u16 = 4000;

/// One trial for each server, with every leg that it can be limited to.
pub fn trials() -> Vec<Trial> {
    let trial = |server: Server| Trial::test(format!("limits/{server}"), move || limits(server));
    Server::ALL.map(trial).into()
}

fn limits(server: Server) -> Result<(), Failed> {
    let noted = choice::notations().into_iter().map(|(_, theirs)| theirs);
    let mut legs: Vec<Leg> = LEGS.into_iter().chain(noted).collect();
    legs.sort();
    legs.dedup();
    for leg in legs.into_iter().filter(|leg| server.cannot(*leg).is_none()) {
        limited(server, leg).map_err(|fault| format!("{leg}: {fault}"))?;
    }
    Ok(())
}

/// It refuses what does not belong to the leg, and takes what does.
fn limited(server: Server, leg: Leg) -> Result<(), Fault> {
    let net = Net::new()?;
    Net::keep_only(&net.client, leg.family)?;
    Net::keep_only(&net.server, leg.family)?;
    let serving = server.start_limited(&net.server, leg)?;
    let to = SocketAddr::new(Net::server_address(leg.family), 21);
    // Some servers connect before they answer.
    let waiting = SocketAddr::new(Net::client_address(leg.family), WAITING);
    let _waiting = net.client.run(move || TcpListener::bind(waiting))?;
    let mut talk = Talk::new(net.client.run(move || TcpStream::connect(to))?);
    talk.expect_code("220");
    let mut ask = |line: &str| {
        talk.say(line);
        talk.reply().lines.concat()
    };
    ask(&format!("USER {USER}"));
    ask(&format!("PASS {PASSWORD}"));
    let refused = server.refused(leg);
    for (verb, line) in requests(leg.family) {
        let (answer, wanted) = (ask(&line), if refused.contains(&verb) { '5' } else { '2' });
        if !answer.starts_with(wanted) {
            return Err(format!("{line} was answered by {answer}\n{}", serving.tail()).into());
        }
    }
    match other(leg.family) {
        family if answers(&net.client, Net::server_address(family)) => {
            Err(format!("it answers by {family} too").into())
        }
        _ => Ok(()),
    }
}

/// All that can be asked in this family, by verb.
fn requests(family: Family) -> Vec<(&'static str, String)> {
    let ip = Net::client_address(family);
    let extended =
        [("EPSV", "EPSV".to_owned()), ("EPRT", format!("EPRT |{}|{ip}|{WAITING}|", if ip.is_ipv4() { 1 } else { 2 }))];
    let plain = match ip {
        IpAddr::V4(ip) => {
            let [a, b, c, d] = ip.octets();
            let [high, low] = WAITING.to_be_bytes();
            vec![("PASV", "PASV".to_owned()), ("PORT", format!("PORT {a},{b},{c},{d},{high},{low}"))]
        }
        IpAddr::V6(_) => Vec::new(),
    };
    [plain, extended.to_vec()].concat()
}

fn other(family: Family) -> Family {
    if family == Family::V4 { Family::V6 } else { Family::V4 }
}

fn answers(client: &Host, server: IpAddr) -> bool {
    client.run(move || TcpStream::connect((server, 21))).is_ok()
}
