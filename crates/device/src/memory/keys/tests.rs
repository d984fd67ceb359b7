use super::*;

fn space() -> Arc<KeySpace> {
    Arc::new(KeySpace::new(100_000))
}

fn request(access: Access) -> Registration {
    let mapping = Arc::new(Mapping::new(64).unwrap());
    Registration { mapping, offset: 0, len: 64, access, invalidatable: false }
}

#[test]
fn a_region_is_found_by_its_own_keys_until_it_is_deregistered() {
    let table = KeyTable::new(space());
    let region = table.register(request(Access::REMOTE_READ)).unwrap();
    assert!(Arc::ptr_eq(&table.by_rkey(region.rkey()).unwrap(), &region));
    assert!(Arc::ptr_eq(&table.by_lkey(region.lkey()).unwrap(), &region));
    assert_eq!(
        table.by_rkey(region.lkey()).unwrap_err(),
        Fault::UnknownKey,
        "a local key is nothing to a peer"
    );
    assert_eq!(table.by_rkey(0).unwrap_err(), Fault::UnknownKey);

    table.deregister(&region).unwrap();
    assert_eq!(table.by_rkey(region.rkey()).unwrap_err(), Fault::UnknownKey);
    assert_eq!(table.by_lkey(region.lkey()).unwrap_err(), Fault::UnknownKey);
    assert_eq!(table.deregister(&region), Err(Fault::UnknownKey), "once is enough");
    assert!(table.is_empty());
}

#[test]
fn a_key_of_another_protection_domain_is_unknown() {
    let space = space();
    let (mine, other) = (KeyTable::new(Arc::clone(&space)), KeyTable::new(space));
    let region = other.register(request(Access::REMOTE_READ)).unwrap();
    assert_eq!(mine.by_rkey(region.rkey()).unwrap_err(), Fault::UnknownKey);
    assert_eq!(mine.invalidate(region.rkey()), Err(Fault::UnknownKey));
    assert_eq!(mine.deregister(&region), Err(Fault::UnknownKey));
    assert!(!region.is_revoked());
}

#[test]
fn keys_are_never_zero_never_shared_and_use_all_32_bits() {
    const REGIONS: usize = if cfg!(miri) { 20 } else { 1000 };
    let space = space();
    let tables = [KeyTable::new(Arc::clone(&space)), KeyTable::new(space)];
    let (mut seen, mut ones, mut zeros) = (HashSet::new(), 0, 0);
    let mapping = Arc::new(Mapping::new(1).unwrap());
    for table in &tables {
        for _ in 0..REGIONS {
            let mapping = Arc::clone(&mapping);
            let request =
                Registration { mapping, offset: 0, len: 1, access: Access::empty(), invalidatable: false };
            let region = table.register(request).unwrap();
            for key in [region.lkey(), region.rkey()] {
                assert_ne!(key, 0);
                assert!(seen.insert(key));
                ones |= key;
                zeros |= !key;
            }
        }
    }
    assert_eq!((ones, zeros), (u32::MAX, u32::MAX));
}

#[test]
fn keys_are_free_again_when_nobody_holds_the_region_any_more() {
    let space = Arc::new(KeySpace::new(1));
    let table = KeyTable::new(Arc::clone(&space));
    let region = table.register(request(Access::empty())).unwrap();
    let full = table.register(request(Access::empty())).unwrap_err();
    assert!(matches!(full, RegisterError::TooMany { limit: 1 }), "{full}");
    table.deregister(&region).unwrap();
    assert!(table.register(request(Access::empty())).is_err(), "a responder may still hold the region");
    drop(region);
    assert!(space.used().is_empty());
    table.register(request(Access::empty())).unwrap();
}

#[test]
fn a_peer_invalidates_only_what_was_registered_for_it() {
    let table = KeyTable::new(space());
    let fixed = table.register(request(Access::REMOTE_READ)).unwrap();
    assert_eq!(table.invalidate(fixed.rkey()), Err(Fault::NotInvalidatable));
    assert!(!fixed.is_revoked());

    let window =
        table.register(Registration { invalidatable: true, ..request(Access::REMOTE_READ) }).unwrap();
    assert_eq!(table.invalidate(window.lkey()), Err(Fault::UnknownKey));
    assert_eq!(table.invalidate(window.rkey()), Ok(()));
    assert_eq!(window.check(window.addr(), 1, Access::REMOTE_READ), Err(Fault::Revoked));
    assert_eq!(table.invalidate(window.rkey()), Err(Fault::Revoked));
    table.deregister(&window).unwrap();
}

#[test]
fn a_region_that_is_empty_reaches_outside_or_has_contradictory_rights_is_refused() {
    let table = KeyTable::new(space());
    let refused = |offset, len| {
        let error = table.register(Registration { offset, len, ..request(Access::empty()) }).unwrap_err();
        matches!(error, RegisterError::Range { size: 64, .. })
    };
    assert!(refused(0, 0));
    assert!(refused(0, 65));
    assert!(refused(64, 1));
    assert!(refused(65, 0));
    assert!(refused(1, usize::MAX));
    assert!(refused(usize::MAX, 2));
    let error = table.register(request(Access::REMOTE_WRITE)).unwrap_err();
    assert!(matches!(
        error,
        RegisterError::Access(AccessError::RemoteWithoutLocalWrite(Access::REMOTE_WRITE))
    ));
    assert!(table.is_empty());
}

#[test]
fn a_protection_domain_takes_its_regions_with_it() {
    let space = space();
    let table = KeyTable::new(Arc::clone(&space));
    let region = table.register(request(Access::REMOTE_READ)).unwrap();
    drop(table);
    assert_eq!(region.read(region.addr(), &mut [0], super::super::Origin::Remote), Err(Fault::Revoked));
    drop(region);
    assert!(space.used().is_empty());
}
