//! Time: repetitions, patience at its end, TIME-WAIT; and the changes of state that start and stop the timers.

use rocev2::Time;

use super::connection::Unanswered;
use super::listener_awaited::ListenerAwaited;
use super::{Event, Manager, State};
use crate::CommId;
use crate::wire::{MAD_LEN, MessageRejected, RejectReason};

impl Manager {
    /// Does what is due: repeats what wasn't answered, gives up what was repeated often enough, ends TIME-WAITs.
    pub fn handle_timeout(&mut self, now: Time) {
        // Each sets its next deadline later than `now`, so this ends.
        while let Some(id) = self.table.pop_expired(now) {
            if self.table.sidr(id).is_some() {
                self.sidr_timeout(now, id);
            } else if !self.repeat(now, id) {
                self.expire(now, id);
            }
        }
    }

    /// Sends what wasn't answered again, if it may be repeated once more.
    fn repeat(&mut self, now: Time, id: CommId) -> bool {
        let Some(connection) = self.table.get_mut(id) else { return false };
        let path = connection.path;
        let Some(unanswered) = &mut connection.unanswered else { return false };
        if !unanswered.take_turn() {
            return false;
        }
        let (interval, mad) = (unanswered.interval, *unanswered.mad);
        self.send_again(path, &mad);
        self.table.set_deadline(id, Some(now + interval));
        true
    }

    /// Nobody has answered in time, neither peer nor caller.
    fn expire(&mut self, now: Time, id: CommId) {
        let Some(connection) = self.table.get(id) else { return };
        match connection.state {
            State::ReqSent | State::ReqRcvd => {
                self.give_up(id, RejectReason::Timeout);
                self.tell(id, Event::Unreachable { id });
                self.forget(id);
            }
            State::RepSent | State::RepRcvd => {
                self.give_up(id, RejectReason::Timeout);
                self.tell(id, Event::Unreachable { id });
                self.enter_time_wait(now, id);
            }
            State::DreqSent => {
                self.tell(id, Event::Disconnected { id });
                self.enter_time_wait(now, id);
            }
            // The caller doesn't answer: the peer isn't to wait for it.
            State::DreqRcvd => self.answer_dreq(now, id),
            State::TimeWait => {
                self.tell(id, Event::TimeWaitExit { id });
                self.forget(id);
            }
            State::Established | State::SidrReqSent | State::SidrReqRcvd | State::SidrRepSent => {}
        }
    }

    /// Tells the peer that this side doesn't go on.
    pub(super) fn give_up(&mut self, id: CommId, reason: RejectReason) {
        let rejected = match self.state(id) {
            Some(State::ReqRcvd) => MessageRejected::Req,
            Some(State::RepRcvd) => MessageRejected::Rep,
            _ => MessageRejected::None,
        };
        // What the receiver of a time-out knows the sender by, if it has heard of no id of this side's.
        let guid = self.config.ca_guid.to_be_bytes();
        let ari: &[u8] = if reason == RejectReason::Timeout { &guid } else { &[] };
        self.send_rej(id, rejected, reason, ari, Default::default());
    }

    /// Keeps `mad`, which was just sent, until it is answered.
    pub(super) fn await_answer(
        &mut self,
        now: Time,
        id: CommId,
        mad: Box<[u8; MAD_LEN]>,
        listener: ListenerAwaited,
    ) {
        let Some(connection) = self.table.get_mut(id) else { return };
        let interval = connection.interval(&self.config);
        let retries_left = connection.max_retries;
        connection.unanswered = Some(Unanswered { mad, retries_left, interval, extended: false, listener });
        self.table.set_deadline(id, Some(now + interval));
    }

    /// Moves a connection to another state: nothing is repeated any more, no deadline is left.
    pub(super) fn set_state(&mut self, id: CommId, state: State) {
        self.table.set_deadline(id, None);
        let Some(connection) = self.table.get_mut(id) else { return };
        connection.unanswered = None;
        let before = core::mem::replace(&mut connection.state, state);
        let source = connection.path.remote;
        if before == State::ReqRcvd
            && let Some(listening) = connection.listening.take()
        {
            self.listeners.remove_waiting(listening);
        }
        if before.is_half_open() && !state.is_half_open() {
            self.listeners.remove_half_open(source);
        }
    }

    pub(super) fn enter_time_wait(&mut self, now: Time, id: CommId) {
        self.set_state(id, State::TimeWait);
        let Some(connection) = self.table.get(id) else { return };
        let until = now + connection.time_wait(&self.config);
        self.table.set_deadline(id, Some(until));
    }

    /// Frees a connection.
    pub(super) fn forget(&mut self, id: CommId) {
        // It counts no more, whatever it was.
        self.set_state(id, State::TimeWait);
        self.table.remove(id);
    }
}
