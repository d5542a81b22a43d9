//! Each server's configuration and the script that starts it.
//!
//! The scripts run in a mount namespace of their own, so the account files that they put in
//! place of the machine's are seen by that one server only.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::super::net::Net;
use super::super::scratch::Scratch;
use super::super::{Family, Fault, unpacked};
use super::Server;

/// Who logs in everywhere.
pub const USER: &str = "lab";
pub const PASSWORD: &str = "lab-password";

/// `PASSWORD` in the form that account files want (MD5 crypt, salt `labsalt`).
const HASH: &str = "$1$labsalt$O7WRgOUj86gqyTsJCzyaP.";

/// The user's number, where the namespace that we are in knows it.
const UID: u32 = 10021;

/// Writes what the server needs, the commands that it has to refuse among it, and gives the script that starts it.
pub fn write(server: Server, family: Family, refused: &[&str], folder: &Scratch) -> Result<PathBuf, Fault> {
    let root = unpacked();
    let (dir, uid) = (folder.path().display(), uid());
    let command = match server {
        Server::Vsftpd => {
            fs::create_dir(folder.join("empty"))?;
            put(&folder.join("vsftpd.conf"), &vsftpd(folder.path(), refused), 0o600)?;
            format!("{}/usr/sbin/vsftpd {dir}/vsftpd.conf", root.display())
        }
        Server::Proftpd => {
            put(&folder.join("users"), &format!("{USER}:{HASH}:{uid}:{uid}::{dir}/home:/bin/sh\n"), 0o600)?;
            put(&folder.join("proftpd.conf"), &proftpd(folder.path(), &root, family, refused), 0o600)?;
            format!("{}/usr/sbin/proftpd --nodaemon --config {dir}/proftpd.conf", root.display())
        }
        Server::PureFtpd => {
            // What it can be brought to refuse: passive mode as a whole, or EPSV on IPv4.
            let limit = match (refused.contains(&"PASV"), refused.contains(&"EPSV")) {
                (true, true) => "--natmode",
                (false, true) => "--brokenclientscompatibility",
                (_, false) => "",
            };
            format!(
                "{}/usr/sbin/pure-ftpd --login pam --dontresolve --noanonymous --minuid 0 \
                 --passiveportrange 30000:30999 --pidfile {dir}/pid {limit}",
                root.display()
            )
        }
        // One family at a time. It goes to the background by itself, and the script stays.
        Server::Inetutils => {
            let only = if family == Family::V4 { "--ipv4" } else { "--ipv6" };
            format!("{}/usr/sbin/ftpd --daemon {only}\nexec sleep infinity", root.display())
        }
        Server::Pyftpdlib => {
            let program = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/lab/server/pyftpdlib_serve.py");
            let (python, verbs) = (root.join("usr/lib/python3/dist-packages"), refused.join(" "));
            format!("PYTHONPATH={} {PYTHON} {program} {USER} {PASSWORD} {dir}/home {verbs}", python.display())
        }
    };
    let script = folder.join("start");
    put(&script, &format!("{}{command}\n", accounts(folder, uid)?), 0o755)?;
    Ok(script)
}

/// Debian's own Python: its packages are no use to another version.
const PYTHON: &str = "/usr/bin/python3";

