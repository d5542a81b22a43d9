//! Servers: good ones in every dialect, and others.

mod transfer;

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};

use fastrand::Rng;

use crate::cast::{Cast, Manner};
use crate::datapath::{Datapath, Fin};
use crate::wire;
use transfer::Job;

/// When a server answers the commands that come in the middle of a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heeds {
    /// When the transfer is over, but for STAT and ABOR.
    Late,
    /// At once.
    AtOnce,
    /// Some at once, others later.
    Some,
}

#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) inbox: VecDeque<(u32, Vec<u8>)>,
    /// What is on its way to the gate.
    pub(crate) out: Vec<u8>,
    pub(crate) closed: bool,
    /// The peer will send no more.
    pub(crate) deaf: bool,
    /// Commands that were left without an answer.
    pub(crate) silent: bool,
    /// An ABOR shared its reply with the transfer's.
    pub(crate) shares: bool,
    /// Commands that it has forgotten, for it aborted a transfer and said no more of it.
    pub(crate) forgotten: Vec<[u32; 2]>,
    /// What it does with commands in the middle of a transfer.
    pub(crate) heeds: Heeds,
    /// The code by which it ends transfers.
    done: u16,
    /// It does not mind that the gate will send no more.
    stubborn: bool,
    greeted: bool,
    pub(crate) listening: Option<u16>,
    offered: Option<u16>,
    job: Option<Job>,
    late_until: u64,
    next_port: u16,
    leaving: bool,
}

impl Server {
    pub(crate) fn new(rng: &mut Rng) -> Self {
        let heeds = [Heeds::Late, Heeds::AtOnce, Heeds::Some][rng.usize(..3)];
        Self {
            inbox: VecDeque::new(),
            out: Vec::new(),
            closed: false,
            deaf: false,
            silent: false,
            shares: false,
            forgotten: Vec::new(),
            heeds,
            // Those that end transfers by 250 are mainframes, which do one thing after the other.
            done: if heeds == Heeds::Late { [226, 250][rng.usize(..2)] } else { 226 },
            stubborn: rng.u8(..4) == 0,
            greeted: false,
            listening: None,
            offered: None,
            job: None,
            late_until: 0,
            next_port: 0,
            leaving: false,
        }
    }

    pub(crate) fn is_busy(&self) -> bool {
        !self.greeted || self.job.is_some() || !self.inbox.is_empty()
    }

    /// When it goes on by itself.
    pub(crate) fn timer(&self, now: u64) -> Option<u64> {
        if self.closed {
            return None;
        }
        let late = (self.late_until > now).then_some(self.late_until);
        late.or_else(|| self.job.as_ref().map(|job| job.until).filter(|until| *until > now))
    }

    /// Does one thing, where there is one.
    pub(crate) fn act(&mut self, now: u64, cast: &Cast, path: &mut Datapath, rng: &mut Rng) -> bool {
        if self.closed || self.late_until > now {
            return false;
        }
        if cast.manner == Manner::Wild && self.is_busy() && rng.u8(..12) == 0 {
            self.misbehave(cast, rng);
            return true;
        }
        if cast.manner != Manner::Wild {
            self.hang_up(path);
        }
        if cast.manner == Manner::Odd && self.is_busy() && rng.u16(..400) == 0 {
            self.say(b"421 gone");
            self.leave();
            return true;
        }
        if !self.greeted {
            self.greet(now, rng);
            return true;
        }
        // ABOR is answered at once, or with its transfer; NOOP soon.
        let next = self.inbox.front().map(|(_, line)| wire::verb(line));
        if rng.u8(..40) == 0 && next.is_some_and(|verb| !matches!(verb.as_str(), "ABOR" | "NOOP")) {
            self.late_until = now + [1, 3, 20][rng.usize(..3)];
            return true;
        }
        if self.job.is_some() {
            return self.overtaking(now, cast, path, rng) || self.work(now, cast, path, rng);
        }
        match self.inbox.pop_front() {
            Some((ordinal, line)) => self.answer(now, ordinal, &line, cast, rng),
            None if (self.deaf && !self.stubborn) || self.leaving => self.leave(),
            None => return false,
        }
        true
    }

    /// Closes data connections that nothing was asked for, or that a new negotiation has replaced.
    fn hang_up(&self, path: &mut Datapath) {
        let working = self.job.as_ref().and_then(|job| job.hole);
        let unused = path.holes.iter_mut().filter(|hole| {
            let current = Some(hole.dials[1]) == self.listening || Some(hole.id) == working;
            hole.stands[1] && !hole.listens[1] && hole.fins[1].is_none() && !current
        });
        unused.for_each(|hole| hole.fins[1] = Some(Fin::Close));
    }

