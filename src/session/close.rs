//! How sessions end, why, and what the client is told then.

use std::time::Instant;

use super::departure::Moving;
use super::negotiation::ANSWER;
use super::replies::LEAVE;
use super::{Action, Control, Session};
use crate::addr::Side;
use crate::policy::{AtSessionEnd, Limit};

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CloseReason {
    /// The client said QUIT, or the server 221 or 421, and the connection was closed in order.
    Ended,
    /// The client closed or reset its connection.
    ClientGone,
    /// The server closed or reset its connection.
    ServerGone,
    /// The server's first line is no greeting.
    NotFtp,
    /// The server did not greet in time.
    NoGreeting,
    /// The server left PASV or PORT without an answer.
    ServerSilent,
    /// The client speaks HTTP.
    HttpClient,
    /// The client speaks SMTP.
    SmtpClient,
    /// The client speaks TLS from the first byte.
    TlsClient,
    /// The client sent a PROXY header, which nobody asked for.
    ProxyHeader,
    /// The client sent too much that is no FTP.
    BadClient,
    /// The server sent too much that is no FTP.
    BadServer,
    /// The rules that hold now deny the session.
    Denied,
    /// A limit was reached.
    Limit(Limit),
    /// The gate shuts down.
    Shutdown,
}

impl CloseReason {
    /// The name that logs use and the README explains.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ended => "ended",
            Self::ClientGone => "client_gone",
            Self::ServerGone => "server_gone",
            Self::NotFtp => "server_not_ftp",
            Self::NoGreeting => "no_greeting",
            Self::ServerSilent => "server_silent",
            Self::HttpClient => "http_client",
            Self::SmtpClient => "smtp_client",
            Self::TlsClient => "tls_client",
            Self::ProxyHeader => "proxy_header",
            Self::BadClient => "bad_client",
            Self::BadServer => "bad_server",
            Self::Denied => "denied",
            Self::Limit(limit) => limit.name(),
            Self::Shutdown => "shutdown",
        }
    }

    /// What the client is told, without the line's end.
    #[must_use]
    pub const fn reply(self) -> &'static str {
        match self {
            Self::Ended | Self::ClientGone => "421 The session is over.",
            Self::ServerGone => "421 The server closed the connection.",
            Self::NotFtp => "421 The server does not speak FTP.",
            Self::NoGreeting | Self::ServerSilent => "421 The server did not answer in time.",
            Self::HttpClient => "421 This is an FTP service, not a web server.",
            Self::TlsClient => "421 This is an FTP service without TLS.",
            Self::SmtpClient => "421 This is an FTP service.",
            Self::ProxyHeader => "421 A PROXY header does not belong here.",
            Self::BadClient => "421 Too many lines that are not FTP.",
            Self::BadServer => "421 The server sends lines that are not FTP.",
            Self::Limit(limit) => limit.reply(),
            Self::Denied => "421 The rules no longer allow this session.",
            Self::Shutdown => "421 The gate shuts down.",
        }
    }
}

impl Session {
    pub(super) fn peer_closed(&mut self, now: Instant, side: Side) {
        match (side, self.control) {
            (Side::Server, _) => self.server_gone(now),
            // It has asked for nothing yet.
            (Side::Client, Control::Greeting { .. }) => self.close(now, CloseReason::Ended),
            (Side::Client, Control::Leaving { .. }) => self.act(Action::CloseWrite(Side::Server)),
            // Nothing more is read from it.
            (Side::Client, Control::Abandoned) => {}
            (Side::Client, Control::Relaying | Control::ClientDone | Control::Closed) => {
                self.control = Control::ClientDone;
                // A server may take this for the end of an upload, of which it has not been sent all.
                if !self.is_done() && !self.data.is_uploading() {
                    self.act(Action::CloseWrite(Side::Server));
                }
            }
        }
    }

    /// Whether everything that the client asked for has been answered and has ended.
    fn is_done(&self) -> bool {
        self.pending.is_empty() && !self.data.is_negotiating() && !self.data.is_busy() && self.held.is_none()
    }

    /// A client that will say no more has all it asked for.
    pub(super) fn end_if_client_done(&mut self, now: Instant) {
        let is_over = match self.control {
            Control::ClientDone => self.is_done(),
            Control::Abandoned => !self.data.is_uploading(),
            Control::Greeting { .. } | Control::Relaying | Control::Leaving { .. } | Control::Closed => false,
        };
        if is_over {
            self.close(now, self.departure());
        }
    }

    /// Where the client is not read before the server has answered, or the server has said 421, it has to say something in
    /// time.
    pub(super) fn watch_server(&mut self, now: Instant, heard: bool) {
        let has_left = matches!(self.control, Control::ClientDone | Control::Abandoned);
        let is_owed = self.pending.is_full() || (self.said_421 && !self.pending.is_empty());
        let waits = has_left || (is_owed && self.control != Control::Closed);
        if !waits {
            self.silence = None;
        } else if heard || self.silence.is_none() {
            self.silence = Some(now + ANSWER);
        }
    }

