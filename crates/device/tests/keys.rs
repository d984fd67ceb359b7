//! Keys, regions and windows of two protection domains, used in any order by both sides of two queue pairs, do what a
//! simple model says: whatever is granted is inside what is registered, bound and allowed at that moment, and no
//! byte changes that wasn't granted.
#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use proptest::prelude::*;
use rocev2_device::memory::{
    Access, Backing, Base, Bind, Invalidation, KeyLimits, KeySpace, KeyTable, Mapping, QueuePairId, Region,
    Registration, RemoteMemory, Window, WindowRange, WindowType,
};
use std::collections::HashSet;
use std::sync::Arc;

/// One step. Things are numbered from the newest on, modulo how many there are.
#[derive(Clone, Debug)]
enum Step {
    Register {
        domain: usize,
        len: usize,
        base: Base,
        access: Access,
    },
    Deregister {
        region: usize,
    },
    Revoke {
        region: usize,
    },
    Allocate {
        domain: usize,
        kind: WindowType,
    },
    Deallocate {
        window: usize,
    },
    Bind {
        domain: usize,
        queue_pair: usize,
        window: usize,
        variant: Option<u8>,
        range: Option<Range>,
    },
    Invalidate {
        domain: usize,
        key: usize,
        by_peer: Option<usize>,
    },
    /// Looks a key up, and keeps what it finds.
    Grant {
        domain: usize,
        key: usize,
    },
    Access {
        grant: usize,
        queue_pair: usize,
        offset: i64,
        len: usize,
        kind: Kind,
    },
}

/// What a window is bound to: an offset from the region's first address, which may lie outside.
#[derive(Clone, Debug)]
struct Range {
    region: usize,
    offset: i64,
    len: u64,
    access: Access,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Read,
    Write(u8),
    Add,
}

fn access() -> impl Strategy<Value = Access> {
    // Mostly with all that windows and peers need.
    prop_oneof![
        4 => Just(Access::all() & !Access::ZERO_BASED),
        2 => Just(Access::all()),
        2 => (0..64_u32).prop_map(Access::from_bits_truncate),
    ]
}

