use std::sync::{Arc, Barrier};
use std::thread;

use super::super::{
    Backing, Base, DeregisterError, Invalidation, KeyLimits, KeySpace, KeyTable, Mapping, Registration,
};
use super::*;

/// The addresses of the region are 1000 to 1063.
const START: u64 = 1000;
const LEN: u64 = 64;

const ALL: Access = Access::LOCAL_WRITE.union(Access::MW_BIND);

fn table() -> KeyTable {
    KeyTable::new(Arc::new(KeySpace::new(KeyLimits { regions: 2, windows: 2 }, |bytes| {
        Ok(getrandom::fill(bytes)?)
    })))
}

fn region(table: &KeyTable, access: Access) -> Arc<Region> {
    let backing = Backing::Own(Arc::new(Mapping::new(64).unwrap()));
    table.register(Registration { backing, base: Base::At(START), access }).unwrap()
}

fn range(region: &Arc<Region>, va: u64, len: u64, access: Access) -> WindowRange {
    WindowRange { region: Arc::clone(region), va, len, access }
}

/// Binds it, and returns the new key.
fn bind(
    table: &KeyTable,
    window: &Arc<Window>,
    range: Option<WindowRange>,
    queue_pair: QueuePairId,
) -> Result<u32, BindError> {
    let bind = Bind::new(window, None, range).unwrap();
    let rkey = bind.rkey();
    table.bind(&bind, queue_pair).map(|()| rkey)
}

const BOTH: [WindowType; 2] = [WindowType::One, WindowType::Two];

#[test]
fn a_window_gives_what_it_is_bound_to_and_what_the_bind_allows() {
    for kind in BOTH {
        let (table, queue_pair) = (table(), QueuePairId::new());
        let region = region(&table, ALL);
        let window = table.window(kind).unwrap();
        assert_eq!((window.kind(), window.is_bound()), (kind, false));
        assert_eq!(table.by_rkey(window.rkey()).unwrap_err(), Fault::UnknownKey, "it isn't bound");

        let part = range(&region, START + 8, 16, Access::REMOTE_READ | Access::REMOTE_WRITE);
        let rkey = bind(&table, &window, Some(part), queue_pair).unwrap();
        assert_eq!((window.rkey(), window.is_bound()), (rkey, true));
        let memory = table.by_rkey(rkey).unwrap();
        assert_eq!(memory.write(START + 8, &[7; 16]), Ok(()));
        for (va, len) in [(START + 7, 1), (START + 8, 17), (START + 24, 1), (8, 1), (0, 1)] {
            assert_eq!(memory.write(va, &vec![1; len]), Err(Fault::OutOfRange), "{va}");
        }
        assert_eq!(memory.fetch_add(START + 8, 1), Err(Fault::NotPermitted(Access::REMOTE_ATOMIC)));
        let mut bytes = [9; 64];
        region.read(START, &mut bytes).unwrap();
        assert_eq!((&bytes[..8], &bytes[8..24], &bytes[24..]), (&[0; 8][..], &[7; 16][..], &[0; 40][..]));
    }
}

#[test]
fn a_zero_based_window_counts_from_its_first_byte() {
    let (table, queue_pair) = (table(), QueuePairId::new());
    let region = region(&table, ALL);
    let zero_based = range(&region, START + 8, 16, Access::REMOTE_WRITE | Access::ZERO_BASED);
    let window = table.window(WindowType::Two).unwrap();
    let rkey = bind(&table, &window, Some(zero_based.clone()), queue_pair).unwrap();
    let memory = table.by_rkey(rkey).unwrap();
    assert_eq!(memory.write(15, &[7]), Ok(()));
    assert_eq!(memory.write(16, &[7]), Err(Fault::OutOfRange));
    assert_eq!(memory.write(START + 8, &[7]), Err(Fault::OutOfRange));
    let mut byte = [0];
    region.read(START + 23, &mut byte).unwrap();
    assert_eq!(byte, [7]);

    let window = table.window(WindowType::One).unwrap();
    assert_eq!(bind(&table, &window, Some(zero_based), queue_pair), Err(BindError::ZeroBased));
}

