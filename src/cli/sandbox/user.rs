//! The user that `--user` names.

use std::ffi::CString;
use std::fmt;
use std::io;

use nix::unistd::{Gid, Uid, initgroups, setgroups, setresgid, setresuid};
use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities, set_keep_capabilities};

/// A user of this machine, found by name or given as numbers.
#[derive(Clone, Debug)]
pub(crate) struct User {
    /// None where only numbers were given: then there are no supplementary groups either.
    name: Option<CString>,
    uid: Uid,
    gid: Gid,
}

impl User {
    /// `NAME`, or `UID:GID` where there is no `/etc/passwd` to find a name in.
    pub(crate) fn find(text: &str) -> Result<Self, String> {
        if let Some((uid, gid)) = text.split_once(':') {
            let number =
                |text: &str| text.parse::<u32>().map_err(|_| format!("`{text}` is not a number: write UID:GID"));
            return Ok(Self { name: None, uid: Uid::from_raw(number(uid)?), gid: Gid::from_raw(number(gid)?) });
        }
        let found =
            nix::unistd::User::from_name(text).map_err(|error| format!("cannot look up user `{text}`: {error}"))?;
        let found = found.ok_or_else(|| {
            format!("there is no user `{text}`: make one with `useradd --system {text}`, or write UID:GID, such as 65534:65534")
        })?;
        let name = CString::new(found.name).map_err(|_| format!("user `{text}` has a NUL in its name"))?;
        Ok(Self { name: Some(name), uid: found.uid, gid: found.gid })
    }

    pub(crate) fn uid(&self) -> u32 {
        self.uid.as_raw()
    }

    pub(crate) fn gid(&self) -> u32 {
        self.gid.as_raw()
    }

    /// Changes user and groups for good, and keeps these of the capabilities, and the right to give up more of them.
    pub(super) fn become_them(&self, kept: impl Fn(CapabilitySet) -> CapabilitySet) -> io::Result<()> {
        if nix::unistd::getresuid().is_ok_and(|ids| [ids.real, ids.effective, ids.saved] == [self.uid; 3]) {
            return Ok(());
        }
        let held = capabilities(None)?.permitted;
        // With SETPCAP the rest is given up later.
        let kept = kept(held) | (held & CapabilitySet::SETPCAP);
        match &self.name {
            Some(name) => initgroups(name, self.gid)?,
            None => setgroups(&[self.gid])?,
        }
        setresgid(self.gid, self.gid, self.gid)?;
        // Else the kernel takes every capability from who ceases to be root.
        set_keep_capabilities(true)?;
        setresuid(self.uid, self.uid, self.uid)?;
        set_keep_capabilities(false)?;
        set_capabilities(
            None,
            CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() },
        )?;
        Ok(())
    }
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => f.write_str(&name.to_string_lossy()),
            None => write!(f, "{}:{}", self.uid, self.gid),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_a_name_or_two_numbers() {
        let root = User::find("root").unwrap();
        assert_eq!((root.uid(), root.gid(), root.to_string().as_str()), (0, 0, "root"));
        let numbers = User::find("1234:5678").unwrap();
        assert_eq!((numbers.uid(), numbers.gid(), numbers.to_string().as_str()), (1234, 5678, "1234:5678"));
        assert!(User::find("no-such-user").unwrap_err().contains("there is no user `no-such-user`"));
        assert!(User::find("root:wheel").unwrap_err().contains("not a number"));
        assert!(User::find("-1:0").is_err() && User::find(":").is_err() && User::find("4294967296:0").is_err());
    }
}
