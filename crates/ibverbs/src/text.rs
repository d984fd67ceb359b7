//! Numbers as words, the words that libibverbs has for them.

use libc::{c_char, c_int, c_uint};
use std::ffi::CStr;

const STATUSES: [&CStr; 24] = [
    c"success",
    c"local length error",
    c"local QP operation error",
    c"local EE context operation error",
    c"local protection error",
    c"Work Request Flushed Error",
    c"memory management operation error",
    c"bad response error",
    c"local access error",
    c"remote invalid request error",
    c"remote access error",
    c"remote operation error",
    c"transport retry counter exceeded",
    c"RNR retry counter exceeded",
    c"local RDD violation error",
    c"remote invalid RD request",
    c"aborted error",
    c"invalid EE context number",
    c"invalid EE context state",
    c"fatal error",
    c"response timeout error",
    c"general error",
    c"TM error",
    c"TM software rendezvous",
];

const EVENTS: [&CStr; 20] = [
    c"CQ error",
    c"local work queue catastrophic error",
    c"invalid request local work queue error",
    c"local access violation work queue error",
    c"communication established",
    c"send queue drained",
    c"path migrated",
    c"path migration request error",
    c"local catastrophic error",
    c"port active",
    c"port error",
    c"LID change",
    c"P_Key change",
    c"SM change",
    c"SRQ catastrophic error",
    c"SRQ limit reached",
    c"last WQE reached",
    c"client reregistration",
    c"GID table change",
    c"WQ fatal",
];

const PORT_STATES: [&CStr; 6] =
    [c"no state change (NOP)", c"down", c"init", c"armed", c"active", c"active defer"];

const NODE_TYPES: [&CStr; 8] = [
    c"unknown",
    c"InfiniBand channel adapter",
    c"InfiniBand switch",
    c"InfiniBand router",
    c"iWARP NIC",
    c"usNIC",
    c"usNIC UDP",
    c"unspecified",
];

fn pick(words: &[&'static CStr], number: c_uint) -> *const c_char {
    let word = usize::try_from(number).ok().and_then(|number| words.get(number));
    word.map_or(c"unknown".as_ptr(), |word| word.as_ptr())
}

export! {
    "IBVERBS_1.1", c"unknown".as_ptr(),
    /// ibv_wc_status_str(3).
    fn ibv_wc_status_str(status: c_uint) -> *const c_char { pick(&STATUSES, status) }

    "IBVERBS_1.1", c"unknown".as_ptr(),
    /// ibv_event_type_str(3).
    fn ibv_event_type_str(event: c_uint) -> *const c_char { pick(&EVENTS, event) }

    "IBVERBS_1.1", c"unknown".as_ptr(),
    /// ibv_port_state_str(3).
    fn ibv_port_state_str(state: c_uint) -> *const c_char { pick(&PORT_STATES, state) }

    "IBVERBS_1.1", c"unknown".as_ptr(),
    /// ibv_node_type_str(3).
    fn ibv_node_type_str(node: c_int) -> *const c_char {
        u32::try_from(node).map_or(c"unknown".as_ptr(), |node| pick(&NODE_TYPES, node))
    }
}
