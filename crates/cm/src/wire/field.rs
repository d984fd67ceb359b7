//! Fields of messages: a run of bits at a constant place, most significant bit first.

use rocev2::{Psn, Qpn};

use super::{DATA_LEN, Data};
use crate::{CommId, Exponent, Gid};

/// Where a field stands: byte and bit at which it begins, and how many bits it has.
pub(super) type Place = (usize, usize, usize);

/// A value that a message carries. Reading takes any bits; writing drops the bits that have no place.
pub(super) trait Field: Copy {
    fn read(data: &Data, place: Place) -> Self;
    fn write(self, data: &mut Data, place: Place);
}

/// The bits that belong to fields; two fields in one place don't compile, nor does one outside.
pub(super) const fn mask(places: &[Place]) -> Data {
    let mut mask = [0; DATA_LEN];
    let mut i = 0;
    while i < places.len() {
        let (byte, bit, width) = places[i];
        let mut at = byte * 8 + bit;
        let end = at + width;
        assert!(end <= DATA_LEN * 8, "a field must lie inside its message");
        while at < end {
            assert!(mask[at / 8] & (0x80 >> (at % 8)) == 0, "fields must not overlap");
            mask[at / 8] |= 0x80 >> (at % 8);
            at += 1;
        }
        i += 1;
    }
    mask
}

/// The number in up to 64 bits.
fn get(data: &Data, (byte, bit, width): Place) -> u64 {
    let end = bit + width;
    let bytes = &data[byte..byte + end.div_ceil(8)];
    let all = bytes.iter().fold(0_u128, |all, &byte| all << 8 | u128::from(byte));
    let value = all >> (bytes.len() * 8 - end) & ((1 << width) - 1);
    u64::try_from(value).unwrap_or_default()
}

/// Writes the low `width` bits of `value`.
fn put(data: &mut Data, (byte, bit, width): Place, value: u64) {
    let end = bit + width;
    let bytes = &mut data[byte..byte + end.div_ceil(8)];
    let shift = bytes.len() * 8 - end;
    let mask = ((1_u128 << width) - 1) << shift;
    let value = u128::from(value) << shift & mask;
    let old = bytes.iter().fold(0_u128, |all, &byte| all << 8 | u128::from(byte));
    let new = (old & !mask | value).to_be_bytes();
    let skip = new.len() - bytes.len();
    bytes.copy_from_slice(&new[skip..]);
}

/// Numbers: from 64 bits and to them.
macro_rules! number {
    ($type:ty, $value:ident => $read:expr, $number:ident => $write:expr) => {
        impl Field for $type {
            fn read(data: &Data, place: Place) -> Self {
                let $value = get(data, place);
                $read
            }

            fn write(self, data: &mut Data, place: Place) {
                let $number = self;
                put(data, place, $write);
            }
        }
    };
}

// A field is never wider than its type: what a place holds fits.
number!(u8, value => Self::try_from(value).unwrap_or(Self::MAX), number => number.into());
number!(u16, value => Self::try_from(value).unwrap_or(Self::MAX), number => number.into());
number!(u32, value => Self::try_from(value).unwrap_or(Self::MAX), number => number.into());
number!(u64, value => value, number => number);
number!(bool, value => value != 0, number => number.into());
number!(Qpn, value => Self::truncate(u32::try_from(value).unwrap_or_default()), number => number.get().into());
number!(Psn, value => Self::truncate(u32::try_from(value).unwrap_or_default()), number => number.get().into());
number!(CommId, value => Self::new(u32::try_from(value).unwrap_or_default()), number => number.get().into());
number!(Exponent, value => Self::truncate(u8::try_from(value).unwrap_or_default()), number => number.get().into());

impl<const N: usize> Field for [u8; N] {
    fn read(data: &Data, (byte, ..): Place) -> Self {
        core::array::from_fn(|i| data[byte + i])
    }

    fn write(self, data: &mut Data, (byte, ..): Place) {
        data[byte..byte + N].copy_from_slice(&self);
    }
}

impl Field for Gid {
    fn read(data: &Data, place: Place) -> Self {
        Self(Field::read(data, place))
    }

    fn write(self, data: &mut Data, place: Place) {
        self.0.write(data, place);
    }
}

/// Declares a message: its fields, where each stands, and how it is read and written.
macro_rules! message {
    (
        $(#[$doc:meta])*
        $name:ident {
            $( $(#[$field_doc:meta])* $field:ident: $type:ty = ($byte:literal, $bit:literal, $width:literal), )+
        }
    ) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub struct $name {
            $( $(#[$field_doc])* pub $field: $type, )+
        }

        impl $name {
            /// The bits that aren't reserved.
            pub(super) const MASK: $crate::wire::Data =
                $crate::wire::field::mask(&[$( ($byte, $bit, $width), )+]);

            /// Reads the fields; reserved bits are ignored.
            pub(super) fn read(data: &$crate::wire::Data) -> Self {
                Self { $( $field: $crate::wire::field::Field::read(data, ($byte, $bit, $width)), )+ }
            }

            /// Writes the fields into zeros.
            pub(super) fn write(&self, data: &mut $crate::wire::Data) {
                const { assert!(Self::MASK.len() == $crate::wire::DATA_LEN) }
                $( $crate::wire::field::Field::write(self.$field, data, ($byte, $bit, $width)); )+
            }
        }
    };
}
pub(super) use message;

/// Declares the values of a field, with room for those that aren't known.
macro_rules! values {
    ($(#[$doc:meta])* $name:ident: $raw:ty { $( $(#[$value_doc:meta])* $value:ident = $code:literal, )+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
        pub enum $name {
            $( $(#[$value_doc])* $value, )+
            /// Another value.
            Unknown($raw),
        }

        impl $name {
            /// The value with that number.
            #[must_use]
            pub const fn from_code(code: $raw) -> Self {
                match code {
                    $( $code => Self::$value, )+
                    code => Self::Unknown(code),
                }
            }

            /// Its number.
            #[must_use]
            pub const fn code(self) -> $raw {
                match self {
                    $( Self::$value => $code, )+
                    Self::Unknown(code) => code,
                }
            }
        }

        impl $crate::wire::field::Field for $name {
            fn read(data: &$crate::wire::Data, place: $crate::wire::field::Place) -> Self {
                Self::from_code($crate::wire::field::Field::read(data, place))
            }

            fn write(self, data: &mut $crate::wire::Data, place: $crate::wire::field::Place) {
                $crate::wire::field::Field::write(self.code(), data, place);
            }
        }
    };
}
pub(super) use values;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_counted_from_the_most_significant() {
        let mut data = [0; DATA_LEN];
        put(&mut data, (1, 5, 3), 0b101);
        put(&mut data, (2, 0, 20), 0xa_bcde);
        put(&mut data, (224, 0, 64), 0x0102_0304_0506_0708);
        assert_eq!(data[1..5], [0b101, 0xab, 0xcd, 0xe0]);
        assert_eq!(data[224..], [1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(get(&data, (2, 0, 20)), 0xa_bcde);
        assert_eq!(get(&data, (224, 0, 64)), 0x0102_0304_0506_0708);
    }

    #[test]
    fn a_value_that_is_too_wide_does_not_reach_other_fields() {
        let mut data = [0; DATA_LEN];
        put(&mut data, (0, 2, 3), 0xff);
        assert_eq!(data[0], 0b0011_1000);
        put(&mut data, (0, 2, 3), 0);
        assert_eq!(data, [0; DATA_LEN]);
    }
}
