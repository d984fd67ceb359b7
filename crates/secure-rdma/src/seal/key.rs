//! An AEAD key with its IV.

use super::SealError;
use super::secret::Secret;
use aws_lc_rs::aead::{Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use rdma_verbs::ProcessMark;
use zeroize::Zeroizing;

/// Bytes of every AEAD's tag.
pub(super) const TAG: usize = 16;

/// Bytes of the associated data of everything that is sealed here.
pub(super) const AAD: usize = 16;

/// The longest key.
const LONGEST_KEY: usize = 32;

/// The first byte of the associated data. The keys differ by use already; this is a second lock on the same door.
#[derive(Clone, Copy)]
pub(super) enum Use {
    /// A fragment of a message.
    Message = 1,
    /// A slot of a region.
    Slot = 2,
}

/// A key with its IV. The library keeps the key at one place on its heap and wipes it when it frees it.
pub(super) struct Key {
    key: LessSafeKey,
    /// Where the numbers under which it seals are counted. A copy of the process has the same ones.
    process: ProcessMark,
    iv: Zeroizing<[u8; NONCE_LEN]>,
}

impl Key {
    /// The key and IV that `secret` is for.
    pub(super) fn of(secret: &Secret) -> Result<Self, SealError> {
        let algorithm = secret.suite().aead();
        let mut bytes = Zeroizing::new([0; LONGEST_KEY]);
        let bytes = bytes.get_mut(..algorithm.key_len()).ok_or(SealError::Library)?;
        secret.expand(b"key", b"", bytes)?;
        let key = LessSafeKey::new(UnboundKey::new(algorithm, bytes)?);
        let mut iv = Zeroizing::new([0; NONCE_LEN]);
        secret.expand(b"iv", b"", &mut *iv)?;
        Ok(Self { key, process: ProcessMark::new(), iv })
    }

    /// RFC 8446, section 5.3: the number, padded on the left, XOR the IV. Who seals never uses a number twice
    /// with a key.
    fn nonce(&self, number: u64) -> Nonce {
        let mut nonce = *self.iv;
        for (byte, digit) in nonce[NONCE_LEN - 8..].iter_mut().zip(number.to_be_bytes()) {
            *byte ^= digit;
        }
        Nonce::assume_unique_for_key(nonce)
    }

    /// The same to seal with: in no other process than the key's own, which would use the same numbers.
    fn nonce_to_seal(&self, number: u64) -> Result<Nonce, SealError> {
        if self.process.holds() { Ok(self.nonce(number)) } else { Err(SealError::Forked) }
    }

    /// Seals `plaintext` into `ciphertext`, which is as long, and `tag`.
    pub(super) fn seal(
        &self,
        number: u64,
        aad: [u8; AAD],
        plaintext: &[u8],
        ciphertext: &mut [u8],
        tag: &mut [u8],
    ) -> Result<(), SealError> {
        let nonce = self.nonce_to_seal(number)?;
        Ok(self.key.seal_out_of_place_scatter(nonce, Aad::from(aad), plaintext, ciphertext, &[], tag)?)
    }

    /// Seals `text` where it stands, and writes `tag`.
    pub(super) fn seal_in_place(
        &self,
        number: u64,
        aad: [u8; AAD],
        text: &mut [u8],
        tag: &mut [u8],
    ) -> Result<(), SealError> {
        let nonce = self.nonce_to_seal(number)?;
        Ok(self.key.seal_in_place_scatter(nonce, Aad::from(aad), text, &[], tag)?)
    }

    /// Opens `ciphertext` into `plaintext`, which is as long; whether it is authentic. If not, `plaintext`
    /// holds none of it.
    #[must_use]
    pub(super) fn open(
        &self,
        number: u64,
        aad: [u8; AAD],
        ciphertext: &[u8],
        tag: &[u8],
        plaintext: &mut [u8],
    ) -> bool {
        let nonce = self.nonce(number);
        let authentic =
            self.key.open_separate_gather(nonce, Aad::from(aad), ciphertext, tag, plaintext).is_ok();
        if !authentic {
            // AWS-LC does so too, but the crate around it doesn't promise it.
            plaintext.fill(0);
        }
        authentic
    }

    /// Opens `text` where it stands; whether it is authentic. If not, `text` is wiped.
    #[must_use]
    pub(super) fn open_in_place(&self, number: u64, aad: [u8; AAD], tag: &[u8], text: &mut [u8]) -> bool {
        let authentic =
            self.key.open_in_place_separate_tag(self.nonce(number), Aad::from(aad), tag, text).is_ok();
        if !authentic {
            text.fill(0);
        }
        authentic
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Suite, secret::Secret};
    use super::*;

    #[test]
    fn a_key_seals_nothing_in_a_copy_of_its_process() {
        let fill = |bytes: &mut [u8]| {
            bytes.fill(7);
            Ok::<_, SealError>(())
        };
        let secret = Secret::new(Suite::Aes256Gcm, fill).unwrap();
        let mut key = Key::of(&secret).unwrap();
        let (mut text, mut tag) = ([1; 8], [0; TAG]);
        key.seal_in_place(0, [0; AAD], &mut text, &mut tag).unwrap();
        key.process = ProcessMark::of_none();
        let (mut out, before) = ([0; 8], text);
        let refused = [
            key.seal_in_place(1, [0; AAD], &mut text, &mut tag),
            key.seal(1, [0; AAD], &before, &mut out, &mut tag),
        ];
        assert_eq!(refused, [const { Err(SealError::Forked) }; 2]);
        assert_eq!((text, out), (before, [0; 8]), "nothing was sealed");
    }
}
