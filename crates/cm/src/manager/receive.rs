//! A peer's messages, but for its requests.

use rocev2::Time;

use super::calls::rej;
use super::connection::{Connection, RemoteQueuePair};
use super::{ConnectResponse, Dropped, Event, Manager, Path, Refusal, State};
use crate::CommId;
use crate::wire::{
    ApStatus, Apr, Drep, Dreq, Lap, Mad, Message, MessageMraed, MessageRejected, Mra, PrivateData, Rej,
    RejectReason, Rep, Rtu,
};

impl Manager {
    /// Takes a datagram that came to this side's queue pair 1 with the right Q_Key. `path` is where it came from and
    /// to, by its IP header.
    ///
    /// # Errors
    ///
    /// Why it changed nothing, for counters. It may have been answered nevertheless.
    pub fn handle(&mut self, now: Time, path: Path, bytes: &[u8]) -> Result<(), Dropped> {
        let Mad { transaction_id, message } = Mad::parse(bytes)?;
        match &message {
            Message::Req(req) => self.handle_req(now, path, transaction_id, req),
            Message::Mra(mra) => self.handle_mra(now, path, transaction_id, mra),
            Message::Rej(rej) => self.handle_rej(now, path, transaction_id, rej),
            Message::Rep(rep) => self.handle_rep(now, path, transaction_id, rep),
            Message::Rtu(rtu) => self.handle_rtu(path, rtu),
            Message::Dreq(dreq) => self.handle_dreq(now, path, transaction_id, dreq),
            Message::Drep(drep) => self.handle_drep(now, path, drep),
            Message::SidrReq(req) => self.handle_sidr_req(now, path, transaction_id, req),
            Message::SidrRep(rep) => self.handle_sidr_rep(now, path, transaction_id, rep),
            Message::Lap(lap) => self.handle_lap(path, transaction_id, lap),
            // Nothing here sends a LAP.
            Message::Apr(apr) => {
                let connection = self.instance(path, apr.remote_comm_id, apr.local_comm_id)?;
                Err(Dropped::State(connection.state))
            }
        }
    }

    /// The connection with these ends.
    fn connection(&mut self, path: Path, id: CommId) -> Result<&mut Connection, Dropped> {
        let connection = self.table.get_mut(id).ok_or(Dropped::UnknownId)?;
        if connection.path == path { Ok(connection) } else { Err(Dropped::WrongInstance) }
    }

    /// The connection with these ends and both of these ids.
    fn instance(&mut self, path: Path, id: CommId, remote_id: CommId) -> Result<&mut Connection, Dropped> {
        let connection = self.connection(path, id)?;
        if connection.remote_id == remote_id && remote_id != CommId::NONE {
            Ok(connection)
        } else {
            Err(Dropped::WrongInstance)
        }
    }

    fn handle_rep(&mut self, now: Time, path: Path, transaction_id: u64, rep: &Rep) -> Result<(), Dropped> {
        let id = rep.remote_comm_id;
        let connection = match self.connection(path, id) {
            Ok(connection) => connection,
            Err(Dropped::UnknownId) => {
                // Given up, or an answer to a repeated REQ that had been answered before: the peer isn't to wait.
                self.refuse_rep(path, transaction_id, rep, RejectReason::InvalidCommId);
                return Err(Dropped::UnknownId);
            }
            Err(dropped) => return Err(dropped),
        };
        if connection.transaction_id != transaction_id {
            return Err(Dropped::Transaction);
        }
        let state = connection.state;
        if state == State::ReqSent {
            return self.take_rep(now, id, rep);
        }
        if connection.remote_id != rep.local_comm_id {
            // The REQ was answered twice, and the other answer came first.
            self.refuse_rep(path, transaction_id, rep, RejectReason::InvalidCommInstance);
            return Err(Dropped::WrongInstance);
        }
        match state {
            State::RepRcvd => {
                let service_timeout = self.config.service_timeout;
                let mra = Mra {
                    local_comm_id: id,
                    remote_comm_id: rep.local_comm_id,
                    message_mraed: MessageMraed::Rep,
                    service_timeout,
                    private_data: PrivateData::default(),
                };
                self.send(path, transaction_id, mra);
            }
            State::Established | State::DreqSent => {
                // The RTU was lost.
                if let Some(answer) = &connection.answer {
                    let mad = **answer;
                    self.send_again(path, &mad);
                }
            }
            _ => {}
        }
        Err(Dropped::State(state))
    }

    fn refuse_rep(&mut self, path: Path, transaction_id: u64, rep: &Rep, reason: RejectReason) {
        let rej = rej(
            rep.remote_comm_id,
            rep.local_comm_id,
            MessageRejected::Rep,
            reason,
            &[],
            PrivateData::default(),
        );
        self.send(path, transaction_id, rej);
    }

