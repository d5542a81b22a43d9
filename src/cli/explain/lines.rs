//! What becomes of FTP lines, found out by giving them to a session.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;

use crate::addr::{BackAddr, ClientAddr, Ends, FrontAddr, ServerAddr, Side};
use crate::ftp::command::escaped;
use crate::ftp::line::Line;
use crate::policy::{Advertised, Candidates, Listener, Rule, Stand, Timeouts};
use crate::session::{Action, Carrier, Event, Input, Leg, Notations, Pinhole, Session, Setting, WhyRelay};

/// A line, and what became of it.
#[derive(Debug, Serialize)]
pub(super) struct Said {
    /// `client` or `server`.
    pub(super) by: String,
    /// The line.
    pub(super) line: String,
    /// What the gate does, a phrase each.
    pub(super) then: Vec<String>,
    /// The name of the reason, where it was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) refused: Option<&'static str>,
}

/// The addresses of a session, the one that the client is told, and whether one had to be made up.
pub(super) fn ends(
    listener: &Listener,
    client: ClientAddr,
    server: ServerAddr,
    gate: Option<IpAddr>,
) -> (Ends, IpAddr, bool) {
    let example = |v6| match v6 {
        true => IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
        false => IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
    };
    let own = |v6: bool| gate.filter(|gate| gate.is_ipv6() == v6);
    let bound = Some(listener.bind.ip()).filter(|ip| !ip.is_unspecified());
    let mut made_up = false;
    let mut known = |known: Option<IpAddr>, v6: bool| {
        known.unwrap_or_else(|| {
            made_up = true;
            example(v6)
        })
    };
    let advertised = match listener.advertised_to(client) {
        Some(Advertised::Address(ip)) => Some(*ip),
        Some(Advertised::Name(_)) | None => None,
    };
    let front = match listener.stand {
        Stand::Transparent { .. } => server.ip(),
        Stand::Reverse { .. } | Stand::Explicit => {
            known(bound.or_else(|| own(client.ip().is_ipv6())).or(advertised), client.ip().is_ipv6())
        }
    };
    let v6 = server.ip().is_ipv6();
    let back = if super::as_client(listener) { client.ip() } else { known(own(v6), v6) };
    let ends = Ends {
        client,
        front: FrontAddr::new(SocketAddr::new(front, 21)),
        back: BackAddr::new(SocketAddr::new(back, 40_000)),
        server,
    };
    (ends, advertised.unwrap_or(front), made_up)
}

/// Gives the lines to a session under this rule, as if each pinhole opened at the first port of its range.
pub(super) fn follow(
    rule: &Arc<Rule>,
    candidates: Option<Candidates>,
    timeouts: Timeouts,
    ends: Ends,
    announced: IpAddr,
    lines: &[String],
) -> Vec<Said> {
    let now = Instant::now();
    let setting = Setting {
        ends,
        announced: Some(announced),
        rule: Arc::clone(rule),
        candidates,
        timeouts,
        notations: Notations::default(),
        introduction: None,
    };
    let mut follower = Follower { session: Session::new(setting, now), now };
    follower.give(server_line("220 ready"));
    lines.iter().map(|line| follower.say(line)).collect()
}

struct Follower {
    session: Session,
    now: Instant,
}

impl Follower {
    fn say(&mut self, line: &str) -> Said {
        let is_reply = line.as_bytes().first_chunk::<3>().is_some_and(|code| code.iter().all(u8::is_ascii_digit));
        let by = if is_reply { Side::Server } else { Side::Client };
        if by == Side::Client && !self.session.wants(Side::Client) {
            // The server's consent to the last PORT goes without saying; nothing else is made up for it.
            self.give(server_line("200 ok"));
        }
        let (mut then, refused) = self.give(match by {
            Side::Server => server_line(line),
            Side::Client => Input::ClientLine(Line { bytes: line.as_bytes().to_vec(), interrupt: false }),
        });
        if !self.session.wants(Side::Client) && by == Side::Client {
            then.push("the client is not read until the server has answered".to_owned());
        }
        Said { by: by.to_string(), line: escaped(line.as_bytes()), then, refused }
    }

    fn give(&mut self, input: Input) -> (Vec<String>, Option<&'static str>) {
        let mut then = Vec::new();
        let mut refused = None;
        self.session.handle(self.now, input);
        while let Some(action) = self.session.poll_action() {
            match action {
                Action::Forward { to, line, .. } => then.push(format!("{to} is told: {}", escaped(&line))),
                Action::OpenPinhole(pinhole) => {
                    then.push(pinhole_in_words(&pinhole));
                    self.session.handle(self.now, opened(&pinhole));
                }
                Action::Report(Event::Refused { refusal, .. }) => {
                    then.push(format!("refused ({}): {}", refusal.name(), refusal.advice()));
                    refused = Some(refusal.name());
                }
                Action::Report(Event::ForeignAddress { by, named, used }) => {
                    then.push(format!("the {by} names {named}; its own address {used} is used"));
                }
                Action::Close(reason) => then.push(format!("the session ends ({})", reason.name())),
                Action::Report(_)
                | Action::Dial(..)
                | Action::Finish(_)
                | Action::ClosePinhole(_)
                | Action::Remember(_)
                | Action::CloseWrite(_) => {}
            }
        }
        (then, refused)
    }
}

fn server_line(line: &str) -> Input {
    Input::ServerLine(Line { bytes: line.as_bytes().to_vec(), interrupt: false })
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
        Leg::Listen { at, ports, from } => format!("the {side} ({from}) may connect to {at}, one of {ports}"),
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
