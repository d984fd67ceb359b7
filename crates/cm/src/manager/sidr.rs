//! Which queue pair serves datagrams: SIDR, from both sides (IBA 12.11).

use core::time::Duration;
use std::collections::BTreeSet;

use rocev2::{Qpn, Time};

use super::connection::Unanswered;
use super::listener::Listening;
use super::listener_awaited::ListenerAwaited;
use super::{Answer, Dropped, Error, Event, Manager, Path, Refusal, Resolve, State};
use crate::CommId;
use crate::ip::{IpAddressing, Service};
use crate::wire::{MAD_LEN, PrivateData, SidrRep, SidrReq, SidrStatus};

/// A request for a queue pair: this side's, or a peer's.
#[derive(Debug)]
pub(super) struct Sidr {
    pub(super) state: State,
    pub(super) path: Path,
    transaction_id: u64,
    /// The asker's id for it.
    pub(super) request_id: CommId,
    service_id: u64,
    unanswered: Option<Unanswered>,
    /// What a peer was answered.
    answer: Option<Box<[u8; MAD_LEN]>>,
    pub(super) deadline: Option<Time>,
    listening: Option<Listening>,
}

impl Sidr {
    /// Whether a peer asks.
    pub(super) fn is_peers(&self) -> bool {
        self.state != State::SidrReqSent
    }
}

/// Peers' requests that are answered, and when that is forgotten.
pub(super) type Answered = BTreeSet<(Time, CommId)>;

impl Manager {
    /// Asks a peer which queue pair serves datagrams for a service. [`Event::SidrResponse`] or [`Event::Unreachable`]
    /// follows.
    ///
    /// # Errors
    ///
    /// [`Error::Full`].
    pub fn resolve(&mut self, now: Time, resolve: &Resolve) -> Result<CommId, Error> {
        if !self.has_room() {
            return Err(Error::Full);
        }
        let id = self.draw_id();
        let transaction_id = (self.random)();
        let Resolve { path, service_id, partition_key, patience, private_data } = *resolve;
        let mad = self.send(
            path,
            transaction_id,
            SidrReq { request_id: id, partition_key, service_id, private_data },
        );
        let interval = patience.response_timeout.duration().min(self.config.max_response_timeout);
        self.table.insert_sidr(
            id,
            Sidr {
                state: State::SidrReqSent,
                path,
                transaction_id,
                request_id: id,
                service_id,
                unanswered: Some(Unanswered {
                    mad,
                    retries_left: patience.max_retries,
                    interval,
                    extended: false,
                    listener: ListenerAwaited::new(patience.listener_within),
                }),
                answer: None,
                deadline: None,
                listening: None,
            },
        );
        self.table.set_deadline(id, Some(now + interval));
        Ok(id)
    }

    /// Answers a peer's request. The id is the caller's no more; the answer is kept for a while and sent again if the
    /// peer repeats its request.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownId`], [`Error::State`] unless it is [`State::SidrReqRcvd`].
    pub fn answer(&mut self, now: Time, id: CommId, answer: &Answer) -> Result<(), Error> {
        let sidr = self.table.sidr_mut(id).ok_or(Error::UnknownId)?;
        if sidr.state != State::SidrReqRcvd {
            return Err(Error::State(sidr.state));
        }
        sidr.state = State::SidrRepSent;
        let (path, transaction_id) = (sidr.path, sidr.transaction_id);
        let rep = SidrRep {
            request_id: sidr.request_id,
            status: answer.status,
            additional_info_length: 0,
            qpn: answer.qpn,
            service_id: sidr.service_id,
            qkey: answer.qkey,
            additional_info: [0; 72],
            private_data: answer.private_data,
        };
        let listening = sidr.listening.take();
        if let Some(listening) = listening {
            self.listeners.remove_waiting(listening);
        }
        self.listeners.remove_half_open(path.remote);
        let mad = self.send(path, transaction_id, rep);
        if let Some(sidr) = self.table.sidr_mut(id) {
            sidr.answer = Some(mad);
        }
        let until = now + self.config.max_response_timeout;
        self.table.set_deadline(id, Some(until));
        self.answered.insert((until, id));
        if self.answered.len() > self.config.max_half_open
            && let Some((_, oldest)) = self.answered.pop_first()
        {
            self.table.remove_sidr(oldest);
        }
        Ok(())
    }