    /// The answer that was waited for.
    fn take_rep(&mut self, now: Time, id: CommId, rep: &Rep) -> Result<(), Dropped> {
        let Some(connection) = self.table.get_mut(id) else { return Err(Dropped::UnknownId) };
        let (path, transaction_id) = (connection.path, connection.transaction_id);
        if rep.local_comm_id == CommId::NONE || !rep.local_qpn.is_ordinary() {
            return Err(Dropped::Refused(Refusal::QueuePairNumber));
        }
        let of_queue_pair = self.table.by_remote_qpn(path.remote, rep.local_qpn);
        if of_queue_pair.is_some() || self.table.by_remote_id(path.remote, rep.local_comm_id).is_some() {
            if let Some(old) = of_queue_pair {
                self.tell_stale(old);
            }
            let reason = RejectReason::StaleConnection;
            self.refuse_rep(path, transaction_id, rep, reason);
            let private_data = PrivateData::default();
            self.tell(id, Event::Rejected { id, reason, ari_len: 0, ari: [0; 72], private_data });
            self.forget(id);
            return Err(Dropped::Refused(Refusal::Stale));
        }
        if let Some(connection) = self.table.get_mut(id) {
            connection.remote_id = rep.local_comm_id;
            connection.remote = Some(RemoteQueuePair {
                qpn: rep.local_qpn,
                starting_psn: rep.starting_psn,
                responder_resources: rep.responder_resources,
                initiator_depth: rep.initiator_depth,
                rnr_retry_count: rep.rnr_retry_count,
            });
        }
        self.table.set_remote(id, path.remote, rep.local_comm_id, rep.local_qpn);
        self.set_state(id, State::RepRcvd);
        self.table.set_deadline(id, Some(now + self.config.answer_within));
        let response = ConnectResponse {
            qpn: rep.local_qpn,
            starting_psn: rep.starting_psn,
            responder_resources: rep.responder_resources,
            initiator_depth: rep.initiator_depth,
            rnr_retry_count: rep.rnr_retry_count,
            target_ack_delay: rep.target_ack_delay,
            srq: rep.srq,
            private_data: rep.private_data,
        };
        self.tell(id, Event::ConnectResponse { id, response });
        Ok(())
    }

    fn handle_rtu(&mut self, path: Path, rtu: &Rtu) -> Result<(), Dropped> {
        let id = rtu.remote_comm_id;
        let state = self.instance(path, id, rtu.local_comm_id)?.state;
        if state != State::RepSent {
            return Err(Dropped::State(state));
        }
        self.set_state(id, State::Established);
        self.tell(id, Event::Established { id, private_data: Some(rtu.private_data) });
        Ok(())
    }

    /// The answer takes longer: waits that long, once for each message, and as long as the limit allows.
    fn handle_mra(&mut self, now: Time, path: Path, transaction_id: u64, mra: &Mra) -> Result<(), Dropped> {
        let id = mra.remote_comm_id;
        let limit = self.config.max_response_timeout;
        let connection = self.connection(path, id)?;
        let state = connection.state;
        match (state, mra.message_mraed) {
            (State::ReqSent, MessageMraed::Req) | (State::RepSent, MessageMraed::Rep) => {}
            _ => return Err(Dropped::State(state)),
        }
        if connection.transaction_id != transaction_id {
            return Err(Dropped::Transaction);
        }
        if state == State::RepSent && connection.remote_id != mra.local_comm_id {
            return Err(Dropped::WrongInstance);
        }
        let wait = mra.service_timeout.duration().saturating_add(connection.route.ack_timeout.duration());
        match &mut connection.unanswered {
            Some(unanswered) if !unanswered.extended => unanswered.extended = true,
            _ => return Err(Dropped::State(state)),
        }
        self.table.set_deadline(id, Some(now + wait.min(limit)));
        Ok(())
    }

