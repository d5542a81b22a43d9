//! Limits: how much of the gate all of its clients, those of a rule, or one client address may have.

use std::num::{NonZeroU32, NonZeroU64};
use std::time::Duration;

/// A limit, by its key in the rules file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Limit {
    /// Sessions at a time.
    Sessions,
    /// Sessions begun in a minute.
    SessionsPerMinute,
    /// Commands in a second.
    CommandsPerSecond,
    /// Failed logins.
    FailedLogins,
    /// The time for which an address is turned away after too many failed logins.
    Pause,
    /// Bytes in a second from clients to servers.
    Upload,
    /// Bytes in a second from servers to clients.
    Download,
    /// Bytes of one transfer.
    TransferSize,
    /// How long a client may take to log in.
    LoginTimeout,
    /// How long a session may do nothing.
    IdleTimeout,
    /// How long a transfer may move nothing.
    StallTimeout,
}

impl Limit {
    /// Its key in the rules file, which is the name that logs use.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sessions => "sessions",
            Self::SessionsPerMinute => "sessions_per_minute",
            Self::CommandsPerSecond => "commands_per_second",
            Self::FailedLogins => "failed_logins",
            Self::Pause => "pause",
            Self::Upload => "upload",
            Self::Download => "download",
            Self::TransferSize => "transfer_size",
            Self::LoginTimeout => "login_timeout",
            Self::IdleTimeout => "idle_timeout",
            Self::StallTimeout => "stall_timeout",
        }
    }

    /// What the client is told, without the line's end: 421 where it ends the session (RFC 959 section 4.2), 552 or 426
    /// in place of the server's reply where it cuts a transfer.
    #[must_use]
    pub const fn reply(self) -> &'static str {
        match self {
            Self::Sessions => "421 Too many sessions (sessions); try again later.",
            Self::SessionsPerMinute => "421 Too many new sessions (sessions_per_minute); try again later.",
            Self::CommandsPerSecond => "421 Too many commands for too long (commands_per_second).",
            Self::FailedLogins => "421 Too many failed logins (failed_logins).",
            Self::Pause => "421 Too many failed logins before this (pause); try again later.",
            Self::LoginTimeout => "421 Nobody has logged in for too long (login_timeout).",
            Self::IdleTimeout => "421 Nothing was asked for too long (idle_timeout).",
            Self::TransferSize => "552 The transfer is larger than is allowed (transfer_size).",
            Self::StallTimeout => "426 Nothing has moved for too long; transfer aborted (stall_timeout).",
            Self::Upload | Self::Download => "426 Transfer aborted.",
        }
    }
}

/// A limit that was reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reached {
    /// Which.
    pub limit: Limit,
    /// What it is, as one would write it in the rules file.
    pub value: String,
    /// Whose it is.
    pub whose: Whose,
    /// Whether nobody wrote it: it holds by default.
    pub is_default: bool,
}

/// Who has a limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whose {
    /// The gate, for all that it does.
    Gate,
    /// The gate, for each client address.
    GateClient,
    /// A rule.
    Rule(String),
    /// A rule, for each client address.
    RuleClient(String),
}

/// What all who share a limit may have together: every client of the gate, those of a rule, one client address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Together {
    /// Sessions at a time.
    pub sessions: Option<NonZeroU32>,
    /// Sessions begun in a minute.
    pub sessions_per_minute: Option<NonZeroU32>,
    /// Bytes in a second from clients to servers.
    pub upload: Option<NonZeroU64>,
    /// Bytes in a second from servers to clients.
    pub download: Option<NonZeroU64>,
}

impl Together {
    /// Whether nothing is limited.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// Those that there are, as one would write them in the rules file.
    #[must_use]
    pub fn written(&self) -> Vec<String> {
        let count = |limit: Limit, most: Option<NonZeroU32>| most.map(|most| format!("{} {most}", limit.name()));
        let pace = |limit: Limit, most: Option<NonZeroU64>| {
            most.map(|most| format!("{} {}/s", limit.name(), size(most.get())))
        };
        let all = [
            count(Limit::Sessions, self.sessions),
            count(Limit::SessionsPerMinute, self.sessions_per_minute),
            pace(Limit::Upload, self.upload),
            pace(Limit::Download, self.download),
        ];
        all.into_iter().flatten().collect()
    }

    /// Whether bytes are.
    #[must_use]
    pub const fn has_pace(&self) -> bool {
        self.upload.is_some() || self.download.is_some()
    }
}