/// Account files with our user in them, and PAM services that let him in; gives the commands
/// that put them in place.
fn accounts(folder: &Scratch, uid: u32) -> Result<String, Fault> {
    let dir = folder.path().display();
    let pam = folder.join("pam.d");
    fs::create_dir(&pam)?;
    for service in ["ftp", "vsftpd", "pure-ftpd", "other"] {
        let permit = ["auth", "account", "session", "password"].map(|kind| format!("{kind} required pam_permit.so\n"));
        put(&pam.join(service), &permit.concat(), 0o644)?;
    }
    let account = format!("{USER}:x:{uid}:{uid}::{dir}/home:/bin/sh\n");
    put(&folder.join("passwd"), &format!("{account}{}", fs::read_to_string("/etc/passwd")?), 0o644)?;
    put(&folder.join("group"), &format!("{USER}:x:{uid}:\n{}", fs::read_to_string("/etc/group")?), 0o644)?;
    put(&folder.join("shadow"), &format!("{USER}:{HASH}:19000:0:99999:7:::\n"), 0o600)?;
    let library = format!("usr/lib/{}-linux-gnu", std::env::consts::ARCH);
    let root = unpacked();
    let mounts = ["passwd", "group", "shadow", "pam.d"].map(|f| format!("mount --bind {dir}/{f} /etc/{f}\n"));
    Ok(format!(
        "{}mount -t tmpfs none /run\nchown -R {uid}:{uid} {dir}/home\nexport LD_LIBRARY_PATH={root}/{library}\n",
        mounts.concat(),
        root = root.display()
    ))
}

fn vsftpd(folder: &Path, refused: &[&str]) -> String {
    let (mut limits, mut denied) = (String::new(), refused.to_vec());
    // A mode as a whole has a word of its own.
    for (word, verbs) in [("pasv_enable", ["PASV", "EPSV"]), ("port_enable", ["PORT", "EPRT"])] {
        if verbs.iter().all(|verb| denied.contains(verb)) {
            denied.retain(|verb| !verbs.contains(verb));
            limits += &format!("{word}=NO\n");
        }
    }
    if !denied.is_empty() {
        limits += &format!("cmds_denied={}\n", denied.join(","));
    }
    format!(
        "listen_ipv6=YES
background=NO
anonymous_enable=NO
local_enable=YES
write_enable=YES
local_umask=022
connect_from_port_20=YES
pasv_min_port=30000
pasv_max_port=30999
pam_service_name=vsftpd
secure_chroot_dir={}/empty
nopriv_user=nobody
seccomp_sandbox=NO
{limits}",
        folder.display()
    )
}

/// What any ProFTPD of the lab does without: it delays nobody, asks nobody and writes nothing down.
pub const PROFTPD_ALONE: &str = "ControlsEngine off
DelayEngine off
DelayTable none
SystemLog none
TransferLog none
WtmpLog off
UseReverseDNS off
AuthPAM off
AuthOrder mod_auth_file.c
User nobody
Group nogroup
";

fn proftpd(folder: &Path, root: &Path, family: Family, refused: &[&str]) -> String {
    let limits =
        if refused.is_empty() { String::new() } else { format!("<Limit {}>\nDenyAll\n</Limit>\n", refused.join(" ")) };
    let modules = if root.join("usr/lib/proftpd/mod_copy.so").exists() { "LoadModule mod_copy.c\n" } else { "" };
    format!(
        "ServerName lab
ServerType standalone
DefaultAddress {address}
DefaultServer on
UseIPv6 on
Port 21
ModulePath {root}/usr/lib/proftpd
PidFile {dir}/pid
ScoreboardFile {dir}/scoreboard
{modules}{PROFTPD_ALONE}AuthUserFile {dir}/users
RequireValidShell off
PassivePorts 30000 30999
AllowOverwrite on
AllowRetrieveRestart on
AllowStoreRestart on
{limits}",
        address = Net::server_address(family),
        root = root.display(),
        dir = folder.display()
    )
}

fn put(path: &Path, text: &str, mode: u32) -> Result<(), Fault> {
    fs::write(path, text)?;
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(mode))?)
}

/// Whether there is a user beside root that a server can become; most want one.
pub fn has_users() -> bool {
    uid() == UID
}

/// Our user's number, or root's where a user namespace knows no other.
fn uid() -> u32 {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let known = map.lines().any(|line| {
        let mut numbers = line.split_whitespace().filter_map(|n| n.parse::<u32>().ok());
        let (first, _, count) = (numbers.next(), numbers.next(), numbers.next());
        first.zip(count).is_some_and(|(first, count)| (first..first.saturating_add(count)).contains(&UID))
    });
    if known { UID } else { 0 }
}
