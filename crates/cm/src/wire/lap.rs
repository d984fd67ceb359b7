//! LAP and APR: another alternate path, and what becomes of it (IBA 12.8.1, 12.8.2).

use rocev2::Qpn;

use super::PrivateData;
use super::field::{message, values};
use crate::{CommId, Exponent, Gid};

message! {
    /// Load alternate path (IBA 12.8.1, LAP).
    Lap {
        /// Local Communication ID.
        local_comm_id: CommId = (0, 0, 32),
        /// Remote Communication ID.
        remote_comm_id: CommId = (4, 0, 32),
        /// Remote QPN/EECN: the receiver's queue pair.
        remote_qpn: Qpn = (12, 0, 24),
        /// Remote CM Response Timeout.
        remote_cm_response_timeout: Exponent = (15, 0, 5),
        /// Alternate Local Port LID.
        alternate_local_port_lid: u16 = (20, 0, 16),
        /// Alternate Remote Port LID.
        alternate_remote_port_lid: u16 = (22, 0, 16),
        /// Alternate Local Port GID.
        alternate_local_port_gid: Gid = (24, 0, 128),
        /// Alternate Remote Port GID.
        alternate_remote_port_gid: Gid = (40, 0, 128),
        /// Alternate Flow Label.
        alternate_flow_label: u32 = (56, 0, 20),
        /// Alternate Traffic Class.
        alternate_traffic_class: u8 = (59, 0, 8),
        /// Alternate Hop Limit.
        alternate_hop_limit: u8 = (60, 0, 8),
        /// Alternate Packet Rate.
        alternate_packet_rate: u8 = (61, 2, 6),
        /// Alternate SL.
        alternate_sl: u8 = (62, 0, 4),
        /// Alternate Subnet Local.
        alternate_subnet_local: bool = (62, 4, 1),
        /// Alternate Local ACK Timeout.
        alternate_local_ack_timeout: Exponent = (63, 0, 5),
        /// PrivateData.
        private_data: PrivateData<168> = (64, 0, 1344),
    }
}

values! {
    /// What becomes of an alternate path (IBA 12.8.2.1, "AP status").
    ApStatus: u8 {
        /// It is loaded.
        Loaded = 0,
        /// Invalid communication IDs.
        InvalidCommId = 1,
        /// Alternate paths aren't supported.
        Unsupported = 2,
        /// It is refused.
        Rejected = 3,
        /// Another CM is to be asked.
        Redirect = 4,
        /// It is loaded already.
        Duplicate = 5,
        /// Another queue pair than the connection's.
        InvalidQpn = 6,
    }
}

message! {
    /// What becomes of the alternate path (IBA 12.8.2, APR).
    Apr {
        /// Local Communication ID.
        local_comm_id: CommId = (0, 0, 32),
        /// Remote Communication ID.
        remote_comm_id: CommId = (4, 0, 32),
        /// Additional Information Length: at most 72.
        additional_info_length: u8 = (8, 0, 8),
        /// AP status.
        ap_status: ApStatus = (9, 0, 8),
        /// Additional Information.
        additional_info: [u8; 72] = (12, 0, 576),
        /// PrivateData.
        private_data: PrivateData<148> = (84, 0, 1184),
    }
}
