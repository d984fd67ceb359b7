//! Multicast groups: which of them the device has joined, and at which of its addresses.

use super::DeviceError;
use super::device::{ATTRIBUTES, DeviceState};
use crate::engine::{Port, QueuePair};
use crate::gid::Gid;
use rocev2::UDP_PORT;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};

/// A group that was joined at one local address.
struct Group {
    local: IpAddr,
    address: IpAddr,
    /// Where what is sent to the group arrives.
    port: Arc<Port>,
}

/// The groups that queue pairs are attached to.
#[derive(Default)]
pub(super) struct Groups(Mutex<Vec<Group>>);

fn address(group: Gid) -> Result<IpAddr, DeviceError> {
    group.group().ok_or_else(|| DeviceError::NoGroup(group.to_string()))
}

impl Groups {
    /// Attaches a queue pair; the group is joined if it wasn't yet.
    pub(super) fn attach(
        &self,
        device: &DeviceState,
        gid_index: usize,
        group: Gid,
        queue_pair: &Arc<QueuePair>,
    ) -> Result<(), DeviceError> {
        let address = address(group)?;
        let unicast = device.port(gid_index)?;
        let local = unicast.address();
        if local.is_ipv4() != address.is_ipv4() {
            return Err(DeviceError::Family { local, peer: address });
        }
        let mut groups = crate::lock(&self.0);
        let known = groups.iter().find(|known| known.local == local && known.address == address);
        let port = match known {
            Some(group) => Arc::clone(&group.port),
            None => {
                super::device::within("multicast groups", groups.len() + 1, ATTRIBUTES.max_mcast_grp)?;
                let port = device.join(SocketAddr::new(address, UDP_PORT), &unicast)?;
                groups.push(Group { local, address, port: Arc::clone(&port) });
                port
            }
        };
        if !port.attach(queue_pair) {
            let limit = ATTRIBUTES.max_mcast_qp_attach;
            return Err(DeviceError::Limit {
                what: "queue pairs of a multicast group",
                asked: limit + 1,
                limit,
            });
        }
        Ok(())
    }

    /// Detaches a queue pair; the group is left with its last one.
    pub(super) fn detach(
        &self,
        device: &DeviceState,
        gid_index: usize,
        group: Gid,
        queue_pair: &QueuePair,
    ) -> Result<(), DeviceError> {
        let address = address(group)?;
        let local = device.port(gid_index)?.address();
        let mut groups = crate::lock(&self.0);
        let known = groups.iter().find(|known| known.local == local && known.address == address);
        if !known.is_some_and(|known| known.port.detach(queue_pair)) {
            return Err(DeviceError::NotAttached(group.to_string()));
        }
        leave(&mut groups, device);
        Ok(())
    }

    /// Detaches a queue pair that ends from all of its groups.
    pub(super) fn forget(&self, device: &DeviceState, queue_pair: &QueuePair) {
        let mut groups = crate::lock(&self.0);
        let left = groups.iter().filter(|group| group.port.detach(queue_pair)).count();
        if left > 0 {
            leave(&mut groups, device);
        }
    }
}

/// Leaves the groups that have no member.
fn leave(groups: &mut Vec<Group>, device: &DeviceState) {
    groups.retain(|group| {
        let used = group.port.members().is_some_and(|members| !members.is_empty());
        if !used {
            device.engine().remove_port(&group.port);
        }
        used
    });
}

#[cfg(test)]
mod tests;
