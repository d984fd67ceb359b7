//! SIDR_REQ and SIDR_REP: which queue pair serves datagrams (IBA 12.11).

use rocev2::Qpn;

use super::PrivateData;
use super::field::{message, values};
use crate::CommId;

message! {
    /// Asks for the queue pair that serves datagrams for a service (IBA 12.11.1, SIDR_REQ).
    SidrReq {
        /// RequestID: names the request at its sender.
        request_id: CommId = (0, 0, 32),
        /// Partition Key.
        partition_key: u16 = (4, 0, 16),
        /// ServiceID.
        service_id: u64 = (8, 0, 64),
        /// PrivateData; of RDMA IP CM services it begins with [`crate::ip::IpAddressing`].
        private_data: PrivateData<216> = (16, 0, 1728),
    }
}

values! {
    /// What becomes of a request (IBA 12.11.2.1, "Status").
    SidrStatus: u8 {
        /// Valid: Q_Key and QPN are.
        Valid = 0,
        /// The service isn't supported.
        Unsupported = 1,
        /// The service's provider refuses.
        Rejected = 2,
        /// No QP available.
        NoQp = 3,
        /// Another CM is to be asked.
        Redirect = 4,
        /// This version of the class isn't supported.
        UnsupportedVersion = 5,
    }
}

message! {
    /// The queue pair that serves datagrams (IBA 12.11.2, SIDR_REP).
    SidrRep {
        /// RequestID: the one in the SIDR_REQ.
        request_id: CommId = (0, 0, 32),
        /// Status.
        status: SidrStatus = (4, 0, 8),
        /// Additional Information Length: at most 72.
        additional_info_length: u8 = (5, 0, 8),
        /// QPN: the queue pair.
        qpn: Qpn = (8, 0, 24),
        /// ServiceID.
        service_id: u64 = (12, 0, 64),
        /// Q_Key: the queue pair's.
        qkey: u32 = (20, 0, 32),
        /// Additional Information.
        additional_info: [u8; 72] = (24, 0, 576),
        /// PrivateData.
        private_data: PrivateData<136> = (96, 0, 1088),
    }
}
