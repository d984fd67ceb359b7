//! A peer's REQ: admitted, or refused with the reason.

use rocev2::{Mtu, Time};

use super::calls::rej;
use super::connection::{Connection, RemoteQueuePair};
use super::listener::Listening;
use super::{ConnectRequest, Dropped, Event, Manager, Path, Refusal, Route, State, Transport};
use crate::CommId;
use crate::ip::{IpAddressing, Service};
use crate::wire::{MessageMraed, MessageRejected, Mra, PrivateData, RejectReason, Req, TransportServiceType};

/// What of a REQ was understood.
struct Admitted {
    listening: Listening,
    transport: Transport,
    mtu: Mtu,
    addressing: Option<IpAddressing>,
}

impl Manager {
    pub(super) fn handle_req(
        &mut self,
        now: Time,
        path: Path,
        transaction_id: u64,
        req: &Req,
    ) -> Result<(), Dropped> {
        if let Some(id) = self.table.by_remote_id(path.remote, req.local_comm_id) {
            return self.handle_known_req(id, path, transaction_id, req);
        }
        match self.admit(path, req) {
            Ok(admitted) => {
                self.begin(now, path, transaction_id, req, &admitted);
                Ok(())
            }
            Err(refusal) => {
                let largest = [Mtu::B4096.code()];
                let (reason, ari): (_, &[u8]) = match refusal {
                    Refusal::NoListener => (RejectReason::InvalidServiceId, &[]),
                    Refusal::Transport => (RejectReason::InvalidTransportServiceType, &[]),
                    Refusal::PathMtu => (RejectReason::InvalidPathMtu, &largest),
                    Refusal::Addresses => (RejectReason::PrimaryRemotePortGid, &path.local.0),
                    Refusal::Stale => (RejectReason::StaleConnection, &[]),
                    Refusal::IpAddressing(_) => (RejectReason::Consumer, &[]),
                    Refusal::QueuePairNumber => (RejectReason::InvalidCommInstance, &[]),
                    Refusal::NoRoom | Refusal::Backlog => (RejectReason::NoResources, &[]),
                    Refusal::AlternatePath => (RejectReason::Unsupported, &[]),
                };
                self.refuse_req(path, transaction_id, req, reason, ari);
                Err(Dropped::Refused(refusal))
            }
        }
    }

    fn refuse_req(&mut self, path: Path, transaction_id: u64, req: &Req, reason: RejectReason, ari: &[u8]) {
        let private_data = PrivateData::default();
        let rej = rej(CommId::NONE, req.local_comm_id, MessageRejected::Req, reason, ari, private_data);
        self.send(path, transaction_id, rej);
    }

    /// A REQ whose sender's id is known: repeated, or another connection's with the same id.
    fn handle_known_req(
        &mut self,
        id: CommId,
        path: Path,
        transaction_id: u64,
        req: &Req,
    ) -> Result<(), Dropped> {
        let Some(connection) = self.table.get(id) else { return Err(Dropped::UnknownId) };
        let state = connection.state;
        let same = connection.path == path
            && connection.transaction_id == transaction_id
            && connection
                .remote
                .is_some_and(|remote| remote.qpn == req.local_qpn && remote.starting_psn == req.starting_psn);
        match state {
            State::ReqRcvd if same => {
                let service_timeout = self.config.service_timeout;
                let mra = Mra {
                    local_comm_id: id,
                    remote_comm_id: req.local_comm_id,
                    message_mraed: MessageMraed::Req,
                    service_timeout,
                    private_data: PrivateData::default(),
                };
                self.send(path, transaction_id, mra);
            }
            State::RepSent if same => {
                if let Some(unanswered) = &connection.unanswered {
                    let mad = *unanswered.mad;
                    self.send_again(path, &mad);
                }
            }
            State::TimeWait => self.refuse_req(path, transaction_id, req, RejectReason::StaleConnection, &[]),
            _ if !same => self.refuse_req(path, transaction_id, req, RejectReason::DuplicateLocalCommId, &[]),
            _ => {}
        }
        Err(if same { Dropped::State(state) } else { Dropped::WrongInstance })
    }

