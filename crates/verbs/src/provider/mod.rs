//! The two kinds of device behind one set of types: the only place that tells them apart.
//!
//! | module | what it holds |
//! |---|---|
//! | `embedded` | the embedded device, which is the `rocev2-device` crate |
//! | `ibv` | libibverbs: Soft-RoCE, RDMA cards, whatever has a provider |
//!
//! Each type here is one kind's object or the other's, and each method calls the method of the same name and
//! signature that both have: what a provider has to offer is the list of signatures below. The types of this
//! crate's API are built on these and don't ask which kind they hold.

mod embedded;
mod ibv;

use crate::attributes::Attributes;
use crate::endpoint::Endpoint;
use crate::event::Event;
use crate::gid::GidEntry;
use crate::options::{
    Destination, Peer, QueuePairLimits, ReceiveOptions, SharedReceiveQueueLimits, Snapshot, TransportKind,
    WindowType,
};
use crate::status::Status;
use crate::{Error, PostReason};
use rocev2::work::{CompletionKind, PeerRights, SendAttributes, SendOperation};
use rocev2::{Psn, Qpn};
use rocev2_device::memory::{Access, Mapping};
use rocev2_device::{Arm, SecurityAssociation};
use smallvec::SmallVec;
use std::any::Any;
use std::borrow::Cow;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
#[cfg(feature = "tokio")]
use std::task::Waker;

pub(crate) use ibv::discovery::names;

/// What only the embedded device has.
const SECURITY: &str = "security associations";

