//! What becomes of a client that wants to reach a server.

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;

use super::table::{Firsts, Search};
use super::{Listener, Permission, Policy, ProxyVersion, Rule, SessionLimits, Stand};
use crate::addr::{ClientAddr, ServerAddr};
use crate::ftp::telnet;

/// Who wants to reach what.
#[derive(Clone, Copy, Debug)]
pub struct Asker<'a> {
    /// The listener that the client came to, by its name.
    pub listener: &'a str,
    /// Whether the client names its server itself, at an explicit listener.
    pub is_explicit: bool,
    /// The client.
    pub client: ClientAddr,
    /// The server.
    pub server: ServerAddr,
    /// Now.
    pub at: Timestamp,
}

/// The control port of FTP.
const CONTROL_PORT: u16 = 21;

impl<'a> Asker<'a> {
    /// A client that has come to this listener.
    #[must_use]
    pub fn new(listener: &'a Listener, client: ClientAddr, server: ServerAddr, at: Timestamp) -> Self {
        Self { listener: &listener.name, is_explicit: listener.stand == Stand::Explicit, client, server, at }
    }

    /// Whether the client names a port that only a destination with this port allows: behind others than 21 there may
    /// be anything, a mail server for example.
    #[must_use]
    pub const fn chose_port(&self) -> bool {
        self.is_explicit && self.server.port() != CONTROL_PORT
    }
}

/// What becomes of a client that wants to reach a server.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Decision {
    /// The session may be; this rule holds for it.
    Allow(Arc<Rule>),
    /// The session may not be.
    Deny(Denied),
    /// The user decides: the session may be until it has named one.
    AtLogin(Candidates),
}

/// Why a client was denied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denied {
    /// A rule says so.
    ByRule(Arc<Rule>),
    /// No rule matches, and what no rule matches is denied.
    NoRule,
}

/// The rules that may hold for a session, by its user. They are looked for when one is named.
#[derive(Clone, PartialEq, Eq)]
pub struct Candidates {
    search: Box<Search>,
    send_proxy: Option<ProxyVersion>,
    limits: SessionLimits,
}

impl Candidates {
    /// The rule that holds for this user, in each way that servers may read 0xFF in its name.
    ///
    /// # Errors
    /// Where it is denied.
    pub fn choose(&self, user: &[u8]) -> Result<Arc<Rule>, Denied> {
        let rule = self.choose_as_read(user)?;
        for read in telnet::readings(user) {
            if self.choose_as_read(read.trim_ascii())? != rule {
                return Err(Denied::NoRule);
            }
        }
        Ok(rule)
    }

    fn choose_as_read(&self, user: &[u8]) -> Result<Arc<Rule>, Denied> {
        match self.search.for_user(user) {
            Some(rule) if rule.permission == Permission::Allow => Ok(Arc::clone(rule)),
            Some(rule) => Err(Denied::ByRule(Arc::clone(rule))),
            None => Err(Denied::NoRule),
        }
    }

    /// The PROXY header that the server is sent first, before anybody is logged in: as the first rule wants it that lets
    /// somebody in.
    #[must_use]
    pub const fn send_proxy(&self) -> Option<ProxyVersion> {
        self.send_proxy
    }

    /// What a session may have before anybody is logged in: the least that any of the rules allows that let somebody in.
    #[must_use]
    pub const fn limits(&self) -> &SessionLimits {
        &self.limits
    }

    /// The rule that holds before anybody is logged in: it allows nothing.
    #[must_use]
    pub fn nobody() -> Arc<Rule> {
        Arc::new(Rule::new("(before login)", Permission::Deny))
    }
}

impl fmt::Debug for Candidates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Candidates").finish_non_exhaustive()
    }
}

impl Policy {
    /// Decides whether a client may reach a server.
    pub fn decide(&self, asker: &Asker<'_>) -> Decision {
        let (search, Firsts { plain, lets_in, for_users, limits }) = self.rules.search(asker);
        let allows = plain.as_ref().is_some_and(|rule| rule.permission == Permission::Allow);
        match plain.clone() {
            // Where no user gets in, it is not worth a login.
            _ if lets_in.is_some() || (for_users && allows) => {
                let first = lets_in.or(plain);
                let send_proxy = first.and_then(|rule| rule.send_proxy);
                Decision::AtLogin(Candidates { search: Box::new(search), send_proxy, limits })
            }
            Some(rule) if allows => Decision::Allow(rule),
            Some(rule) => Decision::Deny(Denied::ByRule(rule)),
            None => Decision::Deny(Denied::NoRule),
        }
    }

    /// Whether there is any server that `client` might be allowed at this listener.
    #[must_use]
    pub fn may_admit(&self, listener: &str, client: ClientAddr, at: Timestamp) -> bool {
        self.rules.admit(listener, client, at)
    }

    /// When some rule begins or ceases to hold next, for its hours.
    #[must_use]
    pub fn next_change(&self, at: Timestamp) -> Option<Timestamp> {
        self.rules.next_change(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{GateLimits, Globs, Timeouts};

    fn rule(name: &str, users: Option<&str>, permission: Permission) -> Arc<Rule> {
        let users = users.map(|users| Globs::for_names(vec![users.to_owned()]).unwrap());
        Arc::new(Rule { users, ..Rule::new(name, permission) })
    }

    fn decide(rules: Vec<Arc<Rule>>) -> Decision {
        let policy = Policy {
            listeners: Vec::new(),
            rules: rules.into(),
            timeouts: Timeouts::default(),
            limits: GateLimits::default(),
        };
        policy.decide(&Asker {
            listener: "public",
            is_explicit: false,
            client: ClientAddr::new("192.0.2.7:50000".parse().unwrap()),
            server: ServerAddr::new("10.0.2.2:21".parse().unwrap()),
            at: Timestamp::UNIX_EPOCH,
        })
    }

    #[test]
    fn users_decide_at_login() {
        use Permission::{Allow, Deny};
        let rules = vec![
            rule("not-root", Some("root"), Deny),
            rule("staff", Some("a*"), Allow),
            rule("others", None, Deny),
            rule("never", Some("z"), Allow),
        ];
        let Decision::AtLogin(candidates) = decide(rules) else { panic!("not at login") };
        assert_eq!(candidates.choose(b"anna").map(|rule| rule.name.clone()), Ok("staff".to_owned()));
        assert!(matches!(candidates.choose(b"root"), Err(Denied::ByRule(rule)) if rule.name == "not-root"));
        assert!(matches!(candidates.choose(b"z"), Err(Denied::ByRule(rule)) if rule.name == "others"));
    }

    #[test]
    fn what_no_user_can_change_is_decided_at_once() {
        use Permission::{Allow, Deny};
        assert!(matches!(decide(vec![rule("all", None, Allow), rule("a", Some("a"), Deny)]), Decision::Allow(_)));
        let denied = decide(vec![rule("a", Some("a"), Deny), rule("rest", None, Deny)]);
        assert!(matches!(denied, Decision::Deny(_)));
        let Decision::AtLogin(candidates) = decide(vec![rule("a", Some("a"), Allow)]) else { panic!() };
        assert_eq!(candidates.choose(b"b"), Err(Denied::NoRule));
    }
}
