//! What can go wrong.
//!
//! A text says what was tried and what was found, the system's own words included, which therefore are no
//! source of their own. Of a program's options it knows nothing: the kind tells a program what to advise.

use crate::Gid;
use rocev2::Mtu;
use std::borrow::Cow;
use std::io;
use std::net::IpAddr;

/// Why something couldn't be had of a device.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The embedded device refused.
    #[error(transparent)]
    Embedded(#[from] rocev2_device::DeviceError),
    /// libibverbs is needed and can't be used.
    #[error("{asked} is a device of libibverbs, but {reason}")]
    NoLibrary {
        /// The device that was asked for.
        asked: String,
        /// What the loader said.
        reason: &'static rdma_verbs_sys::LoadError,
    },
    /// libibverbs works, but the kernel has no RDMA device at all.
    #[error(
        "there is no RDMA device {asked}: libibverbs finds none at all; Soft-RoCE is made by `rdma link add \
         rxe0 type rxe netdev eth0` (as root; kernel module rdma_rxe), a card needs its driver"
    )]
    NoDevices {
        /// The device that was asked for.
        asked: String,
    },
    /// No device has that name.
    #[error("there is no RDMA device {asked}: libibverbs finds {have}")]
    NoSuchDevice {
        /// What was asked for.
        asked: String,
        /// What there is.
        have: String,
    },
    /// A device has no port that could be used.
    #[error(
        "RDMA device {device} can't be used: {found}; bring the network interface under it up (`ip link set \
         … up`; `rdma link` shows which it is), plug the cable, or on InfiniBand see that a subnet manager \
         runs"
    )]
    Inactive {
        /// The device.
        device: String,
        /// Its ports' states.
        found: String,
    },
    /// A device has no port of that number.
    #[error("RDMA device {device} has no port {port}: it has {count}, counted from 1")]
    NoPort {
        /// The device.
        device: String,
        /// What was asked for.
        port: u8,
        /// How many there are.
        count: u8,
    },
    /// No entry of the GID table has this index.
    #[error("{device} has no GID with index {index}; it has {have}")]
    GidIndex {
        /// The device and its port.
        device: String,
        /// What was asked for.
        index: usize,
        /// What there is.
        have: String,
    },
    /// No GID of the device belongs to that address.
    #[error(
        "{device} has no GID for the address {address}, by which the peer reaches this host; it has {have}"
    )]
    NoGid {
        /// The device and its port.
        device: String,
        /// The address.
        address: IpAddr,
        /// What there is.
        have: String,
    },
    /// Packets of one side's port can't get to the other's.
    #[error("the RDMA port {own} and the peer's {peer} can't reach each other: {reason}")]
    Unreachable {
        /// This side's GID or address.
        own: String,
        /// The peer's.
        peer: Gid,
        /// Why, and what to do.
        reason: Cow<'static, str>,
    },
    /// The path MTU is more than the port carries.
    #[error("a path MTU of {asked} doesn't fit {device}, which carries {limit}; choose a smaller one")]
    PathMtu {
        /// The device and its port.
        device: String,
        /// What was asked for.
        asked: Mtu,
        /// What fits.
        limit: Mtu,
    },
    /// A limit of the device.
    #[error("{device}: {what}: {asked} was asked for, the device has at most {limit}")]
    Limit {
        /// The device.
        device: String,
        /// What is limited.
        what: &'static str,
        /// What was asked for.
        asked: u64,
        /// The limit.
        limit: u64,
    },
    /// The device can't do that at all.
    #[error("{device} has no {what}")]
    Unsupported {
        /// The device.
        device: String,
        /// What was asked for.
        what: &'static str,
    },
    /// A call of libibverbs failed.
    #[error("{device}: {call} failed: {reason}{advice}")]
    Verbs {
        /// The device.
        device: String,
        /// The call, and what for.
        call: &'static str,
        /// What the system said.
        reason: io::Error,
        /// What to do on this system, after a semicolon; may be empty.
        advice: Cow<'static, str>,
    },
    /// No memory for a region.
    #[error(transparent)]
    Mapping(#[from] rocev2_device::memory::MappingError),
    /// Rights that no region may have together.
    #[error(transparent)]
    Access(#[from] rocev2_device::memory::AccessError),
    /// The completion queue overflowed.
    #[error(transparent)]
    Overflow(#[from] rocev2_device::Overflow),
    /// Things of two devices were put together.
    #[error("{0} belongs to another device: what is used together must be made by one device")]
    Mixed(&'static str),
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

/// Why a request wasn't taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PostReason {
    /// The queue pair said no.
    #[error(transparent)]
    QueuePair(#[from] rocev2::work::PostError),
    /// More slices than the queue pair's scatter/gather lists have.
    #[error("{count} slices are more than the {limit} that a request of this queue pair may have")]
    TooManySlices {
        /// How many.
        count: usize,
        /// The limit that the queue pair was made with.
        limit: usize,
    },
    /// More bytes than can go inline.
    #[error("{len} bytes are more than the {limit} that can be posted inline on this queue pair")]
    InlineTooLong {
        /// How many.
        len: usize,
        /// The limit that the queue pair was made with.
        limit: usize,
    },
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
    /// A slice of another device's region.
    #[error("a slice belongs to a region of another device")]
    OtherDevice,
    /// libibverbs refused; the number is the system's.
    #[error("the device refused the request: {}", io::Error::from_raw_os_error(*.0))]
    Refused(i32),
}
