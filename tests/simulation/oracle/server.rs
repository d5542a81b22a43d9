//! What the server is told, and which pinholes are asked for.

use std::net::SocketAddr;

use ftpgate::policy::ServerMode;
use ftpgate::session::{Leg, Pinhole};

use super::{Asked, Kind, Known, MAX_HOLES, Oracle, State, Verdict, no};
use crate::cast::Manner;
use crate::wire;

impl Oracle {
    pub(super) fn opens(&mut self, pinhole: &Pinhole) -> Verdict {
        let ends = self.cast.ends;
        if pinhole.id.0 <= self.last_id {
            return no("an id is used again");
        }
        self.last_id = pinhole.id.0;
        let Some(asked) = self.asked.iter().rev().find(|asked| Some(asked.ordinal) == self.negotiating) else {
            return no("a pinhole that no command asks for");
        };
        if self.has_opened {
            return no("two pinholes for one command");
        }
        self.has_opened = true;
        match (asked.kind, &pinhole.client) {
            (Kind::Passive { .. }, Leg::Listen { at, ports, from }) => {
                let allowed = self.rule.inbound.as_ref().map(|inbound| &inbound.gate_ports);
                if *at != ends.front.ip() || Some(ports) != allowed || *from != ends.client.ip() {
                    return no("the client's leg is listened for outside of the rule");
                }
            }
            (Kind::Active { at: Some(named) }, Leg::Dial { to, from, from_port }) => {
                let Some(outbound) = &self.rule.outbound else { return no("active mode is not allowed") };
                let named = SocketAddr::new(named.ip().to_canonical(), named.port());
                let fits = named == *to && to.ip() == ends.client.ip() && outbound.client_ports.contains(to.port());
                if !fits || to.port() < 1024 || *from != ends.front.ip() || *from_port != outbound.source_port {
                    return no("the client's leg is dialled outside of the rule");
                }
            }
            _ => return no("the client's leg is not what it asked for"),
        }
        let client_passive = matches!(asked.kind, Kind::Passive { .. });
        match &pinhole.server {
            Leg::Listen { at, ports, from } => {
                let allowed = self.rule.ports_for_servers();
                if *at != ends.back.ip() || Some(ports) != allowed || *from != ends.server.ip() {
                    return no("the server's leg is listened for outside of the rule");
                }
                let may = match self.rule.server_mode {
                    ServerMode::Same => !client_passive,
                    ServerMode::Active => true,
                    ServerMode::Passive => false,
                };
                if !may {
                    return no("the server's leg is active against the rule");
                }
            }
            Leg::Dial { to, from, .. } => {
                if !self.server_asked || !matches!(self.server_ended, Some(227 | 229)) {
                    return no("the server is dialled and was not asked, or has not answered");
                }
                let named = named_port(&self.server_text);
                let inbound = self.rule.inbound.as_ref();
                let allowed = inbound.is_none_or(|inbound| inbound.server_ports.contains(to.port()));
                let fits = to.ip() == ends.server.ip() && *from == ends.back.ip() && to.port() >= 1024;
                if !fits || !allowed || named != Some(to.port()) {
                    return no(format!("the server is dialled at {to}, it said {named:?}"));
                }
                self.server_asked = false;
            }
        }
        let listens = [&pinhole.client, &pinhole.server].map(|leg| matches!(leg, Leg::Listen { .. }));
        self.holes.retain(|hole| {
            let used = |asked: &Asked| matches!(asked.kind, Kind::Transfer { hole: Some(id), .. } if id == hole.id);
            !matches!(hole.state, State::Ended(_) | State::Closed)
                || self.asked.iter().any(used)
                || self.armed == Some(hole.id)
        });
        self.holes.push(Known { id: pinhole.id, listens, ports: [None; 2], state: State::Opening });
        let open = self.holes.iter().filter(|hole| !matches!(hole.state, State::Ended(_) | State::Closed)).count();
        if open > MAX_HOLES { no("pinholes without a bound") } else { Ok(()) }
    }

    pub(super) fn tells_server(&mut self, line: &[u8]) -> Verdict {
        let ends = self.cast.ends;
        let negotiated = match wire::verb(line).as_str() {
            "PASV" | "EPSV" if line == b"EPSV ALL" => return Ok(()),
            "PASV" | "EPSV" => {
                let allowed = line == b"EPSV" || (line == b"PASV" && ends.server.ip().is_ipv4());
                if !allowed {
                    return no("PASV or EPSV is not in its strict form");
                }
                self.may_ask()?;
                self.server_asked = true;
                return Ok(());
            }
            "PORT" | "EPRT" => {
                let argument = wire::argument(line);
                if line.starts_with(b"PORT ") { wire::port(&argument) } else { wire::eprt(&argument) }
            }
            "LPRT" | "LPSV" | "SPSV" | "CPSV" | "AUTH" | "PROT" => return no("what the gate cannot read passes"),
            _ => {
                let Some(said) = self.client_line.clone() else { return no("a line that no client said") };
                if said != line {
                    return no("the client's line was changed");
                }
                return self.passes();
            }
        };
        let Some(at) = negotiated else { return no("PORT or EPRT is not in its strict form") };
        let open = self.holes.iter().any(|hole| hole.state == State::Open && hole.ports[1] == Some(at.port()));
        if at.ip() != ends.back.ip() || !open {
            return no(format!("the server is told {at}, which is no open pinhole"));
        }
        Ok(())
    }

    /// The server is asked for a port only when it owes nothing: else what it owes could pass for the answer.
    fn may_ask(&self) -> Verdict {
        if self.from_server.is_inside() {
            return no("the server is asked for a port in the middle of a reply");
        }
        // Who knows what a wild server owes? An ABOR may have no reply of its own.
        let is_owed = |asked: &&Asked| asked.forwarded && asked.kind != Kind::Abort;
        match self.asked.iter().find(is_owed).filter(|_| self.manner != Manner::Wild && !self.over) {
            Some(owed) => no(format!("the server is asked for a port, and owes the answer to {owed:?}")),
            None => Ok(()),
        }
    }

    fn passes(&mut self) -> Verdict {
        let Some(last) = self.asked.back_mut() else { return no("nothing was asked") };
        last.forwarded = true;
        let Kind::Transfer { hole, .. } = &mut last.kind else { return Ok(()) };
        self.transfers += 1;
        *hole = self.armed.take();
        let any = self.manner == Manner::Wild && self.holes.iter().any(|hole| hole.state != State::Closed);
        if hole.is_none() && !self.over && !any { no("a transfer passes and nothing was negotiated") } else { Ok(()) }
    }
}

/// The port in a 227 or 229 of a simulated server: the last one that it names.
fn named_port(text: &[u8]) -> Option<u16> {
    let text = String::from_utf8_lossy(text);
    text.lines().rev().find_map(|line| {
        if let Some((_, rest)) = line.split_once("|||") {
            return rest.split('|').next()?.parse().ok();
        }
        let mut numbers = line
            .rsplit(|c: char| !(c.is_ascii_digit() || c == ','))
            .find(|word| word.split(',').count() == 6)?
            .rsplit(',');
        let (low, high): (u16, u16) = (numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?);
        Some(high * 256 + low)
    })
}
