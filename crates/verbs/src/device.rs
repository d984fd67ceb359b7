//! Devices.

use crate::channel::CompletionChannel;
use crate::completion::CompletionQueue;
use crate::domain::ProtectionDomain;
use crate::selector::DeviceSelector;
use crate::{Error, Gid};
use rocev2::Mtu;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

pub use device::{Attributes, DeviceEvent as Event};

/// A device that could be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceInfo {
    /// What to give to [`DeviceSelector`].
    pub name: String,
    /// What it is, for a person.
    pub description: String,
    /// Its addresses.
    pub gids: Vec<GidEntry>,
}

/// One entry of a device's GID table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GidEntry {
    /// Its index.
    pub index: usize,
    /// The IP address.
    pub address: IpAddr,
    /// The network interface.
    pub interface: String,
    /// The largest path MTU that fits the interface.
    pub mtu: Mtu,
    /// The GID and the UDP port that it receives on, once the address is in use.
    pub bound: Option<(Gid, u16)>,
}

/// Every device of this host.
///
/// # Errors
/// The host has no network address that could be used.
pub fn devices() -> Result<Vec<DeviceInfo>, Error> {
    let device = Device::open(&DeviceSelector::default())?;
    Ok(vec![DeviceInfo {
        name: device.name().to_string(),
        description: DESCRIPTION.into(),
        gids: device.gids(),
    }])
}

const DESCRIPTION: &str =
    "RoCEv2 in user space over UDP sockets; no RDMA hardware, kernel module or root needed";

/// An open device.
#[derive(Debug)]
pub struct Device {
    embedded: device::Device,
    name: DeviceSelector,
}

impl Device {
    /// Opens the device that `selector` names.
    ///
    /// # Errors
    /// There is none, or it can't be used.
    pub fn open(selector: &DeviceSelector) -> Result<Arc<Self>, Error> {
        let (name, config) = match selector {
            DeviceSelector::Auto => {
                (DeviceSelector::Embedded { address: None, port: None }, device::Config::default())
            }
            DeviceSelector::Embedded { address, port } => {
                (selector.clone(), device::Config { address: *address, port: *port })
            }
            DeviceSelector::Named(name) => return Err(Error::NoSuchDevice { asked: name.clone() }),
        };
        Ok(Arc::new(Self { embedded: device::Device::open(config)?, name }))
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &DeviceSelector {
        &self.name
    }

    /// What it can do.
    #[must_use]
    pub fn attributes(&self) -> Attributes {
        device::ATTRIBUTES
    }

    /// The GID table.
    #[must_use]
    pub fn gids(&self) -> Vec<GidEntry> {
        let entries = self.embedded.gids().into_iter().enumerate();
        entries
            .map(|(index, entry)| GidEntry {
                index,
                address: entry.address,
                interface: entry.interface,
                mtu: entry.mtu,
                bound: entry.bound,
            })
            .collect()
    }

    /// The GID table's entry for a local address, in use from now on: its GID and UDP port are set.
    ///
    /// # Errors
    /// The address isn't the device's, or its socket can't be had.
    pub fn gid_of(&self, address: IpAddr) -> Result<GidEntry, Error> {
        let index = self.embedded.gid_index(address)?;
        self.embedded.bind_gid(index)?;
        self.gids().into_iter().nth(index).ok_or(Error::NoGid(address))
    }

    /// A protection domain.
    ///
    /// # Errors
    /// None on the embedded device.
    pub fn protection_domain(self: &Arc<Self>) -> Result<Arc<ProtectionDomain>, Error> {
        Ok(Arc::new(ProtectionDomain::new(self.embedded.protection_domain(), Arc::clone(self))))
    }

    /// A completion channel.
    ///
    /// # Errors
    /// The process has no descriptor left.
    pub fn completion_channel(&self) -> Result<Arc<CompletionChannel>, Error> {
        Ok(Arc::new(CompletionChannel::new(self.embedded.completion_channel()?)))
    }

    /// A completion queue with room for `capacity` entries: as many as requests may be outstanding on all its queue pairs.
    ///
    /// # Errors
    /// The device has no queue of that size.
    pub fn completion_queue(
        &self,
        capacity: usize,
        channel: Option<&Arc<CompletionChannel>>,
    ) -> Result<Arc<CompletionQueue>, Error> {
        let embedded = self
            .embedded
            .completion_queue(capacity, channel.map(|channel| Arc::clone(channel.embedded())))?;
        Ok(Arc::new(CompletionQueue::new(embedded, channel.cloned())))
    }

    /// The next asynchronous event, if there is one. The device's descriptor is readable while there is.
    #[must_use]
    pub fn try_event(&self) -> Option<Event> {
        self.embedded.try_event()
    }

    /// Every counter with its name: what was received and sent, and each refused packet by reason.
    #[must_use]
    pub fn counters(&self) -> Vec<(&'static str, u64)> {
        self.embedded.counters()
    }

    /// How many queue pairs exist on it.
    #[must_use]
    pub fn queue_pairs(&self) -> usize {
        self.embedded.queue_pairs()
    }
}

impl AsFd for Device {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.embedded.as_fd()
    }
}
