//! Replies of several lines whose last line has another code than the first: `553-`, `553-`, `150 Opening`.
//!
//! Within a reply any text may stand, such as a line that looks like a reply of its own. Therefore it is the silence behind
//! such a line that tells: a server that has more to say goes on at once.

use std::time::{Duration, Instant};

use super::Session;
use super::event::Event;
use super::refusal::Refusal;
use super::replies::is_passive;
use crate::ftp::redact::loggable_reply;
use crate::ftp::reply::{Code, Part};

/// How long the server must be silent behind a line that may be the end of a reply.
const SILENCE: Duration = Duration::from_secs(1);
/// How many such lines in a row are kept in mind.
const MAX_ENDS: usize = 4;

/// The last lines of the reply that has begun, which look like ends of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ends {
    codes: [Option<Code>; MAX_ENDS],
    until: Instant,
}

impl Ends {
    const fn new(until: Instant) -> Self {
        Self { codes: [None; MAX_ENDS], until }
    }

    pub(super) const fn deadline(&self) -> Instant {
        self.until
    }

    fn push(&mut self, now: Instant, code: Code) {
        self.until = now + SILENCE;
        match self.codes.iter_mut().find(|place| place.is_none()) {
            Some(place) => *place = Some(code),
            None => {
                self.codes.rotate_left(1);
                self.codes[MAX_ENDS - 1] = Some(code);
            }
        }
    }
}

impl Session {
    /// Takes note of a line within a reply that may be its end; whether the line goes no further.
    pub(super) fn note_end(&mut self, now: Instant, part: Part, line: &[u8]) -> bool {
        let code = if matches!(part, Part::Middle(_)) { self.replies.other_end(line) } else { None };
        let Some(code) = code else {
            // The reply goes on, or has ended as it should.
            self.block_ends = None;
            return false;
        };
        let has_ended = self.block_ends.is_some();
        if has_ended && is_passive(code) {
            // No PASV is asked for in the middle of a reply.
            self.report(Event::Refused { refusal: Refusal::UnaskedPassiveReply, line: loggable_reply(line) });
            return true;
        }
        if has_ended || self.expected().is_some_and(|expected| expected.may_end_by(code.number())) {
            self.block_ends.get_or_insert_with(|| Box::new(Ends::new(now))).push(now, code);
        }
        false
    }

    /// The server is not being read, so that its silence means nothing.
    pub(super) fn unheard_in_block(&mut self, now: Instant) {
        if let Some(ends) = &mut self.block_ends {
            ends.until = now + SILENCE;
        }
    }

    /// The server has been silent: the reply ended by another code.
    pub(super) fn end_block_if_due(&mut self, now: Instant) {
        if self.block_ends.as_ref().is_some_and(|ends| ends.until <= now) {
            self.end_block(now);
        }
    }

    /// The server says no more of what may have ended already. The client has seen the lines.
    pub(super) fn end_block(&mut self, now: Instant) {
        let Some(ends) = self.block_ends.take() else { return };
        let began = self.replies.inside().map_or(0, Code::number);
        self.replies.end();
        let mut codes = ends.codes.into_iter().flatten();
        let Some(first) = codes.next() else { return };
        let line = format!("{began}- ... {}", first.number());
        self.report(Event::Refused { refusal: Refusal::ReplyEnd, line });
        self.doubt_end(now, Part::Stray);
        self.reply_ended(now, first);
        for code in codes {
            self.find_command(now, code, format!("{} ...", code.number()).as_bytes());
            self.reply_ended(now, code);
        }
    }
}
