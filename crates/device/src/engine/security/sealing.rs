//! What a queue pair seals its packets with.

use super::association::{Association, Receiver};
use super::inbound::AssociationId;
use crate::link::{TxBatch, put_icrc};
use rocev2::icrc::{self, PseudoHeader};
use rocev2::wire::{Bth, Header};
use rocev2::{Mtu, UDP_PORT};
use rocev2_esp::layout::{HEADROOM, MAX_PADDING, sealed_len};
use rocev2_esp::{Outbound, Sealer};
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;
use std::sync::Arc;

/// A queue pair's association, and its share of the numbers of the SA that seals now. Other queue pairs of the
/// association have shares of their own.
pub(crate) struct Sealing {
    association: Arc<Association>,
    generation: u64,
    sealer: Option<Sealer<Arc<Outbound>>>,
    /// Where the receiver checks the ICRC: what that covers beside the packet.
    pseudo_header: Option<PseudoHeader>,
    /// Where packets go, if not to the port of the way to the peer.
    port: Option<NonZeroU16>,
    /// Bytes that the longest packet of the path MTU is sealed to.
    longest: usize,
}

/// Bytes by which packets of equal payload may differ: those of an address and key, and of an immediate.
const HEADERS_DIFFER: usize = Header::Reth.len() + Header::ImmDt.len();

impl Sealing {
    pub(crate) fn new(association: Arc<Association>) -> Self {
        // The first refresh finds another generation, if there is an SA.
        Self { association, generation: 0, sealer: None, pseudo_header: None, port: None, longest: 0 }
    }

    pub(crate) fn association(&self) -> &Arc<Association> {
        &self.association
    }

    pub(crate) fn id(&self) -> AssociationId {
        self.association.id()
    }

    /// Where a packet has to be put into what a batch reserves.
    pub(crate) const HEADROOM: usize = HEADROOM;

    /// Takes over the path MTU.
    pub(crate) fn fit(&mut self, mtu: Mtu) {
        self.longest = sealed_len(Bth::LEN + HEADERS_DIFFER + mtu.bytes() as usize + icrc::LEN);
    }

    /// Takes the SA that seals from now on, for the way from `local` to `peer`; whether there is one that this process
    /// may seal with.
    pub(crate) fn refresh(&mut self, local: IpAddr, peer: IpAddr) -> bool {
        let generation = self.association.generation();
        if generation != self.generation {
            self.generation = generation;
            let Some((sa, receiver)) = self.association.current() else {
                // It was closed.
                self.sealer = None;
                return false;
            };
            self.port = self.association.port();
            let ports = [sa.inner().source_port, UDP_PORT];
            self.pseudo_header = (receiver == Receiver::Kernel)
                .then(|| PseudoHeader::new((local, ports[0]).into(), (peer, ports[1]).into()).ok())
                .flatten();
            self.sealer = Some(Sealer::new(sa));
        }
        self.sealer.is_some() && self.association.may_seal()
    }

    /// Whether the receiver checks the ICRC, and with it the IP identification of packets.
    pub(crate) fn has_icrc(&self) -> bool {
        self.pseudo_header.is_some()
    }

    /// Adds the packet of `len` bytes, BTH through pad, that stands at [`Self::HEADROOM`] in what `batch` has reserved:
    /// as long as those of the run before it, if padding can make it so. Returns its place in its run; `None` if
    /// nothing could seal it.
    pub(crate) fn commit(
        &mut self,
        batch: &mut TxBatch,
        len: usize,
        mut to: SocketAddr,
        alone: bool,
    ) -> Option<usize> {
        let Self { sealer: Some(sealer), pseudo_header, port, longest, .. } = self else { return None };
        if let Some(port) = port {
            to.set_port(port.get());
        }
        let len = len + icrc::LEN;
        let least = sealed_len(len);
        // A run is as long as its first packet, and one that is full may be followed by longer ones.
        let first =
            if (1..=HEADERS_DIFFER).contains(&longest.saturating_sub(least)) { *longest } else { least };
        if alone {
            batch.close();
        }
        let padded = batch.joined_len(to).filter(|run| *run >= least && *run - least <= MAX_PADDING - 3);
        let place = batch.commit_datagram(padded.unwrap_or(first), to, |datagram, id| {
            let packet = datagram.get_mut(HEADROOM..HEADROOM + len).unwrap_or_default();
            match pseudo_header {
                Some(pseudo_header) => put_icrc(packet, |packet| pseudo_header.icrc(id, packet)),
                // Nobody looks at it, but what earlier packets left there shows nothing either.
                None => put_icrc(packet, |_| 0),
            }
            sealer.seal(datagram, len).is_ok()
        });
        if alone {
            batch.close();
        }
        place
    }

    /// Makes a datagram right that leaves with another IP identification than it was committed for.
    pub(crate) fn reseal(&mut self, datagram: &mut [u8], id: u16) {
        if let Self { sealer: Some(sealer), pseudo_header: Some(pseudo_header), .. } = self {
            // What can't be sealed anew, since its SA was replaced meanwhile, is wiped: it is lost, as on the way.
            let _ =
                sealer.reseal(datagram, |packet| put_icrc(packet, |packet| pseudo_header.icrc(id, packet)));
        }
    }
}
