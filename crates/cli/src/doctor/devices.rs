//! libibverbs, its devices, and whether this user may use them.

use super::finding::Finding;
use super::system::System;
use rdma_verbs::{Device, DeviceSelector, Error};
use std::fs::OpenOptions;

/// A name that no device has: what libibverbs says of it tells whether it is there.
const NO_DEVICE: &str = "doctor-asks";

pub(super) fn check(system: &System) -> Vec<Finding> {
    let mut found = vec![library()];
    found.extend(permissions(system));
    for selector in rdma_verbs::devices() {
        let name = selector.to_string();
        found.push(match Device::open(&selector) {
            Ok(device) => Finding::ok("device", format!("{name}, {}", device.description())),
            Err(error) => {
                let cost = format!("{name} can't be used");
                Finding::costs("device", error.to_string(), cost, "--device embedded needs none")
            }
        });
    }
    found
}

fn library() -> Finding {
    const CHECK: &str = "libibverbs";
    let asked = DeviceSelector::Named { name: NO_DEVICE.into(), port: None, gid_index: None };
    match Device::open(&asked) {
        Err(Error::NoLibrary { reason, .. }) => Finding::costs(
            CHECK,
            reason.to_string(),
            "network cards and Soft-RoCE can't be used; the embedded device can",
            "apt-get install libibverbs1 ibverbs-providers",
        ),
        Err(Error::NoDevices { .. }) => Finding::ok(CHECK, "it is there, and finds no device"),
        Err(Error::NoSuchDevice { have, .. }) => Finding::ok(CHECK, format!("it finds {have}")),
        Ok(_) | Err(_) => Finding::ok(CHECK, "it is there"),
    }
}

/// The device files that this user can't open.
fn permissions(system: &System) -> Vec<Finding> {
    let Ok(entries) = std::fs::read_dir(system.path("dev/infiniband")) else { return Vec::new() };
    let files = entries.flatten().map(|entry| entry.path());
    let devices = files
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("uverbs")));
    devices
        .filter_map(|path| {
            let error = OpenOptions::new().read(true).write(true).open(&path).err()?;
            let found = format!("{}: {error}", path.display());
            let cost = "the device behind it can't be used by this user";
            Some(Finding::costs("permissions", found, cost, format!("chmod 666 {}", path.display())))
        })
        .collect()
}
