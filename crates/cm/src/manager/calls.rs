//! What the caller does.

use rocev2::Time;

use super::connection::Connection;
use super::listener_awaited::ListenerAwaited;
use super::{Connect, Error, Event, LocalQueuePair, Manager, Path, State};
use crate::wire::{
    Drep, Dreq, MessageRejected, PrivateData, Rej, RejectReason, Rep, Req, Rtu, TransportServiceType,
};
use crate::{CommId, Exponent, Gid};

/// What over RoCE stands in place of a LID: the permissive one, as the kernel writes it.
const NO_LID: u16 = 0xffff;

/// "Failover Accepted" where there are no alternate paths.
const FAILOVER_UNSUPPORTED: u8 = 1;

impl Manager {
    /// Asks a peer for a connection. [`Event::ConnectResponse`], [`Event::Rejected`] or [`Event::Unreachable`] follows.
    ///
    /// # Errors
    ///
    /// [`Error::QueuePairNumber`], [`Error::Full`].
    pub fn connect(&mut self, now: Time, connect: &Connect) -> Result<CommId, Error> {
        if !connect.queue_pair.qpn.is_ordinary() {
            return Err(Error::QueuePairNumber);
        }
        if !self.has_room() {
            return Err(Error::Full);
        }
        let id = self.draw_id();
        let transaction_id = (self.random)();
        self.table.insert(
            id,
            Connection {
                state: State::ReqSent,
                path: connect.path,
                transaction_id,
                remote_id: CommId::NONE,
                transport: connect.transport,
                route: connect.route,
                local: Some(connect.queue_pair),
                remote: None,
                peer_answers_within: connect.patience.response_timeout,
                max_retries: connect.patience.max_retries & 15,
                unanswered: None,
                answer: None,
                deadline: None,
                listening: None,
                abandoned: false,
                told_stale: false,
            },
        );
        let req = req(id, self.config.ca_guid, connect);
        let mad = self.send(connect.path, transaction_id, req);
        self.await_answer(now, id, mad, ListenerAwaited::new(connect.patience.listener_within));
        Ok(id)
    }

    /// Accepts a request, with a queue pair that can receive already: it is in RTR, by [`Manager::attributes`], which
    /// [`Manager::prepare`] makes complete. [`Event::Established`], [`Event::Rejected`] or [`Event::Unreachable`]
    /// follows.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownId`], [`Error::State`] unless it is [`State::ReqRcvd`], [`Error::QueuePairNumber`].
    pub fn accept(
        &mut self,
        now: Time,
        id: CommId,
        queue_pair: LocalQueuePair,
        target_ack_delay: Exponent,
        private_data: PrivateData<196>,
    ) -> Result<(), Error> {
        self.prepare(id, queue_pair)?;
        let connection = self.table.get(id).ok_or(Error::UnknownId)?;
        let (path, transaction_id) = (connection.path, connection.transaction_id);
        let rep = Rep {
            local_comm_id: id,
            remote_comm_id: connection.remote_id,
            local_qkey: 0,
            local_qpn: queue_pair.qpn,
            local_ee_context_number: rocev2::Qpn::truncate(0),
            starting_psn: queue_pair.starting_psn,
            responder_resources: queue_pair.responder_resources,
            initiator_depth: queue_pair.initiator_depth,
            target_ack_delay,
            failover_accepted: FAILOVER_UNSUPPORTED,
            end_to_end_flow_control: false,
            rnr_retry_count: queue_pair.rnr_retry_count,
            srq: queue_pair.srq,
            local_ca_guid: self.config.ca_guid,
            private_data,
        };
        self.set_state(id, State::RepSent);
        let mad = self.send(path, transaction_id, rep);
        self.await_answer(now, id, mad, ListenerAwaited::default());
        Ok(())
    }

    /// Says which queue pair a request is going to be accepted with, so that [`Manager::attributes`] has all for it.
    ///
    /// # Errors
    ///
    /// As [`Manager::accept`].
    pub fn prepare(&mut self, id: CommId, queue_pair: LocalQueuePair) -> Result<(), Error> {
        let connection = self.in_state(id, &[State::ReqRcvd])?;
        if !queue_pair.qpn.is_ordinary() {
            return Err(Error::QueuePairNumber);
        }
        connection.local = Some(queue_pair);
        Ok(())
    }

