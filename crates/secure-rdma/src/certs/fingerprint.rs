//! A certificate's fingerprint.

use core::fmt;
use core::str::FromStr;

use aws_lc_rs::{constant_time, digest};

/// The SHA-256 of a certificate's DER: names one certificate. It reads and prints as `sha256:` and 64
/// hexadecimal digits.
#[derive(Clone, Copy)]
pub struct Fingerprint([u8; digest::SHA256_OUTPUT_LEN]);

impl Fingerprint {
    /// The fingerprint of the certificate that `der` is.
    #[must_use]
    pub fn of(der: &[u8]) -> Self {
        let mut bytes = [0; digest::SHA256_OUTPUT_LEN];
        bytes.copy_from_slice(digest::digest(&digest::SHA256, der).as_ref());
        Self(bytes)
    }

    /// Its 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; digest::SHA256_OUTPUT_LEN] {
        &self.0
    }
}

impl PartialEq for Fingerprint {
    /// In the same time wherever they differ.
    fn eq(&self, other: &Self) -> bool {
        constant_time::verify_slices_are_equal(&self.0, &other.0).is_ok()
    }
}

impl Eq for Fingerprint {}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256:")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Text that isn't a fingerprint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a fingerprint is sha256: and 64 hexadecimal digits, as the server prints it at its start")]
pub struct ParseFingerprintError;

impl FromStr for Fingerprint {
    type Err = ParseFingerprintError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.strip_prefix("sha256:").ok_or(ParseFingerprintError)?.as_bytes();
        let mut bytes = [0; digest::SHA256_OUTPUT_LEN];
        if digits.len() != 2 * bytes.len() {
            return Err(ParseFingerprintError);
        }
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = pair.iter().try_fold(0, |value, &digit| nibble(digit).map(|digit| value << 4 | digit))?;
        }
        Ok(Self(bytes))
    }
}

fn nibble(digit: u8) -> Result<u8, ParseFingerprintError> {
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        b'A'..=b'F' => Ok(digit - b'A' + 10),
        _ => Err(ParseFingerprintError),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SHA-256 of "abc" (FIPS 180-4, example B.1).
    const ABC: &str = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn it_is_the_sha_256_and_reads_as_it_prints() {
        let fingerprint = Fingerprint::of(b"abc");
        assert_eq!(fingerprint.to_string(), ABC);
        assert_eq!(ABC.parse(), Ok(fingerprint));
        assert_eq!(format!("sha256:{}", ABC[7..].to_uppercase()).parse(), Ok(fingerprint));
        assert_ne!(fingerprint, Fingerprint::of(b"abd"));
    }

    #[test]
    fn other_text_is_refused() {
        let long = format!("{ABC}0");
        for text in [
            "",
            "sha256:",
            &ABC[7..],
            &ABC[..ABC.len() - 1],
            &long,
            &ABC.replace('b', "g"),
            &ABC.replace("sha", "md"),
        ] {
            assert_eq!(text.parse::<Fingerprint>(), Err(ParseFingerprintError), "{text}");
        }
        // 64 bytes, but not 64 digits.
        assert!(format!("sha256:{}", "é".repeat(32)).parse::<Fingerprint>().is_err());
    }
}
