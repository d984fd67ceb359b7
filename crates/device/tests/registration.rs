//! Registering memory, the device's own and the program's, anew too.
#![cfg(target_os = "linux")]
#![allow(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod common;

use common::End;
use rocev2::work::{RemoteAddress, SendOperation, Status};
use rocev2_device::memory::{Access, Base, DeregisterError, Foreign, WindowRange, WindowType};
use rocev2_device::{Buffers, DeviceError, ForeignRegion, Reregistration};
use smallvec::SmallVec;
use std::cell::UnsafeCell;
use std::sync::Arc;

const LEN: usize = 64;

/// Memory of the program: no reference goes into its cells.
type Cells = Box<[UnsafeCell<u8>]>;

fn cells() -> Cells {
    (0..LEN).map(|_| UnsafeCell::new(0)).collect()
}

fn foreign(cells: &Cells) -> Foreign {
    // SAFETY: each test's cells live longer than the devices that know them, and no reference goes into them.
    unsafe { Foreign::new(cells.as_ptr().cast::<u8>().cast_mut(), LEN) }.unwrap()
}

fn byte(cells: &Cells, at: usize) -> u8 {
    // SAFETY: what wrote it has completed.
    unsafe { cells[at].get().read_volatile() }
}

const OPEN: Access = Access::LOCAL_WRITE.union(Access::REMOTE_WRITE).union(Access::MW_BIND);

/// How a WRITE of one byte from `end` completes.
fn write(end: &End, va: u64, rkey: u32, byte: u8) -> Status {
    let operation = SendOperation::Write(RemoteAddress { va, rkey });
    end.send(operation, Buffers::Inline(SmallVec::from_slice(&[byte])));
    end.next()
}

fn keys(region: &ForeignRegion) -> [u32; 2] {
    [region.region().lkey(), region.region().rkey()]
}

#[test]
fn the_devices_own_memory_is_not_named_by_its_address() {
    let [a, _b] = End::pair();
    for access in [Access::empty(), OPEN] {
        let region = a.domain.register(LEN, access).unwrap();
        let (named, real) = (region.region().addr(), region.mapping().address());
        assert_ne!(named >> 12, real >> 12);
        assert_eq!(named % 4096, real % 4096);
    }
    assert_eq!(a.domain.register(LEN, Access::ZERO_BASED).unwrap().region().addr(), 0);
    assert!(a.domain.register(0, OPEN).unwrap().region().is_empty());
}

#[test]
fn the_programs_memory_is_written_by_whatever_address_it_is_named() {
    for (base, extra) in [
        (Base::Address, Access::empty()),
        (Base::At(0x1234_5000), Access::empty()),
        (Base::Random, Access::empty()),
        (Base::Address, Access::ZERO_BASED),
    ] {
        let cells = cells();
        let [a, b] = End::pair();
        let region = b.domain.register_foreign(foreign(&cells), base, OPEN | extra).unwrap();
        let (first, real) = (region.region().addr(), cells.as_ptr().addr() as u64);
        match base {
            _ if !extra.is_empty() => assert_eq!(first, 0),
            Base::Address => assert_eq!(first, real),
            Base::At(chosen) => assert_eq!(first, chosen),
            Base::Random => assert_ne!(first, real),
        }
        assert_eq!(write(&a, first + 63, region.region().rkey(), 7), Status::Success);
        assert_eq!(byte(&cells, 63), 7);
        // This side's own requests name it so, too.
        b.receive(b.list(region.region().lkey(), first + 8, 8));
        a.send(SendOperation::Send, Buffers::Inline(SmallVec::from_slice(&[9])));
        assert_eq!((a.next(), b.next(), byte(&cells, 8)), (Status::Success, Status::Success, 9));
        assert_eq!(write(&a, first + 64, region.region().rkey(), 7), Status::RemoteAccess);
    }
}

#[test]
fn rights_that_contradict_each_other_are_refused() {
    let (cells, [a, _b]) = (cells(), End::pair());
    let refused = a.domain.register_foreign(foreign(&cells), Base::Address, Access::REMOTE_WRITE);
    assert!(matches!(refused, Err(DeviceError::Register(_))), "{refused:?}");
}

