//! What agents say to each other: one message a frame, CBOR (RFC 8949).

use super::{Instance, PairError};
use minicbor::{Decode, Decoder, Encode};
use rdma_verbs::esp::Spi;
use std::net::IpAddr;
use std::num::NonZeroU16;

/// The version of these messages.
pub(super) const VERSION: u16 = 2;

/// Bytes of the longest: all have fixed fields.
pub(super) const LONGEST: usize = 128;

/// A device, as it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Device {
    /// Its address.
    #[n(0)]
    pub address: IpAddr,
    /// Its slot there.
    #[n(1)]
    pub slot: u8,
}

impl From<Instance> for Device {
    fn from(Instance { address, slot }: Instance) -> Self {
        Self { address, slot }
    }
}

impl From<Device> for Instance {
    fn from(Device { address, slot }: Device) -> Self {
        Self { address: address.to_canonical(), slot }
    }
}

/// A message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Message {
    /// Who connected begins: its device wants keys with one of the other side, and takes packets by an SPI.
    #[n(0)]
    Hello {
        /// Of the agents' protocol.
        #[n(0)]
        version: u16,
        /// Its device.
        #[n(1)]
        from: Device,
        /// The other side's.
        #[n(2)]
        to: Device,
        /// The SPI.
        #[n(3)]
        spi: u32,
    },
    /// The other device takes packets by this SPI, from now on.
    #[n(1)]
    Welcome {
        /// The SPI.
        #[n(0)]
        spi: u32,
        /// The UDP port to which packets go, where a kernel opens them. Then it opens and seals for all queue pairs at
        /// its address, and the ICRC of each packet has to be right.
        #[n(1)]
        esp_port: Option<NonZeroU16>,
    },
    /// It doesn't.
    #[n(2)]
    Refused {
        /// Why, as a number.
        #[n(0)]
        code: u8,
    },
    /// The first one takes packets, too.
    #[n(3)]
    Ready,
    /// The sender's device takes packets under the peer's key of that number by another SPI, from now on.
    #[n(4)]
    Spi {
        /// Which of the peer's keys.
        #[n(0)]
        epoch: u64,
        /// The SPI.
        #[n(1)]
        spi: u32,
    },
}

impl Message {
    /// The message with these bytes, if they are one and nothing else.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut decoder = Decoder::new(bytes);
        let message = decoder.decode().ok()?;
        (decoder.position() == bytes.len()).then_some(message)
    }

    /// Its bytes, at most 128.
    #[must_use]
    pub fn to_bytes(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(LONGEST);
        // Writing to memory doesn't fail.
        let _ = minicbor::encode(self, &mut bytes);
        bytes
    }
}

/// The SPI with that number.
pub(super) fn spi(number: u32) -> Result<Spi, PairError> {
    Spi::new(number).ok_or(PairError::Protocol)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_message_is_longer_than_a_frame() {
        let device = Device { address: "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff".parse().unwrap(), slot: 255 };
        for message in [
            Message::Hello { version: u16::MAX, from: device, to: device, spi: u32::MAX },
            Message::Welcome { spi: u32::MAX, esp_port: NonZeroU16::new(u16::MAX) },
            Message::Refused { code: u8::MAX },
            Message::Ready,
            Message::Spi { epoch: u64::MAX, spi: u32::MAX },
        ] {
            let bytes = message.to_bytes();
            assert!(bytes.len() <= LONGEST, "{message:?}: {}", bytes.len());
            assert_eq!(Message::from_bytes(&bytes), Some(message));
            assert_eq!(Message::from_bytes(&[&bytes[..], &[0]].concat()), None, "with something behind it");
            assert_eq!(Message::from_bytes(&bytes[..bytes.len() - 1]), None, "cut off");
        }
    }

    /// A variant is an array of its number and an array of its fields; an address one of 0 or 1, for IPv4 or IPv6, and
    /// its bytes.
    #[test]
    fn messages_are_these_bytes() {
        let v4 = Device { address: [192, 0, 2, 1].into(), slot: 0 };
        let v6 = Device { address: "2001:db8::1".parse().unwrap(), slot: 63 };
        let hello = Message::Hello { version: 1, from: v4, to: v6, spi: 0xc008_0001 };
        for (message, bytes) in [
            (
                hello,
                "8200 84 01 82 8200 44c0000201 00 82 8201 5020010db8000000000000000000000001 183f 1ac0080001",
            ),
            (Message::Welcome { spi: 0xfeff_3fff, esp_port: None }, "8201 81 1afeff3fff"),
            (
                Message::Welcome { spi: 0xfeff_3fff, esp_port: NonZeroU16::new(4500) },
                "8201 82 1afeff3fff 191194",
            ),
            (Message::Refused { code: 4 }, "8202 81 04"),
            (Message::Ready, "8203 80"),
            (Message::Spi { epoch: 2, spi: 0xc108_3f02 }, "8204 82 02 1ac1083f02"),
        ] {
            let hex: String = message.to_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(hex, bytes.replace(' ', ""), "{message:?}");
        }
    }
}
