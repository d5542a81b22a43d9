//! The lines of one session.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use tracing::{debug, info, warn};

use super::{Unanswered, flood, names, story, stranger};
use crate::addr::{ClientAddr, Side, is_dialable};
use crate::ftp::redact;
use crate::limits::{LineKind, TurnedAway};
use crate::policy::{Denied, Reached};
use crate::session::{CloseReason, Event, Outcome, Story, Stranger, Transfer};

/// How many lines about faults of its peers a session may have: a peer must not fill the disk.
const MAX_FAULT_LINES: u32 = 100;

static LAST_ID: AtomicU64 = AtomicU64::new(0);

/// Writes the lines of one session, each with the session's number and its client.
#[derive(Debug)]
pub struct SessionLog {
    id: u64,
    client: ClientAddr,
    since: Instant,
    fault_lines: u32,
    /// The line of its start, where the client had caused too many: it is written when somebody logs in, or never.
    unwritten: Option<Box<Started>>,
    transfers: u64,
    bytes: u64,
}

/// What the line of a session's start says.
#[derive(Debug)]
struct Started {
    listener: String,
    server: String,
    rule: String,
    via: Option<SocketAddr>,
}

impl SessionLog {
    /// The log of a new session, which began `now`.
    #[must_use]
    pub fn new(client: ClientAddr, now: Instant) -> Self {
        let id = LAST_ID.fetch_add(1, Ordering::Relaxed) + 1;
        Self { id, client, since: now, fault_lines: 0, unwritten: None, transfers: 0, bytes: 0 }
    }

    /// Both control connections stand; `via` is the balancer that brought the client's.
    pub fn started(&mut self, listener: &str, server: &dyn std::fmt::Display, rule: &str, via: Option<SocketAddr>) {
        if flood::may_write(LineKind::Session, self.client.ip()) {
            self.write_start(listener, server, rule, via);
        } else {
            let (listener, server, rule) = (listener.to_owned(), server.to_string(), rule.to_owned());
            self.unwritten = Some(Box::new(Started { listener, server, rule, via }));
        }
    }

    fn write_start(&self, listener: &str, server: &dyn std::fmt::Display, rule: &str, via: Option<SocketAddr>) {
        let via = via.map(tracing::field::display);
        info!(event = "session_started", session = self.id, client = %self.client, via, %server, listener, rule, "session started");
    }

    /// Whether one more line about a fault may be written.
    fn may_complain(&self) -> bool {
        flood::may_write(LineKind::Fault, self.client.ip())
    }

    /// The rules deny the client this server.
    pub fn denied(&self, listener: &str, server: &dyn std::fmt::Display, denied: &Denied) {
        if !self.may_complain() {
            return;
        }
        let rule = match denied {
            Denied::ByRule(rule) => rule.name.as_str(),
            Denied::NoRule => "(none matches)",
        };
        warn!(
            event = "session_denied", session = self.id, client = %self.client, %server, listener, rule,
            reason = "denied", advice = "`ftpgate explain` shows how the rules were walked", "session denied"
        );
    }

    /// A limit lets the client have no session now.
    pub fn turned_away(&self, listener: &str, TurnedAway { reached, told }: &TurnedAway) {
        if let Some(times) = told
            && self.may_complain()
        {
            self.limit(reached, Some(listener), Some(*times));
        }
    }

    /// A limit was reached; `times` is how often, where the client was turned away by it.
    fn limit(&self, reached: &Reached, listener: Option<&str>, times: Option<u64>) {
        let Reached { limit, value, whose, is_default } = reached;
        let (of, rule, each) = names::whose(whose);
        warn!(
            event = "limit", session = self.id, client = %self.client, listener, limit = limit.name(), value, of, rule, each,
            times, default = is_default.then_some(true), advice = names::limit_advice(*limit, *is_default), "a limit was reached"
        );
    }

    /// The rules have no server for the client.
    pub fn denied_everything(&self, listener: &str) {
        if !self.may_complain() {
            return;
        }
        warn!(
            event = "session_denied", session = self.id, client = %self.client, listener, rule = "(none matches)",
            reason = "denied", advice = "no rule allows this client any server", "session denied"
        );
    }

    /// The client left, or was sent away, before it had a server.
    pub fn named_none(&self, listener: &str) {
        if !self.may_complain() {
            return;
        }
        info!(event = "no_server_named", session = self.id, client = %self.client, listener, "no server was named");
    }

