// Only reliable connections read.
use rdma_verbs::{QueuePair, ReadyToSend, RemoteRange, SendRequest, Slice, Uc};

fn read(qp: &mut QueuePair<ReadyToSend, Uc>, slice: Slice, remote: RemoteRange) {
    let _ = qp.post_send(SendRequest::read([slice], remote));
}

fn main() {}
