//! Queue pair 1 of a device: management datagrams in and out.

use rocev2::Qpn;
use rocev2::wire::Transport;
use rocev2::work::{
    CompletionKind, Datagram, PostError, Recipient, RecvRequest, SendOperation, SendRequest, Status,
};
use rocev2_cm::wire::MAD_LEN;
use rocev2_cm::{Gid, Path, Transmit};
use rocev2_device::memory::Access;
use rocev2_device::{
    AddressHandle, Arm, Buffers, CompletionChannel, CompletionQueue, Device, DeviceError, GSI_QKEY,
    MemoryRegion, PathAttributes, ProtectionDomain, QueuePair, QueuePairOptions, WorkCompletion,
};
use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

/// Datagrams that wait to be taken, or to leave, at a time. A flood fills this, and what follows is dropped.
const DEPTH: usize = 1024;

/// The global route header before each received datagram.
const GRH_LEN: usize = 40;

/// One received datagram with its header.
const SLOT: usize = GRH_LEN + MAD_LEN;

/// The same two lengths as work requests have them.
const SLOT_BYTES: u32 = 40 + MAD_BYTES;
const MAD_BYTES: u32 = 256;
const _: () = assert!(MAD_BYTES as usize == MAD_LEN && SLOT_BYTES as usize == SLOT);

/// Queue pair 1 of a device, with its buffers.
pub struct Gsi {
    // Dropped in this order: address handles and memory outlive the requests that name them.
    queue_pair: QueuePair,
    queue: CompletionQueue,
    channel: Arc<CompletionChannel>,
    /// Ways to peers, for datagrams that haven't left.
    leaving: HashMap<u64, AddressHandle>,
    /// Names those.
    next: u64,
    memory: MemoryRegion,
    domain: ProtectionDomain,
    device: Arc<Device>,
}

impl Gsi {
    /// Queue pair 1 of `device`, which receives at the addresses that are in use by now.
    ///
    /// # Errors
    /// Somebody has it, or the system refuses what it needs.
    pub fn new(device: Arc<Device>) -> Result<Self, DeviceError> {
        let domain = device.protection_domain();
        let channel = device.completion_channel()?;
        let queue = device.completion_queue(2 * DEPTH, Some(Arc::clone(&channel)))?;
        let queue_pair = domain.gsi_queue_pair(QueuePairOptions::new(Transport::Ud, &queue, DEPTH))?;
        let memory = domain.register(DEPTH * SLOT, Access::LOCAL_WRITE)?;
        queue.arm(Arm::Any);
        let gsi =
            Self { queue_pair, queue, channel, leaving: HashMap::new(), next: 0, memory, domain, device };
        (0..DEPTH).for_each(|slot| gsi.post(slot));
        Ok(gsi)
    }

    /// Has a slot receive the next datagram. The queue has room for all slots.
    fn post(&self, slot: usize) {
        let region = self.memory.region();
        let (at, len) = ((slot * SLOT) as u64, SLOT_BYTES);
        let buffers = Buffers::List([self.domain.element(region.lkey(), region.addr() + at, len)].into());
        let posted = self.queue_pair.post_recv(RecvRequest { id: slot as u64, len: len.into(), buffers });
        debug_assert_eq!(posted, Ok(()));
    }

    /// Whether one more datagram may be sent.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.leaving.len() < DEPTH
    }

    /// Sends a datagram.
    ///
    /// # Errors
    /// There is no way to the peer, or [no room](Self::has_room). It is as if lost then.
    pub fn send(&mut self, transmit: &Transmit) -> Result<(), DeviceError> {
        let local = transmit.path.local.to_ip();
        let gid_index = self.device.gid_index(local)?;
        let path = PathAttributes::new(gid_index, transmit.path.remote.0.into());
        let handle = self.domain.address_handle(path)?;
        let to = Datagram { address: handle.id(), remote_qpn: Qpn::GSI, remote_qkey: GSI_QKEY };
        let request = SendRequest {
            id: self.next,
            operation: SendOperation::Send,
            buffers: Buffers::Inline(transmit.mad.as_slice().into()),
            len: MAD_BYTES,
            signaled: true,
            solicited: false,
            fence: false,
            destination: Some(Recipient::Datagram(to)),
        };
        match self.queue_pair.post_send(request) {
            Ok(()) => {
                self.leaving.insert(self.next, handle);
                self.next += 1;
                Ok(())
            }
            Err(PostError::QueueFull(asked)) => {
                Err(DeviceError::Limit { what: "management datagrams", asked, limit: DEPTH })
            }
            Err(_) => Err(DeviceError::Gid(transmit.path.remote.to_string())),
        }
    }

    /// Hands out what has arrived, and where it came from and to. What isn't from another queue pair 1, or isn't of a
    /// datagram's length, is left out.
    pub fn receive(&mut self, mut visit: impl FnMut(Path, &[u8; MAD_LEN])) {
        while self.channel.try_event().is_some() {}
        self.queue.arm(Arm::Any);
        let mut done: Vec<WorkCompletion> = Vec::new();
        // As much as was there at once; a flood doesn't hold the caller for ever.
        while let Ok(1..) = self.queue.poll(&mut done, 2 * DEPTH) {
            if done.len() >= 2 * DEPTH {
                break;
            }
        }
        for WorkCompletion { completion, .. } in done {
            if completion.kind != CompletionKind::Recv {
                self.leaving.remove(&completion.id);
                continue;
            }
            let Ok(slot) = usize::try_from(completion.id) else { continue };
            let mut bytes = [0; SLOT];
            let whole = completion.len == SLOT_BYTES && completion.source_qp == Some(Qpn::GSI);
            if completion.status == Status::Success
                && whole
                && self.memory.mapping().read(slot * SLOT, &mut bytes).is_ok()
                && let Some((grh, mad)) = bytes.split_first_chunk::<GRH_LEN>()
                && let Ok(mad) = mad.try_into()
            {
                visit(path(grh), mad);
            }
            self.post(slot);
        }
    }
}

/// The ends that a global route header names; over IPv4 its last 20 bytes are an IPv4 header.
fn path(grh: &[u8; GRH_LEN]) -> Path {
    let [first, .., s0, s1, s2, s3, d0, d1, d2, d3] = *grh;
    if first >> 4 == 6 {
        let gid = |at: usize| {
            let mut bytes = [0; 16];
            bytes.copy_from_slice(&grh[at..at + 16]);
            Gid(bytes)
        };
        Path { remote: gid(8), local: gid(24) }
    } else {
        let gid = |octets: [u8; 4]| Gid::from(std::net::IpAddr::from(Ipv4Addr::from(octets)));
        Path { remote: gid([s0, s1, s2, s3]), local: gid([d0, d1, d2, d3]) }
    }
}

impl AsFd for Gsi {
    /// Readable when something may have arrived or left.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }
}

impl std::fmt::Debug for Gsi {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gsi").field("leaving", &self.leaving.len()).finish_non_exhaustive()
    }
}
