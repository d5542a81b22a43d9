//! Each direct dependency has its reason in `docs/dependencies.md`, and no reason is left of one that is gone.

#![allow(clippy::unwrap_used, reason = "a test that cannot read its files has failed")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

fn read(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

/// The keys of these sections of `Cargo.toml`.
fn direct() -> BTreeSet<String> {
    let text = read("Cargo.toml");
    let mut names = BTreeSet::new();
    let mut inside = false;
    for line in text.lines() {
        if line.starts_with('[') {
            inside = ["[dependencies]", "[dev-dependencies]", "[build-dependencies]"].contains(&line);
        } else if inside && let Some((name, _)) = line.split_once('=').filter(|_| !line.starts_with('#')) {
            names.insert(name.trim().to_owned());
        }
    }
    names
}

/// The first column of each table.
fn explained() -> BTreeSet<String> {
    let text = read("docs/dependencies.md");
    text.lines().filter_map(|line| Some(line.strip_prefix("| `")?.split_once('`')?.0.to_owned())).collect()
}

#[test]
fn each_direct_dependency_has_a_reason() {
    let direct = direct();
    assert!(direct.contains("tokio") && direct.contains("proptest"), "{direct:?}");
    assert_eq!(direct, explained());
}