#[test]
fn registering_anew_changes_what_is_asked_for_and_draws_new_keys_for_more_than_other_rights() {
    let (cells, others) = (cells(), cells());
    let [a, b] = End::pair();
    let mut region =
        b.domain.register_foreign(foreign(&cells), Base::At(0x1000), Access::LOCAL_WRITE).unwrap();

    let before = keys(&region);
    region.reregister(Reregistration { access: Some(OPEN), ..Reregistration::default() }).unwrap();
    assert_eq!((region.region().access(), region.region().addr()), (OPEN, 0x1000));
    assert_eq!(keys(&region), before, "peers have them, and go on");
    assert_eq!(write(&a, 0x1000, region.region().rkey(), 1), Status::Success);

    let memory = Some((foreign(&others), Base::At(0x9000)));
    region.reregister(Reregistration { memory, ..Reregistration::default() }).unwrap();
    assert!(keys(&region).iter().all(|key| !before.contains(key)));
    assert_eq!((region.region().access(), region.region().addr()), (OPEN, 0x9000));
    assert_eq!(write(&a, 0x9000, region.region().rkey(), 2), Status::Success);
    assert_eq!((byte(&cells, 0), byte(&others, 0)), (1, 2));

    // In another domain the peer doesn't reach it any more.
    let other = b.device.protection_domain();
    region.reregister(Reregistration { domain: Some(&other), ..Reregistration::default() }).unwrap();
    assert_eq!((region.region().access(), region.region().addr()), (OPEN, 0x9000));
    assert_eq!(write(&a, 0x9000, region.region().rkey(), 3), Status::RemoteAccess);
    assert_eq!(byte(&others, 0), 2);
}

#[test]
fn who_knew_the_old_key_reaches_nothing_after_it_is_registered_anew() {
    let (cells, [a, b]) = (cells(), End::pair());
    let mut region = b.domain.register_foreign(foreign(&cells), Base::At(0x1000), OPEN).unwrap();
    let [own, peers] = keys(&region);
    region.reregister(Reregistration::default()).unwrap();
    b.send(SendOperation::Send, b.list(own, 0x1000, 1));
    assert_eq!(b.next(), Status::LocalProtection);
    let [a, _b] = End::connected([a, b].map(|end| End::on(&end.device, end.gid_index, &end.domain)));
    assert_eq!(write(&a, 0x1000, peers, 1), Status::RemoteAccess);
    assert_eq!(byte(&cells, 0), 0);
}

#[test]
fn a_region_with_windows_is_neither_deregistered_nor_registered_anew() {
    let (cells, [a, b]) = (cells(), End::pair());
    let mut region = b.domain.register_foreign(foreign(&cells), Base::At(0x1000), OPEN).unwrap();
    let window = b.domain.window(WindowType::Two).unwrap();
    let range =
        WindowRange { region: Arc::clone(region.region()), va: 0x1000, len: 8, access: Access::REMOTE_WRITE };
    let bind = window.bind(None, Some(range)).unwrap();
    b.send(SendOperation::BindWindow, Buffers::Bind(Box::new(bind)));
    assert_eq!(b.next(), Status::Success);

    let before = keys(&region);
    let busy = |error: &DeviceError| matches!(error, DeviceError::Deregister(DeregisterError::WindowsBound));
    assert!(busy(&region.reregister(Reregistration::default()).unwrap_err()));
    assert_eq!(keys(&region), before);
    let (region, error) = region.deregister().unwrap_err();
    assert!(busy(&error), "{error}");
    assert_eq!(write(&a, 0x1000, window.window().rkey(), 1), Status::Success);
    assert_eq!(write(&a, 0x1001, region.region().rkey(), 2), Status::Success);

    drop(window);
    let rkey = region.region().rkey();
    region.deregister().unwrap();
    assert_eq!(write(&a, 0x1001, rkey, 3), Status::RemoteAccess);
    assert_eq!((byte(&cells, 0), byte(&cells, 1)), (1, 2));
}
