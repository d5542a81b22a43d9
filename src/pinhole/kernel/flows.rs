//! Every pinhole of the kernel's and the connection through it, told from conntrack's sightings.

mod unwatched;

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet, VecDeque};
use std::io::ErrorKind;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::UnboundedSender;

use super::conntrack::{Flow, Sighting, TcpState};
use super::count::{Carried, Counters};
use super::element::{Entrance, Passage};
use super::ended::Ended;
use super::half_open::{HalfOpen, Outcome, Overdue};
use super::life::Stage;
use super::linger::Lingering;
use super::mark::Mark;
use crate::addr::Side;
use crate::pinhole::DataEvent;
use crate::pinhole::ports::Reservation;
use crate::session::{DataEnd, HowEnded, PinholeId, WhyHalfOpen};

/// How long one that has ended in order is remembered: its last packet may be lost and the one before come again.
const CLOSED_FOR: Duration = Duration::from_secs(2);

/// How long a connection may be told of after its pinhole was taken away.
const WITHDRAWN_FOR: Duration = Duration::from_secs(1);

/// Names one pinhole among those of all sessions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Serial(u64);

/// One pinhole, until its connection is over.
#[derive(Debug)]
pub(super) struct Life {
    pub(super) id: PinholeId,
    pub(super) events: UnboundedSender<DataEvent>,
    pub(super) passage: Passage,
    /// The side that is to come.
    pub(super) comer: Side,
    pub(super) stage: Stage,
    /// While it waits: the connections that have begun.
    pub(super) half_open: HalfOpen,
    /// Whether both sides were seen to close with neither having heard the other do so.
    pub(super) closed_at_once: bool,
    /// Holds the port until a connection stands.
    pub(super) reservation: Option<Reservation>,
}

/// What is to be done in the kernel.
#[derive(Debug)]
pub(super) enum Task {
    /// Nobody can use the pinhole any more. Its port is held until this is on its way, so that nobody opens there before.
    Close(Passage, Option<Reservation>),
    /// The connection is to be broken, for both sides to see.
    Cut(Flow),
    /// It is to be remembered although nothing is said.
    Keep(Flow),
    /// There is to be room for one between these two.
    MakeRoom(Flow),
    /// One that is half open is to be forgotten, unless it is no more.
    ForgetHalfOpen(Flow),
    /// One that is over is to be forgotten, unless another one has its place by now.
    ForgetEnded(Flow),
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Flows {
    last_serial: u64,
    lives: HashMap<Serial, Life>,
    entrances: HashMap<Entrance, Serial>,
    seen: HashMap<Flow, Serial>,
    /// How many move that came to the same place from the same peer.
    moving: HashMap<Entrance, usize>,
    ended: Ended,
    /// Pinholes that nobody came to, until nobody can have come.
    withdrawn: VecDeque<(Instant, Entrance)>,
    lingering: Lingering,
}

impl Flows {
    /// Adds a pinhole; before it is opened, what has ended at its place is to be forgotten.
    pub(super) fn add(&mut self, life: Life) -> (Serial, Vec<Task>) {
        self.last_serial += 1;
        let serial = Serial(self.last_serial);
        let earlier = self.ended.take_at(&life.passage.entrance);
        self.entrances.insert(life.passage.entrance, serial);
        self.lives.insert(serial, life);
        (serial, earlier.into_iter().map(Task::ForgetEnded).collect())
    }

    /// Whether conntrack knows a connection that came to this place from this peer: from the same port it cannot come
    /// again.
    pub(super) fn is_busy(&self, entrance: &Entrance) -> bool {
        self.moving.contains_key(entrance) || self.ended.has(entrance)
    }

