//! Connections that nobody watches over any more: their control connection is gone, or their gate.

use std::time::{Duration, Instant};

use super::super::conntrack::{Flow, Sighting, TcpState};
use super::super::count::Counters;
use super::{Flows, Serial, Task};

/// How long a connection that was cut stays marked as such: longer than either side goes on to say something.
const CUT_FOR: Duration = Duration::from_secs(30);

impl Flows {
    /// Has a connection cut.
    pub(in crate::pinhole::kernel) fn cut(&mut self, now: Instant, flow: Flow) -> Task {
        self.ended.add(flow, now + CUT_FOR);
        Task::Cut(flow)
    }

    /// Ends those of these connections, all that have our mark, which are no pinhole's.
    pub(in crate::pinhole::kernel) fn end_orphans(&mut self, now: Instant, marked: &[Sighting]) -> Vec<Task> {
        let orphans = marked.iter().filter(|sighting| !self.seen.contains_key(&sighting.flow));
        let orphans: Vec<&Sighting> = orphans.filter(|sighting| !self.ended.contains(&sighting.flow)).collect();
        let end = |orphan: &Sighting| match orphan.state {
            Some(TcpState::Open | TcpState::Closing) if !orphan.mark.is_half_open() => self.cut(now, orphan.flow),
            Some(TcpState::TimeWait | TcpState::Reset) => Task::ForgetEnded(orphan.flow),
            _ => Task::ForgetHalfOpen(orphan.flow),
        };
        orphans.into_iter().map(end).collect()
    }

    /// No control connection watches over this one any more.
    pub(in crate::pinhole::kernel) fn linger(&mut self, now: Instant, serial: Serial) {
        if self.lives.contains_key(&serial) {
            self.lingering.add(now, serial);
        }
    }

    /// Closes what lingers and has not moved for too long. `look` as in [`Flows::see`].
    pub(in crate::pinhole::kernel) fn close_still(
        &mut self,
        now: Instant,
        look: impl Fn(&Flow) -> Option<Counters>,
    ) -> Vec<Task> {
        let lingering: Vec<Serial> = self.lingering.serials().collect();
        let mut tasks = Vec::new();
        for serial in lingering {
            let flow = self.lives.get(&serial).and_then(|life| life.stage.flow());
            let carried = flow.and_then(|flow| look(&flow)).map(|counters| counters.seen);
            if self.lingering.is_still(now, serial, carried) {
                tasks.extend(self.close(now, serial, &look));
            }
        }
        tasks
    }
}
