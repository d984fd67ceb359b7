//! Who may begin a handshake and who may have a session, so that no one source keeps the others out.
//!
//! | file | what it holds |
//! |---|---|
//! | `source` | who asks: an address, added up by blocks of them, or the identity in a certificate |
//! | `handshakes` | the policy of unfinished handshakes: whose is dropped when there are too many |
//! | `pool` | the same for tasks: a place that comes back when it is dropped |
//! | `sessions` | how many sessions there may be, in all and of one client |
//!
//! Handshakes are admitted, not refused: a newcomer always gets a place, and where that makes too many, the
//! oldest of the most numerous source loses its own. An attacker who opens connections as fast as it can so
//! drops its own connections, and not those of others.

mod handshakes;
mod pool;
mod sessions;
mod source;

pub(crate) use pool::{Dismissal, Place, Pool};
pub use sessions::SessionQuota;
pub(crate) use sessions::{Seat, Sessions};
pub(crate) use source::Source;
