//! What a client says.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use super::event::Event;
use super::negotiation::Wish;
use super::pending::Expected;
use super::refusal::Refusal;
use super::{Action, CloseReason, MAX_FAULTS, Session};
use crate::addr::Side;
use crate::ftp::command::{Command, NotACommand, Verb, loggable};
use crate::ftp::host_port::{self, EpsvArgument, Family};
use crate::ftp::line::{Line, LineFault};
use crate::policy::ServerMode;

impl Session {
    pub(super) fn client_line(&mut self, now: Instant, line: &Line) {
        let command = match Command::parse(&line.bytes) {
            Ok(command) => command,
            Err(NotACommand::Empty) => return self.refuse(now, Refusal::EmptyLine, &line.bytes),
            Err(NotACommand::Garbage) => return self.fault(now, Refusal::Garbage, &line.bytes),
            Err(NotACommand::Http) => return self.close_with_421(now, CloseReason::HttpClient),
        };
        match self.command(now, command, line) {
            Ok(()) => {}
            Err(refusal) => self.refuse(now, refusal, &line.bytes),
        }
    }

    fn command(&mut self, now: Instant, command: Command<'_>, line: &Line) -> Result<(), Refusal> {
        match command.verb {
            Verb::Pasv => return self.pasv(now, &line.bytes),
            Verb::Epsv => return self.epsv(now, command.argument, &line.bytes),
            Verb::Port | Verb::Eprt => return self.active(now, command, &line.bytes),
            Verb::OtherNegotiation => return Err(Refusal::UnknownNegotiation),
            Verb::Security => return Err(Refusal::Encryption),
            Verb::Transfer(way) => {
                if !self.begin_transfer(now, way, loggable(&line.bytes)) {
                    return Err(Refusal::NothingNegotiated);
                }
                self.expect(now, Expected::Transfer { begun: false });
            }
            Verb::Abor => self.expect(now, Expected::Abort),
            Verb::Stat => self.expect(now, Expected::Status),
            Verb::Feat => self.expect(now, Expected::Features),
            Verb::Quit => self.expect(now, Expected::Quit),
            Verb::Rein => {
                self.epsv_all = false;
                self.close_stale(now, None);
                self.expect(now, Expected::plain());
            }
            Verb::Secret | Verb::User | Verb::Other => self.expect(now, Expected::plain()),
        }
        self.act(Action::Forward {
            to: Side::Server,
            line: line.bytes.clone(),
            interrupt: line.interrupt && command.verb == Verb::Abor,
        });
        Ok(())
    }

    fn pasv(&mut self, now: Instant, said: &[u8]) -> Result<(), Refusal> {
        if self.epsv_all {
            return Err(Refusal::EpsvAll);
        }
        if self.rule.inbound.is_none() {
            return Err(Refusal::PassiveNotAllowed);
        }
        if !self.announced.is_ipv4() {
            return Err(Refusal::WrongFamily { v6: true });
        }
        self.negotiate(now, Wish::Connects { extended: false }, said)
    }

    fn epsv(&mut self, now: Instant, argument: &[u8], said: &[u8]) -> Result<(), Refusal> {
        let family = match host_port::parse_epsv_argument(argument).map_err(Refusal::MalformedRequest)? {
            EpsvArgument::All if self.rule.server_mode == ServerMode::Active => {
                // The server is not asked by EPSV, and must not be promised that it will be.
                self.epsv_all = true;
                self.answer(now, "200 EPSV ALL command successful.".to_owned());
                return Ok(());
            }
            EpsvArgument::All => {
                // In force at once, for what the client sends next may be in the same segment; a refusal lifts it.
                self.epsv_all = true;
                self.expect(now, Expected::EpsvAll);
                self.forward(Side::Server, b"EPSV ALL".to_vec());
                return Ok(());
            }
            EpsvArgument::Family(family) => Some(family),
            EpsvArgument::None => None,
        };
        if self.rule.inbound.is_none() {
            return Err(Refusal::PassiveNotAllowed);
        }
        let v6 = self.ends.client.ip().is_ipv6();
        if family.is_some_and(|family| (family == Family::V6) != v6) {
            return Err(Refusal::WrongFamily { v6 });
        }
        self.negotiate(now, Wish::Connects { extended: true }, said)
    }

