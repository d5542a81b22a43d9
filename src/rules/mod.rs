//! The rules file: YAML text, what was written in it, and what that means.
//!
//! Three steps, each of which collects its mistakes instead of stopping at the first: `marks` reads the values with their
//! places and refuses what YAML allows but a rules file does not; `read` takes them into the types of [`schema`]; `lower` turns those into a [`Policy`]. Nothing here opens a file.

mod lower;
mod marks;
mod mistake;
mod near;
mod node;
mod place;
mod read;
mod remark;
pub mod schema;

use std::str;

pub use mistake::{Mistake, Mistakes};
pub use remark::{Remark, RulesFile, Subject};
pub use schema::json as json_schema;

use jiff::Timestamp;

use crate::policy::{Case, Policy};
use node::Node;
use place::{At, Fault, Found};

/// The largest rules file that is read: two hundred thousand long rules, which programs write.
pub const MAX_BYTES: usize = 64 * 1024 * 1024;

/// Reads a rules file. `file_name` is what the mistakes call it.
///
/// # Errors
///
/// Every mistake that could be found, in the order of the file.
pub fn parse(text: &str, file_name: &str) -> Result<Policy, Mistakes> {
    written(text, file_name).map(|written| written.policy)
}

/// Reads a moment as tests in a rules file have it: `2026-01-12 09:00 Europe/Berlin`.
///
/// # Errors
///
/// What is wrong, and what to write instead.
pub fn moment(text: &str) -> Result<Timestamp, String> {
    lower::moment(text).map_err(|Fault { message, help }| format!("{message}; {help}"))
}

/// Reads a rules file that may not be text at all.
///
/// # Errors
///
/// The first byte that is not UTF-8, else what [`parse`] finds.
pub fn parse_bytes(bytes: &[u8], file_name: &str) -> Result<Policy, Mistakes> {
    written_bytes(bytes, file_name).map(|written| written.policy)
}

/// Reads a rules file that may not be text at all: its rules, its tests, and where they stand.
///
/// # Errors
///
/// The first byte that is not UTF-8, else what [`parse`] finds.
pub fn written_bytes(bytes: &[u8], file_name: &str) -> Result<RulesFile, Mistakes> {
    let found = Found::default();
    if bytes.len() > MAX_BYTES {
        // Before the text itself: where a file was cut off, its last character may be no text any more.
        found.push(0..0, "", too_large());
        return Err(Mistakes::new(file_name, "", found.into_places()));
    }
    let error = match str::from_utf8(bytes) {
        Ok(text) => return written(text, file_name),
        Err(error) => error,
    };
    let shown = String::from_utf8_lossy(bytes);
    let good = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
    let index = unmarked(&good).chars().count();
    let bad = bytes.get(error.valid_up_to()).copied().unwrap_or_default();
    let message = format!("the byte 0x{bad:02X} is not UTF-8 text");
    found.push(index..index + 1, "", Fault::new(message, "save the file as UTF-8"));
    Err(Mistakes::new(file_name, unmarked(&shown), found.into_places()))
}

fn written(text: &str, file_name: &str) -> Result<RulesFile, Mistakes> {
    let text = unmarked(text);
    let found = Found::default();
    match read_all(text, &found) {
        Some((root, policy, cases)) if found.is_empty() => {
            Ok(RulesFile { policy, cases, file: file_name.to_owned(), text: text.to_owned(), root })
        }
        _ => Err(Mistakes::new(file_name, text, found.into_places())),
    }
}

/// Some editors begin a file with a byte order mark, which says nothing in UTF-8.
fn unmarked(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

fn too_large() -> Fault {
    let message = format!("the file is larger than {} MiB", MAX_BYTES >> 20);
    Fault::new(message, "name whole networks in place of single addresses")
}

fn read_all(text: &str, found: &Found) -> Option<(Node, Policy, Vec<Case>)> {
    if text.len() > MAX_BYTES {
        found.push(0..0, "", too_large());
        return None;
    }
    let root = marks::mark(text, found)?;
    let (policy, cases) = lower::file(&At::root(&root, found))?;
    Some((root, policy, cases))
}
