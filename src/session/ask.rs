//! When the server may be asked for what only it knows and the gate acts on: a port (PASV, EPSV) and its directory (PWD).
//!
//! A server may print text of a client's choosing at the start of a line, as in a listing that STAT sends over the control
//! connection. A file name such as `213 x` then looks like the end of the reply, and the next one like the answer to
//! whatever is asked next. Therefore nothing is asked before every earlier reply has ended; and where the end of one is
//! in doubt, not before the server has been silent for a while, so that the rest of it is seen for what it is.

use std::time::{Duration, Instant};

use super::negotiation::Negotiation;
use super::pending::Expected;
use super::replies::is_passive;
use super::{Control, Session};
use crate::ftp::reply::Part;

/// How long the server must be silent after a reply whose end is in doubt. What is left of such a reply follows without a
/// pause, or with one as short as a network makes.
const QUIET: Duration = Duration::from_millis(100);

impl Session {
    /// Takes note of a line of the server's that may show, or leave open, that a reply has not ended where it seemed to.
    pub(super) fn doubt_end(&mut self, now: Instant, part: Part) {
        let in_doubt = match (part, self.expected()) {
            // Lines outside of any reply.
            (Part::Stray, _) => true,
            (Part::First(code) | Part::Only(code), expected) if is_passive(code) => {
                expected != Some(&Expected::Passive)
            }
            (Part::Last(_) | Part::Only(_), Some(Expected::Status)) => true,
            // Help texts, messages of directories.
            (Part::Last(_), Some(Expected::Plain { .. } | Expected::Moved)) => true,
            (Part::First(_) | Part::Middle(_) | Part::Last(_) | Part::Only(_), _) => false,
        };
        if in_doubt || self.quiet_at.is_some_and(|at| now < at) {
            self.quiet_at = Some(now + QUIET);
        }
    }

    /// The server is not being read, so that its silence means nothing.
    pub fn server_unheard(&mut self, now: Instant) {
        self.unheard_in_block(now);
        if self.quiet_at.is_some() {
            self.quiet_at = Some(now + QUIET);
        }
    }

    /// Whether a question waits for its turn.
    pub(super) fn waits_for_turn(&self) -> bool {
        matches!(self.data.negotiation, Negotiation::Queued { .. }) || self.directory.is_queued()
    }

    /// Whether a question waits and every earlier reply has ended, as far as the lines tell.
    fn has_turn(&self) -> bool {
        self.waits_for_turn()
            && self.pending.is_empty()
            && self.held.is_none()
            && !self.replies.is_inside()
            // The pinhole comes first: its answer is awaited after the last action.
            && !matches!(self.data.negotiation, Negotiation::Opening { .. })
    }

    /// The end of the silence after which the server is asked what waits; `None` where that is not all it waits for.
    #[must_use]
    pub fn turn_deadline(&self) -> Option<Instant> {
        self.quiet_at.filter(|_| self.has_turn())
    }

    /// Asks the server what waits for its turn, where that has come.
    pub(super) fn ask_in_turn(&mut self, now: Instant) {
        match self.control {
            Control::Relaying | Control::ClientDone => {}
            // Nobody asks for anything any more.
            Control::Greeting { .. } | Control::Abandoned | Control::Closed => return,
            // The server has said goodbye, and the client has heard that.
            Control::Leaving { .. } => {
                self.drop_queued();
                self.directory.drop_queued();
                return;
            }
        }
        self.queue_directory(now);
        if !self.has_turn() || self.quiet_at.is_some_and(|at| now < at) {
            return;
        }
        self.quiet_at = None;
        self.ask_directory(now);
        if self.has_turn() {
            self.ask_queued(now);
        }
    }
}
