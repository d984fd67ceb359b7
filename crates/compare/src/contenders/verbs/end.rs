//! One end: a device with queue pairs, from making them to their completions.

use super::{LOOK, SIGNAL, check, fill};
use crate::clock::Clock;
use crate::ends::Meeting;
use crate::failure::Failure;
use rdma_verbs::{
    Access, AsyncChannel, Completion, CompletionChannel, CompletionQueue, ConnectOptions, Device,
    DeviceSelector, Endpoint, GidEntry, Init, MemoryRegion, PeerRights, ProtectionDomain, QueuePair,
    QueuePairLimits, ReadyToSend, RecvRequest, RemoteRegion, SendRequest, Slice, State,
};
use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;

/// 0.01 ms: the receiver is only ever short of receive requests for a moment.
const MIN_RNR_TIMER: u8 = 1;

/// What an end is made for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Need {
    pub(super) queue_pairs: usize,
    /// Send requests of each queue pair, and the bytes of each one's buffer; 0 for none.
    pub(super) sends: usize,
    pub(super) send_size: usize,
    /// Receive requests of each.
    pub(super) receives: usize,
    pub(super) receive_size: usize,
    /// Bytes that are copied when they are posted.
    pub(super) inline: usize,
    /// Bytes of memory for the other end to write and read.
    pub(super) region: usize,
    /// Whether it sleeps where it waits.
    pub(super) waits: bool,
}

impl Default for Need {
    fn default() -> Self {
        Self {
            queue_pairs: 1,
            sends: 1,
            send_size: 0,
            receives: 1,
            receive_size: 0,
            inline: 0,
            region: 0,
            waits: false,
        }
    }
}

/// What the ends tell each other.
#[derive(Debug)]
pub(super) enum Told {
    /// Where it is.
    End { queue_pairs: Vec<Endpoint>, region: Option<RemoteRegion> },
    /// Its queue pairs take packets.
    Ready,
}

/// An end whose queue pairs aren't connected yet.
pub(super) struct Prepared {
    need: Need,
    gid: GidEntry,
    queue: Arc<CompletionQueue>,
    channel: Option<Arc<CompletionChannel>>,
    queue_pairs: Vec<QueuePair<Init>>,
    free: Vec<Slice>,
    region: Option<MemoryRegion>,
    memory: Vec<MemoryRegion>,
    device: Arc<Device>,
}

impl Prepared {
    pub(super) fn new(device: &DeviceSelector, host: IpAddr, need: Need) -> Result<Self, Failure> {
        let device = Device::open(device)?;
        let gid = device.gid_for(host)?;
        let domain = device.protection_domain()?;
        let channel = if need.waits { Some(device.completion_channel()?) } else { None };
        let capacity = need.queue_pairs * (need.sends + need.receives);
        let queue = device.completion_queue(capacity, channel.as_ref())?;
        let limits = QueuePairLimits {
            max_send_requests: need.sends,
            max_recv_requests: need.receives,
            max_sge: 1,
            max_inline: need.inline,
        };
        let rights = PeerRights { write: need.region > 0, read: need.region > 0, ..PeerRights::default() };
        let mut memory = Vec::new();
        let mut queue_pairs = Vec::new();
        for _ in 0..need.queue_pairs {
            let mut queue_pair = QueuePair::builder(&domain, &queue).limits(limits).build()?.init(rights)?;
            for slice in slices(&domain, need.receives, need.receive_size, &mut memory)? {
                queue_pair.post_recv(RecvRequest::new([slice]))?;
            }
            queue_pairs.push(queue_pair);
        }
        let free = slices(&domain, need.sends, need.send_size, &mut memory)?;
        let free = free.into_iter().map(fill).collect::<Result<_, _>>()?;
        let access = Access::LOCAL_WRITE | Access::REMOTE_WRITE | Access::REMOTE_READ;
        let region = if need.region > 0 { Some(domain.register(need.region, access)?) } else { None };
        if let Some(region) = &region {
            region.write(0, &vec![0x5a; need.region])?;
        }
        Ok(Self { need, gid, queue, channel, queue_pairs, free, region, memory, device })
    }

    /// Tells the other end where this one is, and connects all queue pairs to its.
    pub(super) fn meet(self, meeting: &Meeting<Told>) -> Result<Connected, Failure> {
        let own = self.queue_pairs.iter().map(|queue_pair| queue_pair.endpoint(&self.gid)).collect();
        let region = self.region.as_ref().map(MemoryRegion::remote);
        meeting.tell(Told::End { queue_pairs: own, region });
        let Told::End { queue_pairs: peers, region: remote } = meeting.hear()? else {
            return Err("the other end is ready before it said where it is".into());
        };
        let options = ConnectOptions { min_rnr_timer: MIN_RNR_TIMER, ..ConnectOptions::default() };
        let mut queue_pairs = Vec::new();
        for (queue_pair, peer) in self.queue_pairs.into_iter().zip(&peers) {
            queue_pairs.push(queue_pair.connect(&self.gid, peer, &options)?);
        }
        meeting.tell(Told::Ready);
        let Told::Ready = meeting.hear()? else { return Err("the other end isn't ready".into()) };
        Ok(Connected {
            need: self.need,
            queue_pairs,
            queue: self.queue,
            channel: self.channel,
            free: self.free,
            sent: 0,
            arrived: VecDeque::new(),
            taken: Vec::new(),
            remote,
            _region: self.region,
            _memory: self.memory,
            _device: self.device,
        })
    }
}