    pub(super) fn peer_lost(&mut self, now: Instant, side: Side) {
        match side {
            Side::Client => self.client_lost(now),
            Side::Server => self.server_gone(now),
        }
    }

    /// Whatever the client has sent is on its way yet, and may be followed by an end in order: a client that leaves
    /// once it has sent its file has done all it had to do.
    fn client_lost(&mut self, now: Instant) {
        if matches!(self.control, Control::Leaving { .. }) {
            // It was told goodbye.
            return self.close(now, CloseReason::Ended);
        }
        self.data.left_by(Side::Client);
        if !self.data.is_uploading() {
            return self.close(now, CloseReason::ClientGone);
        }
        self.release_at_end(now);
        self.end_data(now, Moving::EndsUnlessUploaded);
        self.control = Control::Abandoned;
    }

    /// Why a session ends where nobody has ended it against the other's will.
    const fn departure(&self) -> CloseReason {
        match self.control {
            Control::Abandoned => CloseReason::ClientGone,
            Control::Greeting { .. }
            | Control::Relaying
            | Control::ClientDone
            | Control::Leaving { .. }
            | Control::Closed => CloseReason::Ended,
        }
    }

    fn server_gone(&mut self, now: Instant) {
        self.end_block(now);
        if self.control == Control::Closed {
            return;
        }
        let is_due = matches!(self.control, Control::Leaving { .. } | Control::ClientDone | Control::Abandoned);
        if self.said_421 || is_due {
            return self.close(now, self.departure());
        }
        self.data.left_by(Side::Server);
        self.close_with_421(now, CloseReason::ServerGone);
    }

    pub(super) fn drain(&mut self, now: Instant) {
        self.draining = true;
        if !self.data.is_busy() {
            self.close_with_421(now, CloseReason::Shutdown);
        }
    }

    pub(super) fn timeout(&mut self, now: Instant) {
        match self.control {
            Control::Greeting { until } if until <= now => {
                return self.close_with_421(now, CloseReason::NoGreeting);
            }
            // A server that said goodbye in the middle of a transfer still ends it.
            Control::Leaving { until } if until <= now && self.data.is_moving() => {
                self.control = Control::Leaving { until: now + LEAVE };
            }
            Control::Leaving { until } if until <= now => {
                let reason = if self.is_greeted { CloseReason::Ended } else { CloseReason::NoGreeting };
                return self.close(now, reason);
            }
            Control::Greeting { .. }
            | Control::Leaving { .. }
            | Control::Relaying
            | Control::ClientDone
            | Control::Abandoned
            | Control::Closed => {}
        }
        let silent = self.silence.is_some_and(|until| until <= now);
        let lost = self.directory.deadline().is_some_and(|until| until <= now);
        if silent || lost || self.negotiation_overdue(now) {
            if !self.data.is_moving() {
                let gone = self.control == Control::Abandoned;
                let reason = if gone { CloseReason::ClientGone } else { CloseReason::ServerSilent };
                return self.close_with_421(now, reason);
            }
            self.silence = None;
            self.extend_negotiation(now);
            if lost {
                self.directory.settle(now);
            }
        }
        self.end_block_if_due(now);
        // Ahead of what may end the session: it is due to be told as it is.
        if self.held.is_some_and(|(_, until)| until <= now) {
            self.release(now);
        }
        if self.limits_due(now) {
            return;
        }
        self.expire_pinholes(now);
        self.release_if_due(now);
        self.give_up_abort(now);
    }

    /// A reply may have begun that will never end: the client gets its end first, so that 421 is a reply of its own.
    pub(super) fn close_with_421(&mut self, now: Instant, reason: CloseReason) {
        self.release_at_end(now);
        if self.control == Control::Closed {
            return;
        }
        if let Some(code) = self.cut_reply() {
            self.forward(Side::Client, format!("{} (cut off)", code.number()).into_bytes());
        }
        self.forward(Side::Client, reason.reply().as_bytes().to_vec());
        self.close(now, reason);
    }

    pub(super) fn close(&mut self, now: Instant, reason: CloseReason) {
        self.release_at_end(now);
        if self.control == Control::Closed {
            return;
        }
        let moving = match (reason, self.rule.at_session_end) {
            (CloseReason::Denied | CloseReason::Shutdown, _) => Moving::Ends,
            (_, AtSessionEnd::Finish) => Moving::GoesOn,
            // The server has said goodbye; or the client is gone, and what it had to send is all that is left.
            (CloseReason::Ended, _) if self.said_421 || matches!(self.control, Control::Leaving { .. }) => {
                Moving::GoesOn
            }
            (CloseReason::ClientGone, AtSessionEnd::Abort) if self.control == Control::Abandoned => Moving::GoesOn,
            (_, AtSessionEnd::Abort) => Moving::EndsUnlessAnswered,
        };
        self.end_data(now, moving);
        self.control = Control::Closed;
        self.pending.clear();
        self.act(Action::Close(reason));
    }
}
