//! Sealing packets.

use crate::Spi;
use crate::inbound::unwrap;
use crate::key::{Key, associated};
use crate::layout::{
    HEADROOM, ICV, INNER_UDP, IV, IV_END, NEXT_HEADER, ROCE_PORT, SEQUENCE, SPI, TRAILER, padding, sealed_len,
};
use core::fmt;
use core::ops::Deref;
use core::sync::atomic::{AtomicU64, Ordering};
use std::net::Ipv6Addr;

/// Numbers that a [`Sealer`] takes at a time, so that threads that seal at once don't share a cache line for every
/// packet. Those left over are never used.
const BLOCK: u64 = 32;

/// The number from which on nothing is sealed, whatever limit was asked for.
const LAST: u64 = 1 << 63;

/// Packets after which an SA should have a successor: well below where AES-GCM's bounds weaken (RFC 9001, appendix
/// B.1.1, has 2^25 packets of up to 2 KiB for an advantage of 2^-57; these are twice as long).
pub const REKEY_AFTER: u64 = 1 << 24;

/// The UDP header inside, as it stands in front of the RoCEv2 packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inner {
    /// The source port, which the packet's ICRC covers.
    pub source_port: u16,
    /// The addresses of an IPv6 path whose far end is a kernel, which checks the inner checksum. Elsewhere it is 0:
    /// UDP over IPv4 needs none, and between two of these the ICV proves more.
    pub checksum: Option<(Ipv6Addr, Ipv6Addr)>,
}

/// Why a packet wasn't sealed. It must not be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// Every number that the SA may use has been used.
    #[error("the SA has used all of its {0} numbers: it needs a new key")]
    Exhausted(u64),
    /// The datagram's length isn't one that the packet can be padded to.
    #[error("a packet of {packet} bytes can't be sealed to a datagram of {datagram}")]
    Length {
        /// Bytes of the packet.
        packet: usize,
        /// Bytes of the datagram.
        datagram: usize,
    },
    /// What should be sealed anew isn't a datagram that this SA has sealed.
    #[error("a datagram that another SA has sealed, or none, can't be sealed anew")]
    Foreign,
    /// The cryptographic library failed.
    #[error("the cryptographic library failed to seal a packet")]
    Library,
}

/// An SA for packets that leave. Threads may seal at the same time, each with a [`Sealer`].
pub struct Outbound {
    spi: Spi,
    key: Key,
    inner: Inner,
    /// The next number that no sealer has taken.
    next: AtomicU64,
    /// The first number that isn't used any more.
    end: u64,
}

impl fmt::Debug for Outbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbound")
            .field("spi", &self.spi)
            .field("taken", &self.taken())
            .finish_non_exhaustive()
    }
}

impl Outbound {
    /// An SA that has sealed nothing yet. The key must be this SA's alone, in this direction alone.
    #[must_use]
    pub fn new(spi: Spi, key: Key, inner: Inner) -> Self {
        Self::with_numbers(spi, key, inner, 1, LAST)
    }

    /// The same with packets numbered from `first` (at least 1) and before `end`. For tests near 2^32, and for
    /// limits of the caller's own.
    #[must_use]
    pub fn with_numbers(spi: Spi, key: Key, inner: Inner, first: u64, end: u64) -> Self {
        Self { spi, key, inner, next: AtomicU64::new(first.max(1)), end: end.min(LAST) }
    }

    /// The SPI, which the receiver chose.
    #[must_use]
    pub fn spi(&self) -> Spi {
        self.spi
    }

    /// The UDP header inside.
    #[must_use]
    pub fn inner(&self) -> Inner {
        self.inner
    }

    /// How many numbers have been taken, used or not: when it reaches [`REKEY_AFTER`], it is time for a successor.
    #[must_use]
    pub fn taken(&self) -> u64 {
        self.next.load(Ordering::Relaxed).min(self.end) - 1
    }

    /// Numbers packets for one thread, as [`Sealer::new`] does.
    #[must_use]
    pub fn sealer(&self) -> Sealer<&Self> {
        Sealer::new(self)
    }

