//! The registered buffers that a side sends and writes from, and reads into.

use rdma_verbs::Slice;

/// The send buffers that aren't posted.
pub(super) struct SendBuffers {
    free: Vec<Slice>,
    size: u32,
}

impl SendBuffers {
    /// A pool of the buffers `free`, of `size` bytes each.
    pub(super) fn new(free: Vec<Slice>, size: u32) -> Self {
        Self { free, size }
    }

    /// Bytes of each buffer.
    pub(super) const fn size(&self) -> u32 {
        self.size
    }

    /// The number of buffers that aren't posted.
    pub(super) fn free(&self) -> usize {
        self.free.len()
    }

    pub(super) fn take(&mut self) -> Option<Slice> {
        self.free.pop()
    }

    pub(super) fn give_back(&mut self, buffers: impl IntoIterator<Item = Slice>) {
        self.free.extend(buffers);
    }
}
