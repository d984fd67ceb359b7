//! Queue pairs in clear, beside a session: made, told of, connected.

use super::task::{End, Ends, Operation, Plan};
use crate::failure::Failure;
use rdma_verbs::{
    Access, CompletionQueue, ConnectOptions, Device, Endpoint, Gid, GidEntry, Init, MemoryRegion, PeerRights,
    ProtectionDomain, QueuePair, QueuePairLimits, ReadyToSend, RecvRequest, RemoteRegion, Slice,
};
use secure_rdma::SessionInfo;
use std::net::IpAddr;
use std::sync::Arc;

/// Bytes of buffers that one side may take for one measurement.
pub(crate) const MEMORY: u64 = 1 << 30;

/// Bytes of messages that are under way at a time, if they are more than one.
const UNDER_WAY: u64 = 32 << 20;

/// 0.01 ms: who takes messages is only ever short of receive requests for a moment.
const MIN_RNR_TIMER: u8 = 1;

/// What each byte of a message is.
const CONTENT: u8 = 0x7b;

/// Requests under way at a time of each queue pair, of `wanted`, for messages of that size.
pub(crate) fn depth(wanted: u32, size: u32, queue_pairs: u32) -> u32 {
    let fit = UNDER_WAY / (u64::from(size.max(1)) * u64::from(queue_pairs.max(1)));
    wanted.min(u32::try_from(fit).unwrap_or(u32::MAX)).max(1)
}

/// Receive requests for each request under way: one is used while another is posted again.
const RECEIVES: u32 = 2;

impl Plan {
    /// Bytes of buffers that a side takes for it.
    pub(crate) fn memory(&self) -> u64 {
        let each = u64::from(self.depth) * u64::from(1 + RECEIVES) + 1;
        u64::from(self.queue_pairs).saturating_mul(each).saturating_mul(self.size.into())
    }

    /// Whether this side posts messages.
    fn sends(&self, server: bool) -> bool {
        !server || self.server_sends()
    }

    /// Whether messages arrive on this side that need a receive request.
    pub(super) fn receives(&self, server: bool) -> bool {
        self.operation == Operation::Send && (server || self.server_sends())
    }

    /// Whether messages are copied when they are posted.
    pub(super) fn is_inline(&self) -> bool {
        self.size <= self.inline && matches!(self.operation, Operation::Send | Operation::Write)
    }
}

/// One side's queue pairs, not connected yet.
pub(crate) struct Prepared {
    plan: Plan,
    server: bool,
    gid: GidEntry,
    queue: Arc<CompletionQueue>,
    lanes: Vec<(QueuePair<Init>, Vec<Slice>, MemoryRegion)>,
    memory: Vec<MemoryRegion>,
}

impl Prepared {
    /// Makes them on the device of that session, for the address that the session uses.
    pub(crate) fn new(
        device: &Arc<Device>,
        info: &SessionInfo,
        plan: Plan,
        server: bool,
    ) -> Result<Self, Failure> {
        let gid = device.gid_for(info.own.address.ip())?;
        let domain = device.protection_domain()?;
        let depth = plan.depth as usize;
        let receives = if plan.receives(server) { depth * RECEIVES as usize } else { 0 };
        let capacity = plan.queue_pairs as usize * (depth + receives.max(1));
        let queue = device.completion_queue(capacity, None)?;
        let limits = QueuePairLimits {
            max_send_requests: depth,
            max_recv_requests: receives.max(1),
            max_sge: 1,
            max_inline: if plan.is_inline() { plan.size as usize } else { 0 },
        };
        let rights = PeerRights { write: true, read: true, atomic: plan.operation == Operation::Atomic };
        let mut access = Access::LOCAL_WRITE | Access::REMOTE_WRITE | Access::REMOTE_READ;
        if rights.atomic {
            access |= Access::REMOTE_ATOMIC;
        }
        let (mut lanes, mut memory) = (Vec::new(), Vec::new());
        for _ in 0..plan.queue_pairs {
            let mut queue_pair = QueuePair::builder(&domain, &queue).limits(limits).build()?.init(rights)?;
            for slice in slices(&domain, receives, plan.size, &mut memory)? {
                let posted = queue_pair.post_recv(RecvRequest::new([slice]));
                posted.map_err(|error| Failure::posting(&error))?;
            }
            let sends = if plan.sends(server) && !plan.is_inline() { depth } else { 0 };
            let free = slices(&domain, sends, plan.size, &mut memory)?;
            let region = domain.register(plan.size as usize, access)?;
            lanes.push((queue_pair, free, region));
        }
        Ok(Self { plan, server, gid, queue, lanes, memory })
    }

