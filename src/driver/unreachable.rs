//! Why a server is not connected to: its fault, or the gate's own.

use std::io;

use super::route::Caller;
use crate::net::{IsLoop, NoAnswer, Shortage};
use crate::policy::{Source, Stand};
use crate::report::{self, Unanswered};

/// Why there is no connection to a server.
#[derive(Debug)]
pub(super) enum Unreachable {
    /// The server, or the way to it, is the trouble.
    Server(io::Error),
    /// This machine lacks something.
    Shortage(Shortage),
    /// The server is the gate itself.
    Loop,
}

impl From<io::Error> for Unreachable {
    fn from(error: io::Error) -> Self {
        Shortage::of(&error).map_or(Self::Server(error), Self::Shortage)
    }
}

impl From<IsLoop> for Unreachable {
    fn from(IsLoop: IsLoop) -> Self {
        Self::Loop
    }
}

impl Unreachable {
    /// What the client is told.
    pub(super) fn reply(&self) -> String {
        match self {
            Self::Server(error) => format!("421 The server cannot be reached: {}.", error.kind()),
            Self::Shortage(shortage) => too_busy(shortage.name()),
            Self::Loop => LOOP.to_owned(),
        }
    }

    /// Tells the operator.
    pub(super) fn log(&self, caller: &Caller<'_>, server: &dyn std::fmt::Display) {
        let listener = &caller.listener.name;
        match self {
            Self::Server(error) => caller.log.no_server(listener, server, error, unanswered(caller, error)),
            Self::Shortage(shortage) => {
                report::too_busy(listener, caller.origin.client.socket(), shortage.name(), shortage.advice());
            }
            Self::Loop => caller.log.is_loop(listener, &format_args!("the server {server}")),
        }
    }
}

/// Where the answer to a connection with the client's address may have gone: that of a server which is up, too, gets lost
/// where its way to the client does not lead through this machine.
fn unanswered(caller: &Caller<'_>, error: &io::Error) -> Unanswered {
    let Some(NoAnswer { from, to }) = NoAnswer::of(error) else { return Unanswered::Unknown };
    if !matches!(caller.listener.stand, Stand::Transparent { source: Source::Client, .. }) {
        return Unanswered::Unknown;
    }
    match caller.context.machine.translations.look(*from, *to) {
        Some(tracked) if tracked.is_answered => Unanswered::NotHandedOver,
        Some(tracked) => Unanswered::WentElsewhere(tracked.seen_from.ip()),
        None => Unanswered::WentElsewhere(from.ip()),
    }
}

/// What a client is told where the gate lacks something for now.
pub(super) fn too_busy(reason: &str) -> String {
    format!("421 Too busy ({reason}); try again later.")
}

/// What is told to a connection that leads from the gate to itself.
pub(super) const LOOP: &str = "421 The server is this gate itself (loop).";
