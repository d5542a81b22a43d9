//! A folder that goes away with its owner.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use super::Fault;

pub struct Scratch(PathBuf);

impl Scratch {
    /// A new folder below the system's temporary one: servers that give up root can reach it,
    /// which is not sure of the folder that we are built in.
    pub fn new(name: &str) -> Result<Self, Fault> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let unique = format!("ftpgate-{name}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(unique);
        std::fs::create_dir(&path)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
        Ok(Self(path))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
