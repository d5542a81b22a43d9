//! What the process gives up before it serves anybody.

use rustix::io;
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set, remove_capability_from_bounding_set,
    set_capabilities, set_no_new_privs,
};

/// Changes nftables, and has addresses that are not this machine's.
const ADDRESSES: CapabilitySet = CapabilitySet::NET_ADMIN;
/// Has ports under 1024.
const PORTS: CapabilitySet = CapabilitySet::NET_BIND_SERVICE;
/// Has addresses that are not this machine's, where the first one is missing.
const ONLY_ADDRESSES: CapabilitySet = CapabilitySet::NET_RAW;

/// Gives up every capability but those that serving may need, for good: neither this process nor a program that it would
/// start can have them back. Holds for the calling thread and those that it starts afterwards.
///
/// # Errors
/// What the kernel says; some of it may be done then.
pub(super) fn give_up() -> io::Result<()> {
    let sets = capabilities(None)?;
    let held = sets.permitted;
    let needed = if held.contains(ADDRESSES) { ADDRESSES | PORTS } else { ONLY_ADDRESSES | PORTS };
    let kept = held & needed;
    if held.contains(CapabilitySet::SETPCAP) {
        for capability in (CapabilitySet::all() - kept).iter() {
            // One that this kernel does not know cannot be had.
            let _unknown = remove_capability_from_bounding_set(capability);
        }
    }
    clear_ambient_capability_set()?;
    set_no_new_privs(true)?;
    let wanted = CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
    // A sandbox may forbid to change what is right already.
    if sets != wanted { set_capabilities(None, wanted) } else { Ok(()) }
}
