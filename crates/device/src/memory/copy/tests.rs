use core::cell::UnsafeCell;
use core::mem::MaybeUninit;

type Store = unsafe fn(*mut u8, &[u8]);
type Load = unsafe fn(&mut [MaybeUninit<u8>], *const u8);

/// Every way of copying that this build has.
const COPIES: &[(&str, Store, Load)] = &[
    ("portable", super::portable::store, super::portable::load),
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    ("x86_64", super::x86_64::store, super::x86_64::load),
];

const LENGTHS: &[usize] = if cfg!(miri) {
    &[0, 1, 2, 3, 7, 8, 9, 16, 31, 64, 100]
} else {
    &[
        0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 63, 64, 65, 127, 256, 1023, 1024, 1025, 1039, 4096,
        4097, 70_000,
    ]
};

/// Shared memory for a test: only raw pointers go in.
fn shared(len: usize) -> Box<[UnsafeCell<u8>]> {
    // Aligned to words as far as the allocator goes; the tests add every offset from 0 to 8.
    (0..len).map(|_| UnsafeCell::new(0xee)).collect()
}

fn bytes(shared: &[UnsafeCell<u8>]) -> Vec<u8> {
    // SAFETY: no other thread knows these cells.
    shared.iter().map(|cell| unsafe { *cell.get() }).collect()
}

#[test]
fn every_length_at_every_alignment_arrives_whole_and_touches_nothing_beside_it() {
    for (name, store, load) in COPIES {
        for &len in LENGTHS {
            let private: Vec<u8> = (0..len).map(|i| u8::try_from(i * 7 % 251).unwrap()).collect();
            for offset in 0..9 {
                let memory = shared(len + 24);
                let start = memory.as_ptr().cast::<u8>().cast_mut().wrapping_add(offset);
                // SAFETY: 24 bytes more than `len` are there.
                unsafe { store(start, &private) };
                let mut back = vec![MaybeUninit::new(0x55); len + 2];
                // SAFETY: as above.
                unsafe { load(&mut back[1..=len], start) };
                // SAFETY: they were initialised from the beginning.
                let back: Vec<u8> = back.iter().map(|byte| unsafe { byte.assume_init() }).collect();
                assert_eq!(back[1..=len], private, "{name}, {len} bytes at +{offset}");
                assert_eq!((back[0], back[len + 1]), (0x55, 0x55));

                let memory = bytes(&memory);
                assert_eq!(memory[offset..offset + len], private);
                assert!(memory[..offset].iter().all(|&byte| byte == 0xee));
                assert!(
                    memory[offset + len..].iter().all(|&byte| byte == 0xee),
                    "{name}, {len} at +{offset}"
                );
            }
        }
    }
}

#[test]
fn the_last_word_is_the_largest_aligned_one_that_ends_with_the_copy() {
    let at = |address: usize| core::ptr::without_provenance::<u8>(address);
    assert_eq!(super::last_word(at(0x1000), 4096), 8);
    assert_eq!(super::last_word(at(0x1000), 7), 4);
    assert_eq!(super::last_word(at(0x1000), 1), 1);
    assert_eq!(super::last_word(at(0x1004), 4096), 4);
    assert_eq!(super::last_word(at(0x1002), 4096), 2);
    assert_eq!(super::last_word(at(0x1007), 4096), 1);
}
