//! A memory region beside a model of it: what each byte must be, and which bytes may change just now, to what.

use crate::rng::Rng;
use rocev2::work::RemoteAddress;
use rocev2_device::memory::{Access, Mapping};
use rocev2_device::{Element, MemoryRegion, ProtectionDomain};
use smallvec::SmallVec;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A region of one end, with its model. It stays here when the region is deregistered: nothing may change then.
#[derive(Debug)]
pub(crate) struct Memory {
    /// For messages: which region of the run it is.
    number: usize,
    mapping: Arc<Mapping>,
    /// Packets that its machine has taken: without one nothing changes.
    taken: Arc<AtomicU64>,
    region: Option<MemoryRegion>,
    expected: Vec<u8>,
    claims: BTreeMap<usize, Claim>,
    next_claim: u64,
    /// Claims that ended with the region, and whether all had been written that was to be.
    frozen: HashMap<u64, bool>,
    /// What was there at the last look.
    seen: Vec<u8>,
    /// Packets that had been taken by then.
    seen_at: u64,
    /// What may happen to some bytes has changed since.
    changed: bool,
    scratch: Vec<u8>,
}

/// Bytes that somebody uses. No two uses overlap.
#[derive(Debug)]
struct Claim {
    id: u64,
    len: usize,
    content: Content,
    /// How many operations use them.
    holders: u32,
}

/// What may happen to bytes that are in use.
#[derive(Debug, Clone)]
pub(crate) enum Content {
    /// Nothing: they are sent, or read by a peer, or nobody has written to them yet.
    Still,
    /// They become these, from the first to the last, as far as these go.
    Filling {
        bytes: Rc<[u8]>,
        /// As many were there at the last look: they don't change back.
        done: usize,
    },
    /// Whatever an atomic finds.
    Any,
    /// A word that atomics change, to each of these values in turn.
    Word { values: Vec<u64>, at: usize },
    /// A word that many add 1 to.
    Counter { value: u64, most: u64 },
}

/// A use of some bytes of a region.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ClaimId {
    pub(crate) memory: usize,
    pub(crate) start: usize,
    id: u64,
}

impl Memory {
    /// Registers a region of random bytes.
    pub(crate) fn new(
        number: usize,
        taken: &Arc<AtomicU64>,
        domain: &ProtectionDomain,
        len: usize,
        access: Access,
        rng: &mut Rng,
    ) -> Self {
        let region = domain.register(len, access).expect("a region");
        let mapping = Arc::clone(region.mapping());
        let expected = rng.bytes(len);
        mapping.write(0, &expected).expect("its own bytes");
        Self {
            number,
            mapping,
            taken: Arc::clone(taken),
            seen_at: 0,
            changed: false,
            region: Some(region),
            seen: expected.clone(),
            scratch: expected.clone(),
            expected,
            claims: BTreeMap::new(),
            next_claim: 0,
            frozen: HashMap::new(),
        }
    }

    pub(crate) fn region(&self) -> Option<&MemoryRegion> {
        self.region.as_ref()
    }

    /// The address that peers name a byte by.
    pub(crate) fn remote(&self, start: usize) -> Option<RemoteAddress> {
        let region = self.region.as_ref()?.region();
        Some(RemoteAddress { va: region.addr() + start as u64, rkey: region.rkey() })
    }

    /// Pieces of `len` bytes from `start`, for a work request.
    pub(crate) fn elements(&self, start: usize, len: usize, pieces: usize) -> Option<SmallVec<[Element; 1]>> {
        let region = self.region.as_ref()?.region();
        let mut list = SmallVec::new();
        let mut at = 0;
        for piece in 1..=pieces {
            let end = len * piece / pieces;
            let count = u32::try_from(end - at).expect("a short piece");
            list.push(Element::new(Arc::clone(region), region.addr() + (start + at) as u64, count));
            at = end;
        }
        Some(list)
    }

    /// Looks for `len` bytes that nobody uses, and uses them.
    pub(crate) fn claim(&mut self, rng: &mut Rng, len: usize, align: usize) -> Option<ClaimId> {
        let room = self.expected.len().checked_sub(len.max(1))?;
        self.region.as_ref()?;
        for _ in 0..8 {
            let start = rng.index(room + 1) / align * align;
            if self.is_free(start, len.max(1)) {
                return Some(self.claim_at(start, len));
            }
        }
        None
    }

