//! Reading and writing fixed-width fields at constant offsets; an offset outside the header doesn't compile.

/// The `W` bytes at offset `AT`.
#[inline]
pub(super) fn get<const AT: usize, const W: usize, const N: usize>(bytes: &[u8; N]) -> [u8; W] {
    const { assert!(AT + W <= N, "a field must lie inside its header") };
    core::array::from_fn(|i| bytes[AT + i])
}

/// Writes `value` at offset `AT`.
#[inline]
pub(super) fn put<const AT: usize, const W: usize, const N: usize>(bytes: &mut [u8; N], value: [u8; W]) {
    const { assert!(AT + W <= N, "a field must lie inside its header") };
    bytes[AT..AT + W].copy_from_slice(&value);
}

/// The big-endian 24-bit number at offset `AT`.
#[inline]
pub(super) fn get_u24<const AT: usize, const N: usize>(bytes: &[u8; N]) -> u32 {
    let [high, middle, low] = get::<AT, 3, N>(bytes);
    u32::from_be_bytes([0, high, middle, low])
}

/// Writes the low 24 bits of `value`, big-endian, at offset `AT`.
#[inline]
pub(super) fn put_u24<const AT: usize, const N: usize>(bytes: &mut [u8; N], value: u32) {
    let [_, high, middle, low] = value.to_be_bytes();
    put::<AT, 3, N>(bytes, [high, middle, low]);
}
