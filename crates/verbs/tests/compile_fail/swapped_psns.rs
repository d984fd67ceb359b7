// rq_psn is the peer's PSN and sq_psn one's own: the types tell them apart.
use rdma_verbs::{Gid, OwnPsn, Peer, PeerPsn, QueuePair, ReadyToReceive, SendOptions, Qpn};

fn peer(qpn: Qpn, gid: Gid, own: OwnPsn) -> Peer {
    Peer { qpn, psn: own, gid, udp_port: None, lid: None }
}

fn start(qp: QueuePair<ReadyToReceive>, peers: PeerPsn, options: &SendOptions) {
    let _ = qp.ready_to_send(peers, options);
}

fn main() {}
