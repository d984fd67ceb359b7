//! To whom states and policies belong.

use crate::socket::Socket;
use rustix::io::Errno;

/// The first request ID of this software. No process has such a number, and so no netlink socket whose port ID the
/// kernel has chosen.
pub const FIRST: u32 = 0x5ec0_0000;

/// How many there are.
const COUNT: u32 = 1 << 16;

/// Owners' numbers that are tried, until one is free.
const TRIES: usize = 64;

/// Whether a request ID is one of this software's.
#[must_use]
pub const fn is_ours(reqid: u32) -> bool {
    reqid >= FIRST && reqid - FIRST < COUNT
}

/// A request ID that no living owner has, and the socket by which it is known that this one lives.
pub(crate) fn become_one() -> Result<(Socket, u32), Errno> {
    let mut refused = Errno::ADDRINUSE;
    for _ in 0..TRIES {
        let mut random = [0; 2];
        getrandom::fill(&mut random).map_err(|_| Errno::IO)?;
        let reqid = FIRST + u32::from(u16::from_ne_bytes(random));
        match Socket::bound(reqid) {
            Ok(socket) => return Ok((socket, reqid)),
            Err(errno) if errno == Errno::ADDRINUSE => refused = errno,
            Err(errno) => return Err(errno),
        }
    }
    Err(refused)
}

/// What is held while the leavings of a gone owner are removed, so that nobody else becomes that owner; `None` where
/// it lives.
pub(crate) fn in_place_of(reqid: u32) -> Option<Socket> {
    Socket::bound(reqid).ok()
}
