//! Limits that are shared: how many sessions there are, how often they begin, and how fast bytes may move.
//!
//! Times are arguments here as in the session core. Every rate is kept by one [`Bucket`], which is a single moment and
//! needs no timer; what is kept of client addresses is bounded.

mod bucket;
mod checks;
mod counts;
mod crowds;
mod lines;
mod pace;
mod tally;

pub use bucket::{Bucket, Rate};
pub use checks::HealthCheck;
pub use counts::{Arrival, Counts, FurtherData, Place, TurnedAway};
pub use lines::{LeftOut, LineKind, Lines, Whence};
pub use pace::{Meter, Pace, Pacer, Reserved, SharedBucket, Terms};
pub use tally::Tally;
