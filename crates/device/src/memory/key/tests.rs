use super::*;

fn space(regions: usize, windows: usize) -> Arc<KeySpace> {
    Arc::new(KeySpace::new(KeyLimits { regions, windows }, |bytes| Ok(getrandom::fill(bytes)?)))
}

const MANY: usize = if cfg!(miri) { 20 } else { 1000 };

#[test]
fn keys_are_never_zero_share_no_index_and_use_all_32_bits() {
    let space = space(MANY, MANY);
    let (mut regions, mut windows) = (Vec::new(), Vec::new());
    let (mut indices, mut ones, mut zeros) = (HashSet::new(), 0, 0);
    let mut seen = |key: &Key| {
        assert_ne!(key.get(), 0);
        assert!(indices.insert(key.get() >> 8), "two keys share an index");
        ones |= key.get();
        zeros |= !key.get();
    };
    for _ in 0..MANY {
        let region = space.region().unwrap();
        seen(&region.lkey);
        seen(&region.rkey);
        regions.push(region);
        let (key, place) = space.window().unwrap();
        seen(&key);
        let another = key.another().unwrap();
        seen(&another);
        windows.push((key, another, place));
    }
    assert_eq!((ones, zeros), (u32::MAX, u32::MAX));
    assert_eq!(space.used().len(), 4 * MANY);
}

#[test]
fn what_is_drawn_for_an_address_uses_all_64_bits() {
    let space = space(1, 0);
    let (mut ones, mut zeros) = (0, 0);
    for _ in 0..64 {
        let random = space.region().unwrap().random;
        ones |= random;
        zeros |= !random;
    }
    assert_eq!((ones, zeros), (u64::MAX, u64::MAX));
}

#[test]
fn an_index_of_zero_or_in_use_is_drawn_again() {
    let space = space(1, 1);
    let key = space.take(0x0012_3456).unwrap();
    assert_eq!((key.get(), key.variant(), key.index), (0x0012_3456, 0x56, 0x1234));
    let other = space.take(0x0012_34ff).unwrap();
    assert_ne!(other.index, 0x1234);
    let nonzero = space.take(0x0000_00ff).unwrap();
    assert_ne!(nonzero.index, 0);
    drop(key);
    assert_eq!(space.take(0x0012_34ff).unwrap().get(), 0x0012_34ff, "free again");
}

#[test]
fn a_variant_changes_the_last_byte_alone() {
    let mut key = space(1, 1).take(0xabcd_ef01).unwrap();
    assert_eq!(key.with(0xff), 0xabcd_efff);
    assert_eq!(key.get(), 0xabcd_ef01);
    key.set_variant(0x02);
    assert_eq!((key.get(), key.variant()), (0xabcd_ef02, 0x02));
}

#[test]
fn there_are_as_many_regions_and_windows_as_the_device_may_have_and_each_is_free_again() {
    let space = space(2, 1);
    let held = [space.region().unwrap(), space.region().unwrap()];
    let error = space.region().map(|_| ()).unwrap_err();
    assert!(matches!(error, KeyError::TooMany { what: "memory regions", limit: 2 }), "{error}");
    let window = space.window().unwrap();
    let error = space.window().map(|_| ()).unwrap_err();
    assert!(matches!(error, KeyError::TooMany { what: "memory windows", limit: 1 }), "{error}");
    assert_eq!(space.used().len(), 5, "what was refused has taken no key");
    drop((held, window));
    assert!(space.used().is_empty());
    let _held = [space.region().unwrap(), space.region().unwrap()];
    let _window = space.window().unwrap();
}

#[test]
fn only_so_many_indices_are_used_that_a_free_one_is_soon_found() {
    assert_eq!(
        KeySpace::new(KeyLimits { regions: 1, windows: 1 }, |bytes| Ok(getrandom::fill(bytes)?)).max_used,
        0x80_0000,
        "half of them"
    );
    let space = Arc::new(KeySpace {
        max_used: 2,
        ..KeySpace::new(KeyLimits { regions: 1, windows: 1 }, |bytes| Ok(getrandom::fill(bytes)?))
    });
    let held = [space.key().unwrap(), space.key().unwrap()];
    let error = space.key().map(|_| ()).unwrap_err();
    assert!(matches!(error, KeyError::TooMany { what: "memory keys", limit: 2 }), "{error}");
    assert!(space.region().is_err() && space.window().is_err());
    drop(held);
    space.region().unwrap();
    assert_eq!(space.used().len(), 0);
}
