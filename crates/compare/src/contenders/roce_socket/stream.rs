//! Messages in one direction, in packets of the largest path MTU, from one memory into another. Nothing is
//! held back for a slower receiver, and only what arrives counts, as with bare UDP.

use super::{End, headers};
use crate::clock::{Clock, Meter};
use crate::ends::{self, Meeting, Place};
use crate::failure::Failure;
use crate::sample::Sample;
use crate::spin::Spin;
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use rocev2::wire::{Opcode, Operation, Packet, Reth};
use std::net::SocketAddr;

/// Payload of a full packet.
const PATH_MTU: usize = 4096;

/// Bytes of a sealed fragment, as long as those of sessions: its number, text and tag.
const FRAGMENT: usize = 15 * PATH_MTU;
const NUMBER: usize = 8;
const TAG: usize = 16;

/// What is sent of a message.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Stream {
    /// Packets of a SEND.
    Send,
    /// Those of a WRITE, the first of which is longer than the others.
    Write,
    /// SENDs of sealed fragments.
    Sealed,
}

impl Stream {
    pub(super) fn run(
        self,
        size: usize,
        clock: &Clock,
        place: Place<'_>,
        esp: bool,
    ) -> Result<Sample, Failure> {
        let server = |meeting: Meeting<SocketAddr>| {
            let mut end = End::meet(&meeting, esp)?;
            let mut memory = Memory::new(if self == Self::Sealed { FRAGMENT } else { size })?;
            let (mut meter, mut spin) = (Meter::new(clock, size), Spin::default());
            loop {
                let mut bytes = 0;
                let some = end.take(|packet| bytes += self.arrived(&mut memory, &packet))? > 0;
                if some {
                    spin = Spin::default();
                } else {
                    spin.pause();
                }
                if bytes > 0 && !meter.arrived(bytes) || !some && clock.over() {
                    return meter.sample();
                }
            }
        };
        let client = |meeting: Meeting<SocketAddr>| {
            let mut end = End::meet(&meeting, esp)?;
            let (message, mut sealed) = (vec![0x5a; size], vec![0; FRAGMENT]);
            let mut number = 0;
            let key = key()?;
            clock.start();
            while !clock.over() {
                if self != Self::Sealed {
                    self.put(&mut end, &message)?;
                    continue;
                }
                for text in message.chunks(FRAGMENT - NUMBER - TAG) {
                    number += 1;
                    self.put(&mut end, seal(&key, number, text, &mut sealed)?)?;
                }
            }
            Ok(())
        };
        Ok(ends::run(place, server, client)?.0)
    }

    /// Adds the packets of a message, and sends what fills a batch.
    fn put(self, end: &mut End, message: &[u8]) -> Result<(), Failure> {
        let mut packets = message.chunks(PATH_MTU).enumerate().peekable();
        while let Some((at, payload)) = packets.next() {
            let last = packets.peek().is_none();
            let mut headers = headers(self.operation(at == 0, last));
            if self == Self::Write && at == 0 {
                headers.reth = Some(Reth { va: 0, rkey: 1, len: u32::try_from(message.len())? });
            }
            end.put(&headers, payload)?;
            if end.batch.is_full() {
                end.flush()?;
            }
        }
        Ok(())
    }

    /// Takes a packet; how many bytes of messages are there because of it.
    fn arrived(self, memory: &mut Memory, packet: &Packet<'_>) -> usize {
        let Opcode::Known { operation, .. } = packet.headers.bth.opcode else { return 0 };
        let bytes = memory.put(packet.payload, operation.is_first_or_only());
        match self {
            Self::Send | Self::Write => bytes,
            Self::Sealed if operation.is_last_or_only() => memory.open(),
            Self::Sealed => 0,
        }
    }

    fn operation(self, first: bool, last: bool) -> Operation {
        match (self, first, last) {
            (Self::Write, true, true) => Operation::WriteOnly,
            (Self::Write, true, false) => Operation::WriteFirst,
            (Self::Write, false, true) => Operation::WriteLast,
            (Self::Write, false, false) => Operation::WriteMiddle,
            (_, true, true) => Operation::SendOnly,
            (_, true, false) => Operation::SendFirst,
            (_, false, true) => Operation::SendLast,
            (_, false, false) => Operation::SendMiddle,
        }
    }
}

/// Where a message arrives.
struct Memory {
    bytes: Vec<u8>,
    end: usize,
    key: LessSafeKey,
}

impl Memory {
    fn new(size: usize) -> Result<Self, Failure> {
        Ok(Self { bytes: vec![0; size], end: 0, key: key()? })
    }

    /// Puts a packet's payload behind that of the one before, and returns how many bytes that were: none
    /// where there is no room, since the first packet of a message was lost.
    fn put(&mut self, payload: &[u8], first: bool) -> usize {
        if first {
            self.end = 0;
        }
        let Some(place) = self.bytes.get_mut(self.end..self.end + payload.len()) else { return 0 };
        place.copy_from_slice(payload);
        self.end += payload.len();
        payload.len()
    }

    /// Opens the fragment that has arrived; the length of its text, or 0 if packets of it are missing.
    fn open(&mut self) -> usize {
        let fragment = self.bytes.get_mut(..self.end).and_then(|bytes| bytes.split_first_chunk_mut());
        let Some((number, rest)) = fragment else { return 0 };
        let nonce = nonce(u64::from_be_bytes(*number));
        self.key.open_in_place(nonce, Aad::empty(), rest).map_or(0, |text| text.len())
    }
}

/// Seals `text` into the beginning of `out`, behind `number`.
fn seal<'a>(key: &LessSafeKey, number: u64, text: &[u8], out: &'a mut [u8]) -> Result<&'a [u8], Failure> {
    let sealed = out.get_mut(..NUMBER + text.len() + TAG).ok_or("a text longer than a fragment's")?;
    let (place, rest) = sealed.split_at_mut(NUMBER);
    place.copy_from_slice(&number.to_be_bytes());
    let (ciphertext, tag) = rest.split_at_mut(text.len());
    key.seal_out_of_place_scatter(nonce(number), Aad::empty(), text, ciphertext, &[], tag)?;
    Ok(sealed)
}

/// A key that everybody knows: what is sealed here is no secret.
fn key() -> Result<LessSafeKey, Failure> {
    Ok(LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &[7; 32])?))
}

fn nonce(number: u64) -> Nonce {
    let mut bytes = [0; 12];
    bytes[4..].copy_from_slice(&number.to_be_bytes());
    Nonce::assume_unique_for_key(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fragment_counts_once_all_of_it_has_arrived() {
        let text = vec![0x5a; 10_000];
        let mut out = vec![0; FRAGMENT];
        let sealed = seal(&key().unwrap(), 9, &text, &mut out).unwrap();
        let mut memory = Memory::new(FRAGMENT).unwrap();
        for (at, payload) in sealed.chunks(PATH_MTU).enumerate() {
            memory.put(payload, at == 0);
        }
        assert_eq!(memory.open(), text.len());
        for (at, payload) in sealed.chunks(PATH_MTU).enumerate().filter(|(at, _)| *at != 1) {
            memory.put(payload, at == 0);
        }
        assert_eq!(memory.open(), 0, "the second packet was lost");
    }
}