    fn reseal(
        &self,
        number: u64,
        datagram: &mut [u8],
        change: impl FnOnce(&mut [u8]),
    ) -> Result<u64, SealError> {
        if Spi::of(datagram) != Some(self.spi) {
            return Err(SealError::Foreign);
        }
        let (header, text) = datagram.split_first_chunk_mut::<IV_END>().ok_or(SealError::Foreign)?;
        let (text, icv) = text.split_last_chunk_mut::<ICV>().ok_or(SealError::Foreign)?;
        let iv: [u8; IV_END - IV] = *header.last_chunk().ok_or(SealError::Foreign)?;
        let old = associated(self.spi.number(), u64::from_be_bytes(iv));
        if !self.key.open(iv, old, text, icv) {
            return Err(SealError::Foreign);
        }
        let (_, packet) = unwrap(text).ok_or(SealError::Foreign)?;
        change(packet);
        let inner_len = INNER_UDP + packet.len();
        self.inner.write(&mut text[..inner_len]).ok_or(SealError::Foreign)?;
        self.encrypt(number, header, text, icv)?;
        Ok(number)
    }

    /// Encrypts what stands between header and ICV, and writes both.
    fn encrypt(
        &self,
        number: u64,
        header: &mut [u8; IV_END],
        text: &mut [u8],
        icv: &mut [u8; ICV],
    ) -> Result<(), SealError> {
        let iv = number.to_be_bytes();
        header[SPI..SEQUENCE].copy_from_slice(&self.spi.number().to_be_bytes());
        header[SEQUENCE..IV].copy_from_slice(&iv[4..]);
        header[IV..].copy_from_slice(&iv);
        *icv = self.key.seal(iv, associated(self.spi.number(), number), text).ok_or(SealError::Library)?;
        Ok(())
    }

    /// A block of numbers that nobody else has; empty when there are none left.
    fn block(&self) -> (u64, u64) {
        // A compare-and-swap, so that the counter never passes its end, however often it is tried again.
        let taken = self.next.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |next| {
            (next < self.end).then(|| next.saturating_add(BLOCK).min(self.end))
        });
        match taken {
            Ok(first) => (first, first.saturating_add(BLOCK).min(self.end)),
            Err(end) => (end, end),
        }
    }
}

/// Seals packets, each with a number that was never used before.
#[derive(Debug)]
pub struct Sealer<S> {
    sa: S,
    next: u64,
    end: u64,
}

impl<S: Deref<Target = Outbound>> Sealer<S> {
    /// Numbers packets for one thread, or for one queue pair. It has at most a few dozen numbers in hand; those that it
    /// hasn't used when it is dropped are never used.
    #[must_use]
    pub fn new(sa: S) -> Self {
        Self { sa, next: 0, end: 0 }
    }

    /// The SA.
    #[must_use]
    pub fn sa(&self) -> &Outbound {
        &self.sa
    }

    /// Seals the packet of `packet_len` bytes, BTH through ICRC, that stands at [`HEADROOM`] in `datagram`, padded so
    /// that all of `datagram` is filled: at least [`sealed_len`] bytes, at most 252 more, a multiple of four.
    /// Returns the packet's number.
    ///
    /// A packet that is sent again is sealed again: the same bytes under the same number may be sent twice, other
    /// bytes never.
    ///
    /// # Errors
    /// Nothing may be sent then. A datagram of the wrong length is as it was.
    pub fn seal(&mut self, datagram: &mut [u8], packet_len: usize) -> Result<u64, SealError> {
        let wrong = SealError::Length { packet: packet_len, datagram: datagram.len() };
        let padding = padding(packet_len, datagram.len()).ok_or(wrong)?;
        let number = self.number()?;
        let (header, text) = datagram.split_first_chunk_mut::<IV_END>().ok_or(wrong)?;
        let (text, icv) = text.split_last_chunk_mut::<ICV>().ok_or(wrong)?;
        let (inner, trailer) = text.split_at_mut(INNER_UDP + packet_len);
        self.sa.inner.write(inner).ok_or(wrong)?;
        fill(trailer, padding);
        self.sa.encrypt(number, header, text, icv)?;
        Ok(number)
    }

    /// Opens a datagram that this SA has sealed, lets `change` change its packet, BTH through ICRC, and seals it under
    /// a new number, which it returns. For a peer that checks the ICRC, which covers the IP identification: where a
    /// datagram leaves with another one than expected.
    ///
    /// # Errors
    /// Nothing may be sent then; all that was in the datagram is wiped.
    pub fn reseal(&mut self, datagram: &mut [u8], change: impl FnOnce(&mut [u8])) -> Result<u64, SealError> {
        let resealed = self.number().and_then(|number| self.sa.reseal(number, datagram, change));
        if resealed.is_err() {
            datagram.fill(0);
        }
        resealed
    }

