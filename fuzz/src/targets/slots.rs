//! Sealed memory in the hands of whoever can write to it: it puts into any slot what it likes, of what was
//! ever there or not. Each side opens what docs/sealing.md says, and nothing else; after its first refusal
//! nothing at all.

use super::keys::{pair, small};
use crate::input::Input;
use secure_rdma::control::Role;
use secure_rdma::seal::{Attempts, SLOT_OVERHEAD, SealError, Slots, Suite, Writers};

const STEPS: usize = 200;
const SLOTS: u8 = 4;
const PAYLOAD: usize = 64;
const STRIDE: usize = PAYLOAD + SLOT_OVERHEAD;

/// A number's place in a stamp, and the mark of the server's.
const NUMBER: u64 = (1 << 63) - 1;

type Bytes = [u8; STRIDE];

/// What one side sealed into a slot.
struct Sealed {
    slot: u32,
    bytes: Bytes,
    fill: u8,
}

/// A side, and what it has to know.
struct Side {
    own: Role,
    slots: Slots,
    known: [Option<u64>; SLOTS as usize],
    /// The highest number that it has used or knows of.
    clock: u64,
    /// The highest number that it was told of.
    told: u64,
}

pub(super) fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let suite = input.pick(&Suite::ALL);
    let writers = input.pick(&[Writers::Client, Writers::Both]);
    let [client, server] = pair(suite, small(writers), bytes).map(|keys| keys.slots.expect("a region"));
    let mut sides = [Side::new(Role::Client, client), Side::new(Role::Server, server)];
    let mut memory = [[0; STRIDE]; SLOTS as usize];
    let mut past: Vec<Sealed> = Vec::new();
    for _ in 0..STEPS {
        if input.is_empty() {
            break;
        }
        let slot = u32::from(input.u8() % SLOTS);
        let place = &mut memory[slot as usize];
        let side = &mut sides[usize::from(input.flag())];
        let goes_on = match input.u8() % 8 {
            0..=2 => match side.seal(slot, input.u8(), writers) {
                Some(sealed) => {
                    *place = sealed.bytes;
                    past.push(sealed);
                    true
                }
                None => side.clock < NUMBER,
            },
            3 | 4 => side.open(slot, place, &past, writers),
            5 => {
                let at = usize::from(input.u8()) % past.len().max(1);
                *place = past.get(at).map_or([0; STRIDE], |sealed| sealed.bytes);
                true
            }
            6 => {
                place[usize::from(input.u8()) % STRIDE] ^= input.u8();
                true
            }
            _ => {
                let at = usize::from(input.u8()) % (past.len() + 1);
                let word = past.get(at).map_or_else(|| input.u64(), |sealed| stamp(&sealed.bytes));
                side.apply(slot, word, writers)
            }
        };
        if !goes_on {
            let refused = side.slots.seal(slot, &[0; PAYLOAD], &mut [0; STRIDE]);
            assert!(refused.is_err(), "after the first refusal nothing");
            break;
        }
    }
}

fn stamp(bytes: &Bytes) -> u64 {
    u64::from_be_bytes(*bytes.last_chunk().expect("a stamp"))
}

fn author(word: u64) -> Role {
    if word > NUMBER { Role::Server } else { Role::Client }
}

fn may_write(who: Role, writers: Writers) -> bool {
    who == Role::Client || writers == Writers::Both
}

impl Side {
    const fn new(own: Role, slots: Slots) -> Self {
        Self { own, slots, known: [None; SLOTS as usize], clock: 0, told: 0 }
    }

    /// Seals a slot full of `fill`; `None` if it may not.
    fn seal(&mut self, slot: u32, fill: u8, writers: Writers) -> Option<Sealed> {
        let mut bytes = [0; STRIDE];
        match self.slots.seal(slot, &[fill; PAYLOAD], &mut bytes) {
            Ok(()) => assert!(may_write(self.own, writers)),
            Err(SealError::NotWriter) => {
                assert!(!may_write(self.own, writers));
                return None;
            }
            Err(SealError::Exhausted) => {
                assert_eq!(self.clock, NUMBER);
                return None;
            }
            Err(error) => panic!("{error}"),
        }
        self.clock += 1;
        let word = stamp(&bytes);
        assert_eq!(
            (word & NUMBER, author(word)),
            (self.clock, self.own),
            "a number of its own, and a higher one"
        );
        self.known[slot as usize] = Some(word);
        assert_eq!(self.slots.newest(slot), Some(word));
        Some(Sealed { slot, bytes, fill })
    }

    /// Opens what is in `place`; whether it was allowed to.
    fn open(&mut self, slot: u32, place: &Bytes, past: &[Sealed], writers: Writers) -> bool {
        let genuine = past.iter().find(|sealed| sealed.slot == slot && sealed.bytes == *place);
        let known = self.known[slot as usize];
        let expected = match genuine {
            Some(Sealed { fill, .. }) => {
                let word = stamp(place);
                (Some(word) == known || self.is_news(slot, word, writers)).then_some(*fill)
            }
            None => (*place == [0; STRIDE] && known.is_none()).then_some(0),
        };
        let mut out = [0xee; PAYLOAD];
        let result = self.slots.open(slot, place, &mut out, &mut Attempts::once());
        match (expected, result) {
            (Some(fill), Ok(())) => {
                assert_eq!(out, [fill; PAYLOAD]);
                if genuine.is_some() {
                    self.manifest(slot, stamp(place));
                }
                true
            }
            (None, Err(error)) => {
                assert!(!error.to_string().is_empty());
                assert_eq!(out, [0; PAYLOAD], "nothing of it comes out");
                false
            }
            (expected, result) => panic!("expected {expected:?}, opened: {result:?}"),
        }
    }

    /// Is told of a slot; whether that can be true.
    fn apply(&mut self, slot: u32, word: u64, writers: Writers) -> bool {
        let number = word & NUMBER;
        let can_be = number > self.told && author(word) != self.own && may_write(author(word), writers);
        let manifest = [&slot.to_be_bytes()[..], &1_u32.to_be_bytes(), &word.to_be_bytes()].concat();
        let result = self.slots.apply(&manifest);
        assert_eq!(result.is_ok(), can_be, "{result:?}");
        if can_be {
            self.told = number;
            if self.is_news(slot, word, writers) {
                self.manifest(slot, word);
            }
            self.clock = self.clock.max(number);
            assert_eq!(self.slots.newest(slot), self.known[slot as usize]);
        }
        can_be
    }

    /// Whether the peer can have written that after what this side knows of.
    fn is_news(&self, slot: u32, word: u64, writers: Writers) -> bool {
        author(word) != self.own
            && may_write(author(word), writers)
            && self.known[slot as usize].is_none_or(|known| word & NUMBER > known & NUMBER)
    }

    fn manifest(&mut self, slot: u32, word: u64) {
        self.known[slot as usize] = Some(word);
        self.clock = self.clock.max(word & NUMBER);
    }
}
