//! An attack, and what became of it.

use crate::lab::Skipped;
use std::sync::OnceLock;

/// One row of docs/attacks.md: played once, for its own test and for the page.
pub(crate) struct Attack {
    pub(crate) name: &'static str,
    /// Which of ReDMArk's attackers can do it.
    pub(crate) attacker: &'static str,
    /// What it knows beforehand or sees.
    pub(crate) knows: &'static str,
    play: fn() -> Played,
    played: OnceLock<Played>,
}

/// What was seen, if this machine could play it.
pub(crate) type Played = Result<Outcome, Skipped>;

/// What an attack led to.
pub(crate) struct Outcome {
    /// Where nothing is sealed.
    pub(crate) open: String,
    /// Where messages and the region's slots are.
    pub(crate) messages: String,
    /// Where packets are.
    pub(crate) packets: String,
}

impl Outcome {
    /// What it led to on each kind of session.
    pub(crate) fn new(
        open: impl Into<String>,
        messages: impl Into<String>,
        packets: impl Into<String>,
    ) -> Self {
        Self { open: open.into(), messages: messages.into(), packets: packets.into() }
    }

    /// The same on all.
    pub(crate) fn alike(words: &str) -> Self {
        Self::new(words, words, words)
    }
}

impl Attack {
    pub(crate) const fn new(
        name: &'static str,
        attacker: &'static str,
        knows: &'static str,
        play: fn() -> Played,
    ) -> Self {
        Self { name, attacker, knows, play, played: OnceLock::new() }
    }

    /// Plays it, unless that was done; panics where it doesn't end as it has to.
    pub(crate) fn play(&self) -> &Played {
        let device = std::env::var("SECURE_RDMA_TEST_DEVICE");
        assert!(device.is_err(), "{device:?}: these are attacks on the embedded device");
        self.played.get_or_init(self.play)
    }
}
