//! One control connection and its data connections, without IO.
mod pinhole;

pub use pinhole::{DataEnd, HowEnded, Leg, Pinhole, PinholeId};