#[test]
fn a_bind_needs_a_region_that_allows_it_and_reaches_as_far() {
    for kind in BOTH {
        let (table, queue_pair) = (table(), QueuePairId::new());
        let window = table.window(kind).unwrap();
        let refused = |range| bind(&table, &window, Some(range), queue_pair).unwrap_err();

        let fixed = region(&table, Access::LOCAL_WRITE);
        let without = BindError::NotPermitted(Access::MW_BIND);
        assert_eq!(refused(range(&fixed, START, 1, Access::REMOTE_READ)), without);

        let unchanged = region(&table, Access::MW_BIND);
        for changing in [Access::REMOTE_WRITE, Access::REMOTE_ATOMIC, Access::REMOTE] {
            let without = BindError::NotPermitted(Access::LOCAL_WRITE);
            assert_eq!(refused(range(&unchanged, START, 1, changing)), without);
        }
        for (va, len) in
            [(START - 1, 1), (START, 65), (START + 64, 1), (START + 60, 5), (u64::MAX, 2), (START, u64::MAX)]
        {
            assert_eq!(refused(range(&unchanged, va, len, Access::REMOTE_READ)), BindError::OutOfRange);
        }
        assert!(!window.is_bound());
        let whole = range(&unchanged, START, LEN, Access::REMOTE_READ);
        bind(&table, &window, Some(whole), queue_pair).unwrap();
        assert!(window.is_bound());
    }
}

#[test]
fn window_region_and_queue_pair_are_of_one_protection_domain() {
    let (mine, other) = (table(), table());
    let window = mine.window(WindowType::Two).unwrap();
    let theirs = region(&other, ALL);
    let queue_pair = QueuePairId::new();
    let foreign = range(&theirs, START, 1, Access::REMOTE_READ);
    assert_eq!(bind(&mine, &window, Some(foreign.clone()), queue_pair), Err(BindError::Region));
    assert_eq!(bind(&other, &window, Some(foreign), queue_pair), Err(BindError::Window));

    let gone = region(&mine, ALL);
    mine.deregister(&gone).unwrap();
    let range = range(&gone, START, 1, Access::REMOTE_READ);
    assert_eq!(bind(&mine, &window, Some(range), queue_pair), Err(BindError::Region));
    assert!(!window.is_bound());
}

#[test]
fn each_bind_of_a_type_1_window_takes_the_old_key_back_and_draws_a_new_one() {
    let (table, queue_pair) = (table(), QueuePairId::new());
    let region = region(&table, ALL);
    let window = table.window(WindowType::One).unwrap();
    let mut before: Option<(u32, crate::memory::RemoteMemory)> = None;
    for va in START..START + 10 {
        let part = range(&region, va, 1, Access::REMOTE_WRITE);
        let rkey = bind(&table, &window, Some(part), queue_pair).unwrap();
        let memory = table.by_rkey(rkey).unwrap();
        assert_eq!(memory.write(va, &[1]), Ok(()));
        if let Some((old_key, old)) = before.replace((rkey, memory)) {
            assert_ne!(old_key >> 8, rkey >> 8, "who knew the old key can't guess the new one");
            assert_eq!(table.by_rkey(old_key).unwrap_err(), Fault::UnknownKey);
            assert_eq!(old.write(va - 1, &[1]), Err(Fault::Revoked));
        }
    }
    // Bound to nothing: without a range, or with one of no bytes.
    for nothing in [None, Some(range(&region, START, 0, Access::REMOTE_WRITE))] {
        let (old_key, old) = before.take().unwrap();
        let rkey = bind(&table, &window, nothing, queue_pair).unwrap();
        assert!(!window.is_bound());
        assert_eq!(table.by_rkey(old_key).unwrap_err(), Fault::UnknownKey);
        assert_eq!(table.by_rkey(rkey).unwrap_err(), Fault::UnknownKey);
        assert!(old.write(START + 9, &[1]).is_err());
        let rkey =
            bind(&table, &window, Some(range(&region, START, 1, Access::REMOTE_WRITE)), queue_pair).unwrap();
        before = Some((rkey, table.by_rkey(rkey).unwrap()));
    }
    assert_eq!(table.invalidate(window.rkey(), Invalidation::Local), Err(Fault::NotInvalidatable));
    assert_eq!(table.invalidate(window.rkey(), Invalidation::Peer(queue_pair)), Err(Fault::NotInvalidatable));
    assert!(window.is_bound());
}