/// Declares a type that is one kind's object or the other's, with the methods that both have. `what` names it
/// in [`Error::Mixed`].
macro_rules! provided {
    (
        $(#[$attribute:meta])*
        $name:ident($embedded:ty, $ibv:ty), $what:literal;
        $(
            $(#[$method_attribute:meta])*
            fn $method:ident(&self $(, $argument:ident: $type:ty)* $(,)?) $(-> $result:ty)?;
        )*
    ) => {
        $(#[$attribute])*
        pub(crate) enum $name {
            Embedded($embedded),
            Ibv($ibv),
        }

        impl $name {
            #[allow(dead_code, reason = "not every object is used together with others")]
            fn embedded(&self) -> Result<&$embedded, Error> {
                match self {
                    Self::Embedded(own) => Ok(own),
                    Self::Ibv(_) => Err(Error::Mixed($what)),
                }
            }

            #[allow(dead_code, reason = "not every object is used together with others")]
            fn ibv(&self) -> Result<&$ibv, Error> {
                match self {
                    Self::Embedded(_) => Err(Error::Mixed($what)),
                    Self::Ibv(own) => Ok(own),
                }
            }

            $(
                $(#[$method_attribute])*
                #[inline]
                pub(crate) fn $method(&self $(, $argument: $type)*) $(-> $result)? {
                    match self {
                        Self::Embedded(own) => own.$method($($argument),*),
                        Self::Ibv(own) => own.$method($($argument),*),
                    }
                }
            )*
        }
    };
}

provided! {
    /// An open device, and of a libibverbs one the port that is used.
    Device(embedded::Device, Arc<ibv::context::Context>), "the device";

    /// What it is, for a person.
    fn description(&self) -> Cow<'static, str>;
    /// Its limits.
    fn attributes(&self) -> Attributes;
    /// What `ibv_devinfo -v` tells beside them.
    fn facts(&self) -> Result<Vec<(&'static str, String)>, Error>;
    /// The GID table's entries that aren't empty.
    fn gids(&self) -> Vec<GidEntry>;
    /// The GID to be reached at, in use from now on.
    fn gid_for(&self, address: IpAddr) -> Result<GidEntry, Error>;
    /// The next asynchronous event, if there is one.
    fn try_event(&self) -> Option<Event>;
    /// Every counter with its name.
    fn counters(&self) -> Vec<(Cow<'static, str>, u64)>;
    /// How many queue pairs exist on it, where it knows.
    fn queue_pairs(&self) -> Option<usize>;
}

impl Device {
    /// Opens the embedded device.
    pub(crate) fn open_embedded(address: Option<IpAddr>, port: Option<u16>) -> Result<Self, Error> {
        Ok(Self::Embedded(embedded::Device::open(address, port)?))
    }

    /// Opens an embedded device that is stepped.
    #[cfg(feature = "testing")]
    pub(crate) fn stepped(
        platform: Arc<dyn rocev2_device::host::Platform>,
    ) -> Result<(Self, Arc<rocev2_device::Engine>), Error> {
        let (device, engine) = embedded::Device::stepped(platform)?;
        Ok((Self::Embedded(device), engine))
    }

    /// How much an embedded device holds.
    #[cfg(feature = "testing")]
    pub(crate) fn usage(&self) -> Option<rocev2_device::Usage> {
        self.embedded().ok().map(embedded::Device::usage)
    }

    /// Opens a device of libibverbs.
    pub(crate) fn open_ibv(name: &str, port: Option<u8>, gid_index: Option<usize>) -> Result<Self, Error> {
        Ok(Self::Ibv(ibv::context::Context::open(name, port, gid_index)?))
    }

    /// A security association.
    pub(crate) fn security_association(&self) -> Result<SecurityAssociation, Error> {
        match self {
            Self::Embedded(own) => Ok(own.security_association()),
            Self::Ibv(own) => Err(own.unsupported(SECURITY)),
        }
    }

    /// A protection domain.
    pub(crate) fn protection_domain(&self) -> Result<ProtectionDomain, Error> {
        Ok(match self {
            Self::Embedded(own) => ProtectionDomain::Embedded(own.protection_domain()),
            Self::Ibv(own) => ProtectionDomain::Ibv(Arc::new(ibv::memory::Domain::new(own)?)),
        })
    }

    /// A completion channel.
    pub(crate) fn completion_channel(&self) -> Result<CompletionChannel, Error> {
        Ok(match self {
            Self::Embedded(own) => CompletionChannel::Embedded(own.completion_channel()?),
            Self::Ibv(own) => CompletionChannel::Ibv(Arc::new(ibv::completion::Channel::new(own)?)),
        })
    }

    /// A completion queue with room for at least `capacity` entries.
    pub(crate) fn completion_queue(
        &self,
        capacity: usize,
        channel: Option<&CompletionChannel>,
    ) -> Result<CompletionQueue, Error> {
        Ok(match self {
            Self::Embedded(own) => {
                let channel = channel.map(CompletionChannel::embedded).transpose()?;
                CompletionQueue::Embedded(own.completion_queue(capacity, channel)?)
            }
            Self::Ibv(own) => {
                let channel = channel.map(CompletionChannel::ibv).transpose()?;
                CompletionQueue::Ibv(Arc::new(ibv::completion::Queue::new(own, capacity, channel)?))
            }
        })
    }

    /// The same, which wakes `waker` when it is armed and has a completion; `None` where only channels are told.
    #[cfg(feature = "tokio")]
    pub(crate) fn waking_completion_queue(
        &self,
        capacity: usize,
        waker: Waker,
    ) -> Result<Option<CompletionQueue>, Error> {
        match self {
            Self::Embedded(own) => {
                Ok(Some(CompletionQueue::Embedded(own.waking_completion_queue(capacity, waker)?)))
            }
            Self::Ibv(_) => Ok(None),
        }
    }
}

impl AsFd for Device {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Embedded(own) => own.as_fd(),
            Self::Ibv(own) => own.as_fd(),
        }
    }
}

provided! {
    /// A protection domain.
    ProtectionDomain(embedded::ProtectionDomain, Arc<ibv::memory::Domain>), "the protection domain";
}

impl ProtectionDomain {
    /// Allocates and registers `len` zeroed bytes.
    pub(crate) fn register(&self, len: usize, access: Access) -> Result<MemoryRegion, Error> {
        Ok(match self {
            Self::Embedded(own) => MemoryRegion::Embedded(own.register(len, access)?),
            Self::Ibv(own) => MemoryRegion::Ibv(ibv::memory::Region::new(own, len, access)?),
        })
    }

    /// A queue pair in the RESET state. `kept` is what its requests need: if the device doesn't let go of the
    /// queue pair, it is kept for ever.
    pub(crate) fn queue_pair(
        &self,
        options: &QueuePairOptions<'_>,
        kept: Arc<dyn Any + Send + Sync>,
    ) -> Result<QueuePair, Error> {
        let [send_queue, recv_queue] = options.queues;
        Ok(match self {
            Self::Embedded(own) => {
                let queues = [send_queue.embedded()?, recv_queue.embedded()?];
                QueuePair::Embedded(own.queue_pair(queues, options)?)
            }
            Self::Ibv(own) => {
                let queues = [send_queue.ibv()?, recv_queue.ibv()?];
                QueuePair::Ibv(ibv::queue_pair::QueuePair::new(own, queues, options, kept)?)
            }
        })
    }

    /// A shared receive queue. `kept` as for a queue pair.
    pub(crate) fn shared_receive_queue(
        &self,
        limits: &SharedReceiveQueueLimits,
        kept: Arc<dyn Any + Send + Sync>,
    ) -> Result<SharedReceiveQueue, Error> {
        Ok(match self {
            Self::Embedded(own) => SharedReceiveQueue::Embedded(own.shared_receive_queue(limits)?),
            Self::Ibv(own) => {
                let queue = ibv::shared_receive_queue::Queue::new(own, limits, kept)?;
                SharedReceiveQueue::Ibv(Arc::new(queue))
            }
        })
    }

    /// A memory window.
    pub(crate) fn memory_window(&self, kind: WindowType) -> Result<MemoryWindow, Error> {
        Ok(match self {
            Self::Embedded(own) => MemoryWindow::Embedded(own.memory_window(kind)?),
            Self::Ibv(own) => MemoryWindow::Ibv(Arc::new(ibv::window::Window::new(own, kind)?)),
        })
    }

    /// The way from this device's `own` address to `peer`.
    pub(crate) fn address_handle(&self, own: &GidEntry, peer: &Endpoint) -> Result<AddressHandle, Error> {
        Ok(match self {
            Self::Embedded(domain) => AddressHandle::Embedded(domain.address_handle(own, peer)?),
            Self::Ibv(domain) => AddressHandle::Ibv(ibv::address::Handle::new(domain, own, peer)?),
        })
    }
}

provided! {
    /// A memory region with its memory. It is deregistered when it is dropped.
    MemoryRegion(embedded::MemoryRegion, ibv::memory::Region), "the memory region";

    /// Its memory.
    fn mapping(&self) -> &Mapping;
    /// The rights that it was registered with.
    fn access(&self) -> Access;
    /// The address of the first byte, as work requests and peers name it.
    fn addr(&self) -> u64;
    /// The key that a peer needs.
    fn rkey(&self) -> u32;
}

provided! {
    /// A completion channel.
    CompletionChannel(Arc<embedded::CompletionChannel>, Arc<ibv::completion::Channel>), "the completion channel";

    /// Takes an event if there is one: the number of the queue that it came from.
    fn try_event(&self) -> Result<Option<u64>, Error>;
}

impl AsFd for CompletionChannel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Embedded(own) => own.as_fd(),
            Self::Ibv(own) => own.as_fd(),
        }
    }
}

provided! {
    /// A completion queue.
    CompletionQueue(embedded::CompletionQueue, Arc<ibv::completion::Queue>), "a completion queue";

    /// How many entries it has room for.
    fn capacity(&self) -> usize;
    /// Hands up to `max` ended requests to `take` and returns how many.
    fn poll(&self, max: usize, take: impl FnMut(Ended)) -> Result<usize, Error>;
    /// Asks for one event on the channel at the next completion.
    fn arm(&self, arm: Arm);
}

provided! {
    /// A shared receive queue. It is destroyed when it is dropped.
    SharedReceiveQueue(embedded::SharedReceiveQueue, Arc<ibv::shared_receive_queue::Queue>),
    "the shared receive queue";

    /// Its number among those of its device.
    fn number(&self) -> u64;
    /// Asks for one event when fewer than `limit` requests are left.
    fn arm_limit(&self, limit: u32) -> Result<(), Error>;
}

impl SharedReceiveQueue {
    /// The request as the device takes it.
    pub(crate) fn prepare_recv<'a>(
        &self,
        elements: impl Iterator<Item = Element<'a>>,
    ) -> Result<PreparedRecv, PostReason> {
        Ok(match self {
            Self::Embedded(own) => PreparedRecv::Embedded(own.prepare_recv(elements)?),
            Self::Ibv(own) => PreparedRecv::Ibv(own.prepare_recv(elements)?),
        })
    }

    /// Queues a receive request, as `number`.
    pub(crate) fn post_recv(&self, number: u64, request: PreparedRecv) -> Result<(), PostReason> {
        match (self, request) {
            (Self::Embedded(own), PreparedRecv::Embedded(request)) => own.post_recv(number, request),
            (Self::Ibv(own), PreparedRecv::Ibv(request)) => own.post_recv(number, request),
            _ => Err(PostReason::OtherDevice),
        }
    }
}