    /// Refuses a request, or the peer's answer to one's own. Of a request the id is gone then; after an answer,
    /// TIME-WAIT follows.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownId`], [`Error::State`] unless it is [`State::ReqRcvd`] or [`State::RepRcvd`],
    /// [`Error::AdditionalInformation`] beyond 72 bytes of `ari`.
    pub fn reject(
        &mut self,
        now: Time,
        id: CommId,
        reason: RejectReason,
        ari: &[u8],
        private_data: PrivateData<148>,
    ) -> Result<(), Error> {
        let state = self.in_state(id, &[State::ReqRcvd, State::RepRcvd])?.state;
        if ari.len() > 72 {
            return Err(Error::AdditionalInformation(ari.len()));
        }
        if state == State::ReqRcvd {
            self.send_rej(id, MessageRejected::Req, reason, ari, private_data);
            self.forget(id);
        } else {
            self.send_rej(id, MessageRejected::Rep, reason, ari, private_data);
            self.enter_time_wait(now, id);
        }
        Ok(())
    }

    /// The queue pair is in RTS after a [`Event::ConnectResponse`]: the connection is established, and the peer is
    /// told.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownId`], [`Error::State`] unless it is [`State::RepRcvd`].
    pub fn establish(&mut self, id: CommId, private_data: PrivateData<224>) -> Result<(), Error> {
        let connection = self.in_state(id, &[State::RepRcvd])?;
        let (path, transaction_id) = (connection.path, connection.transaction_id);
        let rtu = Rtu { local_comm_id: id, remote_comm_id: connection.remote_id, private_data };
        self.set_state(id, State::Established);
        let mad = self.send(path, transaction_id, rtu);
        // If it is lost, the peer repeats its REP.
        self.keep_answer(id, mad);
        Ok(())
    }

    /// A message came on a queue pair that was accepted with, before the RTU did: the device's event `COMM_EST`. The
    /// connection is established then (IBA 12.9.7.1). Otherwise this does nothing.
    pub fn communication_established(&mut self, id: CommId) {
        if self.state(id) == Some(State::RepSent) {
            self.set_state(id, State::Established);
            self.tell(id, Event::Established { id, private_data: None });
        }
    }

    /// Ends a connection, or answers the peer that has ended it; of one that has ended already it does nothing. The
    /// queue pair is in the error state by now. [`Event::Disconnected`] follows unless it was told already.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownId`], [`Error::State`] if it isn't established and never was.
    pub fn disconnect(&mut self, now: Time, id: CommId, private_data: PrivateData<220>) -> Result<(), Error> {
        const ALLOWED: [State; 5] =
            [State::Established, State::RepSent, State::DreqRcvd, State::DreqSent, State::TimeWait];
        match self.in_state(id, &ALLOWED)?.state {
            State::DreqRcvd => self.answer_dreq(now, id),
            State::Established | State::RepSent => self.send_dreq(now, id, private_data),
            _ => {}
        }
        Ok(())
    }

    /// Gives a connection or SIDR request up in whatever state, as when its process has died: the peer is told, and
    /// the caller isn't told of it any more. The id is the caller's no more.
    pub fn abandon(&mut self, now: Time, id: CommId) {
        if self.table.sidr(id).is_some() {
            self.abandon_sidr(id);
            return;
        }
        let Some(connection) = self.table.get_mut(id) else { return };
        connection.abandoned = true;
        match connection.state {
            State::ReqSent => {
                self.give_up(id, RejectReason::Timeout);
                self.forget(id);
            }
            State::ReqRcvd => {
                self.give_up(id, RejectReason::Consumer);
                self.forget(id);
            }
            State::RepRcvd | State::RepSent => {
                self.give_up(id, RejectReason::Consumer);
                self.enter_time_wait(now, id);
            }
            State::Established => self.send_dreq(now, id, PrivateData::default()),
            State::DreqRcvd => self.answer_dreq(now, id),
            _ => {}
        }
    }

    /// The connection, if it is in one of these states.
    fn in_state(&mut self, id: CommId, states: &[State]) -> Result<&mut Connection, Error> {
        let connection =
            self.table.get_mut(id).filter(|connection| !connection.abandoned).ok_or(Error::UnknownId)?;
        if states.contains(&connection.state) { Ok(connection) } else { Err(Error::State(connection.state)) }
    }

    fn send_dreq(&mut self, now: Time, id: CommId, private_data: PrivateData<220>) {
        let Some(connection) = self.table.get(id) else { return };
        let (path, remote_comm_id) = (connection.path, connection.remote_id);
        let Some(remote) = connection.remote else { return };
        let dreq = Dreq { local_comm_id: id, remote_comm_id, remote_qpn: remote.qpn, private_data };
        self.set_state(id, State::DreqSent);
        let transaction_id = (self.random)();
        let mad = self.send(path, transaction_id, dreq);
        self.await_answer(now, id, mad, ListenerAwaited::default());
    }

