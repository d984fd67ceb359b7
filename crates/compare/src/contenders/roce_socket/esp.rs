//! Packets in ESP, as the embedded device seals them: each sealed where it lies, those of a run equally long, and
//! opened where it arrives.

use crate::failure::Failure;
use rocev2::icrc;
use rocev2::wire::Headers;
use rocev2_device::link::TxBatch;
use rocev2_esp::layout::{HEADROOM, MAX_PADDING, sealed_len};
use rocev2_esp::replay::DEFAULT_WINDOW;
use rocev2_esp::{Algorithm, Inbound, Inner, Key, Outbound, Sealer, Spi};
use std::net::SocketAddr;
use std::sync::Arc;

/// One end's SAs.
pub(super) struct Esp {
    sealer: Sealer<Arc<Outbound>>,
    into: Inbound,
}

impl Esp {
    /// Those of `own`, whose peer is `peer`. The keys are known to everybody: what is sealed here is no secret.
    pub(super) fn new(own: SocketAddr, peer: SocketAddr) -> Result<Self, Failure> {
        let spi = |receiver: SocketAddr| Spi::for_shared_port(receiver.port().into(), 0);
        let key = |sender: SocketAddr| {
            let [high, low] = sender.port().to_be_bytes();
            let mut material = [high; 36];
            material[0] = low;
            Key::new(Algorithm::Aes256Gcm, &material)
        };
        let inner = Inner { source_port: own.port(), checksum: None };
        let out = Outbound::new(spi(peer), key(own)?, inner);
        let into = Inbound::new(spi(own), key(peer)?, DEFAULT_WINDOW);
        Ok(Self { sealer: Sealer::new(Arc::new(out)), into })
    }

    /// Adds a packet to those that are sent next.
    pub(super) fn put(
        &mut self,
        batch: &mut TxBatch,
        to: SocketAddr,
        headers: &Headers,
        payload: &[u8],
    ) -> Result<(), Failure> {
        let joined = batch.joined_len(to);
        let frame = headers.frame(&mut batch.reserve()[HEADROOM..], payload.len())?;
        frame.payload.copy_from_slice(payload);
        let len = frame.len + icrc::LEN;
        let least = sealed_len(len);
        let padded = joined.filter(|run| *run >= least && *run - HEADROOM - len < MAX_PADDING);
        let seal = |datagram: &mut [u8], _| self.sealer.seal(datagram, len).is_ok();
        batch.commit_datagram(padded.unwrap_or(least), to, seal).ok_or("a packet that can't be sealed")?;
        Ok(())
    }

    /// The packet in a datagram, BTH through pad. All that arrives must be authentic, and new.
    pub(super) fn open<'d>(&mut self, datagram: &'d mut [u8]) -> Result<&'d [u8], Failure> {
        let packet = &*self.into.open(datagram)?.packet;
        Ok(packet.split_last_chunk::<{ icrc::LEN }>().ok_or("a packet without ICRC")?.0)
    }
}
