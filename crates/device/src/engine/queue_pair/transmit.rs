//! From the protocol's packets to the link.

use super::segmentation::Segmentation;
use super::{Path, QueuePair, State};
use crate::engine::queue_pair_table::slot_of;
use crate::engine::security::{Peer, Refusal, Sealing};
use crate::link::tx::{MAX_RUN, MAX_SEGMENTS, Unsent};
use crate::link::{Sent, TxBatch, put_icrc};
use rocev2::transport::{Burst, Context, Destination, PacketKind};
use rocev2::wire::Headers;
use rocev2::{Mtu, Time};
use std::cell::RefCell;
use std::sync::Arc;

/// Room for the longest packet: headers, payload, pad. The batch has room for the ICRC beside it.
const LONGEST: usize = Headers::MAX_LEN + Mtu::B4096.bytes() as usize + 3;

thread_local! {
    /// The packets that this thread is about to send.
    static OUTGOING: RefCell<TxBatch> = RefCell::new(TxBatch::new());
}

/// What became of a queue pair's packets.
pub(super) enum Transmitted {
    /// There are no more now.
    All,
    /// There may be more than it may send in its turn.
    Part,
    /// The link has no room for these.
    Blocked(Option<Unsent>),
    /// The receiver has no room, on this host, or those who wait for READ responses have had their share.
    Paced,
}

/// Whether the next packet may be written.
enum Next {
    Write,
    Not(Transmitted),
}

impl QueuePair {
    /// Sends up to `deficit` bytes, and takes them from it.
    ///
    /// Packets leave while the queue pair is locked: two threads can't overtake each other. Nobody waits.
    pub(super) fn transmit(&self, state: &mut State, now: Time) -> Transmitted {
        OUTGOING.with_borrow_mut(|outgoing| {
            let transmitted = self.fill(state, now, outgoing);
            let blocked = matches!(transmitted, Transmitted::Blocked(_));
            if blocked || !state.flush(outgoing) {
                return Transmitted::Blocked(outgoing.take_unsent());
            }
            transmitted
        })
    }

    /// Fills the batch, and sends it whenever it is full. What is in it afterwards has to leave yet, unless the link
    /// has no room.
    fn fill(&self, state: &mut State, now: Time, outgoing: &mut TxBatch) -> Transmitted {
        let State { path: Some(path), sealing, sealed_datagrams, .. } = &mut *state else {
            return Transmitted::All;
        };
        outgoing.mark(path.marking);
        if sealed_datagrams.is_none()
            && let Some(sealing) = sealing
            && !sealing.refresh(path.port.address(), path.peer.ip())
        {
            // Nothing leaves in clear.
            return Transmitted::All;
        }
        let is_sealed = state.is_sealed();
        let headroom = if is_sealed { Sealing::HEADROOM } else { 0 };
        if let Some(unsent) = state.unsent.take() {
            outgoing.restore(unsent);
            if !state.flush(outgoing) {
                return Transmitted::Blocked(None);
            }
        }
        while state.deficit > 0 {
            if outgoing.is_full() && !state.flush(outgoing) {
                return Transmitted::Blocked(None);
            }
            if !self.of.is_reliable()
                && let Next::Not(transmitted) = self.prepare(state, now, outgoing)
            {
                return transmitted;
            }
            let transmit = {
                let State { protocol, receives, path, sealing, .. } = &mut *state;
                protocol
                    .begins_burst(path.as_ref().and_then(|path| burst(path, sealing.is_some(), outgoing)));
                let mut entered = receives.enter();
                let mut cx = Context::new(&self.memory, &mut entered);
                let room = &mut outgoing.reserve()[headroom..headroom + LONGEST];
                protocol.poll_transmit(now, &mut cx, room)
            };
            let Some(transmit) = transmit else {
                match Self::answer(state, now, outgoing) {
                    Next::Write => continue,
                    Next::Not(transmitted) => return transmitted,
                }
            };
            let State { protocol, path: Some(path), sealing, deficit, pacing, .. } = &mut *state else {
                return Transmitted::All;
            };
            let len = transmit.len;
            *deficit = deficit.saturating_sub(len);
            if path.is_here {
                pacing.sent(len);
            }
            let icrc = |packet: &[u8], id| path.pseudo_header.icrc(id, packet);
            // Segmentation offload costs more than a second system call, measured, where there is a single packet
            // to go with an ACK.
            let lone = transmit.kind == PacketKind::Acknowledge && !outgoing.ends_with_run();
            let alone = lone || path.segmentation == Segmentation::Fails;
            let place = match sealing {
                // Sealed while it is in the nearest cache.
                Some(sealing) => sealing.commit(outgoing, len, path.peer, alone),
                // There are no keys for whom the datagram is for.
                None if is_sealed => None,
                None if alone => {
                    outgoing.commit_alone(len, path.peer, icrc);
                    continue;
                }
                None => Some(outgoing.commit(len, path.peer, icrc)),
            };
            let Some(place) = place else {
                self.shared.counters.refused(Refusal::NotSent);
                continue;
            };
            if alone {
                continue;
            }
            if path.segmentation.is_on_trial()
                && transmit.kind == PacketKind::Request
                && path.segmentation.sent(transmit.psn, place, protocol.losses())
            {
                protocol.split_writes(0);
                self.shared.counters.gso_distrusted();
                tracing::info!(peer = %path.peer, "packets sent by segmentation offload don't arrive; \
                    sending them one by one");
            }
        }
        Transmitted::Part
    }

