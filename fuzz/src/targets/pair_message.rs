//! Messages of agents to each other: what is one is written as one that reads the same, and no part of it is one.

use secure_rdma::pair::message::Message;

/// Bytes of the longest frame.
const LONGEST: usize = 128;

pub(super) fn run(bytes: &[u8]) {
    let Some(message) = Message::from_bytes(bytes) else { return };
    let written = message.to_bytes();
    assert!(written.len() <= LONGEST, "{message:?}: {}", written.len());
    assert_eq!(Message::from_bytes(&written), Some(message));
    for len in 0..bytes.len().min(LONGEST) {
        assert_eq!(Message::from_bytes(&bytes[..len]), None, "the first {len} bytes of {message:?}");
    }
}
