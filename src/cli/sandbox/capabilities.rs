//! Capabilities: of root's privileges, those that serving may need.

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

/// Those of `held` that the gate keeps.
pub(super) fn kept(held: CapabilitySet) -> CapabilitySet {
    let needed = if held.contains(ADDRESSES) { ADDRESSES | PORTS } else { ONLY_ADDRESSES | PORTS };
    held & needed
}

/// Gives up every capability but those that serving may need, for good: neither this process nor a program that it would
/// start can have them back. Answers with the names of those that are left.
///
/// # Errors
/// What the kernel says; some of it may be done then.
pub(super) fn give_up() -> std::io::Result<String> {
    let sets = capabilities(None)?;
    let kept = kept(sets.permitted);
    // Before the right to do so goes with the others.
    if sets.effective.contains(CapabilitySet::SETPCAP) {
        for capability in (CapabilitySet::all() - kept).iter() {
            // One that this kernel does not know cannot be had.
            let _unknown = remove_capability_from_bounding_set(capability);
        }
    }
    clear_ambient_capability_set()?;
    set_no_new_privs(true)?;
    let wanted = CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
    // A sandbox may forbid to change what is right already.
    if sets != wanted {
        set_capabilities(None, wanted)?;
    }
    let names: Vec<String> = kept.iter_names().map(|(name, _)| format!("CAP_{name}")).collect();
    Ok(if names.is_empty() { "none".to_owned() } else { names.join(" ") })
}
