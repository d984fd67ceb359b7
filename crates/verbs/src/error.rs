//! What can go wrong.

use crate::Slice;
use smallvec::SmallVec;
use std::io;

/// Why something couldn't be had of a device.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The embedded device refused.
    #[error(transparent)]
    Embedded(#[from] device::DeviceError),
    /// No device has that name.
    #[error(
        "there is no RDMA device {asked:?}: this build knows the embedded device (`embedded`, `embedded:ADDR`, \
         `embedded:ADDR:PORT`); devices of libibverbs such as rxe0 or mlx5_0 are not supported yet"
    )]
    NoSuchDevice {
        /// What was asked for.
        asked: String,
    },
    /// The completion queue overflowed.
    #[error(transparent)]
    Overflow(#[from] device::Overflow),
    /// No GID of the device belongs to that address.
    #[error("the device has no GID for the address {0}")]
    NoGid(std::net::IpAddr),
    /// A part of a region that isn't there or is lent out already.
    #[error(transparent)]
    Slice(#[from] SliceError),
    /// The operating system gives no random numbers.
    #[error("the operating system gives no random numbers: {0}")]
    Random(io::Error),
    /// The operating system refused to wait.
    #[error("waiting for a completion: {0}")]
    Wait(io::Error),
}

/// Why a part of a region can't be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SliceError {
    /// It reaches outside.
    #[error("{len} bytes at offset {offset} reach outside a region of {region} bytes")]
    Bounds {
        /// First byte asked for.
        offset: u64,
        /// Bytes asked for.
        len: u64,
        /// Bytes of the region.
        region: u64,
    },
    /// Some of it belongs to another slice.
    #[error("some of the {len} bytes at offset {offset} are part of another slice that still exists")]
    Taken {
        /// First byte asked for.
        offset: u64,
        /// Bytes asked for.
        len: u64,
    },
}

/// A request that wasn't taken; its slices come back.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub struct PostError {
    /// Why.
    pub reason: PostReason,
    /// The request's slices.
    pub slices: SmallVec<[Slice; 1]>,
}

/// Why a request wasn't taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PostReason {
    /// The queue pair said no.
    #[error(transparent)]
    QueuePair(#[from] rocev2::rc::PostError),
    /// More slices than a scatter/gather list has.
    #[error("{0} slices are more than the {limit} that a request may have", limit = device::ATTRIBUTES.max_sge)]
    TooManySlices(usize),
    /// More bytes than can go inline.
    #[error("{0} bytes are more than the {limit} that can be posted inline", limit = device::ATTRIBUTES.max_inline)]
    InlineTooLong(usize),
    /// The local and the remote range differ in length.
    #[error("{local} local bytes don't fit a remote range of {remote}")]
    Lengths {
        /// Bytes of the slices.
        local: u64,
        /// Bytes of the remote range.
        remote: u64,
    },
    /// The region doesn't allow to be written by this side's own requests.
    #[error(
        "the slice's region was registered without local write access, so nothing can be received into it"
    )]
    NotWritable,
}
