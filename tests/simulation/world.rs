//! One conversation: the session between its client, its server, its datapath and the clock.

use std::time::{Duration, Instant};

use fastrand::Rng;
use ftpgate::addr::Side;
use ftpgate::ftp::line::{LineFault, LineReader, MAX_REPLY};
use ftpgate::policy::{Decision, Denied, Timeouts};
use ftpgate::session::{Action, Input, MAX_HELD, Notations, Session, Setting};

use crate::cast::{self, Cast, Manner};
use crate::client::Client;
use crate::datapath::{Datapath, Fin, Phase, Reach};
use crate::oracle::Oracle;
use crate::script::Script;
use crate::server::Server;

/// No conversation is longer.
const MAX_TURNS: u32 = 4000;
/// What the driver reads at a time, and what may wait for a side that is to have room for more.
const READ: usize = 4096;
const HIGH_WATER: usize = 2048;
const SIDES: [Side; 2] = [Side::Client, Side::Server];

/// What became of a conversation.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Done {
    /// Inputs that the session took.
    pub(crate) steps: u64,
    /// Transfers that the client was told of as done, over a data connection that was made.
    pub(crate) completed: u32,
}

pub(crate) struct World<'a> {
    cast: Cast,
    rng: Rng,
    session: Session,
    start: Instant,
    now: u64,
    client: Client,
    server: Server,
    path: Datapath,
    oracle: Oracle,
    readers: [LineReader; 2],
    /// Bytes that were sent and not read.
    wires: [Vec<u8>; 2],
    /// Bytes that wait for a side that reads nothing.
    unsent: [usize; 2],
    ended: [bool; 2],
    /// How often nothing but time passed.
    waits: u32,
    done: Done,
    script: Option<&'a mut Script>,
}

/// The one place where sessions are made.
fn session(cast: &Cast, now: Instant) -> Session {
    let setting = Setting {
        ends: cast.ends,
        client_is_gate: false,
        announced: Some(cast.announced),
        rule: std::sync::Arc::new(cast.rule.clone()),
        candidates: None,
        timeouts: Timeouts::default(),
        notations: Notations::default(),
        called: None,
        waited: Duration::ZERO,
    };
    Session::new(setting, now)
}

const fn index(side: Side) -> usize {
    match side {
        Side::Client => 0,
        Side::Server => 1,
    }
}

impl<'a> World<'a> {
    pub(crate) fn new(cast: Cast, mut rng: Rng, start: Instant, script: Option<&'a mut Script>) -> Self {
        Self {
            session: session(&cast, start),
            client: Client::new(&mut rng),
            server: Server::new(&mut rng),
            path: Datapath::default(),
            oracle: Oracle::new(&cast),
            readers: [LineReader::commands(), LineReader::replies()],
            wires: [Vec::new(), Vec::new()],
            unsent: [0; 2],
            ended: [false; 2],
            waits: 0,
            done: Done::default(),
            start,
            now: 0,
            cast,
            rng,
            script,
        }
    }

    /// Plays to the end.
    pub(crate) fn play(mut self) -> Result<Done, String> {
        for turn in 0.. {
            if turn > MAX_TURNS {
                return Err("the conversation does not end".into());
            }
            if self.oracle.closed.is_some() {
                break;
            }
            let happened = self.turn()?;
            self.waits = if happened { 0 } else { self.waits + 1 };
            if !happened && (self.waits > 20 || !self.later()?) {
                self.idle()?;
                self.finish()?;
            }
        }
        self.bury()?;
        self.done.completed = self.oracle.completed;
        Ok(self.done)
    }