provided! {
    /// The way to a peer's port. It is destroyed when it is dropped.
    AddressHandle(embedded::AddressHandle, ibv::address::Handle), "the address handle";
}

provided! {
    /// A memory window. It is deallocated when it is dropped.
    MemoryWindow(embedded::MemoryWindow, Arc<ibv::window::Window>), "the memory window";

    /// The key that it has once the binding that was posted last has completed.
    fn rkey(&self) -> u32;
}

/// A part of a region, and what a window lets peers do there.
pub(crate) struct WindowRange<'a> {
    pub(crate) region: &'a MemoryRegion,
    /// The first byte in the region.
    pub(crate) offset: u64,
    pub(crate) len: u64,
    pub(crate) access: Access,
}

/// What a send request needs beside the places of its bytes.
pub(crate) enum Needs<'a> {
    Nothing,
    /// A datagram's way.
    Handle(&'a AddressHandle),
    /// The window that it binds, and to what.
    Window(&'a MemoryWindow, WindowRange<'a>),
}

/// What a queue pair is made with.
pub(crate) struct QueuePairOptions<'a> {
    pub(crate) transport: TransportKind,
    /// Where send requests complete, where receive requests do.
    pub(crate) queues: [&'a CompletionQueue; 2],
    pub(crate) shared: Option<&'a SharedReceiveQueue>,
    pub(crate) limits: QueuePairLimits,
    pub(crate) signal_all: bool,
}

