//! What two rsockets tell each other, as rdma-core's `librdmacm/docs/rsocket` specifies it: the private data of a
//! connection's REQ and REP, the immediate data of WRITEs, and what WRITEs put into the peer's lists.

use std::ops::Range;

/// The version of the protocol.
const VERSION: u8 = 1;

/// The sender's memory is big-endian.
const FLAG_NET: u8 = 1 << 0;
/// The sender has a list of mapped buffers.
const FLAG_IOMAP: u8 = 1 << 1;

/// The places for receive buffers in each side's target list.
pub const TARGETS: u32 = 2;

/// In which order a host has the bytes of its numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    /// The least significant one first.
    Little,
    /// The most significant one first.
    Big,
}

impl Order {
    /// This host's.
    pub const HOST: Self = if cfg!(target_endian = "big") { Self::Big } else { Self::Little };

    fn u32(self, number: u32) -> [u8; 4] {
        if self == Self::Big { number.to_be_bytes() } else { number.to_le_bytes() }
    }

    fn u64(self, number: u64) -> [u8; 8] {
        if self == Self::Big { number.to_be_bytes() } else { number.to_le_bytes() }
    }
}

/// Memory that a peer may write (`rs_sge`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Sge {
    /// Its first byte.
    pub addr: u64,
    /// Its region's remote key.
    pub key: u32,
    /// Its bytes; of a target list, its entries.
    pub length: u32,
}

impl Sge {
    /// Bytes of one.
    pub const BYTES: u32 = 16;
    /// The same number.
    pub const LEN: usize = Self::BYTES as usize;

    /// As it is written into a list of a host with that order.
    pub fn encode(self, order: Order) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[..8].copy_from_slice(&order.u64(self.addr));
        bytes[8..12].copy_from_slice(&order.u32(self.key));
        bytes[12..].copy_from_slice(&order.u32(self.length));
        bytes
    }

    /// As it stands in a list of this host, where a peer has put it.
    pub fn decode(bytes: [u8; Self::LEN]) -> Self {
        let [a0, a1, a2, a3, a4, a5, a6, a7, k0, k1, k2, k3, l0, l1, l2, l3] = bytes;
        Self {
            addr: u64::from_ne_bytes([a0, a1, a2, a3, a4, a5, a6, a7]),
            key: u32::from_ne_bytes([k0, k1, k2, k3]),
            length: u32::from_ne_bytes([l0, l1, l2, l3]),
        }
    }
}

/// A buffer that a program has mapped, at an offset that its peer's program knows (`rs_iomap`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Iomap {
    /// What the peer's program calls its first byte.
    pub offset: u64,
    /// The buffer.
    pub sge: Sge,
}

impl Iomap {
    /// Bytes of one.
    pub const BYTES: u32 = 24;
    /// The same number.
    pub const LEN: usize = Self::BYTES as usize;

    /// As it is written into a list of a host with that order.
    pub fn encode(self, order: Order) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[..8].copy_from_slice(&order.u64(self.offset));
        bytes[8..].copy_from_slice(&self.sge.encode(order));
        bytes
    }

    /// As it stands in a list of this host, where a peer has put it.
    pub fn decode(bytes: [u8; Self::LEN]) -> Self {
        let (mut offset, mut sge) = ([0; 8], [0; Sge::LEN]);
        offset.copy_from_slice(&bytes[..8]);
        sge.copy_from_slice(&bytes[8..]);
        Self { offset: u64::from_ne_bytes(offset), sge: Sge::decode(sge) }
    }

    /// How many of `len` bytes from `offset` on are in it, and where the first of them is at the peer; `None` if that
    /// isn't in it.
    pub fn find(self, offset: u64, len: u32) -> Option<(u64, u32)> {
        let within = offset.checked_sub(self.offset)?;
        let left = u64::from(self.sge.length).checked_sub(within).filter(|left| *left > 0)?;
        // At most as many as the length says, which has 32 bits.
        let len = len.min(u32::try_from(left).unwrap_or(u32::MAX));
        Some((self.sge.addr.wrapping_add(within), len))
    }
}

