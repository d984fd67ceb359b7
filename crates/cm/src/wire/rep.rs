//! REP and RTU: a request is accepted, and the acceptance has been seen (IBA 12.6.8, 12.6.9).

use rocev2::{Psn, Qpn};

use super::PrivateData;
use super::field::message;
use crate::{CommId, Exponent};

message! {
    /// The answer that accepts a REQ (IBA 12.6.8, REP).
    Rep {
        /// Local Communication ID: names the connection at the sender of this REP.
        local_comm_id: CommId = (0, 0, 32),
        /// Remote Communication ID: the one in the REQ.
        remote_comm_id: CommId = (4, 0, 32),
        /// Local Q_Key: of reliable datagrams only.
        local_qkey: u32 = (8, 0, 32),
        /// Local QPN: the sender's queue pair.
        local_qpn: Qpn = (12, 0, 24),
        /// Local EE Context Number: of reliable datagrams and XRC only.
        local_ee_context_number: Qpn = (16, 0, 24),
        /// Starting PSN: the first that the sender's queue pair expects, which the receiver's is to send (IBA 12.7.31).
        starting_psn: Psn = (20, 0, 24),
        /// Responder Resources: READs and atomics that the sender can answer at a time.
        responder_resources: u8 = (24, 0, 8),
        /// Initiator Depth: READs and atomics that the sender will have under way at a time.
        initiator_depth: u8 = (25, 0, 8),
        /// Target ACK Delay: how long the sender takes to acknowledge.
        target_ack_delay: Exponent = (26, 0, 5),
        /// Failover Accepted: 0 if the alternate path was, 1 if not supported, 2 if refused.
        failover_accepted: u8 = (26, 5, 2),
        /// End-to-End Flow Control: whether the sender counts credits.
        end_to_end_flow_control: bool = (26, 7, 1),
        /// RNR Retry Count: as in the REQ, the other way.
        rnr_retry_count: u8 = (27, 0, 3),
        /// SRQ: whether the sender's queue pair has a shared receive queue.
        srq: bool = (27, 3, 1),
        /// Local CA GUID: the sender's channel adapter.
        local_ca_guid: u64 = (28, 0, 64),
        /// PrivateData.
        private_data: PrivateData<196> = (36, 0, 1568),
    }
}

message! {
    /// The REP has been seen, the sender is ready (IBA 12.6.9, RTU).
    Rtu {
        /// Local Communication ID.
        local_comm_id: CommId = (0, 0, 32),
        /// Remote Communication ID.
        remote_comm_id: CommId = (4, 0, 32),
        /// PrivateData.
        private_data: PrivateData<224> = (8, 0, 1792),
    }
}