    /// The first `len` bytes that nobody uses, of those that begin at a multiple of `len`.
    pub(crate) fn claim_any(&mut self, len: usize) -> Option<ClaimId> {
        self.region.as_ref()?;
        let places = self.expected.len() / len;
        let start = (0..places).map(|place| place * len).find(|start| self.is_free(*start, len))?;
        Some(self.claim_at(start, len))
    }

    /// The first word is a counter.
    pub(crate) fn claim_counter(&mut self) {
        let claim = self.claim_at(0, 8);
        self.set(claim, Content::Counter { value: 0, most: 0 });
    }

    /// Somebody adds to the counter.
    pub(crate) fn count_one_more(&mut self) {
        if let Some(Claim { content: Content::Counter { most, .. }, .. }) = self.claims.get_mut(&0) {
            *most += 1;
        }
    }

    /// What the counter is.
    pub(crate) fn counter(&self) -> u64 {
        match self.claims.get(&0) {
            Some(Claim { content: Content::Counter { value, .. }, .. }) => *value,
            _ => 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.expected.len()
    }

    fn is_free(&self, start: usize, len: usize) -> bool {
        let before = self.claims.range(..start + len).next_back();
        before.is_none_or(|(at, claim)| at + claim.len.max(1) <= start)
    }

    fn claim_at(&mut self, start: usize, len: usize) -> ClaimId {
        let id = self.next_claim;
        self.next_claim += 1;
        self.claims.insert(start, Claim { id, len, content: Content::Still, holders: 1 });
        ClaimId { memory: self.number, start, id }
    }

    /// One more operation uses the bytes.
    pub(crate) fn hold(&mut self, claim: ClaimId) {
        if let Some(claim) = self.find(claim) {
            claim.holders += 1;
        }
    }

    /// What may happen to the bytes from now on.
    pub(crate) fn set(&mut self, id: ClaimId, content: Content) {
        self.changed = true;
        if let Some(claim) = self.find(id) {
            claim.content = content;
        }
    }

    /// The values that a word goes through.
    pub(crate) fn content(&mut self, id: ClaimId) -> Option<&mut Content> {
        self.find(id).map(|claim| &mut claim.content)
    }

    /// The bytes as the model has them.
    pub(crate) fn bytes(&self, start: usize, len: usize) -> &[u8] {
        &self.expected[start..start + len]
    }

    /// The program writes.
    pub(crate) fn write(&mut self, start: usize, bytes: &[u8]) {
        self.mapping.write(start, bytes).expect("its own bytes");
        self.expected[start..start + bytes.len()].copy_from_slice(bytes);
        self.seen[start..start + bytes.len()].copy_from_slice(bytes);
    }

    /// An operation has ended well: all that it writes must be there. The bytes are free for other uses.
    pub(crate) fn complete(&mut self, id: ClaimId, what: &str) {
        self.check();
        if let Some(&complete) = self.frozen.get(&id.id) {
            assert!(
                complete,
                "{what} succeeded, but had not all been written when its memory was taken back"
            );
            return;
        }
        let Some(claim) = self.find(id) else { panic!("{what} ended twice") };
        if let Content::Filling { bytes, done } = &claim.content {
            let (done, all) = (*done, bytes.len());
            assert!(done >= all, "{what} succeeded, but only {done} of {all} bytes were written");
        }
        self.settle(id);
    }

    /// An operation has ended otherwise, and nothing more is written for it.
    pub(crate) fn abandon(&mut self, id: ClaimId) {
        self.check();
        if self.find(id).is_some() {
            self.settle(id);
        }
    }

    /// Nothing more is written there; the operation still uses the bytes. Whether all was written is remembered.
    pub(crate) fn freeze(&mut self, id: ClaimId) {
        self.check();
        let Some(claim) = self.find(id) else { return };
        let complete = claim.is_complete();
        self.frozen.insert(id.id, complete);
        self.settle(id);
    }

    /// The peer says that all has been written there.
    pub(crate) fn check_written(&mut self, id: ClaimId, what: &str) {
        self.check();
        if let Some(claim) = self.claims.get(&id.start).filter(|claim| claim.id == id.id) {
            assert!(claim.is_complete(), "{what} tells of an RDMA WRITE that is incomplete");
        }
    }

    /// Whether a part of what is to be written there has been.
    pub(crate) fn is_halfway(&self, id: ClaimId) -> bool {
        self.claims.get(&id.start).is_some_and(|claim| match &claim.content {
            Content::Filling { bytes, done } => claim.id == id.id && *done > 0 && *done < bytes.len(),
            _ => false,
        })
    }

    /// The bytes are as they are, and one use less.
    fn settle(&mut self, id: ClaimId) {
        let seen = core::mem::take(&mut self.seen);
        if let Some(claim) = self.find(id) {
            claim.holders -= 1;
            claim.content = Content::Still;
            let (len, unused) = (claim.len, claim.holders == 0);
            self.expected[id.start..id.start + len].copy_from_slice(&seen[id.start..id.start + len]);
            if unused {
                self.claims.remove(&id.start);
            }
        }
        self.seen = seen;
    }

    /// Deregisters the region: from now on nothing changes.
    pub(crate) fn deregister(&mut self) {
        self.check();
        self.region = None;
        for claim in core::mem::take(&mut self.claims).into_values() {
            self.frozen.insert(claim.id, claim.is_complete());
        }
        self.expected.copy_from_slice(&self.seen);
    }

    /// Whether nobody but this holds the memory.
    pub(crate) fn is_alone(&self) -> bool {
        Arc::strong_count(&self.mapping) == 1
    }

    fn find(&mut self, id: ClaimId) -> Option<&mut Claim> {
        self.claims.get_mut(&id.start).filter(|claim| claim.id == id.id)
    }

    /// Compares the memory with the model, if a packet was taken since that was done last.
    pub(crate) fn check(&mut self) {
        let taken = self.taken.load(Ordering::Relaxed);
        if taken != self.seen_at {
            self.seen_at = taken;
            self.compare();
        }
    }

    /// Compares the memory with the model.
    pub(crate) fn compare(&mut self) {
        self.mapping.read(0, &mut self.scratch).expect("its own bytes");
        if !self.changed && self.scratch == self.seen {
            return;
        }
        let Self { number, scratch, expected, claims, .. } = self;
        let mut at = 0;
        for (&start, claim) in claims.iter_mut() {
            same(*number, at, &scratch[at..start], &expected[at..start]);
            at = start + claim.len;
            claim.check(*number, start, &scratch[start..at], &expected[start..at]);
        }
        same(*number, at, &scratch[at..], &expected[at..]);
        core::mem::swap(&mut self.seen, &mut self.scratch);
        self.changed = false;
    }
}

impl Claim {
    fn is_complete(&self) -> bool {
        match &self.content {
            Content::Filling { bytes, done } => *done >= bytes.len(),
            _ => true,
        }
    }

