use super::*;
use crate::memory::{
    Backing, Base, KeyLimits, KeySpace, Mapping, Registration, Window, WindowRange, WindowType,
};
use smallvec::smallvec;

const BASE: u64 = 0x1000;

/// A domain with a region of 64 bytes that begin at [`BASE`], and a window to all of it.
struct Stage {
    keys: Arc<KeyTable>,
    memory: DomainMemory,
    region: Arc<Region>,
    window: Arc<Window>,
}

impl Stage {
    fn new(access: Access, kind: WindowType) -> Self {
        let keys =
            Arc::new(KeyTable::new(Arc::new(KeySpace::new(KeyLimits { regions: 2, windows: 1 }, |bytes| {
                Ok(getrandom::fill(bytes)?)
            }))));
        let region = region(&keys, access | Access::MW_BIND);
        let (memory, window) = (DomainMemory::new(Arc::clone(&keys)), keys.window(kind).unwrap());
        Self { keys, memory, region, window }
    }

    fn bind(&self) -> Bind {
        let access = Access::REMOTE_READ | Access::REMOTE_WRITE;
        let range = WindowRange { region: Arc::clone(&self.region), va: BASE, len: 64, access };
        Bind::new(&self.window, None, Some(range)).unwrap()
    }
}

fn region(keys: &KeyTable, access: Access) -> Arc<Region> {
    let backing = Backing::Own(Arc::new(Mapping::new(64).unwrap()));
    keys.register(Registration { backing, base: Base::At(BASE), access }).unwrap()
}

#[test]
fn a_list_is_gathered_and_scattered_from_any_offset_across_its_elements() {
    let stage = Stage::new(Access::LOCAL_WRITE, WindowType::Two);
    let other = region(&stage.keys, Access::LOCAL_WRITE);
    let element = |region: &Arc<Region>, offset, len| Element::new(Arc::clone(region), BASE + offset, len);
    // 3 bytes, none, 5 bytes, 2 bytes.
    let list = Buffers::List(smallvec![
        element(&stage.region, 10, 3),
        element(&other, 64, 0),
        element(&other, 0, 5),
        element(&stage.region, 0, 2),
    ]);
    assert_eq!((list.len(), list.is_empty()), (10, false));
    let all = *b"0123456789";
    for offset in 0..=10 {
        for len in 0..=10 - offset {
            stage.memory.scatter(&list, 0, &[b'_'; 10]).unwrap();
            stage.memory.scatter(&list, u32::try_from(offset).unwrap(), &all[offset..offset + len]).unwrap();
            let mut expected = [b'_'; 10];
            expected[offset..offset + len].copy_from_slice(&all[offset..offset + len]);
            let mut whole = [0; 10];
            stage.memory.gather(&list, 0, &mut whole).unwrap();
            assert_eq!(whole, expected);
            let mut part = vec![0; len];
            stage.memory.gather(&list, u32::try_from(offset).unwrap(), &mut part).unwrap();
            assert_eq!(part, all[offset..offset + len]);
        }
    }
    for (offset, len) in [(0, 11), (5, 6), (10, 1), (11, 1), (u32::MAX, 1)] {
        assert_eq!(stage.memory.gather(&list, offset, &mut vec![0; len]), Err(LocalFault), "{offset}, {len}");
        assert_eq!(stage.memory.scatter(&list, offset, &vec![b'_'; len]), Err(LocalFault), "{offset}, {len}");
    }
    let mut first = [0; 3];
    stage.region.read(BASE + 10, &mut first).unwrap();
    assert_eq!(&first, b"___");
}

#[test]
fn inline_bytes_are_gathered_and_nothing_is_scattered_to_them() {
    let stage = Stage::new(Access::LOCAL_WRITE, WindowType::Two);
    let inline = Buffers::Inline(SmallVec::from_slice(b"inline"));
    assert_eq!(inline.len(), 6);
    let mut out = [0; 4];
    stage.memory.gather(&inline, 2, &mut out).unwrap();
    assert_eq!(&out, b"line");
    for (offset, len) in [(0, 7), (6, 1), (u32::MAX, 2)] {
        assert_eq!(stage.memory.gather(&inline, offset, &mut vec![0; len]), Err(LocalFault));
    }
    assert_eq!(stage.memory.scatter(&inline, 0, b"x"), Err(LocalFault));
    assert!(Buffers::empty().is_empty());
}

#[test]
fn a_local_key_names_its_region_and_another_nothing() {
    let stage = Stage::new(Access::LOCAL_WRITE, WindowType::Two);
    let list = |lkey| Buffers::List(smallvec![Element::by_lkey(&stage.keys, lkey, BASE + 1, 4)]);
    let known = list(stage.region.lkey());
    stage.memory.scatter(&known, 0, b"here").unwrap();
    let mut out = [0; 4];
    stage.region.read(BASE + 1, &mut out).unwrap();
    assert_eq!(&out, b"here");
    for unknown in [stage.region.lkey() ^ 1, stage.region.rkey(), 0] {
        let unknown = list(unknown);
        assert_eq!(unknown.len(), 4, "it counts all the same");
        assert_eq!(stage.memory.gather(&unknown, 0, &mut out), Err(LocalFault));
        assert_eq!(stage.memory.scatter(&unknown, 0, b"gone"), Err(LocalFault));
    }
    stage.keys.deregister(&stage.region).unwrap();
    assert_eq!(stage.memory.gather(&known, 0, &mut out), Err(LocalFault));
}

