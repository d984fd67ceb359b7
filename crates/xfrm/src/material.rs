//! Key material.

use crate::Error;
use core::fmt;
use minicbor::decode::{Decoder, Error as DecodeError};
use minicbor::encode::{Encoder, Error as EncodeError, Write};
use minicbor::{Decode, Encode};
use zeroize::Zeroizing;

/// Bytes of salt behind the key (RFC 4106, section 8.1).
const SALT: usize = 4;

/// A key of AES-128-GCM or AES-256-GCM, then its four bytes of salt. Wiped when it is dropped, and never shown.
pub struct Material(Zeroizing<Vec<u8>>);

impl Material {
    /// These bytes: 16 or 32 of key, and 4 of salt.
    ///
    /// # Errors
    /// They are fewer or more.
    pub fn new(bytes: &[u8]) -> Result<Self, Error> {
        match bytes.len().checked_sub(SALT) {
            Some(16 | 32) => Ok(Self(Zeroizing::new(bytes.to_vec()))),
            _ => Err(Error::Request("a key of AES-GCM has 16 or 32 bytes, and 4 of salt")),
        }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Material {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Material")
    }
}

impl<C> Encode<C> for Material {
    fn encode<W: Write>(&self, encoder: &mut Encoder<W>, _: &mut C) -> Result<(), EncodeError<W::Error>> {
        encoder.bytes(&self.0)?.ok()
    }
}

impl<'b, C> Decode<'b, C> for Material {
    fn decode(decoder: &mut Decoder<'b>, _: &mut C) -> Result<Self, DecodeError> {
        Self::new(decoder.bytes()?).map_err(|_| DecodeError::message("the length of a key"))
    }
}
