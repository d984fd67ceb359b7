//! The invalidate extended transport header: the rkey that a SEND with invalidate takes from use (IBA 9.3, IETH).
//!
//! ```text
//!  byte 0                          4
//! +-------------------------------+
//! |             R_Key             |
//! +-------------------------------+
//! ```

/// The length of an IETH in bytes.
pub const IETH_LEN: usize = 4;
