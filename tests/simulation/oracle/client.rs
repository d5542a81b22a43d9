//! What the client is told: one final for each command, in order, and nothing that did not happen.

use std::net::IpAddr;

use ftpgate::addr::Side;
use ftpgate::session::{HowEnded, PinholeId};

use super::{Asked, Kind, Oracle, State, Verdict, no};
use crate::cast::Manner;
use crate::server::Heeds;
use crate::wire::{self, Framed};

/// How long the end of a transfer waits for the data connection.
const HOLD: u64 = 2;
/// Codes that the gate itself answers with.
const OURS: [u16; 15] = [200, 227, 229, 421, 425, 426, 451, 500, 501, 502, 503, 504, 522, 530, 534];

impl Oracle {
    pub(super) fn tells_client(&mut self, line: &[u8]) -> Verdict {
        let framed = self.to_client.next(line);
        let from_server = self.pool.iter().position(|said| said == line);
        match from_server {
            Some(index) => drop(self.pool.drain(..=index)),
            None => self.is_ours(line, framed)?,
        }
        match framed {
            Framed::Stray if self.manner != Manner::Wild => no("a line outside of any reply"),
            Framed::Stray | Framed::Inside => Ok(()),
            Framed::Begin(_) => {
                self.tag = wire::tag(line);
                Ok(())
            }
            Framed::End(code) => {
                let tag = self.tag.take();
                self.replies(code, tag, line, from_server.is_some())
            }
            Framed::Whole(code) => self.replies(code, wire::tag(line), line, from_server.is_some()),
        }
    }

    fn is_ours(&self, line: &[u8], framed: Framed) -> Verdict {
        let fits = match framed {
            Framed::Whole(code) => OURS.contains(&code),
            Framed::End(_) => line.ends_with(b"(cut off)"),
            // Features of the gate's own, and others with the blank that belongs ahead of them.
            Framed::Inside => {
                let bare = line.strip_prefix(b" ").unwrap_or_default();
                [&b"EPRT"[..], b"EPSV"].contains(&bare) || self.pool.iter().any(|said| said == bare)
            }
            Framed::Begin(_) | Framed::Stray => false,
        };
        if fits || self.unframed { Ok(()) } else { no("the client is told what nobody said") }
    }

    /// A reply of this code reaches the client.
    fn replies(&mut self, code: u16, tag: Option<u32>, line: &[u8], is_servers: bool) -> Verdict {
        if code < 200 {
            return self.preliminary(tag);
        }
        if code == 421 {
            self.over = true;
            return Ok(());
        }
        if self.over {
            return Ok(());
        }
        if matches!(code, 227 | 229) {
            self.announced(code, line, is_servers)?;
        }
        let strict = self.manner != Manner::Wild;
        let asked = self.take(tag, code, line, strict)?;
        let Some(asked) = asked else { return no("a final reply too many") };
        let is_transfer = |other: &Asked| matches!(other.kind, Kind::Transfer { .. });
        let transfers = is_transfer(&asked) || self.asked.iter().any(is_transfer);
        self.doubtful = !self.asked.is_empty() && (self.doubtful || (transfers && matches!(code, 250 | 450 | 550)));
        let cut_off = line.ends_with(b"(cut off)");
        if strict && !is_servers && !cut_off {
            self.is_due(&asked, code)?;
        }
        let may_be_others = |other: &Asked| other.forwarded && other.kind == Kind::Other;
        if self.asked.is_empty() {
            self.untold = None;
        } else if is_transfer(&asked) && code == 250 && self.asked.iter().any(may_be_others) {
            self.untold = Some(asked.clone());
        }
        match asked.kind {
            Kind::Passive { extended } => {
                if (200..300).contains(&code) && code != if extended { 229 } else { 227 } && strict {
                    return no("another answer to PASV or EPSV");
                }
                if matches!(code, 227 | 229) {
                    self.armed = Some(PinholeId(self.last_id));
                }
            }
            Kind::Active { .. } if strict && (200..300).contains(&code) && !self.has_opened => {
                return no("PORT or EPRT is agreed to and no pinhole stands");
            }
            Kind::Active { .. } if (200..300).contains(&code) => self.armed = Some(PinholeId(self.last_id)),
            // Where anything goes, nobody knows which reply was for which transfer.
            Kind::Transfer { hole: Some(id), begun } if strict => self.transferred(id, begun, code)?,
            _ => {}
        }
        Ok(())
    }

    fn preliminary(&mut self, tag: Option<u32>) -> Verdict {
        let strict = self.manner != Manner::Wild;
        let Some(asked) = self.asked.iter_mut().find(|asked| asked.kind != Kind::Abort) else {
            return if strict && !self.over && !self.has_forgotten { no("1yz and nothing was asked") } else { Ok(()) };
        };
        if let Some(tag) = tag.filter(|tag| strict && !self.has_forgotten && *tag != asked.ordinal) {
            return no(format!("1yz of command {tag} where {} is answered", asked.ordinal));
        }
        if let Kind::Transfer { begun, .. } = &mut asked.kind {
            *begun = true;
        }
        Ok(())
    }