/// The limits of the gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GateLimits {
    /// For all that it does.
    pub all: Together,
    /// For each client address.
    pub client: Together,
    /// Which of the two `sessions` are not written, and get a default that depends on the machine.
    pub unwritten: Unwritten,
    /// How many logins of one address may fail in the time of a pause, before it is turned away for as long.
    pub failed_logins: Option<NonZeroU32>,
    /// For how long.
    pub pause: Duration,
}

impl Default for GateLimits {
    fn default() -> Self {
        Self {
            all: Together::default(),
            client: Together::default(),
            unwritten: Unwritten { all: true, client: true },
            failed_logins: None,
            pause: Duration::from_secs(300),
        }
    }
}

/// The `sessions` limits of the gate that the rules file leaves to the default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unwritten {
    /// Of the gate as a whole.
    pub all: bool,
    /// Of each client address.
    pub client: bool,
}

impl GateLimits {
    /// Without what was filled in: what is written.
    #[must_use]
    pub const fn as_written(mut self) -> Self {
        if self.unwritten.all {
            self.all.sessions = None;
        }
        if self.unwritten.client {
            self.client.sessions = None;
        }
        self
    }

    /// Fills in the `sessions` limits that are not written.
    #[must_use]
    pub const fn with_defaults(mut self, capacity: Capacity) -> Self {
        if self.unwritten.all {
            self.all.sessions = capacity.sessions;
        }
        if self.unwritten.client {
            self.client.sessions = capacity.sessions_per_client;
        }
        self
    }
}

/// How many sessions a process can serve with the descriptors that it may have.
///
/// A session has two descriptors, the client's connection and the server's. A part of the rest is kept for the data
/// connections of running sessions, so that new clients cannot take those away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// The limit of open descriptors (`RLIMIT_NOFILE`).
    pub descriptors: u64,
    /// What the process itself needs: listeners, threads, the log.
    pub own: u64,
    /// What is kept for data connections.
    pub reserve: u64,
    /// How many names may be looked up at a time.
    pub lookups: u32,
    /// The default of `sessions`; `None` where nobody could count so far.
    pub sessions: Option<NonZeroU32>,
    /// The default of `per_client: sessions`.
    pub sessions_per_client: Option<NonZeroU32>,
}

/// The descriptors of a lookup: two name servers, asked for two kinds of addresses, and again where they do not answer.
const LOOKUP_DESCRIPTORS: u64 = 8;

impl Capacity {
    /// What a process with this limit of descriptors can serve, which needs `own` of them for itself.
    #[must_use]
    pub fn new(descriptors: u64, own: u64) -> Self {
        let free = descriptors.saturating_sub(own);
        // Where there are few, half of them: a session without data is of no use.
        let reserve = (descriptors / 8).max(64).min(free / 2);
        let lookups = (reserve / 4 / LOOKUP_DESCRIPTORS).clamp(1, 64);
        let sessions = (free.saturating_sub(reserve + lookups * LOOKUP_DESCRIPTORS) / 2).max(1);
        let count = |sessions: u64| u32::try_from(sessions).ok().and_then(NonZeroU32::new);
        Self {
            descriptors,
            own,
            reserve,
            lookups: u32::try_from(lookups).unwrap_or(u32::MAX),
            sessions: count(sessions),
            sessions_per_client: count((sessions / 2).max(1)),
        }
    }

    /// How many data connections the sessions of all clients may have that have one already, and those of each client. A
    /// client that does not read what it asked for keeps such a connection and its two descriptors, and may ask again.
    #[must_use]
    pub fn further_data(&self) -> [u32; 2] {
        let count = |descriptors: u64| u32::try_from(descriptors).unwrap_or(u32::MAX).max(1);
        [count(self.reserve / 4), count(self.reserve / 8)]
    }

    /// Whether a client may have the descriptor `number`, which is the lowest that is free, and be one of so many
    /// sessions. Half of the reserve is kept even where data connections have taken more than the rest.
    #[must_use]
    pub const fn has_room(&self, number: u64, sessions: u64) -> bool {
        let last = self.descriptors.saturating_sub(self.reserve / 2);
        number.saturating_add(1) < last && self.own.saturating_add(sessions.saturating_mul(2)) <= last
    }
}

/// A time after which something ends, or that it never does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TimeLimit {
    /// After this time.
    After(Duration),
    /// Never; written `off`.
    Off,
}

/// The limits of a rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuleLimits {
    /// For all of its sessions together.
    pub all: Together,
    /// For each client address.
    pub client: Together,
    /// For each session.
    pub session: SessionLimits,
}

