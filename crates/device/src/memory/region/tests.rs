use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use super::super::{KeySpace, KeyTable, Registration};
use super::*;

const ALL: Access = Access::all().difference(Access::ZERO_BASED);

fn table() -> KeyTable {
    KeyTable::new(Arc::new(KeySpace::new(8)))
}

fn region(table: &KeyTable, offset: usize, len: usize, access: Access) -> Arc<Region> {
    let mapping = Arc::new(Mapping::new(4096).unwrap());
    table.register(Registration { mapping, offset, len, access, invalidatable: false }).unwrap()
}

fn contents(region: &Region) -> Vec<u8> {
    let mut bytes = vec![0; region.mapping().len()];
    region.mapping().read(0, &mut bytes).unwrap();
    bytes
}

#[test]
fn addresses_are_real_ones_or_count_from_zero() {
    let table = table();
    let real = region(&table, 100, 50, ALL);
    assert_eq!(real.addr(), real.mapping().address() + 100);
    let zero = region(&table, 100, 50, ALL | Access::ZERO_BASED);
    assert_eq!(zero.addr(), 0);
    for region in [real, zero] {
        region.write(region.addr() + 49, b"x", Origin::Remote).unwrap();
        assert_eq!(contents(&region)[149], b'x');
    }
}

#[test]
fn an_access_that_leaves_the_region_is_refused_whole() {
    let table = table();
    for access in [ALL, ALL | Access::ZERO_BASED] {
        let region = region(&table, 100, 50, access);
        let start = region.addr();
        let outside = [
            (start.wrapping_sub(1), 1),
            (start.wrapping_sub(1), 2),
            (start, 51),
            (start + 49, 2),
            (start + 50, 1),
            (start + 51, 0),
            (start.wrapping_sub(1), 0),
            // Sums that wrap around 2^64.
            (u64::MAX, 2),
            (u64::MAX - 10, 50),
            (start.wrapping_sub(10), 60),
        ];
        for (va, len) in outside {
            assert_eq!(region.check(va, len, Access::REMOTE_WRITE), Err(Fault::OutOfRange), "{va:#x}, {len}");
            let len = usize::try_from(len).unwrap();
            assert_eq!(region.write(va, &vec![1; len], Origin::Remote), Err(Fault::OutOfRange));
            let mut out = vec![2; len];
            assert_eq!(region.read(va, &mut out, Origin::Remote), Err(Fault::OutOfRange));
            assert_eq!(out, vec![2; len]);
        }
        for len in [u64::MAX, u64::MAX - start, 1 << 63] {
            assert_eq!(region.check(start, len, Access::REMOTE_WRITE), Err(Fault::OutOfRange));
            assert_eq!(region.check(start + 1, len, Access::REMOTE_WRITE), Err(Fault::OutOfRange));
        }
        assert_eq!(contents(&region), vec![0; 4096]);

        assert_eq!(region.check(start, 50, Access::REMOTE_WRITE), Ok(()));
        assert_eq!(region.check(start + 50, 0, Access::REMOTE_WRITE), Ok(()));
    }
}

#[test]
fn each_kind_of_access_needs_its_right() {
    let table = table();
    let try_all = |access| {
        let region = region(&table, 0, 64, access | Access::ZERO_BASED);
        let tried = [
            region.read(0, &mut [0; 8], Origin::Local),
            region.write(0, &[1; 8], Origin::Local),
            region.read(0, &mut [0; 8], Origin::Remote),
            region.write(0, &[1; 8], Origin::Remote),
            region.fetch_add(0, 1).map(|_| ()),
            region.compare_swap(0, 0, 1).map(|_| ()),
        ];
        table.deregister(&region).unwrap();
        tried.map(|result| match result {
            Ok(()) => None,
            Err(Fault::NotPermitted(missing)) => Some(missing),
            Err(other) => panic!("{other}"),
        })
    };
    let (local, write, read, atomic) =
        (Access::LOCAL_WRITE, Access::REMOTE_WRITE, Access::REMOTE_READ, Access::REMOTE_ATOMIC);
    let all = [None, Some(local), Some(read), Some(write), Some(atomic), Some(atomic)];
    assert_eq!(try_all(Access::empty()), all);
    assert_eq!(try_all(local), [all[0], None, all[2], all[3], all[4], all[5]]);
    assert_eq!(try_all(read), [all[0], all[1], None, all[3], all[4], all[5]]);
    assert_eq!(try_all(local | write), [all[0], None, all[2], None, all[4], all[5]]);
    assert_eq!(try_all(local | atomic), [all[0], None, all[2], all[3], None, None]);
}