    /// What the other side needs to know of them.
    pub(crate) fn ends(&self) -> Ends {
        let endpoint = |queue_pair: &QueuePair<Init>| queue_pair.endpoint(&self.gid);
        let reads = self.lanes.first().map_or(0, |(queue_pair, ..)| endpoint(queue_pair).max_rd_atomic);
        let end = |(queue_pair, _, region): &(QueuePair<Init>, Vec<Slice>, MemoryRegion)| {
            let Endpoint { qpn, psn, .. } = endpoint(queue_pair);
            End::new(qpn, psn, region.remote())
        };
        Ends { reads, ends: self.lanes.iter().map(end).collect() }
    }

    /// Connects them to the other side's, which are at the address that the session has authenticated.
    pub(crate) fn connect(self, info: &SessionInfo, peer: &Ends) -> Result<Connected, Failure> {
        if peer.ends.len() != self.lanes.len() {
            return Err(Failure::Other(format!(
                "there are {} queue pairs on this side and {} on the other",
                self.lanes.len(),
                peer.ends.len()
            )));
        }
        let Some(path_mtu) = self.plan.path_mtu() else {
            return Err(Failure::Other(format!("there is no path MTU of {}", self.plan.mtu)));
        };
        let options = ConnectOptions {
            path_mtu: Some(path_mtu),
            min_rnr_timer: MIN_RNR_TIMER,
            ..ConnectOptions::default()
        };
        let address = info.remote.address;
        let gid = match address.ip() {
            IpAddr::V4(address) => Gid::from(address.to_ipv6_mapped().octets()),
            IpAddr::V6(address) => Gid::from(address.octets()),
        };
        let mut lanes = Vec::new();
        for ((queue_pair, free, region), end) in self.lanes.into_iter().zip(&peer.ends) {
            let (qpn, psn, remote) = end.read()?;
            let peer = Endpoint {
                qpn,
                psn,
                gid,
                udp_port: Some(address.port()),
                lid: None,
                mtu: path_mtu,
                max_rd_atomic: peer.reads,
            };
            let queue_pair = queue_pair.connect(&self.gid, &peer, &options)?;
            let free = free.into_iter().map(filled).collect::<Result<_, _>>()?;
            lanes.push(Lane { queue_pair, free, region, remote });
        }
        let Self { plan, server, queue, memory, .. } = self;
        Ok(Connected { plan, server, queue, lanes, _memory: memory })
    }
}

/// So many slices of a new region.
fn slices(
    domain: &Arc<ProtectionDomain>,
    count: usize,
    size: u32,
    memory: &mut Vec<MemoryRegion>,
) -> Result<Vec<Slice>, Failure> {
    if count == 0 {
        return Ok(Vec::new());
    }
    let region = domain.register(count * size as usize, Access::LOCAL_WRITE)?;
    let slice = |at: u64| Ok(region.slice(at * u64::from(size), size).map_err(rdma_verbs::Error::from)?);
    let slices = (0..count as u64).map(slice).collect();
    memory.push(region);
    slices
}

fn filled(mut slice: Slice) -> Result<Slice, Failure> {
    slice.fill(&vec![CONTENT; slice.capacity() as usize]).map_err(rdma_verbs::Error::from)?;
    Ok(slice)
}

/// A queue pair with its buffers.
pub(crate) struct Lane {
    pub(super) queue_pair: QueuePair<ReadyToSend>,
    /// Buffers to send from, or to read into.
    pub(super) free: Vec<Slice>,
    /// Memory that the other side writes and reads.
    pub(super) region: MemoryRegion,
    /// The other side's.
    pub(super) remote: RemoteRegion,
}

/// One side's queue pairs, connected.
pub(crate) struct Connected {
    pub(super) plan: Plan,
    pub(super) server: bool,
    pub(super) queue: Arc<CompletionQueue>,
    pub(super) lanes: Vec<Lane>,
    _memory: Vec<MemoryRegion>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_messages_are_fewer_under_way_but_always_one() {
        assert_eq!(depth(128, 64, 1), 128);
        assert_eq!(depth(128, 1 << 20, 1), 32);
        assert_eq!(depth(128, 1 << 20, 16), 2);
        assert_eq!(depth(128, 8 << 20, 256), 1);
        assert_eq!(depth(1, 1, 1), 1);
    }
}
