//! The symbols that say no. They take whatever they are given, and look at nothing.

use crate::boundary::result;
use libc::{ENOSYS, c_int};

macro_rules! refusal {
    ($node:literal, $name:ident, int) => {
        export! { $node, -1, fn $name() -> c_int { result(Err(ENOSYS)) } }
    };
}

include!(concat!(env!("OUT_DIR"), "/refusals.rs"));
