// A queue pair sends only when it was driven to RTS.
use rdma_verbs::{Init, QueuePair, SendRequest};

fn send(qp: &mut QueuePair<Init>) {
    qp.post_send(SendRequest::send_inline(b"too early"));
}

fn main() {}
