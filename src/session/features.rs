//! The list of features in the answer to FEAT (RFC 2389 section 3.2): what does not hold through the gate is left out, and
//! what the gate has is there, whatever the server knows.

use super::Session;
use crate::addr::Side;
use crate::ftp::reply::{self, Code, Part};

/// Features that are ours and not the server's: for active mode, and for passive mode.
const OWN: [&[u8]; 2] = [b"EPRT", b"EPSV"];
/// Features that do not hold through the gate.
const HIDDEN: [&[u8]; 12] =
    [b"AUTH", b"PBSZ", b"PROT", b"CCC", b"ADAT", b"CPSV", b"SSCN", b"LPRT", b"LPSV", b"SPSV", b"SPAS", b"SPOR"];

impl Session {
    /// Passes a line of the answer on.
    pub(super) fn feature_line(&mut self, part: Part, line: Vec<u8>) {
        match part {
            Part::First(code) if is_hidden(&line, code) => self.forward(Side::Client, b"211-Features:".to_vec()),
            Part::Middle(code) if is_hidden(&line, code) => {}
            // Old servers leave the blank away that is to stand ahead of each feature.
            Part::Middle(code) if is_bare(&line, code) => self.forward(Side::Client, [b" ", line.as_slice()].concat()),
            Part::Last(code) if code.number() == 211 => {
                self.own_features();
                self.forward(Side::Client, if is_hidden(&line, code) { b"211 End".to_vec() } else { line });
            }
            Part::First(_) | Part::Middle(_) | Part::Last(_) | Part::Only(_) | Part::Stray => {
                self.forward(Side::Client, line);
            }
        }
    }

    /// What the client can use through us, whatever the server knows.
    fn own_features(&mut self) {
        let usable = [self.rule.outbound.is_some(), self.rule.inbound.is_some()];
        for (feature, _) in OWN.into_iter().zip(usable).filter(|(_, usable)| *usable) {
            self.forward(Side::Client, [b" ", feature].concat());
        }
    }
}

/// Whether a line within a reply has neither a blank ahead of its text nor the code.
fn is_bare(line: &[u8], code: Code) -> bool {
    line.first().is_some_and(u8::is_ascii_alphanumeric) && reply::text(line, code).len() == line.len()
}

/// Whether a line of a list of features names one that does not hold through the gate, or one of the gate's own. Some
/// servers write the code ahead of each.
fn is_hidden(line: &[u8], code: Code) -> bool {
    let line = reply::text(line, code).trim_ascii().to_ascii_uppercase();
    HIDDEN.iter().chain(&OWN).any(|feature| {
        line.strip_prefix(*feature).is_some_and(|rest| rest.first().is_none_or(|byte| !byte.is_ascii_alphanumeric()))
    })
}
