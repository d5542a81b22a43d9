//! A datapath without sockets: pinholes that open or fail, peers that come or cannot be reached, connections that end.

use std::collections::VecDeque;
use std::io::ErrorKind;

use fastrand::Rng;
use ftpgate::addr::Side;
use ftpgate::session::{Carrier, DataEnd, HowEnded, Input, Leg, Pinhole, PinholeId, Refusal, WhyRelay};

/// How a peer ends its data connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fin {
    Close,
    Reset,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Opening,
    Waiting,
    Joined,
    Over,
}

/// One pinhole, as the datapath has it. Index 0 is the client's leg, 1 the server's.
#[derive(Debug)]
pub(crate) struct Hole {
    pub(crate) id: PinholeId,
    pub(crate) listens: [bool; 2],
    pub(crate) dials: [u16; 2],
    pub(crate) ports: [Option<u16>; 2],
    pub(crate) phase: Phase,
    pub(crate) stands: [bool; 2],
    pub(crate) fins: [Option<Fin>; 2],
    told: [bool; 2],
    finish: bool,
    deliver: bool,
    /// Both came in order to their end.
    pub(crate) complete: bool,
    dial_until: [Option<u64>; 2],
}

/// What the datapath knows of who answers a dial.
pub(crate) struct Reach {
    /// The ports on which the client and the server wait.
    pub(crate) waits: [Vec<u16>; 2],
    /// Dials may fail or be slow.
    pub(crate) troubled: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Datapath {
    pub(crate) holes: Vec<Hole>,
    pub(crate) events: VecDeque<Input>,
    opening: VecDeque<(PinholeId, Input)>,
    turn: u16,
}

pub(crate) const fn index(side: Side) -> usize {
    match side {
        Side::Client => 0,
        Side::Server => 1,
    }
}

const SIDES: [Side; 2] = [Side::Client, Side::Server];

impl Datapath {
    pub(crate) fn hole(&mut self, id: PinholeId) -> Option<&mut Hole> {
        self.holes.iter_mut().find(|hole| hole.id == id)
    }

    /// The hole that waits at this port of the gate's.
    pub(crate) fn at_port(&mut self, side: Side, port: u16) -> Option<&mut Hole> {
        let side = index(side);
        self.holes
            .iter_mut()
            .find(|hole| hole.phase == Phase::Waiting && hole.ports[side] == Some(port) && !hole.stands[side])
    }

    /// Takes [`Action::OpenPinhole`]; the answer, unless it comes later.
    pub(crate) fn open(&mut self, pinhole: &Pinhole, kernel: bool, fails: bool) -> Option<Input> {
        let mut listens = [false; 2];
        let mut dials = [0; 2];
        let mut ports = [None; 2];
        for side in SIDES {
            match pinhole.leg(side) {
                Leg::Listen { ports: ranges, .. } => {
                    listens[index(side)] = true;
                    let range = ranges.as_slice()[0];
                    let count = range.last() - range.first() + 1;
                    self.turn += 1;
                    let free = (0..count).map(|step| range.first() + (self.turn + step) % count).find(|port| {
                        !self.holes.iter().any(|hole| {
                            matches!(hole.phase, Phase::Waiting | Phase::Opening)
                                && hole.ports[index(side)] == Some(*port)
                        })
                    });
                    ports[index(side)] = free;
                }
                Leg::Dial { to, .. } => dials[index(side)] = to.port(),
            }
        }
        let id = pinhole.id;
        let full = (0..2).any(|side| listens[side] && ports[side].is_none());
        if fails || full {
            // The gate would have tried the server's port first.
            let closed = !full && pinhole.has_other;
            let refusal = if closed {
                Refusal::ServerPortClosed(ErrorKind::ConnectionRefused)
            } else {
                Refusal::RangeFull { has_data_peers: false }
            };
            let answer = Input::PinholeFailed { id, refusal };
            return self.answer(id, kernel, answer);
        }
        self.holes.retain(|hole| hole.phase != Phase::Over);
        self.holes.push(Hole {
            id,
            listens,
            dials,
            ports,
            phase: Phase::Opening,
            stands: [false; 2],
            fins: [None; 2],
            told: [false; 2],
            finish: false,
            deliver: false,
            complete: false,
            dial_until: [None; 2],
        });
        let carrier = if kernel { Carrier::Kernel } else { Carrier::Relay(WhyRelay::NoKernel) };
        let answer = Input::PinholeOpened { id, client_port: ports[0], server_port: ports[1], carrier };
        self.answer(id, kernel, answer)
    }

    /// The relay answers at once, the kernel later.
    fn answer(&mut self, id: PinholeId, kernel: bool, answer: Input) -> Option<Input> {
        if kernel {
            self.opening.push_back((id, answer));
            return None;
        }
        self.stands(id);
        Some(answer)
    }

