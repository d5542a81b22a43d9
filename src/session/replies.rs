//! What a server says.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::data::{Held, Offer};
use super::event::{Event, Mode};
use super::pending::Expected;
use super::pinhole::Leg;
use super::refusal::Refusal;
use super::{Action, CloseReason, Control, Session};
use crate::addr::Side;
use crate::ftp::command::loggable;
use crate::ftp::host_port;
use crate::ftp::reply::{self, Code, Part};

/// How long the server has to close the connection once it said that it will.
const LEAVE: Duration = Duration::from_secs(5);
/// How long the end of a transfer is held for a data connection that has yet to reach the client.
const HOLD: Duration = Duration::from_secs(2);
/// The longest reply that is looked at as a whole, in lines and in bytes.
const MAX_LINES: usize = 64;
const MAX_BYTES: usize = 16 * 1024;
/// Features that do not hold through the gate.
const HIDDEN: [&[u8]; 10] = [b"AUTH", b"PBSZ", b"PROT", b"CCC", b"ADAT", b"CPSV", b"SSCN", b"LPRT", b"LPSV", b"SPSV"];

impl Session {
    pub(super) fn server_line(&mut self, now: Instant, line: Vec<u8>) {
        let part = self.replies.next_part(&line);
        let greeting = matches!(self.control, Control::Greeting { .. });
        if let Part::First(code) | Part::Only(code) = part {
            self.answering = self.pending.position(code);
            if is_passive(code) && self.expected() != Some(&Expected::Passive) {
                self.report(Event::Refused { refusal: Refusal::UnaskedPassiveReply, line: loggable(&line) });
                if greeting {
                    return self.close_with_421(now, CloseReason::NotFtp);
                }
            }
        }
        match (part, self.expected()) {
            (Part::Stray, _) if greeting => return self.close_with_421(now, CloseReason::NotFtp),
            (Part::First(_) | Part::Middle(_) | Part::Last(_) | Part::Only(_), Some(Expected::Passive)) => {
                self.collect(now, line);
            }
            (Part::First(code) | Part::Middle(code) | Part::Last(code) | Part::Only(code), _) if is_passive(code) => {}
            (
                Part::First(code) | Part::Middle(code) | Part::Last(code) | Part::Only(code),
                Some(Expected::Transfer { .. }),
            ) if code.is_success() && (self.data.awaits_server() || !self.collected.is_empty()) => {
                self.collect(now, line);
            }
            (Part::Middle(_), Some(Expected::Features)) if is_hidden(&line) => {}
            _ => self.forward(Side::Client, line),
        }
        match part.ends() {
            // Its data connection is on its way to the client, who may give up when told of the end before it came.
            Some(code) if self.data.awaits_server() && code.is_success() && !self.collected.is_empty() => {
                self.held = Some((code, now + HOLD));
            }
            Some(code) => self.reply_ended(now, code),
            None => {}
        }
    }

    /// Lets a held reply go.
    pub(super) fn release(&mut self, now: Instant) {
        if let Some((code, _)) = self.held.take() {
            self.reply_ended(now, code);
        }
    }

    fn expected(&self) -> Option<&Expected> {
        self.answering
            .and_then(|index| self.pending.get(index))
            .filter(|expected| !matches!(expected, Expected::Ours(_)))
    }

    fn collect(&mut self, now: Instant, line: Vec<u8>) {
        let bytes: usize = self.collected.iter().map(Vec::len).sum();
        if self.collected.len() >= MAX_LINES || bytes + line.len() > MAX_BYTES {
            self.collected = Vec::new();
            return self.close_with_421(now, CloseReason::BadServer);
        }
        self.collected.push(line);
    }

    fn reply_ended(&mut self, now: Instant, code: Code) {
        if self.control == Control::Closed {
            return;
        }
        let known = self.expected().is_some();
        let index = self.answering.take().filter(|_| known);
        let lines = std::mem::take(&mut self.collected);
        if code.is_preliminary() {
            lines.into_iter().for_each(|line| self.forward(Side::Client, line));
            if let Some(index) = index {
                self.pending.begun(index);
                self.data.begun();
            }
            return;
        }
        let answered = index.and_then(|index| self.pending.take(index));
        self.answered(now, answered, code, lines);
        if code.number() == 421 {
            self.pending.clear();
            self.control = Control::Leaving { until: now + LEAVE };
        }
        self.answer_ours();
        self.end_if_drained(now);
    }

