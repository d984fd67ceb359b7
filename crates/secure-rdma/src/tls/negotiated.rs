//! What a handshake came to.

use rustls::CommonState;
use tokio_rustls::TlsStream;

use super::clients::Shown;
use super::error::{Peer, TlsError};
use super::server::Rules;
use crate::certs::{Fingerprint, SubjectNames};
use std::sync::Arc;

/// A connection after its handshake.
#[derive(Debug)]
pub struct Secured<T> {
    /// The stream: what the sealed data path's keys come from too ([`Exporter`](crate::seal::Exporter)).
    pub stream: TlsStream<T>,
    /// The fingerprint of the certificate that the client showed, if it did: the same at both ends.
    pub client_certificate: Option<Fingerprint>,
    /// On the server: what the client has shown, and by which rules that was judged.
    pub(crate) vetted: Option<(Shown, Arc<Rules>)>,
    /// What was agreed.
    pub negotiated: Negotiated,
}

/// What client and server agreed on, by TLS's own names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Negotiated {
    /// `TLSv1.3`.
    pub version: &'static str,
    /// The cipher suite, such as `TLS13_AES_256_GCM_SHA384`.
    pub suite: String,
    /// The key exchange group, such as `X25519MLKEM768`.
    pub group: String,
    /// The fingerprint of the peer's certificate; `None` for a client that had none.
    pub peer_certificate_sha256: Option<Fingerprint>,
    /// The names in the peer's certificate; none for a client that had none.
    pub peer_names: SubjectNames,
}

impl Negotiated {
    /// Reads it off a connection with `peer` whose handshake is done.
    ///
    /// # Errors
    /// [`TlsError::Protocol`] if the peer didn't agree on `protocol`: rustls lets a peer pass that says nothing of it.
    pub(super) fn read(connection: &CommonState, peer: Peer, protocol: &[u8]) -> Result<Self, TlsError> {
        if connection.alpn_protocol() != Some(protocol) {
            return Err(TlsError::Protocol { peer });
        }
        let missing = || TlsError::Failed { peer, source: rustls::Error::HandshakeNotComplete };
        let version = match connection.protocol_version() {
            Some(rustls::ProtocolVersion::TLSv1_3) => "TLSv1.3",
            _ => return Err(missing()),
        };
        let suite = connection.negotiated_cipher_suite().ok_or_else(missing)?;
        let group = connection.negotiated_key_exchange_group().ok_or_else(missing)?;
        let certificate = connection.peer_certificates().and_then(|chain| chain.first());
        Ok(Self {
            version,
            suite: format!("{:?}", suite.suite()),
            group: format!("{:?}", group.name()),
            peer_certificate_sha256: certificate.map(|der| Fingerprint::of(der)),
            peer_names: certificate.map(SubjectNames::of).unwrap_or_default(),
        })
    }
}
