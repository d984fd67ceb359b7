//! RoCEv2 on the wire: bytes to structures and back, without allocation.
//!
//! One header to a file; [`packet`] puts them together. Reading never panics, whatever the bytes: a
//! [`ParseError`] says why they are no packet. Numbers are big-endian, except the ICRC ([`crate::icrc`]).

pub mod aeth;
pub mod atomic;
pub mod bth;
pub mod deth;
mod error;
mod fields;
pub mod ieth;
pub mod immediate;
pub mod opcode;
pub mod packet;
pub mod reth;
mod xrceth;

pub use aeth::{Aeth, NakCode, Syndrome};
pub use atomic::AtomicEth;
pub use bth::{Bth, DEFAULT_PKEY};
pub use deth::Deth;
pub use error::{EncodeError, Header, ParseError};
pub use opcode::{Opcode, Operation, Transport};
pub use packet::{Frame, Headers, Packet};
pub use reth::Reth;