/// How many entries a list of mapped buffers has, as 8 bits: exactly up to 128, and rounded down to multiples of 256
/// above.
pub fn scaled(entries: u16) -> u8 {
    u8::try_from(entries).ok().filter(|small| *small <= 0x80).unwrap_or_else(|| {
        let [high, _] = entries.to_be_bytes();
        0x80 | high.min(0x7f)
    })
}

/// The number of entries that 8 bits mean.
pub fn unscaled(scaled: u8) -> u16 {
    if scaled <= 0x80 { scaled.into() } else { u16::from(scaled & 0x7f) << 8 }
}

/// The private data of a REQ and a REP (`rs_conn_data`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ConnectData {
    /// Its host's order of bytes.
    pub order: Order,
    /// Messages that it receives before it has said more.
    pub credits: u16,
    /// The entries of its list of mapped buffers, which stands behind its target list.
    pub iomaps: u16,
    /// Its target list, whose length is in entries.
    pub targets: Sge,
    /// The receive buffer that its peer begins with.
    pub data: Sge,
}

impl ConnectData {
    /// Bytes of it.
    pub const LEN: usize = 40;

    /// As private data.
    pub fn encode(&self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[0] = VERSION;
        bytes[1] = FLAG_IOMAP | if self.order == Order::Big { FLAG_NET } else { 0 };
        bytes[2..4].copy_from_slice(&self.credits.to_be_bytes());
        bytes[7] = scaled(self.iomaps);
        bytes[8..24].copy_from_slice(&self.targets.encode(Order::Big));
        bytes[24..].copy_from_slice(&self.data.encode(Order::Big));
        bytes
    }

    /// What private data says that begins with it; `None` if it doesn't, or if it is another version's.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.first_chunk::<{ Self::LEN }>().filter(|bytes| bytes[0] == VERSION)?;
        let sge = |range: Range<usize>| {
            let bytes = &bytes[range];
            let mut sge = [[0; 8], [0; 8]];
            sge[0].copy_from_slice(&bytes[..8]);
            sge[1].copy_from_slice(&bytes[8..]);
            let [k0, k1, k2, k3, l0, l1, l2, l3] = sge[1];
            Sge {
                addr: u64::from_be_bytes(sge[0]),
                key: u32::from_be_bytes([k0, k1, k2, k3]),
                length: u32::from_be_bytes([l0, l1, l2, l3]),
            }
        };
        Some(Self {
            order: if bytes[1] & FLAG_NET == 0 { Order::Little } else { Order::Big },
            credits: u16::from_be_bytes([bytes[2], bytes[3]]),
            iomaps: if bytes[1] & FLAG_IOMAP == 0 { 0 } else { unscaled(bytes[7]) },
            targets: sge(8..24),
            data: sge(24..40),
        })
    }
}

/// What immediate data says: 3 bits of type, and 29 that depend on it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Message {
    /// So many bytes are in the receive buffer.
    Data(u32),
    /// Messages up to that number are received now, and there may be another receive buffer in the target list.
    Credits(u32),
    /// That entry of the list of mapped buffers was written.
    Iomap(u32),
    /// The sender neither sends nor receives any more.
    Disconnect,
    /// Says nothing.
    Keepalive,
    /// The sender sends no more.
    Shutdown,
}

impl Message {
    /// The most that 29 bits hold.
    const MAX: u32 = (1 << 29) - 1;

    /// As immediate data.
    pub fn encode(self) -> u32 {
        let (kind, of) = match self {
            Self::Data(len) => (0, len),
            Self::Credits(upto) => (4, upto),
            Self::Iomap(index) => (6, index),
            Self::Disconnect => (7, 0),
            Self::Keepalive => (7, 1),
            Self::Shutdown => (7, 2),
        };
        kind << 29 | of & Self::MAX
    }

