use std::sync::Arc;
use std::thread;

use super::*;

#[test]
fn a_new_mapping_is_zeroed_and_page_aligned() {
    let mapping = Mapping::new(10_000).unwrap();
    let mut bytes = vec![1; 10_000];
    mapping.read(0, &mut bytes).unwrap();
    assert!(bytes.iter().all(|&byte| byte == 0));
    assert_eq!(mapping.address() % 4096, 0);
    assert_eq!(mapping.len(), 10_000);
}

#[test]
fn a_mapping_may_have_no_bytes() {
    let mapping = Mapping::new(0).unwrap();
    assert_eq!((mapping.len(), mapping.is_empty(), mapping.address() % 4096), (0, true, 0));
    assert_eq!(mapping.read(0, &mut []), Ok(()));
    assert_eq!(mapping.write(0, &[1]), Err(OutOfBounds::Range { offset: 0, len: 1, size: 0 }));
    assert!(!Mapping::new(1).unwrap().is_empty());
}

#[test]
#[cfg_attr(miri, ignore = "Miri gives up instead of refusing")]
fn more_bytes_than_the_machine_has_give_an_error() {
    let error = Mapping::new(1 << 62).unwrap_err();
    assert!(error.len == 1 << 62, "{error}");
}

#[test]
fn an_access_that_reaches_outside_touches_no_byte() {
    let mapping = Mapping::new(100).unwrap();
    let range = |offset, len| OutOfBounds::Range { offset, len, size: 100 };
    assert_eq!(mapping.write(96, &[7; 5]), Err(range(96, 5)));
    assert_eq!(mapping.write(usize::MAX, &[7; 2]), Err(range(usize::MAX, 2)));
    let mut out = [9; 5];
    assert_eq!(mapping.read(96, &mut out), Err(range(96, 5)));
    assert_eq!(out, [9; 5]);
    let mut all = [1; 100];
    mapping.read(0, &mut all).unwrap();
    assert_eq!(all, [0; 100]);

    assert_eq!(mapping.write(100, &[]), Ok(()), "nothing at the end is inside");
    assert_eq!(mapping.write(101, &[]), Err(range(101, 0)));
    assert_eq!(mapping.load_u8(100), Err(range(100, 1)));
    assert_eq!(mapping.load_u64(96), Err(range(96, 8)));
}

#[test]
fn lent_bytes_are_the_mappings_own_and_none_beside_them() {
    let mapping = Mapping::new(100).unwrap();
    // SAFETY: nobody else knows the mapping, and the slice is gone at the end of the statement.
    unsafe { mapping.lend_mut(10, 80) }.unwrap().fill(7);
    let mut all = [1; 100];
    mapping.read(0, &mut all).unwrap();
    assert_eq!((all[9], all[10], all[89], all[90]), (0, 7, 7, 0));

    mapping.write(50, b"written").unwrap();
    // SAFETY: as above.
    assert_eq!(unsafe { mapping.lend(49, 9) }.unwrap(), b"\x07written\x07");

    for (offset, len) in [(0, 101), (100, 1), (101, 0), (usize::MAX, 2), (1, usize::MAX)] {
        let outside = Err(OutOfBounds::Range { offset, len, size: 100 });
        // SAFETY: as above.
        assert_eq!(unsafe { mapping.lend(offset, len) }, outside);
        // SAFETY: as above.
        assert_eq!(unsafe { mapping.lend_mut(offset, len) }.map(|lent| &*lent), outside);
    }
    // SAFETY: as above.
    assert!(unsafe { mapping.lend_mut(100, 0) }.unwrap().is_empty());
}

#[test]
fn two_parts_may_be_lent_at_once_while_a_third_is_copied() {
    let mapping = Mapping::new(96).unwrap();
    // SAFETY: nobody else knows the mapping, and the two slices and the copies name different bytes.
    let first = unsafe { mapping.lend_mut(0, 32) }.unwrap();
    // SAFETY: as above.
    let last = unsafe { mapping.lend_mut(64, 32) }.unwrap();
    first.fill(1);
    mapping.write(32, &[2; 32]).unwrap();
    last.copy_from_slice(first);
    first[0] = 3;
    let mut middle = [0; 32];
    mapping.read(32, &mut middle).unwrap();
    assert_eq!((first[0], middle, last[0]), (3, [2; 32], 1));
}

#[test]
fn bytes_are_appended_behind_what_is_there() {
    let mapping = Mapping::new(5000).unwrap();
    mapping.write(10, &[7; 4980]).unwrap();
    let mut out = vec![1, 2];
    mapping.append_to(10, 3, &mut out).unwrap();
    assert_eq!(out, [1, 2, 7, 7, 7]);
    mapping.append_to(9, 4982, &mut out).unwrap();
    assert_eq!((out.len(), out[5], out[6], out[4985], out[4986]), (4987, 0, 7, 7, 0));

    let error = OutOfBounds::Range { offset: 4999, len: 2, size: 5000 };
    assert_eq!(mapping.append_to(4999, 2, &mut out), Err(error));
    mapping.append_to(5000, 0, &mut out).unwrap();
    assert_eq!(out.len(), 4987, "as it was");
}