impl RuleLimits {
    /// The first limit that only our process can keep to: the kernel neither paces nor cuts what it moves.
    #[must_use]
    pub fn of_the_relay(&self) -> Option<Limit> {
        let SessionLimits { upload, download, transfer_size, stall_timeout, .. } = self.session;
        [
            (Limit::Upload, upload.or(self.client.upload).is_some()),
            (Limit::Download, download.or(self.client.download).is_some()),
            (Limit::TransferSize, transfer_size.is_some()),
            (Limit::StallTimeout, stall_timeout.is_some()),
        ]
        .into_iter()
        .find_map(|(limit, is_set)| is_set.then_some(limit))
    }
}

/// What one session may have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionLimits {
    /// Commands in a second.
    pub commands_per_second: Option<NonZeroU32>,
    /// Failed logins, before it ends.
    pub failed_logins: Option<NonZeroU32>,
    /// Bytes in a second from the client to the server.
    pub upload: Option<NonZeroU64>,
    /// Bytes in a second from the server to the client.
    pub download: Option<NonZeroU64>,
    /// Bytes of one transfer.
    pub transfer_size: Option<NonZeroU64>,
    /// How long the client may take to log in; `None` where it is not written, and the default holds.
    pub login_timeout: Option<TimeLimit>,
    /// How long neither commands nor data may come.
    pub idle_timeout: Option<Duration>,
    /// How long a transfer may move nothing.
    pub stall_timeout: Option<Duration>,
}

impl SessionLimits {
    /// How long a client may take to log in where no rule says otherwise.
    pub const LOGIN_TIMEOUT: Duration = Duration::from_secs(60);

    /// How long the client may take to log in; `None`: as long as it likes.
    #[must_use]
    pub const fn time_to_log_in(&self) -> Option<Duration> {
        match self.login_timeout {
            None => Some(Self::LOGIN_TIMEOUT),
            Some(TimeLimit::After(time)) => Some(time),
            Some(TimeLimit::Off) => None,
        }
    }

    /// Whether anything is limited that the session itself has to watch while somebody is logged in, or nobody is.
    #[must_use]
    pub const fn are_watched(&self, logged_in: bool) -> bool {
        let counted = self.commands_per_second.is_some() || self.failed_logins.is_some();
        counted || self.idle_timeout.is_some() || (!logged_in && self.time_to_log_in().is_some())
    }

    /// Whether this limit holds although nobody wrote it.
    #[must_use]
    pub fn is_default(&self, limit: Limit) -> bool {
        limit == Limit::LoginTimeout && self.login_timeout.is_none()
    }

    /// The stricter of each.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        fn less<T: Ord>(one: Option<T>, other: Option<T>) -> Option<T> {
            one.into_iter().chain(other).min()
        }
        Self {
            commands_per_second: less(self.commands_per_second, other.commands_per_second),
            failed_logins: less(self.failed_logins, other.failed_logins),
            upload: less(self.upload, other.upload),
            download: less(self.download, other.download),
            transfer_size: less(self.transfer_size, other.transfer_size),
            login_timeout: less(self.login_timeout, other.login_timeout),
            idle_timeout: less(self.idle_timeout, other.idle_timeout),
            stall_timeout: less(self.stall_timeout, other.stall_timeout),
        }
    }

    /// Those that there are, as one would write them in the rules file.
    #[must_use]
    pub fn written(&self) -> Vec<String> {
        let all = [
            Limit::CommandsPerSecond,
            Limit::FailedLogins,
            Limit::Upload,
            Limit::Download,
            Limit::TransferSize,
            Limit::LoginTimeout,
            Limit::IdleTimeout,
            Limit::StallTimeout,
        ];
        let written = all.into_iter().filter(|limit| !self.is_default(*limit));
        let written = written.map(|limit| (limit.name(), self.value(limit)));
        written.filter(|(_, value)| !value.is_empty()).map(|(name, value)| format!("{name} {value}")).collect()
    }

    /// What this limit is, as one would write it in the rules file, whether it is written or not.
    #[must_use]
    pub fn value(&self, limit: Limit) -> String {
        let wait = |time: Option<Duration>| time.map(|time| humantime::format_duration(time).to_string());
        let size = |bytes: Option<NonZeroU64>| bytes.map(|bytes| size(bytes.get()));
        let count = |count: Option<NonZeroU32>| count.map(|count| count.to_string());
        let value = match limit {
            Limit::CommandsPerSecond => count(self.commands_per_second),
            Limit::FailedLogins => count(self.failed_logins),
            Limit::Upload => size(self.upload).map(|size| format!("{size}/s")),
            Limit::Download => size(self.download).map(|size| format!("{size}/s")),
            Limit::TransferSize => size(self.transfer_size),
            Limit::LoginTimeout => wait(self.time_to_log_in()).or_else(|| Some("off".to_owned())),
            Limit::IdleTimeout => wait(self.idle_timeout),
            Limit::StallTimeout => wait(self.stall_timeout),
            Limit::Sessions | Limit::SessionsPerMinute | Limit::Pause => None,
        };
        value.unwrap_or_default()
    }
}

