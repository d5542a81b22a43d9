//! What happens, told to the operator: the only place with the texts of log lines.
//!
//! Every line has a stable name in `event`, and what is refused has its reason's name in `reason`: the README lists
//! both. Nothing that a peer said gets here unescaped.

mod flood;
mod header;
mod log;
mod names;
mod session;
mod story;
mod stranger;
mod unanswered;
mod writer;

pub use flood::lines_left_out;
pub use log::{LogFormat, init};
pub use session::SessionLog;
pub use unanswered::Unanswered;
pub use writer::flush;

use std::collections::BTreeMap;
use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use tracing::{debug, error, info, warn};

use crate::limits::{LineKind, Tally};
use crate::policy::Listener;
use crate::session::HeaderTrouble;

/// A listener takes clients from now on.
pub fn listening(listener: &Listener) {
    info!(event = "listening", listener = %listener.name, bind = %listener.bind, "listening");
}

/// The gate is up.
pub fn ready(rules: usize) {
    info!(event = "ready", rules, version = env!("CARGO_PKG_VERSION"), "ready");
}

/// A client could not be accepted. This is told now and then, with how often it was so.
pub fn not_accepted(listener: &str, error: &std::io::Error) {
    let Some(times) = tally("accept_failed") else { return };
    warn!(event = "accept_failed", listener, %error, times, advice = "new clients wait; running sessions go on. \
        If this is EMFILE or ENFILE, raise the limit of open files (LimitNOFILE=)", "cannot accept a client");
}

/// Clients are turned away because the gate lacks something. This is told now and then, with their number.
pub fn too_busy(listener: &str, client: SocketAddr, reason: &'static str, advice: &'static str) {
    let Some(times) = tally(reason) else { return };
    warn!(event = "too_busy", listener, %client, reason, times, advice, "clients were told to try again later");
}

/// How often this has happened since it was last told; `None` where it is too early to tell it again.
fn tally(what: &'static str) -> Option<u64> {
    static TALLIES: Mutex<BTreeMap<&str, Tally>> = Mutex::new(BTreeMap::new());
    let mut tallies = TALLIES.lock().unwrap_or_else(PoisonError::into_inner);
    tallies.entry(what).or_default().note(Instant::now())
}

/// A name in `advertise` has no address now: PASV is refused until it has one.
pub fn not_advertised(error: &dyn Display) {
    warn!(event = "name_not_found", %error, advice = "clients that ask for PASV are refused until it has an address; \
        see /etc/resolv.conf and /etc/hosts", "no address for a name in `advertise`");
}

/// This machine translates the gate's connections to servers into an address that the gate cannot have.
pub fn translated(listener: &str, from: IpAddr, to: IpAddr) {
    let Some(times) = tally("source_translated") else { return };
    warn!(event = "source_translated", listener, %from, %to, times, advice = "servers refuse active mode (501), or connect \
        to where nobody listens: translate into an address that this machine has (masquerade), take the gate's connections \
        out of that rule, or write `server_mode: passive`", "a NAT rule of this machine gives the gate's connections to \
        servers an address that it does not have");
}

/// Whether this machine translates the connections that the gate makes with clients' addresses cannot be known.
pub fn translation_unknown(listener: &str) {
    warn!(
        event = "translation_unknown",
        listener,
        advice = "run with CAP_NET_ADMIN, or keep masquerade and other source NAT \
        rules of this machine off the gate's connections to servers: with one of them servers refuse active mode (501)",
        "conntrack cannot be asked whether this machine translates the connections of `source: client`"
    );
}

/// A connection of a balancer's was closed, because it did not begin with a good PROXY header; what it began with, where
/// it said anything or stayed.
pub fn bad_proxy_header(listener: &str, from: SocketAddr, trouble: HeaderTrouble, seen: Option<&[u8]>) {
    if !flood::may_write(LineKind::Fault, from.ip()) {
        return;
    }
    let HeaderTrouble { reason, advice } = trouble;
    let Some(seen) = seen else {
        // Balancers look like this whether the gate is up.
        info!(event = "bad_proxy_header", listener, %from, reason, "the connection ended before its PROXY header");
        return;
    };
    let seen = header::shown(seen);
    warn!(event = "bad_proxy_header", listener, %from, reason, seen, advice, "connection closed");
}

