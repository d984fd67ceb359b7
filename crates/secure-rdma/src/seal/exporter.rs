//! Where the keys come from.

use tokio_rustls::TlsStream;

use super::{SealError, Suite};

/// The label under which TLS exports the session's secret.
pub const LABEL: &[u8] = b"EXPORTER secure-rdma/1 seal";

/// A TLS 1.3 connection whose handshake is done.
pub trait Exporter {
    /// What it negotiated.
    ///
    /// # Errors
    /// [`SealError::Suite`] if that can't seal.
    fn suite(&self) -> Result<Suite, SealError>;

    /// Fills `out` as RFC 8446, section 7.5, says.
    ///
    /// # Errors
    /// [`SealError::Export`] if TLS refuses.
    fn export(&self, label: &[u8], context: &[u8], out: &mut [u8]) -> Result<(), SealError>;
}

impl<T> Exporter for TlsStream<T> {
    fn suite(&self) -> Result<Suite, SealError> {
        let negotiated = self.get_ref().1.negotiated_cipher_suite();
        negotiated.ok_or(SealError::Suite(None)).and_then(|suite| Suite::from_tls(suite.suite()))
    }

    fn export(&self, label: &[u8], context: &[u8], out: &mut [u8]) -> Result<(), SealError> {
        let exported = match self {
            Self::Client(stream) => stream.get_ref().1.export_keying_material(out, label, Some(context)),
            Self::Server(stream) => stream.get_ref().1.export_keying_material(out, label, Some(context)),
        };
        exported.map(drop).map_err(SealError::Export)
    }
}