    pub(super) fn keep_answer(&mut self, id: CommId, mad: Box<[u8; crate::wire::MAD_LEN]>) {
        if let Some(connection) = self.table.get_mut(id) {
            connection.answer = Some(mad);
        }
    }

    /// Answers a DREQ, whose transaction is the connection's by now, and waits for what is under way.
    pub(super) fn answer_dreq(&mut self, now: Time, id: CommId) {
        let Some(connection) = self.table.get(id) else { return };
        let (path, transaction_id) = (connection.path, connection.transaction_id);
        let drep = Drep {
            local_comm_id: id,
            remote_comm_id: connection.remote_id,
            private_data: PrivateData::default(),
        };
        let mad = self.send(path, transaction_id, drep);
        self.keep_answer(id, mad);
        self.enter_time_wait(now, id);
    }

    pub(super) fn send_rej(
        &mut self,
        id: CommId,
        message_rejected: MessageRejected,
        reason: RejectReason,
        ari: &[u8],
        private_data: PrivateData<148>,
    ) {
        let Some(connection) = self.table.get(id) else { return };
        let (path, transaction_id) = (connection.path, connection.transaction_id);
        let rej = rej(id, connection.remote_id, message_rejected, reason, ari, private_data);
        self.send(path, transaction_id, rej);
    }
}

/// A REJ; of `ari` as much as there is room for.
pub(super) fn rej(
    local_comm_id: CommId,
    remote_comm_id: CommId,
    message_rejected: MessageRejected,
    reason: RejectReason,
    ari: &[u8],
    private_data: PrivateData<148>,
) -> Rej {
    let mut room = [0; 72];
    let mut reject_info_length = 0;
    for (place, byte) in room.iter_mut().zip(ari) {
        *place = *byte;
        reject_info_length += 1;
    }
    Rej {
        local_comm_id,
        remote_comm_id,
        message_rejected,
        reject_info_length,
        reason,
        ari: room,
        private_data,
    }
}

fn req(id: CommId, ca_guid: u64, connect: &Connect) -> Req {
    let Connect {
        path: Path { local, remote },
        service_id,
        transport,
        queue_pair,
        route,
        patience,
        private_data,
    } = *connect;
    let none = rocev2::Qpn::truncate(0);
    Req {
        local_comm_id: id,
        service_id,
        local_ca_guid: ca_guid,
        local_qkey: 0,
        local_qpn: queue_pair.qpn,
        responder_resources: queue_pair.responder_resources,
        local_eecn: none,
        initiator_depth: queue_pair.initiator_depth,
        remote_eecn: none,
        remote_cm_response_timeout: patience.response_timeout,
        transport_service_type: match transport {
            super::Transport::Rc => TransportServiceType::Rc,
            super::Transport::Uc => TransportServiceType::Uc,
        },
        end_to_end_flow_control: false,
        starting_psn: queue_pair.starting_psn,
        local_cm_response_timeout: patience.response_timeout,
        retry_count: route.retry_count,
        partition_key: route.partition_key,
        path_packet_payload_mtu: route.mtu.code(),
        rdc_exists: false,
        rnr_retry_count: queue_pair.rnr_retry_count,
        max_cm_retries: patience.max_retries,
        srq: queue_pair.srq,
        extended_transport_type: 0,
        primary_local_port_lid: NO_LID,
        primary_remote_port_lid: NO_LID,
        primary_local_port_gid: local,
        primary_remote_port_gid: remote,
        primary_flow_label: route.flow_label,
        primary_packet_rate: 0,
        primary_traffic_class: route.traffic_class,
        primary_hop_limit: route.hop_limit,
        primary_sl: route.service_level,
        primary_subnet_local: false,
        primary_local_ack_timeout: route.ack_timeout,
        alternate_local_port_lid: 0,
        alternate_remote_port_lid: 0,
        alternate_local_port_gid: Gid::default(),
        alternate_remote_port_gid: Gid::default(),
        alternate_flow_label: 0,
        alternate_packet_rate: 0,
        alternate_traffic_class: 0,
        alternate_hop_limit: 0,
        alternate_sl: 0,
        alternate_subnet_local: false,
        alternate_local_ack_timeout: Exponent::default(),
        private_data,
    }
}
