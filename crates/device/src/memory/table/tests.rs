use super::*;
use crate::memory::{KeyLimits, Mapping};

fn space() -> Arc<KeySpace> {
    Arc::new(KeySpace::new(KeyLimits { regions: 10, windows: 10 }, |bytes| Ok(getrandom::fill(bytes)?)))
}

fn request(access: Access) -> Registration {
    let backing = Backing::Own(Arc::new(Mapping::new(64).unwrap()));
    Registration { backing, base: Base::Address, access }
}

#[test]
fn a_region_is_found_by_its_own_keys_until_it_is_deregistered() {
    let table = KeyTable::new(space());
    let region = table.register(request(Access::REMOTE_READ)).unwrap();
    assert!(Arc::ptr_eq(&table.by_lkey(region.lkey()).unwrap(), &region));
    let remote = table.by_rkey(region.rkey()).unwrap();
    assert_eq!(remote.read(region.addr(), &mut [0; 64]), Ok(()));
    for not_remote in [region.lkey(), 0, region.rkey() ^ 1, region.rkey() ^ 1 << 31] {
        assert_eq!(table.by_rkey(not_remote).unwrap_err(), Fault::UnknownKey);
    }
    assert_eq!(table.by_lkey(region.rkey()).unwrap_err(), Fault::UnknownKey);

    table.deregister(&region).unwrap();
    assert_eq!(table.by_rkey(region.rkey()).unwrap_err(), Fault::UnknownKey);
    assert_eq!(table.by_lkey(region.lkey()).unwrap_err(), Fault::UnknownKey);
    assert_eq!(remote.read(region.addr(), &mut [0; 64]), Err(Fault::Revoked));
    assert_eq!(table.deregister(&region), Err(DeregisterError::Unknown), "once is enough");
    assert!(table.is_empty());
}

#[test]
fn a_key_of_another_protection_domain_is_unknown() {
    let space = space();
    let (mine, other) = (KeyTable::new(Arc::clone(&space)), KeyTable::new(space));
    let region = other.register(request(Access::REMOTE_READ)).unwrap();
    assert_eq!(mine.by_rkey(region.rkey()).unwrap_err(), Fault::UnknownKey);
    assert_eq!(mine.by_lkey(region.lkey()).unwrap_err(), Fault::UnknownKey);
    assert_eq!(mine.invalidate(region.rkey(), Invalidation::Local), Err(Fault::UnknownKey));
    assert_eq!(mine.deregister(&region), Err(DeregisterError::Unknown));
    assert!(!region.is_revoked());
    assert_eq!((mine.len(), other.len()), (0, 1));
}

#[test]
fn keys_are_free_again_when_nobody_holds_the_region_any_more() {
    let space =
        Arc::new(KeySpace::new(KeyLimits { regions: 1, windows: 0 }, |bytes| Ok(getrandom::fill(bytes)?)));
    let table = KeyTable::new(space);
    let region = table.register(request(Access::empty())).unwrap();
    let full = table.register(request(Access::empty())).unwrap_err();
    assert!(matches!(full, RegisterError::Key(KeyError::TooMany { limit: 1, .. })), "{full}");
    table.deregister(&region).unwrap();
    assert!(table.register(request(Access::empty())).is_err(), "a responder may still hold the region");
    drop(region);
    table.register(request(Access::empty())).unwrap();
}

#[test]
fn a_region_cannot_be_invalidated() {
    let table = KeyTable::new(space());
    let region = table.register(request(Access::REMOTE_READ | Access::MW_BIND)).unwrap();
    for by in [Invalidation::Local, Invalidation::Peer(QueuePairId::new())] {
        assert_eq!(table.invalidate(region.rkey(), by), Err(Fault::NotInvalidatable));
        assert_eq!(table.invalidate(region.lkey(), by), Err(Fault::UnknownKey));
    }
    assert!(!region.is_revoked());
}

