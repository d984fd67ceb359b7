use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use super::super::{Base, KeyLimits, KeySpace, KeyTable, Mapping, Registration};
use super::*;

const LEN: usize = 50;

fn table() -> KeyTable {
    KeyTable::new(Arc::new(KeySpace::new(KeyLimits { regions: 8, windows: 0 }, |bytes| {
        Ok(getrandom::fill(bytes)?)
    })))
}

fn mapping(region: &Region) -> &Mapping {
    let Backing::Own(mapping) = region.backing() else { panic!("it isn't the device's own memory") };
    mapping
}

fn region(table: &KeyTable, len: usize, base: Base, access: Access) -> Arc<Region> {
    let backing = Backing::Own(Arc::new(Mapping::new(len).unwrap()));
    table.register(Registration { backing, base, access }).unwrap()
}

fn contents(region: &Region) -> Vec<u8> {
    let mut bytes = vec![0; region.len()];
    mapping(region).read(0, &mut bytes).unwrap();
    bytes
}

#[test]
fn an_access_that_leaves_the_region_is_refused_whole() {
    let table = table();
    for base in [Base::Address, Base::At(0), Base::At(u64::MAX - LEN as u64), Base::Random] {
        let region = region(&table, LEN, base, Access::LOCAL_WRITE);
        let start = region.addr();
        let outside = [
            (start.wrapping_sub(1), 1),
            (start.wrapping_sub(1), 2),
            (start, 51),
            (start + 49, 2),
            (start + 50, 1),
            (start.wrapping_add(51), 0),
            (start.wrapping_sub(1), 0),
            // Sums that wrap around 2^64.
            (u64::MAX, 2),
            (start.wrapping_sub(10), 60),
        ];
        for (va, len) in outside {
            let located = region.bounds().locate(va, len, Access::empty());
            assert_eq!(located, Err(Fault::OutOfRange), "{va:#x}, {len}");
            assert_eq!(region.write(va, &vec![1; len]), Err(Fault::OutOfRange));
            let mut out = vec![2; len];
            assert_eq!(region.read(va, &mut out), Err(Fault::OutOfRange));
            assert_eq!(out, vec![2; len]);
        }
        for len in [usize::MAX, usize::MAX - 1, 1 << 63] {
            assert_eq!(region.bounds().locate(start, len, Access::empty()), Err(Fault::OutOfRange));
            assert_eq!(region.bounds().locate(start + 1, len, Access::empty()), Err(Fault::OutOfRange));
        }
        assert_eq!(contents(&region), vec![0; LEN]);

        assert_eq!(region.write(start, &[3; LEN]), Ok(()));
        assert_eq!(region.write(start + 50, &[]), Ok(()));
        assert_eq!(contents(&region), vec![3; LEN]);
    }
}

#[test]
fn a_work_request_may_read_every_region_and_write_only_with_the_right() {
    let table = table();
    for access in [Access::empty(), Access::LOCAL_WRITE] {
        let region = region(&table, LEN, Base::At(0), access);
        assert_eq!(region.access(), access);
        assert_eq!(region.read(0, &mut [0; 8]), Ok(()));
        let missing = Access::LOCAL_WRITE - access;
        let allowed = if missing.is_empty() { Ok(()) } else { Err(Fault::NotPermitted(missing)) };
        assert_eq!(region.write(0, &[1; 8]), allowed);
    }
}

#[test]
fn a_deregistered_region_refuses_everything_to_those_who_still_hold_it() {
    let table = table();
    let region = region(&table, LEN, Base::Random, Access::LOCAL_WRITE);
    table.deregister(&region).unwrap();
    assert!(region.is_revoked());
    let va = region.addr();
    assert_eq!(region.read(va, &mut [0]), Err(Fault::Revoked));
    assert_eq!(region.write(va, &[1]), Err(Fault::Revoked));
    assert_eq!(contents(&region), vec![0; LEN]);
}

/// The owner may reuse the memory as soon as `deregister` returns: a copy under way must have ended by then.
#[test]
fn nothing_is_written_any_more_once_deregister_has_returned() {
    let (rounds, len) = if cfg!(miri) { (3, 64) } else { (50, 1 << 20) };
    for _ in 0..rounds {
        let table = table();
        let region = region(&table, len, Base::Address, Access::LOCAL_WRITE);
        let started = Barrier::new(2);
        thread::scope(|scope| {
            scope.spawn(|| {
                let ones = vec![1; len];
                started.wait();
                while region.write(region.addr(), &ones).is_ok() {}
            });
            started.wait();
            let deadline = Instant::now() + Duration::from_micros(300);
            while Instant::now() < deadline {
                thread::yield_now();
            }
            table.deregister(&region).unwrap();
            mapping(&region).write(0, &vec![2; len]).unwrap();
        });
        assert!(contents(&region).iter().all(|&byte| byte == 2));
    }
}

#[test]
fn debug_output_shows_no_key_and_no_address() {
    let table = table();
    let region = region(&table, LEN, Base::Address, Access::LOCAL_WRITE | Access::REMOTE);
    let remote = table.by_rkey(region.rkey()).unwrap();
    let text = format!("{region:?} {table:?} {remote:?}");
    for secret in [u64::from(region.rkey()), u64::from(region.lkey()), region.addr()] {
        assert!(!text.contains(&secret.to_string()) && !text.contains(&format!("{secret:x}")), "{text}");
    }
    assert!(text.contains("len: 50") && text.contains("revoked: false"), "{text}");
}