#[test]
fn an_atomic_needs_an_aligned_address() {
    let mapping = Mapping::new(100).unwrap();
    assert_eq!(mapping.load_u64(4), Err(OutOfBounds::Misaligned { offset: 4 }));
    mapping.write(8, &0x1122_3344_5566_7788_u64.to_ne_bytes()).unwrap();
    assert_eq!(mapping.load_u64(8), Ok(0x1122_3344_5566_7788));
    assert_eq!(mapping.atomic_u64(8).unwrap().fetch_add(1, Ordering::SeqCst), 0x1122_3344_5566_7788);
    assert_eq!(mapping.load_u64(8), Ok(0x1122_3344_5566_7789));
}

/// What `ib_write_lat` relies on: who sees a message's last byte sees all of it.
#[test]
fn whoever_sees_the_last_byte_sees_the_bytes_before_it() {
    const ROUNDS: u8 = if cfg!(miri) { 5 } else { 200 };
    // Miri wants racing atomics to have one size: there the message ends at an odd address, with a single byte.
    let sizes: &[usize] = if cfg!(miri) { &[33] } else { &[2, 9, 33, 64, 700, 1024, 4096, 9001] };
    for &size in sizes {
        let mapping = Arc::new(Mapping::new(2 * size).unwrap());
        let writer = thread::spawn({
            let mapping = Arc::clone(&mapping);
            move || {
                for round in 1..=ROUNDS {
                    mapping.write(0, &vec![round; size]).unwrap();
                    // The reader answers in the second half.
                    while mapping.load_u8(2 * size - 1).unwrap() != round {
                        thread::yield_now();
                    }
                }
            }
        });
        let mut message = vec![0; size];
        for round in 1..=ROUNDS {
            while mapping.load_u8(size - 1).unwrap() != round {
                thread::yield_now();
            }
            mapping.read(0, &mut message).unwrap();
            assert!(message.iter().all(|&byte| byte == round), "{size} bytes, round {round}: {message:?}");
            mapping.write(2 * size - 1, &[round]).unwrap();
        }
        writer.join().unwrap();
    }
}

#[test]
fn an_aligned_number_at_the_end_of_a_message_is_never_torn() {
    const ROUNDS: u32 = if cfg!(miri) { 20 } else { 50_000 };
    let mapping = Arc::new(Mapping::new(64).unwrap());
    let writer = thread::spawn({
        let mapping = Arc::clone(&mapping);
        move || {
            for round in 0..ROUNDS {
                let number = u64::from(round) << 32 | u64::from(round);
                let mut message = [0xff; 32];
                message[24..].copy_from_slice(&number.to_ne_bytes());
                mapping.write(0, &message).unwrap();
            }
        }
    });
    let mut last = 0;
    while last < u64::from(ROUNDS) - 1 {
        let number = mapping.load_u64(24).unwrap();
        assert_eq!(number >> 32, number & 0xffff_ffff, "{number:#x}");
        assert!(number >> 32 >= last);
        last = number >> 32;
        thread::yield_now();
    }
    writer.join().unwrap();
}

/// How fast bytes get in: `cargo test --release -p rocev2-device -- --ignored --nocapture copy_speed`.
#[test]
#[ignore = "a measurement, not a test"]
fn copy_speed() {
    use std::time::Instant;

    let mapping = Mapping::new(1 << 20).unwrap();
    let mut other = vec![0_u8; 1 << 20];
    println!("{:>7} {:>14} {:>14} {:>14}   GB/s", "bytes", "write", "read", "memcpy");
    for size in [8_usize, 64, 256, 512, 1024, 4096] {
        let private = vec![1_u8; size];
        let mut out = vec![1_u8; size];
        let places = (1 << 16) / size;
        let rate = |copy: &mut dyn FnMut(usize)| {
            const ROUNDS: u32 = 1 << 20;
            let mut best = f64::MAX;
            for _ in 0..5 {
                let start = Instant::now();
                for round in 0..ROUNDS {
                    copy(round as usize % places * size);
                }
                best = best.min(start.elapsed().as_secs_f64() / f64::from(ROUNDS));
            }
            format!("{:5.1} ({:5.1} ns)", f64::from(u32::try_from(size).unwrap()) / best / 1e9, best * 1e9)
        };
        let write = rate(&mut |at| mapping.write(at, core::hint::black_box(&private)).unwrap());
        let read = rate(&mut |at| mapping.read(at, core::hint::black_box(&mut out)).unwrap());
        let memcpy = rate(&mut |at| {
            other[at..at + size].copy_from_slice(core::hint::black_box(&private));
            core::hint::black_box(&mut other);
        });
        println!("{size:>7} {write:>14} {read:>14} {memcpy:>14}");
    }
}
