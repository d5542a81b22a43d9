//! Who can change a rules file: only those who decide anyway what the gate does.
//!
//! A user who can write to the file, or to a directory on the way to it, decides who gets through the gate. Like sshd and sudo,
//! the gate refuses a file that others can change, and looks at every directory and every symbolic link on the way.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, CWD, StatVfsMountFlags, StatxAttributes, StatxFlags, statvfs, statx};
use rustix::process::{getegid, geteuid};

/// As many symbolic links as the kernel follows in one path.
const MAX_LINKS: usize = 40;

const GROUP_WRITE: u32 = 0o020;
const OTHERS_WRITE: u32 = 0o002;
/// In such a directory only an entry's owner replaces it, and owners are looked at.
const STICKY: u32 = 0o1000;

/// Users and groups that may change a rules file.
#[derive(Clone, Debug)]
pub(crate) struct Trusted {
    users: Vec<u32>,
    groups: Vec<u32>,
}

/// Who else can change a rules file.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Untrusted {
    /// Mode `o+w`.
    #[error("anybody on this machine can change {}, and with it who gets in", .0.display())]
    Anybody(PathBuf),
    /// Mode `g+w`, and the group is not root's.
    #[error("group {group} can change {}, and with it who gets in", path.display())]
    Group {
        /// What it can change.
        path: PathBuf,
        /// The group.
        group: u32,
    },
    /// An owner that is neither root nor the user that the gate runs as.
    #[error(
        "user {owner}, who is neither root nor the user that ftpgate runs as, owns {} and can change it",
        path.display()
    )]
    Owner {
        /// What it owns.
        path: PathBuf,
        /// The user.
        owner: u32,
    },
    /// A directory on the way to the file cannot be looked at.
    #[error("{} cannot be looked at: {error}", path.display())]
    Unknown {
        /// Which one.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
}

impl Untrusted {
    /// What to do.
    pub(crate) fn help(&self) -> String {
        match self {
            Self::Anybody(path) => format!("chmod o-w {}", path.display()),
            Self::Group { path, .. } => format!("chmod g-w {}", path.display()),
            Self::Owner { path, .. } => {
                format!("chown -h root {}, or run ftpgate as that user (`run --user`)", path.display())
            }
            Self::Unknown { path, .. } => {
                format!("let the user that ftpgate runs as read the directory of {}", path.display())
            }
        }
    }
}

impl Trusted {
    /// Root, the user of this process, and the one who called sudo. In a user namespace, also any user outside of it.
    pub(crate) fn of_this_process() -> Self {
        let from_sudo = |name| std::env::var(name).ok().and_then(|id| id.parse::<u32>().ok());
        let mut trusted = Self { users: vec![0, geteuid().as_raw()], groups: vec![0, getegid().as_raw()] };
        trusted.users.extend(from_sudo("SUDO_UID"));
        trusted.groups.extend(from_sudo("SUDO_GID"));
        trusted.users.extend(unmapped("uid"));
        trusted.groups.extend(unmapped("gid"));
        trusted
    }

    /// These too.
    pub(crate) fn and(mut self, user: u32, group: u32) -> Self {
        self.users.push(user);
        self.groups.push(group);
        self
    }

    /// Nobody but they can change the file at `path`, which was opened as `file`.
    pub(crate) fn check(&self, path: &Path, file: &File) -> Result<(), Untrusted> {
        let unknown = |error| Untrusted::Unknown { path: path.to_owned(), error };
        let metadata = file.metadata().map_err(unknown)?;
        self.check_entry(path, &metadata)?;
        self.check_way(&std::path::absolute(path).map_err(unknown)?)
    }

    /// Looks at each directory and symbolic link on the way to a file.
    fn check_way(&self, path: &Path) -> Result<(), Untrusted> {
        self.check_directory(Path::new("/"))?;
        walk(path, |at, metadata| match metadata.file_type() {
            kind if kind.is_dir() => self.check_directory(at),
            // Its own mode means nothing.
            kind if kind.is_symlink() => self.check_owner(at, metadata),
            _ => Ok(()),
        })
    }

    fn check_directory(&self, path: &Path) -> Result<(), Untrusted> {
        let unknown = |error| Untrusted::Unknown { path: path.to_owned(), error };
        let metadata = path.symlink_metadata().map_err(unknown)?;
        let checked = if metadata.mode() & STICKY == 0 {
            self.check_entry(path, &metadata)
        } else {
            self.check_owner(path, &metadata)
        };
        // A volume of Kubernetes is a directory with mode 0777, and nobody can write to it.
        checked.or_else(|why| if is_read_only_mount(path) { Ok(()) } else { Err(why) })
    }