    fn leave(&mut self) {
        self.closed = true;
        self.job = None;
        self.inbox.clear();
    }

    fn say(&mut self, line: &[u8]) {
        self.out.extend_from_slice(line);
        self.out.extend_from_slice(b"\r\n");
    }

    /// One reply to the command with this number, sometimes of several lines that look like others.
    fn reply(&mut self, code: u16, ordinal: u32, text: &str, rng: &mut Rng) {
        if rng.u8(..8) == 0 {
            self.say(format!("{code}-c{ordinal} and").as_bytes());
            let inner: [&[u8]; 5] =
                [b"227 Entering Passive Mode (10,0,2,2,195,80)", b" 226 x", b"", b"2", b"229 (|||9|)"];
            self.say(inner[rng.usize(..inner.len())]);
            if rng.bool() {
                self.say(format!("{code}-more").as_bytes());
            }
        }
        self.say(format!("{code} c{ordinal} {text}").as_bytes());
    }

    fn greet(&mut self, now: u64, rng: &mut Rng) {
        self.greeted = true;
        match rng.u8(..6) {
            0 => {
                self.say(b"120 c0 soon");
                self.late_until = now + 5;
                self.greeted = rng.bool();
                if self.greeted {
                    self.reply(220, 0, "ready", rng);
                }
            }
            1 => self.say(b"220"),
            _ => self.reply(220, 0, "ready", rng),
        }
    }

    fn answer(&mut self, now: u64, ordinal: u32, line: &[u8], cast: &Cast, rng: &mut Rng) {
        let odd = cast.manner != Manner::Good;
        match wire::verb(line).as_str() {
            "PASV" => self.passive(false, ordinal, cast, rng),
            "EPSV" if wire::argument(line).eq_ignore_ascii_case("ALL") => {
                let code = if cast.combination.knows.has(true) { 200 } else { 500 };
                self.reply(code, ordinal, "EPSV ALL", rng);
            }
            "EPSV" => self.passive(true, ordinal, cast, rng),
            "PORT" | "EPRT" => self.active(line, ordinal, cast, rng),
            "RETR" | "STOR" | "LIST" | "NLST" | "APPE" | "MLSD" | "STOU" => self.begin(now, line, ordinal, rng),
            // A server that does not know it says so at once, not to a command that waited behind others.
            "ABOR" if !odd && self.inbox.is_empty() && rng.u8(..3) == 0 => self.reply(500, ordinal, "what?", rng),
            "ABOR" => self.reply([225, 226][rng.usize(..2)], ordinal, "nothing to abort", rng),
            "STAT" => self.reply(211, ordinal, "status", rng),
            "FEAT" => self.features(ordinal, rng),
            "QUIT" => {
                if !odd || rng.u8(..4) > 0 {
                    self.reply(221, ordinal, "bye", rng);
                    self.leaving = true;
                } else {
                    self.leave();
                }
            }
            "CWD" => self.reply([250, 250, 550][rng.usize(..3)], ordinal, "directory", rng),
            "TYPE" => self.reply([200, 504][rng.usize(..2)], ordinal, "type", rng),
            "NOOP" => self.reply([200, 200, 500][rng.usize(..3)], ordinal, "nothing", rng),
            "PWD" => self.reply([257, 550][rng.usize(..2)], ordinal, "\"/\"", rng),
            "SIZE" | "MDTM" => self.reply([213, 550][rng.usize(..2)], ordinal, "5", rng),
            "DELE" => self.reply([250, 450, 550][rng.usize(..3)], ordinal, "gone", rng),
            "REIN" => self.reply([220, 502][rng.usize(..2)], ordinal, "anew", rng),
            "HOST" => self.reply([220, 504, 501][rng.usize(..3)], ordinal, "host", rng),
            _ => self.reply([200, 250, 257, 500, 550][rng.usize(..5)], ordinal, "fine", rng),
        }
    }

    fn features(&mut self, ordinal: u32, rng: &mut Rng) {
        if rng.u8(..4) == 0 {
            return self.reply(500, ordinal, "what?", rng);
        }
        self.say(format!("211-c{ordinal} Features").as_bytes());
        self.say(if rng.bool() { b" AUTH TLS" } else { b"EPSV" });
        self.say(b" UTF8");
        self.say(format!("211 c{ordinal} End").as_bytes());
    }

