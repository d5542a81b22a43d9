//! Clients: lockstep or pipelining, good ones and others.

use std::collections::VecDeque;
use std::net::SocketAddr;

use fastrand::Rng;
use ftpgate::addr::Side;
use ftpgate::session::PinholeId;

use crate::cast::{Cast, Manner};
use crate::datapath::{Datapath, Fin, Phase};
use crate::wire::{self, Framed, Framing};

/// How long a client waits for the answer to ABOR before it takes the transfer's reply for it.
const ABORT_PATIENCE: u64 = 70;

/// What a client believes of a command that it sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sent {
    Greeting,
    Plain,
    Passive,
    Active,
    Transfer,
    Status,
    Abort,
    Quit,
}

/// A data connection that the client negotiates.
#[derive(Debug)]
struct Target {
    /// The gate's port in passive mode, the client's own in active mode.
    port: Option<u16>,
    passive: bool,
    upload: bool,
    answered: bool,
    asked_for: bool,
    over: bool,
    comes: bool,
    early: bool,
    hole: Option<PinholeId>,
}

#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) out: Vec<u8>,
    pub(crate) closed: bool,
    pub(crate) over: bool,
    framing: Framing,
    sent: VecDeque<Sent>,
    /// The numbers of those commands.
    numbers: VecDeque<u32>,
    number: u32,
    targets: Vec<Target>,
    pipelines: bool,
    abort_until: Option<u64>,
    /// The transfer has its reply, and the ABOR's is waited for from now on.
    counts_abort: bool,
    epsv_all: bool,
    turns: u32,
    next_port: u16,
    waits_for_data: bool,
}

impl Client {
    pub(crate) fn new(rng: &mut Rng) -> Self {
        Self {
            out: Vec::new(),
            closed: false,
            over: false,
            framing: Framing::default(),
            sent: VecDeque::from([Sent::Greeting]),
            numbers: VecDeque::from([0]),
            number: 0,
            targets: Vec::new(),
            pipelines: rng.u8(..3) == 0,
            abort_until: None,
            counts_abort: false,
            epsv_all: false,
            turns: rng.u32(3..30),
            next_port: 0,
            waits_for_data: rng.bool(),
        }
    }

    /// The ports on which it waits for data connections.
    pub(crate) fn waits_on(&self, into: &mut Vec<u16>) {
        into.extend(self.targets.iter().filter(|target| !target.passive && target.comes).filter_map(|t| t.port));
    }

    pub(crate) fn timer(&self) -> Option<u64> {
        self.abort_until
    }

    /// What the gate sent.
    pub(crate) fn hear(&mut self, line: &[u8]) {
        let (Framed::Whole(code) | Framed::End(code)) = self.framing.next(line) else { return };
        if code == 421 {
            self.over = true;
            return;
        }
        if code < 200 {
            return;
        }
        if self.sent.front() == Some(&Sent::Abort) {
            self.abort_until = None;
        }
        let place = self.answered(code, line);
        self.numbers.remove(place);
        match self.sent.remove(place) {
            Some(Sent::Passive) => {
                let port = wire::strict_227(line).map(|(_, port)| port).or_else(|| wire::strict_229(line));
                self.negotiated(code, port);
            }
            Some(Sent::Active) => self.negotiated(code, None),
            Some(Sent::Transfer) => {
                self.transfer_over(code);
                self.counts_abort = self.sent.front() == Some(&Sent::Abort);
            }
            Some(Sent::Quit) => self.over = true,
            Some(Sent::Greeting | Sent::Plain | Sent::Status | Sent::Abort) | None => {}
        }
    }

    fn transfer_over(&mut self, code: u16) {
        if let Some(target) = self.targets.iter_mut().find(|target| target.asked_for && !target.over) {
            target.over = true;
            target.comes &= code < 300;
        }
    }

    /// The command that a final reply is for: servers name it, and the gate does not end a transfer by what it refuses.
    fn answered(&self, code: u16, line: &[u8]) -> usize {
        let tagged = wire::tag(line).and_then(|tag| self.numbers.iter().position(|number| *number == tag));
        let transfers = self.sent.front() == Some(&Sent::Transfer);
        let is_full = line.ends_with(b"all ports are in use; try again later.");
        let refused = transfers && (is_full || !matches!(code, 425 | 426 | 451));
        let own = self.sent.iter().position(|sent| refused && *sent != Sent::Transfer);
        let another = line.starts_with(b"425 Send").then(|| self.sent.iter().rposition(|sent| *sent == Sent::Transfer));
        let place = tagged.or(own);
        place.or_else(|| another.flatten()).unwrap_or(0)
    }

    fn negotiated(&mut self, code: u16, port: Option<u16>) {
        let Some(index) = self.targets.iter().position(|target| !target.answered) else { return };
        if code >= 300 || (self.targets[index].passive && port.is_none()) {
            let target = &mut self.targets[index];
            (target.answered, target.comes) = (true, false);
            if !target.asked_for {
                self.targets.remove(index);
            }
            return;
        }
        let target = &mut self.targets[index];
        target.answered = true;
        target.port = target.port.or(port);
    }