    fn check(&mut self, number: usize, start: usize, now: &[u8], before: &[u8]) {
        let word = |bytes: &[u8]| bytes.first_chunk().map_or(0, |word| u64::from_ne_bytes(*word));
        match &mut self.content {
            Content::Any => {}
            Content::Still => same(number, start, now, before),
            Content::Filling { bytes, done } => {
                let count = now.iter().zip(&**bytes).take_while(|(now, new)| now == new).count();
                assert!(
                    count >= *done,
                    "region {number}: byte {} changed back while {} bytes arrived from byte {start} on",
                    start + count,
                    bytes.len()
                );
                *done = count;
                same(number, start + count, &now[count..], &before[count..]);
            }
            Content::Word { values, at } => {
                let found = word(now);
                let step = values[*at..].iter().position(|value| *value == found);
                let Some(step) = step else {
                    panic!(
                        "region {number}: the word at {start} is {found:#x}, none of {:#x?}",
                        &values[*at..]
                    )
                };
                *at += step;
            }
            Content::Counter { value, most } => {
                let found = word(now);
                assert!(
                    (*value..=*most).contains(&found),
                    "region {number}: the counter at {start} is {found}, not from {value} to {most}"
                );
                *value = found;
            }
        }
    }
}

fn same(number: usize, start: usize, found: &[u8], expected: &[u8]) {
    if found != expected {
        let at = found.iter().zip(expected).position(|(found, expected)| found != expected).unwrap_or(0);
        let until = found.iter().zip(expected).rposition(|(found, expected)| found != expected).unwrap_or(0);
        panic!(
            "region {number}: bytes {} to {} changed, and nobody was allowed to",
            start + at,
            start + until
        );
    }
}