    fn check_entry(&self, path: &Path, metadata: &Metadata) -> Result<(), Untrusted> {
        let path_buf = || path.to_owned();
        match metadata.mode() {
            mode if mode & OTHERS_WRITE != 0 => Err(Untrusted::Anybody(path_buf())),
            mode if mode & GROUP_WRITE != 0 && !self.groups.contains(&metadata.gid()) => {
                Err(Untrusted::Group { path: path_buf(), group: metadata.gid() })
            }
            _ => self.check_owner(path, metadata),
        }
    }

    fn check_owner(&self, path: &Path, metadata: &Metadata) -> Result<(), Untrusted> {
        let owner = metadata.uid();
        if self.users.contains(&owner) { Ok(()) } else { Err(Untrusted::Owner { path: path.to_owned(), owner }) }
    }
}

/// Goes to `path` as the kernel does, and visits each directory, symbolic link and file that it meets.
fn walk(path: &Path, mut visit: impl FnMut(&Path, &Metadata) -> Result<(), Untrusted>) -> Result<(), Untrusted> {
    let mut ahead: VecDeque<OsString> = components(path);
    let mut at = PathBuf::from("/");
    let mut links = 0;
    while let Some(name) = ahead.pop_front() {
        if name == ".." {
            at.pop();
            continue;
        }
        let next = at.join(name);
        let unknown = |error| Untrusted::Unknown { path: next.clone(), error };
        let metadata = next.symlink_metadata().map_err(unknown)?;
        visit(&next, &metadata)?;
        if !metadata.is_symlink() {
            at = next;
            continue;
        }
        links += 1;
        if links > MAX_LINKS {
            return Err(unknown(rustix::io::Errno::LOOP.into()));
        }
        let target = next.read_link().map_err(unknown)?;
        if target.is_absolute() {
            at = PathBuf::from("/");
        }
        components(&target).into_iter().rev().for_each(|name| ahead.push_front(name));
    }
    Ok(())
}

/// The directories in which a file, or a symbolic link on the way to it, may be replaced by another of its name. Not the root
/// directory, and none like `/var` for the sake of a link such as `/var/run`.
pub(crate) fn directories(file: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let visit = |at: &Path, metadata: &Metadata| {
        let Some(directory) = at.parent().filter(|_| !metadata.is_dir()) else { return Ok(()) };
        let is_top = directory.parent().is_none_or(|above| above.parent().is_none());
        let leads_away = at.read_link().is_ok_and(|target| !target.components().all(is_name));
        if directory.parent().is_none() {
            found.extend(metadata.is_file().then(|| at.to_owned()));
        } else if !(is_top && leads_away) {
            found.push(directory.to_owned());
        }
        Ok(())
    };
    // What cannot be looked at cannot be read later either, and that is said then.
    let _found_so_far = std::path::absolute(file).map(|path| walk(&path, visit));
    found
}

fn is_name(component: Component<'_>) -> bool {
    matches!(component, Component::Normal(_))
}

fn components(path: &Path) -> VecDeque<OsString> {
    let name = |component: Component<'_>| match component {
        Component::Normal(_) | Component::ParentDir => Some(component.as_os_str().to_owned()),
        Component::Prefix(_) | Component::RootDir | Component::CurDir => None,
    };
    path.components().filter_map(name).collect()
}

/// What users or groups outside of a user namespace look like inside: they are those who made it. `None` outside of any.
fn unmapped(kind: &str) -> Option<u32> {
    let map = std::fs::read_to_string(format!("/proc/self/{kind}_map")).ok()?;
    let is_whole = map.split_whitespace().eq(["0", "0", "4294967295"]);
    let overflow = std::fs::read_to_string(format!("/proc/sys/kernel/overflow{kind}")).ok()?;
    if is_whole { None } else { overflow.trim().parse().ok() }
}

