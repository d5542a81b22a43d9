//! What a server says.

use std::time::{Duration, Instant};

use super::event::Event;
use super::login::Step;
use super::pending::{Expected, MAX_PENDING};
use super::refusal::Refusal;
use super::{Action, CloseReason, Control, Session};
use crate::addr::Side;
use crate::ftp::redact::loggable_reply;
use crate::ftp::reply::{Code, Part, without_blank};

/// How long the server has to close the connection once it said that it will.
pub(super) const LEAVE: Duration = Duration::from_secs(5);
/// The longest reply that is looked at as a whole, in lines and in bytes.
const MAX_LINES: usize = 64;
const MAX_BYTES: usize = 8 * 1024;
/// Bytes that such a reply takes up at most.
pub(super) const MAX_HELD: usize = MAX_BYTES + MAX_LINES * size_of::<Vec<u8>>();
/// Whose the reply is that has begun.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Answering {
    /// It passes, and answers no command.
    #[default]
    Nobody,
    /// The command at this place of the queue.
    Command(usize),
    /// It is one too many, and goes no further.
    Dropped,
}

impl Answering {
    const fn index(self) -> Option<usize> {
        match self {
            Self::Command(index) => Some(index),
            Self::Nobody | Self::Dropped => None,
        }
    }

    const fn is_dropped(self) -> bool {
        matches!(self, Self::Dropped)
    }
}

impl Session {
    pub(super) fn server_line(&mut self, now: Instant, line: Vec<u8>) {
        let mut part = self.replies.next_part(&line);
        if part == Part::Stray
            && let Some(code) = without_blank(&line).filter(|code| self.pending.is_answer(*code))
        {
            part = Part::Only(code);
        }
        let greeting = matches!(self.control, Control::Greeting { .. });
        if is_other_protocol(part, &line) {
            return self.close_with_421(now, CloseReason::NotFtp);
        }
        if let Part::First(code) | Part::Only(code) = part {
            self.find_command(now, code, &line);
            if greeting && is_passive(code) {
                return self.close_with_421(now, CloseReason::NotFtp);
            }
        }
        self.doubt_end(now, part);
        if self.note_end(now, part, &line) {
            return;
        }
        match (part, self.expected()) {
            (Part::Stray, _) if greeting => return self.close_with_421(now, CloseReason::NotFtp),
            // "227(10,0,0,1,4,1)": no reply, but clients that look at three digits only would take it for one.
            (Part::Stray, _) if matches!(line.as_slice(), [b'2', b'2', b'7' | b'9', ..]) => {
                self.report(Event::Refused { refusal: Refusal::UnaskedPassiveReply, line: loggable_reply(&line) });
            }
            (
                Part::First(_) | Part::Middle(_) | Part::Last(_) | Part::Only(_),
                Some(Expected::Passive | Expected::Active(_) | Expected::Directory),
            ) => self.collect(now, line),
            // It answers nothing, or nothing that it can answer.
            (Part::First(_) | Part::Middle(_) | Part::Last(_) | Part::Only(_), _) if self.answering.is_dropped() => {}
            (Part::First(code) | Part::Middle(code) | Part::Last(code) | Part::Only(code), _) if is_passive(code) => {}
            (Part::First(code) | Part::Only(code), Some(Expected::Transfer { .. })) if self.may_change(code) => {
                self.collect(now, line);
            }
            (Part::Middle(_) | Part::Last(_), Some(Expected::Transfer { .. })) if !self.collected.is_empty() => {
                self.collect(now, line);
            }
            (
                Part::First(code) | Part::Middle(code) | Part::Last(code) | Part::Only(code),
                Some(Expected::Greeting),
            ) if self.logs_in() && (code.is_success() || code.is_preliminary()) => {}
            (_, Some(Expected::Features)) => self.feature_line(part, line),
            _ => self.forward(Side::Client, line),
        }
        if let (Some(code), Some(Expected::Transfer { .. })) = (part.ends(), self.expected())
            && (code.is_preliminary() || code.is_success())
        {
            self.dial_client();
        }
        match part.ends() {
            // Its data connection is on its way to the client, who may give up when told of the end before it came.
            Some(code)
                if matches!(self.expected(), Some(Expected::Transfer { .. }))
                    && self.awaits_end()
                    && code.is_success()
                    && !self.collected.is_empty() =>
            {
                self.hold(now, code);
            }
            Some(code) => self.reply_ended(now, code),
            None => {}
        }
    }

