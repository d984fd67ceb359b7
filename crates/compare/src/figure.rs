//! What is measured.

use core::fmt;

/// What stands for all operations over a network that loses packets.
pub(crate) const LOSS: &str = "loss";

/// An operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Op {
    /// One-sided, into the server's memory.
    Write,
    /// One-sided, out of the server's memory.
    Read,
    /// From the client to the server, which takes it.
    Send,
    /// A write over a network that loses packets.
    LossWrite,
    /// A read over one.
    LossRead,
    /// A send over one.
    LossSend,
    /// There and back, both ends looking all the time.
    RoundTrip,
    /// There and back, both ends asleep until something comes.
    RoundTripAwait,
    /// Short messages in one direction, over so many queue pairs.
    Rate { queue_pairs: usize },
    /// Setting up connections, several at a time.
    Connect,
    /// What a client that does nothing costs the server.
    IdleMemory,
}

impl Op {
    /// Those over a network that loses packets.
    pub(crate) const LOSSY: [Self; 3] = [Self::LossWrite, Self::LossRead, Self::LossSend];

    /// Whether it is one of them.
    pub(crate) fn is_lossy(self) -> bool {
        Self::LOSSY.contains(&self)
    }

    /// What the two ends do: they know nothing of the network.
    pub(crate) fn done(self) -> Self {
        match self {
            Self::LossWrite => Self::Write,
            Self::LossRead => Self::Read,
            Self::LossSend => Self::Send,
            op => op,
        }
    }

    /// Whether somebody who asks for `name` asks for it: `loss` is all that has to do with loss.
    pub(crate) fn is_called(self, name: &str) -> bool {
        self.name() == name || name == LOSS && self.is_lossy()
    }

    pub(crate) fn name(self) -> String {
        match self {
            Self::Write => "write".into(),
            Self::Read => "read".into(),
            Self::Send => "send".into(),
            Self::LossWrite => "loss-write".into(),
            Self::LossRead => "loss-read".into(),
            Self::LossSend => "loss-send".into(),
            Self::RoundTrip => "round-trip".into(),
            Self::RoundTripAwait => "round-trip-await".into(),
            Self::Rate { queue_pairs: 1 } => "rate".into(),
            Self::Rate { queue_pairs } => format!("rate-{queue_pairs}-queue-pairs"),
            Self::Connect => "connect".into(),
            Self::IdleMemory => "idle-memory".into(),
        }
    }

    /// What is told of it.
    pub(crate) fn unit(self) -> Unit {
        match self {
            Self::Write | Self::Read | Self::Send => Unit::Gbps,
            Self::LossWrite | Self::LossRead | Self::LossSend => Unit::Gbps,
            Self::RoundTrip | Self::RoundTripAwait => Unit::Micros,
            Self::Rate { .. } => Unit::Mops,
            Self::Connect => Unit::PerSecond,
            Self::IdleMemory => Unit::Bytes,
        }
    }
}

/// What a figure's number means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    Gbps,
    Micros,
    Mops,
    PerSecond,
    Bytes,
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gbps => "Gb/s",
            Self::Micros => "µs",
            Self::Mops => "M/s",
            Self::PerSecond => "1/s",
            Self::Bytes => "bytes",
        })
    }
}

/// An operation with messages of a size in bytes; 0 where there are none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Figure {
    pub(crate) op: Op,
    pub(crate) size: usize,
}

/// Sizes of bandwidth.
pub(crate) const LARGE: [usize; 2] = [64 << 10, 1 << 20];

/// The size of what has to come through a network that loses packets.
pub(crate) const LOSSY: usize = LARGE[0];

/// Sizes of round trips.
pub(crate) const SMALL: [usize; 2] = [64, 4096];

/// The size of what is counted by the message.
pub(crate) const TINY: usize = 64;

/// Queue pairs, where there are many.
pub(crate) const MANY: usize = 16;

impl Figure {
    pub(crate) fn new(op: Op, size: usize) -> Self {
        Self { op, size }
    }

    /// Its place: what is compared is measured one shortly after the other.
    pub(crate) fn order(&self) -> impl Ord + use<> {
        let place = match self.op {
            Op::Write => (0, 0),
            Op::Read => (0, 1),
            Op::Send => (0, 2),
            Op::LossWrite => (1, 0),
            Op::LossRead => (1, 1),
            Op::LossSend => (1, 2),
            Op::RoundTrip => (2, 0),
            Op::RoundTripAwait => (3, 0),
            Op::Rate { queue_pairs } => (4, queue_pairs),
            Op::Connect => (5, 0),
            Op::IdleMemory => (6, 0),
        };
        (place.0, self.size, place.1)
    }

    /// An operation at several sizes.
    pub(crate) fn each(op: Op, sizes: &[usize]) -> impl Iterator<Item = Self> + use<'_> {
        sizes.iter().map(move |size| Self { op, size: *size })
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.op.name())?;
        match self.size {
            0 => Ok(()),
            size if size >= 1 << 20 => write!(f, " {} MiB", size >> 20),
            size if size >= 1 << 10 => write!(f, " {} KiB", size >> 10),
            size => write!(f, " {size} B"),
        }
    }
}
