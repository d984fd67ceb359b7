//! States: the kernel's security associations, one direction each (`xfrm_usersa_info`, `linux/xfrm.h`).

use crate::address::{self, Direction, Pair};
use crate::association::Ports;
use crate::policy::Selector;
use crate::wire::{Message, array_at, u16_at, u32_at, u64_at};
use crate::{Material, policy};
use std::net::IpAddr;

pub(crate) const NEW: u16 = 0x10;
pub(crate) const DELETE: u16 = 0x11;
pub(crate) const GET: u16 = 0x12;
pub(crate) const ALLOCATE_SPI: u16 = 0x16;
pub(crate) const UPDATE: u16 = 0x1a;

/// `XFRMA_ENCAP`, `XFRMA_ALG_AEAD`, `XFRMA_REPLAY_ESN_VAL`.
const ENCAPSULATION: u16 = 4;
const AEAD: u16 = 18;
const REPLAY_ESN: u16 = 23;

/// `UDP_ENCAP_ESPINUDP`.
const ESP_IN_UDP: u16 = 2;

/// `XFRM_MODE_TRANSPORT`, `XFRM_STATE_ESN`.
const TRANSPORT: u8 = 0;
const ESN: u8 = 128;

/// ESP's protocol number.
pub(crate) const ESP: u8 = 50;

/// The AEAD's name, in as many bytes as the kernel has for it.
const AEAD_NAME: &[u8] = b"rfc4106(gcm(aes))";
const AEAD_NAME_LEN: usize = 64;

/// Bits of the ICV.
const ICV_BITS: u32 = 128;

/// Packets that the replay window spans: the most that the kernel takes. Segmentation offload and several queues
/// reorder.
const REPLAY_WINDOW: u32 = 4096;

/// Bytes of `xfrm_usersa_info`.
const INFO: usize = 224;

/// `XFRM_INF`.
const NO_LIMIT: u64 = u64::MAX;

/// SPIs that are allocated: such that no opcode of RoCEv2 begins with their first byte, as the embedded device's.
pub(crate) const SPIS: core::ops::RangeInclusive<u32> = 0xc000_0000..=u32::MAX;

/// What a new state is.
pub(crate) struct State<'a> {
    pub(crate) pair: &'a Pair,
    pub(crate) direction: Direction,
    pub(crate) spi: u32,
    pub(crate) reqid: u32,
    pub(crate) ports: Ports,
    pub(crate) material: &'a Material,
    /// After so many packets it is of no use any more.
    pub(crate) packets: u64,
}

impl State<'_> {
    /// A request that adds it (`NEW`), or makes it of an SPI that was allocated (`UPDATE`).
    pub(crate) fn message(&self, kind: u16) -> Message {
        let Self { pair, direction, spi, reqid, ports, material, packets } = *self;
        let mut message = Message::new(kind);
        // What comes out of it has to be RoCEv2. Soft-RoCE names no port when it looks for what to send by.
        let selector = match direction {
            Direction::In => Selector::new(pair, direction),
            Direction::Out => Selector::any(),
        };
        info(&mut message, &selector, pair, direction, Id { spi, reqid, packets, flags: ESN });
        message.attribute(AEAD, |message| {
            let bits = u32::try_from(material.bytes().len() * 8).unwrap_or(u32::MAX);
            message.put(AEAD_NAME).zeros(AEAD_NAME_LEN - AEAD_NAME.len());
            message.u32(bits).u32(ICV_BITS).put(material.bytes());
        });
        message.attribute(ENCAPSULATION, |message| {
            let [source, destination] = match direction {
                Direction::In => [ports.peer, ports.own],
                Direction::Out => [ports.own, ports.peer],
            };
            message.u16(ESP_IN_UDP).put(source.to_be_bytes()).put(destination.to_be_bytes()).zeros(2 + 16);
        });
        message.attribute(REPLAY_ESN, |message| {
            // The words of the window's bitmap, the four halves of the numbers, the window.
            message.u32(REPLAY_WINDOW / u32::BITS).zeros(4 * 4).u32(REPLAY_WINDOW);
        });
        message
    }
}

/// A request for an SPI of what arrives.
pub(crate) fn allocate_spi(pair: &Pair, reqid: u32) -> Message {
    let mut message = Message::new(ALLOCATE_SPI);
    let id = Id { spi: 0, reqid, packets: NO_LIMIT, flags: 0 };
    info(&mut message, &Selector::any(), pair, Direction::In, id);
    message.u32(*SPIS.start()).u32(*SPIS.end());
    message
}