/// A host of `health_checks_from` looks whether the gate is up.
pub fn health_check(listener: &str, from: SocketAddr) {
    debug!(event = "health_check", listener, %from, "health check");
}

/// The reader of the log did not keep up with it.
fn lines_dropped(times: u64) {
    warn!(
        event = "log_lines_dropped",
        times, "log lines were dropped: nobody took them from standard error for a while"
    );
}

/// New rules hold.
pub fn reloaded(changes: &[String]) {
    let changes = if changes.is_empty() { "none".to_owned() } else { changes.join("; ") };
    info!(event = "reloaded", changes, "the rules were reloaded");
}

/// The rules file is wrong or its listeners cannot be had; the old rules hold.
pub fn not_reloaded(why: &dyn Display) {
    error!(event = "reload_failed", "the rules were not reloaded, the old ones hold:\n{why}");
}

/// The gate takes no more clients.
pub fn draining(sessions: usize, limit: std::time::Duration) {
    info!(event = "draining", sessions, seconds = limit.as_secs(), "shutting down: transfers may end");
}

/// The gate is gone.
pub fn stopped() {
    lines_left_out();
    info!(event = "stopped", "stopped");
}

/// A session could not go on because of a fault in the gate.
pub fn session_panicked(client: SocketAddr) {
    error!(event = "session_panicked", %client, "a fault of the gate ended this session; others go on");
}

/// Something on this machine keeps the kernel from carrying data connections.
pub fn obstacle(what: &dyn Display) {
    warn!(event = "kernel_datapath_obstacle", "{what}");
}

/// It does not any more.
pub fn no_obstacle(chain: &dyn Display) {
    info!(event = "kernel_datapath_free", %chain, "a chain no longer keeps the kernel from carrying data connections");
}

/// Another firewall of this machine drops what comes to the gate, or what the gate sends.
pub fn firewall_obstacle(what: &dyn Display) {
    warn!(event = "firewall_obstacle", "{what}");
}

/// It does not any more.
pub fn no_firewall_obstacle(chain: &dyn Display) {
    info!(event = "firewall_free", %chain, "a chain no longer drops what the gate needs");
}

/// What is to be known of the kernel's datapath: its table, or why there is none.
pub fn kernel_datapath(table: Result<&str, &dyn Display>) {
    match table {
        Ok(table) => info!(event = "kernel_datapath", table, "data connections go through the kernel where they can"),
        Err(why) => warn!(event = "no_kernel_datapath", %why, "the relay moves all data"),
    }
}

/// Connections to servers are handed to the transparent listeners.
/// `closed`: none gets past them; `dropped`: the families that no listener takes.
pub fn intercepting(closed: bool, dropped: &[&str]) {
    let past = if closed { "dropped" } else { "pass (--fail-open)" };
    info!(event = "intercepting", others = past, "connections to the servers are handed to the transparent listeners");
    for family in dropped {
        info!(
            event = "family_dropped",
            family, "no transparent listener takes this family: connections to the servers' control ports are dropped"
        );
    }
}

/// Clients that come over these bridges do not get to a listener with `transparent: tproxy`.
pub fn bridged(bridges: &[String], settings: &[&str]) {
    let (bridges, settings) = (bridges.join(", "), settings.join("=0 ") + "=0");
    warn!(
        event = "bridge_obstacle",
        bridges,
        advice = format!("`sysctl -w {settings}`, or write `transparent: redirect`"),
        "clients that come over a bridge cannot connect: its packets go through iptables, where tproxy cannot deliver them"
    );
}

