//! Devices.

use crate::attributes::Attributes;
use crate::channel::CompletionChannel;
use crate::completion::CompletionQueue;
use crate::domain::{self, ProtectionDomain};
use crate::gid::{GidEntry, GidKind};
use crate::ibv::context::Context;
use crate::ibv::discovery;
use crate::selector::DeviceSelector;
use crate::{Error, Event, Gid, ibv};
use core::fmt;
use std::borrow::Cow;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::Arc;

/// The names of every device of this host: libibverbs' devices, in its order, then the embedded one.
#[must_use]
pub fn devices() -> Vec<DeviceSelector> {
    let named = discovery::names().into_iter();
    let named = named.map(|name| DeviceSelector::Named { name, port: None, gid_index: None });
    named.chain([DeviceSelector::Embedded { address: None, port: None }]).collect()
}

/// Whether this host has that address.
#[must_use]
pub fn is_own_address(address: IpAddr) -> bool {
    let own = |interface: &rocev2_device::net::Interface| interface.address == address;
    address.is_loopback()
        || rocev2_device::net::interfaces().is_ok_and(|interfaces| interfaces.iter().any(own))
}

/// An open device, and of a libibverbs one the port that is used.
pub struct Device {
    side: Side,
    name: DeviceSelector,
}

enum Side {
    Embedded(rocev2_device::Device),
    Ibv(Arc<Context>),
}

impl Device {
    /// Opens the device that `selector` names. `auto` is libibverbs' first device that can be opened and has
    /// an active port; where there is none, the embedded one.
    ///
    /// # Errors
    /// There is none, or it can't be used.
    pub fn open(selector: &DeviceSelector) -> Result<Arc<Self>, Error> {
        match selector {
            DeviceSelector::Auto => match Self::first_named() {
                Some(device) => Ok(device),
                None => Self::open(&DeviceSelector::Embedded { address: None, port: None }),
            },
            DeviceSelector::Embedded { address, port } => {
                let embedded =
                    rocev2_device::Device::open(rocev2_device::Config { address: *address, port: *port })?;
                Ok(Arc::new(Self { side: Side::Embedded(embedded), name: selector.clone() }))
            }
            DeviceSelector::Named { name, port, gid_index } => {
                let context = Context::open(name, *port, *gid_index)?;
                Ok(Arc::new(Self { side: Side::Ibv(context), name: selector.clone() }))
            }
        }
    }

    fn first_named() -> Option<Arc<Self>> {
        let named = discovery::names().into_iter();
        let mut selectors = named.map(|name| DeviceSelector::Named { name, port: None, gid_index: None });
        selectors.find_map(|selector| Self::open(&selector).ok())
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &DeviceSelector {
        &self.name
    }

    /// What it is, for a person.
    #[must_use]
    pub fn description(&self) -> Cow<'static, str> {
        match &self.side {
            Side::Embedded(_) => {
                "RoCEv2 in user space over UDP sockets; no RDMA hardware, kernel module or root needed".into()
            }
            Side::Ibv(context) => context.description().into(),
        }
    }

    /// Its limits.
    #[must_use]
    pub fn attributes(&self) -> Attributes {
        match &self.side {
            Side::Embedded(_) => Attributes::EMBEDDED,
            Side::Ibv(context) => context.attributes(),
        }
    }

    /// Everything else that it tells of itself: names and values as `ibv_devinfo -v` has them.
    ///
    /// # Errors
    /// It can't be asked any more.
    pub fn facts(&self) -> Result<Vec<(&'static str, String)>, Error> {
        match &self.side {
            Side::Embedded(_) => Ok(Vec::new()),
            Side::Ibv(context) => context.facts(),
        }
    }

    /// The GID table.
    #[must_use]
    pub fn gids(&self) -> Vec<GidEntry> {
        match &self.side {
            Side::Embedded(device) => device.gids().into_iter().enumerate().map(embedded_gid).collect(),
            Side::Ibv(context) => context.gids(),
        }
    }

    /// The GID table's entry by which a peer reaches this device that reaches this host at `address`. It is
    /// in use from now on: an embedded device's UDP port is known.
    ///
    /// Of a libibverbs device that is the entry that the user chose with the device's name; otherwise the one
    /// of that address; and where the address is a loopback one, so that the peer is on this host too, any
    /// one that IP packets can be sent to.
    ///
    /// # Errors
    /// The device has no such entry, or its socket can't be had.
    pub fn gid_for(&self, address: IpAddr) -> Result<GidEntry, Error> {
        match &self.side {
            Side::Embedded(device) => {
                let index = device.gid_index(address)?;
                device.bind_gid(index)?;
                let entry = self.gids().into_iter().nth(index);
                entry.ok_or(Error::Embedded(rocev2_device::DeviceError::GidIndex { index, count: index }))
            }
            Side::Ibv(context) => context.gid_for(address),
        }
    }