    pub(super) fn handle_sidr_req(
        &mut self,
        now: Time,
        path: Path,
        transaction_id: u64,
        req: &SidrReq,
    ) -> Result<(), Dropped> {
        if let Some(sidr) =
            self.table.sidr_by_remote(path.remote, req.request_id).and_then(|id| self.table.sidr(id))
        {
            let state = sidr.state;
            if sidr.path != path || sidr.transaction_id != transaction_id {
                return Err(Dropped::WrongInstance);
            }
            if let Some(answer) = &sidr.answer {
                let mad = **answer;
                self.send_again(path, &mad);
            }
            return Err(Dropped::State(state));
        }
        match self.admit_sidr(path, req) {
            Ok((listening, addressing)) => {
                let id = self.draw_id();
                self.table.insert_sidr(
                    id,
                    Sidr {
                        state: State::SidrReqRcvd,
                        path,
                        transaction_id,
                        request_id: req.request_id,
                        service_id: req.service_id,
                        unanswered: None,
                        answer: None,
                        deadline: None,
                        listening: Some(listening),
                    },
                );
                self.listeners.add_waiting(listening);
                self.listeners.add_half_open(path.remote);
                self.table.set_deadline(id, Some(now + self.config.answer_within));
                let (service_id, private_data) = (req.service_id, req.private_data);
                self.tell(id, Event::SidrRequest { id, path, service_id, addressing, private_data });
                Ok(())
            }
            Err(refusal) => {
                let status = match refusal {
                    Refusal::NoListener => SidrStatus::Unsupported,
                    _ => SidrStatus::Rejected,
                };
                self.refuse_sidr(path, transaction_id, req.request_id, req.service_id, status);
                Err(Dropped::Refused(refusal))
            }
        }
    }

    fn admit_sidr(&self, path: Path, req: &SidrReq) -> Result<(Listening, Option<IpAddressing>), Refusal> {
        let listening = self.listeners.find(req.service_id, path.local).ok_or(Refusal::NoListener)?;
        let addressing = match Service::from_id(req.service_id) {
            Some(_) => Some(IpAddressing::parse(&req.private_data.0)?.0),
            None => None,
        };
        self.listeners.room(listening, path.remote, &self.config)?;
        if self.has_room() { Ok((listening, addressing)) } else { Err(Refusal::NoRoom) }
    }

    fn refuse_sidr(
        &mut self,
        path: Path,
        transaction_id: u64,
        request_id: CommId,
        service_id: u64,
        status: SidrStatus,
    ) {
        let rep = SidrRep {
            request_id,
            status,
            additional_info_length: 0,
            qpn: Qpn::truncate(0),
            service_id,
            qkey: 0,
            additional_info: [0; 72],
            private_data: PrivateData::default(),
        };
        self.send(path, transaction_id, rep);
    }

    pub(super) fn handle_sidr_rep(
        &mut self,
        now: Time,
        path: Path,
        transaction_id: u64,
        rep: &SidrRep,
    ) -> Result<(), Dropped> {
        let id = rep.request_id;
        let sidr = self.table.sidr_mut(id).ok_or(Dropped::UnknownId)?;
        if sidr.state != State::SidrReqSent {
            return Err(Dropped::State(sidr.state));
        }
        if sidr.path != path {
            return Err(Dropped::WrongInstance);
        }
        if sidr.transaction_id != transaction_id {
            return Err(Dropped::Transaction);
        }
        if rep.status == SidrStatus::Unsupported
            && let Some(unanswered) = &mut sidr.unanswered
        {
            if unanswered.listener.is_pausing() {
                return Err(Dropped::State(State::SidrReqSent));
            }
            if let Some(next) = unanswered.listener.refused(now) {
                self.table.set_deadline(id, Some(next));
                return Ok(());
            }
        }
        self.table.remove_sidr(id);
        let SidrRep { status, qpn, qkey, private_data, .. } = *rep;
        self.tell(id, Event::SidrResponse { id, status, qpn, qkey, private_data });
        Ok(())
    }

    pub(super) fn sidr_timeout(&mut self, now: Time, id: CommId) {
        let Some(sidr) = self.table.sidr_mut(id) else { return };
        let path = sidr.path;
        match sidr.state {
            State::SidrReqSent => {
                if let Some(unanswered) = &mut sidr.unanswered
                    && unanswered.take_turn()
                {
                    let (interval, mad): (Duration, _) = (unanswered.interval, *unanswered.mad);
                    self.send_again(path, &mad);
                    self.table.set_deadline(id, Some(now + interval));
                    return;
                }
                self.table.remove_sidr(id);
                self.tell(id, Event::Unreachable { id });
            }
            State::SidrReqRcvd => {
                self.abandon_sidr(id);
                self.tell(id, Event::Unreachable { id });
            }
            _ => {
                // In the same order as the deadlines.
                let oldest = self.answered.pop_first();
                debug_assert!(oldest.is_some_and(|(_, oldest)| oldest == id));
                self.table.remove_sidr(id);
            }
        }
    }

    /// Gives a request up: a peer's is refused, an answer is still kept for a while.
    pub(super) fn abandon_sidr(&mut self, id: CommId) {
        let Some(sidr) = self.table.sidr_mut(id) else { return };
        if sidr.state == State::SidrRepSent {
            return;
        }
        let Some(sidr) = self.table.remove_sidr(id) else { return };
        if sidr.state == State::SidrReqRcvd {
            if let Some(listening) = sidr.listening {
                self.listeners.remove_waiting(listening);
            }
            self.listeners.remove_half_open(sidr.path.remote);
            let status = SidrStatus::Rejected;
            self.refuse_sidr(sidr.path, sidr.transaction_id, sidr.request_id, sidr.service_id, status);
        }
    }
}
