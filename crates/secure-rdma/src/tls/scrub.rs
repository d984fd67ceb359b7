//! Wiping what a handshake leaves on stacks.
//!
//! rustls wipes its secrets where they end, and moves them about on the way there: each call of a handshake leaves
//! copies in frames that are over. Later calls write over them, or don't, if the thread has nothing of that depth to
//! do any more. So every poll of a handshake is followed by one that does.

use core::future::poll_fn;
use core::hint::black_box;
use core::pin::pin;
use zeroize::Zeroize as _;

/// How deep a handshake goes, with room to spare: a debug build's, with the frames of the cryptographic library.
const DEPTH: usize = 128 << 10;

/// Polls `handshake`, and wipes the stack under this after each poll: they may be on different threads.
pub(super) async fn scrubbed<F: Future>(handshake: F) -> F::Output {
    let mut handshake = pin!(handshake);
    poll_fn(|context| {
        let polled = handshake.as_mut().poll(context);
        wipe_stack();
        polled
    })
    .await
}

/// Writes zeros over what earlier calls have left under the caller's frame.
#[inline(never)]
fn wipe_stack() {
    let mut under = [0_u8; DEPTH];
    under.zeroize();
    black_box(&mut under);
}