    /// A protection domain.
    ///
    /// # Errors
    /// The device has no more; the embedded one always has.
    pub fn protection_domain(self: &Arc<Self>) -> Result<Arc<ProtectionDomain>, Error> {
        let side = match &self.side {
            Side::Embedded(device) => domain::Side::Embedded(device.protection_domain()),
            Side::Ibv(context) => domain::Side::Ibv(Arc::new(ibv::memory::Domain::new(context)?)),
        };
        Ok(Arc::new(ProtectionDomain::new(side, Arc::clone(self))))
    }

    /// A completion channel.
    ///
    /// # Errors
    /// The process has no descriptor left.
    pub fn completion_channel(&self) -> Result<Arc<CompletionChannel>, Error> {
        let channel = match &self.side {
            Side::Embedded(device) => CompletionChannel::embedded(device.completion_channel()?),
            Side::Ibv(context) => CompletionChannel::ibv(ibv::completion::Channel::new(context)?),
        };
        Ok(Arc::new(channel))
    }

    /// A completion queue with room for at least `capacity` entries: as many as requests may be outstanding
    /// on all its queue pairs.
    ///
    /// # Errors
    /// The device has no queue of that size, or the channel is another device's.
    pub fn completion_queue(
        &self,
        capacity: usize,
        channel: Option<&Arc<CompletionChannel>>,
    ) -> Result<Arc<CompletionQueue>, Error> {
        let mixed = || Error::Mixed("the completion channel");
        let queue = match &self.side {
            Side::Embedded(device) => {
                let own = channel.map(|channel| channel.side_embedded().ok_or_else(mixed)).transpose()?;
                CompletionQueue::embedded(device.completion_queue(capacity, own.cloned())?, channel)
            }
            Side::Ibv(context) => {
                let own = channel.map(|channel| channel.side_ibv().ok_or_else(mixed)).transpose()?;
                let queue = ibv::completion::Queue::new(context, capacity, own.cloned())?;
                CompletionQueue::ibv(queue, channel)
            }
        };
        Ok(Arc::new(queue))
    }

    /// The next asynchronous event, if there is one. The device's descriptor is readable while there is.
    #[must_use]
    pub fn try_event(&self) -> Option<Event> {
        match &self.side {
            Side::Embedded(device) => device.try_event().map(Event::from),
            Side::Ibv(context) => context.try_event(),
        }
    }

    /// Every counter with its name: what was received and sent, and what was refused, by reason. Of a
    /// libibverbs device they are what the kernel shows of the port (`/sys/class/infiniband`), and count for
    /// every process.
    #[must_use]
    pub fn counters(&self) -> Vec<(Cow<'static, str>, u64)> {
        match &self.side {
            Side::Embedded(device) => {
                device.counters().into_iter().map(|(name, count)| (name.into(), count)).collect()
            }
            Side::Ibv(context) => {
                let port = Path::new("/sys/class/infiniband")
                    .join(context.name())
                    .join(format!("ports/{}", context.port()));
                ["hw_counters", "counters"]
                    .iter()
                    .flat_map(|kind| files_of_numbers(&port.join(kind)))
                    .collect()
            }
        }
    }

    /// How many queue pairs exist on it, as far as this process knows.
    #[must_use]
    pub fn queue_pairs(&self) -> Option<usize> {
        match &self.side {
            Side::Embedded(device) => Some(device.queue_pairs()),
            Side::Ibv(_) => None,
        }
    }
}

fn embedded_gid((index, entry): (usize, rocev2_device::GidEntry)) -> GidEntry {
    let unbound = SocketAddr::new(entry.address, rocev2::UDP_PORT);
    GidEntry {
        index,
        kind: GidKind::RoceV2,
        gid: entry.bound.map_or_else(|| Gid::for_endpoint(unbound), |(gid, _)| gid),
        address: Some(entry.address),
        interface: Some(entry.interface),
        mtu: entry.mtu,
        udp_port: entry.bound.map(|(_, port)| port),
        lid: None,
    }
}

/// Every file of a directory that holds a number, by name; `lifespan` is a setting.
fn files_of_numbers(directory: &Path) -> Vec<(Cow<'static, str>, u64)> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut counters: Vec<_> = entries
        .filter(|entry| entry.file_name() != "lifespan")
        .filter_map(|entry| {
            let count = fs::read_to_string(entry.path()).ok()?.trim().parse().ok()?;
            Some((Cow::Owned(entry.file_name().into_string().ok()?), count))
        })
        .collect();
    counters.sort();
    counters
}

impl AsFd for Device {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.side {
            Side::Embedded(device) => device.as_fd(),
            Side::Ibv(context) => context.as_fd(),
        }
    }
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Device").field("name", &self.name).finish_non_exhaustive()
    }
}
