//! What a seed decides of certificates, clocks and what servers ask of their clients.

use crate::pki::{CLIENTS, SERVERS};
use simulator::Rng;

/// Certificates that each has, one after the other.
pub(crate) const EDITIONS: usize = 3;

/// Clients that there are certificates for at most; several machines may show one.
pub(crate) const IDENTITIES: usize = 3;

/// From when to when a certificate is valid, in seconds since the beginning, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) from: i64,
    pub(crate) until: i64,
}

impl Window {
    /// Longer than any run, however wrong its clocks are.
    pub(crate) const LONG: Self = Self { from: -86_400, until: 86_400 };

    pub(crate) const fn has(self, second: i64) -> bool {
        self.from <= second && second <= self.until
    }

    fn draw(rng: &mut Rng, calm: bool) -> Self {
        let second = rng.between(0, 7).cast_signed();
        match rng.below(if calm { 1 } else { 6 }) {
            0..=3 => Self::LONG,
            4 => Self { until: second, ..Self::LONG },
            _ => Self { from: second, ..Self::LONG },
        }
    }
}

/// The certificates of all, by their editions.
#[derive(Clone, Debug)]
pub(crate) struct Windows {
    pub(crate) servers: Vec<[Window; EDITIONS]>,
    pub(crate) clients: Vec<[Window; EDITIONS]>,
}

impl Windows {
    #[cfg(test)]
    pub(crate) fn long() -> Self {
        let long = [Window::LONG; EDITIONS];
        Self { servers: vec![long; SERVERS], clients: vec![long; CLIENTS] }
    }

    pub(super) fn draw(rng: &mut Rng, calm: bool) -> Self {
        let mut all = |count| (0..count).map(|_| [(); EDITIONS].map(|()| Window::draw(rng, calm))).collect();
        Self { servers: all(SERVERS), clients: all(CLIENTS) }
    }
}

/// How many milliseconds a machine's clock is ahead, or behind.
pub(super) fn skew(rng: &mut Rng) -> i64 {
    match rng.below(4) {
        0 => rng.between(0, 4_000).cast_signed() - 2_000,
        1 => rng.between(0, 20_000).cast_signed() - 10_000,
        _ => 0,
    }
}

/// What a server goes by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rules {
    /// Which of its own certificates it shows.
    pub(crate) edition: usize,
    /// It lets anybody in, without a certificate.
    pub(crate) open: bool,
    /// Clients that aren't on its list.
    pub(crate) absent: Vec<usize>,
    /// Sessions that each may have at a time.
    pub(crate) quota: usize,
    /// Clients' certificates that are on its revocation list: whose, and which.
    pub(crate) revoked: Vec<(usize, usize)>,
    /// When that list ends, in seconds since the beginning: there is none without.
    pub(crate) list_ends: Option<i64>,
}

impl Rules {
    /// All with a certificate of the CA's, and there is enough for everybody.
    pub(crate) fn usual() -> Self {
        let (absent, revoked) = (Vec::new(), Vec::new());
        Self { edition: 0, open: false, absent, quota: Room::AMPLE.quota, revoked, list_ends: None }
    }

    /// Whether they let this certificate in, as far as that depends on no clock.
    pub(crate) fn name(&self, identity: usize, edition: usize) -> bool {
        self.open || !(self.absent.contains(&identity) || self.revoked.contains(&(identity, edition)))
    }
}

/// How much a server has for its clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Room {
    pub(crate) sessions: usize,
    pub(crate) handshakes: usize,
    /// Sessions of one client.
    pub(crate) quota: usize,
}

impl Room {
    pub(crate) const AMPLE: Self = Self { sessions: 64, handshakes: 32, quota: 64 };

    /// So little, in half of all servers, that it isn't enough.
    pub(super) fn draw(rng: &mut Rng) -> Self {
        if rng.percent(50) {
            return Self::AMPLE;
        }
        Self {
            sessions: rng.pick(&[1, 2, 3, 64]),
            handshakes: rng.pick(&[1, 2, 4, 32]),
            quota: rng.pick(&[1, 1, 2, 64]),
        }
    }
}
