//! Names of states and outcomes, as log lines have them.

use crate::ftp::command::Way;
use crate::ftp::line::LineFault;
use crate::policy::{Limit, Whose};
use crate::session::{Mode, Outcome, WhyHalfOpen};

pub(super) const fn way(way: Way) -> &'static str {
    match way {
        Way::Download => "download",
        Way::Upload => "upload",
        Way::Listing => "listing",
    }
}

pub(super) const fn mode(mode: Mode) -> &'static str {
    match mode {
        Mode::Passive => "passive",
        Mode::Active => "active",
    }
}

pub(super) const fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Ended => "ended",
        Outcome::CutByClient => "cut_by_client",
        Outcome::CutByServer => "cut_by_server",
        Outcome::Failed(_) => "failed",
        Outcome::TimedOut => "timed_out",
        Outcome::Limited(limit) => limit.name(),
        Outcome::Refused(_) => "refused_by_server",
        Outcome::NotReached(crate::addr::Side::Client) => "client_not_reached",
        Outcome::NotReached(crate::addr::Side::Server) => "server_not_reached",
        Outcome::Aborted => "aborted",
        Outcome::NoData => "no_data",
    }
}

/// The code of the server's reply, where it says why.
pub(super) const fn reply(outcome: Outcome) -> Option<u16> {
    match outcome {
        Outcome::Failed(code) | Outcome::Refused(code) => Some(code),
        Outcome::Ended
        | Outcome::CutByClient
        | Outcome::CutByServer
        | Outcome::TimedOut
        | Outcome::Limited(_)
        | Outcome::NotReached(_)
        | Outcome::Aborted
        | Outcome::NoData => None,
    }
}

pub(super) const fn half_open(why: WhyHalfOpen) -> &'static str {
    match why {
        WhyHalfOpen::Reset => "the peer answered the SYN-ACK with a reset: somebody else sent the SYN with its address",
        WhyHalfOpen::Silent => {
            "the SYN-ACK was not acknowledged: somebody else sent the SYN with the peer's address, or packets are lost"
        }
    }
}

pub(super) const fn fault(fault: LineFault) -> &'static str {
    match fault {
        LineFault::TooLong => "line_too_long",
        LineFault::Endless => "endless_line",
        LineFault::Tls => "tls_handshake",
        LineFault::ProxyHeader => "proxy_header",
        LineFault::Nul => "nul_in_line",
        LineFault::BareCr => "cr_in_line",
    }
}

/// Whose a limit is: `of` is `gate` or `rule`, with the rule's name, and `each` is `client` where it is for each address.
pub(super) fn whose(whose: &Whose) -> (&'static str, Option<&str>, Option<&'static str>) {
    match whose {
        Whose::Gate => ("gate", None, None),
        Whose::GateClient => ("gate", None, Some("client")),
        Whose::Rule(rule) => ("rule", Some(rule), None),
        Whose::RuleClient(rule) => ("rule", Some(rule), Some("client")),
    }
}

/// What to do about a limit that was reached.
pub(super) const fn limit_advice(limit: Limit, is_default: bool) -> &'static str {
    match limit {
        Limit::Sessions if is_default => {
            "this is the default, a share of the limit of open files: raise that (LimitNOFILE=), or write `sessions` in `limits`; \
             where many clients have one address, in its `per_client`"
        }
        Limit::Sessions | Limit::SessionsPerMinute => {
            "the client was told to try later; raise it if that is too little"
        }
        Limit::CommandsPerSecond => "the client sends more, and is read more slowly",
        Limit::FailedLogins | Limit::Pause => "somebody guesses passwords, or a program has an old one",
        Limit::Upload | Limit::Download => "the transfer would go faster, and is held back",
        Limit::TransferSize => "the transfer was cut on both sides",
        Limit::LoginTimeout => "the client connected and did not log in",
        Limit::IdleTimeout => "the client is logged in and does nothing",
        Limit::StallTimeout => "the transfer moved nothing, and was cut on both sides",
    }
}
