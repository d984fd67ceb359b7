//! Which two devices the tests join.
//!
//! Without being told otherwise, two embedded ones on loopback. `SECURE_RDMA_ENDS` names others, so that the
//! same tests run on any pair of devices: two words of the form `DEVICE@IPV4@IPV6` or
//! `DEVICE@IPV4@IPV6@NAMESPACE`, where the namespace is a network namespace (`ip netns`) that the device is
//! opened in.

use rdma_verbs::{Device, DeviceSelector, GidEntry};
use rustix::fs::{Mode, OFlags, open};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::thread;

/// The variable that names the two places.
const VARIABLE: &str = "SECURE_RDMA_ENDS";

/// Where one end is.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    device: DeviceSelector,
    v4: IpAddr,
    v6: IpAddr,
    namespace: Option<String>,
}

impl Place {
    fn parse(word: &str) -> Self {
        let mut parts = word.split('@');
        let mut next = || parts.next().unwrap_or_else(|| panic!("{VARIABLE}: {word:?} lacks a part"));
        let device = next().parse().expect("a device's name");
        let [v4, v6] = [next(), next()].map(|address| address.parse().expect("an IP address"));
        Self { device, v4, v6, namespace: parts.next().map(str::to_owned) }
    }

    /// Whether the embedded device is there, or else one of libibverbs.
    pub(crate) fn is_embedded(&self) -> bool {
        matches!(self.device, DeviceSelector::Embedded { .. })
    }

    /// Opens the device, and one of its addresses.
    pub(crate) fn open(&self, v6: bool) -> (Arc<Device>, GidEntry) {
        let address = if v6 { self.v6 } else { self.v4 };
        let open = || {
            let device = Device::open(&self.device).unwrap_or_else(|error| panic!("{self:?}: {error}"));
            let gid = device.gid_for(address).unwrap_or_else(|error| panic!("{self:?}: {error}"));
            (device, gid)
        };
        match &self.namespace {
            None => open(),
            // A thread's sockets stay in the namespace that it was in when it made them.
            Some(namespace) => thread::scope(|scope| {
                let opened = scope.spawn(|| {
                    enter(namespace);
                    open()
                });
                opened.join().expect("the device opens")
            }),
        }
    }
}

/// Moves this thread into a network namespace.
fn enter(namespace: &str) {
    let path = format!("/var/run/netns/{namespace}");
    let file = open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).expect("the namespace exists");
    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).expect("it can be entered");
}

/// The places of the two ends.
pub(crate) fn places() -> [Place; 2] {
    let words = std::env::var(VARIABLE);
    let words = words.as_deref().unwrap_or("embedded@127.0.0.1@::1 embedded@127.0.0.1@::1");
    let places: Vec<_> = words.split_whitespace().map(Place::parse).collect();
    places.try_into().unwrap_or_else(|_| panic!("{VARIABLE} must name two places: {words:?}"))
}