    fn number(&mut self) -> Result<u64, SealError> {
        if self.next == self.end {
            (self.next, self.end) = self.sa.block();
            if self.next == self.end {
                return Err(SealError::Exhausted(self.sa.end - 1));
            }
        }
        let number = self.next;
        self.next += 1;
        Ok(number)
    }
}

/// Padding 1, 2, 3, …, its length, and the next header (RFC 4303, section 2.4).
fn fill(trailer: &mut [u8], padding: usize) {
    debug_assert_eq!(trailer.len(), padding + TRAILER);
    for (byte, value) in trailer.iter_mut().zip(1..=u8::MAX) {
        *byte = value;
    }
    if let Some([len, next]) = trailer.last_chunk_mut() {
        // At most 255, or `padding` would have refused.
        *len = u8::try_from(padding).unwrap_or(u8::MAX);
        *next = NEXT_HEADER;
    }
}

impl Inner {
    /// Writes the header in front of the packet; `None` if the length doesn't fit it.
    fn write(&self, datagram: &mut [u8]) -> Option<()> {
        let len = u16::try_from(datagram.len()).ok()?;
        let header = datagram.first_chunk_mut::<INNER_UDP>()?;
        header[..2].copy_from_slice(&self.source_port.to_be_bytes());
        header[2..4].copy_from_slice(&ROCE_PORT.to_be_bytes());
        header[4..6].copy_from_slice(&len.to_be_bytes());
        header[6..].fill(0);
        if let Some((source, destination)) = self.checksum {
            let sum = checksum(source, destination, datagram);
            datagram.get_mut(6..8)?.copy_from_slice(&sum.to_be_bytes());
        }
        Some(())
    }
}

/// UDP's checksum over IPv6 (RFC 8200, section 8.1), never 0.
fn checksum(source: Ipv6Addr, destination: Ipv6Addr, datagram: &[u8]) -> u16 {
    let words = |bytes: &[u8]| -> u64 {
        bytes
            .chunks(2)
            .map(|word| u64::from(word[0]) << 8 | word.get(1).map_or(0, |low| u64::from(*low)))
            .sum()
    };
    let mut sum = words(&source.octets())
        + words(&destination.octets())
        + datagram.len() as u64
        + u64::from(NEXT_HEADER)
        + words(datagram);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let folded = u16::try_from(sum).unwrap_or(u16::MAX);
    if folded == u16::MAX { u16::MAX } else { !folded }
}

/// The length to seal packets of a run to, so that segmentation offload takes them as one: that of the longest.
/// `None` if the shortest can't be padded so far.
#[must_use]
pub fn common_len(packets: impl Clone + IntoIterator<Item = usize>) -> Option<usize> {
    let least = packets.clone().into_iter().min()?;
    let len = sealed_len(packets.into_iter().max()?);
    padding(least, len).map(|_| len)
}