#[test]
fn contradictory_rights_are_refused() {
    let table = KeyTable::new(space());
    let error = table.register(request(Access::REMOTE_WRITE)).unwrap_err();
    assert!(matches!(
        error,
        RegisterError::Access(AccessError::RemoteWithoutLocalWrite(Access::REMOTE_WRITE))
    ));
    assert!(table.is_empty());
}

#[test]
fn a_region_is_named_as_its_owner_chooses_and_never_beyond_the_last_address() {
    let table = KeyTable::new(space());
    let register = |base, access| table.register(Registration { base, ..request(access) });
    let own = register(Base::Address, Access::empty()).unwrap();
    assert_eq!(own.addr(), own.backing().address());
    for base in [0, 1, 0x1234_5678, u64::MAX - 64] {
        assert_eq!(register(Base::At(base), Access::empty()).unwrap().addr(), base);
    }
    for base in [Base::Address, Base::At(77), Base::Random] {
        assert_eq!(register(base, Access::ZERO_BASED).unwrap().addr(), 0);
    }
    for base in [u64::MAX - 63, u64::MAX] {
        let error = register(Base::At(base), Access::empty()).unwrap_err();
        assert!(matches!(error, RegisterError::Wraps { len: 64 }), "{error}");
    }
}

#[test]
fn random_addresses_say_nothing_of_real_ones_but_keep_their_alignment() {
    let space =
        Arc::new(KeySpace::new(KeyLimits { regions: 1000, windows: 0 }, |bytes| Ok(getrandom::fill(bytes)?)));
    let table = KeyTable::new(space);
    let registration = Registration { base: Base::Random, ..request(Access::empty()) };
    let (mut ones, mut zeros) = (0, 0);
    for _ in 0..100 {
        let region = table.register(registration.clone()).unwrap();
        assert_eq!(region.addr() % PAGE, region.backing().address() % PAGE);
        assert!((PAGE..RANDOM_END).contains(&region.addr()));
        ones |= region.addr();
        zeros |= !region.addr();
    }
    let drawn = (RANDOM_END - 1) & !(PAGE - 1);
    assert_eq!((ones & drawn, zeros & drawn), (drawn, drawn), "each bit has been 1, and 0");
}

#[test]
fn random_addresses_begin_behind_the_first_page() {
    const ADDRESS: u64 = 0x7fff_1234_5678;
    let span = RANDOM_END - PAGE;
    assert_eq!(random_base(0, ADDRESS), 0x1678);
    assert_eq!(random_base(span, ADDRESS), 0x1678, "and so around");
    assert_eq!(random_base(span - 1, ADDRESS), RANDOM_END - PAGE + 0x678);
    assert!((PAGE..RANDOM_END).contains(&random_base(u64::MAX, ADDRESS)));
}

#[test]
fn a_region_may_be_empty_and_then_gives_nothing() {
    let table = KeyTable::new(space());
    let backing = Backing::Own(Arc::new(Mapping::new(0).unwrap()));
    let access = Access::LOCAL_WRITE | Access::REMOTE;
    let region = table.register(Registration { backing, base: Base::Random, access }).unwrap();
    assert!(region.is_empty());
    let remote = table.by_rkey(region.rkey()).unwrap();
    assert_eq!(remote.write(region.addr(), &[]), Ok(()));
    assert_eq!(remote.write(region.addr(), &[1]), Err(Fault::OutOfRange));
    assert_eq!(region.read(region.addr(), &mut [0]), Err(Fault::OutOfRange));
    assert_eq!(remote.fetch_add(region.addr(), 1), Err(Fault::OutOfRange));
}

#[test]
fn a_protection_domain_takes_its_regions_with_it() {
    let table = KeyTable::new(space());
    let region = table.register(request(Access::REMOTE_READ)).unwrap();
    let remote = table.by_rkey(region.rkey()).unwrap();
    drop(table);
    assert_eq!(remote.read(region.addr(), &mut [0]), Err(Fault::Revoked));
    assert_eq!(region.read(region.addr(), &mut [0]), Err(Fault::Revoked));
}
