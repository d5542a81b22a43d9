//! Names of states and outcomes, as log lines have them.

use crate::ftp::command::Way;
use crate::ftp::line::LineFault;
use crate::session::{Mode, Outcome};

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
        | Outcome::NotReached(_)
        | Outcome::Aborted
        | Outcome::NoData => None,
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
