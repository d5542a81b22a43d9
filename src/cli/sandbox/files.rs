//! Landlock: of all files, only those that the gate reads while it serves, and none to write.

use std::fs;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access as _, AccessFs, BitFlags, LandlockStatus, Ruleset, RulesetAttr as _, RulesetCreatedAttr as _,
    RulesetError, RulesetStatus, Scope, make_bitflags, path_beneath_rules,
};

use super::Protection;
use crate::cli::trust;

/// What is denied where nothing allows it. Later kernels deny more, such as sockets of the file system, which systemd's
/// notifications need.
const DENIED: ABI = ABI::V7;

/// Settings of the kernel, name servers, and what tells how many processors there are for this process.
const READ: [&str; 6] = ["/etc", "/proc/sys", "/proc/net", "/proc/self", "/sys/fs/cgroup", "/sys/devices/system/cpu"];

/// Files that elsewhere hold what is in `/etc`, and are replaced there.
const LINKED: [&str; 2] = ["/etc/resolv.conf", "/etc/hosts"];

/// What a gate with these rules reads while it serves: whole directories, because files are replaced by others of their name.
pub(super) fn readable(rules_file: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = READ.iter().map(PathBuf::from).collect();
    for file in LINKED.map(Path::new) {
        if let Ok(target) = fs::canonicalize(file)
            && target != file
        {
            paths.push(directory(&target));
        } else if let (Ok(target), Some(parent)) = (fs::read_link(file), file.parent()) {
            // Nothing is there yet, but its directory may be.
            paths.push(directory(&parent.join(target)));
        }
    }
    paths.extend(trust::directories(rules_file));
    paths
}

/// Where a file is replaced: its directory, but for those that hold everything.
fn directory(file: &Path) -> PathBuf {
    file.parent().filter(|parent| parent.parent().is_some()).unwrap_or(file).to_owned()
}

/// Lets the process read below these paths, and write nowhere.
pub(super) fn restrict(readable: &[PathBuf]) -> Result<Protection, RulesetError> {
    let read: BitFlags<AccessFs> = make_bitflags!(AccessFs::{ReadFile | ReadDir});
    let status = Ruleset::default()
        .handle_access(AccessFs::from_all(DENIED))?
        .scope(scopes())?
        .create()?
        .add_rules(path_beneath_rules(readable, read))?
        .restrict_self()?;
    Ok(match (status.ruleset, status.landlock) {
        (RulesetStatus::NotEnforced, LandlockStatus::NotEnabled) => {
            Protection::Missing("not enabled (add landlock to the kernel's lsm= parameter)".to_owned())
        }
        (RulesetStatus::NotEnforced, _) => {
            Protection::Missing("not in this kernel, or not in this container".to_owned())
        }
        (RulesetStatus::FullyEnforced | RulesetStatus::PartiallyEnforced, status) => match status {
            LandlockStatus::Available { effective_abi, .. } => Protection::On(format!("ABI {}", effective_abi as i32)),
            LandlockStatus::NotEnabled | LandlockStatus::NotImplemented => Protection::On("on".to_owned()),
        },
    })
}

/// No signals to other processes; no abstract sockets of others, unless systemd listens at one for what becomes of us.
fn scopes() -> BitFlags<Scope> {
    let notified = std::env::var_os("NOTIFY_SOCKET").is_some_and(|socket| socket.as_encoded_bytes().starts_with(b"@"));
    if notified { Scope::Signal.into() } else { Scope::Signal | Scope::AbstractUnixSocket }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_holds_everything_is_not_given() {
        assert_eq!(directory(Path::new("/run/systemd/resolve/stub.conf")), Path::new("/run/systemd/resolve"));
        assert_eq!(directory(Path::new("/resolv.conf")), Path::new("/resolv.conf"));
    }
}
