//! Which rule holds for a session whose user decides.
//!
//! The rule in force stays until the server has let the new user in: who names another user gains nothing by that.

use std::sync::Arc;
use std::time::Instant;

use super::event::Event;
use super::pending::Expected;
use super::refusal::Refusal;
use super::{CloseReason, Session};
use crate::ftp::line::MAX_COMMAND;
use crate::ftp::reply::Code;
use crate::policy::{Candidates, Decision, Rule, SessionLimits};

/// Bytes of the names of two users, at most.
pub(super) const MAX_HELD: usize = 2 * MAX_COMMAND;

/// Who is logged in, and who tries to be.
#[derive(Debug, Default)]
pub(super) struct Login {
    /// The rules that the user decides between; `None` where one holds for every user.
    candidates: Option<Box<Candidates>>,
    /// Whom the server has let in.
    user: Option<Box<[u8]>>,
    /// Who was named since, and the rule that would hold.
    trying: Option<Box<(Vec<u8>, Arc<Rule>)>>,
}

/// What was seen of the login; it lies beside the session's other marks, for its size.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Marks {
    /// The server has asked for an account.
    wants_account: bool,
    /// The user was let in by USER alone and a code that may mean something else: a password that fails undoes it.
    is_unsure: bool,
    /// The answer to REIN may have been another's: the server may know the old user still, and say 230 to a new one.
    is_over: bool,
}

/// Which command of a login is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    User,
    Pass,
    Account,
}

impl Login {
    pub(super) fn new(candidates: Option<Candidates>) -> Self {
        Self { candidates: candidates.map(Box::new), ..Self::default() }
    }

    /// Bytes on the heap.
    pub(super) fn held(&self) -> usize {
        let trying = self.trying.as_ref().map_or(0, |trying| trying.0.len());
        self.user.as_ref().map_or(0, |user| user.len()) + trying
    }

    /// Whether somebody is logged in.
    pub(super) const fn is_in(&self) -> bool {
        self.user.is_some()
    }

    /// The limits that hold before the user has decided; `None` where the rule's do.
    pub(super) fn limits(&self) -> Option<&SessionLimits> {
        self.candidates.as_deref().filter(|_| self.user.is_none()).map(Candidates::limits)
    }

    /// Whether no rule holds before somebody is logged in, and nobody is.
    pub(super) const fn is_due(&self) -> bool {
        self.candidates.is_some() && self.user.is_none()
    }

    pub(super) const fn is_decisive(&self) -> bool {
        self.candidates.is_some()
    }
}

/// Whether the server lets the user in: it does by any 2yz (RFC 959 section 6) but those that are about something else.
/// To ACCT that nobody asked for it may say that it is superfluous.
fn lets_in(step: Step, code: Code, wants_account: bool) -> bool {
    match code.number() {
        230 | 232 => true,
        200 | 202 | 220 | 231 => step != Step::Account || wants_account,
        _ => false,
    }
}

impl Session {
    /// The client names a user.
    pub(super) fn user_named(&mut self, user: &[u8]) -> Result<(), Refusal> {
        let is_in = self.login.is_in();
        let rule = match &self.login.candidates {
            Some(candidates) => {
                let rule = candidates.choose(user).map_err(|_| Refusal::UserDenied)?;
                if self.login_marks.is_over || (is_in && rule != self.rule) {
                    return Err(Refusal::UserChange);
                }
                rule
            }
            None => Arc::clone(&self.rule),
        };
        self.login.trying = Some(Box::new((user.to_vec(), rule)));
        Ok(())
    }

    /// USER, PASS or ACCT goes to the server: what the client may do next depends on the answer.
    pub(super) fn await_login(&mut self, now: Instant, step: Step) {
        self.await_who(now, Expected::Login(step));
    }

    /// REIN goes to the server.
    pub(super) fn await_logout(&mut self, now: Instant) {
        self.await_who(now, Expected::LoggedOut);
    }

    fn await_who(&mut self, now: Instant, expected: Expected) {
        self.expect(now, expected);
        if self.login.is_decisive() || !self.rule.paths.is_empty() {
            self.directory.settle(now);
        }
    }

