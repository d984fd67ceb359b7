//! What agents say to each other.

use super::{Instance, PairError};
use minicbor::{Decode, Encode};
use rdma_verbs::esp::Spi;
use std::net::IpAddr;

/// The version of these messages.
pub(super) const VERSION: u16 = 1;

/// Bytes of the longest: all have fixed fields.
pub(super) const LONGEST: usize = 128;

/// A device, as it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub(super) struct Device {
    #[n(0)]
    address: IpAddr,
    #[n(1)]
    slot: u8,
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

#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub(super) enum Message {
    /// Who connected begins: its device wants keys with one of the other side, and takes packets by an SPI.
    #[n(0)]
    Hello {
        #[n(0)]
        version: u16,
        #[n(1)]
        from: Device,
        #[n(2)]
        to: Device,
        #[n(3)]
        spi: u32,
    },
    /// The other device takes packets by this SPI, from now on.
    #[n(1)]
    Welcome {
        #[n(0)]
        spi: u32,
    },
    /// It doesn't.
    #[n(2)]
    Refused {
        #[n(0)]
        code: u8,
    },
    /// The first one takes packets, too.
    #[n(3)]
    Ready,
    /// The sender's device takes packets under the peer's key of that number by another SPI, from now on.
    #[n(4)]
    Spi {
        #[n(0)]
        epoch: u64,
        #[n(1)]
        spi: u32,
    },
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
            Message::Welcome { spi: u32::MAX },
            Message::Refused { code: u8::MAX },
            Message::Ready,
            Message::Spi { epoch: u64::MAX, spi: u32::MAX },
        ] {
            let bytes = minicbor::to_vec(message).unwrap();
            assert!(bytes.len() <= LONGEST, "{message:?}: {}", bytes.len());
            assert_eq!(minicbor::decode::<Message>(&bytes).unwrap(), message);
        }
    }
}
