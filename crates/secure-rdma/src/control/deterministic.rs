//! CBOR in its one deterministic form, checked before anything is made of it.

/// How deep a record may nest: the record's array, its map, the map of a structure in it, and room for later versions.
const MAX_DEPTH: usize = 8;

/// Why bytes aren't a record in deterministic CBOR (RFC 8949, section 4.2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Irregular {
    /// An item announces more bytes or items than follow.
    #[error("it ends in the middle of an item")]
    Truncated,
    /// Bytes follow the record.
    #[error("{0} bytes follow it")]
    Trailing(usize),
    /// It isn't an array of a number and a map.
    #[error("it isn't an array of a record number and a map of fields")]
    NotARecord,
    /// A number or length is written in more bytes than it needs.
    #[error("a number is written in more bytes than it needs")]
    NotShortest,
    /// A string, array or map of indefinite length.
    #[error("an item has no definite length")]
    Indefinite,
    /// A map's keys aren't in ascending order, or one is there twice.
    #[error("a map's keys are not in order, or one is there twice")]
    KeyOrder,
    /// It nests deeper than any record does.
    #[error("it nests deeper than {MAX_DEPTH} levels")]
    TooDeep,
    /// A kind of item that no record uses: a tag, a float, a simple value other than false, true and null, or
    /// a reserved encoding.
    #[error("it holds an item that no record uses (initial byte {0:#04x})")]
    Unused(u8),
    /// A text string that isn't UTF-8.
    #[error("a text string is not UTF-8")]
    NotUtf8,
}

/// What an item is, by the top three bits of its initial byte (RFC 8949, section 3.1).
mod major {
    pub(super) const UNSIGNED: u8 = 0;
    pub(super) const NEGATIVE: u8 = 1;
    pub(super) const BYTES: u8 = 2;
    pub(super) const TEXT: u8 = 3;
    pub(super) const ARRAY: u8 = 4;
    pub(super) const MAP: u8 = 5;
    pub(super) const TAG: u8 = 6;
}

/// Checks that `bytes` are one record and nothing else, and gives its number.
pub(super) fn record_number(bytes: &[u8]) -> Result<u64, Irregular> {
    let mut all = Items { rest: bytes };
    all.item(0)?;
    if !all.rest.is_empty() {
        return Err(Irregular::Trailing(all.rest.len()));
    }

    let mut parts = Items { rest: bytes };
    if parts.head()? != (major::ARRAY, 2) {
        return Err(Irregular::NotARecord);
    }
    match (parts.head()?, parts.head()?) {
        ((major::UNSIGNED, number), (major::MAP, _)) => Ok(number),
        _ => Err(Irregular::NotARecord),
    }
}

struct Items<'a> {
    rest: &'a [u8],
}

impl<'a> Items<'a> {
    /// Steps over one item, with all that it holds. Recursion ends at `MAX_DEPTH`, loops at the end of the
    /// bytes: whatever number of items is announced, each of them takes at least one byte.
    fn item(&mut self, depth: usize) -> Result<(), Irregular> {
        if depth == MAX_DEPTH {
            return Err(Irregular::TooDeep);
        }
        let initial = self.rest.first().copied().unwrap_or_default();
        match self.head()? {
            (major::UNSIGNED | major::NEGATIVE, _) => Ok(()),
            (major::BYTES, length) => self.take(length).map(drop),
            (major::TEXT, length) => {
                let text = self.take(length)?;
                core::str::from_utf8(text).map(drop).map_err(|_| Irregular::NotUtf8)
            }
            (major::ARRAY, count) => (0..count).try_for_each(|_| self.item(depth + 1)),
            (major::MAP, count) => self.map(count, depth + 1),
            (major::TAG, _) => Err(Irregular::Unused(initial)),
            // Simple values: false, true, null.
            (_, 20..=22) => Ok(()),
            _ => Err(Irregular::Unused(initial)),
        }
    }

    fn map(&mut self, count: u64, depth: usize) -> Result<(), Irregular> {
        let mut previous: &[u8] = &[];
        for _ in 0..count {
            let before = self.rest;
            self.item(depth)?;
            let key = &before[..before.len() - self.rest.len()];
            // Every encoding is longer than the empty slice that the first is compared with.
            if key <= previous {
                return Err(Irregular::KeyOrder);
            }
            previous = key;
            self.item(depth)?;
        }
        Ok(())
    }

