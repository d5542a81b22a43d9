//! The guarantees that the gate gives, each against the real program with peers that do not keep to the rules.
#![allow(missing_docs, clippy::unwrap_used, unreachable_pub)]

mod cut;
mod exhaustion;
mod floods;
mod health;
mod hidden;
mod left;
mod life;
mod limits;
mod log;
mod lines;
mod notations;
mod peers;
mod ports;
mod proxy;
mod reload;
mod rules_file;
mod sandbox;
mod segments;
mod support;
mod text;
mod trouble;
mod unnoticed;
mod watchdog;
