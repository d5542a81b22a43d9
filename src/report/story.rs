//! Why a data connection did not come about, in a sentence for the operator: what was negotiated, who was waited for,
//! and the likeliest cause.

use std::net::IpAddr;

use super::{names, stranger};
use crate::addr::Side;
use crate::session::{Absence, Story, Stranger};

/// The sentence, and the likeliest cause with what to do about it.
pub(super) fn told(story: &Story, client: IpAddr) -> (String, String) {
    let port = story.place.port();
    let mode = names::mode(story.modes.client);
    let who = match story.missing {
        Side::Client => format!("client {client}"),
        Side::Server => "the server".to_owned(),
    };
    let seconds = story.waited.as_secs();
    let heard = match story.absence {
        Absence::NeverCame => format!("{who} did not connect to port {port} of the gate in {seconds} s"),
        Absence::NoAnswer => format!("no answer from {who} on port {port} in {seconds} s"),
        Absence::Closed => format!("{who} answers that port {port} is closed"),
        Absence::Unreachable(error) => format!("{who} cannot be reached on port {port} ({error})"),
    };
    (format!("client {client} asked for {mode} mode; {heard}"), cause(story, port))
}

fn cause(story: &Story, port: u16) -> String {
    let from = story.source_port.map(|port| format!(" from port {port}")).unwrap_or_default();
    let instead = if story.may_be_passive { "; let it use passive mode" } else { "" };
    if let (Absence::NeverCame, Some(stranger)) = (story.absence, story.stranger) {
        return somebody_else(story.missing, &stranger);
    }
    match (story.missing, story.absence) {
        // Many clients connect first, and ask for a transfer then.
        (Side::Client, Absence::NeverCame) if !story.asked => format!(
            "the client asked for no transfer either: it changed its mind, or it would connect first, and a firewall between \
             it and the gate, or of this machine, closes port {port}"
        ),
        (Side::Server, Absence::NeverCame) if !story.asked => {
            "the client asked for no transfer either: it changed its mind, and nothing is wrong".to_owned()
        }
        (Side::Client, Absence::NeverCame) => {
            format!(
                "a firewall between the client and the gate, or of this machine, closes port {port}, one of the rule's \
                 inbound gate_ports"
            )
        }
        (Side::Client, Absence::NoAnswer) => {
            format!("the client's firewall, or one of this machine, drops connections{from}{instead}")
        }
        (Side::Client, Absence::Closed) => {
            format!("the client no longer listens, or a firewall or NAT before it refuses connections{from}{instead}")
        }
        (Side::Client, Absence::Unreachable(_)) => format!("there is no route to the client{instead}"),
        (Side::Server, Absence::NeverCame) => format!(
            "a firewall between the server and the gate, or of this machine, closes port {port}, one of the rule's outbound \
             gate_ports, or the server may not connect out; `server_mode: passive` asks it the other way"
        ),
        (Side::Server, Absence::NoAnswer) => {
            format!(
                "a firewall between the gate and the server, or of this machine, closes port {port}, which the server itself \
                 named"
            )
        }
        (Side::Server, Absence::Closed) => {
            "the server does not listen where it said: its passive address may be that of another host, or of a NAT"
                .to_owned()
        }
        (Side::Server, Absence::Unreachable(_)) => "there is no route to the server for data".to_owned(),
    }
}

/// The cause where somebody was turned away at the port that the peer did not connect to.
fn somebody_else(missing: Side, stranger: &Stranger) -> String {
    let Stranger { from, awaited, port, fault } = stranger;
    match fault {
        Some(fault) => format!(
            "a connection to port {port} came from {from} with a PROXY header that was refused ({}): it may have been \
             the {missing}'s",
            fault.reason
        ),
        None if stranger::is_awaited(from.ip(), *awaited) => format!(
            "the {missing} connected to port {port} and the kernel did not lead it through the pinhole: another table of this \
             machine has not tracked the connection, has translated it first (conntrack's FTP helper does, too) or has changed \
             its mark"
        ),
        None => format!(
            "{ip} connected to port {port} instead and was reset: if that is the {missing} by another of its addresses, \
             write `data_peers: {{ {missing}: \"{ip}\" }}` in the rule, or their network",
            ip = from.ip()
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::session::HeaderTrouble;
    use crate::session::{Mode, Modes, Place};

    #[test]
    fn the_sentence_says_who_where_and_how_long() {
        let both = |mode| Modes { client: mode, server: mode };
        let story = Story {
            rule: "partners".into(),
            modes: both(Mode::Active),
            missing: Side::Client,
            place: Place::Theirs("198.51.100.7:50123".parse().unwrap()),
            absence: Absence::NoAnswer,
            waited: Duration::from_secs(10),
            source_port: Some(20),
            asked: true,
            may_be_passive: true,
            stranger: None,
        };
        let client = "198.51.100.7".parse().unwrap();
        assert_eq!(
            told(&story, client),
            (
                "client 198.51.100.7 asked for active mode; no answer from client 198.51.100.7 on port 50123 in 10 s"
                    .into(),
                "the client's firewall, or one of this machine, drops connections from port 20; let it use passive mode".into()
            )
        );
        let story =
            Story { modes: both(Mode::Passive), place: Place::Ours(10003), absence: Absence::NeverCame, ..story };
        let (sentence, cause) = told(&story, client);
        assert!(
            sentence.ends_with("client 198.51.100.7 did not connect to port 10003 of the gate in 10 s"),
            "{sentence}"
        );
        assert!(cause.contains("closes port 10003"), "{cause}");
        let (_, cause) = told(&Story { asked: false, ..story.clone() }, client);
        assert!(cause.contains("changed its mind") && cause.contains("closes port 10003"), "{cause}");
        let (_, cause) = told(&Story { asked: false, missing: Side::Server, ..story.clone() }, client);
        assert!(cause.contains("nothing is wrong"), "{cause}");
        // No firewall is to blame for a peer that comes from somewhere else, and it did not change its mind.
        let from = "198.51.100.8:4711".parse().unwrap();
        let stranger = Stranger { from, awaited: "198.51.100.7".parse().unwrap(), port: 10003, fault: None };
        let (_, cause) = told(&Story { stranger: Some(stranger), asked: false, ..story.clone() }, client);
        assert!(cause.starts_with("198.51.100.8 connected to port 10003 instead"), "{cause}");
        assert!(cause.contains("`data_peers: { client: \"198.51.100.8\" }`"), "{cause}");
        let stranger =
            Stranger { fault: Some(HeaderTrouble { reason: "proxy_header_checksum", advice: "" }), ..stranger };
        let (_, cause) = told(&Story { stranger: Some(stranger), ..story }, client);
        assert!(cause.contains("proxy_header_checksum") && !cause.contains("firewall"), "{cause}");
    }
}
