//! seccomp: of all system calls, only those that the gate makes.
//!
//! Three filters, of which the kernel takes the strictest answer: what is not on the list fails with EPERM; what only an
//! intruder would call ends the process; clone3 fails with ENOSYS, because a filter cannot see its flags, and then the C
//! library uses clone.

use std::collections::BTreeMap;
use std::io;

use libc::{c_int, c_long};
use seccompiler::{
    BackendError, BpfProgram, Error, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, apply_filter_all_threads,
};

use super::Protection;

/// Calls that are allowed whatever their arguments are.
const ALLOWED: &[c_long] = &[
    // Bytes. What moves data comes without conditions: the kernel then need not run the filter for it.
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_pread64,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_pwrite64,
    libc::SYS_splice,
    libc::SYS_lseek,
    libc::SYS_close,
    libc::SYS_close_range,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_fcntl,
    libc::SYS_pipe2,
    // Sockets.
    libc::SYS_socketpair,
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_connect,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_sendmmsg,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_recvmmsg,
    libc::SYS_shutdown,
    // Readiness.
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_eventfd2,
    libc::SYS_signalfd4,
    libc::SYS_timerfd_create,
    libc::SYS_timerfd_settime,
    libc::SYS_timerfd_gettime,
    libc::SYS_ppoll,
    libc::SYS_pselect6,
    // Files, to look at.
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_statfs,
    libc::SYS_fstatfs,
    libc::SYS_getdents64,
    libc::SYS_getcwd,
    libc::SYS_readlinkat,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_fadvise64,
    // Memory.
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_membarrier,
    // Threads.
    libc::SYS_clone3,
    libc::SYS_futex,
    libc::SYS_set_robust_list,
    libc::SYS_get_robust_list,
    libc::SYS_rseq,
    libc::SYS_set_tid_address,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_getcpu,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_restart_syscall,
    // Signals.
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    // Time, chance, and who we are.
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_getrandom,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_getrusage,
    libc::SYS_times,
    libc::SYS_sysinfo,
    libc::SYS_uname,
    libc::SYS_capget,
];

/// What other processors have only newer calls for.
#[cfg(target_arch = "x86_64")]
const ALSO_ALLOWED: &[c_long] = &[
    libc::SYS_poll,
    libc::SYS_select,
    libc::SYS_epoll_wait,
    libc::SYS_dup2,
    libc::SYS_stat,
    libc::SYS_lstat,
    libc::SYS_access,
    libc::SYS_readlink,
    libc::SYS_time,
    libc::SYS_getrlimit,
];
#[cfg(not(target_arch = "x86_64"))]
const ALSO_ALLOWED: &[c_long] = &[];

/// Calls that nothing in this program makes, and no library of it tries: a process that makes one has been taken over.
const FATAL: &[c_long] = &[
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_setns,
    libc::SYS_unshare,
    libc::SYS_open_by_handle_at,
];

/// What is asked of a file descriptor: to be closed at exec, not to wait, how much there is to read, whether it is a terminal.
const IOCTLS: [libc::Ioctl; 4] = [libc::FIOCLEX, libc::FIONBIO, libc::FIONREAD, libc::TCGETS];

/// Names a range of memory, which newer C libraries do.
const PR_SET_VMA: c_int = 0x5356_4d41;

/// Why there is no filter.
#[derive(Debug, thiserror::Error)]
pub(super) enum SeccompError {
    /// The filter cannot be made.
    #[error("the filter is wrong: {0}")]
    Backend(#[from] BackendError),
    /// The kernel does not take it.
    #[error(transparent)]
    Install(#[from] Error),
}

/// Leaves the process the system calls that it needs.
pub(super) fn restrict() -> Result<Protection, SeccompError> {
    let Ok(arch) = TargetArch::try_from(std::env::consts::ARCH) else {
        return Ok(Protection::Missing(format!("not supported on {}", std::env::consts::ARCH)));
    };
    // The one that allows little comes last: it does not allow more filters.
    let programs = [without_clone3(arch)?, fatal(arch)?, allowed(arch)?];
    for program in &programs {
        match apply_filter_all_threads(program) {
            Ok(()) => {}
            Err(Error::Prctl(error) | Error::Seccomp(error)) if is_missing(&error) => {
                return Ok(Protection::Missing(format!("not in this kernel, or not in this container: {error}")));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Protection::On("on".to_owned()))
}

/// What a kernel without seccomp says, or a container whose own filter does not have it.
fn is_missing(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EINVAL | libc::EPERM | libc::EACCES))
}

fn allowed(arch: TargetArch) -> Result<BpfProgram, BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        ALLOWED.iter().chain(ALSO_ALLOWED).map(|call| (*call, Vec::new())).collect();
    let new_namespaces = libc::CLONE_NEWNS
        | libc::CLONE_NEWCGROUP
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWUSER
        | libc::CLONE_NEWPID
        | libc::CLONE_NEWNET;
    let not_writing = |flags| masked(flags, libc::O_ACCMODE | libc::O_CREAT | libc::O_TRUNC, 0);
    rules.insert(libc::SYS_socket, sockets()?);
    rules.insert(libc::SYS_clone, vec![all([masked(0, libc::CLONE_THREAD | new_namespaces, libc::CLONE_THREAD)])?]);
    rules.insert(libc::SYS_openat, vec![all([not_writing(2)])?]);
    #[cfg(target_arch = "x86_64")]
    rules.insert(libc::SYS_open, vec![all([not_writing(1)])?]);
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        rules.insert(call, vec![all([masked(2, libc::PROT_EXEC, 0)])?]);
    }
    let ioctls: Result<Vec<SeccompRule>, BackendError> =
        IOCTLS.iter().map(|request| all([condition(1, SeccompCmpOp::Eq, u64::from(*request as u32))])).collect();
    rules.insert(libc::SYS_ioctl, ioctls?);
    let names = [libc::PR_SET_NAME, PR_SET_VMA].map(|option| all([equal(0, option)]));
    rules.insert(libc::SYS_prctl, names.into_iter().collect::<Result<_, _>>()?);
    // Limits and signals of this process alone. The first is how abort() ends it.
    let own = u64::from(std::process::id());
    rules.insert(libc::SYS_tgkill, vec![all([condition(0, SeccompCmpOp::Eq, own)])?]);
    rules.insert(libc::SYS_prlimit64, vec![all([equal(0, 0)])?]);
    program(rules, SeccompAction::Errno(libc::EPERM.unsigned_abs()), SeccompAction::Allow, arch)
}

