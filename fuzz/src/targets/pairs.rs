//! Messages between a process and its agent: what is one is written as one that reads the same, and no part of it, and
//! nothing longer, is one.

use minicbor::{Decode, Encode};
use rocev2_agent::pairs::protocol::{Event, Request, decode, encode};

/// Beginnings that are tried, each by itself.
const BEGINNINGS: usize = 128;

pub(super) fn run(bytes: &[u8]) {
    check::<Request>(bytes);
    check::<Event>(bytes);
}

fn check<M: Encode<()> + for<'b> Decode<'b, ()> + PartialEq + core::fmt::Debug>(bytes: &[u8]) {
    let Some(message) = decode::<M>(bytes) else { return };
    // Only one that is too long isn't written.
    if let Ok(written) = encode(&message) {
        assert_eq!(decode::<M>(&written).as_ref(), Some(&message));
    }
    for len in 0..bytes.len().min(BEGINNINGS) {
        assert_eq!(decode::<M>(&bytes[..len]), None, "the first {len} bytes of {message:?}");
    }
    assert_eq!(decode::<M>(&[bytes, &[0]].concat()), None, "with a byte behind it");
}