    fn answered(&mut self, now: Instant, command: Option<Expected>, code: Code, lines: Vec<Vec<u8>>) {
        // A 227 or 229 that nobody asked for was swallowed; the command that it answered needs another answer.
        let swallowed = is_passive(code) && command != Some(Expected::Passive);
        if swallowed && command.is_some() {
            self.forward(Side::Client, Refusal::UnaskedPassiveReply.reply().into_bytes());
        }
        let success = code.is_success() && !swallowed;
        match command {
            Some(Expected::Greeting) => {
                self.control =
                    if code.is_success() { Control::Relaying } else { Control::Leaving { until: now + LEAVE } };
            }
            Some(Expected::Passive) if is_passive(code) => self.passive_reply(code, lines),
            Some(Expected::Passive) => {
                self.data.settled();
                lines.into_iter().for_each(|line| self.forward(Side::Client, line));
            }
            Some(Expected::Active(id)) => self.offer_answered(id, success),
            Some(Expected::Transfer { .. }) => {
                lines.into_iter().for_each(|line| self.forward(Side::Client, line));
                self.transfer_answered(now, code);
            }
            Some(Expected::EpsvAll) => self.epsv_all &= success,
            Some(Expected::Quit) if success => self.control = Control::Leaving { until: now + LEAVE },
            Some(
                Expected::Plain
                | Expected::Abort
                | Expected::Status
                | Expected::Features
                | Expected::Quit
                | Expected::Ours(_),
            )
            | None => {}
        }
    }

    /// 227 or 229 to an outstanding PASV or EPSV: the pinhole opens before the client hears of it.
    fn passive_reply(&mut self, code: Code, lines: Vec<Vec<u8>>) {
        let Some(offer) = self.data.offer() else { return };
        let texts: Vec<&[u8]> = lines.iter().map(|line| reply::text(line, code)).collect();
        let said = lines.last().cloned().unwrap_or_default();
        match self.server_port(code, &texts) {
            Ok(port) => {
                let Some(inbound) = self.rule.inbound.clone() else {
                    return self.refuse_passive(Refusal::PassiveNotAllowed, &said);
                };
                let client =
                    Leg::Listen { at: self.ends.front.ip(), ports: inbound.gate_ports, from: self.ends.client.ip() };
                let server = Leg::Dial {
                    to: SocketAddr::new(self.ends.server.ip(), port),
                    from: self.ends.back.ip(),
                    from_port: None,
                };
                self.open_pinhole(Mode::Passive, client, server, Held::Reply { offer, said });
            }
            Err(refusal) => self.refuse_passive(refusal, &said),
        }
    }

    /// The port that the server names, where the rule allows it. Its address is not trusted: data goes to the peer of
    /// the control connection.
    fn server_port(&mut self, code: Code, texts: &[&[u8]]) -> Result<u16, Refusal> {
        let (named, port) = if code.number() == 227 {
            let at = host_port::parse_227(texts).map_err(Refusal::MalformedReply)?;
            (Some(at.ip().to_owned().into()), at.port())
        } else {
            let at = host_port::parse_229(texts).map_err(Refusal::MalformedReply)?;
            (at.address, at.port)
        };
        let used = self.ends.server.ip();
        if let Some(named) = named.filter(|named| *named != used) {
            self.report(Event::ForeignServerAddress { named, used });
        }
        match &self.rule.inbound {
            None => Err(Refusal::PassiveNotAllowed),
            Some(inbound) if inbound.server_ports.contains(port) => Ok(port),
            Some(inbound) => Err(Refusal::ServerPort { port, allowed: inbound.server_ports.clone() }),
        }
    }

    pub(super) fn refuse_passive(&mut self, refusal: Refusal, said: &[u8]) {
        self.data.settled();
        let reply = refusal.reply();
        self.report(Event::Refused { refusal, line: loggable(said) });
        self.forward(Side::Client, reply.into_bytes());
    }

    /// The reply that was held can go out: its pinhole stands at `port`.
    pub(super) fn announce_to_client(&mut self, port: u16, offer: Offer, said: &[u8]) {
        let told = match (offer, self.announced_at(port)) {
            (Offer::Pasv, SocketAddr::V4(at)) => format!("227 {}", host_port::write_227(at)),
            (Offer::Epsv, _) | (_, SocketAddr::V6(_)) => format!("229 {}", host_port::write_229(port)),
        };
        self.rewritten(Side::Server, said, told.as_bytes());
        self.forward(Side::Client, told.into_bytes());
    }

    pub(super) fn end_if_drained(&mut self, now: Instant) {
        if self.draining && !self.data.is_busy() && self.control != Control::Closed {
            self.close_with_421(now, CloseReason::Shutdown);
        }
    }

    pub(super) fn close_pinhole(&mut self, id: super::PinholeId) {
        self.act(Action::ClosePinhole(id));
    }
}

fn is_passive(code: Code) -> bool {
    matches!(code.number(), 227 | 229)
}

fn is_hidden(line: &[u8]) -> bool {
    let line = line.trim_ascii().to_ascii_uppercase();
    HIDDEN.iter().any(|feature| {
        line.strip_prefix(*feature).is_some_and(|rest| rest.first().is_none_or(|byte| !byte.is_ascii_alphanumeric()))
    })
}