    fn handle_rej(&mut self, now: Time, path: Path, transaction_id: u64, rej: &Rej) -> Result<(), Dropped> {
        let id = match self.table.by_remote_id(path.remote, rej.local_comm_id) {
            // Who has got no answer knows no id of this side's.
            Some(id) if rej.reason == RejectReason::Timeout && rej.remote_comm_id == CommId::NONE => id,
            _ => rej.remote_comm_id,
        };
        let connection = self.connection(path, id)?;
        let state = connection.state;
        // Before both sides know both ids, it is the transaction that a forger has to guess.
        let early = match state {
            State::ReqSent => true,
            State::ReqRcvd | State::RepSent => rej.remote_comm_id == CommId::NONE,
            State::TimeWait => return Err(Dropped::State(state)),
            _ => false,
        };
        if early && connection.transaction_id != transaction_id {
            return Err(Dropped::Transaction);
        }
        if !early && (rej.remote_comm_id != id || connection.remote_id != rej.local_comm_id) {
            return Err(Dropped::WrongInstance);
        }
        if state == State::ReqSent
            && rej.reason == RejectReason::InvalidServiceId
            && let Some(unanswered) = &mut connection.unanswered
        {
            if unanswered.listener.is_pausing() {
                return Err(Dropped::State(state));
            }
            if let Some(next) = unanswered.listener.refused(now) {
                self.table.set_deadline(id, Some(next));
                return Ok(());
            }
        }
        let ari_len = rej.ari().len();
        let rejected =
            Event::Rejected { id, reason: rej.reason, ari_len, ari: rej.ari, private_data: rej.private_data };
        match state {
            State::ReqSent | State::ReqRcvd => {
                self.tell(id, rejected);
                self.forget(id);
            }
            // The caller has been told of the end, or has asked for it.
            State::DreqSent => {
                self.tell(id, Event::Disconnected { id });
                self.enter_time_wait(now, id);
            }
            State::DreqRcvd => self.enter_time_wait(now, id),
            _ => {
                self.tell(id, rejected);
                self.enter_time_wait(now, id);
            }
        }
        Ok(())
    }

    fn handle_dreq(
        &mut self,
        now: Time,
        path: Path,
        transaction_id: u64,
        dreq: &Dreq,
    ) -> Result<(), Dropped> {
        let id = dreq.remote_comm_id;
        let connection = match self.instance(path, id, dreq.local_comm_id) {
            Ok(connection) => connection,
            Err(dropped) => {
                // It is over already, as far as this side knows: the peer isn't to wait.
                let (local_comm_id, remote_comm_id) = (id, dreq.local_comm_id);
                let drep = Drep { local_comm_id, remote_comm_id, private_data: PrivateData::default() };
                self.send(path, transaction_id, drep);
                return Err(dropped);
            }
        };
        if connection.local.is_none_or(|local| local.qpn != dreq.remote_qpn) {
            return Err(Dropped::WrongInstance);
        }
        let state = connection.state;
        match state {
            State::Established | State::RepSent | State::RepRcvd => {
                connection.transaction_id = transaction_id;
                self.set_state(id, State::DreqRcvd);
                self.tell(id, Event::Disconnected { id });
                let Some(connection) = self.table.get(id) else { return Ok(()) };
                if connection.abandoned {
                    self.answer_dreq(now, id);
                } else {
                    // The caller is given as long as this side gives the peer.
                    let answer_within = connection.interval(&self.config).min(self.config.answer_within);
                    self.table.set_deadline(id, Some(now + answer_within));
                }
                Ok(())
            }
            // Both sides end it at once.
            State::DreqSent => {
                connection.transaction_id = transaction_id;
                self.tell(id, Event::Disconnected { id });
                self.answer_dreq(now, id);
                Ok(())
            }
            State::TimeWait => {
                // The DREP was lost.
                let (local_comm_id, remote_comm_id) = (id, dreq.local_comm_id);
                let drep = Drep { local_comm_id, remote_comm_id, private_data: PrivateData::default() };
                self.send(path, transaction_id, drep);
                Err(Dropped::State(state))
            }
            _ => Err(Dropped::State(state)),
        }
    }

    fn handle_drep(&mut self, now: Time, path: Path, drep: &Drep) -> Result<(), Dropped> {
        let id = drep.remote_comm_id;
        let state = self.instance(path, id, drep.local_comm_id)?.state;
        if state != State::DreqSent {
            return Err(Dropped::State(state));
        }
        self.tell(id, Event::Disconnected { id });
        self.enter_time_wait(now, id);
        Ok(())
    }

    /// Alternate paths aren't supported, and the peer is told so.
    fn handle_lap(&mut self, path: Path, transaction_id: u64, lap: &Lap) -> Result<(), Dropped> {
        let (id, remote_comm_id) = (lap.remote_comm_id, lap.local_comm_id);
        let ap_status = match self.instance(path, id, remote_comm_id) {
            Ok(connection) if connection.local.is_some_and(|local| local.qpn == lap.remote_qpn) => {
                ApStatus::Unsupported
            }
            Ok(_) => ApStatus::InvalidQpn,
            Err(_) => ApStatus::InvalidCommId,
        };
        let apr = Apr {
            local_comm_id: id,
            remote_comm_id,
            additional_info_length: 0,
            ap_status,
            additional_info: [0; 72],
            private_data: PrivateData::default(),
        };
        self.send(path, transaction_id, apr);
        Err(Dropped::Refused(Refusal::AlternatePath))
    }
}
