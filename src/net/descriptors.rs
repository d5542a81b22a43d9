//! File descriptors that the process was started with.
#![allow(unsafe_code, reason = "no library closes descriptors that nobody owns")]

/// Closes every descriptor above standard error that the parent process left open: the gate does not use it. Call this
/// before anything is opened. Does nothing before Linux 5.9, which has no such call.
pub fn close_inherited() {
    const FIRST: libc::c_uint = 3;
    // SAFETY: the call takes numbers and touches no memory. Nothing has been opened yet, so that no value owns a descriptor
    // of this range, and none can be closed twice or used afterwards.
    let _not_known = unsafe { libc::syscall(libc::SYS_close_range, FIRST, libc::c_uint::MAX, 0) };
}
