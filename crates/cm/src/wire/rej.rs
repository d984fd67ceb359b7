//! REJ: a message is refused (IBA 12.6.7).

use super::PrivateData;
use super::field::{message, values};
use crate::CommId;

values! {
    /// Which message is refused (IBA 12.7.3, "Message REJected").
    MessageRejected: u8 {
        /// A REQ.
        Req = 0,
        /// A REP.
        Rep = 1,
        /// None: the sender gives up.
        None = 2,
    }
}

values! {
    /// Why a message is refused (IBA 12.6.7.2, "Rejection Reason").
    RejectReason: u16 {
        /// No QP available.
        NoQp = 1,
        /// No EEC available.
        NoEec = 2,
        /// No resources available.
        NoResources = 3,
        /// Timeout; ARI: the sender's CA GUID.
        Timeout = 4,
        /// Unsupported request.
        Unsupported = 5,
        /// Invalid communication ID.
        InvalidCommId = 6,
        /// Invalid communication instance: ids that don't belong together, or another queue pair.
        InvalidCommInstance = 7,
        /// Invalid service ID: nobody listens there.
        InvalidServiceId = 8,
        /// Invalid transport service type.
        InvalidTransportServiceType = 9,
        /// Stale connection: the queue pair that the message names is connected already.
        StaleConnection = 10,
        /// RDC doesn't exist.
        RdcDoesNotExist = 11,
        /// Primary remote port GID rejected; ARI: one that would do.
        PrimaryRemotePortGid = 12,
        /// Primary remote port LID rejected.
        PrimaryRemotePortLid = 13,
        /// Invalid primary SL.
        PrimarySl = 14,
        /// Invalid primary traffic class.
        PrimaryTrafficClass = 15,
        /// Invalid primary hop limit.
        PrimaryHopLimit = 16,
        /// Invalid primary packet rate.
        PrimaryPacketRate = 17,
        /// Alternate remote port GID rejected.
        AlternateRemotePortGid = 18,
        /// Alternate remote port LID rejected.
        AlternateRemotePortLid = 19,
        /// Invalid alternate SL.
        AlternateSl = 20,
        /// Invalid alternate traffic class.
        AlternateTrafficClass = 21,
        /// Invalid alternate hop limit.
        AlternateHopLimit = 22,
        /// Invalid alternate packet rate.
        AlternatePacketRate = 23,
        /// Port and CM redirection.
        PortCmRedirection = 24,
        /// Port redirection.
        PortRedirection = 25,
        /// Invalid path MTU; ARI: the largest that would do.
        InvalidPathMtu = 26,
        /// Insufficient responder resources.
        InsufficientResponderResources = 27,
        /// Consumer reject: ARI and private data are the consumer's.
        Consumer = 28,
        /// RNR retry count rejected.
        RnrRetryCount = 29,
        /// Duplicate local communication ID.
        DuplicateLocalCommId = 30,
        /// Invalid class version; ARI: the highest that would do.
        InvalidClassVersion = 31,
        /// Invalid primary flow label.
        PrimaryFlowLabel = 32,
        /// Invalid alternate flow label.
        AlternateFlowLabel = 33,
        /// Vendor option isn't supported.
        VendorOption = 35,
    }
}

message! {
    /// A message is refused, or the sender gives up (IBA 12.6.7, REJ).
    Rej {
        /// Local Communication ID: 0 if the sender has none.
        local_comm_id: CommId = (0, 0, 32),
        /// Remote Communication ID: 0 if the sender knows none.
        remote_comm_id: CommId = (4, 0, 32),
        /// Message REJected.
        message_rejected: MessageRejected = (8, 0, 2),
        /// Reject Info Length: bytes of ARI, at most 72.
        reject_info_length: u8 = (9, 0, 7),
        /// Rejection Reason.
        reason: RejectReason = (10, 0, 16),
        /// Additional Reject Information (ARI).
        ari: [u8; 72] = (12, 0, 576),
        /// PrivateData.
        private_data: PrivateData<148> = (84, 0, 1184),
    }
}

impl Rej {
    /// The additional information that is there; none beyond the 72 bytes.
    #[must_use]
    pub fn ari(&self) -> &[u8] {
        self.ari.get(..self.reject_info_length.into()).unwrap_or(&self.ari)
    }
}
