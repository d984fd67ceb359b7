//! The cryptography that TLS uses here.

use std::sync::{Arc, LazyLock};

use rustls::crypto::aws_lc_rs::{self, kx_group};
use rustls::crypto::{CryptoProvider, SupportedKxGroup};

/// Key exchange groups, the preferred first: the hybrid of ML-KEM-768 and X25519
/// (draft-ietf-tls-ecdhe-mlkem), which stays secret if either of the two does, also from whoever records
/// traffic today to break it with a quantum computer; then the classical ones for peers that have no ML-KEM.
/// Spelt out so that no feature flag of a dependency can change it.
const GROUPS: [&dyn SupportedKxGroup; 4] =
    [kx_group::X25519MLKEM768, kx_group::X25519, kx_group::SECP256R1, kx_group::SECP384R1];

static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
    Arc::new(CryptoProvider { kx_groups: GROUPS.to_vec(), ..aws_lc_rs::default_provider() })
});

/// AWS-LC's algorithms with [`GROUPS`].
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::clone(&PROVIDER)
}
