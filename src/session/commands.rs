//! What a client says.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use super::event::Event;
use super::login::Step;
use super::negotiation::Wish;
use super::pending::{Answers, Expected};
use super::refusal::Refusal;
use super::{Action, CloseReason, MAX_FAULTS, Session};
use crate::addr::Side;
use crate::ftp::buffer::hidden_command;
use crate::ftp::command::{Command, NotACommand, Verb, with_blank_behind_verb};
use crate::ftp::host_port::{self, EpsvArgument, Family};
use crate::ftp::line::{Line, LineFault};
use crate::ftp::redact::loggable;
use crate::policy::{ForeignAddress, ServerMode};

impl Session {
    pub(super) fn client_line(&mut self, now: Instant, line: &Line) {
        let plain = with_blank_behind_verb(&line.bytes).map(|bytes| Line { bytes, interrupt: line.interrupt });
        let line = plain.as_ref().unwrap_or(line);
        let command = match Command::parse(&line.bytes) {
            Ok(command) => command,
            Err(NotACommand::Empty) => return self.fault(now, Refusal::EmptyLine, &line.bytes),
            Err(NotACommand::Garbage) => return self.fault(now, Refusal::Garbage, &line.bytes),
            Err(NotACommand::Http) => return self.close_with_421(now, CloseReason::HttpClient),
            Err(NotACommand::Smtp) => return self.close_with_421(now, CloseReason::SmtpClient),
            Err(NotACommand::ProxyHeader) => return self.close_with_421(now, CloseReason::ProxyHeader),
        };
        if let Some(hidden) = hidden_command(&line.bytes) {
            // No fault: a long path may be meant.
            return self.refuse(now, Refusal::HiddenCommand(hidden), &line.bytes);
        }
        match self.command(now, command, line) {
            Ok(()) => {}
            Err(refusal) => self.refuse(now, refusal, &line.bytes),
        }
    }

    fn command(&mut self, now: Instant, command: Command<'_>, line: &Line) -> Result<(), Refusal> {
        self.permit(&command)?;
        match command.verb {
            Verb::Pasv => return self.pasv(now, &line.bytes),
            Verb::Epsv => return self.epsv(now, command.argument, &line.bytes),
            Verb::Port | Verb::Eprt => return self.active(now, command, &line.bytes),
            Verb::OtherNegotiation => return Err(Refusal::UnknownNegotiation),
            Verb::Security => return Err(Refusal::Encryption),
            Verb::Transfer(way) => {
                if !self.begin_transfer(now, way, &line.bytes) {
                    return Err(Refusal::NothingNegotiated);
                }
                self.expect(now, Expected::Transfer { begun: false });
            }
            Verb::Abor => self.expect(now, Expected::Abort),
            Verb::Stat => self.expect(now, Expected::Status),
            Verb::Feat => self.expect(now, Expected::Features),
            Verb::Algs => {
                let reply = self.translated(command.argument);
                self.answer(now, reply.to_owned());
                return Ok(());
            }
            Verb::Quit => self.expect(now, Expected::Quit),
            Verb::Rein => {
                self.epsv_all = false;
                self.close_stale(now, None);
                self.await_logout(now);
            }
            Verb::User => return self.user(now, command.argument, &line.bytes),
            Verb::Secret => {
                let is_account = command.name() == b"ACCT";
                self.await_login(now, if is_account { Step::Account } else { Step::Pass });
            }
            Verb::Change => {
                self.expect(now, Expected::Moved);
                if !self.rule.paths.is_empty() {
                    self.directory.settle(now);
                }
            }
            Verb::Open | Verb::Site | Verb::Noop | Verb::Other => {
                self.expect(now, Expected::plain(Answers::of(&command)));
            }
        }
        self.act(Action::Forward {
            to: Side::Server,
            line: line.bytes.clone(),
            interrupt: line.interrupt && command.verb == Verb::Abor,
        });
        Ok(())
    }

    fn user(&mut self, now: Instant, argument: &[u8], said: &[u8]) -> Result<(), Refusal> {
        let user = match &self.called {
            Some(called) => called.without_server(argument).to_vec(),
            None => argument.to_vec(),
        };
        self.user_named(&user)?;
        let told = if user == argument { said.to_vec() } else { [b"USER ", user.as_slice()].concat() };
        self.rewritten(Side::Client, said, &told);
        self.await_login(now, Step::User);
        self.forward(Side::Server, told);
        Ok(())
    }

