//! The legs of a data connection: who is connected to, and who may connect, as the rule has it.

use std::net::{IpAddr, SocketAddr};

use super::Session;
use super::event::Event;
use super::negotiation::Wish;
use super::pinhole::{Introduction, Leg};
use super::refusal::Refusal;
use crate::addr::{PortRanges, Side, is_dialable};
use crate::ftp::host_port;
use crate::ftp::reply::Code;
use crate::policy::{ForeignAddress, NotDialled};

impl Session {
    pub(super) fn introduction(&self, wish: Wish) -> Option<Introduction> {
        let client = match wish {
            Wish::Connects { .. } => self.ends.client.socket(),
            Wish::Waits { at, .. } => at,
        };
        self.rule.send_proxy.map(|version| Introduction { version, client, front: self.ends.front.socket() })
    }

    pub(super) fn client_leg(&self, wish: Wish) -> Result<Leg, Refusal> {
        let front = self.ends.front.ip();
        match wish {
            Wish::Connects { .. } => {
                let inbound = self.rule.inbound.as_ref().ok_or(Refusal::PassiveNotAllowed)?;
                Ok(Leg::Listen { at: front, ports: inbound.gate_ports.clone(), from: self.ends.client.ip() })
            }
            Wish::Waits { at, .. } => {
                let outbound = self.rule.outbound.as_ref().ok_or(Refusal::ActiveNotAllowed)?;
                self.may_dial_client()?;
                Ok(Leg::Dial { to: at, from: front, from_port: outbound.source_port })
            }
        }
    }

    /// Whether the rule has the gate connect to the client.
    pub(super) fn may_dial_client(&self) -> Result<(), Refusal> {
        let ip = self.ends.client.ip();
        self.rule.may_dial(ip, self.client_is_gate).map_err(|why| match why {
            NotDialled::Gate => Refusal::ClientIsGate(ip),
            NotDialled::NoHost => Refusal::ClientNotDialable(ip),
        })
    }

    pub(super) fn server_listens(&self) -> Result<Leg, Refusal> {
        let ports = self.rule.ports_for_servers().ok_or(Refusal::ActiveNotAllowed)?;
        Ok(Leg::Listen { at: self.ends.back.ip(), ports: ports.clone(), from: self.ends.server.ip() })
    }

    /// Whether this is another address of a peer, as the rule has it, that may be connected to for data. Whether it is the
    /// gate's own the driver looks.
    pub(super) fn may_have_data(&self, side: Side, ip: IpAddr) -> bool {
        let own = match side {
            Side::Client => self.ends.client.ip(),
            Side::Server => self.ends.server.ip(),
        };
        self.rule.data_peers.of(side).contains(ip) && ip.is_ipv4() == own.is_ipv4() && is_dialable(ip)
    }

    /// Where data goes to: the port that the server names, where the rule allows it. Its address is not trusted: that of the
    /// control connection is used, unless the rule names the other one among `data_peers`.
    pub(super) fn server_at(&mut self, code: Code, texts: &[&[u8]]) -> Result<SocketAddr, Refusal> {
        let (named, port) = if code.number() == 227 {
            let at = host_port::parse_227(texts).map_err(Refusal::MalformedReply)?;
            (Some(at.ip().to_owned().into()), at.port())
        } else {
            let at = host_port::parse_229(texts).map_err(Refusal::MalformedReply)?;
            (at.address, at.port)
        };
        let own = self.ends.server.ip();
        let used = named.filter(|named| self.may_have_data(Side::Server, *named)).unwrap_or(own);
        if let Some(named) = named.filter(|named| *named != used) {
            // 0.0.0.0 is nobody's address: such a server names none.
            if self.rule.foreign_address.server == ForeignAddress::Refuse && !named.is_unspecified() {
                return Err(Refusal::ForeignServerAddress { named, peer: used });
            }
            self.report(Event::ForeignAddress { by: Side::Server, named, used });
        }
        // A rule with no `inbound` may still have the server asked in this mode, for a client that waits.
        let inbound = self.rule.inbound.as_ref();
        let allowed = inbound.map_or_else(PortRanges::unreserved, |inbound| inbound.server_ports.clone());
        if allowed.contains(port) {
            Ok(SocketAddr::new(used, port))
        } else {
            Err(Refusal::ServerPort { port, allowed })
        }
    }
}
