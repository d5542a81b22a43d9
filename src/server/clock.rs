//! The hours of rules, held against the clock of the day.

use std::time::Duration;

use jiff::Timestamp;

use crate::policy::Policy;

/// The clock may be set while nobody looks: it is looked at this often while rules have hours.
const OFTEN: Duration = Duration::from_secs(60);

/// Tells when sessions have to be judged anew although nobody has written new rules.
pub(super) struct Clock<N = fn() -> Timestamp> {
    now: N,
    /// When they last were.
    judged: Timestamp,
    /// When a rule begins or ceases to hold next.
    due: Option<Timestamp>,
}

impl<N: Fn() -> Timestamp> Clock<N> {
    pub(super) fn new(now: N, policy: &Policy) -> Self {
        let judged = now();
        Self { judged, due: policy.next_change(judged), now }
    }

    /// Sessions are judged by these rules, now.
    pub(super) fn judge_by(&mut self, policy: &Policy) {
        self.judged = (self.now)();
        self.due = policy.next_change(self.judged);
    }

    /// Waits until other rules hold than when sessions were last judged, or may do because the clock was set back.
    /// Nothing is lost where this is cancelled.
    pub(super) async fn changed(&self) {
        let Some(due) = self.due else { return std::future::pending().await };
        loop {
            let now = (self.now)();
            if now >= due || now < self.judged {
                return;
            }
            // Later than now, so no less than nothing.
            let left = Duration::try_from(due.duration_since(now)).unwrap_or_default();
            tokio::time::sleep(left.min(OFTEN)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use tokio::time::Instant;

    use super::*;
    use crate::rules::parse;

    const HOUR: Duration = Duration::from_secs(3600);

    /// A rule for the evening of the first day of 1970, which is when the clocks here begin.
    fn policy() -> Policy {
        let text = "version: 1\nlisteners: [{name: a, bind: \"127.0.0.1:21\", server: \"127.0.0.1:2121\"}]\n\
                    rules: [{name: a, from: any, to: any, action: deny, hours: daily 18:00-20:00 UTC}]\n";
        parse(text, "test").unwrap()
    }

    /// Sleeping is for the runtime; it has time that passes at once.
    #[tokio::test(start_paused = true)]
    async fn each_beginning_and_end_is_told_when_it_is_there() {
        let start = Instant::now();
        let policy = policy();
        let mut clock = Clock::new(|| Timestamp::UNIX_EPOCH + start.elapsed(), &policy);
        for hour in [18, 20, 42, 44] {
            clock.changed().await;
            let late = start.elapsed().checked_sub(hour * HOUR).expect("told too early");
            assert!(late < Duration::from_secs(1), "{late:?} after hour {hour}");
            clock.judge_by(&policy);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_is_set_is_noticed_in_a_minute() {
        let (start, set) = (Instant::now(), Cell::new(Timestamp::UNIX_EPOCH));
        let policy = policy();
        let mut clock = Clock::new(|| set.get() + start.elapsed(), &policy);
        for to in [Timestamp::UNIX_EPOCH + 19 * HOUR, Timestamp::UNIX_EPOCH + 12 * HOUR] {
            let begun = Instant::now();
            tokio::join!(clock.changed(), async {
                tokio::time::sleep(Duration::from_secs(90)).await;
                set.set(to);
            });
            assert!(begun.elapsed() >= Duration::from_secs(90) && begun.elapsed() <= Duration::from_secs(150));
            clock.judge_by(&policy);
        }
    }
}