const _: () = assert!(HEADROOM == IV_END + INNER_UDP, "the inner header ends where the packet begins");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::Algorithm;
    use std::collections::HashSet;

    fn sa(first: u64, end: u64) -> Outbound {
        let key = Key::new(Algorithm::Aes128Gcm, &[3; 20]).unwrap();
        let inner = Inner { source_port: 0xc000, checksum: None };
        Outbound::with_numbers(Spi::new(0x1000).unwrap(), key, inner, first, end)
    }

    fn seal(sealer: &mut Sealer<&Outbound>) -> Result<u64, SealError> {
        let mut datagram = [0; 84];
        let number = sealer.seal(&mut datagram, 40)?;
        assert_eq!(datagram[4..8], number.to_be_bytes()[4..], "the low half is on the wire");
        assert_eq!(datagram[8..16], number.to_be_bytes(), "the IV is the number");
        Ok(number)
    }

    #[test]
    fn no_number_is_used_twice_however_many_threads_seal() {
        let sa = sa(1, LAST);
        let numbers: Vec<Vec<u64>> = std::thread::scope(|scope| {
            let thread = || {
                scope.spawn(|| {
                    let mut numbers = Vec::new();
                    // Sealers come and go, as batches do.
                    for batch in 0..200 {
                        let mut sealer = sa.sealer();
                        numbers.extend((0..batch % 70).map(|_| seal(&mut sealer).unwrap()));
                    }
                    numbers
                })
            };
            let threads: Vec<_> = (0..4).map(|_| thread()).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let all: usize = numbers.iter().map(Vec::len).sum();
        let different: HashSet<u64> = numbers.into_iter().flatten().collect();
        assert_eq!(different.len(), all);
        assert!(!different.contains(&0));
        assert!(sa.taken() >= all as u64);
    }

    #[test]
    fn an_sa_whose_numbers_are_used_up_seals_nothing_more() {
        let sa = sa(90, 100);
        let mut first = sa.sealer();
        let numbers: Vec<u64> = (0..10).map(|_| seal(&mut first).unwrap()).collect();
        assert_eq!(numbers, (90..100).collect::<Vec<_>>());
        for _ in 0..3 {
            assert_eq!(seal(&mut first), Err(SealError::Exhausted(99)));
            assert_eq!(seal(&mut sa.sealer()), Err(SealError::Exhausted(99)));
        }
        assert_eq!(sa.taken(), 99);
    }

    #[test]
    fn a_length_that_padding_cannot_make_costs_no_number() {
        let sa = sa(1, LAST);
        let mut sealer = sa.sealer();
        for len in [0, 40, 83, 85, 84 + 256] {
            let error = sealer.seal(&mut vec![0; len], 40).unwrap_err();
            assert_eq!(error, SealError::Length { packet: 40, datagram: len });
        }
        assert_eq!(seal(&mut sealer), Ok(1));
    }

    #[test]
    fn what_is_sealed_anew_has_a_new_number_and_the_changed_packet() {
        let sa = sa(1, LAST);
        let mut into = crate::Inbound::new(sa.spi(), Key::new(Algorithm::Aes128Gcm, &[3; 20]).unwrap(), 64);
        let mut sealer = Sealer::new(&sa);
        let mut datagram = [7; 88];
        assert_eq!(sealer.seal(&mut datagram, 40), Ok(1));
        let mut first = datagram;
        assert_eq!(sealer.reseal(&mut datagram, |packet| packet[36..].fill(9)), Ok(2));
        let second = into.open(&mut datagram).unwrap();
        assert_eq!((second.number, &second.packet[30..40]), (2, &[7, 7, 7, 7, 7, 7, 9, 9, 9, 9][..]));
        assert_eq!(*into.open(&mut first).unwrap().packet, [7; 40], "the first is still what it was");
    }

    #[test]
    fn what_another_sa_has_sealed_or_nobody_is_wiped_instead_of_sealed_anew() {
        let (one, other) = (sa(1, LAST), sa(1, 2));
        let mut datagram = [7; 84];
        one.sealer().seal(&mut datagram, 40).unwrap();
        datagram[30] ^= 1;
        let untouched = |packet: &mut [u8]| panic!("{packet:?}");
        assert_eq!(one.sealer().reseal(&mut datagram, untouched), Err(SealError::Foreign));
        assert_eq!(datagram, [0; 84]);
        assert_eq!(one.sealer().reseal(&mut [3; 5], untouched), Err(SealError::Foreign));
        // No number is left: nothing in clear may stay behind either.
        let mut last = other.sealer();
        last.seal(&mut datagram, 40).unwrap();
        assert_eq!(last.reseal(&mut datagram, untouched), Err(SealError::Exhausted(1)));
        assert_eq!(datagram, [0; 84]);
    }

    #[test]
    fn packets_of_a_run_get_the_longest_ones_length() {
        // A WRITE's FIRST packet carries an address and key, 16 bytes, that the others don't.
        assert_eq!(common_len([12 + 4096 + 4, 12 + 16 + 4096 + 4]), Some(sealed_len(4128)));
        assert_eq!(common_len([20, 4128]), None, "padding has 255 bytes at most");
        assert_eq!(common_len([]), None);
    }

    #[test]
    fn an_inner_checksum_over_ipv6_adds_up() {
        let (source, destination) = (Ipv6Addr::LOCALHOST, "fd00::2".parse().unwrap());
        let inner = Inner { source_port: 0xc001, checksum: Some((source, destination)) };
        for len in [0, 1, 2, 41, 4096] {
            let mut datagram = vec![0xa7; INNER_UDP + len];
            inner.write(&mut datagram).unwrap();
            // Over all of it with the checksum in place, the sum is all ones.
            let sum = checksum(source, destination, &datagram);
            assert_eq!(sum, u16::MAX, "{len}");
        }
    }
}
