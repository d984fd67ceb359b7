// A handle that could be copied would be destroyed twice.
use rdma_verbs::{MemoryRegion, QueuePair, ReadyToSend};

fn copy(qp: &QueuePair<ReadyToSend>, region: &MemoryRegion) -> (QueuePair<ReadyToSend>, MemoryRegion) {
    (qp.clone(), region.clone())
}

fn main() {}