#[test]
fn a_type_2_windows_owner_chooses_the_last_byte_of_its_key_and_never_the_one_it_had() {
    let (table, queue_pair) = (table(), QueuePairId::new());
    let region = region(&table, ALL);
    let window = table.window(WindowType::Two).unwrap();
    let part = || Some(range(&region, START, 1, Access::REMOTE_READ));
    let first = window.rkey();
    let [.., variant] = first.to_be_bytes();
    for chosen in [variant ^ 0xff, variant, variant.wrapping_add(7)] {
        let bind = Bind::new(&window, Some(chosen), part()).unwrap();
        assert_eq!(bind.rkey(), first & !0xff | u32::from(chosen));
        table.bind(&bind, queue_pair).unwrap();
        assert_eq!(window.rkey(), bind.rkey());
        assert_eq!(table.invalidate(bind.rkey(), Invalidation::Local), Ok(()));
        assert_eq!(table.bind(&bind, queue_pair), Err(BindError::SameKey));
        assert!(!window.is_bound());
    }
    let [.., last] = window.rkey().to_be_bytes();
    let next = Bind::new(&window, None, part()).unwrap();
    assert_eq!(next.rkey(), first & !0xff | u32::from(last.wrapping_add(1)), "as ibv_inc_rkey has it");
}

#[test]
fn a_type_1_windows_key_is_not_its_owners_to_choose_and_a_bind_is_executed_once() {
    let (table, queue_pair) = (table(), QueuePairId::new());
    let region = region(&table, ALL);
    let window = table.window(WindowType::One).unwrap();
    let part = range(&region, START, 1, Access::REMOTE_READ);
    let before = window.rkey();
    let bind = Bind::new(&window, Some(5), Some(part)).unwrap();
    assert_eq!(window.rkey(), before, "not before it is executed");
    table.bind(&bind, queue_pair).unwrap();
    assert_eq!(window.rkey(), bind.rkey());
    assert_ne!(bind.rkey() >> 8, before >> 8);
    assert_eq!(table.bind(&bind, queue_pair), Err(BindError::Executed));
    assert!(table.by_rkey(bind.rkey()).is_ok(), "it is still bound");
}

#[test]
fn a_type_2_window_is_bound_while_it_is_free_and_never_to_nothing() {
    let (table, queue_pair) = (table(), QueuePairId::new());
    let region = region(&table, ALL);
    let window = table.window(WindowType::Two).unwrap();
    let part = |len| Some(range(&region, START, len, Access::REMOTE_READ));
    assert_eq!(bind(&table, &window, None, queue_pair), Err(BindError::Empty));
    assert_eq!(bind(&table, &window, part(0), queue_pair), Err(BindError::Empty));
    let rkey = bind(&table, &window, part(1), queue_pair).unwrap();
    assert_eq!(bind(&table, &window, part(2), queue_pair), Err(BindError::Bound));
    assert_eq!(window.rkey(), rkey);
    table.invalidate(rkey, Invalidation::Local).unwrap();
    bind(&table, &window, part(2), queue_pair).unwrap();
}

#[test]
fn both_sides_may_take_a_type_2_window_back_but_no_peer_of_another_queue_pair() {
    let (table, queue_pair) = (table(), QueuePairId::new());
    let region = region(&table, ALL);
    let window = table.window(WindowType::Two).unwrap();
    for by in [Invalidation::Local, Invalidation::Peer(queue_pair)] {
        let part = range(&region, START, 1, Access::REMOTE_WRITE);
        let rkey = bind(&table, &window, Some(part), queue_pair).unwrap();
        let memory = table.by_rkey(rkey).unwrap();
        let stranger = Invalidation::Peer(QueuePairId::new());
        assert_eq!(table.invalidate(rkey, stranger), Err(Fault::OtherQueuePair));
        assert_eq!(table.invalidate(rkey ^ 1, by), Err(Fault::UnknownKey));
        assert_eq!(memory.write(START, &[1]), Ok(()));

        assert_eq!(table.invalidate(rkey, by), Ok(()));
        assert!(!window.is_bound());
        assert_eq!(memory.write(START, &[2]), Err(Fault::Revoked), "in the middle of a message");
        assert_eq!(table.by_rkey(rkey).unwrap_err(), Fault::UnknownKey);
        assert_eq!(table.invalidate(rkey, by), Err(Fault::UnknownKey), "once is enough");
    }
}

