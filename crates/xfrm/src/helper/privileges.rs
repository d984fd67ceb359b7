//! Rights, and giving them up.

use rustix::io::Errno;
use rustix::process::{DumpableBehavior, getuid, set_dumpable_behavior};
use rustix::process::{Gid, Uid};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities, set_keep_capabilities, set_no_new_privs,
    set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};

/// What setting up states and policies needs.
const RIGHT: CapabilitySet = CapabilitySet::NET_ADMIN;

/// The user that a helper of root's becomes: `nobody`'s number, as it is everywhere.
const NOBODY: u32 = 65534;

/// Whether this thread has the right to set up states and policies (`CAP_NET_ADMIN`).
#[must_use]
pub fn has_right() -> bool {
    capabilities(None).is_ok_and(|sets| sets.effective.contains(RIGHT))
}

/// Gives up the right, for good: neither this thread nor what it starts has it any more. Other threads have it still.
pub(super) fn give_up_right() -> Result<(), Errno> {
    // Without this a program that root starts has it again. It takes another right, which not all have: they start
    // none that get it.
    let _ = remove_capability_from_bounding_set(RIGHT);
    let sets = capabilities(None)?;
    set_capabilities(
        None,
        CapabilitySets {
            effective: sets.effective - RIGHT,
            permitted: sets.permitted - RIGHT,
            inheritable: sets.inheritable - RIGHT,
        },
    )
}

/// Gives up everything but the right.
pub(super) fn keep_only_right() -> Result<(), Errno> {
    set_no_new_privs(true)?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    if getuid().is_root() {
        set_keep_capabilities(true)?;
        let (nobody, group) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
        set_thread_groups(&[])?;
        set_thread_res_gid(group, group, group)?;
        set_thread_res_uid(nobody, nobody, nobody)?;
    }
    clear_ambient_capability_set()?;
    let only = CapabilitySets { effective: RIGHT, permitted: RIGHT, inheritable: CapabilitySet::empty() };
    set_capabilities(None, only)
}
