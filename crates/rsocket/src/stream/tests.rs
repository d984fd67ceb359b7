use super::*;
use crate::wire::ConnectData;

const SIZES: Sizes = Sizes { send_requests: 12, recv_requests: 16, send_len: 6000, recv_len: 8192 };

/// One end: its stream, the memory that its stream speaks of, and what is on the way to its peer.
struct End {
    stream: Stream,
    send: Vec<u8>,
    recv: Vec<u8>,
    targets: [Sge; 2],
    leaving: VecDeque<Leaving>,
}

enum Leaving {
    Data(Write),
    Control(Control),
}

/// Where an end's receive buffer and its target list are said to be.
const BUFFER: u64 = 0x10_0000;
const LIST: u64 = 0x20_0000;

fn data(sizes: Sizes) -> ConnectData {
    ConnectData {
        order: Order::HOST,
        credits: sizes.recv_requests,
        iomaps: 2,
        targets: Sge { addr: LIST, key: 2, length: TARGETS },
        data: Sge { addr: BUFFER, key: 1, length: sizes.recv_len / 2 },
    }
}

impl End {
    fn new(sizes: Sizes, peer: Sizes) -> Self {
        Self {
            stream: Stream::new(sizes, data(peer)),
            send: vec![0; sizes.send_len as usize],
            recv: vec![0; sizes.recv_len as usize],
            targets: [Sge::default(); 2],
            leaving: VecDeque::new(),
        }
    }

    fn progress(&mut self, sizes: Sizes) {
        while let Some(slot) = self.stream.wants_target() {
            self.stream.retarget(self.targets[slot as usize]);
        }
        while let Some(control) = self.stream.credits(Sge { addr: BUFFER, key: 1, length: sizes.recv_len }) {
            self.leaving.push_back(Leaving::Control(control));
        }
    }

    /// Sends as much as there is room for now.
    fn send(&mut self, bytes: &[u8]) -> usize {
        let mut done = 0;
        while done < bytes.len() && self.stream.can_send() {
            let most = u32::try_from(bytes.len() - done).unwrap();
            let write = self.stream.send(most).unwrap();
            for Piece { at, len } in write.pieces {
                let (at, len) = (at as usize, len as usize);
                self.send[at..at + len].copy_from_slice(&bytes[done..done + len]);
                done += len;
            }
            self.leaving.push_back(Leaving::Data(write));
        }
        done
    }

    fn take(&mut self, most: u32) -> Vec<u8> {
        let mut taken = Vec::new();
        loop {
            let Piece { at, len } = self.stream.look(0, most - u32::try_from(taken.len()).unwrap());
            if len == 0 {
                return taken;
            }
            taken.extend_from_slice(&self.recv[at as usize..(at + len) as usize]);
            self.stream.take(len);
        }
    }

    /// Has the next message arrive at the peer, and complete here.
    fn deliver(&mut self, peer: &mut Self) -> bool {
        match self.leaving.pop_front() {
            None => return false,
            Some(Leaving::Data(write)) => {
                assert_eq!(write.key, 1);
                let mut to = usize::try_from(write.addr - BUFFER).unwrap();
                for Piece { at, len } in write.pieces {
                    let (at, len) = (at as usize, len as usize);
                    peer.recv[to..to + len].copy_from_slice(&self.send[at..at + len]);
                    to += len;
                }
                peer.stream.receive(write.message.unwrap().encode(), write.len());
                self.stream.sent(write.len());
            }
            Some(Leaving::Control(control)) => {
                if let Some((entry, addr, key)) = control.target {
                    assert_eq!(key, 2);
                    peer.targets[usize::try_from((addr - LIST) / 16).unwrap()] = Sge::decode(entry);
                }
                let written = control.target.map_or(0, |_| Sge::BYTES);
                peer.stream.receive(control.message.encode(), written);
                self.stream.controlled(control.message);
            }
        }
        true
    }
}

/// A generator of numbers that are the same each time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