#[test]
fn a_region_is_busy_while_windows_are_bound_to_it() {
    let (table, queue_pair) = (table(), QueuePairId::new());
    let region = region(&table, ALL);
    let windows = BOTH.map(|kind| table.window(kind).unwrap());
    for window in &windows {
        let part = range(&region, START, 1, Access::REMOTE_WRITE);
        bind(&table, window, Some(part.clone()), queue_pair).unwrap();
        if window.kind() == WindowType::One {
            bind(&table, window, Some(part), queue_pair).unwrap();
        }
    }
    let busy = Err(DeregisterError::WindowsBound);
    assert_eq!(table.deregister(&region), busy);
    assert!(!region.is_revoked() && table.by_rkey(region.rkey()).is_ok());
    bind(&table, &windows[0], None, queue_pair).unwrap();
    assert_eq!(table.deregister(&region), busy);
    table.deallocate(&windows[1]);
    assert_eq!(table.deregister(&region), Ok(()));
}

#[test]
fn a_deallocated_window_gives_nothing_and_cannot_be_bound() {
    for kind in BOTH {
        let (table, queue_pair) = (table(), QueuePairId::new());
        let region = region(&table, ALL);
        let window = table.window(kind).unwrap();
        let part = range(&region, START, 1, Access::REMOTE_WRITE);
        let rkey = bind(&table, &window, Some(part.clone()), queue_pair).unwrap();
        let memory = table.by_rkey(rkey).unwrap();
        // A request that was posted before.
        let posted = Bind::new(&window, None, Some(part)).unwrap();
        table.deallocate(&window);
        assert_eq!(memory.write(START, &[1]), Err(Fault::Revoked));
        assert_eq!(table.by_rkey(rkey).unwrap_err(), Fault::UnknownKey);
        assert_eq!(table.bind(&posted, queue_pair), Err(BindError::Window));
        table.deallocate(&window);
    }
}

#[test]
fn windows_and_their_keys_are_free_again_when_nobody_holds_them() {
    let table = table();
    let windows = BOTH.map(|kind| table.window(kind).unwrap());
    assert!(table.window(WindowType::Two).is_err(), "the device has two");
    for window in windows {
        table.deallocate(&window);
    }
    let _two = BOTH.map(|kind| table.window(kind).unwrap());
}

/// As for regions: what follows `invalidate` may read the memory, or give it to somebody else.
#[test]
fn nothing_is_written_by_a_window_any_more_once_it_has_been_taken_back() {
    let (rounds, len) = if cfg!(miri) { (3, 64) } else { (50, 1 << 20) };
    let queue_pair = QueuePairId::new();
    for round in 0..rounds {
        let table = table();
        let backing = Backing::Own(Arc::new(Mapping::new(len).unwrap()));
        let region = table.register(Registration { backing, base: Base::At(0), access: ALL }).unwrap();
        let window = table.window(BOTH[round % 2]).unwrap();
        let part = || range(&region, 0, len as u64, Access::REMOTE_WRITE);
        let rkey = bind(&table, &window, Some(part()), queue_pair).unwrap();
        let memory = table.by_rkey(rkey).unwrap();
        let started = Barrier::new(2);
        thread::scope(|scope| {
            scope.spawn(|| {
                let ones = vec![1; len];
                started.wait();
                while memory.write(0, &ones).is_ok() {}
            });
            started.wait();
            thread::yield_now();
            match (window.kind(), round % 4 < 2) {
                (_, true) => table.deallocate(&window),
                (WindowType::One, false) => drop(bind(&table, &window, None, queue_pair).unwrap()),
                (WindowType::Two, false) => table.invalidate(rkey, Invalidation::Local).unwrap(),
            }
            region.write(0, &vec![2; len]).unwrap();
        });
        let mut bytes = vec![0; len];
        region.read(0, &mut bytes).unwrap();
        assert!(bytes.iter().all(|&byte| byte == 2));
    }
}

#[test]
fn debug_output_shows_no_key_and_no_address() {
    let (table, queue_pair) = (table(), QueuePairId::new());
    let region = region(&table, ALL);
    let window = table.window(WindowType::Two).unwrap();
    let bind = Bind::new(&window, None, Some(range(&region, START, 1, Access::REMOTE_READ))).unwrap();
    table.bind(&bind, queue_pair).unwrap();
    let text = format!("{window:?} {bind:?} {:?}", table.by_rkey(window.rkey()).unwrap());
    for secret in [u64::from(window.rkey()), u64::from(window.rkey() >> 8), START] {
        assert!(!text.contains(&secret.to_string()) && !text.contains(&format!("{secret:x}")), "{text}");
    }
    assert!(text.contains("bound: true"), "{text}");
}
