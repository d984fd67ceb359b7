//! What `secure-rdma run` sets in the environment, and what holds without.

use crate::backend::Mtu;
use std::env;
use std::ffi::OsString;
use std::net::IpAddr;

/// The devices' names, with commas between.
pub(crate) const DEVICE_NAME: &str = "SECURE_RDMA_DEVICE_NAME";
/// The addresses that the devices use, in the same order.
pub(crate) const ADDRESS: &str = "SECURE_RDMA_ADDRESS";
/// How packets are to be sealed, if they are: what the agent is told.
pub(crate) const SEAL: &str = "SECURE_RDMA_SEAL";
/// The largest path MTU, in bytes.
const MTU: &str = "SECURE_RDMA_MTU";
/// Whether counters are shown when a process ends.
const STATISTICS: &str = "SECURE_RDMA_STATISTICS";
/// A file that what passes is appended to.
const CAPTURE: &str = "SECURE_RDMA_CAPTURE";

/// The name of the first device, and the beginning of the others', if nobody says otherwise.
const DEFAULT_NAME: &str = "rocev2_";

/// The devices that programs see.
pub(crate) struct Devices {
    names: Vec<String>,
    addresses: Vec<Option<IpAddr>>,
}

/// What the environment says of devices.
pub(crate) fn devices() -> Devices {
    Devices::parse(env::var(DEVICE_NAME).ok().as_deref(), env::var(ADDRESS).ok().as_deref())
}

impl Devices {
    /// An address that can't be read is none: the device takes the first that isn't loopback.
    fn parse(names: Option<&str>, addresses: Option<&str>) -> Self {
        let addresses: Vec<_> =
            addresses.unwrap_or_default().split(',').map(|text| text.parse().ok()).collect();
        let names = names.unwrap_or_default().split(',').map(str::to_owned).take(addresses.len()).collect();
        Self { names, addresses }
    }

    /// How many there are; one at least.
    pub(crate) fn count(&self) -> usize {
        self.addresses.len()
    }

    /// The name of one; a name that no device could have counts as none.
    pub(crate) fn name(&self, index: usize) -> String {
        let fits = |name: &&String| {
            !name.is_empty()
                && name.len() < rdma_verbs_sys::IBV_SYSFS_NAME_MAX
                && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'))
                && !name.starts_with('.')
        };
        self.names.get(index).filter(fits).cloned().unwrap_or_else(|| format!("{DEFAULT_NAME}{index}"))
    }

    /// The address that one is to use, if somebody chose it.
    pub(crate) fn address(&self, index: usize) -> Option<IpAddr> {
        self.addresses.get(index).copied().flatten()
    }
}

/// How packets are to be sealed; `None` if they aren't. What can't be read is something all the same: the agent refuses
/// it.
pub(crate) fn seal() -> Option<String> {
    env::var_os(SEAL).map(|settings| settings.to_string_lossy().into_owned())
}

/// The largest path MTU to use, if somebody chose one.
pub(crate) fn mtu() -> Option<Mtu> {
    Mtu::from_bytes(env::var(MTU).ok()?.parse().ok()?)
}

/// Whether counters are to be shown when the process ends.
pub(crate) fn statistics() -> bool {
    env::var_os(STATISTICS).is_some_and(|value| !value.is_empty())
}

/// The file that what passes is to be appended to.
pub(crate) fn capture() -> Option<OsString> {
    env::var_os(CAPTURE).filter(|path| !path.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_device_for_each_address_and_each_has_a_name() {
        let devices = Devices::parse(Some("mlx5_0,mlx5_1"), Some("127.0.0.1,::1"));
        assert_eq!(devices.count(), 2);
        assert_eq!((devices.name(1), devices.address(1)), ("mlx5_1".into(), Some("::1".parse().unwrap())));
        let devices = Devices::parse(Some("../x"), Some("127.0.0.1,x"));
        assert_eq!((devices.name(0), devices.name(1)), ("rocev2_0".into(), "rocev2_1".into()));
        assert_eq!(devices.address(1), None);
        let devices = Devices::parse(Some("a,b"), None);
        assert_eq!((devices.count(), devices.name(0), devices.address(0)), (1, "a".into(), None));
        assert_eq!(Devices::parse(None, None).name(0), "rocev2_0");
    }
}
