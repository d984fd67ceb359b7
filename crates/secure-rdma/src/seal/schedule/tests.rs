//! The key schedule: separate keys, and from where.

use super::*;
use crate::seal::Suite;
use crate::seal::testing::{context, layout, pair, session, small};
use std::cell::RefCell;
use std::collections::HashSet;

/// A TLS connection whose exporter is HKDF under a fixed key.
struct Tls {
    suite: Suite,
    asked: RefCell<Vec<Vec<u8>>>,
}

impl Exporter for Tls {
    fn suite(&self) -> Result<Suite, SealError> {
        Ok(self.suite)
    }

    fn export(&self, label: &[u8], context: &[u8], out: &mut [u8]) -> Result<(), SealError> {
        assert!(label.starts_with(b"EXPORTER"));
        self.asked.borrow_mut().push(context.to_vec());
        let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, context);
        session(self.suite, 0).expand(b"exporter", &hash.as_ref()[..8], out)
    }
}

#[test]
fn every_use_direction_and_epoch_has_a_secret_of_its_own() {
    for suite in Suite::ALL {
        let session = session(suite, 0);
        let mut seen = HashSet::from([session.bytes().to_vec()]);
        for sender in [Role::Client, Role::Server] {
            let mut chain = Chain::new(&session, sender).unwrap();
            for epoch in 0..4 {
                assert_eq!(chain.epoch(), epoch);
                assert!(seen.insert(chain.secret().bytes().to_vec()));
                chain = chain.next().unwrap();
            }
        }
        for slots in slot_secrets(&session).unwrap() {
            assert!(seen.insert(slots.bytes().to_vec()));
            for epoch in 0_u64..4 {
                assert!(seen.insert(slots.derive(b"epoch", &epoch.to_be_bytes()).unwrap().bytes().to_vec()));
            }
        }
        assert_eq!(seen.len(), 1 + 2 * 4 + 2 * 5);
        let mut first = HashSet::new();
        for secret in &seen {
            assert!(first.insert(secret[..16].to_vec()), "no two begin alike");
        }
    }
}

#[test]
fn a_label_a_context_and_a_length_each_give_another_output() {
    let secret = session(Suite::Aes128Gcm, 0);
    let output = |label: &[u8], context: &[u8], len| {
        let mut out = vec![0; len];
        secret.expand(label, context, &mut out).unwrap();
        out.truncate(12);
        out
    };
    let outputs = [
        output(b"key", b"", 16),
        output(b"key", b"", 12),
        output(b"iv", b"", 12),
        output(b"ke", b"y", 16),
        output(b"key", b"\0", 16),
    ];
    assert_eq!(HashSet::from(outputs).len(), 5);
    let mut endless = vec![0; 1 << 16];
    assert_eq!(secret.expand(b"key", b"", &mut endless), Err(SealError::Library));
    assert_eq!(secret.expand(b"key", &[0; 256], &mut [0]), Err(SealError::Library));
}

#[test]
fn tls_is_asked_once_with_the_whole_context_and_both_sides_understand_each_other() {
    for suite in Suite::ALL {
        let tls = Tls { suite, asked: RefCell::default() };
        let keys = |own| SessionKeys::new(&tls, &context(), own, Limits::DEFAULT).unwrap();
        let (mut client, mut server) = (keys(Role::Client), keys(Role::Server));
        assert_eq!(*tls.asked.borrow(), vec![context().encode(suite); 2]);
        assert!(client.slots.is_some());

        let mut record = [0; 5 + crate::seal::OVERHEAD];
        client.sealer.seal(true, b"hello", &mut record).unwrap();
        assert_eq!(server.opener.open_in_place(&mut record).unwrap().bytes, b"hello");
    }
}

#[test]
fn sides_whose_contexts_differ_do_not() {
    let tls = Tls { suite: Suite::ChaCha20Poly1305, asked: RefCell::default() };
    let mut other = context();
    other.client_certificate = None;
    let mut client = SessionKeys::new(&tls, &context(), Role::Client, Limits::DEFAULT).unwrap();
    let mut server = SessionKeys::new(&tls, &other, Role::Server, Limits::DEFAULT).unwrap();
    let mut record = [0; 5 + crate::seal::OVERHEAD];
    client.sealer.seal(true, b"hello", &mut record).unwrap();
    assert_eq!(server.opener.open_in_place(&mut record), Err(SealError::Message { counter: 0 }));
}

#[test]
fn nothing_secret_is_printed() {
    let (keys, _) = pair(Suite::Aes128Gcm, Limits::DEFAULT, Some(small()));
    let text = format!("{keys:?}");
    for secret in ["secret", "key", "iv:", "bytes: ["] {
        assert!(!text.contains(secret), "{text}");
    }
}

#[test]
fn without_a_region_there_are_no_slots() {
    let (client, server) = pair(Suite::Aes256Gcm, Limits::DEFAULT, None);
    assert!(client.slots.is_none() && server.slots.is_none());
    let (client, _) = pair(Suite::Aes256Gcm, Limits::DEFAULT, Some(layout()));
    assert_eq!(client.slots.unwrap().layout(), &layout());
}
