//! Which slots hold which bytes.

use super::*;
use proptest::prelude::*;

fn pieces(layout: &Layout, offset: u64, len: u64) -> Vec<(u32, usize, usize, bool)> {
    layout
        .pieces(offset, len)
        .unwrap()
        .map(|piece| (piece.slot, piece.start, piece.len, piece.whole))
        .collect()
}

#[test]
fn bytes_lie_in_slots_of_4_kib_that_take_4120() {
    let layout = Layout::for_capacity(10_000, Format::DEFAULT).unwrap();
    assert_eq!((layout.slots(), layout.payload(), layout.stride()), (3, 4096, 4120));
    assert_eq!((layout.capacity(), layout.area_len(), layout.place(2)), (3 * 4096, 3 * 4120, 2 * 4120));
    assert_eq!(pieces(&layout, 0, 0), []);
    assert_eq!(pieces(&layout, 3 * 4096, 0), []);
    assert_eq!(pieces(&layout, 0, 1), [(0, 0, 1, false)]);
    assert_eq!(pieces(&layout, 4095, 4098), [(0, 4095, 1, false), (1, 0, 4096, true), (2, 0, 1, false)]);
    assert_eq!(pieces(&layout, 4096, 8192), [(1, 0, 4096, true), (2, 0, 4096, true)]);
    for (offset, len) in [(3 * 4096, 1), (0, 3 * 4096 + 1), (u64::MAX, 1), (1, u64::MAX)] {
        let outside = SealError::OutOfRegion { offset, len, capacity: 3 * 4096 };
        assert_eq!(layout.pieces(offset, len).err(), Some(outside));
    }
}

#[test]
fn a_region_that_cannot_be_divided_is_refused() {
    let format = |payload, epoch_bits| Format { payload, epoch_bits, writers: Writers::Client };
    for bad in [format(0, 1), format(63, 1), format(96, 1), format(32, 1), format(1 << 17, 1), format(64, 21)]
    {
        assert!(matches!(Layout::for_capacity(4096, bad), Err(SealError::Layout(_))), "{bad:?}");
        assert!(Layout::for_area(u64::from(bad.payload) + 24, bad).is_err(), "{bad:?}");
    }
    assert!(Layout::for_capacity(0, Format::DEFAULT).is_err());
    assert!(Layout::for_area(0, Format::DEFAULT).is_err());
    assert!(Layout::for_area(4121, Format::DEFAULT).is_err());
    assert!(Layout::for_area(4120 * 7, Format::DEFAULT).unwrap().slots() == 7);
    assert!(Layout::for_capacity(u64::MAX, Format::DEFAULT).is_err());
    assert!(Layout::for_area(4120 << 32, Format::DEFAULT).is_err());
    let largest = Layout::for_area(4120 * 0xffff_ffff, Format::DEFAULT).unwrap();
    assert_eq!(pieces(&largest, largest.capacity() - 1, 1), [(u32::MAX - 1, 4095, 1, false)]);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn pieces_are_the_range_in_order(offset in 0_u64..5000, len in 0_u64..5000, power in 6_u32..10) {
        let layout = Layout::for_capacity(10_000, Format { payload: 1 << power, ..Format::DEFAULT }).unwrap();
        prop_assert_eq!(Layout::for_area(layout.area_len(), layout.format()).unwrap(), layout);
        let mut at = offset;
        for piece in layout.pieces(offset, len).unwrap() {
            prop_assert_eq!(u64::from(piece.slot) * layout.payload() as u64 + piece.start as u64, at);
            prop_assert!(piece.len > 0 && piece.start + piece.len <= layout.payload());
            prop_assert_eq!(piece.whole, piece.len == layout.payload());
            at += piece.len as u64;
        }
        prop_assert_eq!(at, offset + len);
    }
}