    pub(super) fn is_logged_in(&self) -> bool {
        self.login.user.is_some()
    }

    /// The server answered USER, PASS or ACCT.
    pub(super) fn login_answered(&mut self, now: Instant, step: Step, code: Code) {
        self.directory.settled();
        let wants_account = std::mem::replace(&mut self.login_marks.wants_account, code.number() == 332);
        match code.number() {
            _ if lets_in(step, code, wants_account) => {
                self.login_marks.is_unsure = step == Step::User && !matches!(code.number(), 230 | 232);
                // Who was let in by USER already may be led elsewhere by PASS.
                let Some(trying) = self.login.trying.take() else { return self.find_directory(now) };
                let (user, rule) = *trying;
                self.login.user = Some(user.into_boxed_slice());
                let by_user = self.login.is_decisive();
                self.report(Event::LoggedIn { rule: rule.name.clone(), by_user });
                self.rule = rule;
                self.logged_in(now);
                self.find_directory(now);
            }
            331 | 332 => {}
            _ if code.is_success() => {}
            // It is the server that goes.
            421 => self.login.trying = None,
            _ => {
                self.login.trying = None;
                if std::mem::take(&mut self.login_marks.is_unsure) {
                    self.logged_out(now);
                }
                self.report(Event::LoginFailed);
                self.count_failed_login(now);
            }
        }
    }

    /// The answer to a command went astray: whatever it was, nothing is gained by it.
    pub(super) fn passed_over(&mut self, now: Instant, command: Option<Expected>) {
        match command {
            Some(Expected::Login(_)) => {
                self.login.trying = None;
                self.directory.forget();
            }
            Some(Expected::Moved) => self.directory.forget(),
            Some(Expected::LoggedOut) => self.logged_out_perhaps(now),
            Some(Expected::Transfer { .. }) => self.transfer_forgotten(now),
            Some(
                Expected::Greeting
                | Expected::Plain { .. }
                | Expected::Directory
                | Expected::Passive
                | Expected::Active(_)
                | Expected::Abort
                | Expected::Status
                | Expected::Features
                | Expected::EpsvAll
                | Expected::Quit
                | Expected::Ours(_),
            )
            | None => {}
        }
    }

    /// REIN may have been answered or not: nobody is logged in, and nobody can be where the user decides.
    pub(super) fn logged_out_perhaps(&mut self, now: Instant) {
        self.logged_out(now);
        self.login_marks.is_over = true;
    }

    /// REIN: nobody is logged in.
    pub(super) fn logged_out(&mut self, now: Instant) {
        self.login.user = None;
        self.login.trying = None;
        self.login_marks.is_unsure = false;
        self.directory.forget();
        if self.login.is_decisive() {
            self.rule = Candidates::nobody();
        }
        self.watch_limits(now);
        self.login_due(now);
    }

    /// The rules that hold now say this.
    pub(super) fn decided(&mut self, now: Instant, decision: Decision) {
        let (rule, candidates) = match decision {
            Decision::Deny(_) => return self.close_with_421(now, CloseReason::Denied),
            Decision::Allow(rule) => (rule, None),
            Decision::AtLogin(candidates) => match self.login.user.as_ref().map(|user| candidates.choose(user)) {
                Some(Err(_)) => return self.close_with_421(now, CloseReason::Denied),
                Some(Ok(rule)) => (rule, Some(candidates)),
                None => (Candidates::nobody(), Some(candidates)),
            },
        };
        // Who has named itself and has yet to be let in is judged anew too.
        if let Some(trying) = self.login.trying.take() {
            let (user, _) = *trying;
            let chosen =
                candidates.as_ref().map_or_else(|| Ok(Arc::clone(&rule)), |candidates| candidates.choose(&user));
            self.login.trying = chosen.ok().map(|rule| Box::new((user, rule)));
        }
        self.login.candidates = candidates.map(Box::new);
        self.rule = rule;
        self.watch_limits(now);
        self.keep_directory(now);
    }
}
