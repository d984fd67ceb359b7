//! A region as a server describes it: what the client makes of it lies inside.

use crate::input::Input;
use secure_rdma::seal::{Format, Layout, Writers};

/// Pieces that are looked at; a range may have millions.
const PIECES: usize = 100;

pub(super) fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let writers = if input.flag() { Writers::Both } else { Writers::Client };
    let chosen = Format { payload: input.u32(), epoch_bits: input.u8(), writers };
    let format = if input.flag() { chosen } else { Format::DEFAULT };
    let len = input.u64();
    let layout = match Layout::for_area(len, format) {
        Ok(layout) => {
            assert_eq!(layout.area_len(), len);
            layout
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            let Ok(layout) = Layout::for_capacity(len, format) else { return };
            assert!(layout.capacity() >= len && layout.capacity() - len < u64::from(format.payload));
            layout
        }
    };
    assert_eq!(layout.area_len(), u64::from(layout.slots()) * layout.stride() as u64);
    let (offset, len) = (input.u64(), input.u64());
    let inside = offset.checked_add(len).is_some_and(|end| end <= layout.capacity());
    let Ok(pieces) = layout.pieces(offset, len) else {
        assert!(!inside, "{len} bytes at {offset} of {layout:?}");
        return;
    };
    assert!(inside, "{len} bytes at {offset} of {layout:?}");
    let mut at = offset;
    for piece in pieces.take(PIECES) {
        let payload = layout.payload();
        assert!(piece.slot < layout.slots() && piece.len > 0 && piece.start + piece.len <= payload);
        assert_eq!(piece.whole, piece.len == payload);
        assert_eq!(u64::from(piece.slot) * payload as u64 + piece.start as u64, at);
        assert!(layout.place(piece.slot) + layout.stride() as u64 <= layout.area_len());
        at += piece.len as u64;
    }
    assert!(at == offset + len || at - offset >= PIECES as u64, "they are all of it, and no more");
    assert!(at <= offset + len);
}