    fn admit(&mut self, path: Path, req: &Req) -> Result<Admitted, Refusal> {
        let listening = self.listeners.find(req.service_id, path.local).ok_or(Refusal::NoListener)?;
        let transport = match req.transport_service_type {
            TransportServiceType::Rc => Transport::Rc,
            TransportServiceType::Uc => Transport::Uc,
            _ => return Err(Refusal::Transport),
        };
        let mtu = Mtu::from_code(req.path_packet_payload_mtu).ok_or(Refusal::PathMtu)?;
        // Answers and data go where the REQ came from: nobody can have them sent to somebody else.
        if req.primary_local_port_gid != path.remote || req.primary_remote_port_gid != path.local {
            return Err(Refusal::Addresses);
        }
        if req.local_comm_id == CommId::NONE || !req.local_qpn.is_ordinary() {
            return Err(Refusal::QueuePairNumber);
        }
        let addressing = match Service::from_id(req.service_id) {
            Some(_) => Some(IpAddressing::parse(&req.private_data.0)?.0),
            None => None,
        };
        if let Some(id) = self.table.by_remote_qpn(path.remote, req.local_qpn) {
            self.tell_stale(id);
            return Err(Refusal::Stale);
        }
        self.listeners.room(listening, path.remote, &self.config)?;
        if !self.has_room() {
            return Err(Refusal::NoRoom);
        }
        Ok(Admitted { listening, transport, mtu, addressing })
    }

    /// Somebody uses a connection's queue pair for another: the caller may look whether the peer is still there.
    pub(super) fn tell_stale(&mut self, id: CommId) {
        let Some(connection) = self.table.get_mut(id) else { return };
        if connection.state == State::Established && !connection.told_stale {
            connection.told_stale = true;
            self.tell(id, Event::Stale { id });
        }
    }

    fn begin(&mut self, now: Time, path: Path, transaction_id: u64, req: &Req, admitted: &Admitted) {
        let id = self.draw_id();
        self.table.insert(
            id,
            Connection {
                state: State::ReqRcvd,
                path,
                transaction_id,
                remote_id: req.local_comm_id,
                transport: admitted.transport,
                route: Route {
                    mtu: admitted.mtu,
                    ack_timeout: req.primary_local_ack_timeout,
                    retry_count: req.retry_count,
                    partition_key: req.partition_key,
                    traffic_class: req.primary_traffic_class,
                    flow_label: req.primary_flow_label,
                    hop_limit: req.primary_hop_limit,
                    service_level: req.primary_sl,
                },
                local: None,
                remote: Some(RemoteQueuePair {
                    qpn: req.local_qpn,
                    starting_psn: req.starting_psn,
                    responder_resources: req.responder_resources,
                    initiator_depth: req.initiator_depth,
                    rnr_retry_count: req.rnr_retry_count,
                }),
                peer_answers_within: req.local_cm_response_timeout,
                max_retries: req.max_cm_retries,
                unanswered: None,
                answer: None,
                deadline: None,
                listening: Some(admitted.listening),
                abandoned: false,
                told_stale: false,
            },
        );
        self.listeners.add_waiting(admitted.listening);
        self.listeners.add_half_open(path.remote);
        self.table.set_remote(id, path.remote, req.local_comm_id, req.local_qpn);
        self.table.set_deadline(id, Some(now + self.config.answer_within));
        let request = ConnectRequest {
            path,
            service_id: req.service_id,
            addressing: admitted.addressing,
            transport: admitted.transport,
            qpn: req.local_qpn,
            starting_psn: req.starting_psn,
            mtu: admitted.mtu,
            responder_resources: req.responder_resources,
            initiator_depth: req.initiator_depth,
            retry_count: req.retry_count,
            rnr_retry_count: req.rnr_retry_count,
            srq: req.srq,
            private_data: req.private_data,
        };
        self.tell(id, Event::ConnectRequest { id, request });
    }
}
