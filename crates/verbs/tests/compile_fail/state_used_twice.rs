// A transition takes the queue pair along: nobody posts to the state that it has left.
use rdma_verbs::{PeerRights, QueuePair, Reset};

fn drive(qp: QueuePair<Reset>, rights: PeerRights) {
    let _ = qp.init(rights);
    let _ = qp.init(rights);
}

fn main() {}
