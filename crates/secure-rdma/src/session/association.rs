//! What seals a session's packets: the device, where it is the embedded one, or the kernel in front of another.

use super::Local;
use crate::SessionError;
use crate::control::Endpoint;
use crate::seal::PacketChain;
use rdma_verbs::esp::outbound::REKEY_AFTER;
use rdma_verbs::esp::replay::DEFAULT_WINDOW;
use rdma_verbs::esp::{Inbound, Inner, Outbound, Spi};
use rdma_verbs::{Init, QueuePair, Receiver, SecurityAssociation};
use secure_rdma_xfrm::Material;
use secure_rdma_xfrm::helper::{Helper, Sealing};
use std::num::NonZeroU16;
use std::sync::Arc;

/// Numbers of one key. A peer that gives no new key in time makes this side fall silent: 16 times as many as it takes
/// packets before it does, some minutes at the fastest. The kernel's states have the same limit.
const NUMBERS: u64 = 16 * REKEY_AFTER;

/// A security association of this side's.
#[derive(Debug)]
pub(super) enum Association {
    /// The embedded device's.
    Embedded(SecurityAssociation),
    /// The kernel's, between this host's address and the peer's.
    Kernel(Arc<Sealing>),
}

/// How packets of one association go: what the peer tells of its end, and this side's port.
#[derive(Clone, Copy, Debug)]
pub(super) struct Way {
    /// The UDP port that the headers inside name as where they come from.
    pub(super) source_port: u16,
    /// The UDP port to which the peer's are sent.
    pub(super) peer_port: u16,
    /// Who opens them there.
    pub(super) receiver: Receiver,
}

impl Way {
    /// The way to `peer` from a device at this UDP port.
    pub(super) fn new(own_port: NonZeroU16, peer: &Endpoint) -> Self {
        let receiver = if peer.esp_port.is_some() { Receiver::Kernel } else { Receiver::Embedded };
        let peer_port = peer.esp_port.unwrap_or(peer.udp_port).get();
        Self { source_port: own_port.get(), peer_port, receiver }
    }
}

impl Association {
    /// The embedded device's, if it is `local`'s.
    pub(super) fn embedded(local: &Local<'_>) -> Option<Self> {
        local.device.security_association().ok().map(Self::Embedded)
    }

    /// The kernel's, between the two addresses of `local`'s session.
    ///
    /// # Errors
    /// It can't, or it seals between them already.
    pub(super) fn kernel(local: &Local<'_>, helper: &Arc<Helper>) -> Result<Self, SessionError> {
        const NOBODY: SessionError = SessionError::NoPackets { who: "this side" };
        let own = local.device.gid_for(local.address.ip().to_canonical())?.address.ok_or(NOBODY)?;
        // The helper asks the kernel, which answers at once: not worth another thread.
        let sealing = helper.open(own, local.peer.ip().to_canonical()).map_err(SessionError::kernel)?;
        Ok(Self::Kernel(Arc::new(sealing)))
    }

    /// The UDP port where the kernel opens packets, if it does.
    pub(super) fn esp_port(&self) -> Option<NonZeroU16> {
        match self {
            Self::Embedded(_) => None,
            Self::Kernel(sealing) => NonZeroU16::new(sealing.port()),
        }
    }

    /// An SPI by which the peer's packets will be taken.
    pub(super) fn allocate_spi(&self) -> Result<Spi, SessionError> {
        match self {
            Self::Embedded(own) => Ok(own.allocate_spi().map_err(rdma_verbs::Error::from)?),
            Self::Kernel(sealing) => {
                let spi = sealing.allocate_spi().map_err(SessionError::kernel)?;
                Spi::new(spi).ok_or(SessionError::NoPackets { who: "this side" })
            }
        }
    }

    /// Has a queue pair send and take sealed packets alone, as long as it exists.
    pub(super) fn seal(&self, qp: &QueuePair<Init>) -> Result<(), SessionError> {
        match self {
            Self::Embedded(own) => qp.seal_by(own)?,
            // Then the kernel sees to it. What it does ends when the device has no queue pair any more that could go on
            // in clear.
            Self::Kernel(sealing) => qp.keep(Arc::clone(sealing) as _),
        }
        Ok(())
    }

    /// Takes packets under the next key of `chain` by `spi`.
    pub(super) fn take_by(&self, spi: Spi, chain: &mut PacketChain, way: Way) -> Result<(), SessionError> {
        match self {
            Self::Embedded(own) => {
                let sa = Inbound::new(spi, chain.next_key()?, DEFAULT_WINDOW);
                Ok(own.install_inbound(sa).map_err(rdma_verbs::Error::from)?)
            }
            Self::Kernel(sealing) => sealing
                .install_inbound(spi.number(), way.peer_port, next_material(chain)?)
                .map_err(SessionError::kernel),
        }
    }

    /// Seals packets with the next key of `chain`, for the peer's `spi`.
    pub(super) fn seal_for(&self, spi: Spi, chain: &mut PacketChain, way: Way) -> Result<(), SessionError> {
        match self {
            Self::Embedded(own) => {
                let inner = Inner { source_port: way.source_port, checksum: None };
                let sa = Outbound::with_numbers(spi, chain.next_key()?, inner, 1, NUMBERS);
                own.install_outbound(sa, way.receiver);
                Ok(())
            }
            Self::Kernel(sealing) => sealing
                .install_outbound(spi.number(), way.peer_port, next_material(chain)?)
                .map_err(SessionError::kernel),
        }
    }

    /// How many packets have come by `spi`.
    pub(super) fn packets(&self, spi: Spi) -> Result<u64, SessionError> {
        match self {
            Self::Embedded(own) => {
                let found = own.inbound().into_iter().find(|sa| sa.spi == spi);
                Ok(found.map_or(0, |sa| sa.packets))
            }
            Self::Kernel(sealing) => sealing.packets(spi.number()).map_err(SessionError::kernel),
        }
    }

    /// Takes no more packets by `spi`.
    pub(super) fn release(&self, spi: Spi) -> Result<(), SessionError> {
        match self {
            Self::Embedded(own) => {
                own.release(spi);
                Ok(())
            }
            Self::Kernel(sealing) => sealing.release(spi.number()).map_err(SessionError::kernel),
        }
    }
}

fn next_material(chain: &mut PacketChain) -> Result<Material, SessionError> {
    let (_, material) = chain.next_material()?;
    Material::new(&material).map_err(SessionError::kernel)
}