fn pattern(len: usize, salt: u8) -> Vec<u8> {
    (0..len)
        .map(|at| {
            let [.., high, low] = at.to_be_bytes();
            low.wrapping_mul(31).wrapping_add(high) ^ salt
        })
        .collect()
}

#[test]
fn bytes_arrive_once_and_in_order_whatever_the_sizes_and_whoever_waits() {
    for seed in 0..200 {
        let mut dice = Dice(seed);
        let mut sizes = || Sizes {
            send_requests: 5 + u16::try_from(dice.below(20)).unwrap(),
            recv_requests: 2 + u16::try_from(dice.below(20)).unwrap(),
            send_len: 2048 + u32::try_from(dice.below(9000)).unwrap(),
            recv_len: 2 + 2 * u32::try_from(dice.below(5000)).unwrap(),
        };
        let [a, b] = [sizes(), sizes()];
        let mut ends = [(End::new(a, b), a), (End::new(b, a), b)];
        let wanted = [pattern(70_000, 1), pattern(50_000, 2)];
        let (mut sent, mut received) = ([0; 2], [Vec::new(), Vec::new()]);
        let mut steps = 0;
        while received[0].len() < wanted[1].len() || received[1].len() < wanted[0].len() {
            steps += 1;
            assert!(
                steps < 1_000_000,
                "seed {seed}: stuck at {} and {}",
                received[0].len(),
                received[1].len()
            );
            let side = usize::try_from(dice.below(2)).unwrap();
            let ([(here, own)], [(there, _)]) = ({
                let (first, second) = ends.split_at_mut(1);
                if side == 0 { (first, second) } else { (second, first) }
            }) else {
                unreachable!()
            };
            match dice.below(4) {
                0 => {
                    let most = usize::try_from(1 + dice.below(5000)).unwrap();
                    let left = &wanted[side][sent[side]..];
                    sent[side] += here.send(&left[..left.len().min(most)]);
                }
                1 => received[side].extend(here.take(u32::try_from(1 + dice.below(3000)).unwrap())),
                2 => here.progress(*own),
                _ => {
                    here.deliver(there);
                }
            }
        }
        assert!(received[0] == wanted[1] && received[1] == wanted[0], "seed {seed}");
        assert!(ends.iter().all(|(end, _)| end.stream.ended().is_none()));
    }
}

fn pair() -> [End; 2] {
    [End::new(SIZES, SIZES), End::new(SIZES, SIZES)]
}

/// A half that isn't announced may be under way, and half of its entry written.
#[test]
fn only_what_the_peer_has_announced_is_looked_at() {
    let [mut end, _] = pair();
    assert_eq!(end.send(&[1; 5000]), 4096, "the half that the connection began with");
    assert_eq!(end.stream.wants_target(), None);
    end.stream.receive(Message::Credits(16).encode(), 0);
    assert_eq!(end.stream.wants_target(), None, "messages alone");
    end.stream.receive(Message::Credits(16).encode(), Sge::BYTES);
    assert_eq!(end.stream.wants_target(), Some(1));
    end.targets[1] = Sge { addr: BUFFER + 4096, key: 1, length: 4096 };
    end.progress(SIZES);
    assert_eq!(end.stream.wants_target(), None);
    end.leaving.clear();
    end.stream.sent(4096);
    assert_eq!(end.send(&[1; 904]), 904);
}

#[test]
fn peeking_takes_nothing() {
    let [mut here, mut there] = pair();
    here.send(b"abcdef");
    here.deliver(&mut there);
    assert_eq!((there.stream.available(), there.stream.look(2, 100)), (6, Piece { at: 2, len: 4 }));
    assert_eq!(there.stream.look(6, 100).len, 0);
    assert_eq!(there.take(3), b"abc");
    assert_eq!(there.take(10), b"def");
}