    fn pasv(&mut self, now: Instant, said: &[u8]) -> Result<(), Refusal> {
        if self.epsv_all {
            return Err(Refusal::EpsvAll);
        }
        if self.rule.inbound.is_none() {
            return Err(Refusal::PassiveNotAllowed);
        }
        match self.announced {
            Some(IpAddr::V4(_)) => {}
            None if self.ends.client.ip().is_ipv4() => return Err(Refusal::AdvertiseUnknown),
            None | Some(IpAddr::V6(_)) => return Err(Refusal::WrongFamily { v6: true }),
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
        self.may_dial_client()?;
        let named: SocketAddr = if command.verb == Verb::Port {
            host_port::parse_port(command.argument).map_err(Refusal::MalformedRequest)?.into()
        } else {
            host_port::parse_eprt(command.argument).map_err(Refusal::MalformedRequest)?
        };
        let peer = self.ends.client.ip();
        if named.is_ipv6() != peer.is_ipv6() {
            return Err(Refusal::WrongFamily { v6: peer.is_ipv6() });
        }
        let used = if self.may_have_data(Side::Client, named.ip()) { named.ip() } else { peer };
        if named.ip() != used && self.rule.foreign_address.client == ForeignAddress::Refuse {
            return Err(Refusal::ForeignAddress { named: named.ip(), peer });
        }
        if !outbound.client_ports.contains(named.port()) {
            return Err(Refusal::ClientPort { port: named.port(), allowed: outbound.client_ports });
        }
        if named.ip() != used {
            self.report(Event::ForeignAddress { by: Side::Client, named: named.ip(), used });
        }
        let at = SocketAddr::new(used, named.port());
        let wish = Wish::Waits { at, extended: command.verb == Verb::Eprt };
        self.negotiate(now, wish, said)
    }

    pub(super) fn bad_line(&mut self, now: Instant, side: Side, fault: LineFault) {
        self.report(Event::BadLine { side, fault });
        match (side, fault) {
            (Side::Server, _) => self.close_with_421(now, CloseReason::BadServer),
            (Side::Client, LineFault::Endless) => self.close_with_421(now, CloseReason::BadClient),
            (Side::Client, LineFault::Tls) => self.close_with_421(now, CloseReason::TlsClient),
            (Side::Client, LineFault::ProxyHeader) => self.close_with_421(now, CloseReason::ProxyHeader),
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
        let passed = self.pending.push(now, expected);
        self.passed_over(now, passed);
    }

    /// The time up to which an ABOR that may have shared its transfer's reply holds up what the gate itself answers or asks.
    pub(super) fn abort_deadline(&self) -> Option<Instant> {
        let until = self.pending.held_until(self.waits_for_turn(), !self.data.is_moving());
        until.filter(|_| !self.replies.is_inside() && self.held.is_none())
    }

    /// What the gate itself answers or asks is held up no longer by such an ABOR.
    pub(super) fn give_up_abort(&mut self, now: Instant) {
        if self.abort_deadline().is_some_and(|until| until <= now) {
            let passed = self.pending.give_up(now);
            self.passed_over(now, passed);
            self.send_ours(now);
        }
    }

    /// The answer to ALGS (RFC 6384 section 11): which commands are translated between IPv6 and IPv4.
    fn translated(&self, argument: &[u8]) -> &'static str {
        let translates = self.ends.client.ip().is_ipv6() && self.ends.server.ip().is_ipv4();
        match argument.to_ascii_uppercase().as_slice() {
            b"STATUS64" | b"ENABLE64" => {
                match (translates && self.rule.inbound.is_some(), self.rule.outbound.is_some()) {
                    (true, true) => "216 EPSVEPRT",
                    (true, false) => "216 EPSV",
                    (false, _) => "216 NONE",
                }
            }
            // Without it there would be no data connections at all.
            b"DISABLE64" if translates => "504 Translation cannot be turned off.",
            b"DISABLE64" => "216 NONE",
            b"" => "501 Say STATUS64, ENABLE64 or DISABLE64.",
            _ => "504 Only STATUS64, ENABLE64 and DISABLE64 are known.",
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
        if said != told {
            self.report(Event::Rewritten { by, said: said.to_vec(), told: told.to_vec() });
        }
    }
}
