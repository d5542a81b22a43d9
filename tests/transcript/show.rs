//! Actions as the lines of a transcript.

#![allow(clippy::wildcard_enum_match_arm, reason = "a transcript shows names as they are")]

use ftpgate::addr::Side;
use ftpgate::policy::Networks;
use ftpgate::session::{Action, Event, Leg, Modes, Outcome, Stranger};

/// One line for an action; `None` for those that a transcript leaves out.
pub(super) fn action(action: &Action) -> Option<String> {
    Some(match action {
        Action::Forward { to, line, interrupt } => {
            let interrupt = if *interrupt { " (interrupt)" } else { "" };
            format!("{to}{interrupt}: {}", escape(line)).trim_end().to_owned()
        }
        Action::OpenPinhole(pinhole) => {
            let legs = [("client", Side::Client), ("server", Side::Server)].map(|(name, side)| {
                let others = match pinhole.leg(side) {
                    Leg::Listen { .. } => others(pinhole.data_peers.of(side)),
                    Leg::Dial { .. } => String::new(),
                };
                format!("{name} {}{others}", leg(pinhole.leg(side)))
            });
            format!("open {}: {}", pinhole.id.0, legs.join("; "))
        }
        Action::Dial(id, side) => format!("dial {} {side}", id.0),
        Action::Finish(id) => format!("finish {}", id.0),
        Action::Prolong(id, time) => format!("prolong {} {}s", id.0, time.as_secs()),
        Action::Deliver(id) => format!("deliver {}", id.0),
        Action::Linger(id) => format!("linger {}", id.0),
        Action::ClosePinhole(id) => format!("close {}", id.0),
        Action::CloseWrite(side) => format!("end {side}"),
        Action::Remember(_) => "remember".to_owned(),
        Action::Report(event) => return report(event),
        Action::Close(reason) => format!("over {}", reason.name()),
    })
}

fn modes(modes: Modes) -> String {
    if modes.client == modes.server {
        return format!("{:?}", modes.client);
    }
    format!("{:?}-{:?}", modes.client, modes.server)
}

fn others(networks: &Networks) -> String {
    let all: Vec<String> = networks.as_slice().iter().map(ToString::to_string).collect();
    if all.is_empty() { String::new() } else { format!(" or {}", all.join(",")) }
}

fn leg(leg: &Leg) -> String {
    match leg {
        Leg::Listen { at, ports, from } => format!("listens {at} {ports} from {from}"),
        Leg::Dial { to, from, from_port } => {
            let port = from_port.map(|port| format!(" port {port}")).unwrap_or_default();
            format!("dialled {to} from {from}{port}")
        }
    }
}

fn report(event: &Event) -> Option<String> {
    Some(match event {
        // What was rewritten shows in the lines themselves.
        Event::Rewritten { .. } => return None,
        Event::Refused { refusal, .. } => format!("refused {}", refusal.name()),
        Event::ForeignAddress { named, used, .. } => format!("foreign {named} used {used}"),
        Event::Stranger(Stranger { from, port, .. }) => format!("stranger {from} {port}"),
        Event::HalfOpen { from, port, .. } => format!("half_open {from} {port}"),
        Event::PortTaken(port) => format!("taken {port}"),
        Event::NotReached(story) => format!("not reached {}", story.missing),
        Event::PinholeExpired(story) => match story.stranger {
            Some(stranger) => format!("expired {} stranger {}", story.missing, stranger.from),
            None => format!("expired {}", story.missing),
        },
        Event::LoggedIn { by_user: false, .. } => return None,
        Event::LoggedIn { rule, by_user: true } => format!("logged in {rule}"),
        Event::LoginFailed => "login failed".to_owned(),
        Event::Limit(reached) => format!("limit {} {}", reached.limit.name(), reached.value),
        Event::BadLine { side, fault } => format!("bad line {side} {fault:?}"),
        Event::Transferred(transfer) => format!(
            "transfer {:?} {} {} {}",
            transfer.way,
            modes(transfer.modes),
            transfer.bytes,
            match transfer.outcome {
                Outcome::Failed(code) => format!("Failed {code}"),
                Outcome::Refused(code) => format!("Refused {code}"),
                other => format!("{other:?}"),
            }
        ),
    })
}

fn escape(line: &[u8]) -> String {
    line.iter()
        .map(|byte| match byte {
            b' '..=b'~' if *byte != b'\\' => char::from(*byte).to_string(),
            b'\\' => "\\\\".to_owned(),
            other => format!("\\x{other:02x}"),
        })
        .collect()
}
