//! Opening packets.

use crate::Spi;
use crate::key::{Key, associated};
use crate::layout::{ICV, INNER_UDP, IV, IV_END, NEXT_HEADER, ROCE_PORT, SEQUENCE, TRAILER};
use crate::replay::{ReplayWindow, Stale};
use core::fmt;

/// The shortest datagram: headers, an empty packet, trailer, ICV.
const SHORTEST: usize = IV_END + INNER_UDP + TRAILER + ICV;

/// Why a datagram was dropped. Nothing is ever answered, and nothing ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum DropReason {
    /// The datagram is too short to be one, or not aligned.
    #[error("a datagram too short or not aligned for ESP")]
    Length,
    /// The SPI isn't this SA's.
    #[error("an SPI that is not this SA's")]
    UnknownSpi,
    /// The number was taken before.
    #[error("a replayed packet")]
    Replayed,
    /// The number lies before the replay window.
    #[error("a packet older than the replay window")]
    BelowWindow,
    /// The tag is wrong: forged, damaged, or sealed with another key.
    #[error("a packet that is not authentic")]
    NotAuthentic,
    /// An authentic packet whose padding, next header or inner UDP header isn't as it must be.
    #[error("an authentic packet of the wrong format")]
    Format,
}

impl From<Stale> for DropReason {
    fn from(stale: Stale) -> Self {
        match stale {
            Stale::Replayed => Self::Replayed,
            Stale::BelowWindow => Self::BelowWindow,
        }
    }
}

/// A packet that was authentic, new, and of the right format.
#[derive(Debug)]
pub struct Opened<'d> {
    /// The RoCEv2 packet, BTH through ICRC, where it stood in the datagram.
    pub packet: &'d mut [u8],
    /// The inner source port, which the ICRC covers.
    pub source_port: u16,
    /// The packet's number.
    pub number: u64,
}

/// An SA for packets that arrive.
pub struct Inbound {
    spi: Spi,
    key: Key,
    window: ReplayWindow,
}

impl fmt::Debug for Inbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbound").field("spi", &self.spi).finish_non_exhaustive()
    }
}

impl Inbound {
    /// An SA that has opened nothing yet, with a replay window of `window` numbers.
    #[must_use]
    pub fn new(spi: Spi, key: Key, window: u32) -> Self {
        Self::with_window(spi, key, ReplayWindow::new(window))
    }

    /// The same with a window of the caller's.
    #[must_use]
    pub fn with_window(spi: Spi, key: Key, window: ReplayWindow) -> Self {
        Self { spi, key, window }
    }

    /// The SPI, by which [`Spi::of`] a datagram finds this SA.
    #[must_use]
    pub fn spi(&self) -> Spi {
        self.spi
    }

    /// Opens a datagram in place. What costs least comes first: length, SPI, window, and only then the tag. A packet
    /// that isn't authentic changes nothing but the datagram's bytes, which are wiped.
    ///
    /// # Errors
    /// The datagram is to be dropped and counted.
    pub fn open<'d>(&mut self, datagram: &'d mut [u8]) -> Result<Opened<'d>, DropReason> {
        if datagram.len() < SHORTEST || !datagram.len().is_multiple_of(4) {
            return Err(DropReason::Length);
        }
        if Spi::of(datagram) != Some(self.spi) {
            return Err(DropReason::UnknownSpi);
        }
        let (header, text) = datagram.split_first_chunk_mut::<IV_END>().ok_or(DropReason::Length)?;
        let low = u32::from_be_bytes(*header[SEQUENCE..].first_chunk().ok_or(DropReason::Length)?);
        let iv = *header[IV..].first_chunk().ok_or(DropReason::Length)?;
        let number = self.window.extend(low).ok_or(DropReason::BelowWindow)?;
        self.window.check(number)?;
        let (text, icv) = text.split_last_chunk_mut::<ICV>().ok_or(DropReason::Length)?;
        if !self.key.open(iv, associated(self.spi.number(), number), text, icv) {
            return Err(DropReason::NotAuthentic);
        }
        self.window.take(number)?;
        let (source_port, packet) = unwrap(text).ok_or(DropReason::Format)?;
        Ok(Opened { packet, source_port, number })
    }
}

/// The inner source port and the RoCEv2 packet of what was decrypted.
pub(crate) fn unwrap(text: &mut [u8]) -> Option<(u16, &mut [u8])> {
    let (text, &mut [padding, next]) = text.split_last_chunk_mut::<TRAILER>()?;
    let inner_len = text.len().checked_sub(padding.into())?;
    let (inner, padding) = text.split_at_mut_checked(inner_len)?;
    // RFC 4303, section 2.4: the receiver should look at the padding.
    if next != NEXT_HEADER || !padding.iter().zip(1..=u8::MAX).all(|(byte, expected)| *byte == expected) {
        return None;
    }
    let (header, packet) = inner.split_first_chunk_mut::<INNER_UDP>()?;
    let [source_high, source_low, port_high, port_low, len_high, len_low, _, _] = *header;
    let fits = usize::from(u16::from_be_bytes([len_high, len_low])) == INNER_UDP + packet.len();
    (fits && u16::from_be_bytes([port_high, port_low]) == ROCE_PORT)
        .then(|| (u16::from_be_bytes([source_high, source_low]), packet))
}
