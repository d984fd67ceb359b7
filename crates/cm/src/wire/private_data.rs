//! Private data: bytes of the consumers', as many as the message has room for.

use core::fmt;

use super::Data;
use super::field::{Field, Place};

/// `N` bytes for the consumer, zeros behind what it gave (IBA 12.7.35). Its length isn't on the wire.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PrivateData<const N: usize>(pub [u8; N]);

/// More private data than a message has room for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{len} bytes of private data, the message has room for {room}")]
pub struct TooLong {
    /// Bytes given.
    pub len: usize,
    /// Bytes that there is room for.
    pub room: usize,
}

impl<const N: usize> PrivateData<N> {
    /// `bytes`, filled up with zeros.
    ///
    /// # Errors
    ///
    /// If there are more than `N` of them.
    pub fn new(bytes: &[u8]) -> Result<Self, TooLong> {
        let mut data = Self::default();
        let room = data.0.get_mut(..bytes.len()).ok_or(TooLong { len: bytes.len(), room: N })?;
        room.copy_from_slice(bytes);
        Ok(data)
    }
}

impl<const N: usize> Default for PrivateData<N> {
    fn default() -> Self {
        Self([0; N])
    }
}

impl<const N: usize> fmt::Debug for PrivateData<N> {
    /// Only its length: it is the consumers' own, and may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrivateData({N} bytes)")
    }
}

impl<const N: usize> Field for PrivateData<N> {
    fn read(data: &Data, place: Place) -> Self {
        Self(Field::read(data, place))
    }

    fn write(self, data: &mut Data, place: Place) {
        self.0.write(data, place);
    }
}
