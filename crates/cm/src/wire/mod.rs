//! Messages of communication management: bytes to structures and back, without allocation.
//!
//! Each message is one management datagram of 256 bytes: [`mad`]'s header, and fields at fixed places, which stand
//! beside their names in the message's module. Reading never panics, whatever the bytes; a [`ParseError`] says why
//! they are no message. Reserved bits are sent as zero and ignored on receipt. Numbers are big-endian.

pub mod dreq;
mod error;
mod field;
pub mod lap;
pub mod mad;
mod message;
pub mod mra;
mod private_data;
pub mod rej;
pub mod rep;
pub mod req;
pub mod sidr;

pub use dreq::{Drep, Dreq};
pub use error::ParseError;
pub use lap::{ApStatus, Apr, Lap};
pub use mad::MAD_LEN;
pub use message::{Mad, Message};
pub use mra::{MessageMraed, Mra};
pub use private_data::{PrivateData, TooLong};
pub use rej::{MessageRejected, Rej, RejectReason};
pub use rep::{Rep, Rtu};
pub use req::{Req, TransportServiceType};
pub use sidr::{SidrRep, SidrReq, SidrStatus};

/// Bytes behind the header.
const DATA_LEN: usize = 232;

/// What stands behind the header.
type Data = [u8; DATA_LEN];
