//! What becomes of FTP lines, found out by giving them to a session.

use std::time::Instant;

use serde::Serialize;

use super::Question;
use super::server::Server;
use crate::addr::{PortRanges, Side};
use crate::ftp::command::{Command, Verb};
use crate::ftp::line::Line;
use crate::ftp::redact::escaped;
use crate::policy::Rule;
use crate::session::{
    Action, Carrier, DataEnd, Event, HowEnded, Input, Leg, Pinhole, PinholeId, Session, Setting, WhyRelay,
};

/// A line, and what became of it.
#[derive(Debug, Serialize)]
pub struct Said {
    /// `client` or `server`.
    pub by: String,
    /// The line.
    pub line: String,
    /// What the gate does, a phrase each.
    pub then: Vec<String>,
    /// The name of the reason, where it was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<&'static str>,
}

/// Gives the lines to a session, as if each pinhole opened at the first port of its range. The server is made up, but
/// where a line of the client's is followed by one of the server's.
///
/// `rule` is the one that comes to hold: a made-up server names ports that it allows.
pub(super) fn follow(setting: Setting, rule: Option<&Rule>, question: &Question<'_>, lines: &[&[u8]]) -> Vec<Said> {
    if lines.is_empty() {
        return Vec::new();
    }
    let inbound = rule.and_then(|rule| rule.inbound.as_ref());
    let mut follower = Follower {
        ports: inbound.map_or_else(PortRanges::unreserved, |inbound| inbound.server_ports.clone()),
        server: Server::new(question.home),
        address: question.server.ip(),
        session: Session::new(setting, question.now),
        now: question.now,
        last: None,
    };
    follower.give(server_line(b"220 Ready"));
    let names_user = lines.iter().any(|line| verb(line) == Some(Verb::User));
    if let Some(user) = question.user.filter(|_| !names_user) {
        follower.say(&[b"USER ", user].concat(), true);
        follower.say(b"PASS x", true);
    }
    let mut said = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let answered = lines.get(index + 1).is_some_and(|next| is_reply(next));
        // Only who has named no server yet can name another.
        let is_first =
            verb(line) == Some(Verb::User) && !lines.iter().take(index).any(|line| verb(line) == Some(Verb::User));
        let elsewhere = if is_first { question.elsewhere(line) } else { None };
        said.push(elsewhere.unwrap_or_else(|| follower.say(line, !answered)));
    }
    said
}

fn is_reply(line: &[u8]) -> bool {
    line.first_chunk::<3>().is_some_and(|code| code.iter().all(u8::is_ascii_digit))
}

fn verb(line: &[u8]) -> Option<Verb> {
    Command::parse(line).ok().map(|command| command.verb)
}

struct Follower {
    session: Session,
    server: Server,
    address: std::net::IpAddr,
    /// The server's ports that the rule allows.
    ports: PortRanges,
    now: Instant,
    /// The pinhole that was opened last.
    last: Option<PinholeId>,
}

/// What came of one input.
#[derive(Default)]
struct Outcome {
    then: Vec<String>,
    refused: Option<&'static str>,
    /// Lines that the server got.
    asked: Vec<Vec<u8>>,
}

impl Follower {
    /// Gives a line; `pretend`: the server's answers are made up.
    fn say(&mut self, line: &[u8], pretend: bool) -> Said {
        let by = if is_reply(line) { Side::Server } else { Side::Client };
        if by == Side::Client && !self.session.wants(Side::Client) {
            // The server's consent to the last PORT goes without saying; nothing else is made up for it.
            self.give(server_line(b"200 ok"));
        }
        let mut outcome = self.give(match by {
            Side::Server => server_line(line),
            Side::Client => Input::ClientLine(Line { bytes: line.to_vec(), interrupt: false }),
        });
        while pretend && !outcome.asked.is_empty() {
            for asked in std::mem::take(&mut outcome.asked) {
                for reply in self.server.replies(&asked, self.address, &self.ports) {
                    outcome.then.push(format!("the server might say: {}", escaped(&reply)));
                    self.move_data(&reply);
                    let next = self.give(server_line(&reply));
                    outcome.then.extend(next.then);
                    outcome.refused = outcome.refused.or(next.refused);
                    outcome.asked.extend(next.asked);
                }
            }
        }
        // No time goes by here, so that a client may well give more commands than its rule has it in a second.
        if !self.session.wants(Side::Client) && !self.session.is_held_back() && by == Side::Client {
            outcome.then.push("the client is not read until the server has answered".to_owned());
        }
        Said { by: by.to_string(), line: escaped(line), then: outcome.then, refused: outcome.refused }
    }