    /// Takes a sighting; `look` tells all that is known of a connection which is at its end.
    pub(super) fn see(
        &mut self,
        now: Instant,
        patience: Duration,
        sighting: &Sighting,
        look: impl FnOnce(&Flow) -> Option<Counters>,
    ) -> Vec<Task> {
        let flow = sighting.flow;
        let serial = match self.seen.get(&flow) {
            Some(serial) => *serial,
            None if sighting.mark.is_half_open() => {
                self.begin(now, patience, sighting);
                return Vec::new();
            }
            None if sighting.mark.has(Mark::CUT) => return self.see_cut(sighting).into_iter().collect(),
            None => match self.used_unseen(sighting) {
                (Some(serial), _) => serial,
                (None, task) => return task.into_iter().collect(),
            },
        };
        let Some(life) = self.lives.get(&serial) else { return Vec::new() };
        let mut tasks = Vec::new();
        if life.stage == Stage::Waiting {
            if sighting.mark.is_half_open() {
                return self.see_half_open(now, serial, sighting).into_iter().collect();
            }
            tasks = self.used(serial, flow);
        }
        let Some(life) = self.lives.get_mut(&serial) else { return tasks };
        let mut sighting = *sighting;
        life.closed_at_once |= sighting.closed_at_once;
        let may_be_last = matches!(sighting.state, Some(TcpState::Reset | TcpState::TimeWait))
            || sighting.notes.is_some() && life.stage.is_settled();
        if may_be_last {
            sighting.counters = look(&flow).or(sighting.counters);
        }
        if let Some(how) = life.stage.see(&sighting, life.comer)
            && let Some(life) = self.remove(serial)
        {
            life.tell(how, sighting.counters);
            tasks.extend(self.forget(now, &sighting));
        }
        tasks
    }

    /// A connection has ended: after a reset at once. What the peers say of it yet belongs to nothing, and they hear so.
    fn forget(&mut self, now: Instant, sighting: &Sighting) -> Option<Task> {
        if sighting.is_gone {
            return None;
        }
        if sighting.state == Some(TcpState::Reset) {
            return Some(Task::ForgetEnded(sighting.flow));
        }
        self.ended.add(sighting.flow, now + CLOSED_FOR);
        None
    }

    /// A connection that was cut. It is forgotten when both sides know, or when the one that came does and its place is
    /// wanted: the same peer may come from the same port.
    fn see_cut(&mut self, sighting: &Sighting) -> Option<Task> {
        let (flow, mark) = (sighting.flow, sighting.mark);
        let is_wanted = || mark.has(Mark::TOLD_REPLY) || self.waiting_at(&flow.entrance()).is_some();
        let is_to_be_forgotten = mark.has(Mark::TOLD_ORIGINAL) && is_wanted();
        let was_known = (sighting.is_gone || is_to_be_forgotten) && self.ended.remove(&flow);
        (was_known && !sighting.is_gone).then_some(Task::ForgetEnded(flow))
    }

    /// A connection to a pinhole that waits has begun.
    fn begin(&mut self, now: Instant, patience: Duration, sighting: &Sighting) {
        let (flow, state) = (sighting.flow, sighting.state);
        if sighting.is_gone || !matches!(state, Some(TcpState::SynSent | TcpState::SynReceived)) {
            return;
        }
        let Some(&serial) = self.entrances.get(&flow.entrance()) else { return };
        // One of an earlier pinhole at the same place may still be told of.
        let is_its = |life: &&mut Life| life.stage == Stage::Waiting && sighting.to == Some(life.passage.to);
        if let Some(life) = self.lives.get_mut(&serial).filter(is_its)
            && life.half_open.begin(flow, now + patience)
        {
            life.half_open.see(now, sighting);
            self.ended.remove(&flow);
            self.seen.insert(flow, serial);
        }
    }

    /// A connection that was not watched has used a pinhole, or one of an earlier pinhole at the same place is still
    /// told of. One that came through in the moment in which another pinhole was put in its place, or none, is cut.
    fn used_unseen(&self, sighting: &Sighting) -> (Option<Serial>, Option<Task>) {
        let (flow, entrance) = (sighting.flow, sighting.flow.entrance());
        let is_over = !matches!(sighting.state, Some(TcpState::Open | TcpState::Closing));
        if is_over || sighting.is_gone || sighting.mark.has(Mark::CUT) {
            return (None, None);
        }
        let Some(&serial) = self.entrances.get(&entrance) else {
            // Without a pinhole here it is another gate's.
            let was_ours = self.withdrawn.iter().any(|(_, withdrawn)| *withdrawn == entrance);
            return (None, was_ours.then_some(Task::Cut(flow)));
        };
        match self.lives.get(&serial) {
            Some(life) if life.stage != Stage::Waiting || sighting.to != Some(life.passage.to) => {
                (None, Some(Task::Cut(flow)))
            }
            Some(_) => (Some(serial), None),
            None => (None, None),
        }
    }

