//! A certificate that a peer shows: what is said of it fits a terminal.

use secure_rdma::certs::{CertificateInfo, Fingerprint};

pub(super) fn run(bytes: &[u8]) {
    match CertificateInfo::from_der(bytes) {
        Ok(info) => {
            assert_eq!(info.fingerprint, Fingerprint::of(bytes));
            let shown = info.names.iter().chain([&info.subject, &info.issuer]);
            for text in shown {
                assert!(
                    text.len() <= 200 && text.bytes().all(|byte| (b' '..=b'~').contains(&byte)),
                    "{text:?}"
                );
            }
            let _ = (info.not_before.to_string(), info.not_after.to_string());
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