    /// Allows more READ responses to leave, if that is what everything else waits for.
    fn answer(state: &mut State, now: Time, outgoing: &mut TxBatch) -> Next {
        let is_sealed = state.is_sealed();
        let State { protocol, path: Some(path), sealing, reads, .. } = state else {
            return Next::Not(Transmitted::All);
        };
        if !protocol.read_responses_wait() {
            if reads.pause() {
                protocol.allow_read_responses(0);
            }
            return Next::Not(Transmitted::All);
        }
        // What is in the batch fills the buffer, too.
        if !outgoing.is_empty() && !flush(path, (is_sealed, sealing.as_mut()), outgoing) {
            return Next::Not(Transmitted::Blocked(None));
        }
        let allowed = reads.look(now, path.port.link().send_buffer());
        protocol.allow_read_responses(allowed);
        if allowed > 0 { Next::Write } else { Next::Not(Transmitted::Paced) }
    }

    /// Sees to it that an unreliable transport's next packet has its path, and that its receiver has room.
    fn prepare(&self, state: &mut State, now: Time, outgoing: &mut TxBatch) -> Next {
        let Some((to, receiver)) = state.protocol.next_destination() else { return Next::Write };
        if let Destination::Address(id) = to
            && state.address != Some(id)
        {
            let before = state.path.clone();
            self.take_address(state, id);
            let (Some(before), Some(path)) = (before, &state.path) else { return Next::Write };
            outgoing.mark(path.marking);
            if !Arc::ptr_eq(&before.port, &path.port)
                && !outgoing.is_empty()
                && !flush(&before, (state.is_sealed(), None), outgoing)
            {
                (state.path, state.address) = (Some(before), None);
                return Next::Not(Transmitted::Blocked(None));
            }
        }
        if state.receiver != Some(slot_of(receiver)) {
            state.receiver = Some(slot_of(receiver));
            state.pacing.forget();
            // Of a run, the system looks at the first packet alone where processes share the port.
            outgoing.close();
        }
        let is_sealed = state.is_sealed();
        let State { path: Some(path), sealing, sealed_datagrams, pacing, .. } = state else {
            return Next::Write;
        };
        if let Some(datagrams) = sealed_datagrams {
            let peer = Peer::of(path.peer.ip(), receiver);
            let (local, mtu) = (path.port.address(), path.port.mtu().sealed);
            datagrams.choose(sealing, &self.shared.peers, local, (peer, mtu));
        }
        if !path.is_here || pacing.has_allowance(now) {
            return Next::Write;
        }
        // What is in the batch fills the receiver's buffer, too.
        if !outgoing.is_empty() && !flush(path, (is_sealed, sealing.as_mut()), outgoing) {
            return Next::Not(Transmitted::Blocked(None));
        }
        let room = path.port.link().room(path.peer, receiver);
        if pacing.look(now, room) { Next::Write } else { Next::Not(Transmitted::Paced) }
    }
}

impl State {
    /// Sends what the batch holds; whether the link had room for all of it.
    fn flush(&mut self, outgoing: &mut TxBatch) -> bool {
        let is_sealed = self.is_sealed();
        self.path.as_ref().is_none_or(|path| flush(path, (is_sealed, self.sealing.as_mut()), outgoing))
    }
}

/// What the next packet begins, if it isn't one more of the batch's last run.
fn burst(path: &Path, sealed: bool, outgoing: &TxBatch) -> Option<Burst> {
    let together = path.segmentation != Segmentation::Fails;
    // What is sealed is padded to one length.
    (together && outgoing.begins_run(path.peer)).then_some(Burst {
        bytes: u32::try_from(MAX_RUN).unwrap_or(u32::MAX),
        packets: u32::try_from(MAX_SEGMENTS).unwrap_or(u32::MAX),
        mixes_headers: sealed,
    })
}

/// Sends what the batch holds on that path; whether the link had room for all of it.
fn flush(
    path: &Path,
    (is_sealed, mut sealing): (bool, Option<&mut Sealing>),
    outgoing: &mut TxBatch,
) -> bool {
    let mut reseal = |datagram: &mut [u8], to, id| match &mut sealing {
        Some(sealing) => sealing.reseal(datagram, id),
        // Datagrams are sealed for devices that don't look at it.
        None if is_sealed => {}
        None => put_icrc(datagram, |packet| path.icrc(id, packet, to)),
    };
    path.port.link().send(outgoing, &mut reseal) == Sent::All
}
