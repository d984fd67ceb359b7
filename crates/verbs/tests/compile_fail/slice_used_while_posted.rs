// A posted slice belongs to the device until its completion gives it back.
use rdma_verbs::{QueuePair, ReadyToSend, SendRequest, Slice};

fn reuse(qp: &mut QueuePair<ReadyToSend>, mut slice: Slice) {
    let _ = qp.post_send(SendRequest::send([slice]));
    let _ = slice.fill(b"overwritten while it is being sent");
}

fn main() {}
