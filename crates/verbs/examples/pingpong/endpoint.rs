//! Everything of the verbs that the game needs beside the connection.

use super::args::Args;
use super::check;
use crate::common::Failure;
use rdma_verbs::{
    Access, CompletionQueue, Connected, Device, Init, PeerRights, QueuePair, QueuePairBuilder,
    QueuePairLimits, Slice,
};
use std::sync::Arc;

/// Makes queue pairs those of a transport.
pub(crate) type Made<T> = fn(QueuePairBuilder) -> QueuePairBuilder<T>;

pub(crate) struct Endpoint {
    pub(crate) device: Arc<Device>,
    pub(crate) queue: Arc<CompletionQueue>,
    /// One more than there are receives to post. Each is as long as a message, and filled as the stock client
    /// fills its own.
    pub(crate) buffers: Vec<Slice>,
}

impl Endpoint {
    pub(crate) fn open<T: Connected>(
        args: &Args,
        make: Made<T>,
    ) -> Result<(Self, QueuePair<Init, T>), Failure> {
        let device = Device::open(&args.device())?;
        let domain = device.protection_domain()?;
        let (size, depth) = (args.size, args.depth());
        let limit = device.attributes().max_message;
        if size > limit {
            return Err(format!("messages of {size} bytes: the device sends {limit} at most").into());
        }
        let channel = if args.events { Some(device.completion_channel()?) } else { None };
        let queue = device.completion_queue(depth as usize + 1, channel.as_ref())?;
        let limits = QueuePairLimits {
            max_send_requests: 1,
            max_recv_requests: depth as usize,
            max_sge: 1,
            max_inline: 0,
        };
        let qp =
            make(QueuePair::builder(&domain, &queue).limits(limits)).build()?.init(PeerRights::default())?;

        let count = u64::from(depth) + 1;
        let memory = usize::try_from(count * u64::from(size))?.max(1);
        let memory = domain.register(memory, Access::LOCAL_WRITE)?;
        let content = check::content(size as usize, args.chk);
        let buffer = |number| -> Result<Slice, Failure> {
            let mut slice = memory.slice(number * u64::from(size), size)?;
            slice.fill(&content)?;
            Ok(slice)
        };
        let buffers = (0..count).map(buffer).collect::<Result<_, _>>()?;
        Ok((Self { device, queue, buffers }, qp))
    }
}
