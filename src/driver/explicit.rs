//! A client of an explicit listener: asked for its server, which is looked up, held against the rules and dialled.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::budget::Budget;
use super::peer::Heard;
use super::route::{Caller, Connected, Destination, Routed, is_gate};
use super::unreachable::too_busy;
use super::{Allowed, Phase, asker};
use crate::addr::{ServerAddr, Side, is_dialable};
use crate::ftp::redact::{escaped, loggable};
use crate::net::NameError;
use crate::policy::{Limit, Policy, Reached, SessionLimits, Whose};
use crate::report;
use crate::session::{CloseReason, Event, Host, Named, Naming, Refusal, Step, WELCOME};

/// How long a client may take to name its server where the time to log in has no limit.
const PATIENCE: Duration = Duration::from_secs(300);
/// The reason where too many clients have names looked up.
const TOO_MANY_LOOKUPS: &str = "too_many_lookups";
const LOOKUPS_ADVICE: &str = "do the name servers in /etc/resolv.conf answer? How many names are looked up at once follows from the \
    limit of open files (LimitNOFILE=)";
/// How many of a name's addresses are tried.
const MOST_TRIED: usize = 4;

/// Connects a client to the server that it names.
pub(super) async fn to_named_server(mut caller: Caller<'_>) -> Option<Routed> {
    let policy = Arc::clone(&caller.context.orders.borrow().policy);
    if !policy.may_admit(&caller.listener.name, caller.origin.client, Timestamp::now()) {
        caller.log.denied_everything(&caller.listener.name);
        caller.turn_away("421 The rules do not allow this session.").await;
        return None;
    }
    let mut orders = caller.context.orders.clone();
    let limit = policy.rules.longest_login_timeout();
    let patience = limit.unwrap_or(PATIENCE);
    let late = || Limit::LoginTimeout.reply().to_owned();
    let found = tokio::select! {
        biased;
        _ = orders.wait_for(|orders| orders.phase != Phase::Serving) => Err(Some(CloseReason::Shutdown.reply().to_owned())),
        found = tokio::time::timeout(patience, find(&mut caller)) => found.unwrap_or_else(|_| Err(Some(late()))),
    };
    match found {
        Ok(Found { stream, server, allowed, policy, named, waited }) => {
            let front = caller.origin.front;
            let destination = Destination { front, server, local: caller.origin.local.ip() };
            caller.lead(stream, &destination, allowed, policy, Some(named.called), waited).await
        }
        Err(reply) => {
            if reply.as_deref() == Some(Limit::LoginTimeout.reply()) {
                caller.log.event(&Event::Limit(out_of_time(patience)));
            }
            caller.log.named_none(&caller.listener.name);
            if let Some(reply) = reply {
                caller.turn_away(&reply).await;
            }
            None
        }
    }
}

/// The limit that a client reaches which names no server. It is that of the rule with the longest, for no rule is the client's yet.
fn out_of_time(patience: Duration) -> Reached {
    let value = humantime::format_duration(patience).to_string();
    let is_default = patience == SessionLimits::LOGIN_TIMEOUT;
    Reached { limit: Limit::LoginTimeout, value, whose: Whose::Gate, is_default }
}

/// A server that was named, allowed and connected to.
struct Found {
    stream: Connected,
    server: ServerAddr,
    allowed: Allowed,
    policy: Arc<Policy>,
    named: Named,
    /// How long the client took to name it.
    waited: Duration,
}

/// Talks with the client until it has named a server that can be; else what to tell it last, where it is still there.
async fn find(caller: &mut Caller<'_>) -> Result<Found, Option<String>> {
    let mut naming = Naming::default();
    let mut budget = Budget::new();
    let begun = Instant::now();
    caller.peer.queue(WELCOME.as_bytes());
    loop {
        let named = match next_step(caller, &mut naming, &mut budget).await.ok_or(None)? {
            Step::Connect(named) => named,
            Step::Answer(reply) => {
                caller.peer.queue(reply.as_bytes());
                continue;
            }
            Step::Refuse(refusal) => {
                caller.peer.queue(refusal.reply().as_bytes());
                continue;
            }
            Step::Leave(reply) => return Err(Some(reply.to_owned())),
        };
        let waited = begun.elapsed();
        match reach(caller, &named).await {
            Ok((stream, server, allowed, policy)) => {
                return Ok(Found { stream, server, allowed, policy, named, waited });
            }
            Err(Unreached::Gone(reply)) => return Err(Some(reply)),
            Err(Unreached::Refused(refusal)) => {
                let reply = refusal.reply();
                caller.log.event(&Event::Refused { refusal, line: called(&named) });
                match naming.failed() {
                    Some(last) => return Err(Some(last.to_owned())),
                    None => caller.peer.queue(reply.as_bytes()),
                }
            }
        }
    }
}

