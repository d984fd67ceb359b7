//! One direction of a connection: what was asked for, and what has to come of it.

use crate::common::{End, pattern};
use crate::rng::Rng;
use rdma_verbs::{
    Completion, CompletionKind, Mtu, RecvRequest, Released, RemoteRange, RemoteRegion, SendRequest, Slice,
    Status,
};
use std::collections::VecDeque;

/// The longest message.
const SLOT: u32 = 64 << 10;
/// The most packets of a message: where some of a hundred are lost or come out of order, longer ones take long.
const PACKETS: u32 = 64;
/// Requests under way at a time. Each has a slot of the own region for its bytes, and may touch one of the peer's.
const SLOTS: u32 = 8;
/// Where the three kinds of slots begin: of the own requests, of receives, of what the peer writes and reads.
const OWN: u64 = 0;
const INBOX: u64 = SLOT as u64 * SLOTS as u64;
const TARGET: u64 = 2 * INBOX;
/// The word that the peer's atomics change.
const COUNTER: u64 = 3 * INBOX;
/// Bytes of a region.
pub(crate) const MEMORY: usize = 3 * (SLOT * SLOTS) as usize + 4096;

/// Bytes that are made of few: the pattern of a seed, so long.
#[derive(Clone, Copy, Debug)]
struct Bytes {
    seed: u8,
    len: u32,
}

impl Bytes {
    fn get(self) -> Vec<u8> {
        pattern(self.len as usize, self.seed)
    }
}

/// A request under way.
#[derive(Clone, Copy, Debug)]
struct Asked {
    id: u64,
    slot: u32,
    what: What,
}

#[derive(Clone, Copy, Debug)]
enum What {
    Send,
    Write(Bytes),
    Read(Bytes),
    /// With what the word held before.
    Atomic(CompletionKind, u64),
}

/// What the peer must get next.
#[derive(Clone, Copy, Debug)]
struct Message {
    immediate: u32,
    kind: CompletionKind,
    bytes: Bytes,
}

#[derive(Debug)]
pub(crate) struct Flow {
    rng: Rng,
    /// Bytes of a message at most.
    longest: u32,
    /// Requests that weren't made yet.
    left: u64,
    next_id: u64,
    unsignaled: u32,
    free: Vec<u32>,
    there: RemoteRegion,
    /// In the order in which they have to complete.
    asked: VecDeque<Asked>,
    /// In the order in which they have to arrive.
    messages: VecDeque<Message>,
    /// What the peer's slots hold.
    targets: Vec<Bytes>,
    counter: u64,
}

impl Flow {
    pub(crate) fn new(rng: Rng, mtu: Mtu, operations: u64, there: RemoteRegion) -> Self {
        Self {
            rng,
            longest: SLOT.min(mtu.bytes() * PACKETS),
            left: operations,
            next_id: 0,
            unsignaled: 0,
            free: (0..SLOTS).collect(),
            there,
            asked: VecDeque::new(),
            messages: VecDeque::new(),
            targets: vec![Bytes { seed: 0, len: 0 }; SLOTS as usize],
            counter: 0,
        }
    }

    /// Posts the receives of its end.
    pub(crate) fn begin(&self, end: &mut End) {
        for slot in 0..SLOTS {
            let slice = end.memory.slice(INBOX + place(slot), SLOT).expect("free");
            end.qp().post_recv(RecvRequest::new([slice])).expect("posted");
        }
    }

    /// Whether everything was asked for, has completed, and has arrived.
    pub(crate) fn is_done(&self) -> bool {
        self.left == 0 && self.asked.is_empty() && self.messages.is_empty()
    }

    /// Posts as many requests as there are slots.
    pub(crate) fn post(&mut self, end: &mut End) {
        while self.left > 0
            && let Some(slot) = self.free.pop()
        {
            self.left -= 1;
            let (what, request) = self.choose(end, slot);
            let id = self.next_id;
            self.next_id += 1;
            self.asked.push_back(Asked { id, slot, what });
            // One that gives back the slots of those before it must follow.
            let unsignaled = self.left > 0 && self.unsignaled < SLOTS / 2 && self.rng.one_in(4);
            self.unsignaled = if unsignaled { self.unsignaled + 1 } else { 0 };
            let request = if unsignaled { request.unsignaled() } else { request };
            end.qp().post_send(request.id(id)).expect("posted");
        }
    }

    fn choose(&mut self, end: &End, slot: u32) -> (What, SendRequest) {
        let immediate = u32::try_from(self.next_id).expect("few requests");
        let bytes = Bytes { seed: self.rng.next().to_le_bytes()[0], len: self.len() };
        match self.rng.up_to(9) {
            0..=3 => {
                self.messages.push_back(Message { immediate, kind: CompletionKind::Recv, bytes });
                let request = if bytes.len <= 64 && self.rng.one_in(2) {
                    SendRequest::send_inline(&bytes.get())
                } else {
                    SendRequest::send(self.filled(end, slot, bytes))
                };
                (What::Send, request.immediate(immediate))
            }
            4..=6 => {
                self.targets[slot as usize] = bytes;
                let remote = self.target(slot, bytes.len);
                let mut request = SendRequest::write(self.filled(end, slot, bytes), remote);
                if self.rng.one_in(2) {
                    let kind = CompletionKind::RecvWriteImmediate;
                    self.messages.push_back(Message { immediate, kind, bytes });
                    request = request.immediate(immediate);
                }
                (What::Write(bytes), request)
            }
            7 | 8 => {
                let held = self.targets[slot as usize];
                let bytes = Bytes { len: self.rng.up_to(held.len), ..held };
                let remote = self.target(slot, bytes.len);
                let into = self.slices(end, slot, bytes.len);
                (What::Read(bytes), SendRequest::read(into, remote))
            }
            _ => {
                let remote = self.there.range(COUNTER, 8).expect("inside");
                let result = end.memory.slice(OWN + place(slot), 8).expect("free");
                let before = self.counter;
                let value = self.rng.next();
                if self.rng.one_in(2) {
                    self.counter = before.wrapping_add(value);
                    let what = What::Atomic(CompletionKind::FetchAdd, before);
                    return (what, SendRequest::fetch_add(result, remote, value));
                }
                // Every other one compares with what isn't there.
                let compare = if self.rng.one_in(2) { before } else { !before };
                self.counter = if compare == before { value } else { before };
                let what = What::Atomic(CompletionKind::CompareSwap, before);
                (what, SendRequest::compare_swap(result, remote, compare, value))
            }
        }
    }

