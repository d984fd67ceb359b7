//! The port's GID table.

use super::check;
use super::context::Context;
use crate::gid::{GidEntry, GidKind};
use crate::{Error, Gid};
use core::ffi::CStr;
use rdma_verbs_sys::{IBV_GID_TYPE_ROCE_V1, IBV_GID_TYPE_ROCE_V2, ibv_gid_entry};
use rocev2::Mtu;
use rocev2_device::esp::layout::OVERHEAD;
use std::net::IpAddr;

impl Context {
    /// Every entry that isn't empty.
    pub(crate) fn gids(&self) -> Vec<GidEntry> {
        let len = usize::try_from(self.port_limits.gid_tbl_len).unwrap_or(0);
        (0..len).filter_map(|index| self.read_gid(index)).collect()
    }

    /// One entry.
    pub(crate) fn gid(&self, index: usize) -> Result<GidEntry, Error> {
        self.read_gid(index).ok_or_else(|| Error::GidIndex {
            device: self.place(),
            index,
            have: list(&self.gids()),
        })
    }

    /// The entry to be reached at, for a peer that reaches this host at `address`: the one that the user
    /// chose; the RoCE v2 one of that address; where both are on this host (a loopback address), any RoCE v2
    /// one, since no RDMA device has a loopback address; on InfiniBand, which has no IP addresses, the first.
    pub(crate) fn gid_for(&self, address: IpAddr) -> Result<GidEntry, Error> {
        if let Some(chosen) = self.chosen_gid() {
            return chosen;
        }
        let gids = self.gids();
        let routable = || gids.iter().filter(|gid| gid.kind == GidKind::RoceV2 && gid.address.is_some());
        let found = routable().find(|gid| gid.address == Some(address));
        let found = found.or_else(|| {
            let same_family =
                |gid: &&GidEntry| gid.address.is_some_and(|own| own.is_ipv4() == address.is_ipv4());
            address.is_loopback().then(|| routable().find(same_family).or_else(|| routable().next()))?
        });
        let found = found.or_else(|| gids.iter().find(|gid| gid.kind == GidKind::InfiniBand));
        found.cloned().ok_or_else(|| Error::NoGid { device: self.place(), address, have: list(&gids) })
    }

    fn read_gid(&self, index: usize) -> Option<GidEntry> {
        let at = u32::try_from(index).ok()?;
        let mut entry = ibv_gid_entry::default();
        // SAFETY: the context is open, and the entry is ours and has the size that is given.
        let result = unsafe {
            self.library._ibv_query_gid_ex(
                self.raw.as_ptr(),
                self.port.into(),
                at,
                &raw mut entry,
                0,
                size_of::<ibv_gid_entry>(),
            )
        };
        check(result).ok()?;
        let gid = Gid::from(entry.gid.raw);
        if gid.to_bytes() == [0; 16] {
            return None;
        }
        let kind = match entry.gid_type {
            IBV_GID_TYPE_ROCE_V2 => GidKind::RoceV2,
            IBV_GID_TYPE_ROCE_V1 => GidKind::RoceV1,
            _ => GidKind::InfiniBand,
        };
        let roce = kind == GidKind::RoceV2;
        // A form that the embedded device gives a meaning of its own has none here.
        let address = gid.endpoint().ok().filter(|(_, port)| roce && *port == rocev2::UDP_PORT);
        let interface = interface(entry.ndev_ifindex);
        let sealed_mtu = interface.as_deref().filter(|_| roce).and_then(sealed_mtu);
        Some(GidEntry {
            index,
            kind,
            gid,
            address: address.map(|(address, _)| address),
            interface,
            mtu: self.mtu(),
            sealed_mtu: sealed_mtu.map(|mtu| mtu.min(self.mtu())),
            udp_port: roce.then_some(rocev2::UDP_PORT),
            lid: (!self.is_ethernet()).then_some(self.port_limits.lid),
        })
    }
}

/// The entries for an error message.
fn list(gids: &[GidEntry]) -> String {
    if gids.is_empty() {
        return "none".into();
    }
    let entries: Vec<_> = gids.iter().map(|gid| format!("{}: {gid}", gid.index)).collect();
    entries.join(", ")
}

/// The largest path MTU whose packets fit an interface in ESP.
fn sealed_mtu(interface: &str) -> Option<Mtu> {
    let mtu = std::fs::read_to_string(format!("/sys/class/net/{interface}/mtu")).ok()?;
    mtu.trim().parse::<usize>().ok()?.checked_sub(OVERHEAD).and_then(Mtu::for_interface)
}

/// A network interface's name.
fn interface(index: u32) -> Option<String> {
    let mut name = [0; libc::IF_NAMESIZE];
    // SAFETY: the array has room for the longest name.
    let found = unsafe { libc::if_indextoname(index, name.as_mut_ptr()) };
    if found.is_null() {
        return None;
    }
    // SAFETY: the name was written into the array and ends with a zero byte there.
    Some(unsafe { CStr::from_ptr(name.as_ptr()) }.to_string_lossy().into_owned())
}
