//! Bridges whose packets pass through iptables (`br_netfilter`): tproxy cannot deliver those to this machine.

use std::fs;
use std::io;

use super::Interception;
use super::table::{Family, Verdict};
use crate::net::netlink::{Socket, Writer, ask, find, number, text};

const GET_LINK: u16 = 18;
/// `struct ifinfomsg`.
const HEADER: usize = 16;

/// Clients that come over a bridge time out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bridged {
    /// The bridges, by name.
    pub bridges: Vec<String>,
    /// The settings that have to be 0 for tproxy to work there.
    pub settings: Vec<&'static str>,
}

impl Interception {
    /// The bridges over which clients cannot come, because of the machine's settings; `None` where all is well.
    #[must_use]
    pub fn bridged(&self) -> Option<Bridged> {
        let hands_over = |family: Family| {
            let mut verdicts = self.table.0.iter().flat_map(|chain| &chain.rules).map(|rule| rule.verdict);
            verdicts.any(|verdict| matches!(verdict, Verdict::Tproxy { family: of, .. } if of == family))
        };
        let families = Family::BOTH.into_iter().filter(|family| hands_over(*family));
        let settings: Vec<&str> = families.map(setting).filter(|setting| is_on(setting)).collect();
        if settings.is_empty() {
            return None;
        }
        // Where interfaces cannot be listed there is nothing to say.
        let bridges = bridges().unwrap_or_default();
        (!bridges.is_empty()).then_some(Bridged { bridges, settings })
    }
}

const fn setting(family: Family) -> &'static str {
    match family {
        Family::V4 => "net.bridge.bridge-nf-call-iptables",
        Family::V6 => "net.bridge.bridge-nf-call-ip6tables",
    }
}

fn is_on(setting: &str) -> bool {
    let file = format!("/proc/sys/{}", setting.replacen('.', "/", 2));
    fs::read_to_string(file).is_ok_and(|value| value.trim() != "0")
}

/// The bridges that have ports.
fn bridges() -> io::Result<Vec<String>> {
    let socket = Socket::open_routes()?;
    let mut question = Writer::default();
    question.message_with(GET_LINK, number::DUMP, 1, &[0; HEADER], |_| ());
    let (mut names, mut masters) = (Vec::new(), Vec::new());
    ask(&socket, &question, |message| {
        let attributes = message.body.get(HEADER..).unwrap_or_default();
        let index = message.body.get(4..8).map(<[u8]>::to_vec);
        names.extend(index.zip(find(attributes, &[3]).map(text)));
        if find(attributes, &[18, 4]).map(text).as_deref() == Some("bridge") {
            masters.extend(find(attributes, &[10]).map(<[u8]>::to_vec));
        }
    })?;
    let bridges = names.into_iter().filter(|(index, _)| masters.contains(index));
    Ok(bridges.map(|(_, name)| name).collect())
}
