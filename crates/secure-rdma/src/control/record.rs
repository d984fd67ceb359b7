//! The records, and the rules for what they may hold.

use core::fmt;
use core::num::NonZeroU16;
use core::ops::{BitAnd, BitOr, RangeInclusive};
use std::error::Error as _;
use std::net::Ipv6Addr;

use minicbor::{Decode, Encode};
use rdma_verbs::esp::Spi;
use rocev2::{Mtu, Psn, Qpn};
use zeroize::Zeroizing;

use super::field::{self, Field, optional};
use super::{DecodeError, EncodeError, Invalid, Lid, Redacted, Text, deterministic};

/// The protocol version that this library speaks.
pub const VERSION: u16 = 4;

/// How often a peer may want to hear from the other, in milliseconds. The lower end keeps a hostile peer from
/// making this side send without pause.
pub const HEARTBEAT_MS: RangeInclusive<u32> = 100..=3_600_000;

/// One message of the control protocol. The numbers are those on the wire.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
#[non_exhaustive]
pub enum Record {
    /// Who speaks and what it wants: the first record of each side.
    #[n(1)]
    Hello(#[n(0)] Hello),
    /// The sender's queue pair.
    #[n(2)]
    Endpoint(#[n(0)] Endpoint),
    /// Memory of the sender's that the peer may use.
    #[n(3)]
    Region(#[n(0)] Region),
    /// The sender's queue pair can receive (RTR or later).
    #[n(4)]
    Ready,
    /// A heartbeat, to be answered by a pong with the same number.
    #[n(5)]
    Ping {
        /// The number to send back.
        #[n(0)]
        n: u64,
    },
    /// The answer to a ping.
    #[n(6)]
    Pong {
        /// The ping's number.
        #[n(0)]
        n: u64,
    },
    /// The sender ends the session because something failed.
    #[n(7)]
    Error {
        /// What failed.
        #[n(0)]
        #[cbor(with = "field")]
        code: ErrorCode,
        /// The same in words.
        #[n(1)]
        text: Text<512>,
    },
    /// First step of closing: the sender's queues have drained, but for manifests that it counts, and it posts
    /// nothing more.
    #[n(8)]
    Bye(#[n(0)] Fragments),
    /// Second step of closing: so have the peer's.
    #[n(9)]
    ByeAck(#[n(0)] Fragments),
    /// Third step of closing: the sender frees everything.
    #[n(10)]
    Fin,
    /// Where packets are sealed: the sender takes those under its peer's next key by this SPI, and the peer is to seal
    /// with that key from now on.
    #[n(11)]
    Spi {
        /// The number of that key: one more than that of the key before.
        #[n(0)]
        epoch: u64,
        /// The SPI.
        #[n(1)]
        #[cbor(with = "field")]
        spi: Spi,
    },
    /// Where a session joins the security association of others: proof that the sender has that one's secret.
    #[n(12)]
    Joined {
        /// What only who has it can tell of this session.
        #[n(0)]
        #[cbor(with = "minicbor::bytes")]
        proof: [u8; 32],
    },
}

impl Record {
    /// The record that `bytes` are.
    ///
    /// # Errors
    /// If they are anything but one record, of a known number, with every field that it needs, each holding
    /// what it may.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let number = deterministic::record_number(bytes)?;
        let record: Self = minicbor::decode(bytes).map_err(|error| classify(number, &error))?;
        record.check().map_err(|source| DecodeError::Invalid { number, source })?;
        Ok(record)
    }

    /// The record's bytes, erased when they are dropped.
    ///
    /// # Errors
    /// If a field holds what the peer would refuse.
    pub fn encode(&self) -> Result<Zeroizing<Vec<u8>>, EncodeError> {
        self.check()?;
        // Enough for every record, so that the bytes aren't moved and left behind while they are written.
        let mut bytes = Zeroizing::new(Vec::with_capacity(LARGEST));
        minicbor::encode(self, &mut *bytes).map_err(|error| EncodeError::Cbor(error.to_string()))?;
        Ok(bytes)
    }

    /// The rules that no single field's type can keep.
    fn check(&self) -> Result<(), Invalid> {
        match self {
            Self::Hello(hello) => hello.check(),
            Self::Endpoint(endpoint) => endpoint.check(),
            Self::Region(region) => region.check(),
            Self::Ready
            | Self::Ping { .. }
            | Self::Pong { .. }
            | Self::Error { .. }
            | Self::Bye(_)
            | Self::ByeAck(_)
            | Self::Fin
            | Self::Spi { .. }
            | Self::Joined { .. } => Ok(()),
        }
    }
}

/// More bytes than any record of this version takes; a test holds it to that.
pub(super) const LARGEST: usize = 1024;

/// What the CBOR library's error means for a record of that number.
fn classify(number: u64, error: &minicbor::decode::Error) -> DecodeError {
    if error.is_unknown_variant() || u32::try_from(number).is_err() {
        DecodeError::Unknown(number)
    } else if let Some(source) = error.source().and_then(|source| source.downcast_ref::<Invalid>()) {
        DecodeError::Invalid { number, source: source.clone() }
    } else {
        DecodeError::Malformed { number, reason: error.to_string() }
    }
}

fn in_range<T: Into<u64> + PartialOrd + Copy>(
    field: &'static str,
    value: T,
    range: RangeInclusive<T>,
) -> Result<(), Invalid> {
    if range.contains(&value) {
        Ok(())
    } else {
        Err(Invalid::Range {
            field,
            found: value.into(),
            min: (*range.start()).into(),
            max: (*range.end()).into(),
        })
    }
}

/// What each side says first.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Hello {
    /// The protocol version that the sender speaks, 1 or more. Whether it will do is for the session to say.
    #[n(0)]
    pub version: u16,
    /// Which side the sender is.
    #[n(1)]
    #[cbor(with = "field")]
    pub role: Role,
    /// Whether the sender's data path is to be sealed.
    #[n(2)]
    #[cbor(with = "field")]
    pub seal: SealPolicy,
    /// The longest message that the sender takes, in bytes, 1 or more.
    #[n(3)]
    pub max_message: u64,
    /// How often the sender wants to hear from its peer, in milliseconds, within [`HEARTBEAT_MS`].
    #[n(4)]
    pub heartbeat_ms: u32,
    /// The sender's software and version, for people.
    #[n(5)]
    pub software: Text<64>,
    /// Whether the sender's device can seal packets, and whether it must. A peer that knows nothing of it takes it for
    /// one that can't.
    #[n(6)]
    #[cbor(with = "optional", has_nil)]
    pub packets: Option<PacketPolicy>,
}

impl Hello {
    fn check(&self) -> Result<(), Invalid> {
        in_range("the protocol version", self.version, 1..=u16::MAX)?;
        in_range("the longest message", self.max_message, 1..=u64::MAX)?;
        in_range("the heartbeat interval (ms)", self.heartbeat_ms, HEARTBEAT_MS)
    }
}

/// How many fragments, of messages and manifests, the sender has counted in this session. Whoever compares them notices
/// if the last ones haven't come: an RDMA acknowledgement can be forged, and says of a genuine one's data that they are
/// in memory, not that their completion is in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode)]
#[cbor(map)]
pub struct Fragments {
    /// Those that it has sent; all of them.
    #[n(0)]
    pub sent: u64,
    /// Those of its peer's that have arrived so far and, where they are sealed, were opened.
    #[n(1)]
    pub arrived: u64,
}

/// Which side of a session a peer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The side that connects.
    Client = 0,
    /// The side that listens.
    Server = 1,
}

impl Field for Role {
    fn to_wire(&self) -> u64 {
        *self as u64
    }

    fn from_wire(value: u64) -> Result<Self, Invalid> {
        match value {
            0 => Ok(Self::Client),
            1 => Ok(Self::Server),
            _ => Err(Invalid::Range { field: "the role", found: value, min: 0, max: 1 }),
        }
    }
}

/// What a side wants of the data path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SealPolicy {
    /// In clear.
    Off = 0,
    /// Sealed if the peer can.
    Optional = 1,
    /// Sealed, or no session.
    Required = 2,
}

impl Field for SealPolicy {
    fn to_wire(&self) -> u64 {
        *self as u64
    }

