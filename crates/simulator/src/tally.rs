//! What was simulated, counted.

use rocev2::wire::Transport;
use std::ops::AddAssign;

/// What a work request was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Operation {
    /// SEND.
    Send,
    /// SEND with immediate data.
    SendImmediate,
    /// SEND with invalidate.
    SendInvalidate,
    /// RDMA WRITE.
    Write,
    /// RDMA WRITE with immediate data.
    WriteImmediate,
    /// RDMA READ.
    Read,
    /// Compare-and-swap.
    CompareSwap,
    /// Fetch-and-add.
    FetchAdd,
    /// A memory window bound, or bound to nothing.
    Bind,
    /// A local invalidation.
    LocalInvalidate,
    /// A receive request.
    Receive,
}

impl Operation {
    /// All of them, with their names.
    pub const ALL: [(Self, &'static str); 11] = [
        (Self::Send, "SEND"),
        (Self::SendImmediate, "SEND with immediate"),
        (Self::SendInvalidate, "SEND with invalidate"),
        (Self::Write, "RDMA WRITE"),
        (Self::WriteImmediate, "RDMA WRITE with immediate"),
        (Self::Read, "RDMA READ"),
        (Self::CompareSwap, "compare-and-swap"),
        (Self::FetchAdd, "fetch-and-add"),
        (Self::Bind, "BIND_MW"),
        (Self::LocalInvalidate, "LOCAL_INV"),
        (Self::Receive, "receive request"),
    ];
}

/// How a work request was posted, in addition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Way {
    /// Its bytes were copied when it was posted.
    Inline,
    /// Success isn't reported.
    Unsignaled,
    /// It waits for the READs before it, and sends what they brought.
    Fenced,
    /// By a memory window's key.
    Window,
    /// With a key or range that gives no right.
    Refused,
    /// On a queue pair whose packets are sealed.
    Sealed,
}

impl Way {
    /// All of them, with their names.
    pub const ALL: [(Self, &'static str); 6] = [
        (Self::Inline, "inline"),
        (Self::Unsignaled, "unsignaled"),
        (Self::Fenced, "fenced, behind a READ into its buffer"),
        (Self::Window, "by a memory window's key"),
        (Self::Refused, "by a key that gives no right"),
        (Self::Sealed, "by a queue pair whose packets are sealed"),
    ];
}

/// What was done to packets, machines and objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Fault {
    /// A packet lost on a link.
    Lost,
    /// A packet that was overtaken.
    Reordered,
    /// A packet that arrived twice.
    Duplicated,
    /// A packet that arrived damaged.
    Corrupted,
    /// A packet for which a link's queue had no room.
    QueueFull,
    /// A packet for which the receiver's socket had no room.
    ReceiveBufferFull,
    /// A packet that a socket refused for want of room in its send buffer.
    SendBufferFull,
    /// A socket that couldn't be watched for want of memory.
    WatchRefused,
    /// A link cut for a while, in one direction or both.
    Partition,
    /// A host that isn't stepped for a while.
    Stall,
    /// A queue pair that was destroyed in mid-transfer.
    Destroyed,
    /// A queue pair told to go to the error state.
    SetToError,
    /// A region that was deregistered in mid-transfer.
    Deregistered,
    /// A memory window that was deallocated in mid-transfer.
    Deallocated,
    /// A send queue drained, and resumed.
    Drained,
    /// A sealed connection that got a new key in mid-transfer.
    Rekeyed,
    /// A sealed packet that somebody sent again, as it was or changed.
    Replayed,
    /// A completion queue that overflowed.
    QueueOverflowed,
}

impl Fault {
    /// All of them, with their names.
    pub const ALL: [(Self, &'static str); 18] = [
        (Self::Lost, "packets lost"),
        (Self::Reordered, "packets overtaken"),
        (Self::Duplicated, "packets duplicated"),
        (Self::Corrupted, "packets damaged"),
        (Self::QueueFull, "packets dropped by a full queue of the link"),
        (Self::ReceiveBufferFull, "packets dropped by a full receive buffer"),
        (Self::SendBufferFull, "times that a send buffer was full"),
        (Self::WatchRefused, "times that a socket couldn't be watched"),
        (Self::Partition, "links cut for a while"),
        (Self::Stall, "hosts stalled"),
        (Self::Destroyed, "queue pairs destroyed in mid-transfer"),
        (Self::SetToError, "queue pairs set to the error state"),
        (Self::Deregistered, "regions deregistered in mid-transfer"),
        (Self::Deallocated, "windows deallocated in mid-transfer"),
        (Self::Drained, "send queues drained and resumed"),
        (Self::Rekeyed, "keys of sealed packets replaced in mid-transfer"),
        (Self::Replayed, "sealed packets sent again, as they were or changed"),
        (Self::QueueOverflowed, "completion queues overflowed"),
    ];
}

/// The transports, with their names.
pub const TRANSPORTS: [(Transport, &str); 3] =
    [(Transport::Rc, "RC"), (Transport::Uc, "UC"), (Transport::Ud, "UD")];

/// How work requests ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ends {
    /// Posted.
    pub posted: u64,
    /// Ended with success; where that isn't reported, by what came after them.
    pub succeeded: u64,
    /// Ended with an error of their own.
    pub failed: u64,
    /// Ended with `WR_FLUSH_ERR`.
    pub flushed: u64,
}

/// What was simulated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Seeds.
    pub seeds: u64,
    /// Steps of devices and programs.
    pub steps: u64,
    /// Devices.
    pub devices: u64,
    /// Queue pairs.
    pub queue_pairs: u64,
    /// Packets sent.
    pub packets: u64,
    /// Virtual time, in nanoseconds.
    pub virtual_ns: u64,
    /// The longest time from the moment when everything was healed until everything had ended, in nanoseconds.
    pub longest_end_ns: u64,
    /// Work requests by transport and by what they were.
    pub operations: [[Ends; Operation::ALL.len()]; TRANSPORTS.len()],
    /// Work requests by how they were posted.
    pub ways: [u64; Way::ALL.len()],
    /// Faults.
    pub faults: [u64; Fault::ALL.len()],
}

impl Tally {
    pub(crate) fn of(&mut self, transport: Transport, operation: Operation) -> &mut Ends {
        let transport = TRANSPORTS.iter().position(|(it, _)| *it == transport).unwrap_or(0);
        &mut self.operations[transport][operation as usize]
    }

    pub(crate) fn way(&mut self, way: Way) {
        self.ways[way as usize] += 1;
    }

    pub(crate) fn fault(&mut self, fault: Fault) {
        self.faults[fault as usize] += 1;
    }
}

impl AddAssign<&Self> for Tally {
    fn add_assign(&mut self, other: &Self) {
        self.seeds += other.seeds;
        self.steps += other.steps;
        self.devices += other.devices;
        self.queue_pairs += other.queue_pairs;
        self.packets += other.packets;
        self.virtual_ns += other.virtual_ns;
        self.longest_end_ns = self.longest_end_ns.max(other.longest_end_ns);
        let sums = self.operations.iter_mut().flatten();
        for (sum, ends) in sums.zip(other.operations.iter().flatten()) {
            sum.posted += ends.posted;
            sum.succeeded += ends.succeeded;
            sum.failed += ends.failed;
            sum.flushed += ends.flushed;
        }
        for (sum, count) in self.ways.iter_mut().zip(other.ways) {
            *sum += count;
        }
        for (sum, count) in self.faults.iter_mut().zip(other.faults) {
            *sum += count;
        }
    }
}