    /// The command that this final belongs to.
    fn take(&mut self, tag: Option<u32>, code: u16, line: &[u8], strict: bool) -> Result<Option<Asked>, String> {
        if let Some(index) = self.late.iter().position(|late| Some(late.ordinal) == tag) {
            return Ok(Some(self.late.swap_remove(index)));
        }
        let Some(tag) = tag.filter(|_| strict) else {
            // What the gate says itself is never the answer to an ABOR.
            while strict && self.asked.front().is_some_and(|asked| asked.kind == Kind::Abort) {
                self.late.extend(self.asked.pop_front());
            }
            let own = if strict { self.refused_by_gate(code, line) } else { 0 };
            let taken = self.asked.remove(own);
            // What could be either's was told as the transfer's failure, for nothing has reached the client: the
            // transfer's own final is then the other command's.
            if let Some(Asked { ordinal, kind: Kind::Transfer { .. }, forwarded: true }) = taken
                && self.heeds != Heeds::Late
                && self.may_be_transfers()
                && let Some(said) = wire::tag(&self.server_text)
                && let Some(other) = self.asked.iter_mut().find(|other| other.ordinal == said)
            {
                other.ordinal = ordinal;
                (self.swapped, self.doubtful) = (true, true);
            }
            return Ok(self.told_late(taken, code));
        };
        loop {
            let Some(front) = self.asked.front() else { return Ok(None) };
            if front.ordinal == tag {
                return Ok(self.asked.pop_front());
            }
            let position = self.asked.iter().position(|asked| asked.ordinal == tag);
            match (front.kind, position) {
                (_, Some(index)) if self.may_overtake(index, code) => return Ok(self.asked.remove(index)),
                // An ABOR that shared the transfer's reply.
                (Kind::Abort, Some(_)) if self.shares => drop(self.asked.pop_front()),
                // The second final of a transfer, where its ABOR has not been answered: nobody can tell.
                (_, None) if self.manner == Manner::Odd && matches!(code, 225 | 226 | 426) => {
                    let Some(abort) = self.asked.iter().position(|asked| asked.kind == Kind::Abort) else {
                        return no(format!("a second answer of {tag}"));
                    };
                    return Ok(self.asked.remove(abort));
                }
                _ => return no(format!("command {} gets the answer of {tag}", front.ordinal)),
            }
        }
    }

    /// A transfer's 250 may have been another command's, which then had its answer: what the gate says in place of that
    /// other's is for the transfer, of which nothing has reached the client.
    fn told_late(&mut self, taken: Option<Asked>, code: u16) -> Option<Asked> {
        let is_others = |asked: &Asked| asked.forwarded && !matches!(asked.kind, Kind::Transfer { .. });
        if matches!(code, 425 | 426 | 451) && taken.as_ref().is_some_and(is_others) && self.untold.is_some() {
            return self.untold.take();
        }
        taken
    }

    /// The command that the gate itself answers: the first one, or in the middle of a transfer the first that it has refused.
    fn refused_by_gate(&self, code: u16, line: &[u8]) -> usize {
        let front = self.asked.front().filter(|asked| matches!(asked.kind, Kind::Transfer { .. }));
        let transfers = front.is_some() || self.doubtful || self.heeds == Heeds::Some;
        // In place of what the server said to the transfer.
        let replaces = front.map(|front| front.ordinal) == wire::tag(&self.server_text) || self.may_be_transfers();
        let refuses = line.starts_with(b"425 Send") || line.ends_with(b"all ports are in use; try again later.");
        let ends = matches!(code, 425 | 426 | 451) && replaces && !refuses;
        let refused = self.asked.iter().position(|asked| !asked.forwarded);
        refused.filter(|_| transfers && !ends && !line.ends_with(b"(cut off)")).unwrap_or(0)
    }

    /// Whether the server's reply, to whatever it is, can be taken for a transfer's: it is what ends transfers, or the
    /// command that it is for has been taken to be answered by such a reply.
    fn may_be_transfers(&self) -> bool {
        self.doubtful || self.server_text.starts_with(b"250")
    }

    /// Whether the server may answer this command before those ahead of it, in the middle of a transfer.
    fn may_overtake(&self, index: usize, code: u16) -> bool {
        let Some(asked) = self.asked.get(index) else { return false };
        let ahead = || self.asked.iter().take(index);
        // What can be the answer to several is taken for one of them, and what the gate itself has to say waits.
        let unsure = self.doubtful || matches!(code, 250 | 450 | 550 | 500..=504) || self.heeds == Heeds::Some;
        let is_transfers = |asked: &Asked| matches!(asked.kind, Kind::Transfer { .. } | Kind::Abort);
        match self.heeds {
            _ if self.swapped => true,
            // One of several, of which an earlier one shared its transfer's reply.
            _ if asked.kind == Kind::Abort && self.shares => true,
            // The 226 may be that of the transfer of which it has said nothing but 1yz.
            _ if asked.kind == Kind::Abort && self.has_forgotten => ahead().all(|other| !other.forwarded),
            _ if !ahead().any(|asked| matches!(asked.kind, Kind::Transfer { .. })) && self.heeds != Heeds::Some => {
                false
            }
            Heeds::Late => asked.kind == Kind::Status,
            Heeds::AtOnce | Heeds::Some => ahead().all(|other| {
                is_transfers(other) || (self.heeds == Heeds::Some && other.forwarded) || (unsure && !other.forwarded)
            }),
        }
    }

