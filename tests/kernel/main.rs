//! The kernel's datapath, with packets: what it lets through, for whom, how often, and what is left when it ends.
//!
//! Every test has three namespaces of its own. The gate's machine forwards nothing but what has the gate's mark.

// Shared with other test binaries; each uses a part.
#![allow(dead_code, missing_docs, unreachable_pub, clippy::unwrap_used)]

#[path = "../lab/mod.rs"]
mod lab;

mod again;
mod alive;
mod beside;
mod cases;
mod counts;
mod crowd;
mod deploy;
mod ends;
mod helper;
mod holes;
mod many;
mod once;
mod own_addresses;
mod quirks;
mod raw;
mod related;
mod stage;
mod vanish;
mod walls;
#[path = "../lab/talk.rs"]
mod talk;
