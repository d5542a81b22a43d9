//! `ftpgate openings` is enough: two firewalls that let through what it prints, and nothing else.
//!
//! One stands between client and gate, one between gate and server, each a machine of its own. Real clients reach real
//! servers through both; what is not printed does not pass them.

// Shared with other test binaries; each uses a part.
#![allow(dead_code, missing_docs, unreachable_pub, clippy::unwrap_used)]

mod cells;
#[path = "../lab/mod.rs"]
mod lab;
mod net;
mod probes;