    /// Whether a transfer's reply with this code is held back as a whole: the client is told later, or something else.
    fn may_change(&self, code: Code) -> bool {
        let is_early = code.is_success() && (self.awaits_end() || self.data.is_lost());
        // The server knows only that there was no connection; the gate may know why.
        let is_known_better = matches!(code.number(), 425 | 426) && self.data.excuse().is_some();
        // The gate has cut the transfer, and says so itself.
        let is_limited = !code.is_preliminary() && code.number() != 421 && self.data.limited().is_some();
        is_early || is_known_better || is_limited
    }

    /// Whether the client waits for the answer to a USER that is still to be sent, and not for the greeting.
    fn logs_in(&self) -> bool {
        self.called.as_ref().is_some_and(|called| called.login.is_some())
    }

    /// Sends the USER that the client waits for the answer to.
    fn log_in(&mut self, now: Instant) {
        let Some(login) = self.called.as_mut().and_then(|called| called.login.take()) else { return };
        let user = login.get(b"USER ".len()..).unwrap_or_default().to_vec();
        match self.user_named(&user) {
            Ok(()) => {
                self.await_login(now, Step::User);
                self.forward(Side::Server, login);
            }
            Err(refusal) => self.refuse(now, refusal, &login),
        }
    }

    /// Finds the command that a reply, now beginning, is for.
    pub(super) fn find_command(&mut self, now: Instant, code: Code, line: &[u8]) {
        // Each turn passes over one command at least.
        for _ in 0..MAX_PENDING {
            if !self.pending.is_past_abort(now, code) {
                break;
            }
            // What we have to say to commands before that one comes before its reply.
            let passed = self.pending.pass_over(now);
            self.passed_over(now, passed);
            self.send_ours(now);
        }
        if self.pending.is_past_noop(code) {
            self.pending.pass_noops(now);
            self.send_ours(now);
        }
        let end = self.data.sign_of_end(code);
        let mut position = self.pending.position(code, end);
        let stands_still = !self.data.is_moving();
        if position.is_some_and(|index| self.pending.is_past_transfer(index, stands_still)) {
            let passed = self.pending.pass_over(now);
            self.passed_over(now, passed);
            self.send_ours(now);
            position = self.pending.position(code, end);
        }
        self.answering = match position {
            Some(index) => Answering::Command(index - self.send_ours_before(index)),
            None if code.number() == 421 || self.pending.may_be_late(code) => Answering::Nobody,
            None => Answering::Dropped,
        };
        let refusal = if is_passive(code) { Refusal::UnaskedPassiveReply } else { Refusal::UnaskedReply };
        let is_fit = self.expected() == Some(&Expected::Passive) || !is_passive(code);
        if self.answering.is_dropped() || !is_fit {
            self.report(Event::Refused { refusal, line: loggable_reply(line) });
        }
    }

    /// What we have to say to commands ahead of the one whose reply comes is said first. Tells how many there were.
    fn send_ours_before(&mut self, index: usize) -> usize {
        let ours = self.pending.take_ours_before(index);
        let count = ours.len();
        ours.into_iter().for_each(|reply| self.forward(Side::Client, reply.into_bytes()));
        count
    }

    /// Lets a held reply go, where its data connection has come, or will not.
    pub(super) fn release_if_due(&mut self, now: Instant) {
        if !self.awaits_end() {
            self.release(now);
        }
    }

    /// Lets a held reply go at the end of the session, where its data connection can come no more.
    pub(super) fn release_at_end(&mut self, now: Instant) {
        if self.held.is_some() && self.data.awaits_client() {
            self.data.lose();
        }
        self.release(now);
    }

    /// Lets a held reply go.
    pub(super) fn release(&mut self, now: Instant) {
        if let Some((code, _)) = self.held.take() {
            self.reply_ended(now, code);
        }
    }

    pub(super) fn expected(&self) -> Option<&Expected> {
        self.answering.index().and_then(|index| self.pending.get(index))
    }

    /// Whether the client has seen the beginning of a reply and not its end.
    pub(super) fn cut_reply(&self) -> Option<Code> {
        let shown = self.collected.is_empty() && !self.answering.is_dropped();
        self.replies.inside().filter(|code| shown && !is_passive(*code))
    }

    /// A reply that was looked at as a whole passes. No line of it may name a port: it may have ended by another code.
    pub(super) fn forward_reply(&mut self, lines: Vec<Vec<u8>>) {
        let names_port = |line: &Vec<u8>| matches!(line.as_slice(), [b'2', b'2', b'7' | b'9', ..]);
        let told = lines.into_iter().filter(|line| !names_port(line));
        told.for_each(|line| self.forward(Side::Client, line));
    }