    fn passive(&mut self, extended: bool, ordinal: u32, cast: &Cast, rng: &mut Rng) {
        self.offered = None;
        self.listening = None;
        if !cast.combination.knows.has(extended) {
            let code = [500, 501, 502, 504, 522][rng.usize(..5)];
            return self.reply(code, ordinal, "what?", rng);
        }
        let odd = cast.manner != Manner::Good;
        if odd && rng.u8(..12) == 0 {
            return self.reply([530, 425, 451][rng.usize(..3)], ordinal, "no", rng);
        }
        if odd && rng.u8(..24) == 0 {
            return self.reply([200, 228][rng.usize(..2)], ordinal, "and no port", rng);
        }
        self.next_port = (self.next_port + 1) % 1000;
        let low = odd && rng.u8(..12) == 0;
        let port = if low { [25, 1024, 29_999][rng.usize(..3)] } else { 50_000 + self.next_port };
        self.listening = Some(port);
        let IpAddr::V4(v4) = cast.ends.server.ip() else {
            return self.say(format!("229 c{ordinal} Extended (|||{port}|)").as_bytes());
        };
        let foreign = rng.u8(..6) == 0;
        let [a, b, c, d] = if foreign { [172, 16, 1, 69] } else { v4.octets() };
        let crossed = rng.u8(..8) == 0;
        let text = if extended != crossed {
            format!("229 c{ordinal} Entering Extended Passive Mode (|||{port}|)")
        } else {
            let (high, low) = (port / 256, port % 256);
            match rng.u8(..4) {
                0 => format!("227 =c{ordinal} {a},{b},{c},{d},{high},{low}"),
                1 => format!("227-c{ordinal} listen socket\r\n227 c{ordinal} ({a},{b},{c},{d},{high},{low})"),
                _ => format!("227 c{ordinal} Entering Passive Mode ({a},{b},{c},{d},{high},{low})."),
            }
        };
        self.say(text.as_bytes());
        if cast.manner == Manner::Wild && rng.u8(..16) == 0 {
            // And once more: if the client asks again by then, nobody can tell which answer is which.
            self.say(text.as_bytes());
        }
    }

    fn active(&mut self, line: &[u8], ordinal: u32, cast: &Cast, rng: &mut Rng) {
        let extended = wire::verb(line) == "EPRT";
        self.offered = None;
        self.listening = None;
        if !cast.combination.knows.has(extended) {
            let code = [500, 501, 502, 504, 522][rng.usize(..5)];
            return self.reply(code, ordinal, "what?", rng);
        }
        if cast.manner != Manner::Good && rng.u8(..12) == 0 {
            return self.reply([530, 425, 504][rng.usize(..3)], ordinal, "no", rng);
        }
        let argument = wire::argument(line);
        let at: Option<SocketAddr> = if extended { wire::eprt(&argument) } else { wire::port(&argument) };
        self.offered = at.map(|at| at.port());
        self.reply(200, ordinal, "ok", rng);
    }

    fn misbehave(&mut self, cast: &Cast, rng: &mut Rng) {
        if cast.floods[1] {
            let lines: [&[u8]; 4] = [b"", b"200 Unasked", b"250-More", b" more"];
            for _ in 0..200 {
                self.say(lines[rng.usize(..lines.len())]);
            }
        }
        let ordinal = self.inbox.front().map_or(0, |(ordinal, _)| *ordinal);
        match rng.u8(..14) {
            0 => self.say(b"227 Entering Passive Mode (10,0,2,2,195,90)"),
            1 => self.say(b"229 Entering Extended Passive Mode (|||50010|)"),
            2 => self.say(b"421 gone"),
            3 => self.leave(),
            4 => self.say(b"SSH-2.0-x"),
            5 => self.say(&[b'z'; 9000]),
            6 => self.say(&[0xff, 0xf4, 0, b'\r', b'2', b'2', b'7', b' ']),
            7 => {
                self.silent = true;
                self.inbox.pop_front();
                self.job = None;
            }
            8 => self.say(b"226-half"),
            9 => {
                for _ in 0..rng.u8(..80) {
                    self.say(b"227-(1,2,3,4,5,6)");
                }
            }
            10 => self.say(format!("150 c{ordinal} once").as_bytes()),
            11 => self.say(b"227 (10,0,2,2,0,25)"),
            12 => self.say(b"227 (10,0,2,2,195,80) (10,0,2,2,195,81)"),
            _ => {
                let code = rng.u16(100..700);
                self.say(format!("{code} c{ordinal} odd").as_bytes());
            }
        }
    }
}