    fn from_wire(value: u64) -> Result<Self, Invalid> {
        match value {
            0 => Ok(Self::Off),
            1 => Ok(Self::Optional),
            2 => Ok(Self::Required),
            _ => Err(Invalid::Range { field: "the seal policy", found: value, min: 0, max: 2 }),
        }
    }
}

/// What a side wants of the data path, if it is to be sealed and its device can seal packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PacketPolicy {
    /// Packets are sealed if the peer's device can, and otherwise messages.
    Offered = 1,
    /// Packets are sealed, or there is no session.
    Required = 2,
}

impl Field for PacketPolicy {
    fn to_wire(&self) -> u64 {
        *self as u64
    }

    fn from_wire(value: u64) -> Result<Self, Invalid> {
        match value {
            1 => Ok(Self::Offered),
            2 => Ok(Self::Required),
            _ => Err(Invalid::Range { field: "the packet policy", found: value, min: 1, max: 2 }),
        }
    }
}

/// A queue pair, as its peer needs to know it (IBA 12.9.2 exchanges the same through the connection manager).
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Endpoint {
    /// Its number; an ordinary one.
    #[n(0)]
    #[cbor(with = "field")]
    pub qpn: Qpn,
    /// The first PSN that it will send (its `sq_psn`, the receiver's `rq_psn`).
    #[n(1)]
    #[cbor(with = "field")]
    pub psn: Redacted<Psn>,
    /// Its GID: the IPv6 address, or IPv4-mapped address, of one host. It says where packets will go, so the
    /// receiver has to compare it with what it knows of its peer before it sends any.
    #[n(2)]
    #[cbor(with = "minicbor::bytes")]
    pub gid: [u8; 16],
    /// The UDP port that it receives on; 4791 on InfiniBand, where it means nothing.
    #[n(3)]
    #[cbor(with = "field")]
    pub udp_port: NonZeroU16,
    /// The largest path MTU that it can use.
    #[n(4)]
    #[cbor(with = "field")]
    pub mtu: Mtu,
    /// How many of the peer's READs and atomics it serves at a time (`max_dest_rd_atomic`).
    #[n(5)]
    pub max_rd_atomic: u8,
    /// How many receives it keeps posted, 1 or more.
    #[n(6)]
    pub recv_depth: u32,
    /// How long each of those is, in bytes, 1 or more: the longest message that a SEND may carry to it.
    #[n(7)]
    pub recv_size: u32,
    /// The timer code (5 bits, IBA 9.7.5.2.8) for its RNR NAKs.
    #[n(8)]
    pub min_rnr_timer: u8,
    /// The local ACK timeout (5 bits: 4.096 µs · 2^n, 0 for none; IBA 9.7.6.1.3) that it asks the peer to use.
    #[n(9)]
    pub ack_timeout: u8,
    /// How often the peer should send again after a timeout or a sequence error, 0 to 7.
    #[n(10)]
    pub retry_count: u8,
    /// How often the peer should send again after an RNR NAK, 0 to 7; 7 is without end.
    #[n(11)]
    pub rnr_retry: u8,
    /// Its port's LID, on InfiniBand; on Ethernet there is none.
    #[n(12)]
    #[cbor(with = "optional", has_nil)]
    pub lid: Option<Lid>,
    /// The SPI by which it takes sealed packets, if it can.
    #[n(13)]
    #[cbor(with = "optional", has_nil)]
    pub spi: Option<Spi>,
    /// The UDP port to which they are to be sent, where it isn't the device that opens them but the kernel in front of
    /// it: then the ICRCs inside have to be right.
    #[n(14)]
    #[cbor(with = "optional", has_nil)]
    pub esp_port: Option<NonZeroU16>,
    /// Where a kernel opens or seals: that its packets are sealed by the security association that other sessions
    /// between the two sides have already. `spi` is the first by which it has taken packets then.
    #[n(15)]
    #[cbor(with = "optional", has_nil)]
    pub joins: Option<Joins>,
}

