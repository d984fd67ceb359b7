//! MRA: a message has been seen, its answer takes longer (IBA 12.6.6).

use super::PrivateData;
use super::field::{message, values};
use crate::{CommId, Exponent};

values! {
    /// Which message is meant (IBA 12.7.2, "Message MRAed").
    MessageMraed: u8 {
        /// A REQ.
        Req = 0,
        /// A REP.
        Rep = 1,
        /// A LAP.
        Lap = 2,
    }
}

message! {
    /// A message has been seen, and its answer takes longer (IBA 12.6.6, MRA).
    Mra {
        /// Local Communication ID.
        local_comm_id: CommId = (0, 0, 32),
        /// Remote Communication ID.
        remote_comm_id: CommId = (4, 0, 32),
        /// Message MRAed.
        message_mraed: MessageMraed = (8, 0, 2),
        /// Service Timeout: how long the answer may take.
        service_timeout: Exponent = (9, 0, 5),
        /// PrivateData.
        private_data: PrivateData<222> = (10, 0, 1776),
    }
}
