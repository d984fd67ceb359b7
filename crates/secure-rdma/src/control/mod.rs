//! The control protocol: records that client and server exchange inside TLS.
//!
//! ```text
//! frame  = length (u32, big-endian, at most MAX_RECORD) record
//! record = CBOR array [ number, { field number: value, … } ]
//! ```
//!
//! Everything a peer sends is taken for hostile until it has passed three gates, in this order:
//!
//! 1. the frame's length is checked before anything of the record is read, and memory grows with the bytes
//!    that came, never with the length that was announced;
//! 2. the bytes are CBOR in its one deterministic form (RFC 8949, section 4.2.1), of bounded depth, with
//!    nothing behind it, so that two readers can't understand the same bytes differently (a key given twice,
//!    a number in two spellings);
//! 3. each value is one that its field may have, and the values fit together.
//!
//! A field that this version doesn't know is skipped: a later version may add fields to a record. It may not
//! change the meaning of one that exists, and a record of an unknown number is refused.

mod channel;
mod deterministic;
mod error;
mod field;
mod frame;
mod pace;
mod record;

pub use channel::{ControlChannel, ControlReader, ControlWriter};
pub use deterministic::Irregular;
pub use error::{ControlError, DecodeError, EncodeError, Invalid};
pub use field::{Lid, Redacted, Text};
pub use frame::{MAX_RECORD, RECORD_LIMIT};
pub(crate) use pace::Pace;
pub use record::{
    Access, Counters, Endpoint, ErrorCode, ErrorKind, Fragments, HEARTBEAT_MS, Hello, Joins, PacketPolicy,
    Record, Region, Role, SealPolicy, VERSION,
};