    /// An item's major type and argument (RFC 8949, section 3).
    fn head(&mut self) -> Result<(u8, u64), Irregular> {
        let (&initial, rest) = self.rest.split_first().ok_or(Irregular::Truncated)?;
        self.rest = rest;
        let (major, info) = (initial >> 5, initial & 0x1f);
        let (argument, shortest) = match info {
            0..=23 => return Ok((major, u64::from(info))),
            // Behind major type 7 these would be one-byte simple values and floats.
            24..=27 if major > major::TAG => return Err(Irregular::Unused(initial)),
            24 => (u64::from(u8::from_be_bytes(self.array()?)), 24),
            25 => (u64::from(u16::from_be_bytes(self.array()?)), 1 << 8),
            26 => (u64::from(u32::from_be_bytes(self.array()?)), 1 << 16),
            27 => (u64::from_be_bytes(self.array()?), 1 << 32),
            31 if (major::BYTES..=major::MAP).contains(&major) => return Err(Irregular::Indefinite),
            _ => return Err(Irregular::Unused(initial)),
        };
        if argument < shortest { Err(Irregular::NotShortest) } else { Ok((major, argument)) }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Irregular> {
        let (array, rest) = self.rest.split_first_chunk().ok_or(Irregular::Truncated)?;
        self.rest = rest;
        Ok(*array)
    }

    fn take(&mut self, length: u64) -> Result<&'a [u8], Irregular> {
        let length = usize::try_from(length).map_err(|_| Irregular::Truncated)?;
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(Irregular::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A record number 9 whose only field, number 0, is `value`.
    fn with(value: &[u8]) -> Vec<u8> {
        [&[0x82, 9, 0xa1, 0], value].concat()
    }

    #[test]
    fn a_record_gives_its_number() {
        assert_eq!(record_number(&[0x82, 9, 0xa0]), Ok(9));
        assert_eq!(record_number(&[0x82, 0x1b, 255, 255, 255, 255, 255, 255, 255, 255, 0xa0]), Ok(u64::MAX));
        assert_eq!(record_number(&with(&[0x83, 0xf4, 0xf5, 0xf6])), Ok(9));
    }

    #[test]
    fn other_shapes_are_not_records() {
        for bytes in [
            &[0x00][..],
            &[0xa0],
            &[0x80],
            &[0x81, 9],
            &[0x82, 9, 0x80],
            &[0x82, 0x20, 0xa0],
            &[0x83, 9, 0xa0, 0],
        ] {
            assert_eq!(record_number(bytes), Err(Irregular::NotARecord), "{bytes:x?}");
        }
        assert_eq!(record_number(&[]), Err(Irregular::Truncated));
        assert_eq!(record_number(&[0x82, 9, 0xa0, 0, 0]), Err(Irregular::Trailing(2)));
    }

    #[test]
    fn a_number_has_one_spelling() {
        for long in [
            &[0x18, 23][..],
            &[0x19, 0, 255],
            &[0x1a, 0, 0, 255, 255],
            &[0x1b, 0, 0, 0, 0, 255, 255, 255, 255],
            &[0x38, 23],
            &[0x58, 1, 0],
            &[0x78, 1, b'a'],
            &[0x98, 1, 0],
            &[0xb8, 1, 0, 0],
        ] {
            assert_eq!(record_number(&with(long)), Err(Irregular::NotShortest), "{long:x?}");
        }
        for short in [&[0x18, 24][..], &[0x19, 1, 0], &[0x1a, 0, 1, 0, 0], &[0x1b, 0, 0, 0, 1, 0, 0, 0, 0]] {
            assert_eq!(record_number(&with(short)), Ok(9), "{short:x?}");
        }
    }

    #[test]
    fn a_map_has_each_key_once_and_in_order() {
        assert_eq!(record_number(&[0x82, 9, 0xa2, 0, 1, 1, 1]), Ok(9));
        assert_eq!(record_number(&[0x82, 9, 0xa2, 0, 1, 0, 1]), Err(Irregular::KeyOrder));
        assert_eq!(record_number(&[0x82, 9, 0xa2, 1, 1, 0, 1]), Err(Irregular::KeyOrder));
    }

    #[test]
    fn indefinite_lengths_tags_floats_and_reserved_encodings_are_refused() {
        for open in [&[0x5f, 0xff][..], &[0x7f, 0xff], &[0x9f, 0xff], &[0xbf, 0xff]] {
            assert_eq!(record_number(&with(open)), Err(Irregular::Indefinite), "{open:x?}");
        }
        for unused in [
            &[0xc0, 0][..],
            &[0xf9, 0, 0],
            &[0xfa, 0, 0, 0, 0],
            &[0xfb, 0, 0, 0, 0, 0, 0, 0, 0],
            &[0xf8, 32],
            &[0xf7],
            &[0xff],
            &[0x1c],
            &[0x1f],
        ] {
            assert_eq!(record_number(&with(unused)), Err(Irregular::Unused(unused[0])), "{unused:x?}");
        }
    }

    #[test]
    fn huge_announced_lengths_end_at_the_end_of_the_bytes() {
        for initial in [0x5b, 0x7b, 0x9b, 0xbb] {
            let huge = [&[initial][..], &[0xff; 8]].concat();
            assert_eq!(record_number(&with(&huge)), Err(Irregular::Truncated), "{initial:x}");
        }
    }

    #[test]
    fn nesting_ends_at_the_limit_however_deep_the_bytes_go() {
        for initial in [0x81, 0xa1] {
            let deep = vec![initial; 16_000];
            assert_eq!(record_number(&with(&deep)), Err(Irregular::TooDeep), "{initial:x}");
        }
        let allowed = [&[0x81; MAX_DEPTH - 3][..], &[0]].concat();
        assert_eq!(record_number(&with(&allowed)), Ok(9));
    }

    #[test]
    fn text_is_utf8() {
        assert_eq!(record_number(&with(&[0x62, 0xc3, 0xa4])), Ok(9));
        assert_eq!(record_number(&with(&[0x61, 0xff])), Err(Irregular::NotUtf8));
    }
}
