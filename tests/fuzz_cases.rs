//! Replays what is kept in `fuzz/cases` through the bodies of the fuzz targets: what they were started from, and
//! what they found.

#![allow(clippy::unwrap_used, reason = "a test that cannot read its files has failed")]

use std::fs;
use std::panic::catch_unwind;
use std::path::Path;

#[allow(missing_docs, unreachable_pub, reason = "a crate of its own elsewhere")]
#[path = "../fuzz/src/lib.rs"]
mod targets;

#[test]
fn every_case_is_borne() {
    let mut failed = Vec::new();
    for (name, target) in targets::ALL {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/cases").join(name);
        let cases: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(cases.len() >= 7, "only {} cases in {}", cases.len(), folder.display());
        for case in cases {
            let data = fs::read(&case).unwrap();
            if catch_unwind(|| target(&data)).is_err() {
                failed.push(case.strip_prefix(&folder).unwrap().display().to_string());
            }
        }
    }
    assert!(failed.is_empty(), "{failed:?}");
}
