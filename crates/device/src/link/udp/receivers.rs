//! How much room the receive buffers of this host's sockets have.

use super::diagnosis::Diagnosis;
use super::sys;
use rocev2::Qpn;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, OnceLock};

/// Who may receive what a socket sends to its own host.
#[derive(Debug)]
pub(super) struct Receivers {
    /// The sockets of the [group](crate::host::group) that the socket belongs to, by slot.
    group: Option<Arc<[OwnedFd]>>,
    /// Where the system is asked about other sockets.
    diagnosis: OnceLock<Option<Mutex<Diagnosis>>>,
}

impl Receivers {
    pub(super) fn new(group: Option<Arc<[OwnedFd]>>) -> Self {
        Self { group, diagnosis: OnceLock::new() }
    }

    /// How many bytes the socket at `to` that receives for that queue pair has to spare.
    pub(super) fn room(
        &self,
        own: &UdpSocket,
        local: SocketAddr,
        to: SocketAddr,
        receiver: Qpn,
    ) -> Option<usize> {
        if to == local {
            return match &self.group {
                Some(group) => sys::receive_buffer(group.get(slot(receiver, group.len()))?),
                None => sys::receive_buffer(own),
            }
            .map(spare);
        }
        let diagnosis = self.diagnosis.get_or_init(|| Diagnosis::new().map(Mutex::new)).as_ref()?;
        crate::lock(diagnosis).receive_buffer(local, to).map(spare)
    }
}

/// The slot that a queue pair's number names in a group of so many, a power of two: its first bits.
fn slot(receiver: Qpn, slots: usize) -> usize {
    (receiver.get() >> 24_u32.saturating_sub(slots.trailing_zeros())) as usize
}

/// What one sender may fill of a buffer that has so many bytes filled: it leaves half to others.
fn spare([filled, size]: [u32; 2]) -> usize {
    (size / 2).saturating_sub(filled) as usize
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::{fresh_loopback, loopbacks};
    use super::*;

    const QPN: Qpn = Qpn::truncate(0x04_0001);

    fn bound(address: SocketAddr) -> (UdpSocket, SocketAddr) {
        let socket = UdpSocket::bind(address).unwrap();
        let local = socket.local_addr().unwrap();
        (socket, local)
    }

    #[test]
    fn a_buffer_that_fills_has_less_room_and_none_when_it_is_half_full() {
        for address in loopbacks() {
            let (sender, from) = bound((address, 0).into());
            let (_receiver, to) = bound((address, 0).into());
            let receivers = Receivers::new(None);
            let room = || receivers.room(&sender, from, to, QPN);
            let before = room().expect("the system has sock_diag");
            sender.send_to(&[0; 4000], to).unwrap();
            assert!(room().unwrap() < before);
            while room() != Some(0) {
                sender.send_to(&[0; 4000], to).unwrap();
            }
            assert_eq!(receivers.room(&sender, from, (address, 9).into(), QPN), None, "nobody is there");
        }
    }

    #[test]
    fn in_a_group_it_is_the_socket_of_the_queue_pairs_slot() {
        let (first, local) = bound((fresh_loopback(), 0).into());
        let (second, other) = bound((fresh_loopback(), 0).into());
        let group: Arc<[OwnedFd]> = [first.into(), second.try_clone().unwrap().into()].into();
        let receivers = Receivers::new(Some(group));
        let room = |qpn| receivers.room(&second, local, local, Qpn::truncate(qpn)).unwrap();
        let [empty, before] = [room(1), room(0x80_0001)];
        second.send_to(&[0; 4000], other).unwrap();
        assert_eq!(room(0x7f_ffff), empty);
        assert!(room(0xff_ffff) < before);
    }
}
