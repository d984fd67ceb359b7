// A queue pair that shares a receive queue has none of its own.
use rdma_verbs::{QueuePair, Rc, ReadyToSend, RecvRequest, Shared, Slice};

fn receive(qp: &mut QueuePair<ReadyToSend, Rc, Shared>, slice: Slice) {
    let _ = qp.post_recv(RecvRequest::new([slice]));
}

fn main() {}
