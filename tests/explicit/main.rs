//! Clients that name their server themselves, and names that clients are told: real programs, and a name server that
//! says what the test wants.

#![allow(dead_code, missing_docs, unreachable_pub, clippy::unwrap_used)]

#[path = "../lab/mod.rs"]
mod lab;
#[path = "../lab/talk.rs"]
mod talk;

mod advertise;
mod clients;
mod loops;
mod names;
mod servers;
mod stage;