/// TCP and UDP, netfilter and routes, and the socket that systemd listens at.
fn sockets() -> Result<Vec<SeccompRule>, BackendError> {
    // The type shares its number with flags.
    const TYPE: c_int = 0xf;
    let mut rules = vec![all([equal(0, libc::AF_UNIX)])?];
    for family in [libc::AF_INET, libc::AF_INET6] {
        for kind in [libc::SOCK_STREAM, libc::SOCK_DGRAM] {
            rules.push(all([equal(0, family), masked(1, TYPE, kind)])?);
        }
    }
    for protocol in [libc::NETLINK_NETFILTER, libc::NETLINK_ROUTE] {
        rules.push(all([equal(0, libc::AF_NETLINK), equal(2, protocol)])?);
    }
    Ok(rules)
}

fn fatal(arch: TargetArch) -> Result<BpfProgram, BackendError> {
    let rules = FATAL.iter().map(|call| (*call, Vec::new())).collect();
    program(rules, SeccompAction::Allow, SeccompAction::KillProcess, arch)
}

fn without_clone3(arch: TargetArch) -> Result<BpfProgram, BackendError> {
    let rules = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    program(rules, SeccompAction::Allow, SeccompAction::Errno(libc::ENOSYS.unsigned_abs()), arch)
}

fn program(
    rules: BTreeMap<i64, Vec<SeccompRule>>,
    other: SeccompAction,
    matching: SeccompAction,
    arch: TargetArch,
) -> Result<BpfProgram, BackendError> {
    SeccompFilter::new(rules, other, matching, arch)?.try_into()
}

/// A rule that holds where every condition does.
fn all<const N: usize>(conditions: [Result<SeccompCondition, BackendError>; N]) -> Result<SeccompRule, BackendError> {
    SeccompRule::new(conditions.into_iter().collect::<Result<_, _>>()?)
}

/// Conditions look at 32 bits of an argument: what they are about is an `int` to the kernel.
fn condition(argument: u8, operator: SeccompCmpOp, value: u64) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value)
}

fn equal(argument: u8, value: c_int) -> Result<SeccompCondition, BackendError> {
    condition(argument, SeccompCmpOp::Eq, u64::from(value.unsigned_abs()))
}

/// Of these bits, exactly those of `value` are set.
fn masked(argument: u8, mask: c_int, value: c_int) -> Result<SeccompCondition, BackendError> {
    condition(argument, SeccompCmpOp::MaskedEq(u64::from(mask.unsigned_abs())), u64::from(value.unsigned_abs()))
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
    use std::process::Command;

    use super::*;

    const CHILD: &str = "FTPGATE_TEST_SECCOMP";

    /// The filters are for good and for every thread, so a process of its own has them: this test once more.
    #[test]
    fn what_the_gate_does_not_need_is_refused() {
        if std::env::var_os(CHILD).is_none() {
            let name = "cli::sandbox::seccomp::tests::what_the_gate_does_not_need_is_refused";
            let mut child = Command::new(std::env::current_exe().unwrap());
            let output = child.args(["--exact", name, "--nocapture"]).env(CHILD, "1").output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.signal(), Some(libc::SIGSYS), "{said}");
            return;
        }
        assert!(matches!(restrict().unwrap(), Protection::On(_)));
        let denied = |error: io::Error| assert_eq!(error.raw_os_error(), Some(libc::EPERM), "{error}");
        let not_for = |result: nix::Result<()>| assert_eq!(result, Err(nix::errno::Errno::EPERM));
        // What a gate does.
        std::thread::spawn(|| std::fs::read("Cargo.toml").unwrap()).join().unwrap();
        std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        rustix::thread::set_name(c"a name").unwrap();
        // What it does not.
        denied(File::create("target/never").unwrap_err());
        denied(File::options().append(true).open("Cargo.toml").unwrap_err());
        denied(std::fs::remove_file("target/never").unwrap_err());
        denied(Command::new("true").status().unwrap_err());
        denied(rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::Dumpable).unwrap_err().into());
        denied(
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::WINCH)
                .unwrap_err()
                .into(),
        );
        denied(socket2::Socket::new(socket2::Domain::PACKET, socket2::Type::RAW, None).unwrap_err());
        denied(
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::RAW, Some(socket2::Protocol::ICMPV4))
                .unwrap_err(),
        );
        not_for(nix::unistd::setresuid(nix::unistd::Uid::from_raw(1), 1.into(), 1.into()));
        // And what ends it.
        denied(Command::new("true").exec());
    }
}
