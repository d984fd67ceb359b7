// A remote address comes from a region that the peer described, never from a number.
use rdma_verbs::{QueuePair, ReadyToSend, SendRequest, Slice};

fn poke(qp: &mut QueuePair<ReadyToSend>, slice: Slice) {
    let _ = qp.post_send(SendRequest::write([slice], 0x7fff_0000_1234_u64));
}

fn main() {}
