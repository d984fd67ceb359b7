//! REQ: a request for a connection (IBA 12.6.5).

use rocev2::{Psn, Qpn};

use super::PrivateData;
use super::field::{message, values};
use crate::{CommId, Exponent, Gid};

values! {
    /// The transport that is asked for (IBA 12.7.16, "Transport Service Type").
    TransportServiceType: u8 {
        /// Reliable connection.
        Rc = 0,
        /// Unreliable connection.
        Uc = 1,
        /// Reliable datagram.
        Rd = 2,
        /// One that [`Req::extended_transport_type`] names: 1 is XRC.
        Extended = 3,
    }
}

message! {
    /// A request for a connection (IBA 12.6.5, REQ). "Local" is who sends it, "remote" who receives it.
    Req {
        /// Local Communication ID: names the connection at the sender.
        local_comm_id: CommId = (0, 0, 32),
        /// ServiceID: what the sender wants to be connected with.
        service_id: u64 = (8, 0, 64),
        /// Local CA GUID: the sender's channel adapter.
        local_ca_guid: u64 = (16, 0, 64),
        /// Local Q_Key: of reliable datagrams only.
        local_qkey: u32 = (28, 0, 32),
        /// Local QPN: the sender's queue pair.
        local_qpn: Qpn = (32, 0, 24),
        /// Responder Resources: READs and atomics that the sender can answer at a time.
        responder_resources: u8 = (35, 0, 8),
        /// Local EECN: of reliable datagrams and XRC only.
        local_eecn: Qpn = (36, 0, 24),
        /// Initiator Depth: READs and atomics that the sender will have under way at a time.
        initiator_depth: u8 = (39, 0, 8),
        /// Remote EECN: of reliable datagrams only.
        remote_eecn: Qpn = (40, 0, 24),
        /// Remote CM Response Timeout: in which the receiver is to answer this REQ.
        remote_cm_response_timeout: Exponent = (43, 0, 5),
        /// Transport Service Type.
        transport_service_type: TransportServiceType = (43, 5, 2),
        /// End-to-End Flow Control: whether the sender counts credits.
        end_to_end_flow_control: bool = (43, 7, 1),
        /// Starting PSN: the first that the sender's queue pair expects, which the receiver's is to send (IBA 12.7.31).
        starting_psn: Psn = (44, 0, 24),
        /// Local CM Response Timeout: in which the sender answers a REP.
        local_cm_response_timeout: Exponent = (47, 0, 5),
        /// Retry Count: how often the receiver's queue pair repeats what isn't acknowledged.
        retry_count: u8 = (47, 5, 3),
        /// Partition Key.
        partition_key: u16 = (48, 0, 16),
        /// Path Packet Payload MTU: as [`rocev2::Mtu::code`].
        path_packet_payload_mtu: u8 = (50, 0, 4),
        /// RDC Exists: of reliable datagrams only.
        rdc_exists: bool = (50, 4, 1),
        /// RNR Retry Count: how often the receiver's queue pair tries again when the sender's isn't ready; 7 is
        /// for ever.
        rnr_retry_count: u8 = (50, 5, 3),
        /// Max CM Retries: how often either side repeats a message that isn't answered.
        max_cm_retries: u8 = (51, 0, 4),
        /// SRQ: whether the sender's queue pair has a shared receive queue.
        srq: bool = (51, 4, 1),
        /// Extended Transport Type.
        extended_transport_type: u8 = (51, 5, 3),
        /// Primary Local Port LID: 0xffff over RoCE.
        primary_local_port_lid: u16 = (52, 0, 16),
        /// Primary Remote Port LID: 0xffff over RoCE.
        primary_remote_port_lid: u16 = (54, 0, 16),
        /// Primary Local Port GID: the sender's address.
        primary_local_port_gid: Gid = (56, 0, 128),
        /// Primary Remote Port GID: the receiver's address.
        primary_remote_port_gid: Gid = (72, 0, 128),
        /// Primary Flow Label.
        primary_flow_label: u32 = (88, 0, 20),
        /// Primary Packet Rate: as `enum ibv_rate`.
        primary_packet_rate: u8 = (91, 2, 6),
        /// Primary Traffic Class.
        primary_traffic_class: u8 = (92, 0, 8),
        /// Primary Hop Limit.
        primary_hop_limit: u8 = (93, 0, 8),
        /// Primary SL: service level.
        primary_sl: u8 = (94, 0, 4),
        /// Primary Subnet Local: whether no router is between the ports.
        primary_subnet_local: bool = (94, 4, 1),
        /// Primary Local ACK Timeout: twice the packet lifetime and the sender's delay.
        primary_local_ack_timeout: Exponent = (95, 0, 5),
        /// Alternate Local Port LID.
        alternate_local_port_lid: u16 = (96, 0, 16),
        /// Alternate Remote Port LID.
        alternate_remote_port_lid: u16 = (98, 0, 16),
        /// Alternate Local Port GID: all zero where there is no alternate path.
        alternate_local_port_gid: Gid = (100, 0, 128),
        /// Alternate Remote Port GID.
        alternate_remote_port_gid: Gid = (116, 0, 128),
        /// Alternate Flow Label.
        alternate_flow_label: u32 = (132, 0, 20),
        /// Alternate Packet Rate.
        alternate_packet_rate: u8 = (135, 2, 6),
        /// Alternate Traffic Class.
        alternate_traffic_class: u8 = (136, 0, 8),
        /// Alternate Hop Limit.
        alternate_hop_limit: u8 = (137, 0, 8),
        /// Alternate SL.
        alternate_sl: u8 = (138, 0, 4),
        /// Alternate Subnet Local.
        alternate_subnet_local: bool = (138, 4, 1),
        /// Alternate Local ACK Timeout.
        alternate_local_ack_timeout: Exponent = (139, 0, 5),
        /// PrivateData; of RDMA IP CM services it begins with [`crate::ip::IpAddressing`].
        private_data: PrivateData<92> = (140, 0, 736),
    }
}