#[derive(Clone, Copy)]
struct Id {
    spi: u32,
    reqid: u32,
    packets: u64,
    flags: u8,
}

/// `xfrm_usersa_info`.
fn info(message: &mut Message, selector: &Selector, pair: &Pair, direction: Direction, id: Id) {
    let Id { spi, reqid, packets, flags } = id;
    let (source, destination) = (pair.source(direction), pair.destination(direction));
    message.put(selector.bytes());
    message.put(address::to_wire(destination)).put(spi.to_be_bytes()).u8(ESP).zeros(3);
    message.put(address::to_wire(source));
    policy::lifetime(message, packets);
    // What has been used, and the statistics: the kernel's. The sequence number: of no use here.
    message.zeros(32 + 12 + 4);
    message.u32(reqid).u16(address::family(destination)).u8(TRANSPORT).u8(0).u8(flags).zeros(7);
}

/// A request about the state that has this SPI (`DELETE`, `GET`).
pub(crate) fn about(kind: u16, destination: IpAddr, spi: u32) -> Message {
    let mut message = Message::new(kind);
    message.put(address::to_wire(destination)).put(spi.to_be_bytes());
    message.u16(address::family(destination)).u8(ESP).zeros(1);
    message
}

/// What the kernel tells of a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateStatus {
    /// Where its packets come from.
    pub source: IpAddr,
    /// Where they go to.
    pub destination: IpAddr,
    /// Its SPI; 0 where the kernel only knows that it needs one.
    pub spi: u32,
    /// Its request ID.
    pub reqid: u32,
    /// Packets that it has sealed or opened.
    pub packets: u64,
    protocol: u8,
}

impl StateStatus {
    /// It from a message's body, if it is one of IPv4 or IPv6.
    pub(crate) fn parse(body: &[u8]) -> Option<Self> {
        let body = body.get(..INFO)?;
        let family = u16_at(body, 212)?;
        Some(Self {
            destination: address::from_wire(array_at(body, 56)?, family)?,
            spi: array_at(body, 72).map(u32::from_be_bytes)?,
            protocol: *body.get(76)?,
            source: address::from_wire(array_at(body, 80)?, family)?,
            packets: u64_at(body, 168)?,
            reqid: u32_at(body, 208)?,
        })
    }

    /// Whether it is ESP's.
    #[must_use]
    pub const fn is_esp(&self) -> bool {
        self.protocol == ESP
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::owner::FIRST;

    /// What iproute2 6.1 sends for
    /// `ip xfrm state add src 10.77.0.2 dst 10.77.0.1 proto esp spi 0xc1c2c3c4 reqid 0x5ec01234 mode transport
    /// aead 'rfc4106(gcm(aes))' 0x000102…23 128 replay-window 4096 flag esn limit packet-hard 268435456
    /// encap espinudp 4791 4500 0.0.0.0 sel src 10.77.0.2 dst 10.77.0.1 proto udp dport 4791`.
    const IPROUTE2: &str = include_str!("../tests/vectors/state.hex");

    fn pair() -> Pair {
        Pair::new("10.77.0.1".parse().unwrap(), "10.77.0.2".parse().unwrap()).unwrap()
    }

    fn inbound(pair: &Pair, material: &[u8]) -> Vec<u8> {
        let material = Material::new(material).unwrap();
        let state = State {
            pair,
            direction: Direction::In,
            spi: 0xc1c2_c3c4,
            reqid: FIRST + 0x1234,
            ports: Ports { own: 4500, peer: 4791 },
            material: &material,
            packets: 1 << 28,
        };
        state.message(NEW).body().to_vec()
    }

    #[test]
    fn a_state_is_what_iproute2_sends() {
        let material: Vec<u8> = (0..36).collect();
        assert_eq!(inbound(&pair(), &material), policy::tests::bytes(IPROUTE2));
    }

    #[test]
    fn a_state_is_read_and_a_part_of_one_is_not() {
        let body = inbound(&pair(), &[7; 20]);
        let state = StateStatus::parse(&body).unwrap();
        assert_eq!((state.spi, state.reqid, state.packets), (0xc1c2_c3c4, FIRST + 0x1234, 0));
        assert_eq!((state.source, state.destination), (pair().peer(), pair().own()));
        assert!(state.is_esp());
        for cut in 0..INFO {
            assert_eq!(StateStatus::parse(&body[..cut]), None);
        }
    }

    #[test]
    fn the_structures_have_the_kernels_lengths() {
        assert_eq!(allocate_spi(&pair(), FIRST).body().len(), 232);
        assert_eq!(about(GET, pair().own(), 5).body().len(), 24);
    }
}