    fn say(&mut self, line: &[u8], sent: Sent) {
        self.out.extend_from_slice(line);
        self.out.extend_from_slice(b"\r\n");
        self.sent.push_back(sent);
        self.number += 1;
        self.numbers.push_back(self.number);
    }

    fn drop_first(&mut self) {
        self.sent.pop_front();
        self.numbers.pop_front();
    }

    /// Does one thing, where there is one.
    pub(crate) fn act(&mut self, now: u64, cast: &Cast, path: &mut Datapath, rng: &mut Rng) -> bool {
        if self.closed {
            // Half of it: what moves goes on.
            return self.data(path, rng);
        }
        if std::mem::take(&mut self.counts_abort) {
            self.abort_until = Some(now + ABORT_PATIENCE);
        }
        if self.abort_until.is_some_and(|until| until <= now) {
            self.abort_until = None;
            // Its transfer has been forgotten too.
            if self.sent.front() == Some(&Sent::Transfer) && self.sent.get(1) == Some(&Sent::Abort) {
                self.drop_first();
                self.transfer_over(499);
            }
            if self.sent.front() == Some(&Sent::Abort) {
                self.drop_first();
            }
        }
        if self.over {
            self.closed = true;
            return true;
        }
        if self.data(path, rng) {
            return true;
        }
        if cast.manner == Manner::Wild && rng.u8(..6) == 0 && self.turns > 0 {
            self.turns -= 1;
            self.misbehave(cast, rng);
            return true;
        }
        self.speak(now, cast, path, rng)
    }

    /// Comes to its pinholes, sends and takes what there is.
    fn data(&mut self, path: &mut Datapath, rng: &mut Rng) -> bool {
        self.targets.iter_mut().any(|target| {
            let Some(port) = target.port.filter(|_| target.answered && target.comes) else { return false };
            let Some(id) = target.hole else {
                if !target.passive {
                    let hole = path.holes.iter().find(|hole| hole.dials[0] == port && hole.stands[0]);
                    target.hole = hole.map(|hole| hole.id);
                    return target.hole.is_some();
                }
                if !(target.early || target.asked_for) || rng.bool() {
                    return false;
                }
                // Nobody waits there any more, or not yet.
                let Some(hole) = path.at_port(Side::Client, port) else { return false };
                hole.stands[0] = true;
                target.hole = Some(hole.id);
                return true;
            };
            let Some(hole) = path.hole(id) else { return false };
            if hole.phase != Phase::Joined || hole.fins[0].is_some() || !target.asked_for {
                return false;
            }
            let may_end = target.upload || hole.fins[1].is_some();
            if may_end {
                hole.fins[0] = Some(Fin::Close);
            }
            may_end
        })
    }

    fn is_moving(&self, path: &Datapath) -> bool {
        self.targets
            .iter()
            .filter_map(|target| target.hole)
            .any(|id| path.holes.iter().any(|hole| hole.id == id && hole.phase == Phase::Joined))
    }

    fn speak(&mut self, now: u64, cast: &Cast, path: &mut Datapath, rng: &mut Rng) -> bool {
        if self.sent.front() == Some(&Sent::Greeting) {
            return false;
        }
        if let Some(index) = self.targets.iter().position(|target| !target.asked_for) {
            let target = &self.targets[index];
            let connects = target.early && target.passive && target.answered && target.comes && target.hole.is_none();
            let goes_on = self.sent.is_empty() || (self.pipelines && !self.sent.contains(&Sent::Abort));
            if (target.answered || self.pipelines) && !connects && goes_on {
                let verb = match (target.upload, rng.u8(..2)) {
                    (true, 0) => "STOR up",
                    (true, _) => "APPE up",
                    (false, 0) => "RETR down",
                    (false, _) => "NLST",
                };
                self.targets[index].asked_for = true;
                self.say(verb.as_bytes(), Sent::Transfer);
                return true;
            }
        }
        let transferring = self.sent.contains(&Sent::Transfer);
        if transferring && !self.sent.contains(&Sent::Abort) && rng.u8(..24) == 0 {
            self.abort_until = Some(now + ABORT_PATIENCE);
            self.say(if rng.bool() { b"\xff\xf4\xff\xf2ABOR" } else { b"ABOR" }, Sent::Abort);
            return true;
        }
        if transferring && !self.sent.contains(&Sent::Abort) && rng.u8(..24) == 0 {
            self.say(b"STAT", Sent::Status);
            return true;
        }
        // Many keep the control connection alive so.
        if transferring && !self.sent.contains(&Sent::Abort) && self.sent.len() < 5 && rng.u8(..12) == 0 {
            let kept: [&[u8]; 8] = [b"NOOP", b"PWD", b"SIZE x", b"CWD x", b"TYPE I", b"XFOO", b"DELE x", b"AUTH TLS"];
            self.say(kept[rng.usize(..kept.len())], Sent::Plain);
            return true;
        }
        let goes_on = self.sent.is_empty() || (self.pipelines && self.sent.len() < 6 && rng.u8(..4) == 0);
        if !goes_on || self.sent.contains(&Sent::Abort) || (self.waits_for_data && self.is_moving(path)) {
            return false;
        }
        if self.turns == 0 {
            // Some say goodbye, some just go.
            match rng.u8(..3) {
                0 => self.over = true,
                _ if self.sent.contains(&Sent::Quit) => return false,
                _ => self.say(b"QUIT", Sent::Quit),
            }
            return true;
        }
        self.turns -= 1;
        self.next(cast, rng);
        true
    }