    /// A connection has used its pinhole.
    fn used(&mut self, serial: Serial, flow: Flow) -> Vec<Task> {
        let Some(life) = self.lives.get_mut(&serial) else { return Vec::new() };
        life.stage = Stage::used_by(flow);
        let mut tasks = Vec::new();
        for other in life.half_open.take().into_iter().filter(|other| *other != flow) {
            self.seen.remove(&other);
            life.tell_half_open(&other, WhyHalfOpen::Silent);
            tasks.push(Task::ForgetHalfOpen(other));
        }
        self.ended.remove(&flow);
        self.seen.insert(flow, serial);
        *self.moving.entry(flow.entrance()).or_default() += 1;
        // Where nobody listens any more, the guard goes too.
        let _ = life.events.send(DataEvent::Started { id: life.id, peer: flow.from });
        tasks.push(Task::Close(life.passage, life.reservation.take()));
        tasks
    }

    /// A sighting of a connection that is half open, to a pinhole that waits.
    fn see_half_open(&mut self, now: Instant, serial: Serial, sighting: &Sighting) -> Option<Task> {
        let life = self.lives.get_mut(&serial)?;
        match life.half_open.see(now, sighting) {
            Outcome::Open => None,
            Outcome::GivenUp(why) => {
                if let Some(why) = why {
                    life.tell_half_open(&sighting.flow, why);
                }
                self.seen.remove(&sighting.flow);
                // It may have begun once more since then.
                (life.half_open.is_exclusive() && !sighting.is_gone).then_some(Task::ForgetEnded(sighting.flow))
            }
            Outcome::Refused => {
                self.seen.remove(&sighting.flow);
                self.not_reached(serial, ErrorKind::ConnectionRefused)
            }
        }
    }

    /// The peer that a pinhole leads to cannot be reached: nobody waits for it any more.
    fn not_reached(&mut self, serial: Serial, error: ErrorKind) -> Option<Task> {
        let mut life = self.remove(serial)?;
        let task = Task::Close(life.passage, life.reservation.take());
        let side = life.comer.other();
        life.tell(HowEnded::NotReached { side, error }, None);
        Some(task)
    }

    /// The pinhole is closed: nobody waits for it, and what moves is to end. `look` as in [`Flows::see`].
    pub(super) fn close(
        &mut self,
        now: Instant,
        serial: Serial,
        look: impl FnOnce(&Flow) -> Option<Counters>,
    ) -> Vec<Task> {
        let Some(life) = self.lives.get_mut(&serial) else { return Vec::new() };
        let half_open = life.half_open.take();
        let moving = life.stage.flow();
        let mut tasks = Vec::new();
        for flow in half_open.into_iter().chain(moving) {
            self.seen.remove(&flow);
            tasks.push(self.cut(now, flow));
        }
        let Some(mut life) = self.remove(serial) else { return tasks };
        if let Some(flow) = moving {
            life.tell(HowEnded::Aborted, look(&flow));
        } else {
            self.withdrawn.push_back((now + WITHDRAWN_FOR, life.passage.entrance));
            tasks.push(Task::Close(life.passage, life.reservation.take()));
        }
        tasks
    }

    /// This pinhole, if nobody has used it.
    pub(super) fn waiting(&self, serial: Serial) -> Option<Passage> {
        self.lives.get(&serial).filter(|life| life.stage == Stage::Waiting).map(|life| life.passage)
    }

    /// The pinhole at this entrance, if nobody has used it.
    pub(super) fn waiting_at(&self, entrance: &Entrance) -> Option<Passage> {
        let life = self.lives.get(self.entrances.get(entrance)?)?;
        (life.stage == Stage::Waiting).then_some(life.passage)
    }

