//! The tests of a rules file, held against its rules.

use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;

use super::{OwnAddresses, Question, Verdict, takes};
use crate::addr::ServerAddr;
use crate::policy::{Asker, Case, Expected, Listener, Permission, Policy, Rule, Stand};

/// A test that does not come out as expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Which test.
    pub case: usize,
    /// Which of its lines, where it is one.
    pub line: Option<usize>,
    /// What came out.
    pub message: String,
    /// Why.
    pub help: String,
}

/// The tests that fail, one failure for each at most.
#[must_use]
pub fn failures(policy: &Policy, cases: &[Case], at: Timestamp, now: Instant) -> Vec<Failure> {
    cases.iter().enumerate().filter_map(|(index, case)| failure(policy, index, case, at, now)).collect()
}

fn failure(policy: &Policy, index: usize, case: &Case, at: Timestamp, now: Instant) -> Option<Failure> {
    let fails = |line, message: String, help: String| Some(Failure { case: index, line, message, help });
    let Some((listener, server)) = place(policy, case) else {
        let family = if case.client.ip().is_ipv6() { "IPv6" } else { "IPv4" };
        let help = "name `listener` and `server`; a listener takes the family of its `bind`, and no other";
        return fails(None, format!("no listener that takes {family} leads there"), help.to_owned());
    };
    let question = Question {
        policy,
        listener,
        client: case.client,
        server,
        user: case.user.as_deref().map(str::as_bytes),
        gate: OwnAddresses::default(),
        at: case.at.unwrap_or(at),
        now,
        home: case.home.as_bytes(),
    };
    if case.at.is_none() && question.health_check().is_none() && depends_on_hours(policy, listener, case, server) {
        let help = "add `at: \"2026-01-12 09:00 Europe/Berlin\"`, for a file whose tests fail is not loaded";
        return fails(None, "the result of this test depends on the hour".to_owned(), help.to_owned());
    }
    let lines: Vec<&[u8]> = case.lines.iter().map(|line| line.line.as_bytes()).collect();
    let answer = question.ask(&lines);
    let walked = || {
        let looked = answer.rules.iter().map(|looked| format!("rule {}: {}", looked.rule, looked.why));
        looked.collect::<Vec<_>>().join("; ")
    };
    let by = answer.rule.as_ref().map_or_else(|| "no rule".to_owned(), |rule| format!("rule {rule}"));
    let denies =
        answer.rule.as_ref().map_or_else(|| "no rule matches".to_owned(), |rule| format!("rule {rule} denies it"));
    match (case.expect, answer.decision) {
        (Permission::Allow, Verdict::Allow) | (Permission::Deny, Verdict::Deny | Verdict::HealthCheck) => {}
        (Permission::Allow, Verdict::HealthCheck) => {
            let help = "take the client out of `health_checks_from`, or write `expect: deny`";
            let why = answer.note.unwrap_or_default();
            return fails(None, format!("this test expects `allow`, and {why}"), help.to_owned());
        }
        (_, Verdict::AtLogin) => {
            return fails(None, "the user decides, and none is named".to_owned(), "add `user:`".to_owned());
        }
        (Permission::Allow, Verdict::Deny) => {
            return fails(None, format!("this test expects `allow`, and {denies}"), walked());
        }
        (Permission::Deny, Verdict::Allow) => {
            return fails(None, format!("this test expects `deny`, and {by} allows it"), walked());
        }
    }
    if case.rule.is_some() && case.rule != answer.rule {
        let expected = case.rule.as_deref().unwrap_or_default();
        return fails(None, format!("this test expects rule {expected} to decide, and {by} does"), walked());
    }
    for (index, (line, said)) in case.lines.iter().zip(&answer.lines).enumerate() {
        let came =
            said.refused.map_or_else(|| "it is allowed".to_owned(), |reason| format!("it is refused ({reason})"));
        let wanted = match &line.expect {
            Expected::Allow if said.refused.is_none() => continue,
            Expected::Refuse if said.refused.is_some() => continue,
            Expected::RefuseFor(reason) if said.refused == Some(reason.as_str()) => continue,
            Expected::Allow => "allow",
            Expected::Refuse => "refuse",
            Expected::RefuseFor(reason) => reason,
        };
        let mut help = said.then.join("; ");
        if let (Expected::RefuseFor(_), reason) = (&line.expect, said.refused) {
            help = format!("write `{}`, if that is what you want; {help}", reason.unwrap_or("allow"));
        }
        return fails(Some(index), format!("this line expects `{wanted}`, and {came}"), help);
    }
    None
}

/// Whether a rule with hours is looked at before the one that decides at any hour.
fn depends_on_hours(policy: &Policy, listener: &Listener, case: &Case, server: ServerAddr) -> bool {
    let asker = Asker::new(listener, case.client, server, Timestamp::UNIX_EPOCH);
    let matches = |rule: &&Arc<Rule>| {
        rule.is_from(&listener.name, case.client)
            && rule.destination(&asker).is_some()
            && case.user.as_ref().is_none_or(|user| rule.is_for_user(user.as_bytes()))
    };
    let decides = |rule: &Rule| rule.users.is_none() || case.user.is_some();
    let first = policy.rules.iter().filter(matches).find(|rule| rule.hours.is_some() || decides(rule));
    first.is_some_and(|rule| rule.hours.is_some())
}