/// That a session joins others' security association.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Joins;

impl Field for Joins {
    fn to_wire(&self) -> u64 {
        1
    }

    fn from_wire(value: u64) -> Result<Self, Invalid> {
        match value {
            1 => Ok(Self),
            _ => Err(Invalid::Range { field: "joining", found: value, min: 1, max: 1 }),
        }
    }
}

impl Endpoint {
    fn check(&self) -> Result<(), Invalid> {
        if !is_unicast(self.gid.into()) {
            return Err(Invalid::Gid);
        }
        // The type lets through numbers that no ordinary queue pair has: refuse them on the way out as on the way in.
        Qpn::from_wire(self.qpn.to_wire())?;
        in_range("the receive depth", self.recv_depth, 1..=u32::MAX)?;
        in_range("the receive size", self.recv_size, 1..=u32::MAX)?;
        in_range("the RNR timer's code", self.min_rnr_timer, 0..=31)?;
        in_range("the ACK timeout's code", self.ack_timeout, 0..=31)?;
        in_range("the retry count", self.retry_count, 0..=7)?;
        in_range("the RNR retry count", self.rnr_retry, 0..=7)
    }
}

/// Whether packets to `address` reach one host.
fn is_unicast(address: Ipv6Addr) -> bool {
    match address.to_ipv4_mapped() {
        // 0.0.0.0/8 is "this network" (RFC 1122, 3.2.1.3).
        Some(v4) => !(v4.octets()[0] == 0 || v4.is_multicast() || v4.is_broadcast()),
        None => !(address.is_unspecified() || address.is_multicast()),
    }
}