fn base() -> impl Strategy<Value = Base> {
    prop_oneof![
        Just(Base::Address),
        Just(Base::Random),
        Just(Base::At(0x1000)),
        Just(Base::At(u64::MAX - 32)),
        Just(Base::At(3)),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let number = || prop_oneof![4 => 0..3_usize, 1 => 0..100_usize];
    let domain = || prop_oneof![5 => Just(0_usize), 1 => Just(1_usize)];
    let offset = || prop_oneof![4 => (0..8_i64).prop_map(|word| 8 * word), 1 => -2..66_i64];
    let len = || prop_oneof![3 => 1..9_usize, 2 => Just(16), 1 => 0..70_usize];
    let range = (number(), offset(), len(), access()).prop_map(|(region, offset, len, access)| Range {
        region,
        offset,
        len: len as u64,
        access,
    });
    let kind = prop_oneof![Just(Kind::Read), any::<u8>().prop_map(Kind::Write), Just(Kind::Add)];
    prop_oneof![
        2 => (domain(), prop_oneof![2 => Just(64), 1 => 0..65_usize], base(), access())
            .prop_map(|(domain, len, base, access)| Step::Register { domain, len, base, access }),
        2 => number().prop_map(|region| Step::Deregister { region }),
        1 => number().prop_map(|region| Step::Revoke { region }),
        2 => (domain(), prop_oneof![Just(WindowType::One), Just(WindowType::Two)])
            .prop_map(|(domain, kind)| Step::Allocate { domain, kind }),
        1 => number().prop_map(|window| Step::Deallocate { window }),
        8 => (domain(), 0..2_usize, number(), any::<Option<u8>>(), proptest::option::weighted(0.9, range)).prop_map(
            |(domain, queue_pair, window, variant, range)| Step::Bind { domain, queue_pair, window, variant, range }
        ),
        4 => (domain(), number(), any::<Option<bool>>()).prop_map(|(domain, key, by_peer)| Step::Invalidate {
            domain,
            key,
            by_peer: by_peer.map(usize::from)
        }),
        4 => (domain(), number()).prop_map(|(domain, key)| Step::Grant { domain, key }),
        16 => (number(), 0..2_usize, offset(), len(), kind).prop_map(
            |(grant, queue_pair, offset, len, kind)| Step::Access { grant, queue_pair, offset, len, kind }
        ),
    ]
}

/// A region as the model has it.
struct ModelRegion {
    real: Arc<Region>,
    domain: usize,
    alive: bool,
    bytes: Vec<u8>,
    /// Where its memory lies, modulo 8.
    skew: u64,
}

struct ModelWindow {
    real: Arc<Window>,
    domain: usize,
    alive: bool,
    /// What it is bound to, if it is: one of `World::bindings`.
    bound: Option<usize>,
    variant: u8,
}

/// What a window was bound to once, and may still be.
#[derive(Clone)]
struct Binding {
    window: usize,
    region: usize,
    /// First byte and length in the region, and the first byte's address.
    start: usize,
    len: usize,
    base: u64,
    access: Access,
    queue_pair: Option<usize>,
}

/// What a peer has been granted.
#[derive(Clone, Copy)]
enum Granted {
    Region(usize),
    Binding(usize),
}

struct World {
    tables: [KeyTable; 2],
    /// The queue pairs of each domain.
    queue_pairs: [[QueuePairId; 2]; 2],
    regions: Vec<ModelRegion>,
    windows: Vec<ModelWindow>,
    bindings: Vec<Binding>,
    /// Keys that exist, have existed or never did.
    keys: Vec<u32>,
    grants: Vec<(RemoteMemory, usize, Granted)>,
}

impl World {
    fn new() -> Self {
        let space = Arc::new(KeySpace::new(KeyLimits { regions: 1000, windows: 1000 }, |bytes| {
            Ok(getrandom::fill(bytes)?)
        }));
        let tables = [KeyTable::new(Arc::clone(&space)), KeyTable::new(space)];
        let queue_pairs = [(); 2].map(|()| [(); 2].map(|()| QueuePairId::new()));
        let keys = vec![0, 1, u32::MAX];
        Self {
            tables,
            queue_pairs,
            keys,
            regions: Vec::new(),
            windows: Vec::new(),
            bindings: Vec::new(),
            grants: Vec::new(),
        }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Register { domain, len, base, access } => self.register(domain, len, base, access),
            Step::Deregister { region } => self.deregister(region),
            Step::Revoke { region } => self.revoke(region),
            Step::Allocate { domain, kind } => {
                let real = self.tables[domain].window(kind).unwrap();
                let [.., variant] = real.rkey().to_be_bytes();
                self.keys.push(real.rkey());
                self.windows.push(ModelWindow { real, domain, alive: true, bound: None, variant });
            }
            Step::Deallocate { window } => {
                let Some(at) = place(window, self.windows.len()) else { return };
                let window = &mut self.windows[at];
                self.tables[window.domain].deallocate(&window.real);
                (window.alive, window.bound) = (false, None);
            }
            Step::Bind { domain, queue_pair, window, variant, range } => {
                self.bind(domain, queue_pair, window, variant, range);
            }
            Step::Invalidate { domain, key, by_peer } => self.invalidate(domain, key, by_peer),
            Step::Grant { domain, key } => self.grant(domain, key),
            Step::Access { grant, queue_pair, offset, len, kind } => {
                self.access(grant, queue_pair, offset, len, kind);
            }
        }
    }

    fn register(&mut self, domain: usize, len: usize, base: Base, access: Access) {
        let mapping = Arc::new(Mapping::new(len).unwrap());
        let skew = mapping.address() % 8;
        let registered =
            self.tables[domain].register(Registration { backing: Backing::Own(mapping), base, access });
        let contradiction = access.intersects(Access::REMOTE_WRITE | Access::REMOTE_ATOMIC)
            && !access.contains(Access::LOCAL_WRITE);
        let wraps = matches!(base, Base::At(base) if base.checked_add(len as u64).is_none())
            && !access.contains(Access::ZERO_BASED);
        assert_eq!(registered.is_err(), contradiction || wraps);
        let Ok(real) = registered else { return };
        self.keys.extend([real.rkey(), real.lkey()]);
        self.regions.push(ModelRegion { real, domain, alive: true, bytes: vec![0; len], skew });
        self.grant(domain, 1);
    }

    fn has_windows(&self, region: usize) -> bool {
        self.windows
            .iter()
            .any(|window| window.bound.is_some_and(|bound| self.bindings[bound].region == region))
    }

    fn deregister(&mut self, region: usize) {
        let Some(at) = place(region, self.regions.len()) else { return };
        let busy = self.has_windows(at);
        let region = &mut self.regions[at];
        let done = self.tables[region.domain].deregister(&region.real).is_ok();
        assert_eq!(done, region.alive && !busy);
        region.alive &= !done;
    }

    fn revoke(&mut self, region: usize) {
        let Some(at) = place(region, self.regions.len()) else { return };
        let region = &mut self.regions[at];
        self.tables[region.domain].revoke(&region.real);
        region.alive = false;
        assert!(region.real.is_revoked());
    }

    fn bind(
        &mut self,
        domain: usize,
        queue_pair: usize,
        window: usize,
        variant: Option<u8>,
        range: Option<Range>,
    ) {
        let Some(at) = place(window, self.windows.len()) else { return };
        let range = range.and_then(|range| {
            place(range.region, self.regions.len()).map(|region| Range { region, ..range })
        });
        let real = range.as_ref().map(|range| {
            let region = Arc::clone(&self.regions[range.region].real);
            let va = region.addr().wrapping_add_signed(range.offset);
            WindowRange { region, va, len: range.len, access: range.access }
        });
        let window = &self.windows[at];
        let request = Bind::new(&window.real, variant, real).unwrap();
        let rkey = request.rkey();
        let before = window.real.rkey();
        let bound = self.tables[domain].bind(&request, self.queue_pairs[domain][queue_pair]);

        let expected = self.bind_succeeds(domain, at, rkey, range.as_ref());
        assert_eq!(bound.is_ok(), expected, "{bound:?}");
        let window = &mut self.windows[at];
        assert_eq!(window.real.rkey(), if expected { rkey } else { before });
        if !expected {
            return;
        }
        self.keys.push(rkey);
        [.., window.variant] = rkey.to_be_bytes();
        window.bound = None;
        if let Some(range) = range.filter(|range| range.len > 0) {
            let own = &self.regions[range.region].real;
            let zero_based = range.access.contains(Access::ZERO_BASED);
            window.bound = Some(self.bindings.len());
            self.bindings.push(Binding {
                window: at,
                region: range.region,
                start: usize::try_from(range.offset).unwrap(),
                len: usize::try_from(range.len).unwrap(),
                base: if zero_based { 0 } else { own.addr().wrapping_add_signed(range.offset) },
                access: range.access & Access::REMOTE,
                queue_pair: (window.real.kind() == WindowType::Two).then_some(queue_pair),
            });
            self.grant(domain, 0);
        }
    }

    fn bind_succeeds(&self, domain: usize, window: usize, rkey: u32, range: Option<&Range>) -> bool {
        let window = &self.windows[window];
        let [.., variant] = rkey.to_be_bytes();
        let range = range.filter(|range| range.len > 0);
        let type_two = window.real.kind() == WindowType::Two;
        if !window.alive || window.domain != domain {
            return false;
        }
        if type_two && (window.bound.is_some() || variant == window.variant) {
            return false;
        }
        let Some(range) = range else { return !type_two };
        let region = &self.regions[range.region];
        let given = region.real.access();
        let changes = range.access.intersects(Access::REMOTE_WRITE | Access::REMOTE_ATOMIC);
        let inside = usize::try_from(range.offset)
            .is_ok_and(|start| start as u64 + range.len <= region.bytes.len() as u64);
        region.alive
            && region.domain == domain
            && given.contains(Access::MW_BIND)
            && (!changes || given.contains(Access::LOCAL_WRITE))
            && (type_two || !range.access.contains(Access::ZERO_BASED))
            && inside
    }

    fn invalidate(&mut self, domain: usize, key: usize, by_peer: Option<usize>) {
        let Some(key) = place(key, self.keys.len()).map(|at| self.keys[at]) else { return };
        let by = by_peer.map_or(Invalidation::Local, |at| Invalidation::Peer(self.queue_pairs[domain][at]));
        let done = self.tables[domain].invalidate(key, by).is_ok();
        let bindings = &self.bindings;
        let found = self.windows.iter_mut().find(|window| {
            window.domain == domain
                && window.real.kind() == WindowType::Two
                && window.real.rkey() == key
                && window.bound.is_some_and(|at| by_peer.is_none() || bindings[at].queue_pair == by_peer)
        });
        assert_eq!(done, found.is_some());
        if let Some(window) = found {
            window.bound = None;
        }
    }

    fn grant(&mut self, domain: usize, key: usize) {
        let Some(key) = place(key, self.keys.len()).map(|at| self.keys[at]) else { return };
        let found = self.tables[domain].by_rkey(key).ok();
        let region = self
            .regions
            .iter()
            .position(|region| region.alive && region.domain == domain && region.real.rkey() == key)
            .map(Granted::Region);
        let window = self
            .windows
            .iter()
            .find(|window| window.domain == domain && window.bound.is_some() && window.real.rkey() == key)
            .and_then(|window| window.bound)
            .map(Granted::Binding);
        let expected = region.or(window);
        assert_eq!(found.is_some(), expected.is_some());
        self.grants.extend(found.zip(expected).map(|(memory, granted)| (memory, domain, granted)));
    }

    fn access(&mut self, grant: usize, queue_pair: usize, offset: i64, len: usize, kind: Kind) {
        let Some(at) = place(grant, self.grants.len()) else { return };
        let (memory, domain, granted) = &self.grants[at];
        let (region, start, room, base, rights, usable, own_queue_pair) = match *granted {
            Granted::Region(at) => {
                let real = &self.regions[at].real;
                (at, 0, real.len(), real.addr(), real.access(), true, true)
            }
            Granted::Binding(at) => {
                let Binding { window, region, start, len, base, access, queue_pair: own } = self.bindings[at];
                let current = self.windows[window].bound == Some(at);
                (region, start, len, base, access, current, own.is_none_or(|own| own == queue_pair))
            }
        };
        let va = base.wrapping_add_signed(offset);
        let (needed, len) = match kind {
            Kind::Read => (Access::REMOTE_READ, len),
            Kind::Write(_) => (Access::REMOTE_WRITE, len),
            Kind::Add => (Access::REMOTE_ATOMIC, 8),
        };
        let region = &mut self.regions[region];
        let at = usize::try_from(offset).ok().filter(|at| at + len <= room).map(|at| start + at);
        let allowed = at.filter(|_| usable && region.alive && rights.contains(needed));
        let checked = memory.check(self.queue_pairs[*domain][queue_pair], va, len as u64, needed);
        assert_eq!(checked.is_ok(), allowed.is_some() && own_queue_pair, "{checked:?}");
        match kind {
            Kind::Read => {
                let mut out = vec![0xaa; len];
                assert_eq!(memory.read(va, &mut out).is_ok(), allowed.is_some());
                let expected = allowed.map_or(vec![0xaa; len], |at| region.bytes[at..at + len].to_vec());
                assert_eq!(out, expected);
            }
            Kind::Write(byte) => {
                assert_eq!(memory.write(va, &vec![byte; len]).is_ok(), allowed.is_some());
                if let Some(at) = allowed {
                    region.bytes[at..at + len].fill(byte);
                }
            }
            Kind::Add => {
                let aligned =
                    |at: &usize| va.is_multiple_of(8) && (region.skew + *at as u64).is_multiple_of(8);
                let expected = allowed.filter(aligned).map(|at| {
                    let word = region.bytes[at..].first_chunk_mut::<8>().unwrap();
                    let found = u64::from_ne_bytes(*word);
                    *word = found.wrapping_add(0x0102_0304_0506_0708).to_ne_bytes();
                    found
                });
                assert_eq!(memory.fetch_add(va, 0x0102_0304_0506_0708).ok(), expected);
            }
        }
    }

    /// What holds after each step.
    fn check(&self) {
        for region in &self.regions {
            let Backing::Own(mapping) = region.real.backing() else {
                unreachable!("nothing else is registered")
            };
            let mut bytes = vec![0; region.bytes.len()];
            mapping.read(0, &mut bytes).unwrap();
            assert_eq!(bytes, region.bytes);
        }
        for (domain, table) in self.tables.iter().enumerate() {
            let alive = self.regions.iter().filter(|region| region.alive && region.domain == domain).count();
            assert_eq!(table.len(), alive);
        }
        let regions = self.regions.iter().filter(|region| region.alive);
        let keys = regions
            .flat_map(|region| [region.real.rkey(), region.real.lkey()])
            .chain(self.windows.iter().map(|window| window.real.rkey()));
        let mut indices = HashSet::new();
        keys.for_each(|key| assert!(indices.insert(key >> 8), "two things share an index"));
        for window in &self.windows {
            assert_eq!(window.real.is_bound(), window.bound.is_some());
        }
    }
}

/// The place of a thing among so many.
fn place(number: usize, count: usize) -> Option<usize> {
    count.checked_sub(1).map(|last| last - number % count)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn whatever_the_two_sides_do_the_model_holds(steps in prop::collection::vec(step(), 1..80)) {
        let mut world = World::new();
        for step in steps {
            world.take(step);
            world.check();
        }
    }
}