provided! {
    /// A queue pair. It is destroyed when it is dropped.
    QueuePair(embedded::QueuePair, ibv::queue_pair::QueuePair), "the queue pair";

    /// Its number.
    fn qpn(&self) -> Qpn;
    /// RESET → INIT; the Q_Key is for datagrams.
    fn init(&self, rights: PeerRights, qkey: u32) -> Result<(), Error>;
    /// INIT → RTR → RTS, for datagrams; the first one will have the number `psn`.
    fn ready_for_datagrams(&self, psn: Psn) -> Result<(), Error>;
    /// INIT → RTR, towards `peer`.
    fn ready_to_receive(&self, peer: &Peer, options: &ReceiveOptions) -> Result<(), Error>;
    /// RTR → RTS.
    fn ready_to_send(&self, send: &SendAttributes) -> Result<(), Error>;
    /// RTS → SQD, with an event when all that had begun has finished.
    fn drain(&self) -> Result<(), Error>;
    /// SQD → RTS.
    fn resume(&self) -> Result<(), Error>;
    /// To the error state.
    fn fail(&self) -> Result<(), Error>;
    /// What the device tells of it.
    fn query(&self) -> Result<Snapshot, Error>;
}

impl QueuePair {
    /// Has it take and send only packets that `association` seals.
    pub(crate) fn seal_by(&self, association: &SecurityAssociation) -> Result<(), Error> {
        match self {
            Self::Embedded(own) => own.seal_by(association),
            Self::Ibv(own) => Err(own.unsupported(SECURITY)),
        }
    }
}

