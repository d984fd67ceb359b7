use std::thread;

use super::super::{Backing, Base, Bind, KeyLimits, KeySpace, KeyTable, Mapping, Registration};
use super::super::{Window, WindowRange, WindowType};
use super::*;

const LEN: usize = 64;

/// A region, and what its own key and the keys of windows to all of it, one of each type, give a peer.
struct Stage {
    table: KeyTable,
    queue_pair: QueuePairId,
    region: Arc<Region>,
    windows: [Arc<Window>; 2],
}

impl Stage {
    /// With that base and those rights of each key.
    fn new(base: Base, access: Access) -> Self {
        let table = KeyTable::new(Arc::new(KeySpace::new(KeyLimits { regions: 1, windows: 2 }, |bytes| {
            Ok(getrandom::fill(bytes)?)
        })));
        let backing = Backing::Own(Arc::new(Mapping::new(LEN).unwrap()));
        let access = access | Access::MW_BIND | Access::LOCAL_WRITE;
        let region = table.register(Registration { backing, base, access }).unwrap();
        let queue_pair = QueuePairId::new();
        let windows = [WindowType::One, WindowType::Two].map(|kind| {
            let window = table.window(kind).unwrap();
            let (va, len) = (region.addr(), LEN as u64);
            let range = WindowRange { region: Arc::clone(&region), va, len, access };
            table.bind(&Bind::new(&window, None, Some(range)).unwrap(), queue_pair).unwrap();
            window
        });
        Self { table, queue_pair, region, windows }
    }

    fn memories(&self) -> [RemoteMemory; 3] {
        [self.region.rkey(), self.windows[0].rkey(), self.windows[1].rkey()]
            .map(|rkey| self.table.by_rkey(rkey).unwrap())
    }

    fn contents(&self) -> Vec<u8> {
        let mut bytes = vec![0; LEN];
        self.region.read(self.region.addr(), &mut bytes).unwrap();
        bytes
    }
}

#[test]
fn a_peer_accesses_what_is_inside_and_nothing_outside() {
    for base in [Base::Address, Base::At(0), Base::At(u64::MAX - LEN as u64), Base::Random] {
        let stage = Stage::new(base, Access::REMOTE);
        let (start, len) = (stage.region.addr(), LEN as u64);
        for memory in stage.memories() {
            for (va, count) in [
                (start.wrapping_sub(1), 1),
                (start, len + 1),
                (start + 63, 2),
                (start + 64, 1),
                (u64::MAX, 2),
            ] {
                let refused = Err(Fault::OutOfRange);
                assert_eq!(memory.check(stage.queue_pair, va, count, Access::REMOTE_WRITE), refused);
                let count = usize::try_from(count).unwrap();
                assert_eq!(memory.write(va, &vec![1; count]), refused);
                let mut out = vec![2; count];
                assert_eq!(memory.read(va, &mut out), refused);
                assert_eq!(out, vec![2; count]);
            }
            assert_eq!(
                memory.check(stage.queue_pair, start, u64::MAX, Access::REMOTE_READ),
                Err(Fault::OutOfRange)
            );
            assert_eq!(stage.contents(), [0; LEN]);

            assert_eq!(memory.check(stage.queue_pair, start, len, Access::REMOTE_WRITE), Ok(()));
            assert_eq!(memory.write(start + 1, b"inside"), Ok(()));
            let mut out = [0; 8];
            assert_eq!(memory.read(start, &mut out), Ok(()));
            assert_eq!(&out, b"\0inside\0");
            assert_eq!(memory.write(start, &[0; LEN]), Ok(()));
        }
    }
}

#[test]
fn each_kind_of_access_needs_its_right() {
    let kinds = [Access::REMOTE_READ, Access::REMOTE_WRITE, Access::REMOTE_ATOMIC];
    for bits in 0..8_u32 {
        let given: Access = kinds
            .into_iter()
            .enumerate()
            .filter(|(at, _)| bits >> at & 1 == 1)
            .map(|(_, kind)| kind)
            .collect();
        let stage = Stage::new(Base::At(0x1000), given);
        for memory in stage.memories() {
            for (kind, tried) in kinds.into_iter().zip([
                memory.read(0x1000, &mut [0; 8]),
                memory.write(0x1000, &[1; 8]),
                memory.fetch_add(0x1000, 1).and(memory.compare_swap(0x1000, 0, 1)).map(|_| ()),
            ]) {
                let expected = if given.contains(kind) { Ok(()) } else { Err(Fault::NotPermitted(kind)) };
                assert_eq!(tried, expected, "{kind:?} where {given:?} is given");
                assert_eq!(memory.check(stage.queue_pair, 0x1000, 8, kind), expected);
            }
        }
    }
}