/// The listener and the server of a test.
fn place<'a>(policy: &'a Policy, case: &Case) -> Option<(&'a Listener, ServerAddr)> {
    let name = case.listener.as_deref();
    if let Some(server) = case.server {
        return Question::listener(policy, name, case.client, server).map(|listener| (listener, server));
    }
    policy.listeners.iter().find_map(|listener| match listener.stand {
        Stand::Reverse { server } if takes(listener, case.client) && name.is_none_or(|name| name == listener.name) => {
            Some((listener, server))
        }
        Stand::Reverse { .. } | Stand::Transparent { .. } | Stand::Explicit => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules;

    const RULES: &str = r#"
version: 1
listeners:
  - { name: public, bind: "0.0.0.0:21", server: "10.0.2.2:21", health_checks_from: 192.0.2.99 }
rules:
  - { name: no-root, from: any, to: any, users: root, action: deny }
  - name: staff
    from: "192.0.2.0/24"
    to: any
    users: "a*"
    action: allow
    inbound: "10001-10005"
    hours: "Mon-Fri 08:00-18:00 Europe/Berlin"
    paths: [{ path: "/in/**", allow: any }]
  - { name: mirror, from: "192.0.2.0/24", to: any, action: allow, inbound: "10001-10005", read_only: true }
tests:
"#;

    fn run(tests: &str) -> Vec<(usize, Option<usize>, String)> {
        let file = rules::written_bytes(format!("{RULES}{tests}").as_bytes(), "test").unwrap();
        // A Monday morning in Berlin.
        let at = "2026-01-12T08:00:00Z".parse().unwrap();
        let failures = failures(&file.policy, &file.cases, at, Instant::now());
        failures.into_iter().map(|failure| (failure.case, failure.line, failure.message)).collect()
    }

    #[test]
    fn what_is_expected_rightly_passes() {
        let failed = run(r#"
  - { client: 192.0.2.7, user: root, expect: deny, rule: no-root }
  - { client: 198.51.100.7, user: anna, expect: deny }
  - { client: 192.0.2.99, user: anna, expect: deny }
  - client: 192.0.2.7
    user: anna
    at: "2026-01-12 09:00 Europe/Berlin"
    home: /in
    expect: allow
    rule: staff
    lines:
      - { line: PASV, expect: allow }
      - { line: "STOR x", expect: allow }
      - { line: "RETR ../etc/passwd", expect: path_not_allowed }
      - { line: "CWD sub", expect: allow }
      - { line: "SIZE x", expect: allow }
      - { line: "PORT 192,0,2,7,4,1", expect: active_not_allowed }
  - client: 192.0.2.7
    user: anna
    at: "2026-01-11 12:00 Europe/Berlin"
    expect: allow
    rule: mirror
    lines:
      - { line: PASV, expect: allow }
      - { line: "227 Entering Passive Mode (10,0,2,2,0,22)", expect: server_port_outside_range }
      - { line: EPSV, expect: allow }
      - { line: "STOR x", expect: read_only }
      - { line: "RETR x", expect: allow }
"#);
        assert_eq!(failed, []);
    }

    #[test]
    fn what_is_expected_wrongly_fails() {
        let failed = run(r#"
  - { client: 192.0.2.7, user: root, expect: allow }
  - { client: 192.0.2.7, user: bert, expect: deny }
  - { client: 192.0.2.7, user: bert, expect: allow, rule: staff }
  - { client: 192.0.2.7, at: "2026-01-12 09:00 Europe/Berlin", expect: allow }
  - { client: 198.51.100.7, user: x, expect: allow }
  - client: 192.0.2.7
    user: bert
    expect: allow
    lines:
      - { line: PASV, expect: allow }
      - { line: "STOR x", expect: allow }
  - { client: 192.0.2.7, user: bert, expect: allow, lines: [{ line: "DELE x", expect: path_not_allowed }] }
  - { client: 192.0.2.7, user: bert, expect: allow, lines: [{ line: "SIZE x", expect: refuse }] }
  - { client: 192.0.2.7, server: "10.9.9.9", user: bert, expect: allow }
  - { client: 192.0.2.7, user: anna, expect: allow }
  - { client: 192.0.2.7, expect: deny }
  - { client: 192.0.2.99, user: bert, expect: allow }
"#);
        let checked = "this test expects `allow`, and 192.0.2.99 is in `health_checks_from` of listener public: the gate answers \
            QUIT and NOOP itself, no rule is asked, and there is no session at a server";
        let expected = [
            (0, None, "this test expects `allow`, and rule no-root denies it"),
            (1, None, "this test expects `deny`, and rule mirror allows it"),
            (2, None, "this test expects rule staff to decide, and rule mirror does"),
            (3, None, "the user decides, and none is named"),
            (4, None, "this test expects `allow`, and no rule matches"),
            (5, Some(1), "this line expects `allow`, and it is refused (read_only)"),
            (6, Some(0), "this line expects `path_not_allowed`, and it is refused (read_only)"),
            (7, Some(0), "this line expects `refuse`, and it is allowed"),
            (8, None, "no listener that takes IPv4 leads there"),
            (9, None, "the result of this test depends on the hour"),
            (10, None, "the result of this test depends on the hour"),
            (11, None, checked),
        ];
        assert_eq!(failed, expected.map(|(case, line, message)| (case, line, message.to_owned())));
    }
}