    /// Lets one thing happen; false where nothing can.
    fn turn(&mut self) -> Result<bool, String> {
        if self.cast.manner != Manner::Good && self.rng.u16(..300) == 0 {
            self.operator()?;
            return Ok(true);
        }
        let first = self.rng.u8(..6);
        for step in 0..6 {
            let happened = match (first + step) % 6 {
                0 => self.client.act(self.now, &self.cast, &mut self.path, &mut self.rng),
                1 => self.server.act(self.now, &self.cast, &mut self.path, &mut self.rng),
                2 => self.hear(Side::Server)?,
                3 => self.hear(Side::Client)?,
                4 => self.progress(),
                _ => self.data_event()?,
            };
            if happened {
                self.send();
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// What the peers have said is on its way.
    fn send(&mut self) {
        self.wires[0].append(&mut self.client.out);
        self.wires[1].append(&mut self.server.out);
    }

    fn progress(&mut self) -> bool {
        let mut reach = Reach { waits: [Vec::new(), Vec::new()], troubled: self.cast.manner != Manner::Good };
        self.client.waits_on(&mut reach.waits[0]);
        reach.waits[1].extend(self.server.listening);
        self.path.progress(self.now, &reach, &mut self.rng)
    }

    fn data_event(&mut self) -> Result<bool, String> {
        if let Some(event) = self.path.events.pop_front() {
            self.give(event)?;
            return Ok(true);
        }
        Ok(self.path.opened())
    }

    /// The gate reads from a side, where it wants to.
    fn hear(&mut self, side: Side) -> Result<bool, String> {
        // As the driver does: no line is handled while there is no room for what it leads to.
        let has_room = self.unsent.iter().all(|unsent| *unsent < HIGH_WATER);
        if !self.session.wants(side) || self.ended[index(side)] || !has_room {
            return Ok(false);
        }
        let reader = &mut self.readers[index(side)];
        if let Some(line) = reader.next_line() {
            self.take(side, line)?;
            return Ok(true);
        }
        let wire = &mut self.wires[index(side)];
        if !wire.is_empty() {
            let most = wire.len().min(if self.cast.split { 40 } else { READ }).min(reader.room());
            let count = if self.cast.split { self.rng.usize(1..=most) } else { most };
            reader.push(&wire[..count]);
            wire.drain(..count);
            // What was asked for by Telnet goes the other way, and is none of the session's.
            let _ = reader.take_refusals();
            return Ok(true);
        }
        let closed = match side {
            Side::Client => self.client.closed,
            Side::Server => self.server.closed,
        };
        if closed {
            self.ended[index(side)] = true;
            self.give(Input::PeerClosed(side))?;
        }
        Ok(closed)
    }

    fn take(&mut self, side: Side, line: Result<ftpgate::ftp::line::Line, LineFault>) -> Result<(), String> {
        self.give(match (side, line) {
            (Side::Client, Ok(line)) => Input::ClientLine(line),
            (Side::Server, Ok(line)) => Input::ServerLine(line),
            (side, Err(fault)) => Input::BadLine(side, fault),
        })
    }

    fn at(&self, now: u64) -> Instant {
        self.start + Duration::from_secs(now)
    }

    /// Gives the session an input and does what it asks for, as the driver does.
    fn give(&mut self, input: Input) -> Result<(), String> {
        let mut next = Some(input);
        while let Some(input) = next.take() {
            self.done.steps += 1;
            if let Some(script) = &mut self.script {
                script.input(self.now, &input);
            }
            self.oracle.hears(self.now, &input, &self.server)?;
            let is_timeout = matches!(input, Input::Timeout);
            self.session.handle(self.at(self.now), input);
            let mut action = self.session.poll_action();
            while let Some(current) = action {
                action = self.session.poll_action();
                if let Some(script) = &mut self.script {
                    script.action(&current);
                }
                self.oracle.action(&current, action.is_none())?;
                next = self.act(current);
            }
            self.is_bounded()?;
            if is_timeout {
                let due = self.session.poll_timeout().map(|due| due.saturating_duration_since(self.start));
                Oracle::after_timeout(Duration::from_secs(self.now), due)?;
            }
        }
        Ok(())
    }

    /// No buffer grows, whatever the peers do.
    fn is_bounded(&self) -> Result<(), String> {
        let held = self.session.held();
        if held > MAX_HELD {
            return Err(format!("the session holds {held} bytes"));
        }
        match self.unsent.into_iter().max() {
            Some(unsent) if unsent > HIGH_WATER + MAX_REPLY + MAX_HELD => {
                Err(format!("{unsent} bytes wait for a side"))
            }
            _ => Ok(()),
        }
    }

    /// Does one action; the answer, where there is one at once.
    fn act(&mut self, action: Action) -> Option<Input> {
        if let Action::Forward { to, line, .. } = &action
            && self.cast.deaf[index(*to)]
        {
            self.unsent[index(*to)] += line.len() + 2;
        }
        match action {
            Action::Forward { to: Side::Client, line, .. } => self.client.hear(&line),
            Action::Forward { to: Side::Server, line, .. } => {
                if !self.server.closed {
                    self.server.inbox.push_back((self.oracle.number(), line));
                }
            }
            Action::OpenPinhole(pinhole) => {
                let fails = self.cast.manner != Manner::Good && self.rng.u8(..12) == 0;
                return self.path.open(&pinhole, self.cast.kernel, fails);
            }
            Action::Dial(id, side) => self.path.dial(id, side),
            Action::Finish(id) => self.path.finish(id),
            Action::Deliver(id) => self.path.deliver(id),
            // Nothing here stands still for long.
            Action::Linger(_) | Action::Prolong(..) => {}
            Action::ClosePinhole(id) => self.path.close(id),
            Action::CloseWrite(Side::Server) => self.server.deaf = true,
            Action::CloseWrite(Side::Client) | Action::Remember(_) | Action::Report(_) | Action::Close(_) => {}
        }
        None
    }

    fn operator(&mut self) -> Result<(), String> {
        let input = match self.rng.u8(..10) {
            0 => Input::Drain,
            1 => Input::Stop,
            2 => Input::Decided(Decision::Deny(Denied::NoRule)),
            3 => self.lose(),
            4..=6 => Input::Decided(Decision::Allow(cast::changed(&self.cast.rule, &mut self.rng))),
            _ => Input::Decided(Decision::Allow(std::sync::Arc::new(self.cast.rule.clone()))),
        };
        self.give(input)
    }

    fn lose(&mut self) -> Input {
        let side = SIDES[self.rng.usize(..2)];
        self.ended[index(side)] = true;
        Input::PeerLost(side)
    }

    /// Nothing can happen now: the clock moves to what is due next. False where nothing is.
    fn later(&mut self) -> Result<bool, String> {
        let waits = self.path.holes.iter().any(|hole| hole.phase != Phase::Over);
        // A server that said goodbye has a few seconds to close.
        let leaves = self.session.poll_timeout().is_some_and(|due| due <= self.at(self.now + 5));
        // One that said 421 and went on may have said it to nothing.
        if self.ended[0] && self.oracle.asked.is_empty() && !self.oracle.over && !waits && !leaves {
            return Err("the client has gone, has all its answers, and the session stays".into());
        }
        // The clock has whole seconds.
        let session = self.session.poll_timeout().map(|due| {
            let since = due.saturating_duration_since(self.start);
            since.as_secs() + u64::from(since.subsec_nanos() > 0)
        });
        let others = [self.server.timer(self.now), self.client.timer(), self.path.timer()];
        let others = others.into_iter().flatten().filter(|due| *due > self.now);
        let Some(next) = others.chain(session.map(|due| due.max(self.now))).min() else { return Ok(false) };
        self.now = next;
        if let Some(script) = &mut self.script {
            script.time(next);
        }
        if session.is_some_and(|due| due <= next) {
            self.give(Input::Timeout)?;
        }
        Ok(true)
    }

    /// Nothing can happen any more. What is then held back would be held for ever.
    fn idle(&self) -> Result<(), String> {
        if self.path.is_moving() {
            return Ok(());
        }
        if let Some(side) = SIDES.into_iter().find(|side| !self.session.wants(*side)) {
            return Err(format!("lines of the {side} are not wanted, and nothing will change that"));
        }
        if self.ended[0] {
            return Err("the client has gone and the session stays".into());
        }
        let answers = self.cast.manner != Manner::Wild && !self.server.silent && !self.server.closed;
        if let Some(asked) = self.oracle.unanswered().filter(|_| answers && !self.server.is_busy()) {
            return Err(format!("{asked:?} has no answer, and the server has answered"));
        }
        Ok(())
    }

    /// Nobody has more to say.
    fn finish(&mut self) -> Result<(), String> {
        let mut moving = self.path.holes.iter_mut().filter(|hole| hole.phase == Phase::Joined).peekable();
        if moving.peek().is_some() {
            moving.for_each(|hole| hole.fins[1] = Some(Fin::Reset));
            return Ok(());
        }
        let side = SIDES[self.rng.usize(..2)];
        let input = match self.rng.u8(..3) {
            0 => {
                self.ended[index(side)] = true;
                Input::PeerLost(side)
            }
            1 if !self.ended[1] => {
                self.ended[1] = true;
                Input::PeerClosed(Side::Server)
            }
            _ => Input::Stop,
        };
        self.give(input)
    }

    /// The session is over: what moved comes to its end, and everything was recorded.
    fn bury(&mut self) -> Result<(), String> {
        for hole in self.path.holes.iter_mut().filter(|hole| hole.phase == Phase::Joined) {
            hole.fins = [Some(Fin::Close); 2];
        }
        while self.progress() {}
        while let Some(event) = self.path.events.pop_front() {
            self.give(event)?;
        }
        if self.session.poll_timeout().is_some() {
            return Err("a session that is over waits for something".into());
        }
        if SIDES.into_iter().any(|side| self.session.wants(side)) {
            return Err("a session that is over wants lines".into());
        }
        let (transfers, records) = (self.oracle.transfers, self.oracle.records);
        if transfers != records {
            return Err(format!("{transfers} transfers, {records} records"));
        }
        Ok(())
    }
}
