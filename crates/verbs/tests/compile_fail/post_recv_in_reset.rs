// A queue pair in RESET takes no receive requests.
use rdma_verbs::{QueuePair, RecvRequest, Reset, Slice};

fn receive(qp: &mut QueuePair<Reset>, slice: Slice) {
    qp.post_recv(RecvRequest::new([slice]));
}

fn main() {}
