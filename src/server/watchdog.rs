//! Tells systemd that the gate is alive: only while every thread is.
//!
//! A main thread that says so by a timer of its own proves nothing: sessions run on other threads, and a thread that hangs
//! takes all its sessions with it. So each thread is asked first, and systemd hears nothing while one does not answer. With
//! `WatchdogSec=` it then ends the gate and restarts it.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::task::JoinHandle;

use super::workers::Workers;
use crate::report;

/// Of the time that systemd waits, as its manual advises.
const PARTS: u32 = 2;

/// Begins to tell systemd, where it wants to be told. Must be called inside the runtime of the main thread: it is asked too,
/// by running this at all.
pub(super) fn start(workers: &Workers) -> Option<JoinHandle<()>> {
    let limit = sd_notify::watchdog_enabled().filter(|limit| !limit.is_zero())?;
    Some(tokio::spawn(tell(workers.clone(), limit / PARTS)))
}

async fn tell(workers: Workers, period: Duration) {
    let mut ticks = tokio::time::interval(period);
    // After a thread was late, the next answer is not due at once.
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        workers.all_answer().await;
        if let Err(error) = sd_notify::notify(&[NotifyState::Watchdog]) {
            report::system("systemd could not be told that the gate is alive", &error);
        }
    }
}
