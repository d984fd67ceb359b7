//! Registered memory: what peers read and write, and the keys that let them.
//!
//! | module | what it holds |
//! |---|---|
//! | [`mapping`] | pages that others write at any moment: no Rust reference to their bytes exists meanwhile |
//! | `copy` | moving bytes between such pages and private slices |
//! | [`access`] | access flags, and which of them go together |
//! | [`region`] | a memory region: bounds, rights, revocation |
//! | [`keys`] | 32-bit random keys and the table that finds a region by key |
//! | [`fault`] | why an access was refused |
//!
//! Lower modules know nothing of higher ones. `unsafe` stands in `mapping` and `copy` only.

pub mod access;
mod copy;
pub mod fault;
pub mod keys;
pub mod mapping;
pub mod region;

pub use access::{Access, AccessError};
pub use fault::Fault;
pub use keys::{KeySpace, KeyTable, RegisterError, Registration};
pub use mapping::{Mapping, MappingError, OutOfBounds};
pub use region::{Origin, Region};