/// Whether this is where something is mounted, and nobody can write there. That a directory further down is read-only says
/// nothing: under systemd's `ProtectSystem=` everything is, for the gate alone.
fn is_read_only_mount(path: &Path) -> bool {
    let is_root = statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS)
        .is_ok_and(|found| found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT));
    is_root
        && path != Path::new("/")
        && statvfs(path).is_ok_and(|found| found.f_flag.contains(StatVfsMountFlags::RDONLY))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt as _, chown, symlink};

    use super::*;

    /// A directory with a rules file in it, which goes away at the end.
    struct Place(PathBuf);

    impl Place {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("ftpgate-trust-{name}-{}", std::process::id()));
            let place = Self(path.canonicalize().unwrap_or(path));
            fs::create_dir_all(place.0.join("inner")).unwrap();
            fs::write(place.file(), "").unwrap();
            for path in [place.0.clone(), place.0.join("inner"), place.file()] {
                place.set(&path, 0o755);
            }
            place
        }

        fn file(&self) -> PathBuf {
            self.0.join("inner/rules.yaml")
        }

        fn set(&self, path: &Path, mode: u32) {
            fs::set_permissions(self.0.join(path), Permissions::from_mode(mode)).unwrap();
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn check(path: &Path) -> Result<(), Untrusted> {
        Trusted::of_this_process().check(path, &File::open(path).unwrap())
    }

    #[test]
    fn a_file_that_only_its_owner_can_change_is_trusted() {
        let place = Place::new("good");
        check(&place.file()).unwrap();
        place.set(&place.0, 0o1777);
        check(&place.file()).unwrap();
        check(Path::new("rules/minimal.yaml")).unwrap();
    }

    #[test]
    fn what_anybody_can_change_is_not() {
        let place = Place::new("modes");
        for path in [place.file(), place.0.join("inner"), place.0.clone()] {
            place.set(&path, 0o757);
            let why = check(&place.file()).unwrap_err();
            assert!(matches!(&why, Untrusted::Anybody(at) if *at == path), "{why}");
            place.set(&path, 0o755);
        }
    }

    #[test]
    fn another_owner_or_group_is_not_trusted() {
        let place = Place::new("owners");
        for path in [place.file(), place.0.join("inner")] {
            chown(&path, Some(1234), None).expect("tests run as root: see tests/run");
            let why = check(&place.file()).unwrap_err();
            assert!(matches!(&why, Untrusted::Owner { path: at, owner: 1234 } if *at == path), "{why}");
            chown(&path, Some(0), Some(1234)).unwrap();
            check(&place.file()).unwrap();
            place.set(&path, 0o775);
            let why = check(&place.file()).unwrap_err();
            assert!(matches!(&why, Untrusted::Group { path: at, group: 1234 } if *at == path), "{why}");
            chown(&path, None, Some(0)).unwrap();
            check(&place.file()).unwrap();
        }
    }

    #[test]
    fn links_are_looked_at_and_so_is_where_they_lead() {
        let (place, way) = (Place::new("linked"), Place::new("links"));
        let link = way.0.join("link.yaml");
        symlink(place.file(), &link).unwrap();
        check(&link).unwrap();
        place.set(&place.0, 0o757);
        assert!(matches!(check(&link), Err(Untrusted::Anybody(at)) if at == place.0));
        place.set(&place.0, 0o755);
        way.set(&way.0, 0o757);
        assert!(matches!(check(&link), Err(Untrusted::Anybody(at)) if at == way.0));
        way.set(&way.0, 0o1777);
        check(&link).unwrap();
        std::os::unix::fs::lchown(&link, Some(1234), None).unwrap();
        assert!(matches!(check(&link), Err(Untrusted::Owner { path, owner: 1234 }) if path == link));
    }

    #[test]
    fn where_files_and_links_may_be_replaced_is_known() {
        let (place, way) = (Place::new("target"), Place::new("way"));
        symlink(&place.0, way.0.join("away")).unwrap();
        symlink("away/inner/rules.yaml", way.0.join("rules.yaml")).unwrap();
        let inner = place.0.join("inner");
        assert_eq!(directories(&way.0.join("rules.yaml")), [way.0.clone(), way.0.clone(), inner]);
        // As in a container: nothing in the root directory but the file itself, and what has a directory of its own.
        assert_eq!(directories(Path::new("/proc/version")), [PathBuf::from("/proc")]);
        assert!(directories(Path::new("/no-such-file")).is_empty());
        // A link to ../proc/self/mounts, which leads away from a directory at the top.
        assert!(!directories(Path::new("/etc/mtab")).contains(&PathBuf::from("/etc")));
    }

    #[test]
    fn a_relative_way_and_a_chain_of_links_are_followed() {
        let place = Place::new("chain");
        // As in a volume of Kubernetes: rules.yaml -> ..data/rules.yaml, ..data -> a directory with a date.
        fs::rename(place.0.join("inner"), place.0.join("..2026_01")).unwrap();
        symlink("..2026_01", place.0.join("..data")).unwrap();
        symlink("..data/../..data/rules.yaml", place.0.join("rules.yaml")).unwrap();
        check(&place.0.join("rules.yaml")).unwrap();
        place.set(Path::new("..2026_01"), 0o777);
        assert!(matches!(check(&place.0.join("rules.yaml")), Err(Untrusted::Anybody(_))));
    }
}
