//! What the protocol asks of the memory behind work requests and remote keys.

/// Memory as the protocol sees it: it never holds a reference to a byte that a peer or an application may be writing.
///
/// Lists of local buffers ([`Memory::Buffers`]) belong to work requests; their keys were resolved when they
/// were posted. A [`Memory::Grant`] is a remote key that was checked once, for one message, so that the
/// packets after the first needn't look it up.
pub trait Memory {
    /// A gather or scatter list of a work request.
    type Buffers;
    /// The right to one range of a region, for one message of the peer.
    type Grant;

    /// Copies `out.len()` bytes of `from`, beginning `offset` bytes into the list.
    ///
    /// # Errors
    /// The list is shorter, or a buffer's region is gone.
    fn gather(&self, from: &Self::Buffers, offset: u32, out: &mut [u8]) -> Result<(), LocalFault>;

    /// Copies `data` into `to`, beginning `offset` bytes into the list.
    ///
    /// # Errors
    /// The list is shorter, a buffer may not be written, or its region is gone.
    fn scatter(&self, to: &Self::Buffers, offset: u32, data: &[u8]) -> Result<(), LocalFault>;

    /// Checks that the peer may access `len` bytes at `va` under `rkey`: key, protection domain, rights and range.
    ///
    /// # Errors
    /// The peer may not; nothing tells it why: there is one NAK code for all.
    fn grant(&self, rkey: u32, va: u64, len: u32, right: RemoteRight) -> Result<Self::Grant, RemoteFault>;

    /// Copies `out.len()` bytes, beginning `offset` bytes into the granted range.
    ///
    /// # Errors
    /// The region was deregistered or invalidated since.
    fn read(&self, grant: &Self::Grant, offset: u32, out: &mut [u8]) -> Result<(), RemoteFault>;

    /// Copies `data` to `offset` bytes into the granted range. The last byte is stored last.
    ///
    /// # Errors
    /// The region was deregistered or invalidated since.
    fn write(&self, grant: &Self::Grant, offset: u32, data: &[u8]) -> Result<(), RemoteFault>;

    /// Executes `operation` on the granted 8 bytes and returns what they held before, in host byte order.
    ///
    /// # Errors
    /// The region was deregistered or invalidated since.
    fn atomic(&self, grant: &Self::Grant, operation: AtomicOperation) -> Result<u64, RemoteFault>;

    /// Withdraws `rkey`, as a peer's SEND with invalidate asks.
    ///
    /// # Errors
    /// The key is unknown here or not one that a peer may invalidate.
    fn invalidate(&self, rkey: u32) -> Result<(), RemoteFault>;

    /// Executes the bind of a memory window that a work request carries in the place of buffers (BIND_MW).
    ///
    /// # Errors
    /// The window or its region doesn't allow it (completes with `MW_BIND_ERR`). Memory without windows binds none.
    fn bind(&self, bind: &Self::Buffers) -> Result<(), LocalFault> {
        let _ = bind;
        Err(LocalFault)
    }

    /// Withdraws `rkey` for a work request of this side (LOCAL_INV).
    ///
    /// # Errors
    /// No type 2 window is bound under that key (completes with `LOC_QP_OP_ERR`).
    fn invalidate_own(&self, rkey: u32) -> Result<(), LocalFault> {
        let _ = rkey;
        Err(LocalFault)
    }
}

/// What a peer wants to do with a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RemoteRight {
    /// RDMA READ.
    Read,
    /// RDMA WRITE.
    Write,
    /// Compare-and-swap or fetch-and-add.
    Atomic,
}

/// The two atomic operations, on an aligned 64-bit word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtomicOperation {
    /// Stores `swap` if the word equals `compare`.
    CompareSwap {
        /// What the word must hold.
        compare: u64,
        /// What is stored then.
        swap: u64,
    },
    /// Adds, wrapping.
    FetchAdd {
        /// What is added.
        add: u64,
    },
}

/// A work request's own buffers don't serve (completes with `LOC_PROT_ERR`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a buffer of the work request is too short, may not be written, or belongs to a region that is gone")]
pub struct LocalFault;

/// The peer may not have what it asked for (NAK "remote access error").
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the remote key doesn't allow this access")]
pub struct RemoteFault;
