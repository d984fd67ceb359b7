//! Driving queue pairs through their states: by hand, or all the way to a peer.

use super::{
    Connected, Draining, Init, QueuePair, QueuePairState, ReadyToReceive, ReadyToSend, ReceiveQueue, Reset,
    Transport, Ud,
};
use crate::endpoint::{ConnectOptions, Endpoint};
use crate::gid::GidEntry;
use crate::options::{Peer, ReceiveOptions, SendOptions};
use crate::psn::{OwnPsn, PeerPsn};
use crate::{Error, SecurityAssociation};
use rocev2::Mtu;
use rocev2::work::{PeerRights, SendAttributes};

/// Reads and atomics that a side answers at a time, where its device can: perftest's value.
const MAX_RD_ATOMIC: u8 = 16;

impl<S: QueuePairState, T: Transport, R: ReceiveQueue> QueuePair<S, T, R> {
    /// What a peer needs to know to connect to this queue pair, if it reaches this device at `own`: an entry
    /// of the GID table that is in use ([`Device::gid_for`](crate::Device::gid_for)).
    #[must_use]
    pub fn endpoint(&self, own: &GidEntry) -> Endpoint {
        let GidEntry { gid, udp_port, lid, mtu, .. } = *own;
        let max_rd_atomic = self.parts.core.domain.device().attributes().max_qp_rd_atom.min(MAX_RD_ATOMIC);
        Endpoint { qpn: self.qpn(), psn: self.parts.psn.get(), gid, udp_port, lid, mtu, max_rd_atomic }
    }

    /// The first PSN that it sends.
    #[must_use]
    pub fn psn(&self) -> OwnPsn {
        self.parts.psn
    }
}

impl<T: Connected, R: ReceiveQueue> QueuePair<Reset, T, R> {
    /// As [`QueuePair::<Init>::seal_by`](QueuePair::seal_by).
    ///
    /// # Errors
    /// The device can't, or the association is another device's.
    pub fn seal_by(&self, association: &SecurityAssociation) -> Result<(), Error> {
        self.parts.core.provider.seal_by(association)
    }

    /// RESET → INIT; `rights` is what the peer may do, where its keys allow it too.
    ///
    /// # Errors
    /// The device refused.
    pub fn init(self, rights: PeerRights) -> Result<QueuePair<Init, T, R>, Error> {
        self.parts.core.provider.init(rights, 0)?;
        Ok(self.become_state())
    }
}

impl<T: Connected, R: ReceiveQueue> QueuePair<Init, T, R> {
    /// Has the queue pair send and take nothing but packets that `association` seals and opens, for as long as it
    /// exists. Its path MTU is then at most [`GidEntry::sealed_mtu`].
    ///
    /// # Errors
    /// The device can't, or the association is another device's.
    pub fn seal_by(&self, association: &SecurityAssociation) -> Result<(), Error> {
        self.parts.core.provider.seal_by(association)
    }

    /// INIT → RTR → RTS, towards `peer`, from this device's address `own`, which the peer was told.
    ///
    /// # Errors
    /// There is no path to the peer, or an option is out of range.
    pub fn connect(
        self,
        own: &GidEntry,
        peer: &Endpoint,
        options: &ConnectOptions,
    ) -> Result<QueuePair<ReadyToSend, T, R>, Error> {
        let limits = self.parts.core.domain.device().attributes();
        let receive = ReceiveOptions {
            gid_index: own.index,
            path_mtu: options.path_mtu.unwrap_or(Mtu::B4096).min(own.mtu).min(peer.mtu),
            max_dest_rd_atomic: options.max_rd_atomic.min(limits.max_qp_rd_atom),
            min_rnr_timer: options.min_rnr_timer,
        };
        let send = SendOptions {
            timeout: options.timeout,
            retry_count: options.retry_count,
            rnr_retry: options.rnr_retry,
            max_rd_atomic: options.max_rd_atomic.min(limits.max_qp_init_rd_atom).min(peer.max_rd_atomic),
        };
        let Endpoint { qpn, psn, gid, udp_port, lid, .. } = *peer;
        let peer = Peer { qpn, psn: PeerPsn::new(psn), gid, udp_port, lid };
        let psn = self.parts.psn;
        self.ready_to_receive(&peer, &receive)?.ready_to_send(psn, &send)
    }

    /// INIT → RTR, towards `peer`.
    ///
    /// # Errors
    /// There is no path to the peer, or an option is out of range.
    pub fn ready_to_receive(
        self,
        peer: &Peer,
        options: &ReceiveOptions,
    ) -> Result<QueuePair<ReadyToReceive, T, R>, Error> {
        self.parts.core.provider.ready_to_receive(peer, options)?;
        Ok(self.become_state())
    }
}

impl<T: Connected, R: ReceiveQueue> QueuePair<ReadyToReceive, T, R> {
    /// RTR → RTS; the first packet will have the number `psn`.
    ///
    /// # Errors
    /// An option is out of range.
    pub fn ready_to_send(
        self,
        psn: OwnPsn,
        options: &SendOptions,
    ) -> Result<QueuePair<ReadyToSend, T, R>, Error> {
        let attributes = SendAttributes {
            sq_psn: psn.get(),
            timeout: options.timeout,
            retry_count: options.retry_count,
            rnr_retry: options.rnr_retry,
            max_rd_atomic: options.max_rd_atomic,
        };
        self.parts.core.provider.ready_to_send(&attributes)?;
        Ok(self.become_state())
    }
}

impl<R: ReceiveQueue> QueuePair<Reset, Ud, R> {
    /// RESET → INIT. Datagrams are received that carry `qkey`.
    ///
    /// # Errors
    /// The device refused.
    pub fn init(self, qkey: u32) -> Result<QueuePair<Init, Ud, R>, Error> {
        self.parts.core.provider.init(PeerRights::default(), qkey)?;
        Ok(self.become_state())
    }
}

impl<R: ReceiveQueue> QueuePair<Init, Ud, R> {
    /// INIT → RTR → RTS: datagrams may come and go.
    ///
    /// # Errors
    /// The device refused.
    pub fn ready(self) -> Result<QueuePair<ReadyToSend, Ud, R>, Error> {
        self.parts.core.provider.ready_for_datagrams(self.parts.psn.get())?;
        Ok(self.become_state())
    }
}

impl<T: Transport, R: ReceiveQueue> QueuePair<ReadyToSend, T, R> {
    /// RTS → SQD: requests that had begun are finished, no further one is begun. [`crate::Event`] tells when
    /// that is so. Further ones may be posted meanwhile; they wait for [`resume`](QueuePair::resume).
    ///
    /// Soft-RoCE (Linux 6.1) looks whether it has drained when it is asked to and when a request is posted,
    /// but not after the last acknowledgement: of a drain that begins while a request waits for its
    /// acknowledgement it tells only once something is posted, and until then refuses to resume.
    ///
    /// # Errors
    /// The queue pair has failed.
    pub fn drain(self) -> Result<QueuePair<Draining, T, R>, Error> {
        self.parts.core.provider.drain()?;
        Ok(self.become_state())
    }
}

impl<T: Transport, R: ReceiveQueue> QueuePair<Draining, T, R> {
    /// SQD → RTS. Soft-RoCE (Linux 6.1) goes on with requests that wait only when a further one is posted.
    ///
    /// # Errors
    /// The queue pair has failed.
    pub fn resume(self) -> Result<QueuePair<ReadyToSend, T, R>, Error> {
        self.parts.core.provider.resume()?;
        Ok(self.become_state())
    }
}
