//! Security associations that sessions share.
//!
//! A kernel has one state on the way out for each pair of addresses, whatever queue pair sends. So where it seals, or
//! opens, all sessions between the two addresses are sealed by the association of the first one, as long as any of them
//! lives. The side where the kernel is says so (`joins` in its Endpoint), the client's where it is on both; the other
//! one knows the association too, or there is no session. Both then prove (`Joined`) that they have its secret, for
//! this session: that they are the two processes that the first one's keys are known to, and mean the same session.
//!
//! Sessions of one [`Client`](crate::Client) or one [`Server`](crate::Server) share. Another process has other keys,
//! and there is no association that it could join.

use super::Local;
use super::association::{Association, Way};
use super::packets::Rekeying;
use crate::SessionError;
use crate::certs::Fingerprint;
use crate::control::{Endpoint, Joins, Record, Role};
use crate::seal::{JoinSecret, PacketKeys, Proof};
use rdma_verbs::esp::Spi;
use rdma_verbs::{Init, QueuePair};
use std::collections::HashMap;
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};
use tokio::time::{Instant, timeout};

/// This side's address, and the peer's.
type Addresses = (IpAddr, IpAddr);

/// The associations that sessions of one client or one server share.
#[derive(Debug, Default)]
pub(crate) struct Associations(Mutex<HashMap<Addresses, Entry>>);

/// What there is between two addresses.
#[derive(Debug, Default)]
struct Entry {
    /// Held by the session that is being set up.
    turn: Arc<AsyncMutex<()>>,
    shared: Weak<Shared>,
}

/// While it is held, no other session between the two addresses is being set up.
#[derive(Debug)]
pub(super) struct Turn {
    _guard: OwnedMutexGuard<()>,
}

impl Associations {
    fn entries(&self) -> MutexGuard<'_, HashMap<Addresses, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until it is this session's turn: who comes at the same time joins what the first one has set up.
    async fn turn(&self, addresses: Addresses, limit: Duration) -> Result<Turn, SessionError> {
        let turn = {
            let mut entries = self.entries();
            entries.retain(|_, entry| entry.shared.strong_count() > 0 || Arc::strong_count(&entry.turn) > 1);
            Arc::clone(&entries.entry(addresses).or_default().turn)
        };
        let step = "waiting for another session between the two addresses to be set up";
        let guard = timeout(limit, turn.lock_owned()).await;
        let guard = guard.map_err(|_| SessionError::TimedOut { step, limit })?;
        Ok(Turn { _guard: guard })
    }

    fn shared(&self, addresses: Addresses) -> Option<Arc<Shared>> {
        self.entries().get(&addresses)?.shared.upgrade()
    }

    fn remember(&self, addresses: Addresses, shared: &Arc<Shared>) {
        self.entries().entry(addresses).or_default().shared = Arc::downgrade(shared);
    }
}

/// An association with its keys, and what a session has to be to join it.
#[derive(Debug)]
struct Shared {
    rekeying: Mutex<Rekeying>,
    /// The SPIs by which the two sides have taken packets first.
    own: Spi,
    peers: Spi,
    /// The UDP port to which packets are sent.
    peer_port: u16,
    client_certificate: Option<Fingerprint>,
    /// The UDP port where this side's kernel opens packets, if it does.
    esp_port: Option<NonZeroU16>,
    secret: JoinSecret,
}

impl Shared {
    fn rekeying(&self) -> MutexGuard<'_, Rekeying> {
        self.rekeying.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether its other end is that peer's device, and is meant if the peer names one.
    fn is_with(&self, local: &Local<'_>, peer: &Endpoint) -> bool {
        peer.esp_port.unwrap_or(peer.udp_port).get() == self.peer_port
            && self.client_certificate == local.client_certificate
            && (peer.joins.is_none() || peer.spi == Some(self.peers))
    }
}

/// What may seal a session's packets.
#[derive(Debug)]
pub(super) struct Offered {
    // Before the turn: who is next finds nothing of it.
    source: Source,
    turn: Option<Turn>,
}

#[derive(Debug)]
enum Source {
    /// A new association, and the SPI by which it will take packets.
    New(Association, Spi),
    /// One that other sessions have.
    Others(Arc<Shared>),
}

impl Offered {
    /// For `local`'s session: what there is, or something new. The kernel is only asked if packets have to be sealed
    /// (`required`), since it would have other sessions' packets sealed too.
    ///
    /// # Errors
    /// Neither the device nor the kernel can.
    pub(super) async fn new(local: &Local<'_>, required: bool) -> Result<Self, SessionError> {
        if let Some(association) = Association::embedded(local) {
            return Ok(Self { source: Source::fresh(association)?, turn: None });
        }
        let helper = local.kernel.filter(|_| required).ok_or(SessionError::NoPackets { who: "this side" })?;
        let turn = local.associations.turn(addresses(local), local.options.timeouts.step).await?;
        let source = match local.associations.shared(addresses(local)) {
            Some(shared) => Source::Others(shared),
            None => Source::fresh(Association::kernel(local, helper)?)?,
        };
        Ok(Self { source, turn: Some(turn) })
    }

