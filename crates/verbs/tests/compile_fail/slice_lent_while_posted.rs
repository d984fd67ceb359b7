// The bytes of a slice are lent only while it isn't posted.
use rdma_verbs::{QueuePair, ReadyToSend, SendRequest, Slice};

fn overwrite(qp: &mut QueuePair<ReadyToSend>, mut slice: Slice) {
    let bytes = slice.bytes_mut().unwrap();
    let _ = qp.post_send(SendRequest::send([slice]));
    bytes.fill(7);
}

fn main() {}
