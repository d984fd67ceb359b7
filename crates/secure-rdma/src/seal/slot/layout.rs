//! Which slots hold which bytes, and where they are.

use super::SLOT_OVERHEAD;
use crate::seal::SealError;

/// How slots are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Format {
    /// Bytes of plaintext in a slot: a power of two from 64 to 65,536.
    pub payload: u32,
    /// An author's numbers with the same bits above these share a key: `2^epoch_bits` slots at most, up to 20.
    pub epoch_bits: u8,
    /// Who writes slots.
    pub writers: Writers,
}

/// Who writes the slots of a region; both sides read them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writers {
    /// The client alone: it always knows what is newest, and any slot of the server's is refused.
    Client = 1,
    /// The server too, in its own memory. Who writes a slot must have opened the newest before, or have been
    /// told of it.
    Both = 3,
}

impl Format {
    /// Slots of 4 KiB, the size of a page and of most devices' blocks: writes of whole pages need no reading
    /// first. A key for a million of them. The client alone writes.
    pub const DEFAULT: Self = Self { payload: 4096, epoch_bits: 20, writers: Writers::Client };

    /// Bytes of a sealed slot.
    #[must_use]
    pub const fn stride(self) -> u32 {
        #[expect(clippy::cast_possible_truncation, reason = "it is 24")]
        const OVERHEAD: u32 = SLOT_OVERHEAD as u32;
        self.payload + OVERHEAD
    }
}

impl Default for Format {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// A region's sealed area: its slots, one behind the other from the region's start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    format: Format,
    slots: u32,
}

/// A part of a byte range that lies in one slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// Which slot.
    pub slot: u32,
    /// Where in the slot's plaintext it begins.
    pub start: usize,
    /// How many bytes it has, 1 or more.
    pub len: usize,
    /// Whether it is all of the slot: then it can be written without reading the slot first.
    pub whole: bool,
}

impl Layout {
    /// As many slots as hold `capacity` bytes of plaintext.
    ///
    /// # Errors
    /// [`SealError::Layout`] if the format isn't one, or the slots are none or more than 2^32 - 1.
    pub fn for_capacity(capacity: u64, format: Format) -> Result<Self, SealError> {
        Self::new(capacity.div_ceil(format.payload.max(1).into()), format)
    }

    /// As many slots as fill an area of exactly `area_len` bytes: what a client makes of its server's word.
    ///
    /// # Errors
    /// As [`for_capacity`](Self::for_capacity), and if the area doesn't end with a slot.
    pub fn for_area(area_len: u64, format: Format) -> Result<Self, SealError> {
        let stride = u64::from(format.payload) + SLOT_OVERHEAD as u64;
        if !area_len.is_multiple_of(stride) {
            return Err(SealError::Layout("its length isn't a multiple of a sealed slot's"));
        }
        Self::new(area_len / stride, format)
    }

    fn new(slots: u64, format: Format) -> Result<Self, SealError> {
        if !(format.payload.is_power_of_two() && (64..=1 << 16).contains(&format.payload)) {
            return Err(SealError::Layout("a slot's size is a power of two from 64 to 65,536"));
        }
        if format.epoch_bits > Format::DEFAULT.epoch_bits {
            return Err(SealError::Layout("a key seals 2^20 slots at most"));
        }
        match u32::try_from(slots) {
            Ok(slots) if slots > 0 => Ok(Self { format, slots }),
            _ => Err(SealError::Layout("a region has from 1 to 2^32 - 1 slots")),
        }
    }

    /// How its slots are made.
    #[must_use]
    pub const fn format(&self) -> Format {
        self.format
    }

    /// How many slots there are.
    #[must_use]
    pub const fn slots(&self) -> u32 {
        self.slots
    }

    /// Bytes of plaintext in a slot.
    #[must_use]
    pub const fn payload(&self) -> usize {
        self.format.payload as usize
    }

    /// Bytes of a sealed slot.
    #[must_use]
    pub const fn stride(&self) -> usize {
        self.payload() + SLOT_OVERHEAD
    }

    /// Bytes of plaintext in all slots.
    #[must_use]
    pub const fn capacity(&self) -> u64 {
        self.slots as u64 * self.payload() as u64
    }

    /// Bytes of all slots sealed: a multiple of 8.
    #[must_use]
    pub const fn area_len(&self) -> u64 {
        self.place(self.slots)
    }

    /// Where `slot` is in the region.
    #[must_use]
    pub const fn place(&self, slot: u32) -> u64 {
        slot as u64 * self.stride() as u64
    }

    /// The pieces that `len` bytes of plaintext from `offset` on are in, in order. Their slots follow each
    /// other: one RDMA operation can move several.
    ///
    /// # Errors
    /// [`SealError::OutOfRegion`].
    pub fn pieces(&self, offset: u64, len: u64) -> Result<impl Iterator<Item = Piece> + use<>, SealError> {
        let capacity = self.capacity();
        let end = offset.checked_add(len).filter(|end| *end <= capacity);
        let end = end.ok_or(SealError::OutOfRegion { offset, len, capacity })?;
        let payload = u64::from(self.format.payload);
        let mut at = offset;
        Ok(core::iter::from_fn(move || {
            let (slot, start) = (u32::try_from(at / payload).ok()?, at % payload);
            let len = (payload - start).min(end - at);
            at += len;
            let [start, size] = [start, len].map(|bytes| usize::try_from(bytes).ok());
            (len > 0).then_some(Piece { slot, start: start?, len: size?, whole: len == payload })
        }))
    }
}

#[cfg(test)]
mod tests;