/// Memory of the sender's that its peer may write and read: `data_len` bytes from `addr` on, then whatever later
/// versions put behind them. Counters for atomic operations lie elsewhere, under a key of their own.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Region {
    /// Its first address, as one-sided operations name it.
    #[n(0)]
    pub addr: u64,
    /// Its remote key.
    #[n(1)]
    #[cbor(with = "field")]
    pub rkey: Redacted<u32>,
    /// Its length in bytes, 1 or more.
    #[n(2)]
    pub len: u64,
    /// How many bytes of it, from the start, are data.
    #[n(3)]
    pub data_len: u64,
    /// Its counters, if there are any.
    #[n(4)]
    pub counters: Option<Counters>,
    /// What the peer may do there and with the counters, and whether it may send messages.
    #[n(5)]
    #[cbor(with = "field")]
    pub access: Access,
}

/// Memory of the sender's for its peer's atomic operations, 8-byte words: neither data nor anything else is reached by
/// its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Counters {
    /// Its first address, a multiple of 8.
    #[n(0)]
    pub addr: u64,
    /// Its remote key.
    #[n(1)]
    #[cbor(with = "field")]
    pub rkey: Redacted<u32>,
    /// Its length in bytes, a multiple of 8 and not 0.
    #[n(2)]
    pub len: u64,
}

impl Region {
    fn check(&self) -> Result<(), Invalid> {
        let Self { addr, len, data_len: data, counters, .. } = *self;
        has_addresses(addr, len)?;
        if data > len {
            return Err(Invalid::RegionParts { data, len });
        }
        counters.map_or(Ok(()), |counters| counters.check(self))
    }
}

impl Counters {
    fn check(&self, region: &Region) -> Result<(), Invalid> {
        has_addresses(self.addr, self.len)?;
        if !(self.len.is_multiple_of(8) && self.addr.is_multiple_of(8)) {
            return Err(Invalid::CounterAlignment);
        }
        if self.rkey == region.rkey {
            return Err(Invalid::CounterKey);
        }
        Ok(())
    }
}

/// Whether so many bytes are one at least, and the last of them has an address. The byte after it need not.
fn has_addresses(addr: u64, len: u64) -> Result<(), Invalid> {
    in_range("the region's length", len, 1..=u64::MAX)?;
    addr.checked_add(len - 1).map(drop).ok_or(Invalid::RegionEnd { len })
}

/// What the receiver of a region, a client, may do: with the region, and with the server's messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Access(u8);

