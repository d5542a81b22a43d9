//! Every pinhole of the kernel's and the connection through it, told from conntrack's sightings.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::UnboundedSender;

use super::conntrack::{Flow, Sighting, TcpState};
use super::count::{Carried, Counters};
use super::element::{Entrance, Passage};
use super::life::Stage;
use crate::addr::Side;
use crate::pinhole::DataEvent;
use crate::pinhole::ports::Reservation;
use crate::session::{DataEnd, HowEnded, PinholeId};

/// How long a connection that was cut stays marked as such: longer than either side goes on to say something.
const CUT_FOR: Duration = Duration::from_secs(30);

/// How long a connection may be told of after its pinhole was taken away.
const WITHDRAWN_FOR: Duration = Duration::from_secs(1);

/// Names one pinhole among those of all sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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
    /// Whether both sides were seen to close with neither having heard the other do so.
    pub(super) closed_at_once: bool,
    /// Holds the port until somebody came.
    pub(super) reservation: Option<Reservation>,
}

/// What is to be done in the kernel.
#[derive(Debug)]
pub(super) enum Task {
    /// Nobody can use the pinhole any more. Its port is held until this is on its way, so that nobody opens there before.
    Close(Passage, Option<Reservation>),
    /// The connection is to be broken, for both sides to see.
    Cut(Flow),
    /// It is to be forgotten.
    Forget(Flow),
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Flows {
    last_serial: u64,
    lives: HashMap<Serial, Life>,
    entrances: HashMap<Entrance, Serial>,
    seen: HashMap<Flow, Serial>,
    cut: VecDeque<(Instant, Flow)>,
    /// Pinholes that nobody came to, until nobody can have come.
    withdrawn: VecDeque<(Instant, Entrance)>,
}

impl Flows {
    pub(super) fn add(&mut self, life: Life) -> Serial {
        self.last_serial += 1;
        let serial = Serial(self.last_serial);
        self.entrances.insert(life.passage.entrance, serial);
        self.lives.insert(serial, life);
        serial
    }

    /// Takes a sighting; `look` tells all that is known of a connection which is at its end.
    pub(super) fn see(
        &mut self,
        now: Instant,
        patience: Duration,
        sighting: &Sighting,
        look: impl FnOnce(&Flow) -> Option<Counters>,
    ) -> Option<Task> {
        let flow = sighting.flow;
        let (serial, task) = match self.seen.get(&flow) {
            Some(serial) => (*serial, None),
            // A connection of an earlier pinhole at the same place may still be told of.
            None if !sighting.is_new => return None,
            None => match self.arrive(sighting, now + patience) {
                (Some(serial), task) => (serial, task),
                (None, task) => return task,
            },
        };
        let life = self.lives.get_mut(&serial)?;
        let mut sighting = *sighting;
        life.closed_at_once |= sighting.closed_at_once;
        let may_be_last = matches!(sighting.state, Some(TcpState::Reset | TcpState::TimeWait))
            || sighting.notes.is_some() && life.stage.is_settled();
        if may_be_last {
            sighting.counters = look(&flow).or(sighting.counters);
        }
        let turn = life.stage.see(&sighting, life.comer);
        if turn.started {
            // Where nobody listens any more, the guard goes too.
            let _ = life.events.send(DataEvent::Started { id: life.id, peer: flow.from });
        }
        if let Some(how) = turn.over
            && let Some(life) = self.remove(serial)
        {
            life.tell(how, sighting.counters);
        }
        task
    }

    /// Somebody came to a pinhole. Who came in the moment in which another was put in its place, or nothing, is cut.
    fn arrive(&mut self, sighting: &Sighting, until: Instant) -> (Option<Serial>, Option<Task>) {
        let (flow, entrance) = (sighting.flow, sighting.flow.entrance());
        let Some(&serial) = self.entrances.get(&entrance) else {
            // Where nothing of ours was it is another gate's.
            let was_ours = self.withdrawn.iter().any(|(_, withdrawn)| *withdrawn == entrance);
            return (None, was_ours.then_some(Task::Cut(flow)));
        };
        let Some(life) = self.lives.get_mut(&serial) else { return (None, None) };
        if life.stage != Stage::Waiting || sighting.to != Some(life.passage.to) {
            return (None, Some(Task::Cut(flow)));
        }
        life.stage = Stage::Came { flow, until };
        self.seen.insert(flow, serial);
        (Some(serial), Some(Task::Close(life.passage, life.reservation.take())))
    }

    /// The pinhole is closed: nobody waits for it, and what moves is to end. `look` as in [`Flows::see`].
    pub(super) fn close(
        &mut self,
        now: Instant,
        serial: Serial,
        look: impl FnOnce(&Flow) -> Option<Counters>,
    ) -> Option<Task> {
        let mut life = self.remove(serial)?;
        let Some(flow) = life.stage.flow() else {
            self.withdrawn.push_back((now + WITHDRAWN_FOR, life.passage.entrance));
            return Some(Task::Close(life.passage, life.reservation.take()));
        };
        if let Stage::Moving { .. } = life.stage {
            life.tell(HowEnded::Aborted, look(&flow));
        }
        self.cut.push_back((now + CUT_FOR, flow));
        Some(Task::Cut(flow))
    }

    /// The pinhole at this entrance, if nobody came to it.
    pub(super) fn waiting_at(&self, entrance: &Entrance) -> Option<Passage> {
        let life = self.lives.get(self.entrances.get(entrance)?)?;
        (life.stage == Stage::Waiting).then_some(life.passage)
    }

    /// What time brings: peers that were led to somebody who does not answer, and connections that were cut long ago.
    pub(super) fn overdue(&mut self, now: Instant) -> Vec<Task> {
        let late: Vec<(Serial, Flow)> = self
            .seen
            .iter()
            .filter_map(|(flow, serial)| match self.lives.get(serial)?.stage {
                Stage::Came { until, .. } if until <= now => Some((*serial, *flow)),
                Stage::Waiting | Stage::Came { .. } | Stage::Moving { .. } => None,
            })
            .collect();
        let mut tasks = Vec::new();
        for (serial, flow) in late {
            if let Some(life) = self.remove(serial) {
                let side = life.comer.other();
                life.tell(HowEnded::NotReached { side, error: std::io::ErrorKind::TimedOut }, None);
                tasks.push(Task::Forget(flow));
            }
        }
        let old = self.withdrawn.partition_point(|(until, _)| *until <= now);
        self.withdrawn.drain(..old);
        let old = self.cut.partition_point(|(until, _)| *until <= now);
        tasks.extend(self.cut.drain(..old).map(|(_, flow)| Task::Forget(flow)));
        tasks
    }

    /// Every connection that is there, whether it moves or was cut.
    pub(super) fn all(&self) -> Vec<Flow> {
        self.seen.keys().copied().chain(self.cut.iter().map(|(_, flow)| *flow)).collect()
    }

    /// Sightings were lost: these are all the connections that there are. What is not among them is over.
    pub(super) fn missing(&self, present: &[Sighting]) -> Vec<Flow> {
        let present: std::collections::HashSet<Flow> = present.iter().map(|sighting| sighting.flow).collect();
        self.seen.keys().filter(|flow| !present.contains(flow)).copied().collect()
    }

    fn remove(&mut self, serial: Serial) -> Option<Life> {
        let life = self.lives.remove(&serial)?;
        if let Entry::Occupied(entrance) = self.entrances.entry(life.passage.entrance)
            && *entrance.get() == serial
        {
            entrance.remove();
        }
        if let Some(flow) = life.stage.flow() {
            self.seen.remove(&flow);
        }
        Some(life)
    }
}

impl Life {
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
