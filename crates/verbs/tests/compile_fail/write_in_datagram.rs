// Datagrams reach receive requests, never a peer's memory.
use rdma_verbs::{QueuePair, ReadyToSend, RemoteRange, SendRequest, Slice, Ud};

fn write(qp: &mut QueuePair<ReadyToSend, Ud>, slice: Slice, remote: RemoteRange) {
    let _ = qp.post_send(SendRequest::write([slice], remote));
}

fn main() {}
