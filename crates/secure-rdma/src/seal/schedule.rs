//! From the session's secret to the keys of each direction and use.
//!
//! ```text
//! exporter (label, context) ── session secret ─┬─ "c message" ── client's messages, epoch 0 ── "next" ── epoch 1 ── …
//!                                              ├─ "s message" ── server's messages, epoch 0 ── …
//!                                              ├─ "c slot" ───── slots that the client writes ─┬─ "epoch" 0
//!                                              │                                               └─ "epoch" 1 …
//!                                              └─ "s slot" ───── slots that the server writes …
//! each of the secrets at the right ── "key", "iv"
//! ```

use core::fmt;

use super::key::Key;
use super::secret::Secret;
use super::{Context, Exporter, LABEL, Layout, Limits, MessageOpener, MessageSealer, SealError, Slots};
use crate::control::Role;

/// What seals and opens at one side of a session.
///
/// It can't be cloned: each counter exists once, and so no nonce is used twice. A process must not go on with
/// it on both sides of a `fork`, nor from a snapshot of a virtual machine taken earlier.
pub struct SessionKeys {
    /// Seals this side's messages.
    pub sealer: MessageSealer,
    /// Opens the peer's.
    pub opener: MessageOpener,
    /// Seals and opens the region's slots, where there is a region.
    pub slots: Option<Slots>,
}

impl SessionKeys {
    /// The keys of the side that is `own`, for the session that `context` describes, from the TLS connection
    /// that it was agreed on in. `limits` are this side's for its own messages.
    ///
    /// # Errors
    /// TLS or the cryptographic library refuses.
    pub fn new(tls: &impl Exporter, context: &Context, own: Role, limits: Limits) -> Result<Self, SealError> {
        let suite = tls.suite()?;
        let session = Secret::new(suite, |out| tls.export(LABEL, &context.encode(suite), out))?;
        Self::from_secret(&session, own, limits, context.region.map(|region| region.layout))
    }

    /// The same from the session's secret.
    pub(super) fn from_secret(
        session: &Secret,
        own: Role,
        limits: Limits,
        layout: Option<Layout>,
    ) -> Result<Self, SealError> {
        let peer = peer_of(own);
        let sealer = MessageSealer::new(Chain::new(session, own)?, own, limits);
        let opener = MessageOpener::new(Chain::new(session, peer)?, peer);
        let slots = match layout {
            Some(layout) => Some(Slots::new(slot_secrets(session)?, own, layout)),
            None => None,
        };
        Ok(Self { sealer, opener, slots })
    }
}

impl fmt::Debug for SessionKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionKeys")
            .field("sealer", &self.sealer)
            .field("opener", &self.opener)
            .field("slots", &self.slots)
            .finish()
    }
}

pub(super) const fn peer_of(role: Role) -> Role {
    match role {
        Role::Client => Role::Server,
        Role::Server => Role::Client,
    }
}

/// The keys of one direction's messages, epoch after epoch.
pub(super) struct Chain {
    secret: Secret,
    /// Once it was used: many sessions exchange no messages.
    key: Option<Key>,
    epoch: u32,
}

impl Chain {
    /// The last epoch: a fragment's header has 30 bits for it.
    const LAST: u32 = (1 << 30) - 1;

    /// Epoch 0 of the messages that `sender` sends.
    pub(super) fn new(session: &Secret, sender: Role) -> Result<Self, SealError> {
        let label: &[u8] = match sender {
            Role::Client => b"c message",
            Role::Server => b"s message",
        };
        Ok(Self { secret: session.derive(label, b"")?, key: None, epoch: 0 })
    }

    /// The epoch after this one; one-way, as TLS's application traffic secrets are (RFC 8446, section 7.2).
    pub(super) fn next(&self) -> Result<Self, SealError> {
        if self.epoch == Self::LAST {
            return Err(SealError::Exhausted);
        }
        Ok(Self { secret: self.secret.derive(b"next", b"")?, key: None, epoch: self.epoch + 1 })
    }

    pub(super) fn key(&mut self) -> Result<&Key, SealError> {
        if self.key.is_none() {
            self.key = Some(Key::of(&self.secret)?);
        }
        self.key.as_ref().ok_or(SealError::Library)
    }

    pub(super) const fn epoch(&self) -> u32 {
        self.epoch
    }

    #[cfg(test)]
    pub(super) const fn secret(&self) -> &Secret {
        &self.secret
    }

    #[cfg(test)]
    pub(super) const fn set_epoch(&mut self, epoch: u32) {
        self.epoch = epoch;
    }
}

/// The secrets of the slots that the client and the server write, in this order.
pub(super) fn slot_secrets(session: &Secret) -> Result<[Secret; 2], SealError> {
    Ok([session.derive(b"c slot", b"")?, session.derive(b"s slot", b"")?])
}

/// The key of the slots that are written in `epoch`. Older epochs' slots stay readable, so this is no chain.
pub(super) fn slot_key(slots: &Secret, epoch: u64) -> Result<Key, SealError> {
    Key::of(&slots.derive(b"epoch", &epoch.to_be_bytes())?)
}

#[cfg(test)]
mod tests;
