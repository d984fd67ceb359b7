//! The AEAD and the hash that TLS negotiated.

use super::SealError;
use aws_lc_rs::{aead, hkdf};
use rustls::CipherSuite;

/// A TLS 1.3 cipher suite (RFC 8446, appendix B.4): the AEAD that seals and the hash that derives its keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Suite {
    /// TLS_AES_128_GCM_SHA256.
    Aes128Gcm,
    /// TLS_AES_256_GCM_SHA384.
    Aes256Gcm,
    /// TLS_CHACHA20_POLY1305_SHA256.
    ChaCha20Poly1305,
}

impl Suite {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Aes128Gcm, Self::Aes256Gcm, Self::ChaCha20Poly1305];

    /// The suite that TLS calls `suite`.
    ///
    /// # Errors
    /// [`SealError::Suite`] if it is none of TLS 1.3's that are known here.
    pub fn from_tls(suite: CipherSuite) -> Result<Self, SealError> {
        match suite {
            CipherSuite::TLS13_AES_128_GCM_SHA256 => Ok(Self::Aes128Gcm),
            CipherSuite::TLS13_AES_256_GCM_SHA384 => Ok(Self::Aes256Gcm),
            CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => Ok(Self::ChaCha20Poly1305),
            other => Err(SealError::Suite(Some(other))),
        }
    }

    /// TLS's number for it.
    #[must_use]
    pub const fn code(self) -> u16 {
        match self {
            Self::Aes128Gcm => 0x1301,
            Self::Aes256Gcm => 0x1302,
            Self::ChaCha20Poly1305 => 0x1303,
        }
    }

    pub(super) fn aead(self) -> &'static aead::Algorithm {
        match self {
            Self::Aes128Gcm => &aead::AES_128_GCM,
            Self::Aes256Gcm => &aead::AES_256_GCM,
            Self::ChaCha20Poly1305 => &aead::CHACHA20_POLY1305,
        }
    }

    pub(super) fn hkdf(self) -> hkdf::Algorithm {
        match self {
            Self::Aes128Gcm | Self::ChaCha20Poly1305 => hkdf::HKDF_SHA256,
            Self::Aes256Gcm => hkdf::HKDF_SHA384,
        }
    }

    /// Bytes of a secret: what the hash puts out.
    #[must_use]
    pub const fn secret_len(self) -> usize {
        match self {
            Self::Aes128Gcm | Self::ChaCha20Poly1305 => 32,
            Self::Aes256Gcm => 48,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_and_lengths_are_those_of_tls_and_of_the_library() {
        for suite in Suite::ALL {
            let tls = [
                CipherSuite::TLS13_AES_128_GCM_SHA256,
                CipherSuite::TLS13_AES_256_GCM_SHA384,
                CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
            ];
            let named = tls.into_iter().find(|tls| u16::from(*tls) == suite.code()).unwrap();
            assert_eq!(Suite::from_tls(named), Ok(suite));
            assert_eq!(suite.secret_len(), suite.hkdf().hmac_algorithm().digest_algorithm().output_len());
            assert_eq!((suite.aead().tag_len(), suite.aead().nonce_len()), (16, 12));
        }
    }

    #[test]
    fn other_suites_are_refused() {
        let old = CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384;
        assert_eq!(Suite::from_tls(old), Err(SealError::Suite(Some(old))));
        assert!(Suite::from_tls(CipherSuite::TLS13_AES_128_CCM_SHA256).is_err());
    }
}