    /// Nothing, a few bytes, about a number of full packets, or anything.
    fn len(&mut self) -> u32 {
        let len = match self.rng.up_to(7) {
            0 => 0,
            1..=3 => self.rng.up_to(256),
            4 | 5 => (256 << self.rng.up_to(7)) + self.rng.up_to(2) - 1,
            _ => self.rng.up_to(self.longest),
        };
        len.min(self.longest)
    }

    fn target(&self, slot: u32, len: u32) -> RemoteRange {
        self.there.range(TARGET + place(slot), len.into()).expect("inside")
    }

    /// `len` bytes of an own slot, in one to three parts.
    fn slices(&mut self, end: &End, slot: u32, len: u32) -> Vec<Slice> {
        let mut cuts = vec![0, len];
        if len > 0 {
            cuts.extend([self.rng.up_to(len), self.rng.up_to(len)]);
        }
        cuts.sort_unstable();
        cuts.dedup();
        let part = |part: &[u32]| {
            let offset = OWN + place(slot) + u64::from(part[0]);
            end.memory.slice(offset, part[1] - part[0]).expect("free")
        };
        cuts.windows(2).map(part).collect()
    }

    fn filled(&mut self, end: &End, slot: u32, bytes: Bytes) -> Vec<Slice> {
        let mut slices = self.slices(end, slot, bytes.len);
        let data = bytes.get();
        let mut rest = &data[..];
        for slice in &mut slices {
            let (part, behind) = rest.split_at(slice.capacity() as usize);
            slice.fill(part).expect("it fits");
            rest = behind;
        }
        slices
    }

    /// Takes the completion of a request, and of the unsignaled ones before it.
    pub(crate) fn completed(&mut self, peer: &End, completion: Completion) {
        assert_eq!(completion.status, Status::Success, "{completion:?}");
        for Released { id, slices } in completion.released {
            self.finish(peer, id, &slices);
        }
        let what = self.finish(peer, completion.id, &completion.slices);
        let kind = match what {
            What::Send => CompletionKind::Send,
            What::Write(_) => CompletionKind::Write,
            What::Read(_) => CompletionKind::Read,
            What::Atomic(kind, _) => kind,
        };
        assert_eq!(completion.kind, kind);
    }

    fn finish(&mut self, peer: &End, id: u64, slices: &[Slice]) -> What {
        let asked = self.asked.pop_front().expect("it was asked for");
        assert_eq!(id, asked.id, "each once, and in order");
        self.free.push(asked.slot);
        match asked.what {
            What::Send => {}
            What::Write(bytes) => check_target(peer, asked.slot, bytes),
            What::Read(bytes) => assert!(gathered(slices) == bytes.get(), "read: {asked:?}"),
            What::Atomic(_, before) => assert_eq!(gathered(slices), before.to_ne_bytes(), "{asked:?}"),
        }
        asked.what
    }

    /// Takes what has arrived at the peer, and posts the receive again.
    pub(crate) fn arrived(&mut self, peer: &mut End, mut completion: Completion) {
        assert_eq!(completion.status, Status::Success, "{completion:?}");
        let message = self.messages.pop_front().expect("it was sent");
        assert_eq!(
            (completion.immediate, completion.kind, completion.len),
            (Some(message.immediate), message.kind, message.bytes.len),
            "each once, and in order"
        );
        let slice = completion.slice().expect("the receive's");
        if message.kind == CompletionKind::Recv {
            let mut got = vec![0; message.bytes.len as usize];
            slice.read(0, &mut got).expect("inside");
            assert!(got == message.bytes.get(), "received: {message:?}");
        }
        peer.qp().post_recv(RecvRequest::new([slice])).expect("posted");
    }

    /// In the end, the peer's region holds what was last written, and nothing else.
    pub(crate) fn check_memory(&self, peer: &End) {
        for (slot, bytes) in (0..).zip(&self.targets) {
            check_target(peer, slot, *bytes);
        }
        let mut word = [0; 8];
        peer.memory.read(COUNTER, &mut word).expect("inside");
        assert_eq!(u64::from_ne_bytes(word), self.counter);
    }
}

fn place(slot: u32) -> u64 {
    u64::from(slot) * u64::from(SLOT)
}

fn check_target(peer: &End, slot: u32, bytes: Bytes) {
    let mut there = vec![0; bytes.len as usize];
    peer.memory.read(TARGET + place(slot), &mut there).expect("inside");
    assert!(there == bytes.get(), "written to slot {slot}: {bytes:?}");
}

fn gathered(slices: &[Slice]) -> Vec<u8> {
    let mut all = Vec::new();
    for slice in slices {
        let start = all.len();
        all.resize(start + slice.capacity() as usize, 0);
        slice.read(0, &mut all[start..]).expect("inside");
    }
    all
}
