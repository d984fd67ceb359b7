//! The 40 bytes before a received datagram: the IP header that it came with, in the place of a global routing
//! header (IBA Annex A17.4.5.1; `union rdma_network_hdr` in Linux's `ib_verbs.h`).

use super::Source;
use crate::icrc;
use crate::wire::{Headers, Packet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The length of a global routing header.
pub(super) const GRH_LEN: u32 = 40;

type Grh = [u8; GRH_LEN as usize];

const UDP_HEADER: usize = 8;
const IPV4_HEADER: u16 = 20;
const PROTOCOL_UDP: u8 = 17;
/// What is put down where the device doesn't know: the usual value of senders.
const HOP_LIMIT: u8 = 64;

/// The bytes for a packet: an IPv6 header, or 20 zero bytes and an IPv4 header.
pub(super) fn grh(from: &Source, packet: &Packet<'_>) -> Grh {
    let bth = &packet.headers.bth;
    let roce = Headers::len_for(bth.opcode) + packet.payload.len() + usize::from(bth.pad) + icrc::LEN;
    // No datagram is longer than IP allows.
    let udp = u16::try_from(UDP_HEADER + roce).unwrap_or(u16::MAX);
    let (class, hops) = (from.traffic_class.unwrap_or(0), from.hop_limit.unwrap_or(HOP_LIMIT));
    match (from.source, from.destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => v4(source, destination, udp, class, hops),
        (source, destination) => v6(mapped(source), mapped(destination), udp, class, hops),
    }
}

fn mapped(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

fn v6(source: Ipv6Addr, destination: Ipv6Addr, udp: u16, class: u8, hops: u8) -> Grh {
    let mut header = [0; GRH_LEN as usize];
    let words = 6 << 28 | u32::from(class) << 20;
    let fields: [&[u8]; 6] = [
        &u32::to_be_bytes(words),
        &udp.to_be_bytes(),
        &[PROTOCOL_UDP],
        &[hops],
        &source.octets(),
        &destination.octets(),
    ];
    fill(&mut header, &fields);
    header
}

fn v4(source: Ipv4Addr, destination: Ipv4Addr, udp: u16, class: u8, hops: u8) -> Grh {
    let total = udp.saturating_add(IPV4_HEADER);
    let mut checksum = [0; 2];
    let mut header = [0; GRH_LEN as usize];
    for _ in 0..2 {
        let fields: [&[u8]; 9] = [
            &[0; GRH_LEN as usize - IPV4_HEADER as usize],
            &[0x45, class],
            &total.to_be_bytes(),
            // The identification, which no socket tells; and "don't fragment".
            &[0, 0, 0x40, 0],
            &[hops],
            &[PROTOCOL_UDP],
            &checksum,
            &source.octets(),
            &destination.octets(),
        ];
        fill(&mut header, &fields);
        // The first time over a checksum of zeros.
        checksum = internet_checksum(&header).to_be_bytes();
    }
    header
}

fn fill(header: &mut Grh, fields: &[&[u8]]) {
    for (to, from) in header.iter_mut().zip(fields.iter().copied().flatten()) {
        *to = *from;
    }
}

/// The checksum of RFC 1071.
fn internet_checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0)))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    #[expect(clippy::cast_possible_truncation, reason = "16 bits are left")]
    let sum = sum as u16;
    !sum
}