    /// What time brings: connections whose handshake does not end, and those that were cut long ago. And those of which one
    /// side has ended its direction: conntrack would forget them within a minute or two, however long the other needs for
    /// what it still has to say.
    pub(super) fn overdue(&mut self, now: Instant) -> Vec<Task> {
        let waiting: HashSet<Serial> = self
            .seen
            .values()
            .filter(|serial| self.lives.get(serial).is_some_and(|life| life.stage == Stage::Waiting))
            .copied()
            .collect();
        let mut tasks = Vec::new();
        for serial in waiting {
            while let Some(life) = self.lives.get_mut(&serial)
                && let Some(overdue) = life.half_open.overdue(now)
            {
                let (Overdue::NoAnswer(flow) | Overdue::Unacknowledged(flow) | Overdue::NotRepeated(flow)) = overdue;
                self.seen.remove(&flow);
                match overdue {
                    Overdue::NoAnswer(_) => {
                        tasks.extend(self.not_reached(serial, ErrorKind::TimedOut));
                        tasks.push(Task::ForgetHalfOpen(flow));
                    }
                    Overdue::Unacknowledged(_) | Overdue::NotRepeated(_) => {
                        life.tell_half_open(&flow, WhyHalfOpen::Silent);
                        // If it is acknowledged yet, it is found by where it came to.
                        if matches!(overdue, Overdue::NotRepeated(_)) || life.half_open.is_exclusive() {
                            tasks.push(Task::ForgetHalfOpen(flow));
                        }
                    }
                }
            }
        }
        let old = self.withdrawn.partition_point(|(until, _)| *until <= now);
        self.withdrawn.drain(..old);
        tasks.extend(self.ended.overdue(now).into_iter().map(Task::ForgetEnded));
        tasks.extend(self.lives.values().filter_map(|life| life.stage.half_closed()).map(Task::Keep));
        tasks.extend(self.lives.values().filter_map(Life::wants_room).map(Task::MakeRoom));
        tasks
    }

    /// Every connection that is there, whether it moves or has ended.
    pub(super) fn all(&self) -> Vec<Flow> {
        self.seen.keys().copied().chain(self.ended.all()).collect()
    }

    /// Sightings were lost: these are all the connections that there are. What is not among them is over.
    pub(super) fn missing(&self, present: &[Sighting]) -> Vec<Flow> {
        let present: HashSet<Flow> = present.iter().map(|sighting| sighting.flow).collect();
        self.seen.keys().filter(|flow| !present.contains(flow)).copied().collect()
    }

    fn remove(&mut self, serial: Serial) -> Option<Life> {
        let mut life = self.lives.remove(&serial)?;
        self.lingering.remove(serial);
        if let Entry::Occupied(entrance) = self.entrances.entry(life.passage.entrance)
            && *entrance.get() == serial
        {
            entrance.remove();
        }
        if let Some(flow) = life.stage.flow()
            && let Entry::Occupied(mut count) = self.moving.entry(flow.entrance())
        {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
        for flow in life.half_open.take().into_iter().chain(life.stage.flow()) {
            self.seen.remove(&flow);
        }
        Some(life)
    }
}

impl Life {
    /// Between which two there has to be room for the connection: where the destination sees it come from a port that the
    /// rule names, an earlier one may have it that was not over when the pinhole was opened. The SYN is sent again.
    pub(super) fn wants_room(&self) -> Option<Flow> {
        let seen_as = self.passage.seen_as.filter(|seen_as| seen_as.port() != 0)?;
        (self.stage == Stage::Waiting).then_some(Flow { from: self.passage.to, at: seen_as })
    }

    /// Tells the session, once, that somebody began a connection and did not complete it.
    fn tell_half_open(&mut self, flow: &Flow, why: WhyHalfOpen) {
        if self.half_open.tell() {
            let _ = self.events.send(DataEvent::HalfOpen { id: self.id, from: flow.from, port: flow.at.port(), why });
        }
    }

    /// Tells the session that its connection is over.
    fn tell(self, how: HowEnded, counters: Option<Counters>) {
        // What was unheard then may have been heard when the counters were looked at.
        let closed_at_once = self.closed_at_once;
        let counters = counters.map(|now| Counters { closed_at_once: now.closed_at_once || closed_at_once, ..now });
        let unknown = Carried { bytes: 0, is_estimate: !matches!(how, HowEnded::NotReached { .. }) };
        let [by_comer, by_other] = counters.map_or([unknown; 2], |counters| counters.payload());
        let (to_server, to_client) = match self.comer {
            Side::Client => (by_comer.bytes, by_other.bytes),
            Side::Server => (by_other.bytes, by_comer.bytes),
        };
        let is_estimate = by_comer.is_estimate || by_other.is_estimate;
        let end = DataEnd { to_server, to_client, is_estimate, how };
        let _ = self.events.send(DataEvent::Ended { id: self.id, end });
    }
}