#[test]
fn each_right_is_granted_by_its_own_flag() {
    for (right, flag) in [
        (RemoteRight::Read, Access::REMOTE_READ),
        (RemoteRight::Write, Access::REMOTE_WRITE),
        (RemoteRight::Atomic, Access::REMOTE_ATOMIC),
    ] {
        let given = Stage::new(Access::LOCAL_WRITE | flag, WindowType::Two);
        let refused = Stage::new(Access::LOCAL_WRITE | Access::REMOTE & !flag, WindowType::Two);
        assert!(given.memory.grant(given.region.rkey(), BASE, 64, right).is_ok());
        assert!(given.memory.grant(given.region.rkey(), BASE, 65, right).is_err());
        assert!(given.memory.grant(given.region.lkey(), BASE, 64, right).is_err());
        assert!(refused.memory.grant(refused.region.rkey(), BASE, 64, right).is_err());
    }
}

#[test]
fn what_is_granted_is_accessed_at_its_offset_until_it_is_taken_back() {
    let stage = Stage::new(Access::LOCAL_WRITE | Access::REMOTE, WindowType::Two);
    let grant = |right| stage.memory.grant(stage.region.rkey(), BASE + 8, 8, right).unwrap();
    let (write, read, atomic) =
        (grant(RemoteRight::Write), grant(RemoteRight::Read), grant(RemoteRight::Atomic));
    stage.memory.write(&write, 2, b"two").unwrap();
    let mut out = [0; 6];
    stage.memory.read(&read, 1, &mut out).unwrap();
    assert_eq!(&out, b"\0two\0\0");
    stage.region.write(BASE + 8, &5_u64.to_ne_bytes()).unwrap();
    let add = AtomicOperation::FetchAdd { add: 2 };
    let swap = AtomicOperation::CompareSwap { compare: 7, swap: 9 };
    assert_eq!(stage.memory.atomic(&atomic, add), Ok(5));
    assert_eq!(stage.memory.atomic(&atomic, swap), Ok(7));
    assert_eq!(stage.memory.atomic(&atomic, add), Ok(9));

    stage.keys.deregister(&stage.region).unwrap();
    assert_eq!(stage.memory.write(&write, 0, b"x"), Err(RemoteFault));
    assert_eq!(stage.memory.read(&read, 0, &mut out), Err(RemoteFault));
    assert_eq!(stage.memory.atomic(&atomic, add), Err(RemoteFault));
}

#[test]
fn a_window_that_a_request_binds_is_taken_back_by_either_side_in_the_middle_of_a_message() {
    let stage = Stage::new(Access::LOCAL_WRITE, WindowType::Two);
    let other_queue_pair = DomainMemory::new(Arc::clone(&stage.keys));
    type TakeBack = fn(&DomainMemory, u32) -> bool;
    let by_peer: TakeBack = |memory, rkey| memory.invalidate(rkey).is_ok();
    let by_this_side: TakeBack = |memory, rkey| memory.invalidate_own(rkey).is_ok();
    for take_back in [by_peer, by_this_side] {
        let bind = stage.bind();
        let rkey = bind.rkey();
        let bind = Buffers::Bind(Box::new(bind));
        assert!(stage.memory.grant(rkey, BASE, 64, RemoteRight::Write).is_err(), "not yet");
        stage.memory.bind(&bind).unwrap();
        let grant = stage.memory.grant(rkey, BASE, 64, RemoteRight::Write).unwrap();
        stage.memory.write(&grant, 0, b"first").unwrap();
        assert!(other_queue_pair.grant(rkey, BASE, 64, RemoteRight::Write).is_err());
        assert_eq!(other_queue_pair.invalidate(rkey), Err(RemoteFault));

        assert!(take_back(&stage.memory, rkey));
        assert_eq!(stage.memory.write(&grant, 5, b"second"), Err(RemoteFault));
        assert!(!take_back(&stage.memory, rkey), "once is enough");
        assert_eq!(stage.memory.bind(&bind), Err(LocalFault), "the old key doesn't come back");
    }
}

#[test]
fn a_bind_has_no_bytes_and_bytes_are_no_bind() {
    let stage = Stage::new(Access::LOCAL_WRITE, WindowType::One);
    assert_eq!(stage.memory.bind(&Buffers::empty()), Err(LocalFault));
    assert_eq!(stage.memory.bind(&Buffers::Inline(SmallVec::new())), Err(LocalFault));
    let bind = Buffers::Bind(Box::new(stage.bind()));
    assert!(bind.is_empty());
    assert_eq!(stage.memory.gather(&bind, 0, &mut [0]), Err(LocalFault));
    assert_eq!(stage.memory.scatter(&bind, 0, &[0]), Err(LocalFault));
    stage.memory.bind(&bind).unwrap();
    assert_eq!(stage.memory.invalidate_own(stage.window.rkey()), Err(LocalFault), "it is of type 1");
}
