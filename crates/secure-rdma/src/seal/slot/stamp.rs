//! What a slot says of itself: who sealed it, and as the author's how manieth.

use super::STAMP;
use crate::control::Role;

/// A stamp. The number is never 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp(u64);

/// The author's bit.
const SERVER: u64 = 1 << 63;

impl Stamp {
    /// `author`'s slot of that number, unless it has more than 63 bits or is 0.
    pub(super) const fn new(author: Role, number: u64) -> Option<Self> {
        if number == 0 || number & SERVER != 0 {
            return None;
        }
        match author {
            Role::Client => Some(Self(number)),
            Role::Server => Some(Self(number | SERVER)),
        }
    }

    /// The stamp that `bytes` are; `None` if its number is 0.
    pub(super) const fn from_bytes(bytes: [u8; STAMP]) -> Option<Self> {
        Self::from_word(u64::from_be_bytes(bytes))
    }

    /// The stamp that [`word`](Self::word) gave; `None` if its number is 0.
    pub(super) const fn from_word(word: u64) -> Option<Self> {
        if word & !SERVER == 0 { None } else { Some(Self(word)) }
    }

    pub(super) const fn bytes(self) -> [u8; STAMP] {
        self.0.to_be_bytes()
    }

    pub(super) const fn word(self) -> u64 {
        self.0
    }

    pub(super) const fn author(self) -> Role {
        if self.0 & SERVER == 0 { Role::Client } else { Role::Server }
    }

    pub(super) const fn number(self) -> u64 {
        self.0 & !SERVER
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_its_author_and_number() {
        for author in [Role::Client, Role::Server] {
            for number in [1, 2, 1 << 32, (1 << 63) - 1] {
                let stamp = Stamp::new(author, number).unwrap();
                assert_eq!((stamp.author(), stamp.number()), (author, number));
                assert_eq!(Stamp::from_bytes(stamp.bytes()), Some(stamp));
                assert_eq!(Stamp::from_word(stamp.word()), Some(stamp));
            }
            assert_eq!(Stamp::new(author, 0), None);
            assert_eq!(Stamp::new(author, 1 << 63), None);
        }
        assert_eq!(Stamp::from_bytes([0; STAMP]), None);
        assert_eq!(Stamp::from_word(SERVER), None);
    }
}