    fn active(&mut self, now: Instant, command: Command<'_>, said: &[u8]) -> Result<(), Refusal> {
        if self.epsv_all {
            return Err(Refusal::EpsvAll);
        }
        let Some(outbound) = self.rule.outbound.clone() else { return Err(Refusal::ActiveNotAllowed) };
        let named: SocketAddr = if command.verb == Verb::Port {
            host_port::parse_port(command.argument).map_err(Refusal::MalformedRequest)?.into()
        } else {
            host_port::parse_eprt(command.argument).map_err(Refusal::MalformedRequest)?
        };
        let peer = self.ends.client.ip();
        if named.is_ipv6() != peer.is_ipv6() {
            return Err(Refusal::WrongFamily { v6: peer.is_ipv6() });
        }
        if named.ip() != peer {
            return Err(Refusal::ForeignAddress { named: named.ip(), peer });
        }
        if !outbound.client_ports.contains(named.port()) {
            return Err(Refusal::ClientPort { port: named.port(), allowed: outbound.client_ports });
        }
        let wish = Wish::Waits { at: named, extended: command.verb == Verb::Eprt };
        self.negotiate(now, wish, said)
    }

    pub(super) fn bad_line(&mut self, now: Instant, side: Side, fault: LineFault) {
        self.report(Event::BadLine { side, fault });
        match (side, fault) {
            (Side::Server, _) => self.close_with_421(now, CloseReason::BadServer),
            (Side::Client, LineFault::Endless) => self.close_with_421(now, CloseReason::BadClient),
            (Side::Client, LineFault::Tls) => self.close_with_421(now, CloseReason::TlsClient),
            (Side::Client, LineFault::TooLong) => self.fault(now, Refusal::LineTooLong, b""),
            (Side::Client, LineFault::Nul | LineFault::BareCr) => self.fault(now, Refusal::Garbage, b""),
        }
    }

    /// A line that is no FTP: a few are borne.
    fn fault(&mut self, now: Instant, refusal: Refusal, line: &[u8]) {
        self.faults += 1;
        self.refuse(now, refusal, line);
        if self.faults >= MAX_FAULTS {
            self.close_with_421(now, CloseReason::BadClient);
        }
    }

    /// Answers a command ourselves, once the earlier ones have their replies; the server never sees it.
    pub(super) fn refuse(&mut self, now: Instant, refusal: Refusal, line: &[u8]) {
        let reply = refusal.reply();
        self.report(Event::Refused { refusal, line: loggable(line) });
        self.answer(now, reply);
    }

    fn answer(&mut self, now: Instant, reply: String) {
        self.expect(now, Expected::Ours(reply));
        self.answer_ours(now);
        self.give_up_abort(now);
    }

    /// A command waits for its reply.
    pub(super) fn expect(&mut self, now: Instant, expected: Expected) {
        self.pending.push(now, expected);
    }

    /// An answer of our own is held for no longer by an ABOR that seems to have shared its transfer's reply.
    pub(super) fn give_up_abort(&mut self, now: Instant) {
        if !self.replies.is_inside() && self.pending.held_until().is_some_and(|until| until <= now) {
            self.pending.pass_over(now);
            self.send_ours(now);
        }
    }

    /// Sends the answers of our own whose turn it is, unless a reply of the server has begun.
    pub(super) fn answer_ours(&mut self, now: Instant) {
        if !self.replies.is_inside() {
            self.send_ours(now);
        }
    }

    pub(super) fn send_ours(&mut self, now: Instant) {
        while let Some(reply) = self.pending.take_ours(now) {
            self.forward(Side::Client, reply.into_bytes());
        }
    }

    pub(super) fn rewritten(&mut self, by: Side, said: &[u8], told: &[u8]) {
        if said == told {
            return;
        }
        self.report(Event::Rewritten { by, said: loggable(said), told: loggable(told) });
    }

    /// The address that the client is told, with this port.
    pub(super) const fn announced_at(&self, port: u16) -> SocketAddr {
        let ip: IpAddr = self.announced;
        SocketAddr::new(ip, port)
    }
}
