//! The values that fields hold, and how CBOR carries them.

use core::fmt;
use core::num::NonZeroU16;

use minicbor::decode::{self, Decoder};
use minicbor::encode::{self, Encoder, Write};
use rdma_verbs::esp::Spi;
use rocev2::{Mtu, Psn, Qpn};

use super::Invalid;
use crate::text::{is_printable, printable};

/// A value that is never printed: `Debug` shows that it is there, not what it is.
///
/// For the numbers that let a packet reach memory, PSNs and rkeys. They aren't erased from memory as keys
/// are: the device keeps them and every packet carries them in clear. What matters is that they stay out of
/// logs and messages.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Redacted<T>(T);

impl<T: Copy> Redacted<T> {
    /// `value`, not to be printed.
    #[must_use]
    pub const fn new(value: T) -> Self {
        Self(value)
    }

    /// The value, for whoever programs a queue pair with it.
    #[must_use]
    pub const fn expose(&self) -> T {
        self.0
    }
}

impl<T> fmt::Debug for Redacted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// At most `MAX` bytes of printable ASCII: text of the peer's that is safe to show.
#[derive(Clone, PartialEq, Eq)]
pub struct Text<const MAX: usize>(String);

impl<const MAX: usize> Text<MAX> {
    /// `text` as it is.
    ///
    /// # Errors
    /// If it is longer than `MAX` bytes or holds a character that isn't printable ASCII.
    pub fn new(text: &str) -> Result<Self, Invalid> {
        if text.len() > MAX {
            Err(Invalid::TextLength { found: text.len(), max: MAX })
        } else if !text.chars().all(is_printable) {
            Err(Invalid::TextCharacter)
        } else {
            Ok(Self(text.to_owned()))
        }
    }

