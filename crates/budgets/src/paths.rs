//! The hot paths.

use crate::{packets, records, refusals};

/// One thing that is done for every packet or record.
pub(crate) struct Path {
    /// What it is.
    pub(crate) name: &'static str,
    carry_out: fn(u64),
}

impl Path {
    pub(crate) const ALL: &'static [Self] = &[
        Self { name: "packet sent, 4096 bytes of a WRITE", carry_out: packets::sent },
        Self { name: "packet received, 4096 bytes of a WRITE", carry_out: packets::received },
        Self { name: "message of 64 bytes sent", carry_out: packets::small_sent },
        Self { name: "message of 64 bytes received", carry_out: packets::small_received },
        Self { name: "acknowledgement made", carry_out: packets::acknowledgement_made },
        Self { name: "acknowledgement taken", carry_out: packets::acknowledgement_taken },
        Self { name: "message of 4096 bytes sealed", carry_out: records::sealed },
        Self { name: "message of 4096 bytes opened", carry_out: records::opened },
        Self { name: "slot of 4096 bytes sealed", carry_out: records::slot_sealed },
        Self { name: "slot of 4096 bytes opened", carry_out: records::slot_opened },
        Self { name: "sealed packet of 4096 bytes refused: unknown SPI", carry_out: refusals::unknown_spi },
        Self { name: "sealed packet of 4096 bytes refused: replayed", carry_out: refusals::replayed },
        Self { name: "sealed packet of 4096 bytes refused: forged", carry_out: refusals::forged },
    ];

    pub(crate) fn named(name: &str) -> Option<&'static Self> {
        Self::ALL.iter().find(|path| path.name == name)
    }

    /// Does it so many times.
    pub(crate) fn carry_out(&self, times: u64) {
        (self.carry_out)(times);
    }
}
