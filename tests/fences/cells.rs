//! Real clients at real servers, through both fences and the gate.

use crate::lab::client::{Client, Visit};
use crate::lab::gate::Gate;
use crate::lab::job::tail;
use crate::lab::net::Net;
use crate::lab::scratch::Scratch;
use crate::lab::server::{Server, USER};
use crate::lab::{Family, Leg, Mode, goods};
use crate::net::Fenced;
use Family::{V4, V6};
use Mode::{Active, Passive};

/// How clients come to the gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Reverse,
    Tproxy,
    Redirect,
    ClientSource,
    Explicit,
}

impl Way {
    /// The `listeners` of a rules file, for a client and a server of these families.
    fn yaml(self, client: Family, server: Family) -> String {
        let front = Net::gate_address(client);
        let bind = std::net::SocketAddr::new(front, 21);
        let everywhere = if client == V4 { "0.0.0.0:2121" } else { "[::]:2121" };
        let (bind, stand) = match self {
            Self::Reverse => (
                bind.to_string(),
                format!("server: \"{}\"", std::net::SocketAddr::new(Net::server_address(server), 21)),
            ),
            Self::Explicit => (bind.to_string(), "explicit: user-at-host".to_owned()),
            Self::Tproxy => (everywhere.to_owned(), "transparent: tproxy".to_owned()),
            Self::Redirect => (everywhere.to_owned(), "transparent: redirect".to_owned()),
            Self::ClientSource => (everywhere.to_owned(), "transparent: tproxy\n    source: client".to_owned()),
        };
        format!("  - name: front\n    bind: \"{bind}\"\n    {stand}\n")
    }

    const fn port(self) -> u16 {
        match self {
            Self::Reverse | Self::Explicit => 21,
            Self::Tproxy | Self::Redirect | Self::ClientSource => 2121,
        }
    }
}

/// Rules in which every range is its own, so that a port that is open for another reason is not taken for it.
pub fn rules(way: Way, client: Family, server: Family, more: &str) -> String {
    format!(
        "version: 1\nlisteners:\n{}rules:\n\
         \x20 - name: fenced\n    from: [\"10.1.0.0/24\", \"2001:db8:1::/64\"]\n    to: [\"10.2.0.0/24\", \"2001:db8:2::/64\"]\n\
         \x20   action: allow\n    inbound: {{ gate_ports: \"10001-10020\", server_ports: \"30000-30999\" }}\n\
         \x20   outbound: {{ gate_ports: \"40000-40099\", client_ports: \"1024-65535\", source_port: 20 }}\n{more}",
        way.yaml(client, server)
    )
}

/// A whole visit, and the gate's word that it was made in this way.
#[track_caller]
fn visit(way: Way, client: Client, server: Server, mode: Mode, families: [Family; 2], more: &str, said: &str) {
    let [client_family, server_family] = families;
    let rules = rules(way, client_family, server_family, more);
    let fenced = Fenced::new(&rules).unwrap();
    let server = server.or_without_users().start(&fenced.net.server, server_family).unwrap();
    let gate = Gate::start_with(&fenced.net, &rules, way.port()).unwrap();
    let folder = Scratch::new("client").unwrap();
    goods::stock_client(folder.path()).unwrap();
    let at_host = format!("{USER}@[{}]", Net::server_address(server_family)).replace("[10.2.0.2]", "10.2.0.2");
    let (address, user) = match way {
        Way::Reverse => (Net::gate_address(client_family), USER),
        Way::Explicit => (Net::gate_address(client_family), at_host.as_str()),
        Way::Tproxy | Way::Redirect | Way::ClientSource => (Net::server_address(server_family), USER),
    };
    let visit = Visit { server: address, leg: Leg::new(mode, client_family), user, folder: folder.path() };
    let log = folder.join("log");
    let made = client
        .visit(&fenced.net.client, &visit)
        .and_then(|()| goods::inspect(&server.home(), folder.path(), &std::fs::read(&log)?, client.abilities()));
    made.unwrap_or_else(|fault| panic!("{fault}\n{}\n--- gate\n{}", tail(&log), gate.tail()));
    assert!(gate.log().contains(said), "not {said}:\n{}", gate.tail());
}

const RELAY: &str = "    datapath: relay\n";
const KERNEL: &str = "    datapath: kernel\n";
const BY_RELAY: &str = "datapath=\"relay\"";
const BY_KERNEL: &str = "datapath=\"kernel\"";

#[test]
fn reverse_passive_by_relay() {
    visit(Way::Reverse, Client::Curl, Server::Vsftpd, Passive, [V4, V4], RELAY, BY_RELAY);
}

#[test]
fn reverse_active_by_kernel() {
    visit(Way::Reverse, Client::Lftp, Server::Proftpd, Active, [V6, V6], KERNEL, BY_KERNEL);
}

#[test]
fn reverse_passive_by_kernel() {
    visit(Way::Reverse, Client::Ncftp, Server::PureFtpd, Passive, [V4, V4], KERNEL, BY_KERNEL);
}

#[test]
fn reverse_between_families() {
    visit(Way::Reverse, Client::Lftp, Server::Vsftpd, Active, [V6, V4], "", BY_RELAY);
}

#[test]
fn tproxy_active_by_relay() {
    visit(Way::Tproxy, Client::Ftplib, Server::Vsftpd, Active, [V4, V4], RELAY, BY_RELAY);
}

#[test]
fn tproxy_passive_by_kernel() {
    visit(Way::Tproxy, Client::Tnftp, Server::Proftpd, Passive, [V6, V6], KERNEL, BY_KERNEL);
}

#[test]
fn redirect_passive_by_relay() {
    visit(Way::Redirect, Client::Wget, Server::Vsftpd, Passive, [V4, V4], RELAY, BY_RELAY);
}

#[test]
fn redirect_active_by_kernel() {
    visit(Way::Redirect, Client::Curl, Server::PureFtpd, Active, [V6, V6], KERNEL, BY_KERNEL);
}

#[test]
fn client_source_passive_by_relay() {
    visit(Way::ClientSource, Client::Lftp, Server::Vsftpd, Passive, [V6, V6], RELAY, BY_RELAY);
}

#[test]
fn client_source_active_by_relay() {
    visit(Way::ClientSource, Client::Curl, Server::Vsftpd, Active, [V4, V4], RELAY, BY_RELAY);
}

#[test]
fn client_source_active_by_kernel() {
    visit(Way::ClientSource, Client::Tnftp, Server::Vsftpd, Active, [V4, V4], KERNEL, BY_KERNEL);
}

#[test]
fn a_bridge_to_active() {
    let more = "    server_mode: active\n";
    visit(Way::Reverse, Client::Curl, Server::Vsftpd, Passive, [V4, V4], more, "server_mode=\"active\"");
}

#[test]
fn a_bridge_to_passive() {
    let more = "    server_mode: passive\n";
    visit(Way::Reverse, Client::Lftp, Server::Proftpd, Active, [V6, V6], more, "server_mode=\"passive\"");
}

#[test]
fn explicit_to_the_other_family() {
    visit(Way::Explicit, Client::Lftp, Server::Vsftpd, Passive, [V4, V6], "", BY_RELAY);
}
