//! Registered memory: what the peers of two queue pairs ask for by keys and addresses, right and wrong ones.

use crate::input::Input;
use rocev2_device::memory::{
    Access, Backing, Base, Bind, Invalidation, KeyLimits, KeySpace, KeyTable, Mapping, QueuePairId, Region,
    Registration, RemoteMemory, WindowRange, WindowType,
};
use std::io;
use std::sync::Arc;

/// Bytes of each region.
const SIZE: usize = 256;

/// What a key gives, and to whom.
struct Given {
    key: u32,
    base: u64,
    /// Of the region that has it.
    bytes: std::ops::Range<usize>,
    region: usize,
    rights: Access,
    /// Of a type 2 window.
    queue_pair: Option<usize>,
}

/// A region and what its bytes should be.
struct Known {
    region: Arc<Region>,
    mapping: Arc<Mapping>,
    bytes: [u8; SIZE],
}

fn register(keys: &KeyTable, base: Base, access: Access) -> Known {
    let mapping = Arc::new(Mapping::new(SIZE).expect("memory"));
    let backing = Backing::Own(Arc::clone(&mapping));
    let region = keys.register(Registration { backing, base, access }).expect("a region");
    Known { region, mapping, bytes: [0; SIZE] }
}

pub(super) fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let random =
        |bytes: &mut [u8]| aws_lc_rs::rand::fill(bytes).map_err(|_| io::Error::other("no randomness"));
    let space = Arc::new(KeySpace::new(KeyLimits { regions: 3, windows: 2 }, random));
    let (keys, others) = (KeyTable::new(Arc::clone(&space)), KeyTable::new(space));
    let queue_pairs = [QueuePairId::new(), QueuePairId::new()];
    let open = Access::LOCAL_WRITE | Access::REMOTE | Access::MW_BIND;
    let mut regions = [
        register(&keys, Base::At(0x1000), open),
        register(&keys, Base::At(u64::MAX - SIZE as u64), Access::REMOTE_READ),
        register(&others, Base::At(0x1000), open),
    ];
    let whole = |at: usize| {
        let region = &regions[at].region;
        let (key, base, rights) = (region.rkey(), region.addr(), region.access() & Access::REMOTE);
        Given { key, base, bytes: 0..SIZE, region: at, rights, queue_pair: None }
    };
    // The other domain's region is given to nobody here.
    let mut given = vec![whole(0), whole(1)];
    // As their owner holds them.
    let mut windows = Vec::new();
    for (kind, bytes, rights) in [
        (WindowType::One, 64..128, Access::REMOTE_WRITE),
        (WindowType::Two, 100..200, Access::REMOTE_READ | Access::REMOTE_ATOMIC | Access::ZERO_BASED),
    ] {
        let region = Arc::clone(&regions[0].region);
        let (va, len) = (region.addr() + bytes.start as u64, bytes.len() as u64);
        let window = keys.window(kind).expect("a window");
        let bind =
            Bind::new(&window, None, Some(WindowRange { region, va, len, access: rights })).expect("a key");
        keys.bind(&bind, queue_pairs[0]).expect("it fits");
        let base = if rights.contains(Access::ZERO_BASED) { 0 } else { va };
        let queue_pair = (kind == WindowType::Two).then_some(0);
        let rights = rights & Access::REMOTE;
        windows.push(window);
        given.push(Given { key: bind.rkey(), base, bytes, region: 0, rights, queue_pair });
    }
    let known: Vec<u32> = given
        .iter()
        .map(|given| given.key)
        .chain(regions.iter().flat_map(|known| [known.region.lkey(), known.region.rkey()]))
        .collect();

    // Grants are kept, as a message keeps its own, and used when what they came from may be gone.
    let mut granted: Vec<(RemoteMemory, u32)> = Vec::new();
    while !input.is_empty() {
        let queue_pair = usize::from(input.flag());
        let key =
            if input.u8() < 16 { input.u32() } else { input.pick(&known) ^ u32::from(input.u8() / 250) };
        let own = given.iter().position(|given| given.key == key);
        if input.u8() > 240 {
            let invalid = keys.invalidate(key, Invalidation::Peer(queue_pairs[queue_pair])).is_ok();
            let expected = own.filter(|&at| given[at].queue_pair == Some(queue_pair));
            assert_eq!(invalid, expected.is_some(), "a peer takes back what is its own alone");
            expected.map(|at| given.remove(at));
            continue;
        }
        let found = keys.by_rkey(key);
        assert_eq!(found.is_ok(), own.is_some());
        granted.extend(found.ok().map(|memory| (memory, key)));
        let Some((memory, key)) = granted.get(usize::from(input.u8()) % granted.len().max(1)) else {
            continue;
        };
        if let Some(from) = access(memory, *key, queue_pair, &queue_pairs, &given, &mut input) {
            let (region, at, written) = from;
            regions[region].bytes[at..at + written.len()].copy_from_slice(&written);
        }
        for known in &regions {
            let mut bytes = [0; SIZE];
            known.mapping.read(0, &mut bytes).expect("all of it");
            assert!(bytes == known.bytes, "a byte changed that nobody was to write, or didn't change");
        }
    }
}

/// Tries an access under a key that was granted; what must have been written, and where, if anything.
fn access(
    memory: &RemoteMemory,
    key: u32,
    queue_pair: usize,
    queue_pairs: &[QueuePairId; 2],
    given: &[Given],
    input: &mut Input<'_>,
) -> Option<(usize, usize, Vec<u8>)> {
    let given = given.iter().find(|given| given.key == key);
    let near = given.map_or(0, |given| given.base).wrapping_add_signed(i64::from(input.u8().cast_signed()));
    let va = if input.u8() < 16 { input.u64() } else { near };
    let kind = input.pick(&[Access::REMOTE_READ, Access::REMOTE_WRITE, Access::REMOTE_ATOMIC]);
    let len = if kind == Access::REMOTE_ATOMIC { 8 } else { usize::from(input.u8()) };
    // Where it is in the region, if it may be done.
    let allowed = given.filter(|given| given.rights.contains(kind)).and_then(|given| {
        let at = usize::try_from(va.checked_sub(given.base)?).ok()?;
        (at <= given.bytes.len() && len <= given.bytes.len() - at).then(|| (given, given.bytes.start + at))
    });
    let mine = |(given, _): &(&Given, usize)| given.queue_pair.is_none_or(|own| own == queue_pair);
    let checked = memory.check(queue_pairs[queue_pair], va, len as u64, kind).is_ok();
    assert_eq!(checked, allowed.as_ref().is_some_and(mine));
    // Lengths that a RETH may have, and no memory.
    let huge = u64::from(input.u32()) + SIZE as u64 + 1;
    assert!(memory.check(queue_pairs[queue_pair], va, huge, kind).is_err());
    let mut written = input.bytes(len).to_vec();
    written.resize(len, 0x5a);
    let done = match kind {
        Access::REMOTE_READ => {
            let done = memory.read(va, &mut written).is_ok();
            assert_eq!(done, allowed.is_some());
            return None;
        }
        Access::REMOTE_WRITE => memory.write(va, &written).is_ok(),
        _ => {
            let aligned = allowed.is_some_and(|(_, at)| va.is_multiple_of(8) && at % 8 == 0);
            let word = u64::from_ne_bytes(*written.first_chunk()?);
            let found = memory.compare_swap(va, memory.fetch_add(va, 0).unwrap_or(0), word);
            assert_eq!(found.is_ok(), aligned);
            found.is_ok()
        }
    };
    assert!(!done || allowed.is_some());
    allowed.filter(|_| done).map(|(given, at)| (given.region, at, written))
}