/// The interception is not as these rules need it. `command` mends that, where one does.
pub fn interception_missing(missing: &str, closed: bool, command: Option<&str>) {
    let others = if closed { "are dropped" } else { "reach the servers unchecked (--fail-open)" };
    let advice = command.map(|_| "run the command, or start with --intercept");
    warn!(
        event = "interception_missing",
        missing, command, advice, "connections that do not get to a transparent listener {others}"
    );
}

/// The gate has loaded what was missing; `again` where it was complete a moment before.
pub fn interception_loaded(missing: &str, again: bool) {
    if again {
        warn!(
            event = "interception_loaded",
            missing, "another program has changed the interception: it was loaded again"
        );
    } else {
        info!(event = "interception_loaded", missing, "the interception was loaded");
    }
}

/// Somebody loads another interception again and again.
pub fn interception_contested() {
    warn!(
        event = "interception_contested",
        advice = "run one gate with transparent listeners on this machine, or in a network namespace of its own",
        "another gate on this machine replaces the interception with its own again and again"
    );
}

/// There is no table of the gate's own that drops what gets past it.
pub fn not_guarded(why: &str) {
    warn!(
        event = "not_guarded",
        why, "what gets past the transparent listeners is dropped by the loaded interception alone"
    );
}

/// Options about interception have no effect.
pub fn nothing_to_intercept() {
    warn!(event = "nothing_to_intercept", "no listener is transparent: --intercept and --fail-open have no effect");
}

/// Control connections are handed over and none arrives.
pub fn none_arrives(packets: u64) {
    warn!(
        event = "interception_without_arrivals",
        packets,
        advice = "another rule of this machine drops them, or drops the answers: look for rules by interface, address or mark on the \
            input and output chains, for rules that change packet marks after mangle, for routing rules and reverse-path \
            filters (`nft monitor trace` shows where a packet ends)",
        "clients' connections are handed to the transparent listeners, and none has arrived"
    );
}

/// They do again.
pub fn arrives() {
    info!(event = "interception_arrives", "connections arrive at the transparent listeners again");
}

/// Somebody has tried to get past the listeners.
pub fn bypass_dropped(packets: u64) {
    warn!(
        event = "bypass_dropped",
        packets,
        advice = "connections from before the interception end so; if others time out, a rule of this machine keeps them from the \
            listeners: `notrack` beside `redirect`, packet marks that are changed or restored after mangle, routing rules ahead of \
            that for the mark, or a family without a listener",
        "packets to the servers' control ports that were not handed to a listener were dropped"
    );
}

/// The gate has taken back what it loaded.
pub fn interception_unloaded() {
    info!(
        event = "interception_unloaded",
        "connections are no longer handed to the gate: they go to the servers from now on"
    );
}

/// Nobody knows whether connections are handed to the transparent listeners.
pub fn interception_unknown(why: &str) {
    warn!(event = "interception_unknown", why, "whether connections get to the transparent listeners is not known");
}

/// A signal came that means nothing to the gate.
pub fn signal_ignored(signal: &'static str) {
    info!(event = "signal_ignored", signal, "signal ignored: SIGHUP reloads, SIGTERM and SIGINT drain");
}

/// What the process has given up before it serves anybody.
pub fn sandbox(uid: u32, capabilities: &str, seccomp: &str, landlock: &str, complete: bool) {
    if seccomp == "off" && landlock == "off" {
        warn!(event = "sandbox", uid, capabilities, seccomp, landlock, "the sandbox is off (`--no-sandbox`)");
    } else if complete {
        info!(event = "sandbox", uid, capabilities, seccomp, landlock, "privileges given up");
    } else {
        warn!(
            event = "sandbox",
            uid,
            capabilities,
            seccomp,
            landlock,
            advice = "an intruder would find more to do than on \
            a newer kernel, or in a container that allows this",
            "privileges given up as far as this system can"
        );
    }
}

/// Something of the system that the operator can mend.
pub fn system(what: &str, error: &dyn Display) {
    warn!(event = "system", %error, "{what}");
}
