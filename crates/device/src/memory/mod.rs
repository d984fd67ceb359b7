//! Registered memory: what peers read and write, and the keys that let them.
//!
//! | module | what it holds |
//! |---|---|
//! | [`mapping`] | pages that others write at any moment: no Rust reference to their bytes exists meanwhile |
//! | [`foreign`] | memory of the program, which it may take away at any moment |
//! | `copy` | moving bytes between such pages and private slices |
//! | [`backing`] | either of the two |
//! | [`access`] | access flags, and which of them go together |
//! | [`key`] | random keys of 32 bits |
//! | [`region`] | a memory region: bounds, rights, revocation |
//! | [`window`] | a memory window: a part of a region that is lent by a key of its own |
//! | [`remote`] | what a peer reaches by a key |
//! | [`table`] | the regions and windows of a protection domain |
//! | [`fault`] | why an access was refused |
//! | `process_mark` | a word that the kernel wipes in the child of a fork |
//!
//! Lower modules know nothing of higher ones. `unsafe` stands in `mapping`, `foreign`, `copy` and `process_mark`
//! only.
//!
//! Locks are taken in one order: a window's state, a table's entries, a window's revocation, a region's revocation.

pub mod access;
pub mod backing;
mod copy;
pub mod fault;
#[cfg(target_os = "linux")]
pub mod foreign;
pub mod key;
pub mod mapping;
mod process_mark;
pub mod region;
pub mod remote;
pub mod table;
pub mod window;

pub use access::{Access, AccessError};
pub use backing::Backing;
pub use fault::Fault;
#[cfg(target_os = "linux")]
pub use foreign::{Foreign, ForeignError};
pub use key::{KeyError, KeyLimits, KeySpace};
pub use mapping::{Mapping, MappingError, OutOfBounds};
pub use process_mark::ProcessMark;
pub use region::Region;
pub use remote::RemoteMemory;
pub use table::{Base, ChangeError, DeregisterError, Invalidation, KeyTable, RegisterError, Registration};
pub use window::{Bind, BindError, QueuePairId, Window, WindowRange, WindowType};
