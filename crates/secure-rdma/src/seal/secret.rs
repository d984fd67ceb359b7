//! A secret, and what is derived from it.

use super::{SealError, Suite};
use aws_lc_rs::hkdf::{KeyType, Prk};
use zeroize::Zeroizing;

/// What stands before each label, where TLS has "tls13 ": no output of this schedule is one of TLS's.
const PREFIX: &[u8] = b"srdma1 ";

/// The longest output, label and context that are ever derived with: those of this module's callers.
const LONGEST_INFO: usize = 2 + 1 + PREFIX.len() + 16 + 1 + 48;

/// As many bytes as the suite's hash puts out. They stay where they are on the heap, so that moving a secret
/// leaves no copy behind, and are wiped when it is dropped. It is never printed.
pub(super) struct Secret {
    suite: Suite,
    bytes: Zeroizing<Box<[u8]>>,
}

/// How long an output is to be.
struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

impl Secret {
    /// A secret that `fill` writes.
    pub(super) fn new<E>(suite: Suite, fill: impl FnOnce(&mut [u8]) -> Result<(), E>) -> Result<Self, E> {
        let mut bytes = Zeroizing::new(vec![0; suite.secret_len()].into_boxed_slice());
        fill(&mut bytes)?;
        Ok(Self { suite, bytes })
    }

    pub(super) const fn suite(&self) -> Suite {
        self.suite
    }

    /// HKDF-Expand-Label (RFC 8446, section 7.1) with [`PREFIX`] for "tls13 ", over HKDF-Expand (RFC 5869,
    /// section 2.3).
    pub(super) fn expand(&self, label: &[u8], context: &[u8], out: &mut [u8]) -> Result<(), SealError> {
        // The context may be a secret.
        let mut info = Zeroizing::new(Vec::with_capacity(LONGEST_INFO));
        let length = u16::try_from(out.len()).map_err(|_| SealError::Library)?;
        info.extend(length.to_be_bytes());
        for part in [&[PREFIX, label].concat(), context] {
            info.push(u8::try_from(part.len()).map_err(|_| SealError::Library)?);
            info.extend(part);
        }
        let prk = Prk::new_less_safe(self.suite.hkdf(), &self.bytes);
        Ok(prk.expand(&[info.as_slice()], Length(out.len()))?.fill(out)?)
    }

    /// Another secret.
    pub(super) fn derive(&self, label: &[u8], context: &[u8]) -> Result<Self, SealError> {
        Self::new(self.suite, |bytes| self.expand(label, context, bytes))
    }

    /// Its bytes, as what another secret's output depends on.
    pub(super) fn expose(&self) -> &[u8] {
        &self.bytes
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}