#[test]
fn atomics_give_the_old_value_and_work_on_the_hosts_numbers() {
    let table = table();
    let region = region(&table, 0, 64, ALL);
    let va = region.addr() + 16;
    assert_eq!(region.fetch_add(va, u64::MAX), Ok(0));
    assert_eq!(region.fetch_add(va, 3), Ok(u64::MAX), "adding goes around 2^64");
    assert_eq!(region.compare_swap(va, 1, 77), Ok(2), "a value that differs stays");
    assert_eq!(region.compare_swap(va, 2, 77), Ok(2));
    let mut bytes = [0; 8];
    region.read(va, &mut bytes, Origin::Local).unwrap();
    assert_eq!(u64::from_ne_bytes(bytes), 77);
}

#[test]
fn an_atomic_at_an_address_that_is_no_multiple_of_eight_is_refused_and_changes_nothing() {
    let table = table();
    let real = region(&table, 0, 64, ALL);
    for off in 1..8 {
        assert_eq!(real.fetch_add(real.addr() + off, 1), Err(Fault::Misaligned));
    }
    // The address that the peer names is aligned, the memory isn't, and the other way round.
    let shifted = region(&table, 4, 64, ALL | Access::ZERO_BASED);
    assert_eq!(shifted.compare_swap(8, 0, 1), Err(Fault::Misaligned));
    assert_eq!(shifted.compare_swap(4, 0, 1), Err(Fault::Misaligned));
    assert_eq!(real.fetch_add(real.addr() + 60, 1), Err(Fault::OutOfRange));
    assert_eq!(contents(&real), vec![0; 4096]);
    assert_eq!(contents(&shifted), vec![0; 4096]);
}

#[test]
fn threads_adding_at_once_lose_nothing() {
    const EACH: u64 = if cfg!(miri) { 20 } else { 10_000 };
    let table = table();
    let region = region(&table, 0, 8, ALL);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..EACH).for_each(|_| assert!(region.fetch_add(region.addr(), 1).is_ok())));
        }
    });
    assert_eq!(region.fetch_add(region.addr(), 0), Ok(4 * EACH));
}

#[test]
fn a_deregistered_region_refuses_everything_to_those_who_still_hold_it() {
    let table = table();
    let region = region(&table, 0, 64, ALL);
    table.deregister(&region).unwrap();
    assert!(region.is_revoked());
    let va = region.addr();
    assert_eq!(region.check(va, 0, Access::empty()), Err(Fault::Revoked));
    assert_eq!(region.read(va, &mut [0], Origin::Local), Err(Fault::Revoked));
    assert_eq!(region.write(va, &[1], Origin::Remote), Err(Fault::Revoked));
    assert_eq!(region.fetch_add(va, 1), Err(Fault::Revoked));
    assert_eq!(region.compare_swap(va, 0, 1), Err(Fault::Revoked));
    assert_eq!(contents(&region), vec![0; 4096]);
}

/// The owner may reuse the memory as soon as `deregister` returns: a copy under way must have ended by then.
#[test]
fn nothing_is_written_any_more_once_deregister_has_returned() {
    let (rounds, len) = if cfg!(miri) { (3, 64) } else { (50, 1 << 20) };
    for _ in 0..rounds {
        let table = table();
        let mapping = Arc::new(Mapping::new(len).unwrap());
        let request = Registration { mapping, offset: 0, len, access: ALL, invalidatable: false };
        let region = table.register(request).unwrap();
        let started = Barrier::new(2);
        thread::scope(|scope| {
            scope.spawn(|| {
                let ones = vec![1; len];
                started.wait();
                while region.write(region.addr(), &ones, Origin::Remote).is_ok() {}
            });
            started.wait();
            let deadline = Instant::now() + Duration::from_micros(300);
            while Instant::now() < deadline {
                thread::yield_now();
            }
            table.deregister(&region).unwrap();
            region.mapping().write(0, &vec![2; len]).unwrap();
        });
        assert!(contents(&region).iter().all(|&byte| byte == 2));
    }
}

#[test]
fn debug_output_shows_no_key_and_no_address() {
    let table = table();
    let region = region(&table, 0, 64, ALL);
    let text = format!("{region:?} {table:?}");
    for secret in [u64::from(region.rkey()), u64::from(region.lkey()), region.addr()] {
        assert!(!text.contains(&secret.to_string()) && !text.contains(&format!("{secret:x}")), "{text}");
    }
}
