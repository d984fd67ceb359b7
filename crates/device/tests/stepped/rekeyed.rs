//! Messages and one-sided operations in both directions, re-keyed every few hundred packets, over links that lose
//! packets: every byte is verified.

use crate::world::{End, Weather, World};
use crate::{A, B};
use rocev2::work::{AtomicOperation, Completion, CompletionKind, RemoteAddress, SendOperation, Status};
use rocev2_device::esp::replay::DEFAULT_WINDOW;
use rocev2_device::esp::{Algorithm, Inbound, Inner, Key, Outbound};
use rocev2_device::{Receiver, SecurityAssociation};

/// The longest message.
const SLOT: u64 = 12_288;

/// Messages under way, and receive requests.
const DEPTH: u64 = 16;

/// Packets that a key seals before there is another.
const PACKETS: u64 = 300;

/// Messages from one one-sided operation to the next, at the least.
const MESSAGES: u64 = 20;

/// Where in an end's memory everything is: slots of messages to send, and to receive; what is written to the peer, and
/// read from it; where the peer writes; a word that the peer adds to; and where this end learns what the peer's was.
const SENDS: u64 = 0;
const RECEIVES: u64 = SENDS + DEPTH * SLOT;
const SOURCE: u64 = RECEIVES + DEPTH * SLOT;
const READ_INTO: u64 = SOURCE + SLOT;
const TARGET: u64 = READ_INTO + SLOT;
const COUNTER: u64 = TARGET + SLOT;
const FOUND: u64 = COUNTER + 8;
const MEMORY: u64 = FOUND + 8;

/// One-sided requests have no other number.
const ONE_SIDED: u64 = u64::MAX;

