//! What passes, written down as pcapng (draft-ietf-opsawg-pcapng): who opens such a file sees the packets as they were
//! on the wire, as far as a UDP socket knows.

use super::rx::Datagram;
use super::tx::{Marking, Outgoing};
use std::fs::File;
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// The longest packet, as an interface's description says it.
const LONGEST: u32 = 1 << 16;
/// LINKTYPE_RAW: packets begin with their IP header.
const RAW_IP: u16 = 101;
/// UDP's protocol number.
const UDP: u8 = 17;
/// Bytes of a UDP header.
const UDP_HEADER: usize = 8;
/// What most systems begin with; nobody says with what packets have arrived.
const HOP_LIMIT: u8 = 64;

/// An open capture file, and as which of its interfaces a device is shown.
///
/// Several processes may write to one file: each appends whole blocks, and the file's beginning is made once
/// ([`beginning`](Self::beginning)). The headers below a packet's payload are made anew. What a socket isn't told of
/// what arrives isn't as it was on the wire: the hop limit, the traffic class, and the IPv4 identification where
/// packets don't arrive as they were sent together.
#[derive(Clone, Debug)]
pub struct Capture(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    file: File,
    interface: u32,
    failed: fn(&io::Error),
    is_over: AtomicBool,
}

impl Capture {
    /// Goes on in `file`, which was opened to append, as the interface with that number. If nothing more can be
    /// written, `failed` is told so once.
    #[must_use]
    pub fn new(file: File, interface: u32, failed: fn(&io::Error)) -> Self {
        Self(Arc::new(Inner { file, interface, failed, is_over: AtomicBool::new(false) }))
    }

    /// The beginning of a file: a section with interfaces of these names.
    #[must_use]
    pub fn beginning<'a>(interfaces: impl IntoIterator<Item = &'a str>) -> Vec<u8> {
        let mut bytes = Vec::new();
        block(&mut bytes, 0x0a0d_0d0a, |body| {
            body.extend(0x1a2b_3c4d_u32.to_ne_bytes());
            body.extend(1_u16.to_ne_bytes());
            body.extend(0_u16.to_ne_bytes());
            // The section's length isn't known.
            body.extend(u64::MAX.to_ne_bytes());
        });
        for name in interfaces {
            block(&mut bytes, 1, |body| {
                body.extend(RAW_IP.to_ne_bytes());
                body.extend([0; 2]);
                body.extend(LONGEST.to_ne_bytes());
                option(body, 2, name.as_bytes());
                // Timestamps are in nanoseconds.
                option(body, 9, &[9]);
                option(body, 0, &[]);
            });
        }
        bytes
    }

    /// These bytes of a run have left from `local` together.
    pub(super) fn sent(&self, local: SocketAddr, run: &Outgoing<'_>, bytes: &[u8]) {
        let datagrams = (0..).zip(bytes.chunks(run.segment));
        self.write(
            true,
            datagrams.map(|(id, bytes)| Packet { from: local, to: run.to, marking: run.marking, id, bytes }),
        );
    }

    /// These datagrams have arrived at `local`.
    pub(super) fn received<'a>(&self, local: SocketAddr, datagrams: impl Iterator<Item = Datagram<'a>>) {
        let marking = Marking::default();
        self.write(
            false,
            datagrams.map(|it| Packet { from: it.src, to: local, marking, id: it.index, bytes: it.bytes }),
        );
    }

    fn write<'a>(&self, is_outbound: bool, packets: impl Iterator<Item = Packet<'a>>) {
        let Inner { file, interface, failed, is_over } = &*self.0;
        if is_over.load(Ordering::Relaxed) {
            return;
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let now = u64::try_from(now).unwrap_or(u64::MAX);
        let mut blocks = Vec::new();
        for packet in packets {
            block(&mut blocks, 6, |body| {
                body.extend(interface.to_ne_bytes());
                for half in [now >> 32, now & 0xffff_ffff] {
                    body.extend(u32::try_from(half).unwrap_or(u32::MAX).to_ne_bytes());
                }
                let lengths = body.len();
                body.extend([0; 8]);
                let begin = body.len();
                packet.put(body);
                let len = u32::try_from(body.len() - begin).unwrap_or(u32::MAX).to_ne_bytes();
                body[lengths..begin].copy_from_slice(&[len, len].concat());
                pad(body);
                let direction: u32 = if is_outbound { 2 } else { 1 };
                option(body, 2, &direction.to_ne_bytes());
                option(body, 0, &[]);
            });
        }
        // In one call: what another process appends comes before it, or behind it.
        if let Err(error) = (&*file).write_all(&blocks)
            && !is_over.swap(true, Ordering::Relaxed)
        {
            failed(&error);
        }
    }
}

