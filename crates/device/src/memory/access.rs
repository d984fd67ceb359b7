//! Access flags of memory regions.

bitflags::bitflags! {
    /// What a memory region may be used for, with the values of `enum ibv_access_flags`.
    ///
    /// Reading a region locally needs no flag.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
    pub struct Access: u32 {
        /// Receives, READ responses and atomic results may be written here.
        const LOCAL_WRITE = 1 << 0;
        /// Peers may WRITE. Needs [`LOCAL_WRITE`](Self::LOCAL_WRITE).
        const REMOTE_WRITE = 1 << 1;
        /// Peers may READ.
        const REMOTE_READ = 1 << 2;
        /// Peers may compare-and-swap and fetch-and-add. Needs [`LOCAL_WRITE`](Self::LOCAL_WRITE).
        const REMOTE_ATOMIC = 1 << 3;
        /// Memory windows may be bound to the region.
        const MW_BIND = 1 << 4;
        /// Peers and work requests count addresses from 0 at the region's first byte instead of naming real addresses.
        const ZERO_BASED = 1 << 5;
    }
}

/// Access flags that no region may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AccessError {
    /// Remote write or remote atomic without local write (`ibv_reg_mr(3)`).
    #[error(
        "{0:?} without LOCAL_WRITE: memory that peers may change must be writable locally; add LOCAL_WRITE"
    )]
    RemoteWithoutLocalWrite(Access),
    /// Bits that mean nothing here.
    #[error("access flags {0:#x} are unknown or not supported by this device; leave them out")]
    Unsupported(u32),
}

impl Access {
    /// What peers may be allowed to do.
    pub const REMOTE: Self = Self::REMOTE_WRITE.union(Self::REMOTE_READ).union(Self::REMOTE_ATOMIC);

    /// Bits of `enum ibv_access_flags` that a device may ignore: `IBV_ACCESS_OPTIONAL_RANGE`, relaxed ordering among
    /// them, and `IBV_ACCESS_HUGETLB`, which says something of the pages that nobody asks here.
    const IGNORED: u32 = 0x3ff0_0000 | 1 << 7;

    /// The flags with these `enum ibv_access_flags` bits, without the optional ones that mean nothing here.
    ///
    /// # Errors
    /// [`AccessError::Unsupported`] names the bits that this device doesn't know.
    pub const fn from_ibv(bits: u32) -> Result<Self, AccessError> {
        let bits = bits & !Self::IGNORED;
        match Self::from_bits(bits) {
            Some(access) => Ok(access),
            None => Err(AccessError::Unsupported(bits & !Self::all().bits())),
        }
    }

    /// Whether no peer can reach a region with these rights: it has no remote right, and no window can be bound
    /// to it, so that its bytes are read and written by this process and its work requests alone. Only such
    /// memory may be [lent](super::Mapping::lend_mut) as a slice.
    #[must_use]
    pub const fn is_local(self) -> bool {
        !self.intersects(Self::REMOTE.union(Self::MW_BIND))
    }

    /// Refuses combinations that no region may have.
    ///
    /// # Errors
    /// [`AccessError`] says which rule they break.
    pub const fn validate(self) -> Result<(), AccessError> {
        let unknown = self.bits() & !Self::all().bits();
        if unknown != 0 {
            return Err(AccessError::Unsupported(unknown));
        }
        let changed_by_peers = self.intersection(Self::REMOTE_WRITE.union(Self::REMOTE_ATOMIC));
        if !changed_by_peers.is_empty() && !self.contains(Self::LOCAL_WRITE) {
            return Err(AccessError::RemoteWithoutLocalWrite(changed_by_peers));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_peers_may_change_must_be_writable_locally() {
        for remote in
            [Access::REMOTE_WRITE, Access::REMOTE_ATOMIC, Access::REMOTE_WRITE | Access::REMOTE_ATOMIC]
        {
            assert_eq!(remote.validate(), Err(AccessError::RemoteWithoutLocalWrite(remote)));
            assert_eq!((remote | Access::LOCAL_WRITE).validate(), Ok(()));
        }
        assert_eq!(Access::empty().validate(), Ok(()));
        assert_eq!((Access::REMOTE_READ | Access::ZERO_BASED).validate(), Ok(()));
    }

    #[test]
    fn memory_is_local_unless_a_peer_has_a_right_to_it() {
        let peers = Access::REMOTE_WRITE | Access::REMOTE_READ | Access::REMOTE_ATOMIC | Access::MW_BIND;
        for bits in 0..=Access::all().bits() {
            let access = Access::from_bits_truncate(bits);
            assert_eq!(access.is_local(), (access & peers).is_empty(), "{access:?}");
        }
    }

    #[test]
    fn flags_that_a_device_may_ignore_are_ignored() {
        for optional in (20..30).chain([7]) {
            assert_eq!(Access::from_ibv(1 << optional | 1), Ok(Access::LOCAL_WRITE), "bit {optional}");
        }
        for refused in [6, 8, 9, 19, 30, 31] {
            assert_eq!(Access::from_ibv(1 << refused), Err(AccessError::Unsupported(1 << refused)));
        }
    }

    #[test]
    fn flags_have_libibverbs_values_and_unknown_ones_are_named() {
        assert_eq!(Access::from_ibv(0b11_1111), Ok(Access::all()));
        assert_eq!(Access::from_ibv(0b110_0001), Err(AccessError::Unsupported(0b100_0000)));
        assert_eq!(Access::from_bits_retain(1 << 31).validate(), Err(AccessError::Unsupported(1 << 31)));
    }
}