#[test]
fn atomics_give_the_old_value_and_work_on_the_hosts_numbers() {
    let stage = Stage::new(Base::Random, Access::REMOTE);
    let va = stage.region.addr() + 16;
    for memory in stage.memories() {
        stage.region.write(va, &[0; 8]).unwrap();
        assert_eq!(memory.fetch_add(va, u64::MAX), Ok(0));
        assert_eq!(memory.fetch_add(va, 3), Ok(u64::MAX), "adding goes around 2^64");
        assert_eq!(memory.compare_swap(va, 1, 77), Ok(2), "a value that differs stays");
        assert_eq!(memory.compare_swap(va, 2, 77), Ok(2));
        let mut bytes = [0; 8];
        stage.region.read(va, &mut bytes).unwrap();
        assert_eq!(u64::from_ne_bytes(bytes), 77);
    }
}

#[test]
fn an_atomic_at_an_address_that_is_no_multiple_of_eight_is_refused_and_changes_nothing() {
    let real = Stage::new(Base::Random, Access::REMOTE);
    // The address that the peer names is aligned, the memory isn't, and the other way round.
    let shifted = Stage::new(Base::At(4), Access::REMOTE);
    for memory in real.memories() {
        for off in 1..8 {
            assert_eq!(memory.fetch_add(real.region.addr() + off, 1), Err(Fault::Misaligned));
        }
        assert_eq!(memory.fetch_add(real.region.addr() + 60, 1), Err(Fault::OutOfRange));
    }
    for memory in shifted.memories() {
        assert_eq!(memory.compare_swap(8, 0, 1), Err(Fault::Misaligned));
        assert_eq!(memory.compare_swap(4, 0, 1), Err(Fault::Misaligned));
        assert_eq!(memory.fetch_add(12, 1), Err(Fault::Misaligned));
    }
    assert_eq!(real.contents(), [0; LEN]);
    assert_eq!(shifted.contents(), [0; LEN]);
}

#[test]
fn threads_adding_at_once_lose_nothing() {
    const EACH: u64 = if cfg!(miri) { 20 } else { 10_000 };
    let stage = Stage::new(Base::Random, Access::REMOTE);
    let va = stage.region.addr();
    let memories = stage.memories();
    thread::scope(|scope| {
        for memory in &memories {
            scope.spawn(|| (0..EACH).for_each(|_| assert!(memory.fetch_add(va, 1).is_ok())));
        }
    });
    assert_eq!(memories[0].fetch_add(va, 0), Ok(3 * EACH));
}

#[test]
fn a_type_2_window_is_usable_on_its_own_queue_pair_alone() {
    let stage = Stage::new(Base::Random, Access::REMOTE);
    let (va, other) = (stage.region.addr(), QueuePairId::new());
    let checks = stage.memories().map(|memory| memory.check(other, va, 1, Access::REMOTE_READ));
    assert_eq!(checks, [Ok(()), Ok(()), Err(Fault::OtherQueuePair)]);
}

#[test]
fn a_region_that_is_gone_gives_nothing_by_any_key() {
    let stage = Stage::new(Base::Random, Access::REMOTE);
    let (va, memories) = (stage.region.addr(), stage.memories());
    stage.table.revoke(&stage.region);
    for memory in memories {
        assert_eq!(memory.check(stage.queue_pair, va, 0, Access::empty()), Err(Fault::Revoked));
        assert_eq!(memory.read(va, &mut [0]), Err(Fault::Revoked));
        assert_eq!(memory.write(va, &[1]), Err(Fault::Revoked));
        assert_eq!(memory.fetch_add(va, 1), Err(Fault::Revoked));
        assert_eq!(memory.compare_swap(va, 0, 1), Err(Fault::Revoked));
    }
}