/// What is sent as number `number`: of any length, mostly short.
fn content(stream: u8, number: u64) -> Vec<u8> {
    let mut state = (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ u64::from(stream);
    state ^= state >> 29;
    let long = state.is_multiple_of(32);
    let len = 8 + (state >> 8) % if long { SLOT - 8 } else { 600 };
    let mut bytes = number.to_le_bytes().to_vec();
    while (bytes.len() as u64) < len {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        bytes.extend(state.to_be_bytes());
    }
    bytes.truncate(usize::try_from(len).unwrap());
    bytes
}

fn len(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap()
}

/// An end and what it has done.
struct Side {
    number: u8,
    end: End,
    association: SecurityAssociation,
    sent: u64,
    acknowledged: u64,
    received: u64,
    /// One-sided operations that were posted, and that have ended.
    posted: u64,
    ended: u64,
}

/// What each end has to do.
#[derive(Clone, Copy)]
struct Work {
    messages: u64,
    one_sided: u64,
}

impl Side {
    fn new(number: u8, end: End) -> Self {
        let association = end.device.security_association();
        let (sent, acknowledged, received, posted, ended) = (0, 0, 0, 0, 0);
        Self { number, end, association, sent, acknowledged, received, posted, ended }
    }

    /// Posts what there is room for.
    fn post(&mut self, peer: &Self, work: Work) {
        while self.sent < work.messages && self.sent < self.acknowledged + DEPTH {
            let (bytes, at) = (content(self.number, self.sent), SENDS + self.sent % DEPTH * SLOT);
            self.end.write(at, &bytes);
            self.end.post_at(self.sent, SendOperation::Send, at, len(&bytes));
            self.sent += 1;
        }
        let due = self.sent == work.messages || self.sent >= self.posted * MESSAGES;
        if self.posted == self.ended && self.posted < work.one_sided && due {
            self.post_one_sided(peer);
            self.posted += 1;
        }
    }

    /// A WRITE, then a READ of what it has written, then a FETCH ADD.
    fn post_one_sided(&self, peer: &Self) {
        let RemoteAddress { va, rkey } = peer.end.memory();
        let at = |offset| RemoteAddress { va: va + offset, rkey };
        match self.posted % 3 {
            0 => {
                let bytes = content(self.number + 2, self.posted);
                self.end.write(SOURCE, &bytes);
                self.end.post_at(ONE_SIDED, SendOperation::Write(at(TARGET)), SOURCE, len(&bytes));
            }
            1 => {
                let bytes = content(self.number + 2, self.posted - 1);
                self.end.write(READ_INTO, &vec![0; bytes.len()]);
                self.end.post_at(ONE_SIDED, SendOperation::Read(at(TARGET)), READ_INTO, len(&bytes));
            }
            _ => {
                let add = SendOperation::Atomic(at(COUNTER), AtomicOperation::FetchAdd { add: 1 });
                self.end.post_at(ONE_SIDED, add, FOUND, 8);
            }
        }
    }

    /// Takes what has completed, and looks whether it is right.
    fn take(&mut self, peer: &Self) {
        for completion in self.end.completions() {
            assert_eq!(completion.status, Status::Success);
            match completion.kind {
                CompletionKind::Recv => self.take_message(peer, &completion),
                _ if completion.id == ONE_SIDED => {
                    self.verify_one_sided(peer);
                    self.ended += 1;
                }
                _ => {
                    assert_eq!(completion.id, self.acknowledged, "in order");
                    self.acknowledged += 1;
                }
            }
        }
    }

    fn take_message(&mut self, peer: &Self, completion: &Completion) {
        let expected = content(peer.number, self.received);
        let at = RECEIVES + completion.id * SLOT;
        assert_eq!((completion.id, completion.len), (self.received % DEPTH, len(&expected)));
        assert!(self.end.read(at, expected.len()) == expected, "message {}", self.received);
        self.received += 1;
        self.end.post_recv_at(completion.id, at, u32::try_from(SLOT).unwrap());
    }

    fn verify_one_sided(&self, peer: &Self) {
        let number = self.ended;
        match number % 3 {
            0 => {
                let bytes = content(self.number + 2, number);
                assert!(peer.end.read(TARGET, bytes.len()) == bytes, "WRITE {number}");
            }
            1 => {
                let bytes = content(self.number + 2, number - 1);
                assert!(self.end.read(READ_INTO, bytes.len()) == bytes, "READ {number}");
            }
            _ => {
                let found = self.end.read(FOUND, 8);
                assert_eq!(found, (number / 3).to_ne_bytes(), "FETCH ADD {number}");
            }
        }
    }
}

/// Gives both directions their next keys, which are `generation`'s; what the keys before have sealed is taken until
/// there are others once more.
fn rekey(sides: &[Side; 2], generation: u64) {
    for (own, peer) in [(0, 1), (1, 0)] {
        let key = || {
            let mut material = [u8::try_from(own).unwrap(); 36];
            material[..8].copy_from_slice(&generation.to_le_bytes());
            Key::new(Algorithm::Aes256Gcm, &material).unwrap()
        };
        let (sender, receiver) = (&sides[own].association, &sides[peer].association);
        let old = receiver.inbound();
        for old in &old[..old.len().saturating_sub(1)] {
            receiver.release(old.spi);
        }
        let spi = receiver.allocate_spi().unwrap();
        receiver.install_inbound(Inbound::new(spi, key(), DEFAULT_WINDOW)).unwrap();
        let inner = Inner { source_port: 4791, checksum: None };
        sender.install_outbound(Outbound::new(spi, key(), inner), Receiver::Embedded);
    }
}

/// What it took.
struct Report {
    packets: u64,
    keys: u64,
    retransmitted: u64,
}

/// Both ends do `work` while one packet in 100 is lost, and some are delivered twice or out of order.
fn exchange(seed: u64, work: Work) -> Report {
    let world = World::new(&[A, B]);
    let [a, b] = world.unconnected(A, B, u32::try_from(MEMORY).unwrap());
    let mut sides = [Side::new(0, a), Side::new(1, b)];
    let mut keys = 1;
    rekey(&sides, keys);
    for side in &sides {
        side.end.queue_pair.seal_by(&side.association).unwrap();
        side.end.write(COUNTER, &[0; 8]);
    }
    let [a, b] = &sides;
    a.end.connect(&b.end);
    b.end.connect(&a.end);
    for side in &sides {
        let slot = |id| side.end.post_recv_at(id, RECEIVES + id * SLOT, u32::try_from(SLOT).unwrap());
        (0..DEPTH).for_each(slot);
    }
    world.set_weather(Weather { seed, lost: 10, twice: 2, overtaken: 2 });
    let mut packets = 0;
    let is_done = |side: &Side| {
        [side.acknowledged, side.received, side.ended] == [work.messages, work.messages, work.one_sided]
    };
    world.run(|| {
        let [a, b] = &mut sides;
        a.take(b);
        b.take(a);
        a.post(b, work);
        b.post(a, work);
        let sealed = [&*a, &*b].map(|side| side.association.outbound().unwrap().packets);
        if sealed.into_iter().any(|count| count >= PACKETS) {
            packets += sealed.iter().sum::<u64>();
            keys += 1;
            rekey(&sides, keys);
        }
        sides.iter().all(is_done)
    });
    for side in &sides {
        for (name, count) in side.end.device.counters() {
            let lost_or_late = ["esp_replayed", "esp_rekeyed"].contains(&name);
            assert!(!name.starts_with("esp_") || lost_or_late || count == 0, "{name}: {count}");
        }
    }
    let retransmitted = sides.iter().map(|side| side.end.retransmitted()).sum();
    Report { packets, keys, retransmitted }
}

#[test]
fn every_message_and_one_sided_operation_is_right_across_new_keys_and_loss() {
    let Report { packets, keys, retransmitted } = exchange(7, Work { messages: 5_000, one_sided: 150 });
    assert!(keys > 20 && packets > PACKETS * keys / 2, "{keys} keys for {packets} packets");
    assert!(retransmitted > 50, "nothing was lost");
}

/// `cargo test -p rocev2-device --test stepped -- --ignored --nocapture a_million`
#[test]
#[ignore = "takes minutes"]
fn a_million_messages_and_ten_thousand_one_sided_operations_are_right_across_new_keys_and_loss() {
    let Report { packets, keys, retransmitted } = exchange(11, Work { messages: 500_000, one_sided: 5_000 });
    println!(
        "1,000,000 messages and 10,000 one-sided operations: {packets} packets, {keys} keys in each direction, \
         {retransmitted} packets sent again"
    );
    assert!(keys > 2_000 && retransmitted > 5_000);
}
