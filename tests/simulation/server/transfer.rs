//! A server's transfers: announced, connected, moved, aborted, ended.

use fastrand::Rng;
use ftpgate::addr::Side;
use ftpgate::session::PinholeId;

use super::{Heeds, Server};
use crate::cast::{Cast, Manner};
use crate::datapath::{Datapath, Fin, Phase};
use crate::wire;

/// How long a server waits for a data connection.
const PATIENCE: u64 = 40;

#[derive(Debug)]
pub(super) struct Job {
    pub(super) ordinal: u32,
    pub(super) upload: bool,
    pub(super) hole: Option<PinholeId>,
    pub(super) begun: bool,
    pub(super) accepts_first: bool,
    pub(super) waits_for_end: bool,
    pub(super) until: u64,
}

impl Server {
    pub(super) fn begin(&mut self, now: u64, line: &[u8], ordinal: u32, rng: &mut Rng) {
        let verb = wire::verb(line);
        let listing = matches!(verb.as_str(), "LIST" | "NLST" | "MLSD");
        if rng.u8(..12) == 0 {
            return self.reply([550, 450, 425][rng.usize(..3)], ordinal, "no such file", rng);
        }
        if listing && rng.u8(..6) == 0 {
            if rng.bool() {
                self.reply(150, ordinal, "nothing", rng);
            }
            self.listening = None;
            return self.reply(self.done, ordinal, "empty", rng);
        }
        let passive = self.listening.is_some();
        self.job = Some(Job {
            ordinal,
            upload: matches!(verb.as_str(), "STOR" | "APPE" | "STOU"),
            hole: None,
            begun: false,
            accepts_first: passive && rng.bool(),
            waits_for_end: rng.bool(),
            until: now + PATIENCE,
        });
    }

    /// ABOR, STAT and others in the middle of a transfer.
    pub(super) fn overtaking(&mut self, now: u64, cast: &Cast, path: &mut Datapath, rng: &mut Rng) -> bool {
        let verb = self.inbox.front().map(|(_, line)| wire::verb(line));
        let Some(job) = &self.job else { return false };
        let transfer = job.ordinal;
        match verb.as_deref() {
            // It does not know it, and the transfer goes on.
            Some("ABOR") if self.heeds == Heeds::AtOnce && job.begun && rng.u8(..6) == 0 => {
                let Some((ordinal, _)) = self.inbox.pop_front() else { return false };
                self.reply([500, 502][rng.usize(..2)], ordinal, "what?", rng);
            }
            Some("STAT") if job.begun => {
                let Some((ordinal, _)) = self.inbox.pop_front() else { return false };
                self.reply([211, 213][rng.usize(..2)], ordinal, "status", rng);
            }
            Some("ABOR") => {
                let Some((ordinal, _)) = self.inbox.pop_front() else { return false };
                let (hole, begun) = (job.hole, job.begun);
                self.job = None;
                if let Some(hole) = hole.and_then(|id| path.hole(id)) {
                    hole.fins[1] = Some(Fin::Reset);
                }
                self.listening = None;
                self.offered = None;
                let style = rng.u8(..if begun && hole.is_some() { 6 } else { 5 });
                self.aborts(transfer, ordinal, style, cast, rng);
            }
            Some(_) => return self.heeds(now, cast, rng),
            None => return false,
        }
        true
    }

    /// The transfer was aborted: the replies to it and to ABOR.
    fn aborts(&mut self, transfer: u32, ordinal: u32, style: u8, cast: &Cast, rng: &mut Rng) {
        if style < 5 {
            let first = [426, 226, 426, 226, 426][usize::from(style)];
            self.reply(first, transfer, "aborted", rng);
        }
        match style {
            0 | 1 => self.reply(226, ordinal, "abort ok", rng),
            2 => self.reply(225, ordinal, "abort ok", rng),
            3 | 4 => self.shares = true,
            _ => {
                self.reply(150, transfer, "0.000 seconds (measured here)", rng);
                self.forgotten.push([transfer, ordinal]);
                return;
            }
        }
        self.extra(transfer, cast, rng);
    }

