//! What the tests of a rules file mean.

use jiff::Timestamp;
use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;

use super::super::place::{At, Fault, quoted};
use super::super::schema::{self, List, Written};
use super::network::socket;
use super::{fault, required};
use crate::addr::{ClientAddr, ServerAddr};
use crate::policy::{Case, CaseLine, Expected, Permission, Policy};

/// Where clients are taken to come from, for no rule asks for that.
const CLIENT_PORT: u16 = 50_000;

/// What one test means, under these rules.
pub(super) fn case(written: schema::Test, policy: &Policy, at: &At<'_>) -> Option<Case> {
    let client = required(written.client, "client", at, "say where the client comes from: `client: \"192.0.2.7\"`");
    let client = client.and_then(|schema::Server(text)| at.key("client").take(socket(&text, Some(CLIENT_PORT))));
    let server = written.server.0.map(|schema::Server(text)| at.key("server").take(socket(&text, Some(21))));
    let expect = required(written.expect, "expect", at, "write `expect: allow` or `expect: deny`");
    let moment = written.at.0.map(|schema::Moment(text)| at.key("at").take(moment(&text)));
    let listener =
        name(written.listener, policy.listeners.iter().map(|listener| listener.name.as_str()), "listener", at);
    let rule = name(written.rule, policy.rules.iter().map(|rule| rule.name.as_str()), "rule", at);
    let lines = lines(written.lines, &at.key("lines"));
    Some(Case {
        listener: listener?,
        client: ClientAddr::new(client?),
        server: match server {
            None => None,
            Some(read) => Some(ServerAddr::new(read?)),
        },
        user: written.user.0.map(|schema::User(user)| user),
        at: match moment {
            None => None,
            Some(read) => Some(read?),
        },
        home: written.home.0.map_or_else(|| "/".to_owned(), |schema::PathPattern(home)| home),
        expect: match expect?.0 {
            schema::Action::Allow => Permission::Allow,
            schema::Action::Deny => Permission::Deny,
        },
        rule: rule?,
        lines: lines?,
    })
}

/// A name that must be one of those in the file.
#[allow(clippy::option_option, reason = "not written and not known are two things")]
fn name<'a>(
    written: Written<schema::Name>,
    known: impl Iterator<Item = &'a str>,
    key: &str,
    at: &At<'_>,
) -> Option<Option<String>> {
    let Some(schema::Name(name)) = written.0 else { return Some(None) };
    let mut known = known;
    if known.any(|known| known == name) {
        return Some(Some(name));
    }
    at.key(key).mistake(format!("there is no {key} {}", quoted(&name)), format!("name a {key} of this file"));
    None
}

fn lines(written: Written<List<schema::TestLine>>, at: &At<'_>) -> Option<Vec<CaseLine>> {
    let Some(List(list)) = written.0 else { return Some(Vec::new()) };
    let read: Vec<_> = list.into_iter().enumerate().map(|(index, written)| line(written, &at.index(index))).collect();
    read.into_iter().collect()
}

fn line(written: schema::TestLine, at: &At<'_>) -> Option<CaseLine> {
    let line = required(written.line, "line", at, "say what the client says: `line: \"RETR x\"`");
    let expect = required(written.expect, "expect", at, "write `expect: allow` or `expect: refuse`");
    let (schema::FtpLine(line), schema::LineExpected(expect)) = (line?, expect?);
    if line.contains(['\r', '\n', '\0']) {
        at.key("line").mistake("this is more than one line", "make an entry for each line");
        return None;
    }
    let expect = match expect.as_str() {
        "allow" => Expected::Allow,
        "refuse" => Expected::Refuse,
        "deny" => {
            at.key("expect").mistake("lines are refused, sessions denied", "write `refuse`, or the name of the reason");
            return None;
        }
        _ => Expected::RefuseFor(expect),
    };
    Some(CaseLine { line, expect })
}

/// `2026-01-12 09:00 Europe/Berlin`, or with what the clock is ahead of UTC: `2026-01-12T09:00+01:00`.
pub(in crate::rules) fn moment(text: &str) -> Result<Timestamp, Fault> {
    let read = || {
        let mut words = text.split_whitespace();
        let day: Date = words.next()?.parse().ok()?;
        let time: Time = words.next()?.parse().ok()?;
        let zone = TimeZone::get(words.next()?).ok()?;
        if words.next().is_some() { None } else { zone.to_timestamp(day.to_datetime(time)).ok() }
    };
    read().or_else(|| text.parse().ok()).map_or_else(
        || fault(format!("{} is no moment", quoted(text)), "write such as \"2026-01-12 09:00 Europe/Berlin\""),
        Ok,
    )
}
