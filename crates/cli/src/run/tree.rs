//! The tree in which programs find the devices outside of libibverbs: what the kernel would show of them in `/sys` and
//! `/dev`. It agrees with what the library says of them.

use super::devices::Seen;
use crate::failure::Failure;
use rocev2_device::Gid;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// Characters of a device's name.
pub(crate) const LONGEST_NAME: usize = 63;

/// Whether a device can have that name: it is a file's, and a word.
pub(crate) fn is_device_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= LONGEST_NAME
        && !name.starts_with('.')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'))
}

/// The root of the tree, made now unless one for the same devices is there.
pub(crate) fn make(place: &Path, devices: &[Seen]) -> Result<PathBuf, Failure> {
    let mut hasher = DefaultHasher::new();
    env!("CARGO_PKG_VERSION").hash(&mut hasher);
    for Seen { name, interface } in devices {
        (name, &interface.name, interface.address, interface.mtu).hash(&mut hasher);
    }
    let root = place.join(format!("tree-{:016x}", hasher.finish()));
    if root.is_dir() {
        return Ok(root);
    }
    let failed = |error: io::Error| Failure::Other(format!("{}: {error}", root.display()));
    // Whole or not at all: other programs may look at it meanwhile.
    let draft = tempfile::Builder::new().prefix("tree-").tempdir_in(place).map_err(failed)?;
    for (index, device) in devices.iter().enumerate() {
        fill(draft.path(), index, device).map_err(failed)?;
    }
    match fs::rename(draft.path(), &root) {
        Ok(()) => {
            // It has another name by now.
            let _ = draft.keep();
        }
        // Another run was faster.
        Err(_) if root.is_dir() => {}
        Err(error) => return Err(failed(error)),
    }
    Ok(root)
}

/// Adds a device.
fn fill(root: &Path, index: usize, Seen { name, interface }: &Seen) -> io::Result<()> {
    let verbs = format!("uverbs{index}");
    let device = root.join("sys/devices/virtual/infiniband").join(name);
    let write = |file: &str, text: &str| {
        let path = device.join(file);
        fs::create_dir_all(path.parent().unwrap_or(&device))?;
        fs::write(path, format!("{text}\n"))
    };
    let gid = Gid::for_endpoint(SocketAddr::new(interface.address, rocev2::UDP_PORT)).to_string();
    for (file, text) in [
        ("node_type", "1: CA"),
        ("node_desc", "secure-rdma"),
        ("fw_ver", env!("CARGO_PKG_VERSION")),
        ("hca_type", "rocev2"),
        ("board_id", "rocev2"),
        ("ports/1/state", "4: ACTIVE"),
        ("ports/1/phys_state", "5: LinkUp"),
        ("ports/1/rate", "100 Gb/sec (4X EDR)"),
        ("ports/1/link_layer", "Ethernet"),
        ("ports/1/lid", "0x0"),
        ("ports/1/sm_lid", "0x0"),
        ("ports/1/lid_mask_count", "0"),
        ("ports/1/sm_sl", "0"),
        ("ports/1/cap_mask", "0x04010000"),
        ("ports/1/gids/0", &gid),
        ("ports/1/gid_attrs/types/0", "RoCE v2"),
        ("ports/1/gid_attrs/ndevs/0", &interface.name),
        ("ports/1/pkeys/0", "0xffff"),
    ] {
        write(file, text)?;
    }
    for (file, text) in
        [("ibdev", name.as_str()), ("abi_version", "1"), ("dev", &format!("231:{}", 192 + index))]
    {
        write(&format!("infiniband_verbs/{verbs}/{file}"), text)?;
    }
    fs::create_dir_all(device.join("ports/1/hw_counters"))?;
    // Of which network interface the device is: where programs find the address to connect to.
    fs::create_dir_all(device.join("device/net").join(&interface.name))?;
    let classes = root.join("sys/class");
    fs::create_dir_all(classes.join("infiniband"))?;
    symlink(Path::new("../../devices/virtual/infiniband").join(name), classes.join("infiniband").join(name))?;
    fs::create_dir_all(classes.join("infiniband_verbs"))?;
    fs::write(classes.join("infiniband_verbs/abi_version"), "6\n")?;
    let own = Path::new("../../devices/virtual/infiniband").join(name).join("infiniband_verbs").join(&verbs);
    symlink(own, classes.join("infiniband_verbs").join(&verbs))?;
    let devices = root.join("dev/infiniband");
    fs::create_dir_all(&devices)?;
    // A character device that can be read and written is all that programs ask for.
    symlink("/dev/null", devices.join(verbs))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rocev2_device::host::Interface;

    #[test]
    fn a_name_is_a_word_and_leads_nowhere_else() {
        for good in ["mlx5_0", "rocev2_0", "a", "a.b-c", &"x".repeat(LONGEST_NAME)] {
            assert!(is_device_name(good), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "a b", "ä", "a\n", &"x".repeat(LONGEST_NAME + 1)] {
            assert!(!is_device_name(bad), "{bad}");
        }
    }

    #[test]
    fn the_tree_shows_the_device_as_the_kernel_would() {
        let place = tempfile::tempdir().unwrap();
        let device = |name: &str, address: &str| {
            let address = address.parse().unwrap();
            Seen {
                name: name.into(),
                interface: Interface { name: "eth9".into(), index: 9, address, mtu: 1500 },
            }
        };
        let devices = [device("mlx5_0", "192.0.2.7"), device("mlx5_1", "192.0.2.8")];
        let root = make(place.path(), &devices).unwrap();
        assert_eq!(make(place.path(), &devices).unwrap(), root);
        assert_ne!(make(place.path(), &devices[..1]).unwrap(), root);
        let class = root.join("sys/class/infiniband/mlx5_0");
        let read = |file: &str| fs::read_to_string(class.join(file)).unwrap();
        assert_eq!(read("ports/1/gids/0"), "0000:0000:0000:0000:0000:ffff:c000:0207\n");
        assert_eq!(read("ports/1/gid_attrs/types/0"), "RoCE v2\n");
        assert!(class.join("../..").canonicalize().is_ok());
        assert!(class.join("device/net/eth9").is_dir());
        let verbs = root.join("sys/class/infiniband_verbs/uverbs0/ibdev");
        assert_eq!(fs::read_to_string(verbs).unwrap(), "mlx5_0\n");
        let verbs = root.join("sys/class/infiniband_verbs/uverbs1");
        assert_eq!(fs::read_to_string(verbs.join("ibdev")).unwrap(), "mlx5_1\n");
        assert_eq!(fs::read_to_string(verbs.join("dev")).unwrap(), "231:193\n");
        assert!(
            fs::OpenOptions::new().read(true).write(true).open(root.join("dev/infiniband/uverbs0")).is_ok()
        );
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 2, "nothing else is left behind");
    }
}