    /// `None` for what has no meaning.
    pub fn decode(word: u32) -> Option<Self> {
        let of = word & Self::MAX;
        match (word >> 29, of) {
            (0, _) => Some(Self::Data(of)),
            (4, _) => Some(Self::Credits(of)),
            (6, _) => Some(Self::Iomap(of)),
            (7, 0) => Some(Self::Disconnect),
            (7, 1) => Some(Self::Keepalive),
            (7, 2) => Some(Self::Shutdown),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATA: ConnectData = ConnectData {
        order: Order::Little,
        credits: 384,
        iomaps: 1,
        targets: Sge { addr: 0x0102_0304_0506_0708, key: 0x1122_3344, length: TARGETS },
        data: Sge { addr: 0x7f00_0000_0000, key: 0x5566_7788, length: 0x1_0000 },
    };

    /// What librdmacm 44 sends from x86-64 with these figures.
    #[test]
    fn private_data_lies_as_rdma_cores() {
        let bytes = [
            1, 2, 1, 0x80, 0, 0, 0, 1, // version, flags, credits, reserved, mapped buffers
            1, 2, 3, 4, 5, 6, 7, 8, 0x11, 0x22, 0x33, 0x44, 0, 0, 0, 2, //
            0, 0, 0x7f, 0, 0, 0, 0, 0, 0x55, 0x66, 0x77, 0x88, 0, 1, 0, 0,
        ];
        assert_eq!(DATA.encode(), bytes);
        assert_eq!(ConnectData::decode(&[&bytes[..], &[0; 16]].concat()), Some(DATA));
        assert_eq!(ConnectData::decode(&bytes[..39]), None);
        let big = ConnectData { order: Order::Big, ..DATA };
        assert_eq!(ConnectData::decode(&big.encode()), Some(big));
        let mut other = bytes;
        other[0] = 2;
        assert_eq!(ConnectData::decode(&other), None, "another version");
        let mut without = bytes;
        without[1] = 0;
        assert_eq!(ConnectData::decode(&without).map(|data| data.iomaps), Some(0), "no mapped buffers");
    }

    #[test]
    fn messages_survive_the_way_and_what_means_nothing_is_none() {
        for message in [
            Message::Data(0),
            Message::Data(Message::MAX),
            Message::Credits(0x1_fffd),
            Message::Iomap(7),
            Message::Disconnect,
            Message::Keepalive,
            Message::Shutdown,
        ] {
            assert_eq!(Message::decode(message.encode()), Some(message));
        }
        assert_eq!(Message::Credits(5).encode(), 0x8000_0005);
        assert_eq!(Message::Shutdown.encode(), 0xe000_0002);
        for word in [1 << 29, 2 << 29, 3 << 29, 5 << 29, 7 << 29 | 3] {
            assert_eq!(Message::decode(word), None, "{word:#x}");
        }
    }

    #[test]
    fn entries_are_in_the_peers_order() {
        let iomap = Iomap { offset: 1, sge: Sge { addr: 2, key: 3, length: 4 } };
        assert_eq!(Iomap::decode(iomap.encode(Order::HOST)), iomap);
        let other = if Order::HOST == Order::Big { Order::Little } else { Order::Big };
        assert_eq!(Iomap::decode(iomap.encode(other)).offset, 1 << 56);
        assert_eq!(Iomap::decode(iomap.encode(other)).sge.length, 4 << 24);
    }

    #[test]
    fn numbers_of_mapped_buffers_are_rounded_down() {
        for (entries, meant) in [(0, 0), (1, 1), (128, 128), (256, 256), (700, 512), (u16::MAX, 0x7f00)] {
            assert_eq!(unscaled(scaled(entries)), meant, "{entries}");
        }
    }

    #[test]
    fn what_lies_in_a_mapped_buffer_is_found_there() {
        let iomap = Iomap { offset: 100, sge: Sge { addr: 5000, key: 3, length: 50 } };
        assert_eq!(iomap.find(100, 50), Some((5000, 50)));
        assert_eq!(iomap.find(120, 50), Some((5020, 30)));
        assert_eq!(iomap.find(150, 1), None);
        assert_eq!(iomap.find(99, 1), None);
        let end = Iomap { offset: u64::MAX, sge: Sge { addr: u64::MAX, key: 0, length: u32::MAX } };
        assert_eq!(end.find(u64::MAX, u32::MAX), Some((u64::MAX, u32::MAX)));
    }
}
