//! Whether this machine forwards packets, and tells of connections.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;

use super::family::Family;

/// Whether packets are forwarded; asked for each connection, for other programs turn it on and off.
#[derive(Debug)]
pub(super) struct Forwarding {
    v4: Option<File>,
    v6: Option<File>,
}

impl Forwarding {
    pub(super) fn new() -> Self {
        let open = |family| File::open(format!("/proc/sys/net/{family}/conf/all/forwarding")).ok();
        Self { v4: open("ipv4"), v6: open("ipv6") }
    }

    /// Whether it is on, on any interface; taken to be on where that cannot be read.
    pub(super) fn is_on(&self, family: Family) -> bool {
        let (file, name) = match family {
            Family::V4 => (&self.v4, "ipv4"),
            Family::V6 => (&self.v6, "ipv6"),
        };
        let mut value = [0];
        match file.as_ref().map(|file| file.read_at(&mut value, 0)) {
            Some(Ok(_)) => value != *b"0" || is_on_somewhere(name),
            Some(Err(_)) | None => true,
        }
    }
}

fn is_on_somewhere(family: &str) -> bool {
    let Ok(interfaces) = fs::read_dir(format!("/proc/sys/net/{family}/conf")) else { return false };
    interfaces
        .flatten()
        .filter(|interface| interface.file_name() != "default")
        .any(|interface| fs::read(interface.path().join("forwarding")).is_ok_and(|value| value.starts_with(b"1")))
}

/// Whether conntrack tells of connections; `None` where that cannot be read.
pub(super) fn setting(name: &str) -> Option<String> {
    Some(fs::read_to_string(format!("/proc/sys/net/netfilter/{name}")).ok()?.trim().to_owned())
}
