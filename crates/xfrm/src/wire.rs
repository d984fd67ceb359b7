//! Netlink messages: a header, a C structure, and attributes (`linux/netlink.h`). Numbers are in this machine's byte
//! order, but for ports, SPIs and addresses.

use zeroize::Zeroizing;

/// Bytes of `nlmsghdr`.
const HEADER: usize = 16;

/// Bytes of `nlattr`.
const ATTRIBUTE: usize = 4;

/// What messages and attributes are aligned to.
const ALIGN: usize = 4;

/// Attributes' kinds without the two flags.
const KIND_MASK: u16 = 0x3fff;

/// Bytes of the longest message that is sent, so that a key isn't left behind in a buffer that grew.
const LONGEST: usize = 1024;

/// `NLMSG_ERROR`, which a confirmation is too.
pub(crate) const ERROR: u16 = 2;
/// `NLMSG_DONE`: the end of a dump.
pub(crate) const DONE: u16 = 3;

/// A message that is being written. It is wiped when it is dropped.
pub(crate) struct Message {
    bytes: Zeroizing<Vec<u8>>,
}

impl Message {
    /// One of a kind (`XFRM_MSG_…`).
    pub(crate) fn new(kind: u16) -> Self {
        let mut bytes = Zeroizing::new(Vec::with_capacity(LONGEST));
        bytes.extend([0; HEADER]);
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        Self { bytes }
    }

    pub(crate) fn put(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.bytes.extend(bytes.as_ref());
        self
    }

    pub(crate) fn u8(&mut self, value: u8) -> &mut Self {
        self.put([value])
    }

    pub(crate) fn u16(&mut self, value: u16) -> &mut Self {
        self.put(value.to_ne_bytes())
    }

    pub(crate) fn u32(&mut self, value: u32) -> &mut Self {
        self.put(value.to_ne_bytes())
    }

    pub(crate) fn u64(&mut self, value: u64) -> &mut Self {
        self.put(value.to_ne_bytes())
    }

    pub(crate) fn zeros(&mut self, count: usize) -> &mut Self {
        self.bytes.extend(core::iter::repeat_n(0, count));
        self
    }

    /// An attribute with what `content` writes.
    pub(crate) fn attribute(&mut self, kind: u16, content: impl FnOnce(&mut Self)) -> &mut Self {
        let start = self.bytes.len();
        self.u16(0).u16(kind);
        content(self);
        let len = u16::try_from(self.bytes.len() - start).unwrap_or(u16::MAX);
        self.bytes[start..start + 2].copy_from_slice(&len.to_ne_bytes());
        self.zeros(self.bytes.len().next_multiple_of(ALIGN) - self.bytes.len())
    }

    /// What is to be sent.
    pub(crate) fn finish(mut self, flags: u16, sequence: u32) -> Zeroizing<Vec<u8>> {
        let len = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX);
        debug_assert!(self.bytes.len() <= LONGEST, "{len} bytes");
        self.bytes[..4].copy_from_slice(&len.to_ne_bytes());
        self.bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
        self.bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
        self.bytes
    }

    /// What stands behind the header.
    #[cfg(test)]
    pub(crate) fn body(&self) -> &[u8] {
        &self.bytes[HEADER..]
    }
}

/// A message of the kernel's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Received<'a> {
    pub(crate) kind: u16,
    pub(crate) sequence: u32,
    pub(crate) body: &'a [u8],
}

/// The messages of a datagram. Where one isn't well-formed, it and those behind it aren't there.
pub(crate) fn messages(mut rest: &[u8]) -> impl Iterator<Item = Received<'_>> {
    core::iter::from_fn(move || {
        let (len, kind, sequence) = (u32_at(rest, 0)?, u16_at(rest, 4)?, u32_at(rest, 8)?);
        let len = usize::try_from(len).ok()?;
        let body = rest.get(HEADER..len)?;
        rest = rest.get(len.next_multiple_of(ALIGN)..).unwrap_or_default();
        Some(Received { kind, sequence, body })
    })
}

/// The attributes behind a structure, each with its kind. The first that isn't well-formed ends them.
pub(crate) fn attributes(mut rest: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    core::iter::from_fn(move || {
        let (len, kind) = (usize::from(u16_at(rest, 0)?), u16_at(rest, 2)?);
        let content = rest.get(ATTRIBUTE..len)?;
        rest = rest.get(len.next_multiple_of(ALIGN)..).unwrap_or_default();
        Some((kind & KIND_MASK, content))
    })
}

pub(crate) fn array_at<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    array_at(bytes, at).map(u16::from_ne_bytes)
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    array_at(bytes, at).map(u32::from_ne_bytes)
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    array_at(bytes, at).map(u64::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut message = Message::new(7);
        message.u32(0x0102_0304).attribute(5, |message| {
            message.u8(9);
        });
        let mut bytes = message.finish(1, 42).to_vec();
        assert_eq!(bytes.len(), HEADER + 4 + 8);
        bytes.extend(Message::new(8).finish(0, 43).iter());
        let all: Vec<_> = messages(&bytes).collect();
        assert_eq!(all.len(), 2);
        assert_eq!((all[0].kind, all[0].sequence, u32_at(all[0].body, 0)), (7, 42, Some(0x0102_0304)));
        assert_eq!(attributes(&all[0].body[4..]).collect::<Vec<_>>(), [(5, &[9][..])]);
        assert_eq!((all[1].kind, all[1].sequence, all[1].body), (8, 43, &[][..]));
    }

    #[test]
    fn lengths_that_lie_end_what_is_read() {
        let whole = Message::new(7).finish(0, 1);
        for len in [0, 1, 15, 17, 1 << 20, u32::MAX] {
            let mut bytes = whole.to_vec();
            bytes[..4].copy_from_slice(&len.to_ne_bytes());
            assert_eq!(messages(&bytes).count(), 0, "{len}");
        }
        for cut in 0..whole.len() {
            assert_eq!(messages(&whole[..cut]).count(), 0, "{cut}");
        }
        for len in [0_u16, 3, 9, u16::MAX] {
            let mut bytes = [0; 8];
            bytes[..2].copy_from_slice(&len.to_ne_bytes());
            assert_eq!(attributes(&bytes).count(), 0, "{len}");
        }
    }
}
