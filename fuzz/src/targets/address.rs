//! GIDs, names and fingerprints: what is read is written as what reads the same.

use crate::input::Input;
use rocev2_device::Gid;
use secure_rdma::certs::{Fingerprint, Name};

pub(super) fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    gid(Gid::from(input.array()));
    if let Ok(text) = std::str::from_utf8(bytes) {
        if let Ok(name) = text.parse::<Name>() {
            assert_eq!(name.to_string().parse(), Ok(name.clone()));
            assert!(name.to_string().len() <= 253, "the longest name there is (RFC 1035, section 2.3.4)");
            if let Some(ip) = name.ip() {
                assert_eq!(Name::from(ip), name);
            }
        }
        if let Ok(fingerprint) = text.parse::<Fingerprint>() {
            assert_eq!(fingerprint.to_string(), text.to_ascii_lowercase());
            assert_eq!(fingerprint.to_string().parse(), Ok(fingerprint));
        }
    }
}

fn gid(gid: Gid) {
    match gid.endpoint() {
        Ok(endpoint) => {
            assert_eq!(Gid::for_endpoint(endpoint.into()), gid, "one form for each endpoint");
            let (address, port) = endpoint;
            assert!(!address.is_unspecified() && !address.is_multicast() && port != 0);
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