/// What the client's next line comes to; `None` where it is gone.
async fn next_step(caller: &mut Caller<'_>, naming: &mut Naming, budget: &mut Budget) -> Option<Step> {
    loop {
        budget.yield_if_spent().await;
        let has_room = caller.peer.has_room();
        match if has_room { caller.peer.next_line() } else { None } {
            Some(Ok(line)) => {
                budget.count_line();
                let step = naming.line(&line.bytes);
                if let Step::Refuse(refusal) = &step {
                    caller.log.event(&Event::Refused { refusal: refusal.clone(), line: loggable(&line.bytes) });
                }
                return Some(step);
            }
            Some(Err(fault)) => {
                caller.log.event(&Event::BadLine { side: Side::Client, fault });
                return Some(naming.bad_line(fault));
            }
            None => match budget.wait_for(pin!(caller.peer.hear(has_room))).await {
                Heard::Progress => {}
                Heard::Closed | Heard::Lost => return None,
            },
        }
    }
}

/// What the client called its server: a host and a port, for else it could not have been read.
fn called(named: &Named) -> String {
    escaped(&named.called.server)
}

/// Why a server that was named is not reached.
enum Unreached {
    /// The client may name another.
    Refused(Refusal),
    /// It may be there later: this is what the client is told.
    Gone(String),
}

type Connection = (Connected, ServerAddr, Allowed, Arc<Policy>);

/// Looks a server up, asks the rules for each of its addresses, and connects to the first that answers.
async fn reach(caller: &mut Caller<'_>, named: &Named) -> Result<Connection, Unreached> {
    let addresses = match &named.host {
        Host::Address(ip) => vec![*ip],
        Host::Name(name) => caller.context.names.addresses(name, caller.origin.client.ip()).await.map_err(|error| {
            let listener = &caller.listener.name;
            if let NameError::TooMany(_) = error {
                report::too_busy(listener, caller.origin.client.socket(), TOO_MANY_LOOKUPS, LOOKUPS_ADVICE);
                return Unreached::Gone(too_busy(TOO_MANY_LOOKUPS));
            }
            caller.log.no_address(listener, &error);
            match error {
                NameError::Unknown(_) => Unreached::Refused(Refusal::NameUnknown),
                NameError::Unanswered(_) | NameError::Failed { .. } | NameError::TooMany(_) => {
                    Unreached::Gone("421 The server's name cannot be looked up.".to_owned())
                }
            }
        })?,
    };
    let policy = Arc::clone(&caller.context.orders.borrow().policy);
    let mut allowed = Vec::new();
    let mut refused = Refusal::NameUnknown;
    for ip in addresses {
        let server = ServerAddr::new(SocketAddr::new(ip, named.port));
        match check(caller, &policy, server) {
            Ok(by) => allowed.push((server, by)),
            Err(refusal) => refused = refusal,
        }
    }
    if allowed.is_empty() {
        return Err(Unreached::Refused(refused));
    }
    // A host that is there in both families is best reached in the client's own, which needs no bridge.
    allowed.sort_by_key(|(server, _)| server.ip().is_ipv6() != caller.origin.client.ip().is_ipv6());
    allowed.truncate(MOST_TRIED);
    let end = Instant::now() + policy.timeouts.connect;
    let mut failure = Unreached::Refused(refused);
    let mut left = u32::try_from(allowed.len()).unwrap_or(1);
    for (server, by) in allowed {
        if let Err(refused) = caller.enter(&by) {
            left -= 1;
            failure = Unreached::Gone(refused.reached.limit.reply().to_owned());
            continue;
        }
        let patience = end.saturating_duration_since(Instant::now()) / left.max(1);
        match caller.dial(server, caller.origin.front, &by, patience).await {
            Ok(stream) => return Ok((stream, server, by, policy)),
            Err(why) => {
                left -= 1;
                why.log(caller, &server);
                failure = Unreached::Gone(why.reply());
            }
        }
    }
    Err(failure)
}

/// The rule that lets the client to this address; the rules are asked last, for what is never dialled needs no rule.
fn check(caller: &Caller<'_>, policy: &Policy, server: ServerAddr) -> Result<Allowed, Refusal> {
    if !is_dialable(server.ip()) {
        return Err(Refusal::DestinationNotDialable(server.ip()));
    }
    if is_gate(caller.context, policy, server.ip()) {
        return Err(Refusal::DestinationIsGate(server.ip()));
    }
    Allowed::by(policy.decide(&asker(caller.listener, caller.origin.client, server))).map_err(|denied| {
        caller.log.denied(&caller.listener.name, &server, &denied);
        Refusal::DestinationDenied
    })
}
