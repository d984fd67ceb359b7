//! The GID table: the addresses of this host, and their ports once they are in use.

use super::{Config, DeviceError, GidEntry};
use crate::engine::{Engine, PathMtu, Port};
use crate::host::{Interface, Platform};
use core::time::Duration;
use rocev2::{Mtu, Time, UDP_PORT};
use rocev2_esp::layout;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// Addresses of 127.0.0.0/8 that no interface names, but that a program has asked for, at a time. Peers choose to
/// which of them they connect: were there no limit, they could have all of a process's descriptors.
const LOOPBACKS: usize = 128;

/// How long such an address stays after its last queue pair, or after somebody asked for it.
const IDLE: Duration = Duration::from_secs(30);

struct Entry {
    address: IpAddr,
    interface: String,
    mtu: PathMtu,
    port: Option<Arc<Port>>,
    /// When somebody asked last for an address that no interface names.
    asked: Option<Time>,
}

pub(super) struct GidTable {
    config: Config,
    entries: Mutex<Vec<Entry>>,
    next_token: AtomicU64,
}

impl GidTable {
    pub(super) fn new(config: Config, platform: &dyn Platform) -> Result<Self, DeviceError> {
        let entries: Vec<_> = match config.address {
            Some(address) => vec![Entry::find(address, platform, config.mtu)?],
            None => {
                let found = platform.interfaces()?.into_iter();
                found.filter_map(|interface| Entry::of(interface, config.mtu)).collect()
            }
        };
        if entries.is_empty() {
            return Err(DeviceError::NoAddress);
        }
        Ok(Self { config, entries: Mutex::new(entries), next_token: AtomicU64::new(0) })
    }

    pub(super) fn entries(&self) -> Vec<GidEntry> {
        let entry = |entry: &Entry| GidEntry {
            address: entry.address,
            interface: entry.interface.clone(),
            mtu: entry.mtu.clear,
            sealed_mtu: entry.mtu.sealed,
            bound: entry.port.as_ref().map(|port| (port.gid(), port.local().port())),
        };
        crate::lock(&self.entries).iter().map(entry).collect()
    }

    /// The index of an address; one of 127.0.0.0/8, or one that the host has got meanwhile, is added.
    pub(super) fn index(
        &self,
        address: IpAddr,
        engine: &Engine,
        platform: &dyn Platform,
    ) -> Result<usize, DeviceError> {
        let now = engine.now();
        let mut entries = crate::lock(&self.entries);
        if let Some(index) = entries.iter().position(|entry| entry.address == address) {
            if let Some(asked) = &mut entries[index].asked {
                *asked = now;
            }
            return Ok(index);
        }
        if let Some(own) = self.config.address {
            return Err(DeviceError::NoSuchAddress { address, have: own.to_string() });
        }
        let mut entry = Entry::find(address, platform, self.config.mtu)?;
        if !platform.interfaces()?.iter().any(|interface| interface.address == address) {
            entry.asked = Some(now);
            for idle in entries.iter_mut().filter(|entry| entry.is_idle(now)) {
                idle.free(engine);
            }
            if let Some(index) = entries.iter().position(|entry| entry.is_idle(now)) {
                entries[index] = entry;
                return Ok(index);
            }
            let limit = LOOPBACKS;
            if entries.iter().filter(|entry| entry.asked.is_some()).count() >= limit {
                return Err(DeviceError::Limit { what: "loopback addresses", asked: limit + 1, limit });
            }
        }
        entries.push(entry);
        Ok(entries.len() - 1)
    }

    /// A token that no other link has.
    pub(super) fn token(&self) -> u64 {
        self.next_token.fetch_add(1, Ordering::Relaxed)
    }

    /// The port of the address at `index`, bound now if it wasn't yet.
    pub(super) fn port(
        &self,
        index: usize,
        engine: &Engine,
        platform: &dyn Platform,
    ) -> Result<Arc<Port>, DeviceError> {
        let mut entries = crate::lock(&self.entries);
        let count = entries.len();
        let entry = entries.get_mut(index).ok_or(DeviceError::GidIndex { index, count })?;
        if let Some(asked) = &mut entry.asked {
            *asked = engine.now();
        }
        if let Some(port) = &entry.port {
            return Ok(Arc::clone(port));
        }
        let token = self.token();
        let bind = |port| platform.bind(SocketAddr::new(entry.address, port), token);
        let link = match self.config.port {
            Some(port) => bind(port)?,
            None => match bind(UDP_PORT) {
                Err(crate::link::BindError::InUse(_)) => bind(0)?,
                other => other?,
            },
        };
        let port = engine
            .add_port(link, token, entry.mtu)
            .map_err(DeviceError::system("having a socket's packets wake the progress thread"))?;
        entry.port = Some(Arc::clone(&port));
        Ok(port)
    }
}

impl Entry {
    /// One address of this host.
    fn find(address: IpAddr, platform: &dyn Platform, largest: Option<Mtu>) -> Result<Self, DeviceError> {
        let found = platform.interfaces()?;
        // All of 127.0.0.0/8 is this host, though the interface names only one of them.
        let loopback = address.is_ipv4() && address.is_loopback();
        let this = |interface: &&Interface| {
            interface.address == address
                || (loopback && interface.address.is_ipv4() && interface.address.is_loopback())
        };
        let interface = found.iter().find(this).map(|interface| Interface { address, ..interface.clone() });
        interface.and_then(|interface| Self::of(interface, largest)).ok_or_else(|| {
            DeviceError::NoSuchAddress {
                address,
                have: found
                    .iter()
                    .map(|interface| interface.address.to_string())
                    .collect::<Vec<_>>()
                    .join(", "),
            }
        })
    }

    /// `None` where not even the smallest path MTU fits the interface.
    fn of(interface: Interface, largest: Option<Mtu>) -> Option<Self> {
        let fit =
            |bytes| Mtu::for_interface(bytes).map(|mtu| largest.map_or(mtu, |largest| mtu.min(largest)));
        let clear = fit(interface.mtu)?;
        let sealed = interface.mtu.checked_sub(layout::OVERHEAD).and_then(fit);
        let mtu = PathMtu { clear, sealed };
        Some(Self { address: interface.address, interface: interface.name, mtu, port: None, asked: None })
    }

    /// Whether nobody uses an address that no interface names, and nobody has asked for it lately.
    fn is_idle(&self, now: Time) -> bool {
        // Beside this table and the engine, queue pairs and completion queues hold a port that they use.
        let used = self.port.as_ref().is_some_and(|port| Arc::strong_count(port) > 2);
        self.asked.is_some_and(|asked| now.since(asked) > IDLE) && !used
    }

    /// Closes the port.
    fn free(&mut self, engine: &Engine) {
        if let Some(port) = self.port.take() {
            engine.remove_port(&port);
        }
    }
}
