//! What is written of limits.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Count, CountLimit, Duration, Pace, Size, TimeLimit, Written};

/// How much of the gate clients may have, under whichever rules.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map of limits, such as `sessions: 5000`")]
pub struct Limits {
    /// Sessions at a time, or off (default: what the limit of open files allows, less what data connections need).
    #[serde(default)]
    pub sessions: Written<CountLimit>,
    /// Sessions begun in a minute.
    #[serde(default)]
    pub sessions_per_minute: Written<Count>,
    /// Bytes in a second from clients to servers, all together. The relay moves the data then.
    #[serde(default)]
    pub upload: Written<Pace>,
    /// Bytes in a second from servers to clients, all together. The relay moves the data then.
    #[serde(default)]
    pub download: Written<Pace>,
    /// For each client address; for IPv6, each /64.
    #[serde(default)]
    pub per_client: Written<ClientLimits>,
}

/// What one client address may have, under whichever rules.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map of limits, such as `sessions: 20`")]
pub struct ClientLimits {
    /// Sessions at a time, or off (default: half of what the limit of open files allows for all).
    #[serde(default)]
    pub sessions: Written<CountLimit>,
    /// Sessions begun in a minute.
    #[serde(default)]
    pub sessions_per_minute: Written<Count>,
    /// Failed logins within the time of `pause`, those of all its sessions; then the address is turned away for as long.
    #[serde(default)]
    pub failed_logins: Written<Count>,
    /// For how long it is turned away after too many failed logins (default 5min).
    #[serde(default)]
    pub pause: Written<Duration>,
    /// Bytes in a second to servers, those of all its sessions. The relay moves the data then.
    #[serde(default)]
    pub upload: Written<Pace>,
    /// Bytes in a second from servers, those of all its sessions. The relay moves the data then.
    #[serde(default)]
    pub download: Written<Pace>,
}

/// How much the clients of a rule may have.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map of limits, such as `sessions: 100`")]
pub struct RuleLimits {
    /// Sessions at a time, of all clients.
    #[serde(default)]
    pub sessions: Written<Count>,
    /// Sessions begun in a minute, of all clients.
    #[serde(default)]
    pub sessions_per_minute: Written<Count>,
    /// Commands in a second, of each session; a client that sends more is read more slowly.
    #[serde(default)]
    pub commands_per_second: Written<Count>,
    /// Failed logins, before the session ends.
    #[serde(default)]
    pub failed_logins: Written<Count>,
    /// Bytes in a second to the server, of each session. The relay moves the data then.
    #[serde(default)]
    pub upload: Written<Pace>,
    /// Bytes in a second from the server, of each session. The relay moves the data then.
    #[serde(default)]
    pub download: Written<Pace>,
    /// Bytes of one transfer; what would be larger is cut. The relay moves the data then.
    #[serde(default)]
    pub transfer_size: Written<Size>,
    /// How long a client may take to log in, or off (default 60s).
    #[serde(default)]
    pub login_timeout: Written<TimeLimit>,
    /// How long a session may do nothing: no command, no transfer.
    #[serde(default)]
    pub idle_timeout: Written<Duration>,
    /// How long a transfer may move nothing, before it is cut. The relay moves the data then.
    #[serde(default)]
    pub stall_timeout: Written<Duration>,
    /// For each client address; for IPv6, each /64.
    #[serde(default)]
    pub per_client: Written<RuleClientLimits>,
}

/// What one client address may have under a rule.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map of limits, such as `sessions: 5`")]
pub struct RuleClientLimits {
    /// Sessions at a time.
    #[serde(default)]
    pub sessions: Written<Count>,
    /// Sessions begun in a minute.
    #[serde(default)]
    pub sessions_per_minute: Written<Count>,
    /// Bytes in a second to servers, those of all its sessions. The relay moves the data then.
    #[serde(default)]
    pub upload: Written<Pace>,
    /// Bytes in a second from servers, those of all its sessions. The relay moves the data then.
    #[serde(default)]
    pub download: Written<Pace>,
}