/// So many slices of a new region; none of size 0.
fn slices(
    domain: &Arc<ProtectionDomain>,
    count: usize,
    size: usize,
    memory: &mut Vec<MemoryRegion>,
) -> Result<Vec<Slice>, Failure> {
    if size == 0 {
        return Ok(Vec::new());
    }
    let region = domain.register(count * size, Access::LOCAL_WRITE)?;
    let slice = |at: usize| Ok(region.slice((at * size) as u64, u32::try_from(size)?)?);
    let slices = (0..count).map(slice).collect();
    memory.push(region);
    slices
}

/// An end that is connected.
pub(super) struct Connected {
    need: Need,
    pub(super) queue_pairs: Vec<QueuePair<ReadyToSend>>,
    queue: Arc<CompletionQueue>,
    channel: Option<Arc<CompletionChannel>>,
    /// Buffers to send from.
    pub(super) free: Vec<Slice>,
    /// Messages that were sent one by one.
    sent: usize,
    /// Messages of which nobody knows yet.
    arrived: VecDeque<Completion>,
    taken: Vec<Completion>,
    remote: Option<RemoteRegion>,
    _region: Option<MemoryRegion>,
    _memory: Vec<MemoryRegion>,
    _device: Arc<Device>,
}

impl Connected {
    /// The other end's memory.
    pub(super) fn remote(&self) -> Result<RemoteRegion, Failure> {
        self.remote.ok_or_else(|| "the other end has told of no memory".into())
    }

    /// Looks for completions for a while; how many there were.
    pub(super) fn look(&self, done: &mut Vec<Completion>) -> Result<usize, Failure> {
        let count = self.queue.spin(done, done.capacity().max(1), LOOK)?;
        done.iter().try_for_each(check)?;
        Ok(count)
    }

    /// The same, but when time is up the other end may be gone, and how requests end means nothing any more.
    pub(super) fn look_until(&self, done: &mut Vec<Completion>, clock: &Clock) -> Result<(), Failure> {
        match self.look(done) {
            Err(_) if clock.over() => done.clear(),
            result => drop(result?),
        }
        Ok(())
    }

    /// Whether the queue pairs have come through it.
    pub(super) fn check_alive(&self) -> Result<(), Failure> {
        for queue_pair in &self.queue_pairs {
            let state = queue_pair.query()?.state;
            if state != State::ReadyToSend {
                return Err(format!("a queue pair ended in state {state:?}").into());
            }
        }
        Ok(())
    }

    /// Posts the receive request of a message again.
    pub(super) fn post_again(&mut self, mut completion: Completion) -> Result<(), Failure> {
        let slice = completion.slice().ok_or("a message came without its buffer")?;
        let of = |queue_pair: &&mut QueuePair<ReadyToSend>| queue_pair.qpn() == completion.qpn;
        let queue_pair = self.queue_pairs.iter_mut().find(of).ok_or("a message of no queue pair")?;
        Ok(queue_pair.post_recv(RecvRequest::new([slice]))?)
    }

    /// Sends a message of the size that was asked for; every `SIGNAL`th is reported.
    pub(super) fn send_one(&mut self) -> Result<(), Failure> {
        let slice = self.free.pop().ok_or("more messages are under way than there are buffers")?;
        self.sent += 1;
        let request = SendRequest::send([slice]);
        let reported = self.sent.is_multiple_of(SIGNAL);
        Ok(self.queue_pairs[0].post_send(if reported { request } else { request.unsignaled() })?)
    }

    /// The channel, for tokio.
    pub(super) fn channel(&self) -> Result<AsyncChannel, Failure> {
        let channel = self.channel.as_ref().ok_or("this end was not made to wait")?;
        Ok(AsyncChannel::new(Arc::clone(channel))?)
    }

    /// The next message, waited for asleep; `None` when time is up.
    pub(super) async fn await_message(
        &mut self,
        channel: &AsyncChannel,
        clock: &Clock,
    ) -> Result<Option<Completion>, Failure> {
        while self.arrived.is_empty() && !clock.over() {
            let Self { queue, taken, need, .. } = self;
            let some = channel.completions(queue, taken, need.sends + need.receives);
            // Cancelling loses nothing.
            if let Ok(result) = tokio::time::timeout(LOOK * 20, some).await {
                result?;
            }
            self.sort(clock)?;
        }
        Ok(self.arrived.pop_front())
    }

    /// The next message, looked for all the time; `None` when time is up.
    pub(super) fn await_message_looking(&mut self, clock: &Clock) -> Result<Option<Completion>, Failure> {
        while self.arrived.is_empty() && !clock.over() {
            self.queue.spin(&mut self.taken, self.need.sends + self.need.receives, LOOK)?;
            self.sort(clock)?;
        }
        Ok(self.arrived.pop_front())
    }

    /// Buffers that were sent become free, messages wait to be taken.
    fn sort(&mut self, clock: &Clock) -> Result<(), Failure> {
        for completion in self.taken.drain(..) {
            if clock.over() {
                continue;
            }
            check(&completion)?;
            if completion.kind.is_recv() {
                self.arrived.push_back(completion);
            } else {
                let released = completion.released.into_iter().flat_map(|released| released.slices);
                self.free.extend(completion.slices.into_iter().chain(released));
            }
        }
        Ok(())
    }
}
