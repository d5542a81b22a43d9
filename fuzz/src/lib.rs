//! What is asked of arbitrary bytes: one function for each target. `targets/` gives them what the fuzzer makes,
//! `tests/fuzz_cases.rs` what is kept in `cases/`.

#![allow(clippy::unwrap_used, reason = "a fault is told by a panic")]

mod command;
mod host_port;
mod line;
mod reply;
mod rules;
mod session;

pub use command::command;
pub use host_port::host_port;
pub use line::line;
pub use reply::reply;
pub use rules::rules;
pub use session::session;

/// What is done with the bytes.
pub type Target = fn(&[u8]);

/// Every target, by its name.
pub const ALL: [(&str, Target); 6] = [
    ("command", command),
    ("host_port", host_port),
    ("line", line),
    ("reply", reply),
    ("rules", rules),
    ("session", session),
];

/// Nothing that changes what a terminal or a log shows.
fn assert_harmless(shown: &str) {
    let harmful = |c: char| c.is_control() || ('\u{202a}'..='\u{202e}').contains(&c);
    assert!(!shown.contains(harmful), "not fit for a log: {shown:?}");
}
