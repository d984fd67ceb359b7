//! Why a packet was refused, or not sent, on account of ESP.

use rocev2_esp::DropReason;

/// Why a datagram was refused before a queue pair saw it, or a packet wasn't sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Too short to be ESP, or not aligned.
    Length,
    /// No SA here has this SPI.
    UnknownSpi,
    /// Its number was taken before.
    Replayed,
    /// Its number lies before the replay window.
    BelowWindow,
    /// Forged, damaged, or sealed with another key.
    NotAuthentic,
    /// Authentic, but not a RoCEv2 packet inside.
    Format,
    /// In clear, for a queue pair that takes sealed packets only.
    Clear,
    /// Sealed, for a queue pair that takes packets in clear only.
    Sealed,
    /// Sealed by another association than the queue pair's.
    OtherAssociation,
    /// Not sent: no SA could seal it.
    NotSent,
}

impl Refusal {
    /// Every reason, in the order of their numbers.
    pub(crate) const ALL: [Self; 10] = [
        Self::Length,
        Self::UnknownSpi,
        Self::Replayed,
        Self::BelowWindow,
        Self::NotAuthentic,
        Self::Format,
        Self::Clear,
        Self::Sealed,
        Self::OtherAssociation,
        Self::NotSent,
    ];

    /// A name for a counter.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Length => "esp_length",
            Self::UnknownSpi => "esp_unknown_spi",
            Self::Replayed => "esp_replayed",
            Self::BelowWindow => "esp_below_window",
            Self::NotAuthentic => "esp_not_authentic",
            Self::Format => "esp_format",
            Self::Clear => "esp_clear",
            Self::Sealed => "esp_sealed",
            Self::OtherAssociation => "esp_other_association",
            Self::NotSent => "esp_not_sent",
        }
    }
}

impl From<DropReason> for Refusal {
    fn from(reason: DropReason) -> Self {
        match reason {
            DropReason::Length => Self::Length,
            DropReason::UnknownSpi => Self::UnknownSpi,
            DropReason::Replayed => Self::Replayed,
            DropReason::BelowWindow => Self::BelowWindow,
            DropReason::NotAuthentic => Self::NotAuthentic,
            DropReason::Format => Self::Format,
        }
    }
}