    /// A transfer that the made-up server is done with has had its data connection.
    fn move_data(&mut self, reply: &[u8]) {
        if let Some(id) = self.last.filter(|_| reply.starts_with(b"226 ")) {
            self.give(Input::DataStarted(id));
            let end = DataEnd { to_server: 0, to_client: 0, is_estimate: false, how: HowEnded::Complete };
            self.give(Input::DataEnded(id, end));
            self.last = None;
        }
    }

    fn give(&mut self, input: Input) -> Outcome {
        let mut outcome = Outcome::default();
        self.session.handle(self.now, input);
        while let Some(action) = self.session.poll_action() {
            match action {
                Action::Forward { to, line, .. } => {
                    outcome.then.push(format!("{to} is told: {}", escaped(&line)));
                    if to == Side::Server {
                        outcome.asked.push(line);
                    }
                }
                Action::OpenPinhole(pinhole) => {
                    outcome.then.push(pinhole_in_words(&pinhole));
                    self.last = Some(pinhole.id);
                    self.session.handle(self.now, opened(&pinhole));
                }
                Action::Report(Event::Refused { refusal, .. }) => {
                    outcome.then.push(format!("refused ({}): {}", refusal.name(), refusal.advice()));
                    outcome.refused = Some(refusal.name());
                }
                Action::Report(Event::ForeignAddress { by, named, used }) => {
                    outcome.then.push(format!("the {by} names {named}; its own address {used} is used"));
                }
                Action::Report(Event::LoggedIn { rule, by_user: true }) => {
                    outcome.then.push(format!("rule {rule} holds from now on"))
                }
                Action::Close(reason) => outcome.then.push(format!("the session ends ({})", reason.name())),
                Action::Report(_)
                | Action::Dial(..)
                | Action::Finish(_)
                | Action::Prolong(..)
                | Action::Deliver(_)
                | Action::Linger(_)
                | Action::ClosePinhole(_)
                | Action::Remember(_)
                | Action::CloseWrite(_) => {}
            }
        }
        // A server that is made up says no more than it was asked for.
        if let Some(at) = self.session.turn_deadline() {
            self.now = self.now.max(at);
            let next = self.give(Input::Timeout);
            outcome.then.extend(next.then);
            outcome.refused = outcome.refused.or(next.refused);
            outcome.asked.extend(next.asked);
        }
        outcome
    }
}

fn server_line(line: &[u8]) -> Input {
    Input::ServerLine(Line { bytes: line.to_vec(), interrupt: false })
}

fn opened(pinhole: &Pinhole) -> Input {
    let first = |leg: &Leg| match leg {
        Leg::Listen { ports, .. } => ports.nth(0),
        Leg::Dial { .. } => None,
    };
    Input::PinholeOpened {
        id: pinhole.id,
        client_port: first(&pinhole.client),
        server_port: first(&pinhole.server),
        carrier: Carrier::Relay(WhyRelay::Rule),
    }
}

fn pinhole_in_words(pinhole: &Pinhole) -> String {
    let words = |leg: &Leg, side: Side| match leg {
        Leg::Listen { at, ports, from } => {
            let others = pinhole.data_peers.of(side);
            let others = if others.is_empty() { "" } else { ", or another of its `data_peers`" };
            format!("the {side} ({from}{others}) may connect to {at}, one of {ports}")
        }
        Leg::Dial { to, from, from_port } => {
            let port = from_port.map(|port| format!(" port {port}")).unwrap_or_default();
            format!("the gate connects to the {side} at {to} from {from}{port}")
        }
    };
    format!(
        "pinhole for {} s: {}; {}",
        pinhole.timeout.as_secs(),
        words(&pinhole.client, Side::Client),
        words(&pinhole.server, Side::Server)
    )
}
