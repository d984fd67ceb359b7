//! Path MTUs: how many payload bytes a packet carries.

use core::fmt;

/// A path MTU: payload bytes of a full packet, headers not counted (IBA 4.4.3; `enum ibv_mtu`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Mtu {
    /// 256 bytes.
    B256 = 1,
    /// 512 bytes.
    B512 = 2,
    /// 1024 bytes: what an Ethernet MTU of 1500 allows.
    B1024 = 3,
    /// 2048 bytes.
    B2048 = 4,
    /// 4096 bytes: what jumbo frames or loopback allow.
    B4096 = 5,
}

impl Mtu {
    /// Every path MTU, smallest first.
    pub const ALL: [Self; 5] = [Self::B256, Self::B512, Self::B1024, Self::B2048, Self::B4096];

    /// What a RoCEv2 packet may add to its payload: IPv6 header 40, UDP 8, BTH 12, the largest extension headers
    /// (AtomicETH, 28), ICRC 4. One figure for both IP versions, so that both ends come to the same path MTU.
    pub const OVERHEAD: usize = 40 + 8 + 12 + 28 + 4;

    /// Payload bytes of a full packet.
    #[must_use]
    pub const fn bytes(self) -> u32 {
        128 << self as u8
    }

    /// The MTU of that many bytes, if there is one.
    #[must_use]
    pub fn from_bytes(bytes: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|mtu| mtu.bytes() == bytes)
    }

    /// The MTU with that number in `enum ibv_mtu`, if there is one.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|mtu| mtu.code() == code)
    }

    /// Its number in `enum ibv_mtu`: 1 for 256 bytes to 5 for 4096.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The largest path MTU whose packets fit an interface (or route) MTU of `bytes`, as rxe's
    /// `eth_mtu_int_to_enum` does; `None` where not even 256 bytes fit.
    #[must_use]
    pub fn for_interface(bytes: usize) -> Option<Self> {
        let room = bytes.checked_sub(Self::OVERHEAD)?;
        Self::ALL.into_iter().rev().find(|mtu| mtu.bytes() as usize <= room)
    }

    /// How many packets a message of `len` bytes takes; an empty message takes one.
    #[must_use]
    pub const fn packets(self, len: u32) -> u32 {
        let packets = len.div_ceil(self.bytes());
        if packets == 0 { 1 } else { packets }
    }
}

impl fmt::Debug for Mtu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mtu({})", self.bytes())
    }
}

impl fmt::Display for Mtu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_bytes_name_the_same_mtu() {
        for mtu in Mtu::ALL {
            assert_eq!(Mtu::from_bytes(mtu.bytes()), Some(mtu));
            assert_eq!(Mtu::from_code(mtu.code()), Some(mtu));
        }
        assert_eq!(Mtu::ALL.map(Mtu::bytes), [256, 512, 1024, 2048, 4096]);
        assert_eq!(Mtu::from_code(0), None);
        assert_eq!(Mtu::from_bytes(1500), None);
    }

    #[test]
    fn common_interfaces_give_the_usual_path_mtu() {
        assert_eq!(Mtu::for_interface(1500), Some(Mtu::B1024));
        assert_eq!(Mtu::for_interface(9000), Some(Mtu::B4096));
        assert_eq!(Mtu::for_interface(65_536), Some(Mtu::B4096));
        assert_eq!(Mtu::for_interface(256 + Mtu::OVERHEAD), Some(Mtu::B256));
        assert_eq!(Mtu::for_interface(255 + Mtu::OVERHEAD), None);
        assert_eq!(Mtu::for_interface(0), None);
    }

    #[test]
    fn an_empty_message_takes_one_packet() {
        let packets = [0, 1, 1024, 1025, 1 << 31].map(|len| Mtu::B1024.packets(len));
        assert_eq!(packets, [1, 1, 1, 2, 1 << 21]);
    }
}
