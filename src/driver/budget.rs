//! How much one session may do before the other sessions of its thread have their budget.
//!
//! A peer that always has something to say never makes its session wait, and the runtime would run that session alone:
//! waiting for readiness costs nothing of tokio's own budget. So the session counts its steps, and yields.

use std::future::poll_fn;
use std::pin::Pin;

/// Lines that are handled before the session yields. One costs some 10 us, the longest some 70 us.
const LINES: u32 = 8;
/// Times that something is waited for and is there already.
const WAITS: u32 = 4;

/// What a session may still do before it has to yield.
#[derive(Debug)]
pub(super) struct Budget {
    lines: u32,
    waits: u32,
}

impl Budget {
    pub(super) const fn new() -> Self {
        Self { lines: LINES, waits: WAITS }
    }

    /// Whether another line may be handled now.
    pub(super) const fn has_lines(&self) -> bool {
        self.lines > 0
    }

    /// A line was handled.
    pub(super) const fn count_line(&mut self) {
        self.lines = self.lines.saturating_sub(1);
    }

    /// Lets other sessions run, where the budget is spent; whether it was.
    pub(super) async fn yield_if_spent(&mut self) -> bool {
        let is_spent = self.lines == 0 || self.waits == 0;
        if is_spent {
            tokio::task::yield_now().await;
            *self = Self::new();
        }
        is_spent
    }

    /// Waits for `event`. Where that takes time, other sessions run, and the budget is whole again.
    pub(super) async fn wait_for<F: Future>(&mut self, mut event: Pin<&mut F>) -> F::Output {
        self.waits = self.waits.saturating_sub(1);
        poll_fn(|context| {
            let polled = event.as_mut().poll(context);
            if polled.is_pending() {
                *self = Self::new();
            }
            polled
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test]
    async fn a_task_that_never_waits_yields() {
        static STEPS: AtomicU32 = AtomicU32::new(0);
        let busy = tokio::spawn(async {
            let mut budget = Budget::new();
            loop {
                budget.yield_if_spent().await;
                budget.wait_for(std::pin::pin!(std::future::ready(()))).await;
                STEPS.fetch_add(1, Ordering::Relaxed);
            }
        });
        for _ in 0..10 {
            let before = STEPS.load(Ordering::Relaxed);
            tokio::task::yield_now().await;
            assert!(STEPS.load(Ordering::Relaxed) - before <= WAITS);
        }
        busy.abort();
    }

    #[test]
    fn lines_are_counted() {
        let mut budget = Budget::new();
        for _ in 0..LINES {
            assert!(budget.has_lines());
            budget.count_line();
        }
        assert!(!budget.has_lines());
    }
}
