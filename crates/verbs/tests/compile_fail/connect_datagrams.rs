// Datagrams have no peer to be connected to.
use rdma_verbs::{ConnectOptions, Endpoint, GidEntry, Init, QueuePair, Ud};

fn connect(qp: QueuePair<Init, Ud>, own: &GidEntry, peer: &Endpoint) {
    let _ = qp.connect(own, peer, &ConnectOptions::default());
}

fn main() {}
