//! AES-GCM keys as ESP has them.

use crate::layout::{ICV, IV_END, SEQUENCE};
use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use core::fmt;
use zeroize::Zeroizing;

/// Bytes of salt behind the key (RFC 4106, section 8.1).
const SALT: usize = 4;

/// The AEAD of an SA. The kernel calls both `rfc4106(gcm(aes))` with an ICV of 128 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// AES-128-GCM.
    Aes128Gcm,
    /// AES-256-GCM.
    Aes256Gcm,
}

impl Algorithm {
    /// Bytes of key material: the key, then four bytes of salt.
    #[must_use]
    pub const fn material_len(self) -> usize {
        SALT + match self {
            Self::Aes128Gcm => 16,
            Self::Aes256Gcm => 32,
        }
    }
}

/// Why a key wasn't made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The material has another length than the algorithm needs.
    #[error("{algorithm:?} needs {} bytes of key and salt, not {given}", algorithm.material_len())]
    Length {
        /// The algorithm.
        algorithm: Algorithm,
        /// How many bytes there were.
        given: usize,
    },
    /// The cryptographic library refused the key.
    #[error("the cryptographic library refuses the key")]
    Library,
}

/// A key with its salt. The library keeps the key in one place and wipes it when it frees it.
pub struct Key {
    key: LessSafeKey,
    salt: Zeroizing<[u8; SALT]>,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("algorithm", self.key.algorithm()).finish_non_exhaustive()
    }
}

/// The bytes that are authentic and not encrypted: SPI and both halves of the sequence number (RFC 4106, section 5).
pub(crate) type Associated = [u8; 12];

impl Key {
    /// A key of `algorithm` from its material, key then salt.
    ///
    /// # Errors
    /// The material has the wrong length.
    pub fn new(algorithm: Algorithm, material: &[u8]) -> Result<Self, KeyError> {
        let wrong = KeyError::Length { algorithm, given: material.len() };
        if material.len() != algorithm.material_len() {
            return Err(wrong);
        }
        let (key, salt) = material.split_last_chunk::<SALT>().ok_or(wrong)?;
        let aead = match algorithm {
            Algorithm::Aes128Gcm => &AES_128_GCM,
            Algorithm::Aes256Gcm => &AES_256_GCM,
        };
        let key = UnboundKey::new(aead, key).map_err(|_| KeyError::Library)?;
        Ok(Self { key: LessSafeKey::new(key), salt: Zeroizing::new(*salt) })
    }

    /// Salt and IV (RFC 4106, section 4).
    fn nonce(&self, iv: [u8; IV_END - crate::layout::IV]) -> Nonce {
        let mut nonce = [0; 12];
        nonce[..SALT].copy_from_slice(&*self.salt);
        nonce[SALT..].copy_from_slice(&iv);
        Nonce::assume_unique_for_key(nonce)
    }

    /// Encrypts `text` where it stands and returns its ICV. The caller never gives one IV twice.
    pub(crate) fn seal(&self, iv: [u8; 8], associated: Associated, text: &mut [u8]) -> Option<[u8; ICV]> {
        let tag = self.key.seal_in_place_separate_tag(self.nonce(iv), Aad::from(associated), text).ok()?;
        tag.as_ref().try_into().ok()
    }

    /// Decrypts `text` where it stands; whether it is authentic. If not, `text` is wiped.
    #[must_use]
    pub(crate) fn open(&self, iv: [u8; 8], associated: Associated, text: &mut [u8], icv: &[u8; ICV]) -> bool {
        let authentic =
            self.key.open_in_place_separate_tag(self.nonce(iv), Aad::from(associated), icv, text).is_ok();
        if !authentic {
            // AWS-LC does so too, but the crate around it doesn't promise it.
            text.fill(0);
        }
        authentic
    }
}

/// What is authentic beside the text, with extended sequence numbers: SPI, high half, low half.
pub(crate) fn associated(spi: u32, number: u64) -> Associated {
    let mut bytes = [0; 12];
    bytes[..SEQUENCE].copy_from_slice(&spi.to_be_bytes());
    bytes[SEQUENCE..].copy_from_slice(&number.to_be_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_material_is_key_and_salt_of_the_right_length() {
        for algorithm in [Algorithm::Aes128Gcm, Algorithm::Aes256Gcm] {
            let len = algorithm.material_len();
            assert!(Key::new(algorithm, &vec![1; len]).is_ok());
            for given in [0, 3, len - 4, len - 1, len + 1] {
                let error = Key::new(algorithm, &vec![1; given]).unwrap_err();
                assert_eq!(error, KeyError::Length { algorithm, given });
            }
        }
    }

    #[test]
    fn a_key_shows_nothing_of_itself() {
        let material: Vec<u8> = (100..136).collect();
        let shown = format!("{:?}", Key::new(Algorithm::Aes256Gcm, &material).unwrap());
        assert!(shown.contains("AES_256_GCM") || shown.contains("Algorithm"), "{shown}");
        assert!(!shown.contains("100") && !shown.contains("132") && !shown.contains("0x64"), "{shown}");
    }
}