    /// Whether an answer of the gate's own is right, where the peers behave.
    fn is_due(&self, asked: &Asked, code: u16) -> Verdict {
        let good = self.manner == Manner::Good;
        let fits = match asked.kind {
            Kind::Passive { extended: true } => code == 229 || code == 425 || code == 421 || code == 502,
            Kind::Passive { extended: false } => matches!(code, 227 | 425 | 502 | 503 | 522),
            Kind::Active { .. } => matches!(code, 200 | 425 | 501 | 502 | 503 | 504 | 522),
            Kind::Transfer { .. } => matches!(code, 425 | 426 | 451),
            Kind::Abort | Kind::Status => false,
            Kind::Greeting => false,
            Kind::Other => code >= 500 || code == 451 || code == 200,
        };
        let refused = code >= 300 && asked.forwarded && good;
        let negotiation = matches!(asked.kind, Kind::Passive { .. });
        let v6 = self.cast.ends.client.ip().is_ipv6();
        let aborted = self.asked.iter().any(|other| other.kind == Kind::Abort);
        // It took the server longer to answer PORT than the pinhole waits.
        let expired = self.holes.iter().any(|hole| hole.id.0 == self.last_id && hole.state == State::Closed);
        // A server's 425 or 426 is told in words of the gate's own, where it knows why there was no connection.
        let lost = matches!(asked.kind, Kind::Transfer { hole: Some(id), .. }
            if self.holes.iter().any(|hole| hole.id == id && matches!(hole.state, State::Closed | State::Ended(HowEnded::NotReached { .. }))));
        let refused = refused && !aborted && !lost;
        let negotiation = negotiation && !expired;
        if !fits || refused || (good && negotiation && code >= 300 && code != 503 && !v6) {
            return no(format!("the gate answers {:?} by {code}", asked.kind));
        }
        Ok(())
    }

    fn announced(&self, code: u16, line: &[u8], is_servers: bool) -> Verdict {
        if is_servers && self.to_client.is_inside() {
            return no("a 227 or 229 of the server's own passes");
        }
        let front = self.asked.iter().find(|asked| !(asked.kind == Kind::Abort && self.may_share()));
        let port = match (code, wire::strict_227(line), wire::strict_229(line)) {
            (227, Some((ip, port)), _) if IpAddr::V4(ip) == self.cast.announced => port,
            (229, _, Some(port)) => port,
            _ => return no("227 or 229 is not strict, or names another address"),
        };
        let open = self.holes.iter().any(|hole| {
            matches!(hole.state, State::Open | State::Started)
                && hole.ports[0] == Some(port)
                && hole.id.0 == self.last_id
        });
        let asked = front.is_some_and(|asked| asked.kind == Kind::Passive { extended: code == 229 });
        if self.manner != Manner::Wild && !asked {
            return no("227 or 229 for another command");
        }
        if open { Ok(()) } else { no("227 or 229 names no open pinhole") }
    }

    fn may_share(&self) -> bool {
        self.shares || self.manner == Manner::Wild
    }

    fn transferred(&mut self, id: PinholeId, begun: bool, code: u16) -> Verdict {
        let now = self.now;
        let heard = self.server_final_at;
        let armed = self.armed;
        let others = self.asked.iter().any(|asked| asked.forwarded && asked.kind == Kind::Other);
        let Some(hole) = self.hole(id) else { return no("the pinhole of a transfer is not known") };
        if code >= 300 {
            if !begun && armed.is_none() && !matches!(hole.state, State::Ended(_) | State::Closed) {
                self.armed = Some(id);
            }
            return Ok(());
        }
        // A 250 that may be another command's is not held where nothing is known of the server.
        let reaches = hole.listens != [true, false] && !(code == 250 && others);
        match hole.state {
            State::Ended(HowEnded::NotReached { side: Side::Client, .. }) if !(code == 250 && others) => {
                no("success, and the client was not reached")
            }
            State::Ended(_) | State::Started => {
                self.completed += 1;
                Ok(())
            }
            State::Open | State::Opening if reaches && now < heard + HOLD => {
                no("success before the data connection came")
            }
            State::Closed if reaches => no("success, and the pinhole was closed before anybody came"),
            State::Open | State::Opening | State::Closed => Ok(()),
        }
    }
}
