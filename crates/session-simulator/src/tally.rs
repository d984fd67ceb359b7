//! What was simulated, counted.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::AddAssign;

/// What was simulated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Seeds.
    pub seeds: u64,
    /// Sessions that clients wanted to have, and how they ended at the client: as they were to,
    pub sessions: u64,
    /// well,
    pub well: u64,
    /// because the client was killed,
    pub killed: u64,
    /// or with an error, by its kind.
    pub failed: BTreeMap<String, u64>,
    /// Tries to open them.
    pub attempts: u64,
    /// Of these, so many found no room.
    pub turned_away: u64,
    /// Connections that servers have refused, by the error's kind.
    pub refused: BTreeMap<String, u64>,
    /// Sessions one of whose ends lied.
    pub liars: u64,
    /// Operations that were acknowledged.
    pub operations: u64,
    /// Messages that servers have taken.
    pub messages: u64,
    /// Packets sent.
    pub packets: u64,
    /// Processes killed.
    pub crashes: u64,
    /// Processes stalled.
    pub stalls: u64,
    /// Directions cut, of packets, control connections or both.
    pub partitions: u64,
    /// Certificates renewed, and lists of clients changed.
    pub reloads: u64,
    /// Certificates revoked,
    pub revoked: u64,
    /// and clients' issued anew.
    pub reissued: u64,
    /// Times that a machine's memory became scarce.
    pub scarce: u64,
    /// Clocks set, right or wrong.
    pub clocks: u64,
    /// Nanoseconds of virtual time.
    pub virtual_ns: u64,
}

impl AddAssign<&Self> for Tally {
    fn add_assign(&mut self, other: &Self) {
        self.seeds += other.seeds;
        self.sessions += other.sessions;
        self.well += other.well;
        self.killed += other.killed;
        self.liars += other.liars;
        self.operations += other.operations;
        self.messages += other.messages;
        self.packets += other.packets;
        self.crashes += other.crashes;
        self.stalls += other.stalls;
        self.partitions += other.partitions;
        self.reloads += other.reloads;
        self.attempts += other.attempts;
        self.turned_away += other.turned_away;
        self.revoked += other.revoked;
        self.reissued += other.reissued;
        self.scarce += other.scarce;
        self.clocks += other.clocks;
        self.virtual_ns += other.virtual_ns;
        for (own, others) in [(&mut self.failed, &other.failed), (&mut self.refused, &other.refused)] {
            for (kind, count) in others {
                *own.entry(kind.clone()).or_default() += count;
            }
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "sessions                            {}", self.sessions)?;
        writeln!(f, "  that ended well                   {}", self.well)?;
        writeln!(f, "  whose client was killed           {}", self.killed)?;
        for (kind, count) in &self.failed {
            writeln!(f, "  {:<34}{count}", format!("that failed: {kind}"))?;
        }
        writeln!(f, "  with a liar                       {}", self.liars)?;
        writeln!(f, "tries to open them                  {}", self.attempts)?;
        writeln!(f, "  that found no room                {}", self.turned_away)?;
        for (kind, count) in &self.refused {
            writeln!(f, "{:<36}{count}", format!("refused by servers: {kind}"))?;
        }
        writeln!(f, "operations acknowledged             {}", self.operations)?;
        writeln!(f, "messages received                   {}", self.messages)?;
        writeln!(f, "packets                             {}", self.packets)?;
        writeln!(f, "processes killed                    {}", self.crashes)?;
        writeln!(f, "processes stalled                   {}", self.stalls)?;
        writeln!(f, "links parted                        {}", self.partitions)?;
        writeln!(f, "rules and certificates changed      {}", self.reloads)?;
        writeln!(f, "  certificates revoked              {}", self.revoked)?;
        writeln!(f, "certificates of clients reissued    {}", self.reissued)?;
        writeln!(f, "machines without memory             {}", self.scarce)?;
        writeln!(f, "clocks set                          {}", self.clocks)?;
        writeln!(f, "seconds of virtual time             {}", self.virtual_ns / 1_000_000_000)
    }
}
