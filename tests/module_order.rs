//! A module uses only modules above it, in the order in which `src/lib.rs` lists them, and the core stays pure.

#![allow(clippy::unwrap_used, reason = "a test that cannot read its files has failed")]

use std::fs;
use std::path::{Path, PathBuf};

/// Modules that touch no socket, no clock and no runtime.
const PURE: [&str; 7] = ["addr", "ftp", "policy", "limits", "rules", "session", "trial"];
/// What a pure module must not name outside its tests. `Instant` as a type is an argument; reading it is not.
const IMPURE: [&str; 9] =
    ["tokio", "socket2", "rustix", "nix::", "Instant::now", "Timestamp::now", "SystemTime", "std::fs", "TcpStream"];

#[test]
fn modules_use_only_those_above_them() {
    let order = listed();
    let mut faults = Vec::new();
    for (place, module) in order.iter().enumerate() {
        for (file, text) in files(module) {
            let used = text
                .split("crate::")
                .skip(1)
                .map(|rest| rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect::<String>());
            for name in used {
                if order.iter().position(|listed| *listed == name).is_some_and(|used| used > place) {
                    faults.push(format!("{} uses {name}, which stands below {module}", file.display()));
                }
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn the_core_is_pure() {
    let mut faults = Vec::new();
    for module in PURE {
        for (file, text) in files(module) {
            let named = IMPURE.iter().filter(|name| names(&text, name));
            faults.extend(named.map(|name| format!("{} names {name}", file.display())));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// Whether a text has a name, and not only as the end of a longer one.
fn names(text: &str, name: &str) -> bool {
    let before = |at: usize| text[..at].chars().next_back();
    text.match_indices(name).any(|(at, _)| before(at).is_none_or(|before| !before.is_alphanumeric() && before != '_'))
}

/// The modules in the order of `src/lib.rs`.
fn listed() -> Vec<String> {
    let text = fs::read_to_string(source().join("lib.rs")).unwrap();
    let order: Vec<String> =
        text.lines().filter_map(|line| Some(line.strip_prefix("pub mod ")?.strip_suffix(';')?.to_owned())).collect();
    assert!(order.len() >= 10, "lib.rs lists only {order:?}");
    order
}

/// Every file of a module, without its tests and its comments.
fn files(module: &str) -> Vec<(PathBuf, String)> {
    let mut files = Vec::new();
    let mut folders = vec![source().join(module)];
    let single = source().join(format!("{module}.rs"));
    if single.exists() {
        files.push(single);
    }
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("tests.rs") {
                files.push(path);
            }
        }
    }
    assert!(!files.is_empty(), "module {module} has no files");
    files.into_iter().map(|path| (path.clone(), code(&fs::read_to_string(path).unwrap()))).collect()
}

fn code(text: &str) -> String {
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    code.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}
