//! What becomes of data connections when their control connection ends.

use std::time::{Duration, Instant};

use super::data::{Connection, Data, Running};
use super::negotiation::Negotiation;
use super::pinhole::{HowEnded, PinholeId};
use super::{Action, Session};
use crate::addr::Side;
use crate::ftp::command::Way;

/// How long a client that has left may take to connect for its upload: it did before it left, if ever.
const COMES: Duration = Duration::from_secs(10);

/// What becomes of the transfers that run when the control connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moving {
    /// They end.
    Ends,
    /// They end, but for what the server has called done: its last bytes may still be on their way.
    EndsUnlessAnswered,
    /// The same, and uploads go on: what the client has sent may be all of it, and followed by its end.
    EndsUnlessUploaded,
    /// They go on to their end.
    GoesOn,
}

impl Data {
    /// Whether an upload was asked for that the server has not called done.
    pub(super) fn is_uploading(&self) -> bool {
        self.running.iter().any(|running| {
            let ended = running.ending.data.map(|data| data.how);
            let may_be_whole = !running.ending.expired && matches!(ended, None | Some(HowEnded::Complete));
            running.way == Way::Upload && running.ending.reply.is_none() && may_be_whole
        })
    }

    /// Whether a connection goes on when its control connection ends.
    fn goes_on(&self, connection: &Connection, moving: Moving) -> bool {
        let Some(running) = self.running.iter().find(|running| running.id == connection.id) else { return false };
        let (has_come, is_answered) = (connection.until.is_none(), running.ending.reply.is_some());
        match moving {
            Moving::Ends => false,
            Moving::EndsUnlessAnswered => has_come && is_answered,
            Moving::EndsUnlessUploaded if running.way == Way::Upload => has_come || !is_answered,
            Moving::EndsUnlessUploaded => has_come && is_answered,
            Moving::GoesOn => has_come,
        }
    }

    /// A client that has left need not be waited for as long as another.
    fn hurry(&mut self, now: Instant, id: PinholeId) {
        let mut connections = self.connections.iter_mut().filter(|connection| connection.id == id);
        if let Some(until) = connections.find_map(|connection| connection.until.as_mut()) {
            *until = (*until).min(now + COMES);
        }
    }

    pub(super) fn left_by(&mut self, side: Side) {
        self.running.iter_mut().for_each(|running| running.ending.left = Some(side));
    }
}

impl Session {
    /// The control connection is over. What is waited for is closed.
    pub(super) fn end_data(&mut self, now: Instant, moving: Moving) {
        // Where the session goes on, what is on its way is closed when it stands.
        let is_opening = matches!(self.data.negotiation, Negotiation::Opening { .. });
        if !(is_opening && moving == Moving::EndsUnlessUploaded)
            && let Negotiation::Opening { id, .. } = std::mem::take(&mut self.data.negotiation)
        {
            self.close_pinhole(id);
        }
        let data = &self.data;
        let (staying, ending): (Vec<_>, Vec<_>) =
            data.connections.iter().copied().partition(|connection| data.goes_on(connection, moving));
        let ending = ending.into_iter().map(|connection| (connection.id, connection.until.is_some()));
        let (waiting, cut): (Vec<_>, Vec<_>) = ending.partition(|(_, waits)| *waits);
        self.close_all(now, waiting.into_iter().map(|(id, _)| id).collect());
        // Their ends will be told.
        cut.into_iter().for_each(|(id, _)| self.close_pinhole(id));
        // An upload that is through and has no answer yet gets one, or the session ends.
        let is_awaited = |running: &Running| {
            moving == Moving::EndsUnlessUploaded && running.way == Way::Upload && running.ending.reply.is_none()
        };
        let gone =
            |data: &Data| data.running.iter().position(|running| !data.is_known(running.id) && !is_awaited(running));
        while let Some(index) = gone(&self.data) {
            self.record(now, index);
        }
        for Connection { id, .. } in staying {
            self.data.hurry(now, id);
            self.act(Action::Linger(id));
        }
    }
}
