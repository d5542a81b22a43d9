//! Doubts about listeners: those at which no session can be.

use super::{About, Doubt, all_of};
use crate::addr::Network;
use crate::policy::{Listener, Permission, Policy, Proxies, Rule, Stand};

/// Listeners at which every client is turned away.
pub(super) fn doubts(policy: &Policy) -> impl Iterator<Item = Doubt> + '_ {
    let closed = policy.listeners.iter().enumerate().filter(|(_, listener)| !lets_in(policy, listener));
    closed.map(|(index, listener)| {
        let (key, what) = match listener.stand {
            Stand::Reverse { server } => ("server", format!("the server of listener {}, {server}", listener.name)),
            Stand::Transparent { .. } | Stand::Explicit => {
                ("name", format!("any server at listener {}", listener.name))
            }
        };
        Doubt {
            about: About::Listener(index),
            key,
            message: format!("no rule allows {what}: every client is turned away"),
            help: "add a rule with `action: allow` whose `listener`, `from` and `to` fit, or take the listener away"
                .to_owned(),
        }
    })
}

/// Whether some client may reach some server here, as far as the order of the rules tells.
fn lets_in(policy: &Policy, listener: &Listener) -> bool {
    // A balancer brings clients of every family.
    let everybody = if listener.proxies == Proxies::default() { all_of(listener.bind.is_ipv6()) } else { Network::Any };
    for rule in policy.rules.iter().filter(|rule| applies(rule, listener)) {
        let comes = rule.from.iter().any(|from| from.covers(&everybody) || everybody.covers(from));
        if comes && rule.permission == Permission::Allow {
            return true;
        }
        let is_always = rule.users.is_none() && rule.hours.is_none();
        let is_last = is_always
            && rule.from.iter().any(|from| from.covers(&everybody))
            && (matches!(listener.stand, Stand::Reverse { .. })
                || rule.to.iter().any(|to| to.network == Network::Any && to.port.is_none()));
        if is_last {
            return false;
        }
    }
    false
}

/// Whether a rule is asked for some server at this listener.
fn applies(rule: &Rule, listener: &Listener) -> bool {
    let named = rule.listeners.is_empty() || rule.listeners.contains(&listener.name);
    named
        && match listener.stand {
            Stand::Reverse { server } => rule.to.iter().any(|to| to.contains(server)),
            Stand::Transparent { .. } => {
                let family = all_of(listener.bind.is_ipv6());
                rule.to.iter().any(|to| to.network.covers(&family) || family.covers(&to.network))
            }
            Stand::Explicit => true,
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is said of each listener that is doubted.
    fn doubted(listener: &str, rules: &[&str]) -> Vec<String> {
        let rules: String =
            rules.iter().enumerate().map(|(n, rule)| format!("  - {{ name: r{n}, {rule} }}\n")).collect();
        let text = format!("version: 1\nlisteners:\n  - {{ name: front, {listener} }}\nrules:\n{rules}");
        let policy = crate::rules::parse(&text, "test").unwrap_or_else(|why| panic!("{why}"));
        let doubts = policy.doubts(None).into_iter();
        doubts.filter(|doubt| doubt.about == About::Listener(0)).map(|doubt| doubt.message).collect()
    }

    const REVERSE: &str = "bind: '0.0.0.0:21', server: '10.0.2.2:21'";
    const REVERSE6: &str = "bind: '[::]:21', server: '10.0.2.2:21'";
    const EXPLICIT: &str = "bind: '10.0.1.1:21', explicit: user-at-host";
    const TRANSPARENT: &str = "bind: '0.0.0.0:2121', transparent: tproxy";

    #[test]
    fn a_listener_whose_server_no_rule_allows_is_doubted() {
        let allow = "from: any, to: any, action: allow, inbound: 10001";
        let said = "no rule allows the server of listener front, 10.0.2.2:21: every client is turned away";
        for rules in [
            &["from: any, to: 10.0.2.3, action: allow, inbound: 10001"][..],
            &["from: any, to: '10.0.2.2:2121', action: allow, inbound: 10001"],
            &["from: '2001:db8::/32', to: any, action: allow, inbound: 10001"],
            &["from: any, to: any, action: deny"],
            &["from: any, to: 10.0.2.0/24, action: deny", allow],
        ] {
            assert_eq!(doubted(REVERSE, rules), [said], "{rules:?}");
        }
        for rules in [
            &[allow][..],
            &["from: 10.0.0.0/8, to: any, action: deny", allow],
            &["from: any, to: any, users: anna, action: deny", allow],
            &["from: any, to: 10.0.2.3, action: deny", allow],
        ] {
            assert_eq!(doubted(REVERSE, rules), [""; 0], "{rules:?}");
        }
    }

    /// A listener takes the clients of its family, but a balancer brings others too.
    #[test]
    fn rules_for_clients_of_the_other_family_let_nobody_in() {
        let v4 = ["from: 10.0.0.0/8, to: any, action: allow, inbound: 10001"];
        assert_eq!(doubted(REVERSE6, &v4).len(), 1);
        assert_eq!(doubted(&format!("{REVERSE6}, proxy_from: '2001:db8::5'"), &v4).len(), 0);
    }

    #[test]
    fn a_listener_that_is_for_no_rule_is_doubted() {
        let denied = ["from: any, to: any, action: deny"];
        for listener in [EXPLICIT, TRANSPARENT] {
            assert_eq!(
                doubted(listener, &denied),
                ["no rule allows any server at listener front: every client is turned away"]
            );
            let some = ["from: 10.0.0.0/8, to: 10.9.0.0/16, action: allow, inbound: 10001"];
            assert_eq!(doubted(listener, &some), [""; 0]);
        }
        let v6 = ["from: any, to: '2001:db8::/32', action: allow, inbound: 10001"];
        assert_eq!((doubted(TRANSPARENT, &v6).len(), doubted(EXPLICIT, &v6).len()), (1, 0));
    }
}