    fn stands(&mut self, id: PinholeId) {
        if let Some(hole) = self.hole(id)
            && hole.phase == Phase::Opening
        {
            hole.phase = Phase::Waiting;
        }
    }

    /// An answer that was late.
    pub(crate) fn opened(&mut self) -> bool {
        let Some((id, answer)) = self.opening.pop_front() else { return false };
        self.stands(id);
        self.events.push_back(answer);
        true
    }

    pub(crate) fn dial(&mut self, id: PinholeId, side: Side) {
        if let Some(hole) = self.hole(id) {
            hole.told[index(side)] = true;
        }
    }

    pub(crate) fn finish(&mut self, id: PinholeId) {
        if let Some(hole) = self.hole(id) {
            hole.finish = true;
        }
    }

    pub(crate) fn deliver(&mut self, id: PinholeId) {
        if let Some(hole) = self.hole(id) {
            hole.deliver = true;
        }
    }

    pub(crate) fn close(&mut self, id: PinholeId) {
        let Some(hole) = self.holes.iter_mut().find(|hole| hole.id == id) else { return };
        if hole.phase == Phase::Joined {
            self.events.push_back(ended(id, HowEnded::Aborted));
        }
        hole.phase = Phase::Over;
    }

    /// The next moment at which a slow dial is over.
    pub(crate) fn timer(&self) -> Option<u64> {
        let going = self.holes.iter().filter(|hole| hole.phase == Phase::Waiting);
        going.flat_map(|hole| hole.dial_until).flatten().min()
    }

    /// Lets one thing happen, where one can.
    pub(crate) fn progress(&mut self, now: u64, reach: &Reach, rng: &mut Rng) -> bool {
        let Self { holes, events, .. } = self;
        holes.iter_mut().any(|hole| match hole.phase {
            Phase::Opening | Phase::Over => false,
            Phase::Waiting => wait(hole, events, now, reach, rng),
            Phase::Joined if std::mem::take(&mut hole.deliver) => {
                events.push_back(Input::DataDelivered(hole.id));
                true
            }
            Phase::Joined => moves(hole, events),
        })
    }

    pub(crate) fn is_moving(&self) -> bool {
        self.holes.iter().any(|hole| hole.phase == Phase::Joined)
    }
}

fn ended(id: PinholeId, how: HowEnded) -> Input {
    Input::DataEnded(id, DataEnd { to_server: 3, to_client: 5, is_estimate: false, how })
}

fn moves(hole: &mut Hole, events: &mut VecDeque<Input>) -> bool {
    let how = match hole.fins {
        [_, Some(Fin::Reset)] => HowEnded::CutBy(Side::Server),
        [Some(Fin::Reset), _] => HowEnded::CutBy(Side::Client),
        [Some(Fin::Close), Some(Fin::Close)] => HowEnded::Complete,
        _ => return false,
    };
    hole.phase = Phase::Over;
    hole.complete = how == HowEnded::Complete;
    events.push_back(ended(hole.id, how));
    true
}

fn wait(hole: &mut Hole, events: &mut VecDeque<Input>, now: u64, reach: &Reach, rng: &mut Rng) -> bool {
    if hole.stands == [true, true] {
        hole.phase = Phase::Joined;
        events.push_back(Input::DataStarted(hole.id));
        return true;
    }
    if hole.listens == [true, true] {
        if !(hole.finish && hole.stands[0] && !hole.stands[1]) {
            return false;
        }
        hole.phase = Phase::Over;
        hole.complete = true;
        events.push_back(ended(hole.id, HowEnded::Complete));
        return true;
    }
    SIDES.into_iter().any(|side| {
        let (this, other) = (index(side), 1 - index(side));
        let may_dial = !hole.listens[this] && !hole.stands[this];
        // One that is dialled waits for the other to come, or where both are, until it is told.
        let due = if hole.listens[other] { hole.stands[other] } else { hole.told[this] };
        if !may_dial || !due || hole.phase != Phase::Waiting {
            return false;
        }
        if reach.troubled && hole.dial_until[this].is_none() {
            let takes = [0, 0, 0, 1, 3, 10];
            hole.dial_until[this] = Some(now + takes[rng.usize(..takes.len())]);
        }
        if hole.dial_until[this].is_some_and(|until| until > now) {
            return false;
        }
        let refused = reach.troubled && rng.u8(..8) == 0;
        if reach.waits[this].contains(&hole.dials[this]) && !refused {
            hole.stands[this] = true;
        } else {
            hole.phase = Phase::Over;
            events.push_back(ended(hole.id, HowEnded::NotReached { side, error: ErrorKind::ConnectionRefused }));
        }
        true
    })
}
