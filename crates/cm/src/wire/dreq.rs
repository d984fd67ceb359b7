//! DREQ and DREP: the end of a connection (IBA 12.6.10, 12.6.11).

use rocev2::Qpn;

use super::PrivateData;
use super::field::message;
use crate::CommId;

message! {
    /// The sender ends the connection (IBA 12.6.10, DREQ).
    Dreq {
        /// Local Communication ID.
        local_comm_id: CommId = (0, 0, 32),
        /// Remote Communication ID.
        remote_comm_id: CommId = (4, 0, 32),
        /// Remote QPN/EECN: the receiver's queue pair.
        remote_qpn: Qpn = (8, 0, 24),
        /// PrivateData.
        private_data: PrivateData<220> = (12, 0, 1760),
    }
}

message! {
    /// The end has been seen (IBA 12.6.11, DREP).
    Drep {
        /// Local Communication ID.
        local_comm_id: CommId = (0, 0, 32),
        /// Remote Communication ID.
        remote_comm_id: CommId = (4, 0, 32),
        /// PrivateData.
        private_data: PrivateData<224> = (8, 0, 1792),
    }
}
