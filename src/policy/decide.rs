//! What becomes of a client that wants to reach a server.

use std::sync::Arc;

use jiff::Timestamp;

use super::{Permission, Policy, Rule};
use crate::addr::{ClientAddr, Network, ServerAddr};

/// Who wants to reach what.
#[derive(Clone, Copy, Debug)]
pub struct Asker<'a> {
    /// The listener that the client came to, by its name.
    pub listener: &'a str,
    /// The client.
    pub client: ClientAddr,
    /// The server.
    pub server: ServerAddr,
    /// Now.
    pub at: Timestamp,
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

/// The rules that may hold for a session, by its user: in their order, the last of them the only one that is for any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidates(Vec<Arc<Rule>>);

impl Candidates {
    /// The rule that holds for this user.
    ///
    /// # Errors
    /// Where it is denied.
    pub fn choose(&self, user: &[u8]) -> Result<Arc<Rule>, Denied> {
        match self.0.iter().find(|rule| rule.is_for_user(user)) {
            Some(rule) if rule.permission == Permission::Allow => Ok(Arc::clone(rule)),
            Some(rule) => Err(Denied::ByRule(Arc::clone(rule))),
            None => Err(Denied::NoRule),
        }
    }

    /// The rule that holds before anybody is logged in: it allows nothing.
    #[must_use]
    pub fn nobody() -> Arc<Rule> {
        Arc::new(Rule::new("(before login)", Permission::Deny))
    }

    /// The rules, in their order.
    #[must_use]
    pub fn rules(&self) -> &[Arc<Rule>] {
        &self.0
    }
}

impl Policy {
    /// Decides whether a client may reach a server.
    pub fn decide(&self, asker: &Asker<'_>) -> Decision {
        let mut candidates: Vec<Arc<Rule>> = Vec::new();
        for rule in self.rules.iter().filter(|rule| rule.matches(asker)) {
            if rule.users.is_none() && candidates.is_empty() {
                return match rule.permission {
                    Permission::Allow => Decision::Allow(Arc::clone(rule)),
                    Permission::Deny => Decision::Deny(Denied::ByRule(Arc::clone(rule))),
                };
            }
            candidates.push(Arc::clone(rule));
            if rule.users.is_none() {
                break;
            }
        }
        if candidates.iter().any(|rule| rule.permission == Permission::Allow) {
            return Decision::AtLogin(Candidates(candidates));
        }
        // Whoever it is, it is denied.
        let last = candidates.pop().filter(|rule| rule.users.is_none());
        Decision::Deny(last.map_or(Denied::NoRule, Denied::ByRule))
    }

    /// Whether there is any server that `client` might be allowed at this listener.
    #[must_use]
    pub fn may_admit(&self, listener: &str, client: ClientAddr, at: Timestamp) -> bool {
        let everything = |rule: &&Arc<Rule>| {
            rule.permission == Permission::Deny
                && rule.users.is_none()
                && rule.to.iter().any(|to| to.network == Network::Any && to.port.is_none())
        };
        let for_client = self.rules.iter().filter(|rule| rule.is_from(listener, client) && rule.holds(at));
        for_client.take_while(|rule| !everything(rule)).any(|rule| rule.permission == Permission::Allow)
    }

    /// When some rule begins or ceases to hold next, for its hours.
    #[must_use]
    pub fn next_change(&self, at: Timestamp) -> Option<Timestamp> {
        self.rules.iter().filter_map(|rule| rule.hours.as_ref()?.next_change(at)).min()
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
        let policy =
            Policy { listeners: Vec::new(), rules, timeouts: Timeouts::default(), limits: GateLimits::default() };
        policy.decide(&Asker {
            listener: "public",
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
        assert_eq!(candidates.rules().len(), 3);
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
