//! What `secure-rdma run` sets in the environment, and what holds without.

use std::env;
use std::net::IpAddr;

/// The device's name.
pub(crate) const DEVICE_NAME: &str = "SECURE_RDMA_DEVICE_NAME";
/// The address that the device uses.
pub(crate) const ADDRESS: &str = "SECURE_RDMA_ADDRESS";

/// How packets are to be sealed, if they are: what the agent is told.
pub(crate) const SEAL: &str = "SECURE_RDMA_SEAL";

/// The device's name if nobody says otherwise.
const DEFAULT_NAME: &str = "rocev2_0";

/// The device's name; a name that no device could have counts as none.
pub(crate) fn device_name() -> String {
    let fits = |name: &String| {
        !name.is_empty()
            && name.len() < rdma_verbs_sys::IBV_SYSFS_NAME_MAX
            && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'))
            && !name.starts_with('.')
    };
    env::var(DEVICE_NAME).ok().filter(fits).unwrap_or_else(|| DEFAULT_NAME.into())
}

/// How packets are to be sealed; `None` if they aren't. What can't be read is something all the same: the agent refuses
/// it.
pub(crate) fn seal() -> Option<String> {
    env::var_os(SEAL).map(|settings| settings.to_string_lossy().into_owned())
}

/// The address to use, if somebody chose one.
pub(crate) fn address() -> Option<IpAddr> {
    env::var(ADDRESS).ok()?.parse().ok()
}