    /// `text`, cut to `MAX` characters, with `?` for each that isn't printable ASCII.
    #[must_use]
    pub fn lossy(text: &str) -> Self {
        Self(printable(text, MAX))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<const MAX: usize> fmt::Debug for Text<MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl<const MAX: usize> fmt::Display for Text<MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<C, const MAX: usize> minicbor::Encode<C> for Text<MAX> {
    fn encode<W: Write>(&self, encoder: &mut Encoder<W>, _: &mut C) -> Result<(), encode::Error<W::Error>> {
        encoder.str(&self.0)?.ok()
    }
}

impl<'b, C, const MAX: usize> minicbor::Decode<'b, C> for Text<MAX> {
    fn decode(decoder: &mut Decoder<'b>, _: &mut C) -> Result<Self, decode::Error> {
        Self::new(decoder.str()?).map_err(decode::Error::custom)
    }
}

/// A type that allows fewer values than the CBOR integer that carries it. Used by `#[cbor(with = "field")]`.
pub(super) trait Field: Sized {
    fn to_wire(&self) -> u64;
    fn from_wire(value: u64) -> Result<Self, Invalid>;
}

pub(super) fn encode<C, T: Field, W: Write>(
    value: &T,
    encoder: &mut Encoder<W>,
    _: &mut C,
) -> Result<(), encode::Error<W::Error>> {
    encoder.u64(value.to_wire())?.ok()
}

pub(super) fn decode<C, T: Field>(decoder: &mut Decoder<'_>, _: &mut C) -> Result<T, decode::Error> {
    T::from_wire(decoder.u64()?).map_err(decode::Error::custom)
}

impl Field for Qpn {
    fn to_wire(&self) -> u64 {
        self.get().into()
    }

    fn from_wire(value: u64) -> Result<Self, Invalid> {
        let qpn = u32::try_from(value).ok().and_then(Self::new).filter(|qpn| qpn.is_ordinary());
        qpn.ok_or(Invalid::Range { field: "the QPN", found: value, min: 2, max: 0xff_fffe })
    }
}

impl Field for Redacted<Psn> {
    fn to_wire(&self) -> u64 {
        self.0.get().into()
    }

    fn from_wire(value: u64) -> Result<Self, Invalid> {
        let psn = u32::try_from(value).ok().and_then(Psn::new);
        psn.map(Self).ok_or(Invalid::TooWide { field: "the PSN", bits: Psn::BITS })
    }
}

impl Field for Redacted<u32> {
    fn to_wire(&self) -> u64 {
        self.0.into()
    }

    fn from_wire(value: u64) -> Result<Self, Invalid> {
        u32::try_from(value).map(Self).map_err(|_| Invalid::TooWide { field: "the rkey", bits: u32::BITS })
    }
}

impl Field for Mtu {
    fn to_wire(&self) -> u64 {
        self.code().into()
    }

    fn from_wire(value: u64) -> Result<Self, Invalid> {
        let mtu = u8::try_from(value).ok().and_then(Self::from_code);
        mtu.ok_or(Invalid::Range { field: "the path MTU's code", found: value, min: 1, max: 5 })
    }
}

impl Field for NonZeroU16 {
    fn to_wire(&self) -> u64 {
        self.get().into()
    }

    fn from_wire(value: u64) -> Result<Self, Invalid> {
        let port = u16::try_from(value).ok().and_then(Self::new);
        port.ok_or(Invalid::Range { field: "the UDP port", found: value, min: 1, max: u16::MAX.into() })
    }
}

/// A local identifier: an InfiniBand port's address in its own network (IBA 4.1.3), a unicast one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lid(u16);

impl Lid {
    const MAX: u16 = 0xbfff;

    /// The LID of that number, if it is a unicast one.
    #[must_use]
    pub const fn new(number: u16) -> Option<Self> {
        if number == 0 || number > Self::MAX { None } else { Some(Self(number)) }
    }

    /// Its number.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }
}

impl Field for Lid {
    fn to_wire(&self) -> u64 {
        self.0.into()
    }

    fn from_wire(value: u64) -> Result<Self, Invalid> {
        let lid = u16::try_from(value).ok().and_then(Self::new);
        lid.ok_or(Invalid::Range { field: "the LID", found: value, min: 1, max: Self::MAX.into() })
    }
}

impl Field for Spi {
    fn to_wire(&self) -> u64 {
        self.number().into()
    }

    fn from_wire(value: u64) -> Result<Self, Invalid> {
        let spi = u32::try_from(value).ok().and_then(Self::new);
        spi.ok_or(Invalid::Range { field: "the SPI", found: value, min: 256, max: u32::MAX.into() })
    }
}

/// A field that may be missing; null doesn't stand for that. Used by `#[cbor(with = "optional", has_nil)]`.
pub(super) mod optional {
    use super::{Decoder, Encoder, Field, Write};
    use minicbor::{decode::Error as DecodeError, encode::Error as EncodeError};

    pub(in super::super) fn encode<C, T: Field, W: Write>(
        value: &Option<T>,
        encoder: &mut Encoder<W>,
        context: &mut C,
    ) -> Result<(), EncodeError<W::Error>> {
        match value {
            Some(value) => super::encode(value, encoder, context),
            // Not reached: what is missing isn't written.
            None => encoder.null()?.ok(),
        }
    }

    pub(in super::super) fn decode<C, T: Field>(
        decoder: &mut Decoder<'_>,
        context: &mut C,
    ) -> Result<Option<T>, DecodeError> {
        super::decode(decoder, context).map(Some)
    }

    #[expect(
        clippy::unnecessary_wraps,
        reason = "minicbor's signature: a missing field has a value, namely none"
    )]
    pub(in super::super) fn nil<T>() -> Option<Option<T>> {
        Some(None)
    }

    pub(in super::super) fn is_nil<T>(value: &Option<T>) -> bool {
        value.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redacted_value_is_not_printed() {
        let shown =
            format!("{:?} {:#?}", Redacted::new(0x1234_5678_u32), Some(Redacted::new(Psn::truncate(77))));
        assert!(!shown.contains("305419896") && !shown.contains("77") && !shown.contains("4d"), "{shown}");
    }

    #[test]
    fn text_is_bounded_and_printable_ascii() {
        assert_eq!(Text::<4>::new("abcd").map(|t| t.to_string()), Ok("abcd".into()));
        assert_eq!(Text::<4>::new("abcde"), Err(Invalid::TextLength { found: 5, max: 4 }));
        for bad in ["\x1b[m", "a\n", "\u{85}", "\u{202e}", "\x7f", "é"] {
            assert_eq!(Text::<9>::new(bad), Err(Invalid::TextCharacter), "{bad:?}");
        }
        assert_eq!(Text::<4>::lossy("a\nbäcd").as_str(), "a?b?");
    }
}
