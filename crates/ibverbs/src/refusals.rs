//! The symbols that say no: what this device has no use for, and what only providers of hardware bind.
//! They take whatever they are given, and look at nothing.

use crate::boundary::{null, number};
use libc::{EOPNOTSUPP, c_int, c_void};

macro_rules! refusal {
    ($node:literal, $name:ident, int) => {
        export! { $node, EOPNOTSUPP, fn $name() -> c_int { number(EOPNOTSUPP) } }
    };
    ($node:literal, $name:ident, null) => {
        export! { $node, std::ptr::null_mut(), fn $name() -> *mut c_void { null(EOPNOTSUPP) } }
    };
    ($node:literal, $name:ident, void) => {
        export! { $node, (), fn $name() {} }
    };
}

include!(concat!(env!("OUT_DIR"), "/refusals.rs"));
