//! Links: how packets leave a device and arrive at it, batch by batch.
//!
//! The engine knows [`Link`] and the batches alone. What is below, one UDP socket for each local address, stands in
//! [`udp`]; tests put others in its place.
//!
//! | module | what it holds |
//! |---|---|
//! | [`counters`] | what was sent and received, and what wasn't and why |
//! | [`tx`] | packets to be sent, in as few system calls as possible |
//! | [`rx`] | datagrams that arrived |
//! | [`capture`] | a file of what passed |
//! | `bind`, `multicast` | sockets at an address, at that of a group |
//! | [`udp`] | Linux: a UDP socket that a strict RoCEv2 receiver accepts packets from, with segmentation offload |
//! | `plain` | any other system, or the feature `portable`: a plain UDP socket |

pub(crate) mod bind;
pub mod capture;
pub mod counters;
pub(crate) mod multicast;
#[cfg(any(not(target_os = "linux"), feature = "portable"))]
pub mod plain;
pub mod rx;
pub mod tx;
#[cfg(target_os = "linux")]
pub mod udp;

pub use bind::BindError;
pub use capture::Capture;
pub use counters::{LinkCounters, SendFailure};
pub use rx::{Datagram, Received, RxBatch};
pub use tx::{Marking, Reseal, TxBatch, put_icrc};
#[cfg(target_os = "linux")]
pub use udp::Socket;

use rocev2::Qpn;
use std::io;
use std::net::SocketAddr;

#[cfg(test)]
pub(crate) mod testing;

/// What of a link wakes the progress thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Interest {
    /// Something has arrived.
    pub readable: bool,
    /// There is room to send again.
    pub writable: bool,
}

/// What became of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// The link took all of it, or lost some: it is empty.
    All,
    /// The link has no room. What it didn't take is still there.
    Blocked,
}

/// One local address from which packets leave and at which they arrive. It never waits.
pub trait Link: Send + Sync {
    /// The address and UDP port. Every packet leaves from there.
    fn local_addr(&self) -> SocketAddr;

    /// Sends a batch, as far as there is room.
    ///
    /// `reseal` makes a datagram right that leaves with another IP identification than it was committed for.
    fn send(&self, batch: &mut TxBatch, reseal: &mut Reseal<'_>) -> Sent;

    /// Receives once.
    fn recv(&self, batch: &mut RxBatch) -> Received;

    /// Says what wakes the progress thread from now on.
    ///
    /// # Errors
    /// The system has no memory for it.
    fn watch(&self, interest: Interest) -> io::Result<()>;

    /// How many bytes of its buffer the socket at `to` that receives for that queue pair has to spare, on this host:
    /// what is sent beyond them may be dropped there. `None` where nobody knows.
    fn room(&self, to: SocketAddr, receiver: Qpn) -> Option<usize> {
        let _ = (to, receiver);
        None
    }

    /// How many bytes its send buffer holds, and how many it has room for. `None` where nobody knows.
    fn send_buffer(&self) -> Option<[usize; 2]> {
        None
    }

    /// What it has sent and received.
    fn counters(&self) -> &LinkCounters;
}

/// Calls `call` until no signal interrupts it.
fn uninterrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}
