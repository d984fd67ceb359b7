//! Devices.

use crate::attributes::Attributes;
use crate::gid::GidEntry;
use crate::provider;
use crate::selector::DeviceSelector;
use crate::{Error, Event, SecurityAssociation};
use core::fmt;
use std::borrow::Cow;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

/// The names of every device of this host: libibverbs' devices, in its order, then the embedded one.
#[must_use]
pub fn devices() -> Vec<DeviceSelector> {
    let named = provider::names().into_iter();
    let named = named.map(|name| DeviceSelector::Named { name, port: None, gid_index: None });
    named.chain([DeviceSelector::Embedded { address: None, port: None }]).collect()
}

/// Whether this host has that address.
#[must_use]
pub fn is_own_address(address: IpAddr) -> bool {
    let own = |interface: &rocev2_device::host::Interface| interface.address == address;
    address.is_loopback()
        || rocev2_device::host::interfaces().is_ok_and(|interfaces| interfaces.iter().any(own))
}

/// An open device, and of a libibverbs one the port that is used.
pub struct Device {
    provider: provider::Device,
    name: DeviceSelector,
}

impl Device {
    /// Opens the device that `selector` names. `auto` is libibverbs' first device that can be opened and has
    /// an active port; where there is none, the embedded one.
    ///
    /// # Errors
    /// There is none, or it can't be used.
    pub fn open(selector: &DeviceSelector) -> Result<Arc<Self>, Error> {
        let provider = match selector {
            DeviceSelector::Auto => {
                let embedded = DeviceSelector::Embedded { address: None, port: None };
                return Self::first_named().map_or_else(|| Self::open(&embedded), Ok);
            }
            DeviceSelector::Embedded { address, port } => provider::Device::open_embedded(*address, *port)?,
            DeviceSelector::Named { name, port, gid_index } => {
                provider::Device::open_ibv(name, *port, *gid_index)?
            }
        };
        Ok(Arc::new(Self { provider, name: selector.clone() }))
    }

    /// An embedded device on another platform than this host, without a thread: whoever opens it makes its engine's
    /// steps.
    ///
    /// # Errors
    /// The platform refuses what the device needs.
    #[cfg(feature = "testing")]
    pub fn stepped(
        platform: Arc<dyn rocev2_device::host::Platform>,
    ) -> Result<(Arc<Self>, Arc<rocev2_device::Engine>), Error> {
        let (provider, engine) = provider::Device::stepped(platform)?;
        let name = DeviceSelector::Embedded { address: None, port: None };
        Ok((Arc::new(Self { provider, name }), engine))
    }

    /// How much an embedded device holds at the moment.
    #[cfg(feature = "testing")]
    #[must_use]
    pub fn usage(&self) -> Option<rocev2_device::Usage> {
        self.provider.usage()
    }

    fn first_named() -> Option<Arc<Self>> {
        let named = provider::names().into_iter();
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
        self.provider.description()
    }

    /// Its limits.
    #[must_use]
    pub fn attributes(&self) -> Attributes {
        self.provider.attributes()
    }

    /// Everything else that it tells of itself: names and values as `ibv_devinfo -v` has them.
    ///
    /// # Errors
    /// It can't be asked any more.
    pub fn facts(&self) -> Result<Vec<(&'static str, String)>, Error> {
        self.provider.facts()
    }

    /// The GID table.
    #[must_use]
    pub fn gids(&self) -> Vec<GidEntry> {
        self.provider.gids()
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
        self.provider.gid_for(address)
    }

    /// A security association: what seals and opens the packets of queue pairs
    /// ([`QueuePair::seal_by`](crate::QueuePair::seal_by)), once it has keys. Embedded devices only.
    ///
    /// # Errors
    /// The device has none.
    pub fn security_association(&self) -> Result<SecurityAssociation, Error> {
        self.provider.security_association()
    }

    /// The next asynchronous event, if there is one. The device's descriptor is readable while there is.
    #[must_use]
    pub fn try_event(&self) -> Option<Event> {
        self.provider.try_event()
    }

    /// Every counter with its name: what was received and sent, and what was refused, by reason. Of a
    /// libibverbs device they are what the kernel shows of the port (`/sys/class/infiniband`), and count for
    /// every process.
    #[must_use]
    pub fn counters(&self) -> Vec<(Cow<'static, str>, u64)> {
        self.provider.counters()
    }

    /// How many queue pairs exist on it, as far as this process knows.
    #[must_use]
    pub fn queue_pairs(&self) -> Option<usize> {
        self.provider.queue_pairs()
    }

    pub(crate) fn provider(&self) -> &provider::Device {
        &self.provider
    }
}

impl AsFd for Device {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.provider.as_fd()
    }
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Device").field("name", &self.name).finish_non_exhaustive()
    }
}
