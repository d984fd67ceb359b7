//! To whom states and policies belong: an owner, who has the right to set them up, and the program that it does it for.
//! Both are known to live by netlink sockets of theirs, whose port IDs the kernel gives once.

use crate::socket::{self, Socket};
use rustix::io::Errno;
use std::os::fd::OwnedFd;

/// The first request ID of this software. No process has such a number, and so no netlink socket whose port ID the
/// kernel has chosen.
pub const FIRST: u32 = 0x5ec0_0000;

/// How many there are.
const COUNT: u32 = 1 << 16;

/// The first request ID of an owner that [stands](Kind::Standing).
pub const FIRST_STANDING: u32 = FIRST + 2 * COUNT;

/// What becomes of an owner's policies when its program is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// They are removed: the program's queue pairs are gone with it.
    Passing,
    /// They stay, as blocks, until another owner of the kind takes them over or they are lifted: what they are for are
    /// others' queue pairs.
    Standing,
}

impl Kind {
    /// The kind of an owner that has this request ID; `None` if it is no owner's of this software.
    #[must_use]
    pub const fn of(reqid: u32) -> Option<Self> {
        if reqid >= FIRST && reqid - FIRST < COUNT {
            Some(Self::Passing)
        } else if reqid >= FIRST_STANDING && reqid - FIRST_STANDING < COUNT {
            Some(Self::Standing)
        } else {
            None
        }
    }

    const fn first(self) -> u32 {
        match self {
            Self::Passing => FIRST,
            Self::Standing => FIRST_STANDING,
        }
    }
}

/// Owners' numbers that are tried, until one is free.
const TRIES: usize = 64;

/// Whether a request ID is one of this software's.
#[must_use]
pub const fn is_ours(reqid: u32) -> bool {
    Kind::of(reqid).is_some()
}

/// By which it is known that a program lives whose packets are sealed by states and policies of an owner's. Without it
/// they may be swept when the owner is gone, though the program isn't, and has queue pairs that would go on in clear.
#[derive(Debug)]
pub(crate) struct Program {
    _socket: OwnedFd,
}

impl Program {
    /// This process, as long as this exists: the program of the owner that has this request ID. It needs no right.
    ///
    /// # Errors
    /// It isn't the number of an owner, or has a program already.
    pub(crate) fn of(reqid: u32) -> Result<Self, Errno> {
        if !is_ours(reqid) {
            return Err(Errno::INVAL);
        }
        Ok(Self { _socket: socket::bound(reqid + COUNT)? })
    }
}

/// A request ID that no living owner has, nor a living program, and the socket by which it is known that this owner
/// lives.
pub(crate) fn become_one(kind: Kind) -> Result<(Socket, u32), Errno> {
    let mut refused = Errno::ADDRINUSE;
    for _ in 0..TRIES {
        let mut random = [0; 2];
        getrandom::fill(&mut random).map_err(|_| Errno::IO)?;
        let reqid = kind.first() + u32::from(u16::from_ne_bytes(random));
        let bound = Socket::bound(reqid).and_then(|socket| Program::of(reqid).map(|_| socket));
        match bound {
            Ok(socket) => return Ok((socket, reqid)),
            Err(errno) if errno == Errno::ADDRINUSE => refused = errno,
            Err(errno) => return Err(errno),
        }
    }
    Err(refused)
}

/// What is held while the leavings of a gone owner are removed, so that nobody else becomes that owner; `None` where
/// it lives, or its program.
pub(crate) fn in_place_of(reqid: u32) -> Option<(Socket, Program)> {
    Some((Socket::bound(reqid).ok()?, Program::of(reqid).ok()?))
}
