//! A server that does not answer: what is likely.

use std::borrow::Cow;
use std::net::IpAddr;

/// What is known of the answer of a server that was connected to in vain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unanswered {
    /// Nothing: its answer would be to an address of this machine, or it did answer.
    Unknown,
    /// It was to answer to this address, and as far as is known nothing came to this machine.
    WentElsewhere(IpAddr),
    /// Its answer came to this machine, and the gate did not get it.
    NotHandedOver,
}

impl Unanswered {
    /// What the operator is to look at.
    pub(super) fn advice(self) -> Cow<'static, str> {
        match self {
            Self::Unknown => "is the server up, and is there a route to it?".into(),
            Self::WentElsewhere(ip) => format!(
                "the server's route to {ip} must lead through this machine, for with `source: client` that is where it answers \
                 to; if it does: is the server up, is there a route to it, and does no reverse-path filter of this machine \
                 drop what comes from it?"
            )
            .into(),
            Self::NotHandedOver => "the server's answer came to this machine and was not handed to the gate: run again what \
                `ftpgate intercept` prints, and see whether a firewall or a reverse-path filter here drops packets with its \
                mark (nft monitor trace)"
                .into(),
        }
    }
}
