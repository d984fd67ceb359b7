//! The pieces that files are moved, hashed and resumed in.

use minicbor::bytes::ByteArray;

/// Bytes of the largest chunk.
pub(crate) const MAX_CHUNK: u32 = 512 << 10;

/// Bytes that a chunk is a multiple of: a page, and a slot of a region whose messages are sealed.
pub(crate) const PAGE: u32 = 4096;

/// BLAKE3's hash of a chunk.
pub(crate) type Digest = ByteArray<32>;

/// A piece of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Chunk {
    pub(crate) offset: u64,
    pub(crate) len: usize,
}

impl Chunk {
    /// The chunk `index` of a file of `size` bytes, where all but the last are `whole` bytes long; `None` behind the
    /// file's end.
    pub(crate) fn of(size: u64, whole: u32, index: u64) -> Option<Self> {
        let offset = index.checked_mul(whole.into())?;
        let left = size.checked_sub(offset).filter(|left| *left > 0)?;
        let len = u32::try_from(left).map_or(whole, |left| left.min(whole));
        Some(Self { offset, len: len as usize })
    }

    /// The only chunk of a file of `size` bytes; `None` if it has none, or several.
    pub(crate) fn only(size: u64, whole: u32) -> Option<Self> {
        (size <= whole.into()).then(|| Self::of(size, whole, 0)).flatten()
    }

    /// How many there are in a file of `size` bytes.
    pub(crate) fn count(size: u64, whole: u32) -> u64 {
        size.div_ceil(whole.into())
    }
}

pub(crate) fn digest(bytes: &[u8]) -> Digest {
    (*blake3::hash(bytes).as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_cover_a_file_and_nothing_behind_it() {
        for size in [0, 1, 4095, 4096, 4097, 3 * 4096, u64::from(u32::MAX) * 4096 + 1] {
            let count = Chunk::count(size, 4096);
            if count > 0 {
                let last = Chunk::of(size, 4096, count - 1).unwrap();
                assert_eq!(last.offset + last.len as u64, size);
                assert!((1..=4096).contains(&last.len));
            }
            assert_eq!(Chunk::of(size, 4096, count), None);
            assert_eq!(Chunk::only(size, 4096), Chunk::of(size, 4096, 0).filter(|_| count == 1));
        }
        assert_eq!(Chunk::of(u64::MAX, 4096, u64::MAX), None);
    }
}