    fn collect(&mut self, now: Instant, line: Vec<u8>) {
        let bytes: usize = self.collected.iter().map(Vec::len).sum();
        if self.collected.len() >= MAX_LINES || bytes + line.len() > MAX_BYTES {
            // The client has seen nothing of it.
            self.collected = Vec::new();
            self.answering = Answering::Dropped;
            return self.close_with_421(now, CloseReason::BadServer);
        }
        self.collected.push(line);
    }

    pub(super) fn reply_ended(&mut self, now: Instant, code: Code) {
        if self.control == Control::Closed {
            return;
        }
        let index = std::mem::take(&mut self.answering).index();
        let lines = std::mem::take(&mut self.collected);
        if code.is_preliminary() {
            if index.and_then(|index| self.pending.get(index)) != Some(&Expected::Directory) {
                self.forward_reply(lines);
            }
            if let Some(index) = index {
                self.pending.begun(index);
                self.data.begun();
            }
            return self.answer_ours(now);
        }
        let unordered = self.pending.is_unordered() || index.is_some_and(|index| index > 0);
        let answered = index.and_then(|index| self.pending.take(now, index, code));
        self.answered(now, answered, code, lines, unordered);
        // Some say it to a command and go on.
        self.said_421 = code.number() == 421;
        self.answer_ours(now);
        self.end_if_drained(now);
    }

    fn answered(&mut self, now: Instant, command: Option<Expected>, code: Code, lines: Vec<Vec<u8>>, unordered: bool) {
        // A 227 or 229 that nobody asked for was swallowed; the command that it answered needs another answer.
        let swallowed = is_passive(code) && command != Some(Expected::Passive);
        if swallowed && command.as_ref().is_some_and(|command| *command != Expected::Directory) {
            self.forward(Side::Client, Refusal::UnaskedPassiveReply.reply().into_bytes());
        }
        let success = code.is_success() && !swallowed;
        match command {
            Some(Expected::Greeting) => {
                if !code.is_success() {
                    self.control = Control::Leaving { until: now + LEAVE };
                    return;
                }
                self.control = Control::Relaying;
                self.is_greeted = true;
                self.login_begins(now);
                self.log_in(now);
            }
            Some(Expected::Login(step)) => self.login_answered(now, step, code),
            Some(Expected::Moved) => self.moved(now, code, unordered),
            Some(Expected::Directory) => {
                self.directory_told(code, &lines);
                if code.number() == 421 {
                    self.forward_reply(lines);
                }
            }
            Some(Expected::LoggedOut) => {
                self.directory.settled();
                match (success, unordered) {
                    (true, false) => self.logged_out(now),
                    (true, true) => self.logged_out_perhaps(now),
                    (false, _) => {}
                }
            }
            Some(Expected::Passive) => self.asked(now, code, lines),
            Some(Expected::Active(id)) => self.offered(now, id, code, lines),
            Some(Expected::Transfer { .. }) => {
                self.tell_end(code, lines);
                self.transfer_answered(now, code);
            }
            Some(Expected::EpsvAll) => self.epsv_all &= success,
            Some(Expected::Quit) if success => {
                self.control = Control::Leaving { until: now + LEAVE };
            }
            Some(
                Expected::Plain { .. }
                | Expected::Abort
                | Expected::Status
                | Expected::Features
                | Expected::Quit
                | Expected::Ours(_),
            )
            | None => {}
        }
    }

    /// Tells the client of the end of a transfer: as the server does, or better where the gate knows better. What has begun to
    /// pass cannot be taken back; then there are no lines.
    fn tell_end(&mut self, code: Code, lines: Vec<Vec<u8>>) {
        if lines.is_empty() {
            return;
        }
        let told = if let Some(limit) = self.data.limited() {
            limit.reply().to_owned()
        } else if code.is_success() && self.data.is_lost() {
            // The server has sent what it had, to nobody.
            self.data.lose();
            format!("425 {}", self.data.excuse().unwrap_or("Can't open data connection."))
        } else if !code.is_success()
            && let Some(excuse) = self.data.excuse()
        {
            format!("{} {excuse}", code.number())
        } else {
            return self.forward_reply(lines);
        };
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

/// Whether a server speaks something else: 354 asks for the text of a mail, and no reply of FTP begins as HTTP's do.
fn is_other_protocol(part: Part, line: &[u8]) -> bool {
    match part {
        Part::First(code) | Part::Only(code) => code.number() == 354,
        Part::Stray => line.starts_with(b"HTTP/"),
        Part::Middle(_) | Part::Last(_) => false,
    }
}

pub(super) fn is_passive(code: Code) -> bool {
    matches!(code.number(), 227 | 229)
}
