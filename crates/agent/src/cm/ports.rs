//! Which ports are taken.

use rocev2_cm::ip::Service;
use std::collections::HashMap;

/// Where ports are taken from that the agent chooses, as the kernel has it (`ip_local_port_range`).
const EPHEMERAL: std::ops::Range<u16> = 32_768..61_000;

/// The ports of one address, and which ids have them.
#[derive(Debug, Default)]
pub(super) struct Ports(HashMap<Service, Vec<Bound>>);

#[derive(Debug)]
struct Bound {
    id: u32,
    reuse: bool,
}

impl Ports {
    /// Takes a port; whether it may be had. Several ids have one if all of them say so.
    pub(super) fn take(&mut self, service: Service, id: u32, reuse: bool) -> bool {
        let bound = self.0.entry(service).or_default();
        let free = bound.iter().all(|other| other.reuse && reuse);
        if free {
            bound.push(Bound { id, reuse });
        }
        free
    }

    /// Takes a port that nobody has, beginning with a random one.
    pub(super) fn take_any(
        &mut self,
        space: rocev2_cm::ip::PortSpace,
        id: u32,
        random: u16,
    ) -> Option<Service> {
        let count = EPHEMERAL.end - EPHEMERAL.start;
        let port = (0..count)
            .map(|step| EPHEMERAL.start + (random % count + step) % count)
            .find(|&port| !self.0.contains_key(&Service { space, port }))?;
        let service = Service { space, port };
        self.take(service, id, false).then_some(service)
    }

    /// Gives a port back.
    pub(super) fn give_back(&mut self, service: Service, id: u32) {
        if let Some(bound) = self.0.get_mut(&service) {
            bound.retain(|bound| bound.id != id);
            if bound.is_empty() {
                self.0.remove(&service);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rocev2_cm::ip::PortSpace;

    #[test]
    fn a_port_has_one_owner_unless_all_agree() {
        let mut ports = Ports::default();
        let service = Service { space: PortSpace::Tcp, port: 7174 };
        assert!(ports.take(service, 1, true) && ports.take(service, 2, true));
        assert!(!ports.take(service, 3, false));
        assert!(ports.take(Service { space: PortSpace::Udp, ..service }, 3, false));
        ports.give_back(service, 1);
        assert!(!ports.take(service, 3, false));
        ports.give_back(service, 2);
        assert!(ports.take(service, 3, false) && !ports.take(service, 4, true));
    }

    #[test]
    fn chosen_ports_differ_until_there_is_none_left() {
        let mut ports = Ports::default();
        for random in [0, 0, 7, u16::MAX] {
            let service = ports.take_any(PortSpace::Tcp, 1, random).unwrap();
            assert!(EPHEMERAL.contains(&service.port));
        }
        assert_eq!(ports.0.len(), 4);
        for port in EPHEMERAL {
            ports.take(Service { space: PortSpace::Tcp, port }, 2, false);
        }
        assert_eq!(ports.take_any(PortSpace::Tcp, 1, 0), None);
    }
}
