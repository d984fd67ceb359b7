//! Several processes at one address and UDP port 4791: a group of sockets, from which the system picks one by the
//! queue pair number that a packet is for.
//!
//! The first bits of a queue pair's number name its [slot](SLOTS), the place of a socket in the group. A classic BPF
//! program, which needs no right that users don't have, reads them from the base transport header; where a packet is
//! sealed by ESP, the SPI names the slot. In slot 0 there arrive what is for queue pair 1 and for multicast groups,
//! and strays.
//!
//! All sockets of a group must exist, bound and unconnected, for as long as it is used: closing one moves the last into
//! its place, and a connected one takes part in the selection by another rule. So whoever makes the group keeps all of
//! them, and hands all of them on.

use crate::link::BindError;
use crate::link::bind;
use crate::link::udp::{self, sys};
use rocev2::UDP_PORT;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::Arc;

pub use crate::engine::SLOTS;

/// One process's part of a group.
#[derive(Debug)]
pub struct Share {
    /// The group's socket of this slot.
    pub socket: UdpSocket,
    /// The slot: 0, which has queue pair 1, or 1 to [`SLOTS`] - 1.
    pub slot: u8,
    /// All of the group's sockets, by slot: how full they are is looked at before much is sent there.
    pub group: Arc<[OwnedFd]>,
}

/// A group at UDP port 4791 of that address.
///
/// # Errors
/// Somebody has the port, or it can't be had for another reason.
pub fn bind_group(address: IpAddr) -> Result<Vec<UdpSocket>, BindError> {
    let address = SocketAddr::new(address.to_canonical(), UDP_PORT);
    // Another group of this user's would take new members in, at the end.
    drop(bind(address, false)?);
    let sockets: Vec<UdpSocket> = (0..SLOTS).map(|_| bind(address, true)).collect::<Result<_, _>>()?;
    if let Some(first) = sockets.first() {
        let failed = |source| BindError::System { what: "choosing sockets by queue pair", address, source };
        sys::steer_by_slot(first, SLOTS.ilog2()).map_err(failed)?;
    }
    Ok(sockets)
}

fn bind(address: SocketAddr, shared: bool) -> Result<UdpSocket, BindError> {
    let failed = |what| move |source| BindError::System { what, address, source };
    let socket = udp::open(address)?;
    if shared {
        socket.set_reuse_port(true).map_err(failed("setting SO_REUSEPORT"))?;
    }
    bind::to(&socket, address)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rocev2_esp::Spi;
    use std::time::Duration;

    /// A packet that is for `qpn`: only the base transport header's fields matter.
    fn packet(qpn: u32) -> Vec<u8> {
        let mut packet = vec![0x04, 0x40, 0xff, 0xff];
        packet.extend_from_slice(&qpn.to_be_bytes());
        packet.resize(64, 0);
        packet
    }

    #[test]
    fn a_packet_arrives_at_its_queue_pairs_slot_also_when_the_maker_is_gone() {
        let address = IpAddr::from([127, 83, 82, 1]);
        let group = bind_group(address).unwrap();
        assert!(matches!(bind_group(address), Err(BindError::InUse(_))), "nobody else gets into the group");
        // What another process would have got.
        let kept: Vec<UdpSocket> = group.iter().map(|socket| socket.try_clone().unwrap()).collect();
        drop(group);
        let sender = UdpSocket::bind((address, 0)).unwrap();
        for (qpn, slot) in
            [(0x000001, 0), (0x040000, 1), (0x07ffff, 1), (0xfc0001, 63), (0xfffffe, 63), (0xffffff, 0)]
        {
            sender.send_to(&packet(qpn), (address, UDP_PORT)).unwrap();
            kept[slot].set_nonblocking(false).unwrap();
            kept[slot].set_read_timeout(Some(Duration::from_secs(60))).unwrap();
            let mut buffer = [0; 128];
            let received = kept[slot].recv(&mut buffer);
            assert_eq!(received.ok(), Some(64), "{qpn:#x} in slot {slot}");
        }
        for slot in [1_u8, 40, 63] {
            let spi = Spi::for_shared_port(0xc1ff_2233, slot);
            let sealed = [&spi.number().to_be_bytes()[..], &[0xff; 60]].concat();
            sender.send_to(&sealed, (address, UDP_PORT)).unwrap();
            let kept = &kept[usize::from(slot)];
            kept.set_nonblocking(false).unwrap();
            kept.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
            assert_eq!(kept.recv(&mut [0; 128]).ok(), Some(64), "{spi:?} in slot {slot}");
        }
        sender.send_to(&[0; 5], (address, UDP_PORT)).unwrap();
        kept[0].set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        assert_eq!(kept[0].recv(&mut [0; 8]).ok(), Some(5), "what is too short for a number is a stray");
    }
}