    /// A name that the client gave, or that it is to be told the address of, cannot be looked up.
    pub fn no_address(&self, listener: &str, error: &dyn std::fmt::Display) {
        if !self.may_complain() {
            return;
        }
        warn!(event = "name_not_found", session = self.id, client = %self.client, listener, %error,
            advice = "see /etc/resolv.conf and /etc/hosts of the gate", "no address for a name");
    }

    /// The server could not be had.
    pub fn no_server(
        &self,
        listener: &str,
        server: &dyn std::fmt::Display,
        error: &std::io::Error,
        unanswered: Unanswered,
    ) {
        if !self.may_complain() {
            return;
        }
        let advice = &*unanswered.advice();
        warn!(
            event = "server_unreachable", session = self.id, client = %self.client, %server, listener, %error,
            reason = "server_unreachable", advice, "the server cannot be reached"
        );
    }

    /// A connection leads from the gate to itself; `which` is the one that was found to.
    pub fn is_loop(&self, listener: &str, which: &dyn std::fmt::Display) {
        if !self.may_complain() {
            return;
        }
        warn!(
            event = "session_denied", session = self.id, client = %self.client, listener, reason = "loop", %which,
            advice = "the server behind a listener, or a NAT before it, leads back to the gate: see `server` in the rules file",
            "session denied"
        );
    }

    /// The connection was handed over in a way that leads nowhere.
    pub fn no_destination(&self, listener: &str, reason: &'static str, detail: &dyn std::fmt::Display) {
        if !self.may_complain() {
            return;
        }
        let advice = match reason {
            "client_is_link_local" => {
                "with `source: client` servers would have to answer a link-local address, and none can: \
                have the client use another of its addresses, or write `source: gate`"
            }
            _ => "a transparent listener takes intercepted connections only; see `ftpgate intercept`",
        };
        warn!(
            event = "session_denied", session = self.id, client = %self.client, listener, reason, %detail, advice,
            "session denied"
        );
    }

    /// The control connection is over.
    pub fn ended(&self, reason: CloseReason, now: Instant) {
        if self.unwritten.is_some() {
            // Nobody has logged in, and there is no line of its start.
            return flood::leave_out(self.client.ip());
        }
        info!(
            event = "session_ended", session = self.id, client = %self.client, reason = reason.name(),
            seconds = now.saturating_duration_since(self.since).as_secs_f64(), transfers = self.transfers,
            bytes = self.bytes, "session ended"
        );
    }

    /// Something happened.
    pub fn event(&mut self, event: &Event) {
        match event {
            Event::Rewritten { by, said, told } => self.rewritten(*by, said, told),
            Event::Transferred(transfer) => self.transferred(transfer),
            Event::LoggedIn { rule, by_user } => {
                if let Some(started) = self.unwritten.take() {
                    let Started { listener, server, rule, via } = *started;
                    self.write_start(&listener, &server, &rule, via);
                }
                if !by_user {
                    return;
                }
                info!(event = "logged_in", session = self.id, client = %self.client, rule, "a user was let in");
            }
            Event::Refused { .. }
            | Event::ForeignAddress { .. }
            | Event::Stranger(_)
            | Event::HalfOpen { .. }
            | Event::PortTaken(_)
            | Event::NotReached(_)
            | Event::PinholeExpired(_)
            | Event::LoginFailed
            | Event::Limit(_)
            | Event::BadLine { .. } => {
                self.fault_lines = self.fault_lines.saturating_add(1);
                if self.fault_lines < MAX_FAULT_LINES {
                    if self.may_complain() {
                        self.fault(event);
                    }
                } else if self.fault_lines == MAX_FAULT_LINES {
                    warn!(event = "muted", session = self.id, client = %self.client,
                        "further faults in this session are not logged");
                }
            }
        }
    }

    fn rewritten(&self, by: Side, said: &[u8], told: &[u8]) {
        if !tracing::enabled!(tracing::Level::DEBUG) {
            return;
        }
        let shown = match by {
            Side::Client => redact::loggable,
            Side::Server => redact::loggable_reply,
        };
        let (said, told, to) = (shown(said), shown(told), by.other());
        debug!(event = "rewritten", session = self.id, client = %self.client, %by, said, told, "{by} said \"{said}\", {to} was told \"{told}\"");
    }

