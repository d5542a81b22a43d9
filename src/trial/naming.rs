//! Servers that a client names itself, at an explicit listener.

use super::{Question, Said};
use crate::addr::ServerAddr;
use crate::ftp::redact::escaped;
use crate::policy::{Asker, Decision, Stand};
use crate::session::{Called, Host, Named, Naming, Refusal, Step};

impl Question<'_> {
    /// `USER name@server` is no other user than `USER name`, whether the server has a name or its address.
    pub(super) fn called(&self, lines: &[&[u8]]) -> Option<Called> {
        let address = if self.server.port() == 21 { self.server.ip().to_string() } else { self.server.to_string() };
        let by_name = lines.iter().find_map(|line| named(line)).and_then(|named| match named.host {
            Host::Name(_) => Some(named.called.server),
            Host::Address(_) => None,
        });
        let server = by_name.unwrap_or_else(|| address.into_bytes());
        (self.listener.stand == Stand::Explicit).then_some(Called { server, login: None })
    }

    /// What becomes of a line that names another server than the one that is asked about; `None` where it does not.
    pub(super) fn elsewhere(&self, line: &[u8]) -> Option<Said> {
        let named = named(line).filter(|_| self.listener.stand == Stand::Explicit)?;
        let Host::Address(ip) = named.host else { return None };
        let server = ServerAddr::new((ip, named.port).into());
        if server == self.server {
            return None;
        }
        let asker = Asker::new(self.listener, self.client, server, self.at);
        let login = named.called.login.unwrap_or_default();
        let refusal = match self.policy.decide(&asker) {
            Decision::Allow(_) => None,
            Decision::Deny(_) => Some(Refusal::DestinationDenied),
            Decision::AtLogin(candidates) => {
                let user = login.strip_prefix(b"USER ").unwrap_or_default();
                candidates.choose(user).err().map(|_| Refusal::UserDenied)
            }
        };
        let what = format!("this names {server}, and not the server that was asked about");
        let then = match &refusal {
            Some(refusal) => format!("refused ({}): {what}", refusal.name()),
            None => format!("{what}; it is allowed: ask about that one"),
        };
        Some(Said {
            by: "client".to_owned(),
            line: escaped(line),
            then: vec![then],
            refused: refusal.map(|refusal| refusal.name()),
        })
    }
}

fn named(line: &[u8]) -> Option<Named> {
    match Naming::default().line(line) {
        Step::Connect(named) if named.called.login.is_some() => Some(named),
        Step::Connect(_) | Step::Answer(_) | Step::Refuse(_) | Step::Leave(_) => None,
    }
}