/// A datagram, and what its headers say.
struct Packet<'a> {
    from: SocketAddr,
    to: SocketAddr,
    marking: Marking,
    id: u16,
    bytes: &'a [u8],
}

impl Packet<'_> {
    /// Appends it, from the IP header on.
    fn put(&self, to: &mut Vec<u8>) {
        let Self { marking, bytes, .. } = self;
        // A datagram's length fits, or it were none.
        let len = u16::try_from(UDP_HEADER + bytes.len()).unwrap_or(u16::MAX);
        let hops = marking.hop_limit.map_or(HOP_LIMIT, Into::into);
        let begin = to.len();
        if let (IpAddr::V4(_), IpAddr::V4(_)) = (self.from.ip(), self.to.ip()) {
            to.extend([0x45, marking.traffic_class]);
            to.extend(len.saturating_add(20).to_be_bytes());
            to.extend(self.id.to_be_bytes());
            // Don't fragment.
            to.extend([0x40, 0, hops, UDP, 0, 0]);
        } else {
            to.extend((6 << 28 | u32::from(marking.traffic_class) << 20).to_be_bytes());
            to.extend(len.to_be_bytes());
            to.extend([UDP, hops]);
        }
        let addresses = to.len();
        for address in [self.from.ip(), self.to.ip()] {
            match address {
                IpAddr::V4(address) => to.extend(address.octets()),
                IpAddr::V6(address) => to.extend(address.octets()),
            }
        }
        if to[begin] == 0x45 {
            let sum = checksum([&to[begin..]]).to_be_bytes();
            to[begin + 10..begin + 12].copy_from_slice(&sum);
        }
        let udp = to.len();
        for field in [self.from.port(), self.to.port(), len, 0] {
            to.extend(field.to_be_bytes());
        }
        let pseudo = [&to[addresses..udp], &[0, UDP], &len.to_be_bytes()[..], &to[udp..], bytes];
        // 0 would say that there is none.
        let sum = Some(checksum(pseudo)).filter(|sum| *sum != 0).unwrap_or(u16::MAX);
        to[udp + 6..udp + 8].copy_from_slice(&sum.to_be_bytes());
        to.extend(*bytes);
    }
}

/// The Internet checksum (RFC 1071) of these bytes one behind the other; only the last part's length may be odd.
fn checksum<const N: usize>(parts: [&[u8]; N]) -> u16 {
    let word = |pair: &[u8]| u64::from(pair[0]) << 8 | pair.get(1).map_or(0, |byte| u64::from(*byte));
    let mut sum: u64 = parts.iter().flat_map(|part| part.chunks(2)).map(word).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(u16::MAX)
}

/// Appends a block: its type, its length before and behind the body.
fn block(to: &mut Vec<u8>, kind: u32, body: impl FnOnce(&mut Vec<u8>)) {
    let begin = to.len();
    to.extend(kind.to_ne_bytes());
    to.extend([0; 4]);
    body(to);
    let len = u32::try_from(to.len() - begin + 4).unwrap_or(u32::MAX).to_ne_bytes();
    to[begin + 4..begin + 8].copy_from_slice(&len);
    to.extend(len);
}

/// Appends an option of a block; the last has the code 0.
fn option(to: &mut Vec<u8>, code: u16, value: &[u8]) {
    to.extend(code.to_ne_bytes());
    to.extend(u16::try_from(value.len()).unwrap_or(u16::MAX).to_ne_bytes());
    to.extend(value);
    pad(to);
}