    fn transferred(&mut self, transfer: &Transfer) {
        self.transfers += 1;
        self.bytes = self.bytes.saturating_add(transfer.bytes);
        let Transfer { way, modes, carrier, command, rule, bytes, is_estimate, took, outcome } = transfer;
        let (way, mode, name) = (names::way(*way), names::mode(modes.client), names::outcome(*outcome));
        let (datapath, why) = carrier.names();
        let server_mode = (modes.server != modes.client).then(|| names::mode(modes.server));
        let estimated = is_estimate.then_some(true);
        let (seconds, reply) = (took.as_secs_f64(), names::reply(*outcome));
        if matches!(outcome, Outcome::Ended | Outcome::NoData | Outcome::Refused(_)) {
            info!(event = "transfer", session = self.id, client = %self.client, rule, way, mode, server_mode,
                datapath, why, bytes, estimated, seconds, outcome = name, reply, command, "transfer");
        } else {
            warn!(event = "transfer", session = self.id, client = %self.client, rule, way, mode, server_mode,
                datapath, why, bytes, estimated, seconds, outcome = name, reply, command, "transfer");
        }
    }

    fn fault(&self, event: &Event) {
        let (session, client) = (self.id, self.client);
        match event {
            Event::Refused { refusal, line } => warn!(event = "refused", session, %client, reason = refusal.name(),
                line, advice = refusal.advice(), "refused"),
            Event::ForeignAddress { by, named, used } => {
                let advice = if is_dialable(*named) {
                    "its control address was used: perhaps a NAT stands in front of it, or it has several addresses (then name \
                    their network in `data_peers` of the rule)"
                } else {
                    "its control address was used: no host elsewhere has the one that it named"
                };
                let event = match by {
                    Side::Server => "foreign_server_address",
                    Side::Client => "foreign_client_address",
                };
                warn!(event, session, %client, %named, %used, advice, "the {by} named another address");
            }
            Event::Stranger(Stranger { from, awaited, port, fault: None })
                if stranger::is_awaited(from.ip(), *awaited) =>
            {
                warn!(event = "stranger", session, %client, %from, %awaited, port, reason = "awaited_peer",
                    advice = stranger::NOT_LED,
                    "the awaited peer came, but the kernel did not lead it through the pinhole, and it was reset");
            }
            Event::Stranger(Stranger { from, awaited, port, fault }) => {
                let reason = fault.as_ref().map(|fault| fault.reason);
                let side = if client.ip() == *awaited { Side::Client } else { Side::Server };
                let advice = match fault {
                    Some(fault) => Cow::Borrowed(fault.advice),
                    None => stranger::advice(from.ip(), *awaited, side).into(),
                };
                warn!(event = "stranger", session, %client, %from, %awaited, port, reason, advice = &*advice,
                    "somebody else came to the pinhole and was reset");
            }
            Event::HalfOpen { from, port, why } => warn!(event = "half_open", session, %client, %from, port,
                cause = names::half_open(*why), "a connection to the pinhole was not completed and did not use it"),
            Event::PortTaken(port) => warn!(event = "port_taken", session, %client, port,
                advice = "another program listens on this port of gate_ports; the next one was tried", "port taken"),
            Event::NotReached(story) => self.missing("data_not_reached", story),
            Event::PinholeExpired(story) => self.missing("pinhole_expired", story),
            Event::BadLine { side, fault } => warn!(event = "bad_line", session, %client, %side,
                reason = names::fault(*fault), "the {side} sent a bad line"),
            Event::LoginFailed => warn!(event = "login_failed", session, %client, "the server did not let the user in"),
            Event::Limit(reached) => self.limit(reached, None, None),
            Event::Rewritten { .. } | Event::Transferred(_) | Event::LoggedIn { .. } => {}
        }
    }

    /// A data connection did not come about.
    fn missing(&self, event: &'static str, story: &Story) {
        let (session, client) = (self.id, self.client);
        let Story { rule, modes, missing, place, absence, waited, asked, .. } = story;
        let (told, cause) = story::told(story, client.ip());
        let (mode, port, seconds) = (names::mode(modes.client), place.port(), waited.as_secs());
        let server_mode = (modes.server != modes.client).then(|| names::mode(modes.server));
        let heard = absence.name();
        if *asked {
            warn!(event, session, %client, rule, mode, server_mode, %missing, port, seconds, heard, cause, "{told}");
        } else {
            info!(event, session, %client, rule, mode, server_mode, %missing, port, seconds, heard, cause, "{told}");
        }
    }
}
