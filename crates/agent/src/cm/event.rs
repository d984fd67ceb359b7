//! What the manager tells, as programs are told it.

use super::protocol::{MAX_LEN, Multicast, Params};
use rocev2::Qpn;
use rocev2_cm::ip::IpAddressing;
use rocev2_cm::manager::{ConnectRequest, ConnectResponse};
use rocev2_cm::wire::SidrStatus;
use rocev2_cm::{Event, Gid};
use rustix::io::Errno;

/// `enum rdma_cm_event_type`.
pub(super) mod kind {
    pub(crate) const ADDR_RESOLVED: u32 = 0;
    pub(crate) const ADDR_ERROR: u32 = 1;
    pub(crate) const ROUTE_RESOLVED: u32 = 2;
    pub(crate) const CONNECT_REQUEST: u32 = 4;
    pub(crate) const CONNECT_RESPONSE: u32 = 5;
    pub(crate) const UNREACHABLE: u32 = 7;
    pub(crate) const REJECTED: u32 = 8;
    pub(crate) const ESTABLISHED: u32 = 9;
    pub(crate) const DISCONNECTED: u32 = 10;
    pub(crate) const MULTICAST_JOIN: u32 = 12;
    pub(crate) const TIMEWAIT_EXIT: u32 = 15;
}

/// The queue key of datagrams between programs that use librdmacm (`RDMA_UDP_QKEY`).
pub(super) const UDP_QKEY: u32 = 0x0123_4567;

/// Bytes of a reason that a program is told.
const LONGEST_REASON: usize = 1000;

const _: () = assert!(MAX_LEN > LONGEST_REASON + 512, "an event has room for a reason and all else");

/// What an id is told.
#[derive(Debug, Default)]
pub(super) struct Told {
    pub(super) kind: u32,
    pub(super) status: i32,
    pub(super) params: Params,
    pub(super) qkey: u32,
    pub(super) multicast: Option<Multicast>,
    pub(super) reason: Option<String>,
}

impl Told {
    pub(super) fn new(kind: u32) -> Self {
        Self { kind, ..Self::default() }
    }

    pub(super) fn failed(kind: u32, error: Errno) -> Self {
        Self { kind, status: -error.raw_os_error(), ..Self::default() }
    }

    /// The peer can't be asked, since there are no keys for it.
    pub(super) fn unsealed(reason: &str) -> Self {
        let end = reason.floor_char_boundary(LONGEST_REASON);
        let reason = reason.get(..end).map(str::to_owned);
        Self { reason, ..Self::failed(kind::UNREACHABLE, Errno::ACCESS) }
    }

    fn with(kind: u32, status: i32, private_data: &[u8]) -> Self {
        let params = Params { private_data: private_data.into(), ..Params::default() };
        Self { kind, status, params, ..Self::default() }
    }

    /// A peer's request. What it can answer is what this side may have under way, and the other way round.
    pub(super) fn request(request: &ConnectRequest) -> Self {
        Self {
            params: Params {
                qpn: request.qpn.get(),
                responder_resources: request.initiator_depth,
                initiator_depth: request.responder_resources,
                retry_count: request.retry_count,
                rnr_retry_count: request.rnr_retry_count,
                srq: request.srq,
                private_data: behind_addressing(&request.private_data.0).into(),
            },
            ..Self::new(kind::CONNECT_REQUEST)
        }
    }

    /// A peer's request for a queue pair that serves datagrams.
    pub(super) fn datagrams(private_data: &[u8]) -> Self {
        Self::with(kind::CONNECT_REQUEST, 0, behind_addressing(private_data))
    }

    /// What is sent to a multicast group reaches each of its queue pairs.
    pub(super) fn joined(cookie: u64, mgid: Gid, traffic_class: u8) -> Self {
        Self {
            params: Params { qpn: Qpn::MULTICAST.get(), ..Params::default() },
            qkey: UDP_QKEY,
            multicast: Some(Multicast { cookie, mgid: mgid.0, traffic_class }),
            ..Self::new(kind::MULTICAST_JOIN)
        }
    }

    fn response(response: &ConnectResponse) -> Self {
        Self {
            params: Params {
                qpn: response.qpn.get(),
                responder_resources: response.initiator_depth,
                initiator_depth: response.responder_resources,
                retry_count: 0,
                rnr_retry_count: response.rnr_retry_count,
                srq: response.srq,
                private_data: response.private_data.0.into(),
            },
            ..Self::new(kind::CONNECT_RESPONSE)
        }
    }

    /// What the id that an event names is told; `None` for requests, which have no id yet, and for what programs
    /// aren't told.
    pub(super) fn of(event: &Event) -> Option<Self> {
        Some(match event {
            Event::ConnectResponse { response, .. } => Self::response(response),
            Event::Established { private_data, .. } => {
                let data = private_data.as_ref().map_or(&[][..], |data| &data.0);
                Self::with(kind::ESTABLISHED, 0, data)
            }
            Event::Rejected { reason, private_data, .. } => {
                Self::with(kind::REJECTED, reason.code().into(), &private_data.0)
            }
            Event::Unreachable { .. } => Self::failed(kind::UNREACHABLE, Errno::TIMEDOUT),
            Event::Disconnected { .. } => Self::new(kind::DISCONNECTED),
            Event::TimeWaitExit { .. } => Self::new(kind::TIMEWAIT_EXIT),
            Event::SidrResponse { status: SidrStatus::Valid, qpn, qkey, private_data, .. } => {
                let told = Self::with(kind::ESTABLISHED, 0, &private_data.0);
                Self { qkey: *qkey, params: Params { qpn: qpn.get(), ..told.params }, ..told }
            }
            Event::SidrResponse { status, private_data, .. } => {
                Self::with(kind::UNREACHABLE, status.code().into(), &private_data.0)
            }
            Event::ConnectRequest { .. } | Event::SidrRequest { .. } | Event::Stale { .. } => return None,
        })
    }
}

/// The program's part of a request's private data.
fn behind_addressing(private_data: &[u8]) -> &[u8] {
    private_data.get(IpAddressing::LEN..).unwrap_or_default()
}