    /// Answers a command that came in the middle of a transfer, where it does so.
    fn heeds(&mut self, now: u64, cast: &Cast, rng: &mut Rng) -> bool {
        const WAIT: [&str; 15] = [
            "PASV", "EPSV", "PORT", "EPRT", "RETR", "STOR", "APPE", "STOU", "LIST", "NLST", "MLSD", "ABOR", "REIN",
            "QUIT", "USER",
        ];
        let waits = |line: &[u8]| WAIT.contains(&wire::verb(line).as_str());
        let heeded = self.inbox.iter().take_while(|(_, line)| !waits(line)).count();
        let place = match self.heeds {
            Heeds::Late => return false,
            Heeds::AtOnce => 0,
            Heeds::Some if rng.u8(..3) == 0 => rng.usize(..=heeded),
            Heeds::Some => return false,
        };
        // Where it has not announced the transfer, a refusal would pass for the transfer's.
        if place >= heeded || !self.job.as_ref().is_some_and(|job| job.begun) {
            return false;
        }
        let Some((ordinal, line)) = self.inbox.remove(place) else { return false };
        self.answer(now, ordinal, &line, cast, rng);
        true
    }

    /// A final too many, of the kind that follows transfers.
    fn extra(&mut self, ordinal: u32, cast: &Cast, rng: &mut Rng) {
        if cast.manner == Manner::Good || rng.u8(..3) > 0 {
            return;
        }
        // Behind a 250 that another command may have had, nobody can tell.
        if self.done == 250 {
            return;
        }
        self.reply([226, 426, 226, 225, 150][rng.usize(..5)], ordinal, "once more", rng);
    }

    fn end(&mut self, code: u16, cast: &Cast, rng: &mut Rng) {
        let Some(job) = self.job.take() else { return };
        self.listening = None;
        self.offered = None;
        self.reply(code, job.ordinal, "done", rng);
        self.extra(job.ordinal, cast, rng);
    }

    /// The transfer goes on.
    pub(super) fn work(&mut self, now: u64, cast: &Cast, path: &mut Datapath, rng: &mut Rng) -> bool {
        let Some(job) = &mut self.job else { return false };
        if !job.begun && !job.accepts_first {
            job.begun = true;
            let ordinal = job.ordinal;
            self.reply([125, 150][rng.usize(..2)], ordinal, "go", rng);
            return true;
        }
        let Some(id) = job.hole else { return self.connect(now, cast, path, rng) };
        if !job.begun {
            job.begun = true;
            let ordinal = job.ordinal;
            self.reply([125, 150][rng.usize(..2)], ordinal, "go", rng);
            return true;
        }
        let done = self.done;
        let (upload, waits) = (job.upload, job.waits_for_end);
        let Some(hole) = path.hole(id) else {
            self.end(426, cast, rng);
            return true;
        };
        match (hole.phase, hole.fins) {
            (Phase::Over, [_, Some(Fin::Close)]) if hole.complete => self.end(done, cast, rng),
            (Phase::Over, _) => self.end([426, 451][rng.usize(..2)], cast, rng),
            (_, [_, None]) if !upload => {
                hole.fins[1] = Some(Fin::Close);
                if cast.manner != Manner::Good && rng.u8(..10) == 0 {
                    hole.fins[1] = Some(Fin::Reset);
                }
            }
            (_, [_, Some(Fin::Close)]) if !upload && !waits => self.end(done, cast, rng),
            (Phase::Joined, [Some(Fin::Close), None]) => hole.fins[1] = Some(Fin::Close),
            (Phase::Joined, [Some(Fin::Close), Some(Fin::Close)]) if upload => self.end(done, cast, rng),
            _ => return false,
        }
        true
    }

    /// The data connection is made, or waited for.
    fn connect(&mut self, now: u64, cast: &Cast, path: &mut Datapath, rng: &mut Rng) -> bool {
        let Some(job) = &mut self.job else { return false };
        let came = match (self.listening, self.offered) {
            (Some(port), _) => {
                let came = path.holes.iter().find(|hole| hole.dials[1] == port && hole.stands[1]);
                match came {
                    Some(hole) => Some(hole.id),
                    None if job.until > now => return false,
                    None => None,
                }
            }
            (None, Some(port)) => path.at_port(Side::Server, port).map(|hole| {
                hole.stands[1] = true;
                hole.id
            }),
            (None, None) => None,
        };
        job.hole = came;
        if came.is_none() {
            self.end(425, cast, rng);
        }
        true
    }
}