impl Access {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// RDMA READ.
    pub const READ: Self = Self(1);
    /// RDMA WRITE.
    pub const WRITE: Self = Self(2);
    /// FETCH_ADD and COMPARE_SWAP.
    pub const ATOMIC: Self = Self(4);
    /// Messages to the sender of the region. Without it, one of them ends the session.
    pub const SEND: Self = Self(8);
    /// All of it.
    pub const ALL: Self = Self(Self::READ.0 | Self::WRITE.0 | Self::ATOMIC.0 | Self::SEND.0);
    /// Each right with its name, in the order in which they are shown.
    pub const NAMES: [(Self, &str); 4] =
        [(Self::SEND, "send"), (Self::WRITE, "write"), (Self::READ, "read"), (Self::ATOMIC, "atomic")];

    /// The rights as the record has them: 1 read + 2 write + 4 atomic + 8 messages.
    #[must_use]
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// These but for those of `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether every right of `other` is among these.
    #[must_use]
    pub const fn allows(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl BitOr for Access {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitAnd for Access {
    type Output = Self;

    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl fmt::Display for Access {
    /// `send, write, read, atomic`, or those of them that are there.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut names = Self::NAMES.iter().filter(|(right, _)| self.allows(*right)).map(|(_, name)| name);
        f.write_str(names.next().unwrap_or(&"nothing"))?;
        names.try_for_each(|name| write!(f, ", {name}"))
    }
}

impl Field for Access {
    fn to_wire(&self) -> u64 {
        self.0.into()
    }

    fn from_wire(value: u64) -> Result<Self, Invalid> {
        let bits = u8::try_from(value).ok().filter(|bits| bits & !Self::ALL.0 == 0);
        bits.map(Self).ok_or(Invalid::Access(value))
    }
}

/// What an [`Record::Error`] is about. A code that this version doesn't know is kept as it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ErrorCode(pub u16);

impl ErrorCode {
    /// What it means, if this version knows.
    #[must_use]
    pub fn kind(self) -> Option<ErrorKind> {
        ErrorKind::ALL.into_iter().find(|kind| *kind as u16 == self.0)
    }
}

impl From<ErrorKind> for ErrorCode {
    fn from(kind: ErrorKind) -> Self {
        Self(kind as u16)
    }
}

impl Field for ErrorCode {
    fn to_wire(&self) -> u64 {
        self.0.into()
    }

    fn from_wire(value: u64) -> Result<Self, Invalid> {
        let code = u16::try_from(value);
        code.map(Self).map_err(|_| Invalid::Range {
            field: "the error code",
            found: value,
            min: 0,
            max: u16::MAX.into(),
        })
    }
}

/// The error codes of this version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The sender failed for a reason of its own.
    Internal = 1,
    /// The sender doesn't speak the peer's protocol version.
    Version = 2,
    /// The peer sent bytes that are not a record, or a record that it may not hold.
    Malformed = 3,
    /// The peer sent a record where another was due.
    Unexpected = 4,
    /// The peer took too long.
    TimedOut = 5,
    /// The sender serves as many clients as it may.
    Full = 6,
    /// One side insists on a sealed data path and the other on an open one.
    Seal = 7,
    /// The two devices can't reach each other (address, path MTU, port).
    Path = 8,
    /// The peer asked for more than the sender's limits allow.
    Limit = 9,
    /// The queue pair failed.
    QueuePair = 10,
    /// Data on the sealed path was not authentic.
    Forged = 11,
    /// The sender is shutting down.
    ShuttingDown = 12,
    /// The client isn't allowed here, not any more, or not to do what it did.
    NotAllowed = 13,
}

impl ErrorKind {
    /// Every error code of this version.
    pub const ALL: [Self; 13] = [
        Self::Internal,
        Self::Version,
        Self::Malformed,
        Self::Unexpected,
        Self::TimedOut,
        Self::Full,
        Self::Seal,
        Self::Path,
        Self::Limit,
        Self::QueuePair,
        Self::Forged,
        Self::ShuttingDown,
        Self::NotAllowed,
    ];
}

#[cfg(test)]
mod tests;
