//! What lies on the way: routers that translate, VLANs, two uplinks, ways back that lead elsewhere, bans.
//!
//! Every test has network namespaces of its own, a scripted client and a scripted server that checks what real ones
//! check. What is to work through the gate is done without it first.

// Shared with other test binaries; each uses a part.
#![allow(dead_code, missing_docs, unreachable_pub, clippy::print_stdout, clippy::unwrap_used)]

mod bans;
mod forwarded;
mod hidden;
#[path = "../lab/mod.rs"]
mod lab;
mod links;
mod overload;
mod router;
#[path = "../kernel/stage.rs"]
mod stage;
#[path = "../lab/talk.rs"]
mod talk;
mod translated;
mod ways;