/// The units of sizes.
pub const UNITS: [(&str, u64); 10] = [
    ("TiB", 1 << 40),
    ("TB", 1_000_000_000_000),
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("kB", 1_000),
    ("KB", 1_000),
    ("B", 1),
];

/// A size in the largest unit of which it is a whole number.
#[must_use]
pub fn size(bytes: u64) -> String {
    let whole = UNITS.iter().filter(|(_, unit)| bytes >= *unit && bytes.is_multiple_of(*unit));
    let (name, unit) = whole.min_by_key(|(_, unit)| bytes / *unit).copied().unwrap_or(("B", 1));
    format!("{}{name}", bytes / unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_written_as_one_would() {
        for (bytes, text) in
            [(1, "1B"), (1000, "1kB"), (1024, "1KiB"), (1536, "1536B"), (10 << 20, "10MiB"), (2 << 30, "2GiB")]
        {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn of_two_limits_the_stricter_holds() {
        let one = SessionLimits { failed_logins: NonZeroU32::new(3), ..SessionLimits::default() };
        let other = SessionLimits {
            failed_logins: NonZeroU32::new(5),
            login_timeout: Some(TimeLimit::After(Duration::from_secs(60))),
            ..SessionLimits::default()
        };
        let both = one.and(other);
        assert_eq!(both, other.and(one));
        assert_eq!((both.failed_logins, both.login_timeout), (one.failed_logins, other.login_timeout));
        assert_eq!((both.value(Limit::FailedLogins), both.value(Limit::LoginTimeout)), ("3".into(), "1m".into()));
    }

    #[test]
    fn a_login_has_a_minute_unless_something_else_is_written() {
        let limits = |login_timeout| SessionLimits { login_timeout, ..SessionLimits::default() };
        let (unwritten, off) = (limits(None), limits(Some(TimeLimit::Off)));
        let five = limits(Some(TimeLimit::After(Duration::from_secs(300))));
        assert_eq!(unwritten.time_to_log_in(), Some(SessionLimits::LOGIN_TIMEOUT));
        assert_eq!((off.time_to_log_in(), off.are_watched(false)), (None, false));
        assert!(unwritten.are_watched(false) && !unwritten.are_watched(true));
        // What is written counts before what is not, and a time before none.
        assert_eq!(unwritten.and(five), five);
        assert_eq!(unwritten.and(off), off);
        assert_eq!(off.and(five), five);
        assert!(unwritten.written().is_empty());
        assert_eq!(
            (off.written(), five.written()),
            (vec!["login_timeout off".into()], vec!["login_timeout 5m".into()])
        );
    }

    #[test]
    fn sessions_leave_descriptors_for_data() {
        for descriptors in [0, 1, 16, 64, 128, 256, 1024, 20_000, 1 << 20, u64::MAX] {
            let capacity = Capacity::new(descriptors, 40);
            let sessions = u64::from(capacity.sessions.map_or(u32::MAX, NonZeroU32::get));
            if descriptors > 50 && descriptors < 1 << 32 {
                let lookups = u64::from(capacity.lookups) * LOOKUP_DESCRIPTORS;
                assert!(40 + sessions * 2 + lookups + capacity.reserve <= descriptors, "{capacity:?}");
            }
            assert!(capacity.sessions_per_client <= capacity.sessions && capacity.lookups > 0);
        }
        let capacity = Capacity::new(256, 40);
        assert_eq!((capacity.reserve, capacity.lookups), (64, 2));
        assert_eq!(capacity.sessions.zip(capacity.sessions_per_client), NonZeroU32::new(68).zip(NonZeroU32::new(34)));
        // 40 + 2 * 92 = 224, which is half of the reserve less than all.
        assert!(capacity.has_room(222, 92));
        assert!(!capacity.has_room(223, 92) && !capacity.has_room(222, 93));
        assert!(Capacity::new(u64::MAX, 40).has_room(1 << 40, 1 << 40));
    }

    #[test]
    fn defaults_fill_only_what_is_not_written() {
        let capacity = Capacity::new(1024, 40);
        let filled = GateLimits::default().with_defaults(capacity);
        assert_eq!((filled.all.sessions, filled.client.sessions), (capacity.sessions, capacity.sessions_per_client));
        let off = GateLimits { unwritten: Unwritten { all: true, client: false }, ..GateLimits::default() };
        assert_eq!(off.with_defaults(capacity).client.sessions, None);
        assert_eq!(off.with_defaults(capacity).all.sessions, capacity.sessions);
    }
}