    fn next(&mut self, cast: &Cast, rng: &mut Rng) {
        let odd = cast.manner != Manner::Good;
        match rng.u8(..20) {
            0 => self.say(b"NOOP", Sent::Plain),
            1 => self.say(b"TYPE I", Sent::Plain),
            2 => self.say(b"cwd /a b/227 (1,2,3,4,5,6)", Sent::Plain),
            3 => self.say(b"FEAT", Sent::Plain),
            4 => self.say(b"HOST example.org", Sent::Plain),
            5 => self.say(b"STAT", Sent::Status),
            6 => self.say(b"AUTH TLS", Sent::Plain),
            7 => self.say(b"LPRT 4,4,1,2,3,4,2,4,1", Sent::Plain),
            8 if cast.combination.client_extended && cast.combination.client_passive => {
                self.epsv_all = true;
                self.say(b"EPSV ALL", Sent::Plain);
            }
            9 if rng.u8(..3) == 0 => {
                self.say(b"REIN", Sent::Plain);
                self.epsv_all = false;
            }
            9 => self.say(b"PORT 198,51,100,8,4,1", Sent::Plain),
            10 if odd => self.say(b"PORT 198,51,100,7,0,25", Sent::Plain),
            11 if odd => self.say(b"EPRT |1|198.51.100.7|x|", Sent::Plain),
            12 if odd => self.say(b"", Sent::Plain),
            13 if odd => {
                self.counts_abort = true;
                self.say(b"ABOR", Sent::Abort);
            }
            _ => self.negotiate(cast, rng),
        }
    }

    fn negotiate(&mut self, cast: &Cast, rng: &mut Rng) {
        let combination = cast.combination;
        let odd = cast.manner != Manner::Good;
        let swapped = odd && rng.u8(..4) == 0;
        let passive = combination.client_passive != swapped;
        let extended = combination.client_extended;
        let mut target = Target {
            port: None,
            passive,
            upload: rng.u8(..3) == 0,
            answered: false,
            asked_for: false,
            over: false,
            comes: !odd || rng.u8(..10) > 0,
            early: rng.bool(),
            hole: None,
        };
        self.targets.retain(|target| target.asked_for || !target.answered);
        if self.targets.len() > 12 {
            self.targets.retain(|target| !target.over);
        }
        if passive {
            let line: &[u8] = match (extended, rng.u8(..4)) {
                (true, 0) if combination.client_v6 => b"EPSV 2",
                (true, 0) => b"epsv 1",
                (true, _) => b"EPSV",
                (false, 0) => b"  pasv ",
                (false, _) => b"PASV",
            };
            self.say(line, Sent::Passive);
        } else {
            self.next_port = (self.next_port + 1) % 1000;
            let at = SocketAddr::new(cast.ends.client.ip(), 20_000 + self.next_port);
            target.port = Some(at.port());
            let line = if extended { wire::write_eprt(at) } else { wire::write_port(at) };
            self.say(line.as_bytes(), Sent::Active);
        }
        self.targets.push(target);
    }

    fn misbehave(&mut self, cast: &Cast, rng: &mut Rng) {
        if cast.floods[0] {
            let lines: [&[u8]; 4] = [b"ALGS", b"AUTH TLS", b"LIST", b"NOOP"];
            for _ in 0..200 {
                self.say(lines[rng.usize(..lines.len())], Sent::Plain);
            }
            return;
        }
        let line: &[u8] = match rng.u8(..28) {
            0 => b"RETR a\0b",
            1 => b"RETR a\rPORT 1,2,3,4,5,6",
            2 => b"\x01\x02",
            3 => &[b'z'; 5000],
            4 => b"GET / HTTP/1.1",
            5 => b"\x16\x03\x01",
            6 => b"ABOR",
            7 => b"STAT",
            8 => b"QUIT",
            9 => b"RETR x",
            10 => b"REIN",
            11 => b"EPSV ALL",
            12 => b"EPSV 3",
            13 => b"PORT 127,0,0,1,4,1",
            14 => b"227 Entering Passive Mode (1,2,3,4,5,6)",
            15 => b"\xff\xfaPORT 1",
            16 => {
                self.closed = true;
                return;
            }
            17 => b"EPRT |2|::1|5000|",
            18 => b"NOOP\nNOOP\nPASV\nPASV",
            19 => &b"NOOP\n".repeat(60),
            22 => b"\"PORT\" 10,0,2,1,78,32",
            23 => b"\"EPSV\"",
            24 => b"\"PASV\"\tx",
            25 => b"\xf2NOOP",
            26 => b"EPRT\x0b|1|198.51.100.7|5000|",
            27 => b"EHLO x",
            _ => return self.negotiate(cast, rng),
        };
        self.say(line, Sent::Plain);
    }
}