#[test]
fn a_side_that_has_shut_down_reads_on_and_both_make_an_end() {
    let [mut here, mut there] = pair();
    assert_eq!(here.stream.shut_down(false, true), Some(Message::Shutdown));
    assert_eq!(here.stream.shut_down(false, true), None, "said once");
    assert!(!here.stream.can_send() && here.stream.is_readable());
    let control = here.stream.farewell(Message::Shutdown).unwrap();
    assert!(!here.stream.is_all_sent());
    here.leaving.push_back(Leaving::Control(control));
    here.deliver(&mut there);
    assert!(here.stream.is_all_sent());
    assert!(!there.stream.is_readable() && there.stream.is_writable() && there.stream.ended().is_none());
    assert_eq!(there.send(b"the rest"), 8);
    there.deliver(&mut here);
    assert_eq!(there.stream.shut_down(true, true), Some(Message::Disconnect));
    let control = there.stream.farewell(Message::Disconnect).unwrap();
    there.leaving.push_back(Leaving::Control(control));
    there.deliver(&mut here);
    for end in [&here, &there] {
        assert_eq!(end.stream.ended(), Some(Ended::Disconnected));
    }
    assert_eq!(here.take(100), b"the rest", "what came before the end is there");
    assert_eq!(here.stream.shut_down(true, true), None);
}

#[test]
fn what_a_peer_may_not_do_ends_the_stream() {
    let over = |words: &[u32]| {
        let [mut end, _] = pair();
        words.iter().for_each(|word| end.stream.receive(*word, 0));
        end.stream.ended()
    };
    let half = SIZES.recv_len / 2;
    assert_eq!(over(&[Message::Data(half).encode()]), None);
    assert_eq!(over(&[Message::Data(half + 1).encode()]), Some(Ended::Violated), "more than was given");
    assert_eq!(over(&[Message::Data(half).encode(), 1]), Some(Ended::Violated));
    assert_eq!(over(&[Message::Data(0).encode(); 16]), None);
    assert_eq!(
        over(&[Message::Data(0).encode(); 17]),
        Some(Ended::Violated),
        "more messages than were allowed"
    );
    assert_eq!(over(&[5 << 29]), Some(Ended::Violated), "no message");
    assert_eq!(over(&[Message::Keepalive.encode(), Message::Iomap(0xffff).encode()]), None);
    assert_eq!(over(&[Message::Credits(u32::MAX).encode()]), None);
}

#[test]
fn any_words_of_a_peer_leave_the_figures_whole() {
    let mut dice = Dice(7);
    for _ in 0..300 {
        let [mut end, _] = pair();
        for _ in 0..200 {
            let len = u32::try_from(dice.below(9000)).unwrap();
            match dice.below(5) {
                0 => end.stream.receive(u32::try_from(dice.below(1 << 31)).unwrap() << 1, len),
                1 => end.stream.receive(Message::Data(len).encode(), len),
                2 => end.targets = [Sge { addr: u64::MAX - dice.below(9), key: 9, length: len }; 2],
                3 => end.progress(SIZES),
                _ => {
                    end.send(&vec![1; len as usize]);
                    end.take(len);
                }
            }
            assert!(end.stream.available() <= SIZES.recv_len);
            let Piece { at, len } = end.stream.look(0, u32::MAX);
            assert!(at + len <= SIZES.recv_len);
            if let Some(Leaving::Data(write)) = end.leaving.pop_front() {
                end.stream.sent(write.len());
            }
        }
    }
}

#[test]
fn entries_of_mapped_buffers_go_behind_the_target_list() {
    let [mut here, _] = pair();
    let write = here.stream.send_iomap(1).unwrap();
    assert_eq!((write.addr, write.key, write.message), (LIST + 32 + 24, 2, Some(Message::Iomap(1))));
    assert_eq!(here.stream.send_iomap(2), None, "the peer's list has two");
    let direct = here.stream.send_direct(9000, 77, 5).unwrap();
    assert_eq!((direct.addr, direct.key, direct.message, direct.len()), (77, 5, None, 6000 - 24));
}