    /// What it is once the peer has described its end: for who is the `own` side.
    ///
    /// # Errors
    /// The two sides don't mean the same association.
    pub(super) fn agree(self, local: &Local<'_>, peer: &Endpoint, own: Role) -> Result<Self, SessionError> {
        let other = || SessionError::OtherAssociation { peer: local.peer.ip().to_canonical() };
        let Self { source, turn } = self;
        let known = match (source, peer.joins) {
            (Source::New(association, spi), None) => {
                return Ok(Self { source: Source::New(association, spi), turn });
            }
            // A client has to be answered by who joins too; a server answers.
            (Source::Others(_), None) if own == Role::Client => None,
            (Source::Others(shared), _) => Some(shared),
            (Source::New(Association::Embedded(_), _), Some(Joins)) => {
                local.associations.shared(addresses(local))
            }
            (Source::New(Association::Kernel(_), _), Some(Joins)) => None,
        };
        let shared = known.filter(|shared| shared.is_with(local, peer)).ok_or_else(other)?;
        Ok(Self { source: Source::Others(shared), turn })
    }

    /// The SPI by which packets are taken, or were first.
    pub(super) fn spi(&self) -> Spi {
        match &self.source {
            Source::New(_, spi) => *spi,
            Source::Others(shared) => shared.own,
        }
    }

    /// The UDP port where the kernel opens packets, if it does.
    pub(super) fn esp_port(&self) -> Option<NonZeroU16> {
        match &self.source {
            Source::New(association, _) => association.esp_port(),
            Source::Others(shared) => shared.esp_port,
        }
    }

    /// Whether it is other sessions'.
    pub(super) fn joins(&self) -> Option<Joins> {
        matches!(self.source, Source::Others(_)).then_some(Joins)
    }

    /// What the two sides of a session with these keys show, if it joins others' association.
    pub(super) fn proofs(&self, keys: &PacketKeys, own: Role) -> Result<Option<Proofs>, SessionError> {
        let Source::Others(shared) = &self.source else { return Ok(None) };
        let peer = match own {
            Role::Client => Role::Server,
            Role::Server => Role::Client,
        };
        let [own, peers] = [own, peer].map(|prover| shared.secret.proof(&keys.join, prover));
        Ok(Some(Proofs { own: own?, peers: peers? }))
    }

    /// Seals `qp`'s packets: with `keys`, if it is a new association.
    pub(super) fn seal(
        self,
        local: &Local<'_>,
        peer: &Endpoint,
        keys: PacketKeys,
        way: Way,
        qp: &QueuePair<Init>,
    ) -> Result<(Member, Option<Turn>), SessionError> {
        let esp_port = self.esp_port();
        let shared = match self.source {
            Source::Others(shared) => shared,
            Source::New(association, own) => {
                const STEP: &str = "sealing packets";
                let no_spi = SessionError::Unexpected { step: STEP, found: "an endpoint without SPI" };
                let peers = peer.spi.ok_or(no_spi)?;
                let is_kernels = esp_port.is_some() || peer.esp_port.is_some();
                let PacketKeys { own: sealing, peer: opening, join: secret } = keys;
                let chains = [sealing, opening];
                let limits = local.options.key_limits;
                let rekeying = Rekeying::new((association, own), peers, chains, way, limits)?;
                let shared = Arc::new(Shared {
                    rekeying: Mutex::new(rekeying),
                    own,
                    peers,
                    peer_port: way.peer_port,
                    client_certificate: local.client_certificate,
                    esp_port,
                    secret,
                });
                if is_kernels {
                    local.associations.remember(addresses(local), &shared);
                }
                shared
            }
        };
        shared.rekeying().association().seal(qp)?;
        Ok((Member { shared, told: 0 }, self.turn))
    }
}

impl Source {
    fn fresh(association: Association) -> Result<Self, SessionError> {
        let spi = association.allocate_spi()?;
        Ok(Self::New(association, spi))
    }
}

fn addresses(local: &Local<'_>) -> Addresses {
    (local.address.ip().to_canonical(), local.peer.ip().to_canonical())
}

/// What the two sides of a session that joins an association show.
pub(super) struct Proofs {
    own: Proof,
    peers: Proof,
}

impl Proofs {
    /// What this side shows.
    pub(super) fn own(&self) -> Record {
        Record::Joined { proof: *self.own.bytes() }
    }

    /// Checks what the peer has shown.
    pub(super) fn check(&self, shown: [u8; 32]) -> Result<(), SessionError> {
        if self.peers == Proof::from(shown) {
            Ok(())
        } else {
            Err(SessionError::Protocol { what: "a session that joins an association whose secret it hasn't" })
        }
    }
}

/// A session's part of what seals its packets. The last one that is dropped, and queue pair, ends the association.
#[derive(Debug)]
pub(super) struct Member {
    shared: Arc<Shared>,
    /// The newest of the peer's keys that it was told of on this session's control channel.
    told: u64,
}

impl Member {
    /// Looks whether the peer needs a new key: what to tell it. Each session tells: any of them may end before the peer
    /// has heard it.
    pub(super) fn look(&mut self, now: Instant) -> Result<Option<Record>, SessionError> {
        let newest = self.shared.rekeying().look(now)?.filter(|(epoch, _)| *epoch > self.told);
        Ok(newest.map(|(epoch, spi)| {
            self.told = epoch;
            Record::Spi { epoch, spi }
        }))
    }

    /// The peer takes packets of this side's next key by `spi`.
    pub(super) fn told(&self, epoch: u64, spi: Spi) -> Result<(), SessionError> {
        self.shared.rekeying().told(epoch, spi)
    }
}
