//! The byte streams that control connections are made of: TCP's, or, with the feature `testing`, a test's own, so that
//! whole sessions run in virtual time.
#![cfg_attr(
    not(feature = "testing"),
    allow(unreachable_pub, reason = "public with the feature `testing` only")
)]

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};

/// How many of the process' descriptors connections leave free: for the files that rules are read from, and for
/// sessions that are being opened.
const SPARE_DESCRIPTORS: u64 = 64;

/// A connection that a server has accepted.
pub trait Connection: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// This side's address.
    ///
    /// # Errors
    /// The connection is gone.
    fn local_addr(&self) -> io::Result<SocketAddr>;

    /// Has what is written leave at once: records are small and each is waited for.
    ///
    /// # Errors
    /// The connection is gone.
    fn prepare(&self) -> io::Result<()>;

    /// Waits until there is something to be read, be it an end or an error, and leaves it there.
    fn spoken(&self) -> impl Future<Output = ()> + Send;

    /// Whether it has one of the last descriptors that the process may have.
    fn is_among_the_last(&self) -> bool;
}

/// What hands out connections.
pub trait Listener: Send + 'static {
    /// What it hands out.
    type Connection: Connection;

    /// Where it listens.
    ///
    /// # Errors
    /// It is gone.
    fn local_addr(&self) -> io::Result<SocketAddr>;

    /// The next connection, and where it comes from. Cancelling loses none.
    fn accept(&self) -> impl Future<Output = io::Result<(Self::Connection, SocketAddr)>> + Send;
}

impl Connection for TcpStream {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        Self::local_addr(self)
    }

    fn prepare(&self) -> io::Result<()> {
        self.set_nodelay(true)
    }

    async fn spoken(&self) {
        // What is wrong with the connection is said by whoever reads from it.
        let _ = self.peek(&mut [0]).await;
    }

    /// The system gives out the lowest descriptor that is free, so that all below are in use.
    fn is_among_the_last(&self) -> bool {
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        let own = u64::try_from(self.as_raw_fd()).unwrap_or(0);
        limit.is_some_and(|limit| own >= limit.saturating_sub(SPARE_DESCRIPTORS))
    }
}

impl Listener for TcpListener {
    type Connection = TcpStream;

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Self::local_addr(self)
    }

    fn accept(&self) -> impl Future<Output = io::Result<(TcpStream, SocketAddr)>> + Send {
        Self::accept(self)
    }
}