impl QueuePair {
    /// The request as the device takes it; the bytes' places are not looked at if it has its bytes itself.
    #[inline]
    pub(crate) fn prepare_send<'a>(
        &self,
        work: Work,
        needs: &Needs<'_>,
        elements: impl Iterator<Item = Element<'a>>,
    ) -> Result<PreparedSend, PostReason> {
        Ok(match self {
            Self::Embedded(own) => PreparedSend::Embedded(own.prepare_send(work, needs, elements)?),
            Self::Ibv(own) => PreparedSend::Ibv(own.prepare_send(work, needs, elements)?),
        })
    }

    /// The request as the device takes it.
    #[inline]
    pub(crate) fn prepare_recv<'a>(
        &self,
        elements: impl Iterator<Item = Element<'a>>,
    ) -> Result<PreparedRecv, PostReason> {
        Ok(match self {
            Self::Embedded(own) => PreparedRecv::Embedded(own.prepare_recv(elements)?),
            Self::Ibv(own) => PreparedRecv::Ibv(own.prepare_recv(elements)?),
        })
    }

    /// Queues a send request, as `number`.
    #[inline]
    pub(crate) fn post_send(&self, number: u64, request: PreparedSend) -> Result<(), PostReason> {
        match (self, request) {
            (Self::Embedded(own), PreparedSend::Embedded(request)) => own.post_send(number, request),
            (Self::Ibv(own), PreparedSend::Ibv(request)) => own.post_send(number, request),
            _ => Err(PostReason::OtherDevice),
        }
    }

    /// Queues several send requests, before any of them is sent where the device can do that. Those before
    /// one that isn't taken were; it is the last one that was asked of the iterator.
    pub(crate) fn post_send_list(
        &self,
        mut requests: impl Iterator<Item = (u64, PreparedSend)>,
    ) -> Result<(), PostReason> {
        match self {
            Self::Embedded(own) => {
                own.post_send_list(requests.map_while(|(number, request)| match request {
                    PreparedSend::Embedded(request) => Some((number, request)),
                    PreparedSend::Ibv(_) => None,
                }))
            }
            Self::Ibv(_) => requests.try_for_each(|(number, request)| self.post_send(number, request)),
        }
    }

    /// Queues a receive request, as `number`.
    #[inline]
    pub(crate) fn post_recv(&self, number: u64, request: PreparedRecv) -> Result<(), PostReason> {
        match (self, request) {
            (Self::Embedded(own), PreparedRecv::Embedded(request)) => own.post_recv(number, request),
            (Self::Ibv(own), PreparedRecv::Ibv(request)) => own.post_recv(number, request),
            _ => Err(PostReason::OtherDevice),
        }
    }
}

/// A send request as a device takes it.
pub(crate) enum PreparedSend {
    Embedded(embedded::SendRequest),
    Ibv(ibv::request::Send),
}

/// A receive request as a device takes it.
pub(crate) enum PreparedRecv {
    Embedded(embedded::RecvRequest),
    Ibv(ibv::request::Receive),
}

/// What a device says of the end of a work request.
#[derive(Debug)]
pub(crate) struct Ended {
    /// The request's number.
    pub(crate) number: u64,
    pub(crate) qpn: Qpn,
    /// Whether it was a receive.
    pub(crate) recv: bool,
    pub(crate) status: Status,
    /// What it was, where the device tells more than the request did: how a message was received.
    pub(crate) kind: Option<CompletionKind>,
    /// Bytes received.
    pub(crate) len: u32,
    pub(crate) immediate: Option<u32>,
    pub(crate) invalidated: Option<u32>,
    pub(crate) source: Option<Source>,
}

/// Where a datagram came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    /// The queue pair that sent it.
    pub qpn: Qpn,
    /// Whether the first 40 bytes of the buffers, which never hold a part of the message, hold its global
    /// route header.
    pub grh: bool,
}

/// A send request without the places of its bytes.
pub(crate) struct Work {
    pub(crate) operation: SendOperation,
    /// The bytes themselves, where there are no places.
    pub(crate) inline: Option<SmallVec<[u8; 64]>>,
    pub(crate) len: u32,
    pub(crate) signaled: bool,
    pub(crate) solicited: bool,
    pub(crate) fence: bool,
    /// Where a datagram goes.
    pub(crate) destination: Option<Destination>,
}

/// Bytes of a region, for a scatter/gather list.
pub(crate) struct Element<'a> {
    pub(crate) region: &'a MemoryRegion,
    /// The first byte in the region.
    pub(crate) offset: u64,
    pub(crate) len: u32,
}