/// Blocks, and what is in them, begin at multiples of 4 bytes.
fn pad(to: &mut Vec<u8>) {
    to.resize(to.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::super::testing::loopbacks;
    use super::super::{RxBatch, Socket, TxBatch};
    use super::*;
    use std::sync::atomic::AtomicUsize;
    use std::time::{Duration, Instant};

    fn no_failure(error: &io::Error) {
        panic!("{error}");
    }

    fn append(path: &std::path::Path) -> File {
        std::fs::OpenOptions::new().append(true).open(path).unwrap()
    }

    /// The blocks of a file: their types and bodies.
    fn blocks(mut bytes: &[u8]) -> Vec<(u32, &[u8])> {
        let word = |at: &[u8]| u32::from_ne_bytes(at[..4].try_into().unwrap());
        let mut found = Vec::new();
        while !bytes.is_empty() {
            let len = word(&bytes[4..]) as usize;
            assert_eq!((len % 4, word(&bytes[len - 4..]) as usize), (0, len));
            found.push((word(bytes), &bytes[8..len - 4]));
            bytes = &bytes[len..];
        }
        found
    }

    #[test]
    fn what_leaves_and_what_arrives_is_in_the_file_with_the_headers_of_the_wire() {
        for address in loopbacks() {
            let place = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(place.path(), Capture::beginning(["one", "two"])).unwrap();
            let [mut from, mut to] = [(); 2].map(|()| Socket::bind((address, 0).into()).unwrap());
            from.capture(Some(Capture::new(append(place.path()), 0, no_failure)));
            to.capture(Some(Capture::new(append(place.path()), 1, no_failure)));
            let mut batch = TxBatch::new();
            for number in 1..=3_u8 {
                batch.reserve()[..101].fill(number);
                batch.commit(101, to.local_addr(), |_, id| id.into());
            }
            from.send(&mut batch, &mut |datagram, _, id| super::super::put_icrc(datagram, |_| id.into()));
            let (mut batch, deadline) = (RxBatch::new(), Instant::now() + Duration::from_secs(60));
            let mut arrived = 0;
            while arrived < 3 && Instant::now() < deadline {
                arrived += to.recv(&mut batch).datagrams;
            }
            let written = std::fs::read(place.path()).unwrap();
            let blocks = blocks(&written);
            let kinds: Vec<_> = blocks.iter().map(|(kind, _)| *kind).collect();
            assert_eq!(kinds, [0x0a0d_0d0a, 1, 1, 6, 6, 6, 6, 6, 6]);
            for (at, (_, body)) in blocks[3..].iter().enumerate() {
                let (interface, number) = (at / 3, at % 3 + 1);
                assert_eq!(body[..4], u32::try_from(interface).unwrap().to_ne_bytes());
                let header = if address.is_ipv4() { 20 } else { 40 };
                let len = header + UDP_HEADER + 101 + 4;
                assert_eq!(body[12..16], u32::try_from(len).unwrap().to_ne_bytes());
                let packet = &body[20..20 + len];
                let udp = &packet[header..];
                assert_eq!(udp[..2], from.local_addr().port().to_be_bytes());
                assert_eq!(udp[2..4], to.local_addr().port().to_be_bytes());
                assert_eq!(udp[8..109], [u8::try_from(number).unwrap(); 101]);
                // The ICRC stands for the IP identification here: both say the same.
                if address.is_ipv4() && interface == 0 {
                    assert_eq!(packet[5], udp[109]);
                }
                if address.is_ipv4() {
                    assert_eq!(checksum([&packet[..20]]), 0);
                }
                let addresses = if address.is_ipv4() { 12..20 } else { 8..40 };
                let sum = checksum([&packet[addresses], &[0, UDP], &udp[4..6], udp]);
                assert_eq!(sum, 0, "of UDP");
                let direction = if interface == 0 { 2_u32 } else { 1 };
                assert_eq!(body[20 + len.next_multiple_of(4) + 4..][..4], direction.to_ne_bytes());
            }
        }
    }

    #[test]
    fn a_file_that_takes_nothing_more_is_told_of_once() {
        static TOLD: AtomicUsize = AtomicUsize::new(0);
        let told = |_: &io::Error| {
            TOLD.fetch_add(1, Ordering::Relaxed);
        };
        // Not opened to be written.
        let place = tempfile::NamedTempFile::new().unwrap();
        let capture = Capture::new(File::open(place.path()).unwrap(), 0, told);
        let at = SocketAddr::from(([127, 0, 0, 1], 4791));
        for _ in 0..3 {
            let mut bytes = [7];
            capture.received(at, [Datagram { src: at, index: 0, bytes: &mut bytes }].into_iter());
        }
        assert_eq!(TOLD.load(Ordering::Relaxed), 1);
    }
}
