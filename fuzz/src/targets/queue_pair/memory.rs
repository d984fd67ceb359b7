//! One region, which the peer knows, and buffers in it. It holds the protocol to what it was granted.

use rocev2::work::{AtomicOperation, LocalFault, Memory, PeerRights, RemoteFault, RemoteRight};
use std::cell::RefCell;
use std::ops::Range;

/// Bytes of the region.
pub(super) const SIZE: usize = 8 << 10;
/// Where the peer sees it, and by which key.
pub(super) const VA: u64 = 0xffff_0000;
pub(super) const RKEY: u32 = 0x1234_5678;

/// What no byte that nobody was to write ever stops holding.
const UNTOUCHED: u8 = 0x77;

pub(super) struct Ram {
    bytes: RefCell<Vec<u8>>,
    /// What the peer may do.
    rights: PeerRights,
    /// From the first to the last byte that a request of this side or the peer may write: all others stay as they are.
    reached: RefCell<Option<Range<usize>>>,
}

/// The right to a range of the region.
pub(super) struct Grant {
    range: Range<usize>,
    right: RemoteRight,
}

impl Ram {
    pub(super) fn new(rights: PeerRights) -> Self {
        Self { bytes: RefCell::new(vec![UNTOUCHED; SIZE]), rights, reached: RefCell::default() }
    }

    /// Notes that `range` may be written from now on.
    pub(super) fn reach(&self, range: &Range<usize>) {
        let mut reached = self.reached.borrow_mut();
        let before = reached.clone().unwrap_or_else(|| range.clone());
        *reached = Some(before.start.min(range.start)..before.end.max(range.end));
    }

    /// Whether everything beyond what may be written is as it was.
    pub(super) fn is_intact(&self) -> bool {
        let (bytes, reached) = (self.bytes.borrow(), self.reached.borrow().clone().unwrap_or(0..0));
        let beyond = bytes[..reached.start].iter().chain(&bytes[reached.end..]);
        beyond.copied().all(|byte| byte == UNTOUCHED)
    }

    /// `len` bytes from `offset` of `within` on.
    fn part(within: &Range<usize>, offset: u32, len: usize) -> Option<Range<usize>> {
        let start = within.start.checked_add(offset as usize)?;
        let end = start.checked_add(len)?;
        (end <= within.end).then_some(start..end)
    }

    fn granted(grant: &Grant, right: RemoteRight, offset: u32, len: usize) -> Range<usize> {
        assert_eq!(grant.right, right, "the protocol uses a right that it didn't ask for");
        Self::part(&grant.range, offset, len).expect("the protocol reaches beyond what it was granted")
    }
}

impl Memory for Ram {
    type Buffers = Range<usize>;
    type Grant = Grant;

    fn gather(&self, from: &Range<usize>, offset: u32, out: &mut [u8]) -> Result<(), LocalFault> {
        let range = Self::part(from, offset, out.len()).ok_or(LocalFault)?;
        out.copy_from_slice(&self.bytes.borrow()[range]);
        Ok(())
    }

    fn scatter(&self, to: &Range<usize>, offset: u32, data: &[u8]) -> Result<(), LocalFault> {
        let range = Self::part(to, offset, data.len()).ok_or(LocalFault)?;
        self.bytes.borrow_mut()[range].copy_from_slice(data);
        Ok(())
    }

    fn grant(&self, rkey: u32, va: u64, len: u32, right: RemoteRight) -> Result<Grant, RemoteFault> {
        let allowed = match right {
            RemoteRight::Read => self.rights.read,
            RemoteRight::Write => self.rights.write,
            RemoteRight::Atomic => self.rights.atomic,
        };
        assert!(allowed, "the protocol asks for what the peer has no right to");
        if rkey != RKEY {
            return Err(RemoteFault);
        }
        let offset = va.checked_sub(VA).and_then(|offset| u32::try_from(offset).ok()).ok_or(RemoteFault)?;
        let range = Self::part(&(0..SIZE), offset, len as usize).ok_or(RemoteFault)?;
        if right != RemoteRight::Read {
            self.reach(&range);
        }
        Ok(Grant { range, right })
    }

    fn read(&self, grant: &Grant, offset: u32, out: &mut [u8]) -> Result<(), RemoteFault> {
        let range = Self::granted(grant, RemoteRight::Read, offset, out.len());
        out.copy_from_slice(&self.bytes.borrow()[range]);
        Ok(())
    }

    fn write(&self, grant: &Grant, offset: u32, data: &[u8]) -> Result<(), RemoteFault> {
        let range = Self::granted(grant, RemoteRight::Write, offset, data.len());
        self.bytes.borrow_mut()[range].copy_from_slice(data);
        Ok(())
    }

    fn atomic(&self, grant: &Grant, operation: AtomicOperation) -> Result<u64, RemoteFault> {
        let range = Self::granted(grant, RemoteRight::Atomic, 0, 8);
        let mut bytes = self.bytes.borrow_mut();
        let word = bytes[range].first_chunk_mut().expect("eight bytes");
        let original = u64::from_ne_bytes(*word);
        let new = match operation {
            AtomicOperation::CompareSwap { compare, swap } if original == compare => swap,
            AtomicOperation::CompareSwap { .. } => original,
            AtomicOperation::FetchAdd { add } => original.wrapping_add(add),
        };
        *word = new.to_ne_bytes();
        Ok(original)
    }

    fn invalidate(&self, rkey: u32) -> Result<(), RemoteFault> {
        if rkey == RKEY { Ok(()) } else { Err(RemoteFault) }
    }

    fn bind(&self, _bind: &Range<usize>) -> Result<(), LocalFault> {
        Ok(())
    }

    fn invalidate_own(&self, rkey: u32) -> Result<(), LocalFault> {
        if rkey == RKEY { Ok(()) } else { Err(LocalFault) }
    }
}
